//! What a client sends first (RFC 7628, 3.1; Kafka's `OAuthBearerClientInitialResponse`):
//! `n,a=USER,\x01auth=Bearer TOKEN\x01name=value\x01\x01`.

/// What Kafka's clients may add, as names and values, is checked for its form and not used.
#[derive(Debug, PartialEq, Eq)]
pub struct FirstMessage<'a> {
    /// Whom the client wants to be; empty: whom the token names.
    pub authorize: &'a str,
    pub token: &'a str,
}

const SEPARATOR: char = '\u{1}';

impl FirstMessage<'_> {
    pub fn parse(message: &[u8]) -> Result<FirstMessage<'_>, &'static str> {
        let (authorize, pairs) = parts(message).ok_or("the first message has another form")?;
        let auth = pairs.split_terminator(SEPARATOR).filter_map(|pair| pair.strip_prefix("auth=")).next_back();
        let auth = auth.ok_or("there is no auth in the first message")?;
        let (scheme, token) = auth.split_once(' ').ok_or("there is no token in the first message")?;
        let token = token.trim_start_matches(' ');
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err("the first message has another scheme than Bearer");
        }
        let letters = token.trim_end_matches('=');
        if letters.is_empty() || !letters.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_~+/.".contains(&b)) {
            return Err("the token has other letters than tokens have");
        }
        Ok(FirstMessage { authorize, token })
    }
}

/// The user and the pairs, each of which ends with the separator.
fn parts(message: &[u8]) -> Option<(&str, &str)> {
    let rest = std::str::from_utf8(message).ok()?.strip_prefix("n,")?;
    let (authorize, rest) = rest.split_once(',')?;
    let authorize = match authorize.strip_prefix("a=") {
        Some(name) => Some(name).filter(|name| is_name(name))?,
        None => Some(authorize).filter(|nothing| nothing.is_empty())?,
    };
    let pairs = rest.strip_prefix(SEPARATOR)?.strip_suffix(SEPARATOR)?;
    let whole = pairs.is_empty() || pairs.ends_with(SEPARATOR);
    (whole && pairs.split_terminator(SEPARATOR).all(is_pair)).then_some((authorize, pairs))
}

/// A `saslname` (RFC 5801): `,` and `=` are written as `=2C` and `=3D`.
fn is_name(name: &str) -> bool {
    let mut rest = name.split('=');
    let plain = |part: &str| part.bytes().all(|b| (1..=0x7f).contains(&b));
    let escaped = |part: &str| (part.starts_with("2C") || part.starts_with("3D")) && plain(part);
    !name.is_empty() && rest.next().is_some_and(plain) && rest.all(escaped)
}

fn is_pair(pair: &str) -> bool {
    let letter = |b: u8| (0x21..=0x7e).contains(&b) || b" \t\r\n".contains(&b);
    pair.split_once('=').is_some_and(|(name, value)| {
        !name.is_empty()
            && name.bytes().all(|b| b.is_ascii_alphabetic())
            && !value.is_empty()
            && value.bytes().all(letter)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_clients_send_is_read() {
        for (message, authorize, token) in [
            ("n,,\u{1}auth=Bearer a.b-_~+/.c==\u{1}\u{1}", "", "a.b-_~+/.c=="),
            ("n,a=alice,\u{1}auth=bEARER   x\u{1}\u{1}", "alice", "x"),
            ("n,a==2Ca=3D,\u{1}auth=Bearer x\u{1}\u{1}", "=2Ca=3D", "x"),
            ("n,,\u{1}logicalCluster=lkc-1 \t2\u{1}auth=Bearer x\u{1}more==\u{1}\u{1}", "", "x"),
            // As in Kafka: the last one counts.
            ("n,,\u{1}auth=Bearer x\u{1}auth=Bearer y\u{1}\u{1}", "", "y"),
        ] {
            assert_eq!(FirstMessage::parse(message.as_bytes()), Ok(FirstMessage { authorize, token }), "{message:?}");
        }
        assert!(FirstMessage::parse(&super::super::first_message("a.b.c")).is_ok());
    }

    #[test]
    fn what_has_another_form_is_refused() {
        for wrong in [
            "",
            "\u{1}",
            "n,,",
            "n,,\u{1}",
            "n,,\u{1}\u{1}",
            "n,,\u{1}auth=Bearer x\u{1}",
            "n,,\u{1}auth=Bearer x",
            "n,,auth=Bearer x\u{1}\u{1}",
            "y,,\u{1}auth=Bearer x\u{1}\u{1}",
            "p=tls-unique,,\u{1}auth=Bearer x\u{1}\u{1}",
            "n,alice,\u{1}auth=Bearer x\u{1}\u{1}",
            "n,a=,\u{1}auth=Bearer x\u{1}\u{1}",
            "n,a=a=b,\u{1}auth=Bearer x\u{1}\u{1}",
            "n,a=\u{fc},\u{1}auth=Bearer x\u{1}\u{1}",
            "n,,\u{1}auth=Bearer\u{1}\u{1}",
            "n,,\u{1}auth=Bearer \u{1}\u{1}",
            "n,,\u{1}auth=Basic x\u{1}\u{1}",
            "n,,\u{1}auth=Bearer x,y\u{1}\u{1}",
            "n,,\u{1}auth=Bearer =\u{1}\u{1}",
            "n,,\u{1}auth=Bearer x y\u{1}\u{1}",
            "n,,\u{1}auth=Bearer x\u{1}more=\u{1}\u{1}",
            "n,,\u{1}auth=Bearer x\u{1}m1=x\u{1}\u{1}",
            "n,,\u{1}auth=Bearer x\u{1}=x\u{1}\u{1}",
            "n,,\u{1}auth=Bearer x\u{1}more=\u{7f}\u{1}\u{1}",
            "n,,\u{1}auth=Bearer x\u{1}\u{1}\u{1}",
            "n,,\u{1}Auth=Bearer x\u{1}\u{1}",
        ] {
            assert!(FirstMessage::parse(wrong.as_bytes()).is_err(), "{wrong:?}");
        }
        assert!(FirstMessage::parse(b"n,,\x01auth=Bearer x\x01m=\xff\x01\x01").is_err());
    }
}

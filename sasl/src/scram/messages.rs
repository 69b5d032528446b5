//! The messages of clients: printable text with commas between attributes.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Longer first messages are refused: they are kept until the exchange ends.
const FIRST_MAX: usize = 4096;

/// The extension that says that a name is a token's.
pub const TOKEN_AUTH: &str = "tokenauth";

/// `n,[a=authzid],n=user,r=nonce[,extensions]`
#[derive(Debug, PartialEq, Eq)]
pub struct ClientFirst {
    /// With its last comma.
    pub gs2_header: String,
    /// What comes after the header.
    pub bare: String,
    pub authorize: String,
    pub user: String,
    pub nonce: String,
    /// The name is that of a delegation token (KIP-48).
    pub is_token: bool,
}

/// `c=binding,r=nonce[,extensions],p=proof`
#[derive(Debug, PartialEq, Eq)]
pub struct ClientFinal {
    pub binding: Vec<u8>,
    pub nonce: String,
    pub proof: Vec<u8>,
    pub without_proof: String,
}

/// No byte but these may be in a message.
fn text(token: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(token).ok()?;
    text.bytes().all(|b| (1..=0x7f).contains(&b)).then_some(text)
}

fn is_nonce(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| (0x21..=0x7e).contains(&b))
}

/// `=2C` is a comma and `=3D` an equals sign; there is no other of those.
fn name(text: &str) -> Option<String> {
    let mut parts = text.split('=');
    let mut out = parts.next()?.to_owned();
    for part in parts {
        let (escaped, rest) = part.split_at_checked(2)?;
        out.push(match escaped {
            "2C" => ',',
            "3D" => '=',
            _ => return None,
        });
        out.push_str(rest);
    }
    (!out.is_empty()).then_some(out)
}

/// The inverse of [`name`].
pub fn escaped(name: &str) -> String {
    name.replace('=', "=3D").replace(',', "=2C")
}

/// `letters=value`
fn extension(text: &str) -> Option<(&str, &str)> {
    let (key, value) = text.split_once('=')?;
    let letters = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphabetic());
    (letters && !value.is_empty()).then_some((key, value))
}

impl ClientFirst {
    pub fn parse(token: &[u8]) -> Option<ClientFirst> {
        let text = text(token).filter(|text| text.len() <= FIRST_MAX)?;
        // No channel binding.
        let rest = text.strip_prefix("n,")?;
        let (authorize, bare) = rest.split_once(',')?;
        let gs2_header = text.strip_suffix(bare)?.to_owned();
        let authorize = match authorize {
            "" => String::new(),
            some => name(some.strip_prefix("a=")?)?,
        };
        let mut parts = bare.split(',');
        let user = name(parts.next()?.strip_prefix("n=")?)?;
        let nonce = parts.next()?.strip_prefix("r=").filter(|nonce| is_nonce(nonce))?.to_owned();
        let extensions = parts.map(extension).collect::<Option<Vec<_>>>()?;
        let is_token = extensions.iter().any(|(key, value)| *key == TOKEN_AUTH && value.eq_ignore_ascii_case("true"));
        Some(ClientFirst { gs2_header, bare: bare.to_owned(), authorize, user, nonce, is_token })
    }
}

impl ClientFinal {
    pub fn parse(token: &[u8]) -> Option<ClientFinal> {
        let text = text(token)?;
        // The proof is the last.
        let (without_proof, proof) = text.rsplit_once(",p=")?;
        let mut parts = without_proof.split(',');
        let binding = STANDARD.decode(parts.next()?.strip_prefix("c=")?).ok()?;
        let nonce = parts.next()?.strip_prefix("r=").filter(|nonce| is_nonce(nonce))?.to_owned();
        parts.map(extension).collect::<Option<Vec<_>>>()?;
        let proof = STANDARD.decode(proof).ok()?;
        Some(ClientFinal { binding, nonce, proof, without_proof: without_proof.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_first_message_says_who_and_how() {
        let first = ClientFirst::parse(b"n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL").unwrap();
        assert_eq!((first.gs2_header.as_str(), first.user.as_str(), first.is_token), ("n,,", "user", false));
        assert_eq!(first.bare, "n=user,r=fyko+d2lbbFgONRv9qkxdawL");
        let first = ClientFirst::parse(b"n,a=a=3Db,n=a=3Db=2C,r=x,tokenauth=true,other=y=z").unwrap();
        assert_eq!((first.authorize.as_str(), first.user.as_str(), first.is_token), ("a=b", "a=b,", true));
        assert_eq!(first.gs2_header, "n,a=a=3Db,");
        assert_eq!(escaped(&first.user), "a=3Db=2C");
        for wrong in [
            "",
            "n",
            "n,",
            "n,,",
            "y,,n=u,r=x",
            "p=tls-unique,,n=u,r=x",
            "n,,n=u",
            "n,,n=,r=x",
            "n,,n=u,r=",
            "n,,r=x,n=u",
            "n,,n=u=,r=x",
            "n,,n=u=2c,r=x",
            "n,,n=u=3,r=x",
            "n,,m=ext,n=u,r=x",
            "n,a=,n=u,r=x",
            "n,b=u,n=u,r=x",
            "n,,n=u,r=x,",
            "n,,n=u,r=x,1=y",
            "n,,n=u,r=x,a=",
            "n,,n=u,r=x y",
            "n,,n=\u{fc},r=x",
            "n,,n=\0,r=x",
        ] {
            assert_eq!(ClientFirst::parse(wrong.as_bytes()), None, "{wrong}");
        }
        let long = format!("n,,n={},r=x", "u".repeat(FIRST_MAX));
        assert_eq!(ClientFirst::parse(long.as_bytes()), None);
    }

    #[test]
    fn a_final_message_has_its_proof_at_the_end() {
        let last = ClientFinal::parse(b"c=biws,r=nonce,x=y,p=AAEC").unwrap();
        assert_eq!((last.binding.as_slice(), last.nonce.as_str()), (&b"n,,"[..], "nonce"));
        assert_eq!((last.proof.as_slice(), last.without_proof.as_str()), (&[0, 1, 2][..], "c=biws,r=nonce,x=y"));
        for wrong in [
            "",
            "c=biws,r=n",
            "c=biws,p=AAEC",
            "r=n,c=biws,p=AAEC",
            "c=biws,r=n,p=AA",
            "c=b,r=n,p=AAEC",
            "c=biws,r=,p=AAEC",
        ] {
            assert_eq!(ClientFinal::parse(wrong.as_bytes()), None, "{wrong}");
        }
    }
}

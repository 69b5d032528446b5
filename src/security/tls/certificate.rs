//! Names in certificates: the subject as Java's `X500Principal.getName()` writes it (RFC 2253), and the alternative names.
//!
//! Reads DER that comes from clients: every length is checked, and what is not understood has no name.

#![deny(clippy::unwrap_used, clippy::indexing_slicing)]

use std::fmt::Write;

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OBJECT_ID: u8 = 0x06;
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;
/// subjectAltName, 2.5.29.17
const ALTERNATIVE_NAMES: &[u8] = &[0x55, 0x1d, 0x11];
/// What Java writes a backslash before.
const ESCAPED: &str = ",=+<>#;\"\\";

/// The attributes that Java writes by name (RFC 2253 and `AVAKeyword`).
const KEYWORDS: &[(&[u8], &str)] = &[
    (&[0x55, 4, 3], "CN"),
    (&[0x55, 4, 6], "C"),
    (&[0x55, 4, 7], "L"),
    (&[0x55, 4, 8], "ST"),
    (&[0x55, 4, 9], "STREET"),
    (&[0x55, 4, 10], "O"),
    (&[0x55, 4, 11], "OU"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 25], "DC"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 1], "UID"),
];

/// One element of DER: its tag, its content, and the whole of it.
struct Element<'a> {
    tag: u8,
    content: &'a [u8],
    whole: &'a [u8],
}

/// Takes the first element off `rest`.
fn take<'a>(rest: &mut &'a [u8]) -> Option<Element<'a>> {
    let all = *rest;
    let (&tag, after) = all.split_first()?;
    let (&first, after) = after.split_first()?;
    let (len, after) = match first {
        0..=0x7f => (usize::from(first), after),
        0x81..=0x84 => {
            let (digits, after) = after.split_at_checked(usize::from(first & 0x7f))?;
            (digits.iter().fold(0usize, |n, d| (n << 8) | usize::from(*d)), after)
        }
        _ => return None,
    };
    let (content, left) = after.split_at_checked(len)?;
    let whole = all.get(..all.len() - left.len())?;
    *rest = left;
    Some(Element { tag, content, whole })
}

fn expect<'a>(rest: &mut &'a [u8], tag: u8) -> Option<&'a [u8]> {
    take(rest).filter(|e| e.tag == tag).map(|e| e.content)
}

/// The subject's name and what follows it in the certificate.
fn subject_and_rest(certificate: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut outer = certificate;
    let mut certificate = expect(&mut outer, SEQUENCE)?;
    let mut body = expect(&mut certificate, SEQUENCE)?;
    let first = take(&mut body)?;
    if first.tag == VERSION {
        take(&mut body)?; // serial number
    }
    for _ in ["signature algorithm", "issuer", "validity"] {
        take(&mut body)?;
    }
    let subject = expect(&mut body, SEQUENCE)?;
    Some((subject, body))
}

/// `CN=alice,OU=people`; `None`: it is no certificate.
pub fn subject(certificate: &[u8]) -> Option<String> {
    let (mut names, _) = subject_and_rest(certificate)?;
    let mut parts = Vec::new();
    while !names.is_empty() {
        let mut attributes = expect(&mut names, SET)?;
        let mut part = Vec::new();
        while !attributes.is_empty() {
            part.push(attribute(expect(&mut attributes, SEQUENCE)?)?);
        }
        parts.push(part.join("+"));
    }
    // The most particular one first.
    parts.reverse();
    Some(parts.join(","))
}

/// The bytes of the alternative names; empty where there are none.
pub fn alternative_names(certificate: &[u8]) -> &[u8] {
    let find = || {
        let (_, mut rest) = subject_and_rest(certificate)?;
        while let Some(element) = take(&mut rest) {
            if element.tag != EXTENSIONS {
                continue;
            }
            let mut inner = element.content;
            let mut all = expect(&mut inner, SEQUENCE)?;
            while let Some(mut extension) = expect(&mut all, SEQUENCE) {
                if expect(&mut extension, OBJECT_ID)? == ALTERNATIVE_NAMES {
                    return Some(extension);
                }
            }
        }
        None
    };
    find().unwrap_or_default()
}

fn attribute(mut pair: &[u8]) -> Option<String> {
    let id = expect(&mut pair, OBJECT_ID)?;
    let value = take(&mut pair)?;
    let known = KEYWORDS.iter().find(|(known, _)| *known == id);
    match (known, text(&value)) {
        (Some((_, name)), Some(text)) => Some(format!("{name}={}", escape(&text))),
        (Some((_, name)), None) => Some(format!("{name}=#{}", hex(value.whole))),
        (None, _) => Some(format!("{}=#{}", dotted(id)?, hex(value.whole))),
    }
}

/// A string of one of the kinds that Java takes for text.
fn text(value: &Element<'_>) -> Option<String> {
    const UTF8: u8 = 12;
    const PRINTABLE: u8 = 19;
    const T61: u8 = 20;
    const IA5: u8 = 22;
    const GENERAL: u8 = 27;
    const UNIVERSAL: u8 = 28;
    const BMP: u8 = 30;
    let bytes = value.content;
    match value.tag {
        UTF8 => Some(String::from_utf8_lossy(bytes).into_owned()),
        PRINTABLE | IA5 | GENERAL => Some(
            bytes.iter().map(|b| if b.is_ascii() { char::from(*b) } else { char::REPLACEMENT_CHARACTER }).collect(),
        ),
        T61 => Some(bytes.iter().map(|b| char::from(*b)).collect()),
        BMP => {
            let (units, _) = bytes.as_chunks::<2>();
            Some(String::from_utf16_lossy(&units.iter().map(|u| u16::from_be_bytes(*u)).collect::<Vec<_>>()))
        }
        UNIVERSAL => {
            let (units, _) = bytes.as_chunks::<4>();
            let char = |u: &[u8; 4]| char::from_u32(u32::from_be_bytes(*u)).unwrap_or(char::REPLACEMENT_CHARACTER);
            Some(units.iter().map(char).collect())
        }
        _ => None,
    }
}

fn escape(text: &str) -> String {
    let leading = text.len() - text.trim_start_matches([' ', '\r']).len();
    let trailing = text.trim_end_matches([' ', '\r']).len();
    let mut out = String::with_capacity(text.len());
    for (at, c) in text.char_indices() {
        match c {
            '\0' => out.push_str("\\00"),
            _ => {
                let edge = (c == ' ' || c == '\r') && (at < leading || at >= trailing);
                if edge || ESCAPED.contains(c) {
                    out.push('\\');
                }
                out.push(c);
            }
        }
    }
    out
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, b| {
        // Writing to a string does not fail.
        let _ = write!(text, "{b:02x}");
        text
    })
}

/// `1.2.840.113549.1.9.1`
fn dotted(id: &[u8]) -> Option<String> {
    let mut arcs = Vec::new();
    let mut arc = 0u64;
    for byte in id {
        arc = arc.checked_mul(128)?.checked_add(u64::from(byte & 0x7f))?;
        if byte & 0x80 == 0 {
            arcs.push(std::mem::take(&mut arc));
        }
    }
    let (first, rest) = arcs.split_first()?;
    let top = (*first / 40).min(2);
    let all = [top, first - top * 40].into_iter().chain(rest.iter().copied());
    Some(all.map(|arc| arc.to_string()).collect::<Vec<_>>().join("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_certificate_has_no_name() {
        for bytes in
            [&b""[..], b"\x30", b"\x30\x80", b"\x30\x84\xff\xff\xff\xff", b"\x30\x03\x30\x01\x02", &[0x30; 300]]
        {
            assert_eq!(subject(bytes), None);
            assert!(alternative_names(bytes).is_empty());
        }
    }

    #[test]
    fn values_are_escaped_as_java_does() {
        assert_eq!(escape(" a,b+c=d\"e\\<f>;#g  "), "\\ a\\,b\\+c\\=d\\\"e\\\\\\<f\\>\\;\\#g\\ \\ ");
        assert_eq!(dotted(&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 1]).unwrap(), "1.2.840.113549.1.9.1");
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let _ = (subject(&bytes), alternative_names(&bytes));
        }
    }
}

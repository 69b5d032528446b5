//! DER, one element at a time.

use super::java::Fault;
use pkcs8::der::asn1::{AnyRef, ObjectIdentifier};
use pkcs8::der::{Decode, Reader, SliceReader, Tag, TagNumber, Tagged};

/// An element and nothing behind it.
pub fn only(bytes: &[u8]) -> Result<AnyRef<'_>, Fault> {
    Ok(AnyRef::from_der(bytes)?)
}

fn elements(bytes: &[u8]) -> Result<Vec<AnyRef<'_>>, Fault> {
    let mut reader = SliceReader::new(bytes)?;
    let mut all = Vec::new();
    while !reader.is_finished() {
        all.push(AnyRef::decode(&mut reader)?);
    }
    Ok(all)
}

fn content<'a>(element: Option<&AnyRef<'a>>, tag: Tag) -> Result<&'a [u8], Fault> {
    let element = element.filter(|element| element.tag() == tag).ok_or(Fault::Damaged)?;
    Ok(element.value())
}

pub fn sequence<'a>(element: Option<&AnyRef<'a>>) -> Result<Vec<AnyRef<'a>>, Fault> {
    elements(content(element, Tag::Sequence)?)
}

pub fn set<'a>(element: Option<&AnyRef<'a>>) -> Result<Vec<AnyRef<'a>>, Fault> {
    elements(content(element, Tag::Set)?)
}

pub fn octets<'a>(element: Option<&AnyRef<'a>>) -> Result<&'a [u8], Fault> {
    content(element, Tag::OctetString)
}

pub fn oid(element: Option<&AnyRef<'_>>) -> Result<ObjectIdentifier, Fault> {
    Ok(element.ok_or(Fault::Damaged)?.decode_as()?)
}

pub const fn context(number: u32, constructed: bool) -> Tag {
    Tag::ContextSpecific { constructed, number: TagNumber(number) }
}

/// What stands in `[0]`, tagged explicitly.
pub fn explicit<'a>(element: Option<&AnyRef<'a>>) -> Result<AnyRef<'a>, Fault> {
    only(content(element, context(0, true))?)
}

/// Octets in `[0]` that has taken the place of their tag.
pub fn implicit_octets<'a>(element: Option<&AnyRef<'a>>) -> Result<&'a [u8], Fault> {
    content(element, context(0, false))
}

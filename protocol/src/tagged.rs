//! [`TaggedFields`]: tagged fields that this build's schemas do not know, kept so that they survive a round trip.

use std::fmt;

use bytes::Bytes;

/// The unknown tagged fields of one struct, ascending by tag. Boxed, so that it is one word in every struct: there are
/// hardly ever any.
#[allow(clippy::box_collection)]
#[derive(Clone, Default, PartialEq, Eq)]
pub struct TaggedFields(Option<Box<Vec<TaggedField>>>);

/// A tag and its undecoded bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaggedField {
    pub tag: u32,
    pub data: Bytes,
}

impl TaggedFields {
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    pub fn len(&self) -> usize {
        self.as_slice().len()
    }

    pub fn as_slice(&self) -> &[TaggedField] {
        self.0.as_deref().map_or(&[], Vec::as_slice)
    }

    pub fn iter(&self) -> std::slice::Iter<'_, TaggedField> {
        self.as_slice().iter()
    }

    /// Sets one field, in place of what the tag had.
    pub fn insert(&mut self, tag: u32, data: Bytes) {
        let fields = self.0.get_or_insert_default();
        let at = fields.partition_point(|field| field.tag < tag);
        match fields.get_mut(at) {
            Some(field) if field.tag == tag => field.data = data,
            _ => fields.insert(at, TaggedField { tag, data }),
        }
    }

    /// Adds without looking; the decoder sorts once at the end.
    pub(crate) fn push(&mut self, tag: u32, data: Bytes) {
        self.0.get_or_insert_default().push(TaggedField { tag, data });
    }

    /// Sorts what was pushed; gives a tag that is there twice.
    pub(crate) fn settle(&mut self) -> Option<u32> {
        let fields = self.0.as_deref_mut()?;
        if !fields.is_sorted_by_key(|field| field.tag) {
            fields.sort_by_key(|field| field.tag);
        }
        fields.array_windows().find_map(|[a, b]| (a.tag == b.tag).then_some(a.tag))
    }
}

impl<'a> IntoIterator for &'a TaggedFields {
    type Item = &'a TaggedField;
    type IntoIter = std::slice::Iter<'a, TaggedField>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Debug for TaggedFields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter().map(|field| (field.tag, &field.data))).finish()
    }
}

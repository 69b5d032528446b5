//! A record of an internal topic, as bytes.

use bytes::Bytes;

/// One record to write; without a value it is a tombstone. Key and value start with Kafka's type and version numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoordinatorRecord {
    pub key: Bytes,
    pub value: Option<Bytes>,
}

impl CoordinatorRecord {
    /// Bytes of key and value together: what the record adds to a batch, but for its own few bytes of framing.
    pub fn size(&self) -> usize {
        self.key.len() + self.value.as_ref().map_or(0, Bytes::len)
    }
}

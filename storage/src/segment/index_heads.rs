//! The `indexes` file of a partition: the heads of the `.idx` files of its sealed segments, read once.
//!
//! With it a look-up knows which segment holds a time and which page of which index to read, however many segments there are
//! and however cold they are. A sealed frame (magic CLIH): the partition, the number of heads, the heads. A shortcut like what
//! it is made of: without it each head is read from its own file. Truncations and replays take the heads of the segments out
//! that they touch ([`forget`]), so that what is there is true of the log.
#![deny(clippy::unwrap_used, clippy::indexing_slicing)]

use std::path::Path;

use super::index_file::IndexHead;
use crate::durable::remove;
use crate::error::StorageError;
use crate::layout;
use crate::model::{Offset, PartitionKey, TopicId};
use crate::sealed::{self, SealError};

const MAGIC: [u8; 4] = *b"CLIH";
const VERSION: u16 = 0;

pub(crate) fn encode<'a>(key: PartitionKey, heads: impl Iterator<Item = &'a IndexHead>) -> Vec<u8> {
    let mut payload = Vec::new();
    payload.extend_from_slice(&key.topic.0);
    payload.extend_from_slice(&key.partition.to_be_bytes());
    for head in heads {
        payload.push(1);
        head.put(&mut payload);
    }
    payload.push(0);
    let mut out = Vec::new();
    sealed::seal(MAGIC, VERSION, &payload, &mut out);
    out
}

pub(crate) fn decode(mut bytes: &[u8]) -> Result<(PartitionKey, Vec<IndexHead>), SealError> {
    let (_, mut f) = sealed::open(MAGIC, VERSION, &mut bytes)?;
    let f = &mut f;
    let key = PartitionKey { topic: TopicId(f.array()?), partition: u32::from_be_bytes(f.array()?) };
    let mut heads = Vec::new();
    while f.array()? == [1] {
        heads.push(IndexHead::get(f)?);
    }
    f.end()?;
    Ok((key, heads))
}

/// Takes what is known of the segments from `base` on off the disk, before they are changed: their `.idx` files, and their
/// heads in the `indexes` file. The caller syncs the directory.
pub(crate) async fn forget(dir: &Path, bases: &[Offset]) -> Result<(), StorageError> {
    let Some(first) = bases.iter().min() else { return Ok(()) };
    for base in bases {
        remove(&dir.join(layout::index_name(*base))).await?;
    }
    forget_heads(dir, *first).await
}

/// Takes the heads of the segments from `first` on out of the `indexes` file.
pub(crate) async fn forget_heads(dir: &Path, first: Offset) -> Result<(), StorageError> {
    let path = dir.join(layout::INDEXES_FILE);
    let Some(bytes) = crate::durable::read(&path).await? else { return Ok(()) };
    if let Ok((key, heads)) = decode(&bytes) {
        let kept = heads.iter().filter(|h| h.covers.base_offset < first);
        match crate::durable::replace(&path, encode(key, kept), true).await {
            // On a full disk none are kept.
            Err(StorageError::DiskFull { .. }) => {}
            other => return other,
        }
    }
    remove(&path).await
}

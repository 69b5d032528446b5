//! What a log gives to its readers, against what was appended.

use bytes::Bytes;
use corelane_storage::model::Offset;
use corelane_storage::{Log, ReadError, ReadLimit, StorageError};

use super::model::State;
use super::{compacted, transactions};

/// Everything of a log, byte for byte; panics where it gives something else than `state`, whose batches before `compacted_to` may
/// have been compacted.
pub async fn compare(log: &Log, state: &State, compacted_to: Offset, flipped: bool) -> Result<(), StorageError> {
    let expected = state.batches(state.log_start);
    let (mut at, mut found) = (state.log_start, Vec::new());
    while at < log.bounds().log_end {
        let limit = ReadLimit { max_bytes: 50_000, at_least_one: true, upto: Offset::MAX };
        let read = match log.read(at, limit).await {
            Ok(read) => read,
            Err(ReadError::Storage(error)) => return Err(error),
            Err(ReadError::OutOfRange) => panic!("{at} is out of range"),
        };
        if read.next_offset == at && flipped {
            // A wrong base offset, of which nobody can know.
            return Ok(());
        }
        assert!(read.next_offset > at, "nothing at {at}");
        at = read.next_offset;
        found.extend(read.slices);
    }
    let found: Vec<u8> = found.concat();
    if state.log_start < compacted_to {
        let checked = compacted::check(&found, state, state.log_start, state.log_end(), compacted_to);
        assert_eq!(checked, Ok(()), "compacted up to {compacted_to}");
    } else {
        assert!(same(&found, &expected, flipped), "other batches than were appended");
    }
    let (mut index, end) = (log.first_index(), log.next_index());
    while index < end {
        let entries = log.read_entries(index..end, 60_000).await?;
        assert!(!entries.is_empty(), "no entry {index}");
        for entry in entries {
            let (id, kind, bytes) = &state.entries[index.0 as usize];
            let same = entry.id == *id && entry.kind == *kind && entry.bytes == *bytes;
            assert!(same || flipped, "entry {index} differs");
            index = index.next();
        }
    }
    if flipped { Ok(()) } else { transactions::check(log, state).await }
}

/// Kafka's CRC does not cover the first 17 bytes of a batch: a bit of them may be read wrong, and nobody can know.
pub fn same(found: &[u8], expected: &[Bytes], flipped: bool) -> bool {
    let mut rest = found;
    let uncovered = if flipped { 17 } else { 0 };
    for batch in expected {
        let Some((bytes, after)) = rest.split_at_checked(batch.len()) else { return false };
        if bytes[uncovered..] != batch[uncovered..] {
            return false;
        }
        rest = after;
    }
    rest.is_empty()
}

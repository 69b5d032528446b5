//! What a file of a data directory says, for people: all kinds but segments, whose batches `record::dump` describes.

use std::io;
use std::path::Path;

use core_pinning::BLOCK;

use crate::compaction::standing;
use crate::data_dir::check_meta;
use crate::file_kind::FileKind;
use crate::journal::record::{FileId, Found, RecordKind, split_data, split_key};
use crate::journal::retire;
use crate::journal::scan::Scanner;
use crate::ledger::LedgerState;
use crate::log::state::{PartitionState, read_vote};
use crate::producer_state::{AbortedTransaction, ProducerTable};
use crate::record::dump::Fields;
use crate::recovery::decode_unclean;
use crate::sealed::SealError;
use crate::segment::index_file::{IndexHead, IndexSummary};
use crate::segment::{index_heads, txn_index};

/// Why a file cannot be described.
#[derive(Debug, thiserror::Error)]
pub enum DescribeError {
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is not what it was.
    #[error("{0}")]
    Damaged(String),
}

impl From<SealError> for DescribeError {
    fn from(error: SealError) -> DescribeError {
        DescribeError::Damaged(error.to_string())
    }
}

/// The contents of the file, a line each; `None` of what is a run of record batches, and of what is no file of a data directory.
/// Of a journal the records of its last use, in their order.
pub fn describe_file(path: &Path) -> Result<Option<Vec<Fields>>, DescribeError> {
    let Some(kind) = FileKind::of(path).filter(|kind| !kind.is_batches()) else { return Ok(None) };
    if kind.is_opaque() {
        let bytes = std::fs::metadata(path)?.len();
        return Ok(Some(vec![one(|fields| fields.int("bytes", i64::try_from(bytes).unwrap_or(i64::MAX)))]));
    }
    describe(kind, &std::fs::read(path)?).map(Some)
}

/// As [`describe_file`], of the bytes of a file that is read as a whole.
pub(super) fn describe(kind: FileKind, bytes: &[u8]) -> Result<Vec<Fields>, DescribeError> {
    Ok(match kind {
        FileKind::Meta => meta(bytes)?,
        FileKind::Ledger => ledger(&LedgerState::decode(bytes)?),
        FileKind::Journal => journal(bytes)?,
        FileKind::Unclean => {
            decode_unclean(bytes)?;
            vec![one(|fields| fields.flag("unclean", true))]
        }
        FileKind::Replayed => retire::decode(bytes)?.iter().map(|id| file_id(*id)).collect(),
        FileKind::State | FileKind::DamagedState => vec![state(&PartitionState::decode(bytes)?)],
        FileKind::Index => index(&IndexSummary::read(bytes)?),
        FileKind::Indexes => index_heads::decode(bytes)?.1.iter().map(index_head).collect(),
        FileKind::Producers => producers(&ProducerTable::decode(&mut &bytes[..])?),
        FileKind::Aborted => {
            let decoded = txn_index::decode(bytes).map_err(|reason| DescribeError::Damaged(reason.to_owned()))?;
            decoded.iter().map(aborted).collect()
        }
        FileKind::Cleaner => {
            let first_dirty = standing::decode(bytes)?;
            vec![one(|fields| fields.int("firstDirtyOffset", first_dirty.0))]
        }
        FileKind::Lock => vec![one(|fields| fields.text("holder", String::from_utf8_lossy(bytes).trim_end()))],
        FileKind::Segment | FileKind::Swap | FileKind::Snapshot => Vec::new(),
        FileKind::Reserve | FileKind::Spare | FileKind::Cleaned | FileKind::Deleted | FileKind::Unfinished => {
            Vec::new()
        }
    })
}

fn one(fill: impl FnOnce(&mut Fields)) -> Fields {
    let mut fields = Fields::default();
    fill(&mut fields);
    fields
}

fn meta(bytes: &[u8]) -> Result<Vec<Fields>, DescribeError> {
    let damaged = |error: &dyn std::fmt::Display| DescribeError::Damaged(error.to_string());
    let text = str::from_utf8(bytes).map_err(|error| damaged(&error))?;
    check_meta(text).map_err(|error| damaged(&error))?;
    Ok(vec![one(|fields| fields.text("properties", text.trim_end().replace('\n', " ")))])
}

fn index_head(head: &IndexHead) -> Fields {
    let mut fields = Fields::default();
    fields.int("baseOffset", head.covers.base_offset.0);
    fields.int("covered", head.covers.covered);
    fields.int("nextOffset", head.covers.next_offset.0);
    fields.int("maxTimestamp", head.covers.times.max_timestamp);
    fields
}

fn aborted(aborted: &AbortedTransaction) -> Fields {
    let mut fields = Fields::default();
    fields.int("producerId", aborted.producer.0);
    fields.int("firstOffset", aborted.first_offset.0);
    fields.int("lastOffset", aborted.last_offset.0);
    fields.int("lastStableOffset", aborted.last_stable_offset.0);
    fields
}

fn state(state: &PartitionState) -> Fields {
    let mut fields = Fields::default();
    fields.text("topic", state.topic.clone());
    fields.text("partition", state.key.to_string());
    fields.flag("clean", state.clean);
    fields.text("vote", format!("{:?}", state.vote));
    fields.int("logStartOffset", state.log_start.0);
    fields.text("purged", format!("{:?}", state.purged));
    fields.int("firstSegment", state.first_segment.0);
    fields.int("nextOffset", state.end.next_offset.0);
    fields.int("nextIndex", i64::try_from(state.end.next_index.0).unwrap_or(i64::MAX));
    fields.int("appliedOffset", state.applied.next_offset.0);
    for (name, (segment, position)) in [("synced", state.synced), ("durable", state.durable)] {
        fields.text(name, format!("{:020}.log:{position}", segment.0));
    }
    fields.text("leaderEpochs", format!("{:?}", state.epochs.entries()));
    fields
}

fn index(index: &IndexSummary) -> Vec<Fields> {
    let mut head = Fields::default();
    head.int("baseOffset", index.base_offset.0);
    head.int("covered", i64::try_from(index.covered).unwrap_or(i64::MAX));
    head.int("entries", i64::try_from(index.entries.len()).unwrap_or(i64::MAX));
    let entry = |(position, offset, ordinal): &(u64, crate::model::Offset, u32)| {
        let mut fields = Fields::default();
        fields.int("offset", offset.0);
        fields.int("position", i64::try_from(*position).unwrap_or(i64::MAX));
        fields.int("ordinal", *ordinal);
        fields
    };
    std::iter::once(head).chain(index.entries.iter().map(entry)).collect()
}

fn producers(table: &ProducerTable) -> Vec<Fields> {
    let mut infos: Vec<_> = table.iter().collect();
    infos.sort_by_key(|info| info.id);
    let one = |info: &crate::producer_state::ProducerInfo| {
        let mut fields = Fields::default();
        fields.text("producer", format!("{info:?}"));
        fields
    };
    infos.iter().map(one).collect()
}

fn ledger(ledger: &LedgerState) -> Vec<Fields> {
    let mut head = Fields::default();
    head.flag("journalOpen", ledger.journal.is_some());
    if let Some(journal) = ledger.journal {
        for (name, number) in [("oldest", journal.oldest), ("newest", journal.newest), ("settled", journal.settled)] {
            head.int(name, i64::try_from(number).unwrap_or(i64::MAX));
        }
    }
    let mut keys: Vec<_> = ledger.partitions.iter().collect();
    keys.sort();
    let key = |key: &&crate::model::PartitionKey| {
        let mut fields = Fields::default();
        fields.text("partition", key.to_string());
        fields
    };
    std::iter::once(head).chain(keys.iter().map(key)).collect()
}

fn file_id(id: FileId) -> Fields {
    let mut fields = Fields::default();
    fields.int("number", i64::try_from(id.number).unwrap_or(i64::MAX));
    fields.text("epoch", format!("{:016x}", id.epoch));
    fields
}

fn journal(bytes: &[u8]) -> Result<Vec<Fields>, DescribeError> {
    let head = FileId::read_header(bytes.get(..BLOCK).unwrap_or(bytes));
    let head = head.map_err(|newer| DescribeError::Damaged(format!("of format {newer}")))?;
    let Some(id) = head else { return Err(DescribeError::Damaged("no header of a journal file".to_owned())) };
    let mut lines = vec![file_id(id)];
    let scanned = Scanner::default().scan(id, bytes, |found, at| {
        lines.push(journal_record(found, at));
        Ok(())
    });
    scanned.map_err(|error| DescribeError::Damaged(error.to_string()))?;
    Ok(lines)
}

fn journal_record(found: Found<'_>, at: usize) -> Fields {
    let mut fields = Fields::default();
    fields.int("sequence", i64::try_from(found.sequence).unwrap_or(i64::MAX));
    fields.int("position", i64::try_from(at).unwrap_or(i64::MAX));
    fields.text("kind", format!("{:?}", found.kind));
    fields.int("size", i64::try_from(found.payload.len()).unwrap_or(i64::MAX));
    let Some((key, rest)) = split_key(found.payload).filter(|_| found.kind != RecordKind::Opened) else {
        return fields;
    };
    fields.text("partition", key.to_string());
    match found.kind {
        RecordKind::Data | RecordKind::DataPart => {
            if let Some((segment, position, bytes)) = split_data(rest) {
                fields.text("place", format!("{:020}.log:{position}", segment.0));
                fields.int("bytes", i64::try_from(bytes.len()).unwrap_or(i64::MAX));
            }
        }
        RecordKind::Vote => fields.text("vote", format!("{:?}", read_vote(rest).ok().flatten())),
        RecordKind::State => {
            if let Ok(stated) = PartitionState::decode(rest) {
                fields.int("nextOffset", stated.end.next_offset.0);
            }
        }
        RecordKind::Opened | RecordKind::Deleted | RecordKind::Placed => {}
    }
    fields
}

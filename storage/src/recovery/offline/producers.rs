//! What is kept of a log's producers beside it, against its batches. A start believes it: what is wrong there lets duplicates in, or
//! refuses what is none.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::{Findings, read};
use crate::data_dir::DataDirError;
use crate::layout;
use crate::log::state::{PartitionState, Producers};
use crate::model::Offset;
use crate::producer_state::ProducerTable;
use crate::record::BatchHeader;

/// The producers as of an offset.
pub(super) struct Kept {
    at: Offset,
    path: PathBuf,
    /// Of the state, which has them among other things; else the file has nothing but them.
    inline: Option<Bytes>,
}

/// What a start may read, by offsets: the files of `snapshots` that belong to one of the `segments` or that the state names, and
/// what stands in the state itself.
pub(super) fn kept(
    dir: &Path,
    state: &PartitionState,
    snapshots: &BTreeSet<Offset>,
    segments: &[(Offset, u64)],
) -> Vec<Kept> {
    let is_named = |at: Offset| matches!(state.producers, Producers::Snapshot(point) if point.next_offset == at);
    let is_base = |at: Offset| segments.iter().any(|(base, _)| *base == at);
    let counts = |at: &Offset| is_named(*at) || is_base(*at);
    let file = |at| Kept { at, path: dir.join(layout::snapshot_name(at)), inline: None };
    let mut kept: Vec<Kept> = snapshots.iter().copied().filter(counts).map(file).collect();
    if let Producers::Inline(table) = &state.producers {
        let (at, path) = (state.end.next_offset, dir.join(layout::STATE_FILE));
        kept.push(Kept { at, path, inline: Some(table.clone()) });
    }
    kept.sort_by_key(|kept| kept.at);
    kept
}

/// Follows the producers of a log through its segments.
#[derive(Default)]
pub(super) struct Seen {
    /// All batches from here on were seen; `None` until a segment begins of which that may become true.
    from: Option<Offset>,
    producers: ProducerTable,
    /// How many of those that are kept were passed.
    passed: usize,
}

impl Seen {
    /// A segment begins. It is not `whole` where compaction has taken batches out.
    pub(super) fn begin(&mut self, base: Offset, whole: bool) {
        // Who wants to know of those has looked.
        self.producers.forget_aborted(Offset::MAX);
        self.producers.applied(Offset::MAX);
        match self.from {
            _ if !whole => self.lose(),
            None => *self = Seen { from: Some(base), ..Seen::default() },
            Some(_) => {}
        }
    }

    /// Something of the segment cannot be relied on.
    pub(super) fn lose(&mut self) {
        (self.from, self.producers) = (None, ProducerTable::new());
    }

    pub(super) fn see(&mut self, header: &BatchHeader, batch: &[u8]) {
        if self.from.is_some() {
            self.producers.see(header, header.base_offset, batch);
        }
    }

    /// Everything before `offset` was seen: compares what is kept as of places up to there.
    pub(super) fn reach(
        &mut self,
        offset: Offset,
        kept: &[Kept],
        findings: &mut Findings<'_>,
    ) -> Result<(), DataDirError> {
        let Some(from) = self.from else { return Ok(()) };
        while let Some(Kept { at, path, inline }) = kept.get(self.passed).filter(|kept| kept.at <= offset) {
            self.passed += 1;
            if *at < from {
                continue;
            }
            let bytes = match inline {
                Some(table) => table.clone(),
                None => read(path)?.unwrap_or_default().into(),
            };
            // One that cannot be read has been told of.
            let Ok(table) = ProducerTable::decode(&mut &bytes[..]) else { continue };
            if let Some((producer, what)) = table.contradiction(&self.producers, from) {
                let position = ProducerTable::position_of(producer, &bytes).filter(|_| inline.is_none());
                let what =
                    format!("what it says of producer {producer} as of offset {at} is not what the log says: {what}");
                findings.damage(path, position, what);
            }
        }
        Ok(())
    }
}

//! Aborted transactions: what the batches of a log say, against its `.txnindex` files.

use super::Findings;
use super::segment::Place;
use crate::layout;
use crate::model::{Offset, ProducerId};
use crate::producer_state::{AbortedTransaction, ProducerTable};
use crate::record::{BatchHeader, TransactionMarker};
use crate::segment::txn_index;

/// Follows the transactions of a log through its segments.
#[derive(Default)]
pub(super) struct Aborted {
    producers: ProducerTable,
    /// Markers in this segment that end a transaction badly.
    markers: Vec<(ProducerId, Offset)>,
}

impl Aborted {
    pub(super) fn see(&mut self, header: &BatchHeader, batch: &[u8]) {
        self.producers.see(header, header.base_offset, batch);
        if TransactionMarker::of(header, batch) == Some(TransactionMarker::Abort) {
            self.markers.push((header.producer_id, header.base_offset));
        }
    }

    /// At the end of a segment: compares what was seen in it with what the file beside it says. Compaction (`gaps`) takes markers
    /// out after their records, and may be cut short when the file has been written and the segment has not its name.
    pub(super) fn compare(&mut self, place: &Place<'_>, file: Option<&[u8]>, gaps: bool, findings: &mut Findings<'_>) {
        let path = place.dir.join(layout::txn_index_name(place.base));
        let indexed = place.state.aborted_indexed;
        let found: Vec<AbortedTransaction> = self.producers.aborted().to_vec();
        let markers = std::mem::take(&mut self.markers);
        self.producers.forget_aborted(Offset::MAX);
        // One that cannot be read has been told of.
        let Ok(said) = file.map_or(Ok(Vec::new()), txn_index::decode) else { return };
        // Those at or behind it are in the state, and what a file says of them is not looked at.
        let counts = |aborted: &&AbortedTransaction| aborted.last_offset < indexed;
        // A transaction may have begun before all that is left of the log.
        let is_said = |aborted: &AbortedTransaction| {
            let of_marker =
                said.iter().find(|s| (s.producer, s.last_offset) == (aborted.producer, aborted.last_offset));
            of_marker.is_some_and(|s| s.first_offset <= aborted.first_offset)
        };
        if let Some(missing) = found.iter().filter(counts).find(|aborted| !is_said(aborted)) {
            let AbortedTransaction { producer, first_offset, last_offset, .. } = missing;
            let what = if file.is_some() { "it does not name" } else { "it is gone, and should name" };
            let what =
                format!("{what} the transaction of producer {producer} from {first_offset}, aborted at {last_offset}");
            return findings.rebuilt(&path, None, what);
        }
        let is_marker = |s: &&AbortedTransaction| markers.contains(&(s.producer, s.last_offset));
        if let Some(other) = said.iter().filter(counts).find(|s| !gaps && !is_marker(s)) {
            let what =
                format!("it names a transaction aborted at {}, where the log has no such marker", other.last_offset);
            findings.rebuilt(&path, None, what);
        }
    }
}

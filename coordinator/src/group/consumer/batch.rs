//! Changes that are written together: all or none.

use corelane_protocol::{EncodeError, ErrorCode, Str};

use super::change::Change;
use super::group::ConsumerGroup;
use crate::group::coordinator::GroupCoordinator;
use crate::group::outcome::{Effects, WriteId};
use crate::group::writes::{OnWritten, Undo};
use crate::{CoordinatorRecord, Now};

/// Records, and how to take back what they say: the state shows it already.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    records: Vec<CoordinatorRecord>,
    pub(super) undo: Vec<Undo>,
    error: Option<EncodeError>,
}

impl Batch {
    pub(super) fn records(&mut self, records: Result<Vec<CoordinatorRecord>, EncodeError>) {
        match records {
            Ok(records) => self.records.extend(records),
            Err(error) => self.error = Some(error),
        }
    }

    pub(super) fn record(&mut self, record: Result<CoordinatorRecord, EncodeError>) {
        match record {
            Ok(record) => self.records.push(record),
            Err(error) => self.error = Some(error),
        }
    }
}

impl ConsumerGroup {
    pub(super) fn change(&mut self, batch: &mut Batch, change: Change) {
        batch.record(change.to_record(&self.id));
        let back = Box::new(self.apply(change));
        batch.undo.push(Undo::Consumer { group: self.id.clone(), incarnation: self.incarnation, back });
    }
}

impl GroupCoordinator {
    /// Hands the batch out to be written; nothing if there is nothing in it.
    pub(super) fn write_batch(&mut self, now: Now, group: &Str, batch: Batch, out: &mut Effects) -> Option<WriteId> {
        let Batch { records, undo, error } = batch;
        if records.is_empty() && error.is_none() {
            return None;
        }
        let records = error.map_or(Ok(records), Err);
        let (_, mut env) = self.parts(now, out);
        Some(env.write(group, records, OnWritten::Nothing, undo))
    }

    /// Takes back what a request had begun that is refused.
    pub(super) fn drop_batch(&mut self, now: Now, batch: Batch, out: &mut Effects) {
        for undo in batch.undo.into_iter().rev() {
            self.take_back(now, undo, ErrorCode::UnknownServerError, out);
        }
    }
}

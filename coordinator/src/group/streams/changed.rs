//! Changes that are written together: all or none.

use corelane_protocol::{EncodeError, Str};

use super::group::StreamsGroup;
use super::records::Change;
use crate::CoordinatorRecord;
use crate::group::env::Env;
use crate::group::writes::{OnWritten, Undo};

/// Records, and how to take back what they say: the state shows it already.
#[derive(Default)]
pub(super) struct Changed {
    pub(super) records: Vec<Result<CoordinatorRecord, EncodeError>>,
    pub(super) undo: Vec<Undo>,
}

impl Changed {
    pub(super) fn make(&mut self, group: &mut StreamsGroup, changes: Vec<Change>) {
        for change in changes {
            self.records.push(change.to_record(&group.id));
            let back = Box::new(group.apply(change));
            self.undo.push(Undo::Streams { group: group.id.clone(), incarnation: group.incarnation, back });
        }
    }

    /// Hands the records out to be written, if there are any.
    pub(super) fn write(self, env: &mut Env<'_>, group_id: &Str) {
        if !self.records.is_empty() {
            env.write(group_id, self.records.into_iter().collect(), OnWritten::Nothing, self.undo);
        }
    }
}

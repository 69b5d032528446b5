//! openraft's state machine: how far the log is applied. The records are the log; nothing else is built from them here.

use std::io;
use std::rc::Rc;

use futures::{Stream, StreamExt};
use openraft::alias::{SnapshotMetaOf, SnapshotOf};
use openraft::entry::RaftEntry as _;
use openraft::storage::{ApplyResponder, EntryResponder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder};

use crate::slot::Slot;
use crate::type_config::{RaftLogId, StoredMembership, TypeConfig, log_id, raft_log_id};

/// The state machine of one group's openraft instance.
///
/// A snapshot is a statement without data: "entries up to here may be deleted, and this was the membership". Its last
/// entry is the last one that retention has given up, not the last one applied.
pub(crate) struct StateMachine {
    slot: Rc<Slot>,
    /// Of the batch being applied; kept for its memory.
    answers: Vec<ApplyResponder<TypeConfig>>,
}

impl StateMachine {
    pub(crate) fn new(slot: Rc<Slot>) -> StateMachine {
        StateMachine { slot, answers: Vec::new() }
    }

    fn snapshot(&self) -> Option<SnapshotOf<TypeConfig, ()>> {
        let last = self.slot.replica.purged()?;
        Some(openraft::Snapshot {
            meta: openraft::SnapshotMeta {
                last_log_id: Some(raft_log_id(last)),
                // Never later than `last`: a purge stops before the membership it would lose.
                last_membership: self.slot.replica.membership(),
            },
            snapshot: (),
        })
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = ();
    type SnapshotBuilder = StateMachine;

    async fn applied_state(&mut self) -> Result<(Option<RaftLogId>, StoredMembership), io::Error> {
        let replica = &self.slot.replica;
        Ok((replica.applied().map(raft_log_id), replica.membership()))
    }

    /// Moves the high watermark over the whole batch, then answers: whoever has an answer can read what it wrote.
    async fn apply<S>(&mut self, mut entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        let replica = &self.slot.replica;
        let mut answers = std::mem::take(&mut self.answers);
        let mut last = None;
        while let Some(item) = entries.next().await {
            let (entry, answer) = item?;
            let id = entry.log_id();
            if let EntryPayload::Membership(membership) = entry.payload {
                replica.set_membership(StoredMembership::new(Some(id), membership));
            }
            last = Some(id);
            answers.extend(answer);
        }
        if let Some(last) = last {
            replica.advance(log_id(&last));
        }
        for answer in answers.drain(..) {
            answer.send(());
        }
        self.answers = answers;
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> StateMachine {
        StateMachine::new(self.slot.clone())
    }

    /// Nobody sends one: a group that could get a snapshot has peers, and is not opened.
    async fn install_snapshot(&mut self, meta: &SnapshotMetaOf<TypeConfig>, _data: ()) -> Result<(), io::Error> {
        Err(io::Error::new(io::ErrorKind::Unsupported, format!("snapshot {meta:?} for a group without peers")))
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<SnapshotOf<TypeConfig, ()>>, io::Error> {
        Ok(self.snapshot())
    }
}

impl RaftSnapshotBuilder<TypeConfig> for StateMachine {
    type SnapshotData = ();

    async fn build_snapshot(&mut self) -> Result<SnapshotOf<TypeConfig, ()>, io::Error> {
        Ok(self
            .snapshot()
            .unwrap_or(openraft::Snapshot { meta: SnapshotMetaOf::<TypeConfig>::default(), snapshot: () }))
    }
}

//! One partition's Raft group, as the broker sees it.

use std::rc::Rc;

use bytes::Bytes;
use corelane_storage::Log;
use corelane_storage::model::{LogId, NodeId, Offset, RaftIndex, Term};

use crate::proposal::{Proposal, ProposeError};
use crate::slot::Slot;

/// Who leads a group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Leadership {
    /// The leader, if one is known and can take proposals.
    pub leader: Option<NodeId>,
    /// Its term: the leader epoch of the batches it takes. The same before and after a cold group's instance is built.
    pub term: Term,
    /// This node leads.
    pub is_self: bool,
}

/// A partition's Raft group on its shard; a handle, cheap to clone.
#[derive(Clone)]
pub struct Group(pub(crate) Rc<Slot>);

impl Group {
    /// Appends a record batch to the group's log. Its first record's offset will be `base`, which is
    /// [`next_offset`](Group::next_offset), its last record's `last`; `batch` has them set or has base offset 0. The log writes
    /// offset and leader epoch into its copy.
    ///
    /// Batches are appended in the order of the calls, whether or not the group has an instance. Never waits: at most
    /// [`PROPOSALS_MAX`](crate::PROPOSALS_MAX) proposals of a group are on their way. An error means that nothing was
    /// appended; after `Ok`, the [`Proposal`] tells.
    pub fn propose(&self, batch: Bytes, base: Offset, last: Offset) -> Result<Proposal, ProposeError> {
        self.0.propose(batch, base, last)
    }

    /// The offset at which the next proposed batch must start: the log end once all that is in flight is appended. It
    /// falls back when proposals fail.
    pub fn next_offset(&self) -> Offset {
        self.0.next_offset()
    }

    /// Proposals that have no final answer yet.
    pub fn in_flight(&self) -> usize {
        self.0.in_flight()
    }

    /// Who leads. No instance is needed to know.
    pub fn leadership(&self) -> Leadership {
        let replica = &self.0.replica;
        let is_self = !self.0.is_stopping() && !self.0.is_fenced();
        Leadership { leader: is_self.then_some(replica.node), term: replica.term(), is_self }
    }

    /// Why the group takes no proposals any more, if a storage error or a panic has stopped it.
    pub fn fenced(&self) -> Option<ProposeError> {
        self.0.fence()
    }

    /// The offset after the last record that readers may see.
    pub fn high_watermark(&self) -> Offset {
        self.0.replica.log.bounds().high_watermark
    }

    /// `hook` is called with the new high watermark when entries are applied, before their proposals are answered. One
    /// hook per group: a second one replaces the first.
    pub fn on_applied(&self, hook: impl Fn(Offset) + 'static) {
        self.0.replica.set_on_applied(Rc::new(hook));
    }

    /// Builds the group's openraft instance now, if it has none; without peers nothing else does.
    pub async fn wake(&self) -> Result<(), ProposeError> {
        self.0.wake().await
    }

    /// Gives up the entries up to `upto` at most: they may be deleted from then on, no peer can ask for them. Returns
    /// the last entry given up so far, if any.
    ///
    /// Stops at the last applied entry, and gives up nothing as long as the latest membership entry is above `upto`.
    pub async fn purge(&self, upto: RaftIndex) -> Result<Option<LogId>, ProposeError> {
        crate::purge::purge(&self.0, upto).await
    }

    /// The partition's log.
    pub fn log(&self) -> &Log {
        &self.0.replica.log
    }

    /// Takes no more proposals, waits for those in flight, and drops the instance. The log stays open.
    pub async fn stop(self) {
        self.0.stop().await;
    }
}

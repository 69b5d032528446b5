//! What this node knows of one group, whether or not an openraft instance exists: the part that survives hibernation.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use core_pinning::sync::oneshot;
use corelane_storage::model::{LogId, NodeId, Offset, RaftIndex, Term};
use corelane_storage::{FirstState, Log, StorageError, VoteRecord};

use crate::leaders::Leaders;
use crate::membership::{Membership, MembershipError};
use crate::type_config::{StoredMembership, raft_log_id};

/// Called with the new high watermark.
pub(crate) type AppliedHook = Rc<dyn Fn(Offset)>;

/// The state in which a new partition's log is created: `node` alone, and leader in term 1 already. So creating a partition
/// needs no election; its first record batch gets index 1 and offset 0.
pub fn first_state(node: NodeId) -> FirstState {
    FirstState {
        vote: VoteRecord { term: Term(1), node, committed: true },
        membership: Membership::single(node).encode(),
    }
}

/// One replica: its log, and the replicated state that is kept in memory.
///
/// ```text
/// first index ..= purged | .. applied | .. last
///     deleted or         | below the  | not yet on a
///     may be deleted     | high water.| quorum's disks
/// ```
pub(crate) struct Replica {
    pub log: Log,
    pub node: NodeId,
    /// The term this node leads in or will lead in once there is an instance.
    term: Cell<Term>,
    /// The last entry applied, which is also the last one known to be committed. A cold replica has applied all.
    applied: Cell<Option<LogId>>,
    /// The latest applied membership.
    membership: RefCell<StoredMembership>,
    /// Ids of the log's entries, without reading the log.
    pub leaders: RefCell<Leaders>,
    /// The last entry that may be deleted, which is what the next snapshot covers. Of this process only: the log knows
    /// what has been deleted.
    purge_to: Cell<Option<LogId>>,
    on_applied: RefCell<Option<AppliedHook>>,
}

/// Why a group cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The log was created without the first state of a group (see [`first_state`](crate::first_state)).
    #[error("the log has no Raft state")]
    Missing,
    #[error(transparent)]
    Membership(#[from] MembershipError),
    /// The group has members other than this node, or this node is not one; this release replicates to nobody.
    #[error("members {0:?}: only groups of this node alone are supported")]
    Peers(Membership),
    /// The group is open already.
    #[error("the group is open already")]
    Open,
    /// [`Groups::shutdown`](crate::Groups::shutdown) was called.
    #[error("the groups of this shard are stopped")]
    Shutdown,
}

impl Replica {
    /// The state of the replica whose log is `log`, on node `node`.
    ///
    /// All that a log of a single voter holds is on that voter's disk, so it is committed, and applied at once.
    pub fn load(log: Log, node: NodeId) -> Result<Replica, OpenError> {
        let vote = log.vote().ok_or(OpenError::Missing)?;
        let (membership_id, payload) = log.membership().ok_or(OpenError::Missing)?;
        let last = log.last_log_id().or(log.purged()).ok_or(OpenError::Missing)?;
        let membership = Membership::decode(&payload)?;
        if !membership.is_single(node) {
            return Err(OpenError::Peers(membership));
        }
        // After an unclean stop a tail that was never acknowledged may be lost. A leader of the same term would write
        // other entries under the ids of the lost ones, and whoever saw the lost ones could not tell.
        let mine = vote.node == node && vote.committed;
        let term = if mine && !log.unclean_start() { vote.term } else { Term(vote.term.0 + 1) };
        log.set_applied(last.index);
        Ok(Replica {
            node,
            term: Cell::new(term),
            applied: Cell::new(Some(last)),
            membership: RefCell::new(StoredMembership::new(Some(raft_log_id(membership_id)), membership.to_raft())),
            leaders: RefCell::new(Leaders::unknown()),
            purge_to: Cell::new(log.purged()),
            on_applied: RefCell::default(),
            log,
        })
    }

    pub fn term(&self) -> Term {
        self.term.get()
    }

    /// Sets what the next snapshot covers.
    pub fn set_purge_to(&self, upto: LogId) {
        self.purge_to.set(self.purge_to.get().max(Some(upto)));
    }

    /// Makes the vote on disk the one this node leads with, if it is not yet: first need after an unclean stop.
    ///
    /// A single voter needs nobody's consent for a higher term; its own vote on its own disk is the quorum.
    pub async fn claim_term(&self) -> Result<(), StorageError> {
        if !self.has_claimed_term() {
            self.save_vote(self.claim()).await?;
        }
        Ok(())
    }

    pub fn has_claimed_term(&self) -> bool {
        self.log.vote() == Some(self.claim())
    }

    fn claim(&self) -> VoteRecord {
        VoteRecord { term: self.term(), node: self.node, committed: true }
    }

    /// Returns once `vote` is on disk.
    pub async fn save_vote(&self, vote: VoteRecord) -> Result<(), StorageError> {
        let (done, durable) = oneshot::channel();
        self.log.save_vote(vote, move |result| {
            let _ = done.send(result);
        });
        durable.await.unwrap_or(Err(StorageError::Closed))
    }

    /// The last entry of the log, purged or not.
    pub fn last(&self) -> Option<LogId> {
        self.log.last_log_id().or(self.log.purged())
    }

    pub fn applied(&self) -> Option<LogId> {
        self.applied.get()
    }

    pub fn membership(&self) -> StoredMembership {
        self.membership.borrow().clone()
    }

    pub fn set_membership(&self, membership: StoredMembership) {
        self.membership.replace(membership);
    }

    /// Everything up to `id` is applied: readers may see it.
    pub fn advance(&self, id: LogId) {
        self.applied.set(Some(id));
        self.log.set_applied(id.index);
        // Not borrowed while it runs: it may propose.
        let hook = self.on_applied.borrow().clone();
        if let Some(hook) = hook {
            hook(self.log.bounds().high_watermark);
        }
    }

    pub fn set_on_applied(&self, hook: AppliedHook) {
        self.on_applied.replace(Some(hook));
    }

    /// Fixes what is given up and learns which terms wrote the rest, so that an instance is built without a read.
    pub fn survey(&self) {
        let purged = self.purge_to.get().max(self.log.purged());
        self.purge_to.set(purged);
        let first = purged.map_or(RaftIndex(0), |id| id.index.next());
        self.leaders.replace(Leaders::known(first, self.log.last_of_terms(first)));
    }

    /// The id of an entry, once [`survey`](Replica::survey) has been done.
    pub fn id_at(&self, index: RaftIndex) -> Option<LogId> {
        let term = self.leaders.borrow().term_at(index)?;
        Some(LogId { term, index })
    }

    /// What openraft calls purged: what was given up, and what retention had taken out of the log when the replica was
    /// surveyed. An instance sees no more of retention.
    pub fn purged(&self) -> Option<LogId> {
        self.purge_to.get()
    }

    /// Gives up everything up to `upto`, which is applied: retention may take it out of the log.
    pub fn give_up(&self, upto: LogId) {
        self.leaders.borrow_mut().purge(upto);
        self.purge_to.set(self.purge_to.get().max(Some(upto)));
    }

    /// The last entry of `..= upto` that a purge may take: applied, and not before the membership it would lose.
    pub fn purgeable(&self, upto: RaftIndex) -> Option<RaftIndex> {
        let applied = self.applied.get()?.index;
        let upto = upto.min(applied);
        let membership_at = self.membership.borrow().log_id().as_ref().map(|id| id.index());
        (membership_at <= Some(upto.0)).then_some(upto)
    }
}

//! openraft's type parameters, and the bridge between its names and ours.

use openraft::RaftTypeConfig;
use openraft::alias::{EntryOf, LogIdOf, StoredMembershipOf, VoteOf};
use openraft::impls::leader_id_std;
use openraft::vote::RaftLeaderId;

use corelane_storage::model::{LogId, RaftIndex, Term};

use crate::proposal::{Answer, Produce};
use crate::runtime::ShardRuntime;
use crate::state_machine::StateMachine;

/// The openraft types of every group.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TypeConfig;

/// One leader per term (standard Raft), so that a term is a Kafka leader epoch.
type LeaderId = leader_id_std::LeaderId<u64, u64>;

impl RaftTypeConfig for TypeConfig {
    type D = Produce;
    type R = ();
    type NodeId = u64;
    type Node = ();
    type Term = u64;
    type LeaderId = LeaderId;
    type Vote = openraft::impls::Vote<LeaderId>;
    type Payload = openraft::EntryPayload<Produce, u64, ()>;
    type Entry = openraft::Entry<<LeaderId as RaftLeaderId>::Committed, Self::Payload>;
    type AsyncRuntime = ShardRuntime;
    type Responder<T>
        = Answer
    where
        T: openraft::OptionalSend + 'static;
    type Batch<T>
        = openraft::impls::InlineBatch<T>
    where
        T: openraft::OptionalSend + 'static;
    type ErrorSource = openraft::impls::BoxedErrorSource;
}

pub(crate) type Raft = openraft::Raft<TypeConfig, StateMachine>;
pub(crate) type RaftEntry = EntryOf<TypeConfig>;
pub(crate) type RaftLogId = LogIdOf<TypeConfig>;
pub(crate) type RaftVote = VoteOf<TypeConfig>;
pub(crate) type RaftMembership = openraft::Membership<u64, ()>;
pub(crate) type StoredMembership = StoredMembershipOf<TypeConfig>;

/// As openraft names the entry.
pub(crate) fn raft_log_id(id: LogId) -> RaftLogId {
    RaftLogId::new(id.term.0.into(), id.index.0)
}

/// As we name the entry.
pub(crate) fn log_id(id: &RaftLogId) -> LogId {
    LogId { term: Term(id.committed_leader_id().term), index: RaftIndex(id.index()) }
}

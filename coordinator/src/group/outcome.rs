//! What a call gives back.

use corelane_protocol::messages::{
    ConsumerGroupHeartbeatResponse, DeleteGroupsResponse, JoinGroupResponse, LeaveGroupResponse, OffsetCommitResponse,
    OffsetDeleteResponse, OffsetFetchResponseGroup, ShareGroupDescribeResponseDescribedGroup,
    ShareGroupHeartbeatResponse, SyncGroupResponse, TxnOffsetCommitResponse,
};

use super::share::{InitializeShareState, ShareGroupDeletion, ShareOffsetsAlteration, ShareOffsetsDeletion};
use super::streams::StreamsHeartbeat;
use crate::CoordinatorRecord;

/// Stands for a reply that is not there yet. Each one is completed exactly once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WaitToken(pub u64);

/// Numbers the writes of one machine, ascending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WriteId(pub u64);

/// Records to append to the machine's partition as one batch: all or none.
///
/// Writes are appended in the order in which they were given out. The state already holds what they say; tell the machine with
/// `write_completed` when one is durable (replicated) or with `write_failed` when it will not be.
#[derive(Clone, Debug, PartialEq)]
pub struct Write {
    pub id: WriteId,
    pub records: Vec<CoordinatorRecord>,
    /// The batch is part of this producer's transaction.
    pub producer: Option<WriteProducer>,
}

/// A producer as a batch names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteProducer {
    pub id: i64,
    pub epoch: i16,
}

/// The answer to the request itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Reply<R> {
    Now(R),
    /// Comes with a later call's [`Effects::completed`], in the same type.
    Later(WaitToken),
}

/// What a call asks its caller to do, besides answering.
#[derive(Debug, Default, PartialEq)]
pub struct Effects {
    pub writes: Vec<Write>,
    pub errands: Vec<Errand>,
    pub completed: Vec<Completed>,
}

/// What others are to be asked for. The machine is told what came of it.
#[derive(Clone, Debug, PartialEq)]
pub enum Errand {
    /// Of the share coordinator; ends with `share_state_initialized`.
    InitializeShareState(InitializeShareState),
}

/// An answer that someone has been waiting for. It may go out at once.
#[derive(Clone, Debug, PartialEq)]
pub struct Completed {
    pub token: WaitToken,
    pub response: Response,
}

/// The result of handling a request.
#[derive(Debug, PartialEq)]
pub struct Outcome<R> {
    pub reply: Reply<R>,
    pub effects: Effects,
}

impl<R> Outcome<R> {
    pub(crate) fn now(response: R) -> Outcome<R> {
        Outcome { reply: Reply::Now(response), effects: Effects::default() }
    }
}

impl<R: TryFrom<Response>> Outcome<R> {
    /// Makes an outcome of a call that may have completed its own reply.
    pub(crate) fn from_effects(token: WaitToken, mut effects: Effects) -> Outcome<R> {
        let own = effects.completed.iter().position(|completed| completed.token == token);
        let reply = match own.map(|position| R::try_from(effects.completed.remove(position).response)) {
            Some(Ok(response)) => Reply::Now(response),
            _ => Reply::Later(token),
        };
        Outcome { reply, effects }
    }
}

macro_rules! responses {
    ($($variant:ident($type:ty)),* $(,)?) => {
        /// A response that can be waited for. `R::try_from` gives the type that the request's [`Outcome`] named.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Response {
            $($variant($type)),*
        }

        $(
            impl From<$type> for Response {
                fn from(response: $type) -> Response {
                    Response::$variant(response)
                }
            }

            impl TryFrom<Response> for $type {
                type Error = Response;

                fn try_from(response: Response) -> Result<$type, Response> {
                    match response {
                        Response::$variant(response) => Ok(response),
                        other => Err(other),
                    }
                }
            }
        )*
    };
}

responses! {
    Join(JoinGroupResponse),
    Sync(SyncGroupResponse),
    Leave(LeaveGroupResponse),
    OffsetCommit(OffsetCommitResponse),
    TxnOffsetCommit(TxnOffsetCommitResponse),
    OffsetDelete(OffsetDeleteResponse),
    OffsetFetch(OffsetFetchResponseGroup),
    DeleteGroups(DeleteGroupsResponse),
    ShareGroupHeartbeat(ShareGroupHeartbeatResponse),
    ShareGroupDescribe(ShareGroupDescribeResponseDescribedGroup),
    AlterShareOffsets(ShareOffsetsAlteration),
    DeleteShareOffsets(ShareOffsetsDeletion),
    DeleteShareGroup(ShareGroupDeletion),
    ConsumerHeartbeat(ConsumerGroupHeartbeatResponse),
    StreamsHeartbeat(StreamsHeartbeat),
}

//! The network of a group without peers.
//!
//! openraft wants a way to reach the other members of every group. A group with one voter has none: openraft makes a
//! client for a member other than itself only, so [`NoPeers`] is never asked for one. Groups with more members are
//! refused when they are opened ([`OpenError::Peers`](crate::OpenError::Peers)), before openraft sees them. Should a
//! client be asked for all the same, it answers that the peer cannot be reached, which is true, and openraft goes on.

use std::future::Future;

use futures::Stream;
use openraft::OptionalSend;
use openraft::alias::{SnapshotOf, VoteOf};
use openraft::base::{BoxFuture, BoxStream};
use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{
    Backoff, NetBackoff, NetSnapshot, NetStreamAppend, NetTransferLeader, NetVote, RPCOption, RaftNetworkFactory,
};
use openraft::raft::{
    AppendEntriesRequest, SnapshotResponse, StreamAppendResult, TransferLeaderRequest, TransferLeaderResponse,
    VoteRequest, VoteResponse,
};

use crate::type_config::TypeConfig;

/// Reaches nobody.
pub(crate) struct NoPeers;

fn unreachable() -> Unreachable<TypeConfig> {
    Unreachable::from_string("this group has no peers")
}

impl RaftNetworkFactory<TypeConfig> for NoPeers {
    type Network = NoPeers;

    async fn new_client(&mut self, target: u64, _node: &()) -> NoPeers {
        tracing::error!(target_node = target, "a group with one voter looks for a peer");
        NoPeers
    }
}

impl NetBackoff<TypeConfig> for NoPeers {
    fn backoff(&self) -> Option<Backoff> {
        None // as configured
    }
}

impl NetVote<TypeConfig> for NoPeers {
    async fn vote(
        &mut self,
        _rpc: VoteRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        Err(RPCError::Unreachable(unreachable()))
    }

    async fn pre_vote(
        &mut self,
        _rpc: VoteRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        Err(RPCError::Unreachable(unreachable()))
    }
}

impl NetSnapshot<TypeConfig> for NoPeers {
    type SnapshotData = ();

    async fn full_snapshot(
        &mut self,
        _vote: VoteOf<TypeConfig>,
        _snapshot: SnapshotOf<TypeConfig, ()>,
        _cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        Err(StreamingError::Unreachable(unreachable()))
    }
}

impl NetTransferLeader<TypeConfig> for NoPeers {
    async fn transfer_leader(
        &mut self,
        _request: TransferLeaderRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RPCError<TypeConfig>> {
        Err(RPCError::Unreachable(unreachable()))
    }
}

impl NetStreamAppend<TypeConfig> for NoPeers {
    fn stream_append<'s, S>(
        &'s mut self,
        _input: S,
        _option: RPCOption,
    ) -> BoxFuture<
        's,
        Result<BoxStream<'s, Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>>>, RPCError<TypeConfig>>,
    >
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
    {
        // Pending, not failed: openraft retries a failed stream at once, without a pause.
        Box::pin(std::future::pending())
    }
}

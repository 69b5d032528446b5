//! Transactions and idempotent producers.

use corelane_acl::Operation;
use corelane_coordinator::group::reject;
use corelane_protocol::ErrorCode;
use corelane_protocol::messages::{
    AddOffsetsToTxnRequest, AddOffsetsToTxnResponse, AddPartitionsToTxnRequest, AddPartitionsToTxnResponse,
    AddPartitionsToTxnResponseAddPartitionsToTxnPartitionResult,
    AddPartitionsToTxnResponseAddPartitionsToTxnTopicResult, DescribeTransactionsRequest, DescribeTransactionsResponse,
    DescribeTransactionsResponseTransactionState, EndTxnRequest, EndTxnResponse, InitProducerIdRequest,
    InitProducerIdResponse, ListTransactionsRequest, ListTransactionsResponse, TxnOffsetCommitRequest,
    TxnOffsetCommitResponse, WriteTxnMarkersRequest, WriteTxnMarkersResponse,
};

use super::{Access, Guarded, Verdict};

/// First version that only brokers send.
const BATCHED_FROM: i16 = 4;

const ID_REFUSED: ErrorCode = ErrorCode::TransactionalIdAuthorizationFailed;

impl Guarded for InitProducerIdRequest {
    fn guard(&mut self, access: &Access<'_>) -> Verdict<InitProducerIdResponse> {
        let refuse = |error: ErrorCode| {
            Verdict::Refuse(InitProducerIdResponse {
                error_code: error.code(),
                producer_id: -1,
                producer_epoch: -1,
                ..Default::default()
            })
        };
        let Some(id) = &self.transactional_id else {
            // Who may write to some topic may do so without duplicates (KIP-679).
            let idempotent = access.some_topic(Operation::Write) || access.cluster(Operation::IdempotentWrite);
            return if idempotent { Verdict::Pass } else { refuse(ErrorCode::ClusterAuthorizationFailed) };
        };
        let may = access.transactional_id(Operation::Write, id)
            && (!self.enable2_pc || access.transactional_id(Operation::TwoPhaseCommit, id));
        if may { Verdict::Pass } else { refuse(ID_REFUSED) }
    }
}

impl Guarded for AddPartitionsToTxnRequest {
    fn guard(&mut self, access: &Access<'_>) -> Verdict<AddPartitionsToTxnResponse> {
        if access.version() >= BATCHED_FROM {
            return Verdict::unless(access.cluster(Operation::ClusterAction), || AddPartitionsToTxnResponse {
                error_code: ErrorCode::ClusterAuthorizationFailed.code(),
                ..Default::default()
            });
        }
        // Its handler asks for the topics.
        Verdict::unless(access.transactional_id(Operation::Write, &self.v3_and_below_transactional_id), || {
            let partition = |index: &i32| AddPartitionsToTxnResponseAddPartitionsToTxnPartitionResult {
                partition_index: *index,
                partition_error_code: ID_REFUSED.code(),
                ..Default::default()
            };
            let topics = self.v3_and_below_topics.iter();
            let topics = topics.map(|topic| AddPartitionsToTxnResponseAddPartitionsToTxnTopicResult {
                name: topic.name.clone(),
                results_by_partition: topic.partitions.iter().map(partition).collect(),
                ..Default::default()
            });
            AddPartitionsToTxnResponse { results_by_topic_v3_and_below: topics.collect(), ..Default::default() }
        })
    }
}

impl Guarded for AddOffsetsToTxnRequest {
    fn guard(&mut self, access: &Access<'_>) -> Verdict<AddOffsetsToTxnResponse> {
        let refuse = |error: ErrorCode| {
            Verdict::Refuse(AddOffsetsToTxnResponse { error_code: error.code(), ..Default::default() })
        };
        if !access.transactional_id(Operation::Write, &self.transactional_id) {
            refuse(ID_REFUSED)
        } else if !access.group(Operation::Read, &self.group_id) {
            refuse(ErrorCode::GroupAuthorizationFailed)
        } else {
            Verdict::Pass
        }
    }
}

impl Guarded for EndTxnRequest {
    fn guard(&mut self, access: &Access<'_>) -> Verdict<EndTxnResponse> {
        Verdict::unless(access.transactional_id(Operation::Write, &self.transactional_id), || EndTxnResponse {
            error_code: ID_REFUSED.code(),
            ..Default::default()
        })
    }
}

impl Guarded for TxnOffsetCommitRequest {
    fn guard(&mut self, access: &Access<'_>) -> Verdict<TxnOffsetCommitResponse> {
        // Its handler asks for the topics.
        if !access.transactional_id(Operation::Write, &self.transactional_id) {
            Verdict::Refuse(reject::txn_offset_commit(self, ID_REFUSED))
        } else if !access.group(Operation::Read, &self.group_id) {
            Verdict::Refuse(reject::txn_offset_commit(self, ErrorCode::GroupAuthorizationFailed))
        } else {
            Verdict::Pass
        }
    }
}

impl Guarded for WriteTxnMarkersRequest {
    fn guard(&mut self, access: &Access<'_>) -> Verdict<WriteTxnMarkersResponse> {
        let may = access.may_see(Operation::Alter, corelane_acl::ResourceType::Cluster, corelane_acl::CLUSTER_NAME)
            || access.cluster(Operation::ClusterAction);
        Verdict::unless(may, || markers_refused(self))
    }
}

fn markers_refused(request: &WriteTxnMarkersRequest) -> WriteTxnMarkersResponse {
    use corelane_protocol::messages::{
        WriteTxnMarkersResponseWritableTxnMarkerPartitionResult, WriteTxnMarkersResponseWritableTxnMarkerResult,
        WriteTxnMarkersResponseWritableTxnMarkerTopicResult,
    };
    let partition = |index: &i32| WriteTxnMarkersResponseWritableTxnMarkerPartitionResult {
        partition_index: *index,
        error_code: ErrorCode::ClusterAuthorizationFailed.code(),
        ..Default::default()
    };
    let markers = request.markers.iter().map(|marker| WriteTxnMarkersResponseWritableTxnMarkerResult {
        producer_id: marker.producer_id,
        topics: marker
            .topics
            .iter()
            .map(|topic| WriteTxnMarkersResponseWritableTxnMarkerTopicResult {
                name: topic.name.clone(),
                partitions: topic.partition_indexes.iter().map(partition).collect(),
                ..Default::default()
            })
            .collect(),
        ..Default::default()
    });
    WriteTxnMarkersResponse { markers: markers.collect(), ..Default::default() }
}

impl Guarded for DescribeTransactionsRequest {
    fn guard(&mut self, access: &Access<'_>) -> Verdict<DescribeTransactionsResponse> {
        let asked = self.transactional_ids.clone();
        self.transactional_ids.retain(|id| access.transactional_id(Operation::Describe, id));
        Verdict::amend(move |access, answer: &mut DescribeTransactionsResponse| {
            // In the order in which they were asked for.
            let mut described = std::mem::take(&mut answer.transaction_states).into_iter().peekable();
            for id in asked {
                let state = described.next_if(|state| state.transactional_id == id);
                let mut state = state.unwrap_or_else(|| DescribeTransactionsResponseTransactionState {
                    error_code: ID_REFUSED.code(),
                    transactional_id: id,
                    ..Default::default()
                });
                state.topics.retain(|topic| access.topic(Operation::Describe, &topic.topic));
                answer.transaction_states.push(state);
            }
        })
    }
}

impl Guarded for ListTransactionsRequest {
    fn guard(&mut self, _: &Access<'_>) -> Verdict<ListTransactionsResponse> {
        Verdict::amend(|access, answer: &mut ListTransactionsResponse| {
            let shown = |id: &str| access.may_see(Operation::Describe, corelane_acl::ResourceType::TransactionalId, id);
            answer.transaction_states.retain(|state| shown(&state.transactional_id));
        })
    }
}

//! One file per Kafka API, and the one list of them. ApiVersions advertises this list and nothing else.

mod add_offsets_to_txn;
mod add_partitions_to_txn;
mod add_raft_voter;
mod alter_client_quotas;
mod alter_configs;
mod alter_partition_reassignments;
mod alter_replica_log_dirs;
mod alter_share_group_offsets;
mod alter_user_scram_credentials;
pub mod api_versions;
mod consumer_group_describe;
mod consumer_group_heartbeat;
mod create_acls;
mod create_delegation_token;
pub mod create_partitions;
pub mod create_topics;
mod delegation_tokens;
mod delete_acls;
mod delete_groups;
mod delete_records;
mod delete_share_group_offsets;
mod delete_share_group_state;
mod delete_topics;
mod describe_acls;
mod describe_client_quotas;
mod describe_cluster;
mod describe_configs;
mod describe_delegation_token;
mod describe_groups;
mod describe_log_dirs;
mod describe_producers;
mod describe_quorum;
mod describe_share_group_offsets;
mod describe_topic_partitions;
mod describe_transactions;
mod describe_user_scram_credentials;
mod elect_leaders;
mod end_txn;
mod expire_delegation_token;
mod fetch;
mod find_coordinator;
mod get_telemetry_subscriptions;
mod group_context;
mod heartbeat;
mod incremental_alter_configs;
mod init_producer_id;
mod initialize_share_group_state;
mod join_group;
mod leave_group;
mod list_config_resources;
mod list_groups;
mod list_offsets;
mod list_partition_reassignments;
mod list_transactions;
mod metadata;
mod offset_commit;
mod offset_delete;
mod offset_fetch;
mod offset_for_leader_epoch;
mod produce;
mod push_telemetry;
mod raft_voters;
mod read_share_group_state;
mod read_share_group_state_summary;
mod remove_raft_voter;
mod renew_delegation_token;
mod sasl_authenticate;
mod sasl_handshake;
mod share_acknowledge;
mod share_fetch;
mod share_group_describe;
mod share_group_heartbeat;
mod streams_group_describe;
mod streams_group_heartbeat;
mod sync_group;
mod txn_offset_commit;
mod unregister_broker;
mod update_features;
mod write_share_group_state;
mod write_txn_markers;

use std::rc::Rc;

use bytes::Bytes;
use core_pinning::budget::BudgetUnits;
use corelane_protocol::frame::{decode_request_header, encode_response};
use corelane_protocol::{ApiKey, Decoder, ErrorCode, Message, Str};

pub use self::alter_client_quotas::all_refused as all_quotas_refused;
pub use self::delete_topics::is_late as deletion_is_late;
pub use self::share_fetch::is_member as is_share_member;
use super::access::{Guarded, guarded};
use super::answer_memory::AnswerMemory;
use super::connection::{Accepted, Answer};
use super::pace::Pace;
use super::request::{Client, RequestContext};
use super::request_memory::Claim;
use crate::controller::Refused;
use crate::quota::Kind;
use crate::router::Metered;
use crate::shard::Shard;

/// The list: `ApiKey => module`. A module has `async fn handle(RequestContext, XRequest) -> XResponse`; `produce` is
/// the exception, because it answers in two stages.
macro_rules! apis {
    ($($api:ident => $module:ident,)*) => {
        /// Every API that is served, at the versions of the generated schemas.
        pub const SERVED: &[ApiKey] = &[ApiKey::Produce, $(ApiKey::$api),*];

        fn dispatch(context: RequestContext, call: Call, body: Body<'_>) -> Result<Accepted, &'static str> {
            match call.api {
                ApiKey::Produce => produce::accept(context, call, body),
                $(ApiKey::$api => {
                    let (request, decoded) = body.read(&context.shard, call.version)?;
                    if !Guarded::is_sound(&request) {
                        return Err(UNSOUND);
                    }
                    Ok(Accepted {
                        answer: Box::pin(async move {
                            let (shard, pace) = (context.shard.clone(), context.pace.clone());
                            reserve(&context, call.api, decoded).await;
                            let mut response = guarded(context, request, $module::handle).await;
                            if let Some(pace) = pace {
                                pace.answered(&shard, call.api, call.version, &mut response).await;
                            }
                            let answer = call.answer(&response);
                            shard.answer_memory.note(call.api, answer.size());
                            answer
                        }),
                        overlaps: false,
                    })
                })*
                _ => Err(NOT_SERVED),
            }
        }
    };
}

apis! {
    Fetch => fetch,
    ListOffsets => list_offsets,
    Metadata => metadata,
    OffsetCommit => offset_commit,
    OffsetFetch => offset_fetch,
    FindCoordinator => find_coordinator,
    JoinGroup => join_group,
    Heartbeat => heartbeat,
    LeaveGroup => leave_group,
    SyncGroup => sync_group,
    DescribeGroups => describe_groups,
    ListGroups => list_groups,
    SaslHandshake => sasl_handshake,
    ApiVersions => api_versions,
    CreateTopics => create_topics,
    DeleteTopics => delete_topics,
    DeleteRecords => delete_records,
    InitProducerId => init_producer_id,
    OffsetForLeaderEpoch => offset_for_leader_epoch,
    AddPartitionsToTxn => add_partitions_to_txn,
    AddOffsetsToTxn => add_offsets_to_txn,
    EndTxn => end_txn,
    WriteTxnMarkers => write_txn_markers,
    TxnOffsetCommit => txn_offset_commit,
    DescribeConfigs => describe_configs,
    AlterConfigs => alter_configs,
    AlterReplicaLogDirs => alter_replica_log_dirs,
    DescribeLogDirs => describe_log_dirs,
    SaslAuthenticate => sasl_authenticate,
    CreatePartitions => create_partitions,
    CreateDelegationToken => create_delegation_token,
    RenewDelegationToken => renew_delegation_token,
    ExpireDelegationToken => expire_delegation_token,
    DescribeDelegationToken => describe_delegation_token,
    DeleteGroups => delete_groups,
    DescribeAcls => describe_acls,
    CreateAcls => create_acls,
    DeleteAcls => delete_acls,
    ElectLeaders => elect_leaders,
    IncrementalAlterConfigs => incremental_alter_configs,
    AlterPartitionReassignments => alter_partition_reassignments,
    ListPartitionReassignments => list_partition_reassignments,
    OffsetDelete => offset_delete,
    DescribeUserScramCredentials => describe_user_scram_credentials,
    AlterUserScramCredentials => alter_user_scram_credentials,
    DescribeClientQuotas => describe_client_quotas,
    AlterClientQuotas => alter_client_quotas,
    DescribeQuorum => describe_quorum,
    UpdateFeatures => update_features,
    DescribeCluster => describe_cluster,
    DescribeProducers => describe_producers,
    DescribeTransactions => describe_transactions,
    ListTransactions => list_transactions,
    ConsumerGroupHeartbeat => consumer_group_heartbeat,
    ConsumerGroupDescribe => consumer_group_describe,
    GetTelemetrySubscriptions => get_telemetry_subscriptions,
    PushTelemetry => push_telemetry,
    ListConfigResources => list_config_resources,
    DescribeTopicPartitions => describe_topic_partitions,
    ShareFetch => share_fetch,
    ShareAcknowledge => share_acknowledge,
    StreamsGroupHeartbeat => streams_group_heartbeat,
    StreamsGroupDescribe => streams_group_describe,
    InitializeShareGroupState => initialize_share_group_state,
    ReadShareGroupState => read_share_group_state,
    WriteShareGroupState => write_share_group_state,
    DeleteShareGroupState => delete_share_group_state,
    ReadShareGroupStateSummary => read_share_group_state_summary,
    ShareGroupHeartbeat => share_group_heartbeat,
    ShareGroupDescribe => share_group_describe,
    DescribeShareGroupOffsets => describe_share_group_offsets,
    AlterShareGroupOffsets => alter_share_group_offsets,
    DeleteShareGroupOffsets => delete_share_group_offsets,
    UnregisterBroker => unregister_broker,
    AddRaftVoter => add_raft_voter,
    RemoveRaftVoter => remove_raft_voter,
}

/// What an answer must repeat of its request.
#[derive(Clone, Copy, Debug)]
struct Call {
    api: ApiKey,
    version: i16,
    correlation_id: i32,
}

impl Call {
    fn answer<M: Message>(self, response: &M) -> Answer {
        match encode_response(self.api, self.version, self.correlation_id, response) {
            Ok(slices) => Answer::Send(slices),
            Err(error) => {
                tracing::error!(api = self.api.name(), version = self.version, %error, "response does not encode");
                Answer::Close("response does not encode")
            }
        }
    }
}

const NOT_SERVED: &str = "API is not served";
const UNSOUND: &str = "request body does not parse";
const NO_MEMORY: &str = "no memory for what the request says";

/// Arrays of one request; bytes and strings are those of its frame.
const DECODED_MAX: usize = 16 << 20;
/// Arrays of a request that take no more do not count beside its frame.
const DECODED_SMALL: usize = 4 << 10;

/// A request that has not been decoded, and what it holds of the shard's memory.
struct Body<'a> {
    decoder: Decoder,
    memory: &'a mut Vec<BudgetUnits>,
}

impl Body<'_> {
    /// The request, and what its arrays take, which a few bytes may announce much of. Bytes after it are let pass, as Kafka does.
    fn read<M: Message>(mut self, shard: &Shard, version: i16) -> Result<(M, usize), &'static str> {
        let most = self.decoder.memory_left().min(DECODED_MAX);
        self.decoder.set_memory_limit(most);
        let request = M::decode(&mut self.decoder, version).map_err(|_| UNSOUND)?;
        let decoded = most - self.decoder.memory_left();
        if decoded > DECODED_SMALL {
            self.memory.push(shard.request_memory.try_take(Claim::of_whole(decoded)).ok_or(NO_MEMORY)?);
        }
        Ok((request, decoded))
    }
}

/// A fetch knows by itself what it needs. `decoded`: the answer has as much to say, or more.
async fn reserve(context: &RequestContext, api: ApiKey, decoded: usize) {
    let expected = context.shard.answer_memory.expected(api, decoded);
    if let Some(expected) = expected.filter(|_| !matches!(api, ApiKey::Fetch | ApiKey::ShareFetch)) {
        context.memory.reserve(expected).await;
    }
}

/// Starts a request. What has to happen in the order of the requests has happened when this returns.
/// `held`: what the request holds until it is answered.
pub fn accept(
    shard: &Rc<Shard>,
    client: &Rc<Client>,
    frame: Bytes,
    memory: AnswerMemory,
    held: &mut Vec<BudgetUnits>,
) -> Accepted {
    let size = frame.len();
    let mut decoder = Decoder::new(frame);
    let Ok((api, header)) = decode_request_header(&mut decoder) else {
        return close("request header does not parse");
    };
    let call = Call { api, version: header.request_api_version, correlation_id: header.correlation_id };
    client.set_id(header.client_id);
    if !SERVED.contains(&api) {
        return close(NOT_SERVED);
    }
    if !api.valid_versions().contains(&call.version) {
        return match api {
            ApiKey::ApiVersions => {
                client.set_software(None);
                let answer = Answer::Send(api_versions::unknown(call.correlation_id));
                Accepted { answer: Box::pin(std::future::ready(answer)), overlaps: false }
            }
            _ => close("API version is not served"),
        };
    }
    let pace = Pace::begin(shard, client, size);
    let metered = pace.as_ref().filter(|_| !shard.quotas.is_free(Kind::Request)).map(|pace| pace.work.clone());
    let (shard, client) = (shard.clone(), client.clone());
    let context = RequestContext { shard, client, api, version: call.version, size, memory, pace };
    let body = Body { decoder, memory: held };
    let Some(meter) = metered else { return dispatch(context, call, body).unwrap_or_else(close) };
    let Accepted { answer, overlaps } = meter.count(|| dispatch(context, call, body).unwrap_or_else(close));
    Accepted { answer: Box::pin(Metered::new(meter, answer)), overlaps }
}

fn close(reason: &'static str) -> Accepted {
    Accepted { answer: Box::pin(std::future::ready(Answer::Close(reason))), overlaps: false }
}

/// The error of an answer that is not there or is one.
fn error_of<T>(answer: Option<Result<T, ErrorCode>>) -> ErrorCode {
    answer.and_then(Result::err).unwrap_or(ErrorCode::UnknownServerError)
}

/// A change of metadata whose time is over before it begins: Kafka's controller then does nothing.
fn out_of_time() -> Refused {
    Refused::new(ErrorCode::RequestTimedOut, "The request has no time left.")
}

/// Access rules are for authorizers (Kafka: `AclApis`).
fn security_disabled() -> Refused {
    Refused::new(ErrorCode::SecurityDisabled, "No Authorizer is configured.")
}

/// Error code and message as responses carry them.
fn outcome_of(result: Result<(), Refused>) -> (i16, Option<Str>) {
    match result {
        Ok(()) => (0, None),
        Err(refused) => (refused.code.code(), Some(refused.message.into())),
    }
}

/// The same; of a quota that is used up Kafka says nothing more here.
fn outcome_unless_throttled(result: Result<(), Refused>) -> (i16, Option<Str>) {
    let (code, message) = outcome_of(result);
    (code, message.filter(|_| code != ErrorCode::ThrottlingQuotaExceeded.code()))
}

//! Two answers to one request: what differs, once that is set aside which has to differ.

use crate::batch;
use crate::value::show_tree;
use corelane_protocol::{ApiKey, Tree};
use std::collections::BTreeMap;
use std::ops::RangeInclusive;

/// One field that is not the same.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldDifference {
    pub path: String,
    pub kafka: String,
    pub corelane: String,
}

/// Names that each broker gives by itself: what one calls A the other may call B, but always B.
#[derive(Default)]
pub struct Identities {
    kafka: BTreeMap<(&'static str, String), String>,
    corelane: BTreeMap<(&'static str, String), String>,
}

impl Identities {
    fn same(&mut self, class: &'static str, kafka: &str, corelane: &str) -> bool {
        let (left, right) = ((class, kafka.to_owned()), (class, corelane.to_owned()));
        match (self.kafka.get(&left), self.corelane.get(&right)) {
            (None, None) => {
                self.kafka.insert(left, corelane.to_owned());
                self.corelane.insert(right, kafka.to_owned());
                true
            }
            (Some(known), _) => known == corelane,
            (None, Some(_)) => false,
        }
    }
}

/// How a field is compared.
enum Rule {
    Equal,
    /// By [`Identities`], under this name; values below the number (or empty, or zero) mean themselves.
    Identity(&'static str, i64),
    /// A wording: there or not there.
    Wording,
    /// Bytes on a disk, random bytes, and counts of what a broker does by itself: some or none.
    Size,
    /// Equal, or both taken from the clock during the run.
    Clock,
}

fn rule(api: ApiKey, field: &str) -> Rule {
    use ApiKey::{
        DescribeGroups, DescribeLogDirs, DescribeQuorum, DescribeShareGroupOffsets, Fetch, JoinGroup, LeaveGroup,
        Produce, ReadShareGroupStateSummary, ShareAcknowledge, ShareFetch, ShareGroupDescribe,
    };
    match (api, field) {
        (_, "topic_id") => Rule::Identity("topic", 0),
        (_, "member_id") => Rule::Identity("member", 0),
        (JoinGroup, "leader") => Rule::Identity("member", 0),
        (_, "producer_id") => Rule::Identity("producer", 0),
        (_, "client_instance_id") => Rule::Identity("client instance", 0),
        // a checksum of the metrics in the order of a hash table
        (ApiKey::GetTelemetrySubscriptions, "subscription_id") => Rule::Identity("subscription", i64::MIN),
        (_, "cluster_id") => Rule::Identity("cluster", 0),
        (_, "session_id") => Rule::Identity("session", 1),
        // a controller on a busy machine may be elected again
        (DescribeQuorum, "leader_epoch") => Rule::Size,
        // what share groups are told of a partition that nobody asked the leader of, and what they have stored
        (ReadShareGroupStateSummary | DescribeShareGroupOffsets | ShareAcknowledge | ShareFetch, "leader_epoch") => {
            Rule::Equal
        }
        (_, "leader_epoch" | "current_leader_epoch") => Rule::Identity("leader epoch", 0),
        (DescribeGroups | LeaveGroup | ShareGroupDescribe, "client_host") => Rule::Identity("client host", 0),
        // of a rule, not of a broker
        (ApiKey::DescribeAcls | ApiKey::DeleteAcls, "host") => Rule::Equal,
        (_, "host") => Rule::Identity("host", 0),
        (_, "port") => Rule::Identity("port", 0),
        (DescribeLogDirs, "log_dir") => Rule::Identity("log dir", 0),
        (DescribeLogDirs, "partition_size" | "total_bytes" | "usable_bytes") => Rule::Size,
        // What people are told who do not get in; and tokens with random numbers in them.
        (ApiKey::SaslAuthenticate, "error_message") => Rule::Equal,
        (ApiKey::SaslAuthenticate, "auth_bytes") => Rule::Size,
        (_, "error_message" | "acknowledge_error_message" | "documentation") => Rule::Wording,
        // the rest of a wait that has begun
        (ApiKey::CreateTopics | ApiKey::CreatePartitions | ApiKey::DeleteTopics, "throttle_time_ms") => Rule::Size,
        (Produce, "batch_index_error_message") => Rule::Wording,
        (Fetch | ShareFetch | Produce, "base_timestamp" | "max_timestamp" | "log_append_time_ms") => Rule::Clock,
        (_, "timestamp" | "last_timestamp" | "transaction_start_time_ms") => Rule::Clock,
        (DescribeQuorum, "high_watermark" | "log_end_offset") => Rule::Size,
        (_, "last_fetch_timestamp" | "last_caught_up_timestamp") => Rule::Clock,
        // it grows with every change, as each broker counts them
        (_, "finalized_features_epoch") => Rule::Size,
        (_, "coordinator_epoch") => Rule::Identity("coordinator epoch", 0),
        _ => Rule::Equal,
    }
}

/// Lists in which Kafka gives no order (they come out of hash maps and sets), and what names an element. In Fetch and the
/// classic groups the order is that of its work, and clients read no meaning in it.
fn key(api: ApiKey, list: &str) -> Option<&'static [&'static str]> {
    use ApiKey::{
        AddPartitionsToTxn, AlterConfigs, AlterReplicaLogDirs, ApiVersions, CreatePartitions, CreateTopics,
        DeleteGroups, DeleteRecords, DeleteTopics, DescribeConfigs, DescribeGroups, DescribeLogDirs, DescribeProducers,
        DescribeTopicPartitions, DescribeTransactions, ElectLeaders, Fetch, IncrementalAlterConfigs, JoinGroup,
        ListConfigResources, ListGroups, ListOffsets, ListTransactions, Metadata, OffsetDelete, OffsetFetch, Produce,
        TxnOffsetCommit, UpdateFeatures, WriteTxnMarkers,
    };
    Some(match (api, list) {
        (ApiKey::DescribeAcls, "resources") => &["resource_type", "pattern_type", "resource_name"],
        (ApiKey::DescribeAcls, "acls") => &["principal", "host", "operation", "permission_type"],
        (ApiKey::DeleteAcls, "matching_acls") => {
            &["resource_type", "pattern_type", "resource_name", "principal", "host", "operation", "permission_type"]
        }
        (ApiKey::DescribeUserScramCredentials | ApiKey::AlterUserScramCredentials, "results") => &["user"],
        (ApiKey::DescribeUserScramCredentials, "credential_infos") => &["mechanism"],
        (ApiKey::AlterClientQuotas | ApiKey::DescribeClientQuotas, "entries") => &["entity"],
        (ApiKey::AlterClientQuotas | ApiKey::DescribeClientQuotas, "entity") => &["entity_type"],
        (ApiKey::DescribeClientQuotas, "values") => &["key"],
        (Metadata, "topics") => &["name"],
        (ApiKey::StreamsGroupHeartbeat, "active_partitions" | "standby_partitions") => &["topic"],
        (
            ApiKey::StreamsGroupHeartbeat | ApiKey::StreamsGroupDescribe,
            "active_tasks" | "standby_tasks" | "warmup_tasks",
        ) => &["subtopology_id"],
        (Metadata | DescribeTopicPartitions, "partitions") => &["partition_index"],
        (DescribeConfigs | CreateTopics, "configs") => &["name"],
        (DescribeConfigs, "results") => &["resource_type", "resource_name"],
        (AlterConfigs | IncrementalAlterConfigs, "responses") => &["resource_type", "resource_name"],
        (ListConfigResources, "config_resources") => &["resource_type", "resource_name"],
        (ListGroups | DescribeGroups, "groups") => &["group_id"],
        (DescribeGroups | JoinGroup | ApiKey::ConsumerGroupDescribe, "members") => &["member_id"],
        (ApiVersions, "api_keys") => &["api_key"],
        (ApiVersions, "supported_features" | "finalized_features") => &["name"],
        // From version 10 on by their ids.
        (OffsetFetch, "topics") => &["name", "topic_id"],
        (CreateTopics | OffsetDelete | DeleteRecords | ListOffsets | DescribeLogDirs | TxnOffsetCommit, "topics") => {
            &["name"]
        }
        (CreatePartitions, "results") => &["name"],
        (AlterReplicaLogDirs, "results") => &["topic_name"],
        (UpdateFeatures, "results") => &["feature"],
        (ElectLeaders, "replica_election_results") => &["topic"],
        (ElectLeaders, "partition_result") => &["partition_id"],
        (DeleteTopics, "responses") => &["name", "topic_id"],
        (
            AlterReplicaLogDirs | DescribeLogDirs | OffsetFetch | OffsetDelete | DeleteRecords | ListOffsets
            | TxnOffsetCommit,
            "partitions",
        ) => &["partition_index"],
        (AddPartitionsToTxn, "results_by_topic_v3_and_below" | "topic_results") => &["name"],
        (AddPartitionsToTxn, "results_by_partition") => &["partition_index"],
        (DescribeTransactions, "topics") => &["topic"],
        (ApiKey::ConsumerGroupDescribe | ApiKey::StreamsGroupDescribe, "groups") => &["group_id"],
        (WriteTxnMarkers, "topics") => &["name"],
        (WriteTxnMarkers, "partitions") => &["partition_index"],
        (DeleteGroups, "results") => &["group_id"],
        (AddPartitionsToTxn, "results_by_transaction") => &["transactional_id"],
        (DescribeProducers, "active_producers") => &["producer_id"],
        (ListTransactions, "transaction_states") => &["transactional_id"],
        (Produce | Fetch, "responses") => &["name", "topic", "topic_id"],
        (Produce, "partition_responses") => &["index"],
        (Fetch, "partitions") => &["partition_index"],
        (ApiKey::ShareGroupDescribe | ApiKey::DescribeShareGroupOffsets, "groups") => &["group_id"],
        (ApiKey::ShareFetch, "responses") => &["topic_id"],
        (ApiKey::ShareFetch, "partitions") => &["partition_index"],
        (ApiKey::ShareGroupDescribe, "members") => &["member_id"],
        (ApiKey::ShareGroupDescribe | ApiKey::ShareGroupHeartbeat, "topic_partitions") => &["topic_id"],
        (ApiKey::DescribeShareGroupOffsets, "topics") => &["topic_name"],
        (ApiKey::AlterShareGroupOffsets | ApiKey::DeleteShareGroupOffsets, "responses") => &["topic_name"],
        (ApiKey::AlterShareGroupOffsets | ApiKey::DescribeShareGroupOffsets, "partitions") => &["partition_index"],
        (
            ApiKey::InitializeShareGroupState
            | ApiKey::ReadShareGroupState
            | ApiKey::WriteShareGroupState
            | ApiKey::DeleteShareGroupState
            | ApiKey::ReadShareGroupStateSummary,
            "partitions",
        ) => &["partition"],
        (
            ApiKey::InitializeShareGroupState
            | ApiKey::ReadShareGroupState
            | ApiKey::WriteShareGroupState
            | ApiKey::DeleteShareGroupState
            | ApiKey::ReadShareGroupStateSummary,
            "results",
        ) => &["topic_id"],
        _ => return None,
    })
}

/// Lists of plain values in which Kafka gives no order.
fn is_set(api: ApiKey, list: &str) -> bool {
    matches!(
        (api, list),
        (ApiKey::DescribeTransactions, "partitions")
            | (ApiKey::ConsumerGroupDescribe, "subscribed_topic_names")
            | (ApiKey::GetTelemetrySubscriptions, "requested_metrics")
            | (ApiKey::ListTransactions, "unknown_state_filters")
            | (ApiKey::SaslHandshake, "mechanisms")
    )
}

/// Of the aborted transactions in Kafka's answer those that begin before Corelane's records end: an answer may end after any
/// batch.
fn of_what_was_read(aborted: &Tree, corelane: &Tree) -> Option<Tree> {
    let (Tree::List(aborted), Tree::Bytes(records)) = (aborted, corelane.field("records")?) else { return None };
    let Tree::List(batches) = batch::show(records) else { return None };
    let number = |tree: &Tree, field| match tree.field(field) {
        Some(Tree::Int(n)) => Some(*n),
        _ => None,
    };
    let last = batches.last()?;
    let end = number(last, "base_offset")? + number(last, "last_offset_delta")?;
    let begun = aborted.iter().filter(|one| number(one, "first_offset").is_some_and(|first| first <= end));
    Some(Tree::List(begun.cloned().collect()))
}

/// What share groups have stored of offsets, without the limits between neighbours that look alike: Apache Kafka writes down by
/// itself each batch whose lock has run out, which leaves limits that one write for all of them does not
/// (PersisterStateBatchCombiner.java).
fn joined(batches: &Tree) -> Option<Tree> {
    let Tree::List(batches) = batches else { return None };
    let mut joined: Vec<Tree> = Vec::new();
    for batch in batches {
        let Tree::Struct(fields) = batch else { return None };
        let first = match batch.field("first_offset") {
            Some(Tree::Int(first)) => *first,
            _ => return None,
        };
        let goes_on = joined.last().is_some_and(|before| {
            let same = |field| before.field(field) == batch.field(field);
            before.field("last_offset") == Some(&Tree::Int(first - 1))
                && same("delivery_state")
                && same("delivery_count")
        });
        match joined.last_mut() {
            Some(Tree::Struct(before)) if goes_on => {
                let last = fields.iter().find(|(name, _)| name == "last_offset");
                if let (Some((_, end)), Some((_, last))) =
                    (before.iter_mut().find(|(name, _)| name == "last_offset"), last)
                {
                    *end = last.clone();
                }
            }
            _ => joined.push(batch.clone()),
        }
    }
    Some(Tree::List(joined))
}

/// Elements of a list without an order.
fn sorted(list: &[Tree]) -> Vec<String> {
    let mut shown: Vec<String> = list.iter().map(show_tree).collect();
    shown.sort();
    shown
}

pub struct Comparison<'a> {
    pub api: ApiKey,
    pub identities: &'a mut Identities,
    /// Milliseconds since 1970 that count as "now".
    pub now: RangeInclusive<i64>,
    pub found: Vec<FieldDifference>,
}

impl Comparison<'_> {
    fn differ(&mut self, path: &str, kafka: &str, corelane: &str) {
        let path = path.trim_start_matches('.').to_owned();
        self.found.push(FieldDifference { path, kafka: kafka.to_owned(), corelane: corelane.to_owned() });
    }

    /// `path` is where the two values stand, `field` the name of the innermost field.
    pub fn values(&mut self, path: &str, field: &str, kafka: &Tree, corelane: &Tree) {
        match (kafka, corelane) {
            (Tree::Struct(left), Tree::Struct(_)) => {
                for (name, value) in left {
                    let other = corelane.field(name).unwrap_or(&Tree::Null);
                    let (left, right) = match &name[..] {
                        "aborted_transactions" => (of_what_was_read(value, corelane), None),
                        "state_batches" => (joined(value), joined(other)),
                        _ => (None, None),
                    };
                    let (left, right) = (left.as_ref().unwrap_or(value), right.as_ref().unwrap_or(other));
                    self.values(&format!("{path}.{name}"), name, left, right);
                }
                if let (None, Some(more)) =
                    (kafka.field("unknown_tagged_fields"), corelane.field("unknown_tagged_fields"))
                {
                    self.differ(&format!("{path}.unknown_tagged_fields"), "absent", &show_tree(more));
                }
            }
            (Tree::List(left), Tree::List(right)) => match key(self.api, field) {
                Some(key) => {
                    let (left, right) = (self.named(left, key, true), self.named(right, key, false));
                    self.by_name(path, field, &left, &right);
                }
                None if is_set(self.api, field) => {
                    let [left, right] = [left, right].map(|list| sorted(list));
                    if left != right {
                        self.differ(path, &format!("{left:?}"), &format!("{right:?}"));
                    }
                }
                None => {
                    // An answer may end after any batch: what comes at once depends on what is in memory, and Kafka cuts the
                    // last one where the limit is. The first must be there.
                    let batches = field == "batches" && !left.is_empty() && !right.is_empty();
                    let count = if batches { left.len().min(right.len()) } else { left.len().max(right.len()) };
                    for i in 0..count {
                        self.elements(&format!("{path}[{i}]"), field, left.get(i), right.get(i));
                    }
                }
            },
            (Tree::Bytes(left), Tree::Bytes(right))
                if matches!(self.api, ApiKey::Fetch | ApiKey::ShareFetch) && field == "records" =>
            {
                self.values(path, "batches", &batch::show(left), &batch::show(right));
            }
            _ => self.leaves(path, field, kafka, corelane),
        }
    }

    /// Elements by name; the second of a name is told apart by its place. What each broker names by itself is called as
    /// Corelane calls it.
    fn named<'t>(&self, list: &'t [Tree], key: &[&str], of_kafka: bool) -> BTreeMap<String, &'t Tree> {
        let mut out = BTreeMap::new();
        for element in list {
            let part = |field: &&str| {
                let value = element.field(field)?;
                let shown = match value {
                    // a quota's entity
                    Tree::List(list) => format!("[{}]", sorted(list).join(", ")),
                    other => show_tree(other),
                };
                let known = match rule(self.api, field) {
                    Rule::Identity(class, _) if of_kafka => self.identities.kafka.get(&(class, shown.clone())),
                    _ => None,
                };
                Some(known.cloned().unwrap_or(shown).trim_matches('"').to_owned())
            };
            let name = key.iter().filter_map(part).filter(|part| !part.is_empty()).collect::<Vec<_>>().join(",");
            let again = (2..).map(|n| format!("{name}#{n}")).find(|n| !out.contains_key(n));
            let name = if out.contains_key(&name) { again.unwrap_or_default() } else { name };
            out.insert(name, element);
        }
        out
    }

    fn by_name(&mut self, path: &str, field: &str, left: &BTreeMap<String, &Tree>, right: &BTreeMap<String, &Tree>) {
        let names: std::collections::BTreeSet<&String> = left.keys().chain(right.keys()).collect();
        for name in names {
            self.elements(&format!("{path}[{name}]"), field, left.get(name).copied(), right.get(name).copied());
        }
    }

    fn elements(&mut self, path: &str, field: &str, left: Option<&Tree>, right: Option<&Tree>) {
        match (left, right) {
            (Some(left), Some(right)) => self.values(path, field, left, right),
            (left, right) => {
                let shown = |tree: Option<&Tree>| tree.map_or("absent".into(), show_tree);
                self.differ(path, &shown(left), &shown(right));
            }
        }
    }

    fn leaves(&mut self, path: &str, field: &str, kafka: &Tree, corelane: &Tree) {
        let same = kafka == corelane
            || match rule(self.api, field) {
                Rule::Equal => false,
                Rule::Wording => matches!((kafka, corelane), (Tree::Text(_), Tree::Text(_))),
                Rule::Size => match (kafka, corelane) {
                    (Tree::Bytes(kafka), Tree::Bytes(corelane)) => kafka.is_empty() == corelane.is_empty(),
                    both => matches!(both, (Tree::Int(1..), Tree::Int(1..))),
                },
                Rule::Clock => match (kafka, corelane) {
                    (Tree::Int(left), Tree::Int(right)) => self.now.contains(left) && self.now.contains(right),
                    _ => false,
                },
                Rule::Identity(..) => false,
            };
        let same = match rule(self.api, field) {
            Rule::Identity(class, from) => {
                let own = |tree: &Tree| match tree {
                    Tree::Int(n) => *n >= from,
                    Tree::Text(text) => !text.is_empty(),
                    Tree::Uuid(id) => !id.is_zero(),
                    _ => false,
                };
                // (a producer's id may also be a client's invention)
                if class == "producer" && kafka == corelane {
                    true
                } else if own(kafka) && own(corelane) {
                    self.identities.same(class, &show_tree(kafka), &show_tree(corelane))
                } else {
                    kafka == corelane
                }
            }
            _ => same,
        };
        if !same {
            self.differ(path, &show_tree(kafka), &show_tree(corelane));
        }
    }
}

//! Seeded random requests: those of the scripts on topics and groups of their own, as they are, changed field by field and with
//! fields that no script has.
//! What comes out is a script again, so that it can be run again and made smaller by hand.

use crate::script::{Action, Script, Step};
use crate::shape;
use crate::value::{Expr, show};
use crate::written::Written;
use corelane_protocol::{ApiKey, Tree};
use std::collections::{BTreeMap, BTreeSet};

/// Numbers that fit any field.
const SMALL_NUMBERS: [i64; 11] = [-3, -2, -1, 0, 1, 2, 3, 5, 7, 100, 127];
const BIG_NUMBERS: [i64; 5] = [1000, 32_767, i32::MAX as i64, i64::MAX, i64::MIN];
const TEXTS: [&str; 7] = ["", "a b", "..", "nobody", "retention.ms", "é", "1"];

/// Fields that are there where a script has them: Apache Kafka never answers a Produce without records, resolves a group's regular
/// expression at some time of its own, and makes internal topics then, too.
const NOT_ADDED: [&str; 4] =
    ["records", "subscribed_topic_regex", "state_changelog_topics", "repartition_source_topics"];

/// The coordinators of transactions and of share groups stand.
const READY: [&str; 4] = [
    r#"FindCoordinator 3 {key="warm", key_type=1} :: error_code = 0"#,
    r#"InitProducerId 4 {transactional_id="warm", transaction_timeout_ms=60000} :: error_code = 0"#,
    r#"FindCoordinator 6 {key_type=2, coordinator_keys=["warm:AAAAAAAAAAAAAAAAAAAAAQ:0"]} :: coordinators[0].error_code = 0"#,
    r#"ReadShareGroupStateSummary 1 {group_id="warm", topics=[{topic_id=id("TOPIC"), partitions=[{partition=0}]}]} :: results[0].partitions[0].error_code = 0"#,
];

/// A request of a script, without what was around it.
struct Template {
    api: ApiKey,
    body: Expr,
}

pub struct Generator {
    templates: Vec<Template>,
    /// The APIs that scripts ask, with what there may be in a request.
    shapes: BTreeMap<ApiKey, Expr>,
    /// Topics that the scripts make; each stands for one of this script's own.
    topics: BTreeSet<String>,
}

struct Series<'a> {
    out: Written,
    seed: u64,
    topics: &'a BTreeSet<String>,
    fresh: u32,
    /// Groups and members whose share sessions there may be, in the order of their connections.
    members: Vec<[Option<String>; 2]>,
    /// Who may be in a group, and is heard of no more when the series is over.
    joined: BTreeSet<String>,
}

fn collect(steps: &[Step], out: &mut Vec<Template>) {
    for step in steps {
        match &step.action {
            Action::Send { api, body, .. } => out.push(Template { api: *api, body: body.clone() }),
            Action::Each { steps, .. } => collect(steps, out),
            _ => {}
        }
    }
}

fn field<'a>(expr: &'a Expr, name: &str) -> Option<&'a Expr> {
    let Expr::Struct(fields) = expr else { return None };
    fields.iter().find(|(n, _)| n == name).map(|(_, value)| value)
}

impl Generator {
    pub fn new(scripts: &[Script]) -> Generator {
        let mut templates = Vec::new();
        scripts.iter().flat_map(|s| &s.sections).for_each(|s| collect(&s.steps, &mut templates));
        let shapes = templates.iter().map(|t| t.api).collect::<BTreeSet<ApiKey>>();
        let shapes = shapes.into_iter().map(|api| (api, shape::of(api))).collect();
        let made = templates.iter().filter(|t| t.api == ApiKey::CreateTopics);
        let named =
            made.filter_map(|t| if let Some(Expr::List(list)) = field(&t.body, "topics") { Some(list) } else { None });
        let names = named
            .flatten()
            .filter_map(|t| if let Some(Expr::Text(name)) = field(t, "name") { Some(name) } else { None });
        let topics = names.filter(|n| is_plain(n)).cloned().collect();
        Generator { templates, shapes, topics }
    }

    /// `count` requests, the same for the same seed (and the same scripts).
    pub fn script(&self, seed: u64, count: usize) -> (Script, String) {
        let out = Written::new("random", seed);
        let mut series =
            Series { out, seed, topics: &self.topics, fresh: 0, members: Vec::new(), joined: BTreeSet::new() };
        let topics: Vec<String> = ["a", "b", "c", "victim", "conf", "trim", "silent"]
            .iter()
            .map(|name| format!(r#"{{name="r{seed}-{name}", num_partitions=3, replication_factor=1}}"#))
            .collect();
        series.out.line(format!("CreateTopics 7 {{topics=[{}], timeout_ms=10000}}", topics.join(", ")));
        for ready in READY {
            series.out.line(format!("until {}", ready.replace("TOPIC", &format!("r{seed}-a"))));
        }
        for topic in ["a", "b", "trim"] {
            series.out.line(format!(
                "Produce 12 {{acks=-1, timeout_ms=5000, topic_data=[{{name=\"r{seed}-{topic}\", partition_data=[{{index=0, records=batch{{count=7}}}}, {{index=1, records=batch{{count=2}}}}]}}]}}"
            ));
        }
        // With the last user of a mechanism Kafka may lose another (accepted.txt): these stay.
        for code in [1, 2] {
            series.out.line(format!(r#"AlterUserScramCredentials last {{deletions=[], upsertions=[{{name="scram-kept", mechanism={code}, iterations=4096, salt=x"00", salted_password=x"00"}}]}}"#));
        }
        for group in ["group0", "group1"] {
            series.out.line(at_once(&format!("r{seed}-{group}")));
        }
        for _ in 0..count {
            let template = self.template(&mut series.out);
            let mut body = series.own(template.api, None, &template.body);
            for _ in 0..series.out.below(4) {
                series.change(&mut body, self.shapes.get(&template.api));
            }
            let version = series.out.below(20);
            let mut body = own_names(seed, template.api, bounded(template.api, body));
            if template.api == ApiKey::JoinGroup || refuses_offsets(&body) {
                body = in_group(&series.fresh("join"), body);
            }
            if template.api == ApiKey::ShareFetch {
                series.load(&body);
            }
            series.joins(template.api, &body);
            let on = series.connection(template.api, &body);
            series.out.line(format!("{on}{} ~{version} {}", template.api.name(), show(&body)));
        }
        for leave in std::mem::take(&mut series.joined) {
            series.out.line(leave);
        }
        series.out.done(&format!("random-{seed}.txt"))
    }

    /// One of all, or of those of one API: some have few.
    fn template(&self, out: &mut Written) -> &Template {
        let api = if out.one_in(2) { self.shapes.keys().nth(out.below(self.shapes.len())) } else { None };
        let of_api: Vec<&Template> = self.templates.iter().filter(|t| api.is_none_or(|api| t.api == *api)).collect();
        of_api[out.below(of_api.len())]
    }
}

/// A group's members are given what is theirs at once: what either broker puts off, it does at some time of its own.
fn at_once(group: &str) -> String {
    let properties = [
        "consumer.assignment.interval.ms",
        "share.assignment.interval.ms",
        "streams.assignment.interval.ms",
        "streams.initial.rebalance.delay.ms",
    ];
    let set = properties.map(|name| format!(r#"{{name="{name}", config_operation=0, value="0"}}"#)).join(", ");
    format!(
        r#"IncrementalAlterConfigs last {{resources=[{{resource_type=32, resource_name="{group}", configs=[{set}]}}]}}"#
    )
}

/// A valid name without a part that depends on the version.
fn is_plain(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') && !name.starts_with("__")
}

/// No request waits long, and none is answered by nobody.
fn bounded(api: ApiKey, body: Expr) -> Expr {
    let Expr::Struct(mut fields) = body else { return body };
    // What the whole cluster has is that of all series: these are told what would be.
    let of_broker = |resource: &Expr| matches!(field(resource, "resource_type"), Some(Expr::Literal(Tree::Int(4))));
    let resources = fields.iter().find(|(name, _)| name == "resources");
    let of_cluster = match resources.map(|(_, value)| value) {
        Some(Expr::List(list)) => list.iter().any(of_broker),
        _ => matches!(api, ApiKey::UpdateFeatures | ApiKey::AlterClientQuotas),
    };
    let alters = matches!(
        api,
        ApiKey::UpdateFeatures | ApiKey::AlterClientQuotas | ApiKey::AlterConfigs | ApiKey::IncrementalAlterConfigs
    );
    if of_cluster && alters {
        fields.retain(|(name, _)| name != "validate_only");
        fields.push(("validate_only".to_owned(), Expr::Literal(Tree::Bool(true))));
    }
    let epoch = fields.iter().find(|(name, _)| name == "member_epoch").map(|(_, value)| value);
    let joins = matches!(epoch, None | Some(Expr::Literal(Tree::Int(0))));
    let keep = |(name, value): (String, Expr)| {
        let value = match (api, name.as_str()) {
            // of a partition that is named twice no session begins in Apache Kafka (`SharePartitionManager.newContext`)
            (ApiKey::ShareFetch, "topics") => each_field(once(value, "topic_id"), &|name, value| match name {
                "partitions" => once(value, "partition_index"),
                _ => value,
            }),
            // ranges that hold nothing, and some that begin before what was fetched (`SharePartition.createBatches`)
            (ApiKey::ShareFetch, "batch_size") => at_least(1, value),
            (ApiKey::Fetch, "max_wait_ms") => Expr::Literal(Tree::Int(20)),
            // long enough to read what the group has stored
            (ApiKey::ShareFetch, "max_wait_ms") => Expr::Literal(Tree::Int(300)),
            // of two members the order of Apache Kafka's hash tables decides who has what
            // (`ProcessState.membersByLoad`, of a streams group's)
            (ApiKey::ShareGroupHeartbeat | ApiKey::StreamsGroupHeartbeat, "member_id") if joins => the_first(value),
            (ApiKey::ConsumerGroupHeartbeat, "member_id") if joins => Expr::Text("m".into()),
            // a limit that is set runs out now and then, in either broker
            (_, "timeout_ms") => Expr::Literal(Tree::Int(30_000)),
            (ApiKey::JoinGroup, "session_timeout_ms" | "rebalance_timeout_ms") => Expr::Literal(Tree::Int(1_800_000)),
            // small numbers may be those of sessions
            (ApiKey::Fetch, "session_id") => match value {
                Expr::Literal(Tree::Int(0)) => value,
                _ => Expr::Literal(Tree::Int(1_999_999_937)),
            },
            // what takes longer than a short while is not the same in both
            (ApiKey::ListTransactions, "duration_filter") => match value {
                Expr::Literal(Tree::Int(1..1_000_000_000)) => Expr::Literal(Tree::Int(1_000_000_000)),
                _ => value,
            },
            // nobody is late with what it is to give up
            (ApiKey::ConsumerGroupHeartbeat | ApiKey::StreamsGroupHeartbeat, "rebalance_timeout_ms") => match value {
                Expr::Literal(Tree::Int(1..60_000)) => Expr::Literal(Tree::Int(60_000)),
                _ => value,
            },
            // a number that is given is a producer of one of the two only
            (ApiKey::ListTransactions, "producer_id_filters") => replaced(value, i64::from(i32::MAX)),
            // and so is an epoch of one of the two only
            (ApiKey::OffsetForLeaderEpoch, "topics") => led_by_none(value, 101),
            (ApiKey::Fetch | ApiKey::ListOffsets, "topics") => each_field(value, &|name, value| match (name, &value) {
                ("current_leader_epoch" | "last_fetched_epoch", Expr::Literal(Tree::Int(0..=100))) => {
                    Expr::Literal(Tree::Int(-1))
                }
                _ => value,
            }),
            // what leaders know of is in either 0 or 1
            (ApiKey::ReadShareGroupState, "topics") => led_by_none(value, 2),
            (ApiKey::WriteShareGroupState, "topics") => led_by_none(begun(value), 2),
            (ApiKey::InitializeShareGroupState | ApiKey::AlterShareGroupOffsets, "topics") => begun(value),
            // Apache Kafka never answers a member that names a protocol twice
            (ApiKey::JoinGroup, "protocols") => once(
                each_field(value, &|name, value| match (name, value) {
                    // (see `concat` below)
                    ("metadata", Expr::Text(text)) if text.len() > 5 => Expr::Text("x".into()),
                    ("metadata", Expr::Literal(Tree::Bytes(bytes))) if reads_too_far(&bytes) => Expr::Text("x".into()),
                    (_, value) => value,
                }),
                "name",
            ),
            // of a partition that is written twice Apache Kafka loses the first batch (KafkaApis.handleProduceRequest has a map)
            (ApiKey::Produce, "topic_data") => {
                each_field(once(once(value, "name"), "topic_id"), &|name, value| match name {
                    "partition_data" => once(value, "index"),
                    "pid" => unknown_producer(value),
                    _ => value,
                })
            }
            // Tiered storage is refused here with a reason: what is made in one of the two only is another difference in all that
            // follows. Apache Kafka's sum overflows (ReplicationControlManager.validateTotalNumberOfPartitions)
            (ApiKey::CreateTopics, "topics") => {
                each_field(without_config(value, "local.retention.ms"), &|name, value| match (name, &value) {
                    // Apache Kafka makes a thousand in many seconds
                    ("num_partitions", Expr::Literal(Tree::Int(101..10_000))) => Expr::Literal(Tree::Int(100)),
                    ("num_partitions", Expr::Literal(Tree::Int(20_000..))) => Expr::Literal(Tree::Int(20_000)),
                    _ => value,
                })
            }
            (_, "producer_id" | "v3_and_below_producer_id") => unknown_producer(value),
            (ApiKey::AddPartitionsToTxn, "transactions") | (ApiKey::WriteTxnMarkers, "markers") => {
                let value = if api == ApiKey::WriteTxnMarkers { given(value, "coordinator_epoch", 3) } else { value };
                each_field(value, &|name, value| match name {
                    // (an id below zero is refused here, and written there)
                    "producer_id" if api == ApiKey::WriteTxnMarkers => unknown_producer(at_least(0, value)),
                    "producer_id" => unknown_producer(value),
                    // Apache Kafka stops at such a marker, when those before it are written
                    "producer_epoch" if api == ApiKey::WriteTxnMarkers => at_least(0, value),
                    // the first coordinator's is 0 there, and 1 here
                    "coordinator_epoch" => match value {
                        Expr::Literal(Tree::Int(0..=2)) => Expr::Literal(Tree::Int(3)),
                        _ => value,
                    },
                    _ => value,
                })
            }
            // it stands still after more than it makes at once (topics.txt)
            (ApiKey::CreatePartitions, "topics") => each_field(value, &|name, value| match (name, &value) {
                ("count", Expr::Literal(Tree::Int(101..))) => Expr::Literal(Tree::Int(100)),
                _ => value,
            }),
            // for a code that only filters have Apache Kafka makes none of the others either
            (ApiKey::CreateAcls, "creations") => match value {
                Expr::List(mut list) if list.len() > 1 => {
                    list.retain(|one| !is_filter(one));
                    Expr::List(list)
                }
                other => other,
            },
            // a resource named twice is never answered by Apache Kafka (AlterConfigsResponse.errors), and all types that there are not
            // are one to it
            (ApiKey::AlterConfigs, "resources") => match value {
                Expr::List(mut list) => {
                    let mut seen = BTreeSet::new();
                    list.retain(|one| {
                        let kind = match field(one, "resource_type") {
                            Some(Expr::Literal(Tree::Int(kind @ (2 | 4 | 8 | 16 | 32)))) => *kind,
                            _ => 0,
                        };
                        seen.insert((kind, field(one, "resource_name").map_or("\"\"".to_owned(), show)))
                    });
                    Expr::List(list)
                }
                other => other,
            },
            _ => value,
        };
        (name, value)
    };
    Expr::Struct(fields.into_iter().map(keep).collect())
}

/// Whether a rule has a code that stands for many; what is missing is an unknown one.
fn is_filter(rule: &Expr) -> bool {
    let code = |name, codes: &[i64]| match field(rule, name) {
        Some(Expr::Literal(Tree::Int(code))) => codes.contains(code),
        _ => false,
    };
    code("resource_type", &[1])
        || code("resource_pattern_type", &[1, 2])
        || code("operation", &[1])
        || code("permission_type", &[1])
}

/// Whether one of a subscription's topics says that it is longer than what is left.
fn reads_too_far(subscription: &[u8]) -> bool {
    let Some((count, mut rest)) = subscription.get(2..).and_then(|after| after.split_first_chunk()) else {
        return false;
    };
    for _ in 0..i32::from_be_bytes(*count) {
        let Some((length, topic)) = rest.split_first_chunk() else { return false };
        let after = usize::try_from(i16::from_be_bytes(*length)).ok().and_then(|length| topic.get(length..));
        let Some(after) = after else { return true };
        rest = after;
    }
    false
}

/// Topics without this one of their properties.
fn without_config(topics: Expr, config: &str) -> Expr {
    each_field(topics, &|name, value| match (name, value) {
        ("configs", Expr::List(mut list)) => {
            list.retain(|one| field(one, "name") != Some(&Expr::Text(config.into())));
            Expr::List(list)
        }
        (_, value) => value,
    })
}

/// Names that are put in place of others become those of one series: what it makes under them is not found by the next.
fn own_names(seed: u64, api: ApiKey, body: Expr) -> Expr {
    let own = |value: Expr| match value {
        Expr::Text(text) if TEXTS.contains(&text.as_str()) && !matches!(text.as_str(), "" | "..") => {
            Expr::Text(format!("r{seed}-{text}"))
        }
        other => other,
    };
    let element = |kind: &str, element: Expr| {
        let Expr::Struct(fields) = element else { return element };
        let broker = fields.contains(&("resource_type".to_owned(), Expr::Literal(Tree::Int(4))));
        let field = |(name, value): (String, Expr)| {
            let value = match (kind, name.as_str()) {
                ("topics" | "topic_data", "name" | "topic" | "topic_name") => own(value),
                ("resources", "resource_name") if !broker => own(value),
                // a rule that comes of chance might keep out what others ask, and a broker's own requests
                ("creations", "resource_name") => match value {
                    Expr::Text(text) if !text.is_empty() => Expr::Text(format!("r{seed}-acl-{text}")),
                    other => other,
                },
                _ => value,
            };
            (name, value)
        };
        Expr::Struct(fields.into_iter().map(field).collect())
    };
    let group = |value: Expr| match value {
        Expr::Text(text) if text.is_empty() || text.starts_with(&format!("r{seed}-")) => Expr::Text(text),
        Expr::Text(text) if TEXTS.contains(&text.as_str()) => Expr::Text(format!("r{seed}-{text}")),
        other => other,
    };
    // When records that nobody is told of can be read is not promised: they go where nobody reads.
    let silent = api == ApiKey::Produce && matches!(field(&body, "acks"), None | Some(Expr::Literal(Tree::Int(0))));
    let body = if silent { to_topic(&format!("r{seed}-silent"), body) } else { body };
    each_field(body, &|name, value| match (name, value) {
        ("group_id" | "transactional_id", value) => group(value),
        ("group_ids" | "groups_names" | "groups", Expr::List(list)) => {
            Expr::List(list.into_iter().map(group).collect())
        }
        ("topics" | "topic_data" | "resources" | "creations", Expr::List(list)) => {
            Expr::List(list.into_iter().map(|one| element(name, one)).collect())
        }
        (_, value) => value,
    })
}

/// A commit with texts that are too long: where it stores nothing at all Apache Kafka leaves an empty group behind.
fn refuses_offsets(body: &Expr) -> bool {
    match body {
        Expr::Struct(fields) => fields.iter().any(|(name, value)| match value {
            Expr::Call(function, _) => name == "committed_metadata" && function == "repeat",
            _ => refuses_offsets(value),
        }),
        Expr::List(list) => list.iter().any(refuses_offsets),
        _ => false,
    }
}

/// What is refused may leave a group behind in Apache Kafka, of which nothing else must know.
fn in_group(group: &str, body: Expr) -> Expr {
    each_field(body, &|name, value| match (name, value) {
        ("group_id", Expr::Text(text)) if !text.is_empty() => Expr::Text(group.to_owned()),
        (_, value) => value,
    })
}

/// A Produce with all its topics replaced by one.
fn to_topic(topic: &str, body: Expr) -> Expr {
    let text = |text: &str| Expr::Text(text.to_owned());
    let body = each_field(body, &|name, value| match (name, value) {
        ("name", Expr::Text(_)) => text(topic),
        ("topic_id", Expr::Call(id, _)) if id == "id" => Expr::Call(id, vec![text(topic)]),
        (_, value) => value,
    });
    each_field(body, &|name, value| if name == "topic_data" { once(value, "name") } else { value })
}

/// Every number in a list.
fn replaced(value: Expr, by: i64) -> Expr {
    let Expr::List(list) = value else { return value };
    Expr::List(list.into_iter().map(|_| Expr::Literal(Tree::Int(by))).collect())
}

/// Changes values by the name of their field, wherever they are.
fn each_field(value: Expr, change: &impl Fn(&str, Expr) -> Expr) -> Expr {
    match value {
        Expr::List(list) => Expr::List(list.into_iter().map(|value| each_field(value, change)).collect()),
        Expr::Call(function, arguments) => {
            Expr::Call(function, arguments.into_iter().map(|value| each_field(value, change)).collect())
        }
        Expr::Struct(fields) => {
            let field = |(name, value): (String, Expr)| {
                let value = change(&name, each_field(value, change));
                (name, value)
            };
            Expr::Struct(fields.into_iter().map(field).collect())
        }
        other => other,
    }
}

/// None that a broker has given out.
fn unknown_producer(value: Expr) -> Expr {
    match value {
        Expr::Literal(Tree::Int(id @ 0..=100)) => Expr::Literal(Tree::Int(id + 1_000_000)),
        other => other,
    }
}

fn at_least(least: i64, value: Expr) -> Expr {
    match value {
        Expr::Literal(Tree::Int(number)) => Expr::Literal(Tree::Int(number.max(least))),
        other => other,
    }
}

/// Share groups that begin where a log may: Apache Kafka lends nothing by the fetch that finds out where it does (share_fetch.txt).
fn begun(topics: Expr) -> Expr {
    each_field(topics, &|name, value| if name == "start_offset" { at_least(-1, value) } else { value })
}

fn the_first(member: Expr) -> Expr {
    match member {
        Expr::Text(name) if !name.is_empty() => Expr::Text("m".into()),
        other => other,
    }
}

/// The field in each element of a list: a missing one is the number 0.
fn given(list: Expr, field: &str, number: i64) -> Expr {
    let with = |element: Expr| match element {
        Expr::Struct(mut fields) if !fields.iter().any(|(name, _)| name == field) => {
            fields.push((field.to_owned(), Expr::Literal(Tree::Int(number))));
            Expr::Struct(fields)
        }
        other => other,
    };
    let Expr::List(list) = list else { return list };
    Expr::List(list.into_iter().map(with).collect())
}

/// Of the partitions' leader epochs none that stands `below` this, and may be one.
fn led_by_none(value: Expr, below: i64) -> Expr {
    let none = || Expr::Literal(Tree::Int(-1));
    each_field(value, &|name, value| match (name, value) {
        ("leader_epoch" | "current_leader_epoch", Expr::Literal(Tree::Int(epoch))) if (0..below).contains(&epoch) => {
            none()
        }
        ("partitions", list) => given(list, "leader_epoch", -1),
        (_, value) => value,
    })
}

/// Of the elements with one name the first.
fn once(value: Expr, name: &str) -> Expr {
    let Expr::List(mut list) = value else { return value };
    let mut seen = BTreeSet::new();
    list.retain(|element| seen.insert(field(element, name).map(show)));
    Expr::List(list)
}

impl Series<'_> {
    fn fresh(&mut self, what: &str) -> String {
        self.fresh += 1;
        format!("r{}-{what}{}", self.seed, self.fresh)
    }

    /// The topic of this script that stands for one of the scripts'.
    fn topic(&mut self, api: ApiKey, name: &str) -> String {
        let seed = self.seed;
        match api {
            ApiKey::CreateTopics => self.fresh("new"),
            ApiKey::DeleteTopics => format!("r{seed}-victim"),
            // where the record with the largest timestamp is nobody asks here: Apache Kafka also names a deleted one
            ApiKey::DeleteRecords => format!("r{seed}-trim"),
            ApiKey::AlterConfigs | ApiKey::IncrementalAlterConfigs | ApiKey::CreatePartitions => {
                format!("r{seed}-conf")
            }
            ApiKey::Produce | ApiKey::Fetch if name.len().is_multiple_of(5) => format!("r{seed}-trim"),
            _ => format!("r{seed}-{}", ["a", "b", "c"][name.len() % 3]),
        }
    }

    fn own(&mut self, api: ApiKey, name: Option<&str>, expr: &Expr) -> Expr {
        match expr {
            Expr::Text(text) if self.topics.contains(text) => Expr::Text(self.topic(api, text)),
            Expr::Text(text) if name == Some("group_id") && !text.is_empty() => {
                Expr::Text(format!("r{}-group{}", self.seed, text.len() % 2))
            }
            Expr::Text(text) if text.contains('$') => Expr::Text(self.fresh("text")),
            Expr::Variable(variable) if variable == "v" => expr.clone(),
            Expr::Variable(variable) => match variable.as_str() {
                "m" | "n" | "a" | "b" => Expr::Text("nobody".into()),
                _ => Expr::Literal(Tree::Int(self.out.below(3) as i64)),
            },
            Expr::List(list) => Expr::List(list.iter().map(|e| self.own(api, name, e)).collect()),
            Expr::Struct(fields) => {
                Expr::Struct(fields.iter().map(|(n, e)| (n.clone(), self.own(api, Some(n), e))).collect())
            }
            // Lengths stand before what is put together. Apache Kafka never answers JoinGroup where one is too large: only an
            // underflow is an exception that it expects (`ClassicGroup.computeSubscribedTopics`).
            Expr::Call(function, _) if function == "concat" => expr.clone(),
            Expr::Call(function, arguments) => {
                Expr::Call(function.clone(), arguments.iter().map(|e| self.own(api, None, e)).collect())
            }
            Expr::Literal(_) | Expr::Text(_) => expr.clone(),
        }
    }

    /// What a request's line begins with. The members of share groups have a connection each, as clients do: of the sessions
    /// that one connection opened Apache Kafka ends only the last when it is gone.
    fn connection(&mut self, api: ApiKey, body: &Expr) -> String {
        if !matches!(api, ApiKey::ShareFetch | ApiKey::ShareAcknowledge) {
            return String::new();
        }
        let who = ["group_id", "member_id"].map(|name| field(body, name).map(show));
        let place = self.members.iter().position(|known| *known == who).unwrap_or_else(|| {
            self.members.push(who);
            self.members.len() - 1
        });
        format!("on member{place} ")
    }

    /// Who joins a group leaves it at the end: when a session runs out either broker finds at some time of its own, and the next
    /// series sees the group.
    fn joins(&mut self, api: ApiKey, body: &Expr) {
        let heartbeats = [ApiKey::ConsumerGroupHeartbeat, ApiKey::ShareGroupHeartbeat, ApiKey::StreamsGroupHeartbeat];
        let (Some(group), Some(member)) = (field(body, "group_id"), field(body, "member_id")) else { return };
        if heartbeats.contains(&api) {
            let (name, group, member) = (api.name(), show(group), show(member));
            let leave = format!("{name} ~1 {{group_id={group}, member_id={member}, member_epoch=-1}}");
            self.joined.insert(leave);
        }
    }

    /// Apache Kafka answers a fetch with what is loaded first of the partitions that it has to load
    /// (`SharePartitionManager.processShareFetch`): they are loaded before, one by one, by somebody who is lent nothing.
    fn load(&mut self, body: &Expr) {
        let Some(Expr::List(topics)) = field(body, "topics") else { return };
        let mut named = Vec::new();
        for topic in topics {
            let (Some(id), Some(Expr::List(partitions))) = (field(topic, "topic_id"), field(topic, "partitions"))
            else {
                continue;
            };
            let index = |partition| field(partition, "partition_index").map_or("0".to_owned(), show);
            named.extend(partitions.iter().map(|partition| (show(id), index(partition))));
        }
        let opens = matches!(field(body, "share_session_epoch"), None | Some(Expr::Literal(Tree::Int(0))));
        let Some(group @ Expr::Text(_)) = field(body, "group_id") else { return };
        if opens && named.len() < 2 {
            return;
        }
        let loader = ("group_id".to_owned(), group.clone());
        let loader = Expr::Struct(vec![loader, ("member_id".to_owned(), Expr::Text("loader".into()))]);
        let on = self.connection(ApiKey::ShareFetch, &loader);
        for (id, partition) in named {
            let group = show(group);
            self.out.line(format!(
                r#"{on}ShareFetch ~1 {{group_id={group}, member_id="loader", share_session_epoch=0, max_wait_ms=300, min_bytes=1, max_bytes=1000000, max_records=-1, batch_size=1, topics=[{{topic_id={id}, partitions=[{{partition_index={partition}}}]}}]}}"#
            ));
        }
    }

    /// One of the fields that a value does not have, and could.
    fn added(&mut self, fields: &[(String, Expr)], shape: Option<&Expr>) -> Option<(String, Expr)> {
        let Some(Expr::Struct(all)) = shape else { return None };
        let added = |name: &str| !NOT_ADDED.contains(&name) && fields.iter().all(|(known, _)| known != name);
        let open: Vec<&(String, Expr)> = all.iter().filter(|(name, _)| added(name)).collect();
        let (name, value) = open.get(self.out.below(open.len().max(1)))?;
        let mut changed = value.clone();
        self.change(&mut changed, Some(value));
        Some((name.clone(), changed))
    }

    /// Changes one place of a value; `shape` has all that there may be in it.
    fn change(&mut self, expr: &mut Expr, shape: Option<&Expr>) {
        match expr {
            Expr::Struct(fields) if fields.is_empty() || self.out.one_in(6) => fields.extend(self.added(fields, shape)),
            Expr::Struct(fields) => {
                let at = self.out.below(fields.len());
                // (Apache Kafka never answers a Produce without records)
                if self.out.one_in(12) && fields[at].0 != "records" {
                    fields.remove(at);
                } else {
                    let (name, value) = &mut fields[at];
                    self.change(value, shape.and_then(|shape| field(shape, name)));
                }
            }
            Expr::List(list) if list.is_empty() => {
                if let Some(Expr::List(one)) = shape {
                    list.extend(
                        one.first().filter(|one| NOT_ADDED.iter().all(|name| field(one, name).is_none())).cloned(),
                    );
                }
            }
            Expr::List(list) => {
                let at = self.out.below(list.len());
                match self.out.below(8) {
                    0 => drop(list.remove(at)),
                    1 => list.push(list[at].clone()),
                    2 => list.reverse(),
                    _ => {
                        let one = if let Some(Expr::List(one)) = shape { one.first() } else { None };
                        self.change(&mut list[at], one);
                    }
                }
            }
            Expr::Literal(Tree::Int(value)) => {
                *value = if self.out.one_in(5) { self.out.pick(&BIG_NUMBERS) } else { self.out.pick(&SMALL_NUMBERS) };
            }
            Expr::Literal(Tree::Bool(value)) => *value = !*value,
            Expr::Literal(Tree::Null) => *expr = Expr::Text(self.out.pick(&TEXTS).into()),
            Expr::Text(_) if self.out.one_in(10) => *expr = Expr::Literal(Tree::Null),
            Expr::Text(text) => *text = self.out.pick(&TEXTS).into(),
            Expr::Call(function, arguments) if function == "batch" => arguments.iter_mut().for_each(|a| self.batch(a)),
            _ => {}
        }
    }

    fn batch(&mut self, expr: &mut Expr) {
        let Expr::Struct(fields) = expr else { return };
        let names = [
            "count",
            "base",
            "length",
            "leader_epoch",
            "magic",
            "crc",
            "attributes",
            "last_delta",
            "max_ts",
            "records",
            "cut",
            "ts",
            "seq",
            "epoch",
            "pid",
        ];
        let name = self.out.pick(&names);
        fields.retain(|(n, _)| n != name);
        // a count is how many records are built
        let value = if name == "count" { 1 + self.out.below(5) as i64 } else { self.out.pick(&SMALL_NUMBERS) };
        let value = if name == "cut" { value.max(1) } else { value };
        fields.push((name.to_owned(), Expr::Literal(Tree::Int(value))));
    }
}

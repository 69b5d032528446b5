//! Seeded random requests: those of the scripts on topics and groups of their own, as they are, changed field by field and with
//! fields that no script has.
//! What comes out is a script again, so that it can be run again and made smaller by hand.

mod bounds;
mod change;
mod edit;
mod names;

use self::bounds::bounded;
use self::edit::field;
use self::names::{in_group, is_plain, own_names, refuses_offsets};
use crate::script::{Action, Script, Step};
use crate::shape;
use crate::value::{Expr, show};
use crate::written::Written;
use corelane_protocol::{ApiKey, Tree};
use std::collections::{BTreeMap, BTreeSet};

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

/// A member of a share group.
struct Member {
    /// The group and its own name.
    who: [Option<String>; 2],
    /// Topic and partition of all that it has named.
    named: Vec<(String, String)>,
}

struct Series<'a> {
    out: Written,
    seed: u64,
    topics: &'a BTreeSet<String>,
    fresh: u32,
    /// Groups and members whose share sessions there may be, in the order of their connections.
    members: Vec<Member>,
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
        match api {
            ApiKey::ShareFetch | ApiKey::ShareAcknowledge => format!("on member{} ", self.member(body)),
            _ => String::new(),
        }
    }

    fn member(&mut self, body: &Expr) -> usize {
        let who = ["group_id", "member_id"].map(|name| field(body, name).map(show));
        self.members.iter().position(|known| known.who == who).unwrap_or_else(|| {
            self.members.push(Member { who, named: Vec::new() });
            self.members.len() - 1
        })
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
    /// (`SharePartitionManager.processShareFetch`): they are loaded before, one by one, by somebody who is lent nothing. A partition
    /// that the member has named before may be one of them: it could not be loaded until the group's state began.
    fn load(&mut self, body: &Expr) {
        let Some(Expr::List(topics)) = field(body, "topics") else { return };
        let member = self.member(body);
        let known = &mut self.members[member].named;
        for topic in topics {
            let (Some(id), Some(Expr::List(partitions))) = (field(topic, "topic_id"), field(topic, "partitions"))
            else {
                continue;
            };
            let index = |partition| field(partition, "partition_index").map_or("0".to_owned(), show);
            for named in partitions.iter().map(|partition| (show(id), index(partition))) {
                if !known.contains(&named) {
                    known.push(named);
                }
            }
        }
        let named = known.clone();
        let Some(group @ Expr::Text(_)) = field(body, "group_id") else { return };
        if named.len() < 2 {
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
}

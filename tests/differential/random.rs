//! Seeded random requests: those of the scripts on topics and groups of their own, as they are and changed field by field.
//! What comes out is a script again, so that it can be run again and made smaller by hand.

use crate::script::{self, Action, Script, Step};
use crate::value::{Expr, show};
use corelane_protocol::{ApiKey, Random, Tree};
use std::collections::BTreeSet;

/// Numbers that fit any field.
const SMALL_NUMBERS: [i64; 11] = [-3, -2, -1, 0, 1, 2, 3, 5, 7, 100, 127];
const BIG_NUMBERS: [i64; 5] = [1000, 32_767, i32::MAX as i64, i64::MAX, i64::MIN];
const TEXTS: [&str; 7] = ["", "a b", "..", "nobody", "retention.ms", "é", "1"];

/// A request of a script, without what was around it.
struct Template {
    api: ApiKey,
    body: Expr,
}

pub struct Generator {
    templates: Vec<Template>,
    /// Topics that the scripts make; each stands for one of this script's own.
    topics: BTreeSet<String>,
}

struct Series<'a> {
    random: Random,
    seed: u64,
    topics: &'a BTreeSet<String>,
    fresh: u32,
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
        let made = templates.iter().filter(|t| t.api == ApiKey::CreateTopics);
        let named =
            made.filter_map(|t| if let Some(Expr::List(list)) = field(&t.body, "topics") { Some(list) } else { None });
        let names = named
            .flatten()
            .filter_map(|t| if let Some(Expr::Text(name)) = field(t, "name") { Some(name) } else { None });
        let topics = names.filter(|n| is_plain(n)).cloned().collect();
        Generator { templates, topics }
    }

    /// `count` requests, the same for the same seed (and the same scripts).
    pub fn script(&self, seed: u64, count: usize) -> (Script, String) {
        let mut series = Series { random: Random::new(seed), seed, topics: &self.topics, fresh: 0 };
        let mut text = format!("== random {seed}\n");
        let topics: Vec<String> = ["a", "b", "c", "victim", "conf"]
            .iter()
            .map(|name| format!(r#"{{name="r{seed}-{name}", num_partitions=3, replication_factor=1}}"#))
            .collect();
        text += &format!("CreateTopics 7 {{topics=[{}], timeout_ms=10000}}\n", topics.join(", "));
        for topic in ["a", "b"] {
            text += &format!(
                "Produce 12 {{acks=-1, timeout_ms=5000, topic_data=[{{name=\"r{seed}-{topic}\", partition_data=[{{index=0, records=batch{{count=7}}}}, {{index=1, records=batch{{count=2}}}}]}}]}}\n"
            );
        }
        for _ in 0..count {
            let template = &self.templates[series.below(self.templates.len())];
            let mut body = series.own(template.api, None, &template.body);
            for _ in 0..series.below(4) {
                series.change(template.api, &mut body);
            }
            let version = series.below(20);
            let body = bounded(template.api, body);
            text += &format!("{} ~{version} {}\n", template.api.name(), show(&body));
        }
        let name = format!("random-{seed}.txt");
        let script = script::parse(&name, &text).unwrap_or_else(|e| panic!("{e}"));
        (script, text)
    }
}

/// A valid name without a part that depends on the version.
fn is_plain(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') && !name.starts_with("__")
}

/// No request waits long, and none is answered by nobody.
fn bounded(api: ApiKey, body: Expr) -> Expr {
    let Expr::Struct(fields) = body else { return body };
    let keep = |(name, value): (String, Expr)| {
        let value = match (api, name.as_str()) {
            (ApiKey::Fetch, "max_wait_ms") => Expr::Literal(Tree::Int(20)),
            // a limit that is set runs out now and then, in either broker
            (_, "timeout_ms") => Expr::Literal(Tree::Int(30_000)),
            (ApiKey::JoinGroup, "session_timeout_ms" | "rebalance_timeout_ms") => Expr::Literal(Tree::Int(30_000)),
            // small numbers may be those of sessions
            (ApiKey::Fetch, "session_id") => match value {
                Expr::Literal(Tree::Int(0)) => value,
                _ => Expr::Literal(Tree::Int(1_999_999_937)),
            },
            // a number that is given is a producer of one of the two only
            (ApiKey::ListTransactions, "producer_id_filters") => replaced(value, i64::from(i32::MAX)),
            // and so is an epoch of one of the two only
            (ApiKey::OffsetForLeaderEpoch, "topics") => foreign_epochs(value),
            // Apache Kafka never answers a member that names a protocol twice
            (ApiKey::JoinGroup, "protocols") => once(value),
            (ApiKey::Produce, "topic_data") => own_producers(value),
            (_, "producer_id" | "v3_and_below_producer_id") => unknown_producer(value),
            (ApiKey::AddPartitionsToTxn, "transactions") | (ApiKey::WriteTxnMarkers, "markers") => {
                each_field(value, &|name, value| match name {
                    "producer_id" => unknown_producer(value),
                    _ => value,
                })
            }
            // a resource named twice is never answered by Apache Kafka
            (ApiKey::AlterConfigs, "resources") => match value {
                Expr::List(list) => Expr::List(list.into_iter().take(1).collect()),
                other => other,
            },
            _ => value,
        };
        (name, value)
    };
    Expr::Struct(fields.into_iter().map(keep).collect())
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

fn foreign_epochs(value: Expr) -> Expr {
    each_field(value, &|name, value| match (name, &value) {
        ("leader_epoch" | "current_leader_epoch", Expr::Literal(Tree::Int(0..=100))) => Expr::Literal(Tree::Int(-1)),
        _ => value,
    })
}

fn once(value: Expr) -> Expr {
    let Expr::List(mut list) = value else { return value };
    let mut seen = BTreeSet::new();
    list.retain(|protocol| seen.insert(field(protocol, "name").map(show)));
    Expr::List(list)
}

/// Transactions and other batches get producers of their own: Apache Kafka remembers the sequence of a transaction's batch that its
/// coordinator refused, and holds it against later ones.
fn own_producers(value: Expr) -> Expr {
    each_field(value, &|name, value| {
        let Expr::Call(function, mut arguments) = value else { return value };
        if let (true, Some(Expr::Struct(fields))) = (name == "records" && function == "batch", arguments.first_mut()) {
            let number = |fields: &[(String, Expr)], name: &str| {
                let found = fields.iter().find(|(n, _)| n == name)?;
                if let Expr::Literal(Tree::Int(n)) = found.1 { Some(n) } else { None }
            };
            let transactional = number(fields, "attributes").is_some_and(|attributes| attributes & 16 != 0);
            let place = fields.iter().position(|(name, _)| name == "pid");
            if let (Some(pid @ 0..=100), Some(place)) = (number(fields, "pid").filter(|_| transactional), place) {
                fields[place].1 = Expr::Literal(Tree::Int(pid + 1000));
            }
        }
        Expr::Call(function, arguments)
    })
}

impl Series<'_> {
    fn below(&mut self, bound: usize) -> usize {
        self.random.below(bound as u64) as usize
    }

    fn pick(&mut self, list: &[i64]) -> i64 {
        list[self.below(list.len())]
    }

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
            ApiKey::AlterConfigs | ApiKey::IncrementalAlterConfigs | ApiKey::CreatePartitions => {
                format!("r{seed}-conf")
            }
            _ => format!("r{seed}-{}", ["a", "b", "c"][name.len() % 3]),
        }
    }

    fn own(&mut self, api: ApiKey, name: Option<&str>, expr: &Expr) -> Expr {
        match expr {
            Expr::Text(text) if self.topics.contains(text) => Expr::Text(self.topic(api, text)),
            Expr::Text(_) if name == Some("group_id") && api == ApiKey::JoinGroup => Expr::Text(self.fresh("join")),
            Expr::Text(text) if name == Some("group_id") && !text.is_empty() => {
                Expr::Text(format!("r{}-group{}", self.seed, text.len() % 2))
            }
            Expr::Text(text) if text.contains('$') => Expr::Text(self.fresh("text")),
            Expr::Variable(variable) if variable == "v" => expr.clone(),
            Expr::Variable(variable) => match variable.as_str() {
                "m" | "n" | "a" | "b" => Expr::Text("nobody".into()),
                _ => Expr::Literal(Tree::Int(self.below(3) as i64)),
            },
            Expr::List(list) => Expr::List(list.iter().map(|e| self.own(api, name, e)).collect()),
            Expr::Struct(fields) => {
                Expr::Struct(fields.iter().map(|(n, e)| (n.clone(), self.own(api, Some(n), e))).collect())
            }
            Expr::Call(function, arguments) => {
                Expr::Call(function.clone(), arguments.iter().map(|e| self.own(api, None, e)).collect())
            }
            Expr::Literal(_) | Expr::Text(_) => expr.clone(),
        }
    }

    /// Changes one place of a value.
    fn change(&mut self, api: ApiKey, expr: &mut Expr) {
        match expr {
            Expr::Struct(fields) if !fields.is_empty() => {
                let at = self.below(fields.len());
                // (Apache Kafka never answers a Produce without records)
                if self.below(12) == 0 && fields[at].0 != "records" {
                    fields.remove(at);
                } else {
                    self.change(api, &mut fields[at].1);
                }
            }
            Expr::List(list) if !list.is_empty() => {
                let at = self.below(list.len());
                match self.below(8) {
                    0 => drop(list.remove(at)),
                    // of a partition that is written twice Apache Kafka loses the first batch
                    1 if api != ApiKey::Produce => list.push(list[at].clone()),
                    2 => list.reverse(),
                    _ => self.change(api, &mut list[at]),
                }
            }
            Expr::Literal(Tree::Int(value)) => {
                *value = if self.below(5) == 0 { self.pick(&BIG_NUMBERS) } else { self.pick(&SMALL_NUMBERS) };
            }
            Expr::Literal(Tree::Bool(value)) => *value = !*value,
            Expr::Literal(Tree::Null) => *expr = Expr::Text(TEXTS[self.below(TEXTS.len())].into()),
            Expr::Text(_) if self.below(10) == 0 => *expr = Expr::Literal(Tree::Null),
            Expr::Text(text) => *text = TEXTS[self.below(TEXTS.len())].into(),
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
        let name = names[self.below(names.len())];
        fields.retain(|(n, _)| n != name);
        // a count is how many records are built
        let value = if name == "count" { 1 + self.below(5) as i64 } else { self.pick(&SMALL_NUMBERS) };
        let value = if name == "cut" { value.max(1) } else { value };
        fields.push((name.to_owned(), Expr::Literal(Tree::Int(value))));
    }
}

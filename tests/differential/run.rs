//! Runs scripts on both brokers and collects what differs.

use crate::accepted::{self, Accepted};
use crate::compare::{Comparison, FieldDifference, Identities};
use crate::script::{Action, Script, Section, Step, Versions};
use crate::side::{self, ASIDE, Outcome, Side, encode};
use crate::value::{self, Expr, show};
use bytes::Bytes;
use corelane_protocol::{ApiKey, Tree};
use corelane_tests::wait;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::time::Duration;

/// A request whose answers differ.
pub struct Difference {
    /// `file:line`
    pub place: String,
    pub section: String,
    pub api: ApiKey,
    pub version: i16,
    /// The request as a line of a script.
    pub request: String,
    pub fields: Vec<FieldDifference>,
}

#[derive(Default)]
pub struct Report {
    pub compared: usize,
    pub by_api: BTreeMap<&'static str, usize>,
    /// Versions in which a request was sent that has a form there.
    sent: BTreeSet<(ApiKey, i16)>,
    pub accepted: usize,
    pub differences: Vec<Difference>,
}

/// What changes metadata. Apache Kafka answers when its controller has it; its broker hears of it a little later.
const CHANGES: [ApiKey; 10] = [
    ApiKey::AlterUserScramCredentials,
    ApiKey::AlterClientQuotas,
    ApiKey::CreateAcls,
    ApiKey::DeleteAcls,
    ApiKey::CreateTopics,
    ApiKey::DeleteTopics,
    ApiKey::CreatePartitions,
    ApiKey::AlterConfigs,
    ApiKey::IncrementalAlterConfigs,
    ApiKey::UpdateFeatures,
];

pub struct Runner<'a> {
    /// Apache Kafka, then Corelane.
    sides: [Side; 2],
    served: BTreeMap<ApiKey, RangeInclusive<i16>>,
    accepted: &'a [Accepted],
    identities: Identities,
    now: i64,
    /// Changes since the brokers were last in step.
    changed: bool,
    /// Access rules are among them, by which Kafka's controller decides about the next change.
    rules_changed: bool,
    steps_of_barrier: i64,
    pending: BTreeMap<String, (ApiKey, i16, String)>,
    last: Option<[Tree; 2]>,
    pub report: Report,
}

type Result<T> = std::result::Result<T, String>;

/// Whether an answer of Metadata says that a topic is not there, which it may be in a moment.
fn may_create(answer: &Tree) -> bool {
    let Some(Tree::List(topics)) = answer.field("topics") else { return false };
    topics.iter().any(|t| matches!(t.field("error_code"), Some(Tree::Int(3 | 5))))
}

impl<'a> Runner<'a> {
    /// `kafka` and `corelane`: as [`Side::new`] takes them; `served`: what Corelane advertises.
    pub fn new(
        kafka: [&str; 2],
        corelane: [&str; 2],
        served: Vec<(ApiKey, RangeInclusive<i16>)>,
        accepted: &'a [Accepted],
    ) -> Runner<'a> {
        let now = corelane_tests::batch::now_ms();
        Runner {
            sides: [Side::new(kafka, now), Side::new(corelane, now)],
            served: served.into_iter().collect(),
            accepted,
            identities: Identities::default(),
            now,
            changed: false,
            rules_changed: false,
            steps_of_barrier: 0,
            pending: BTreeMap::new(),
            last: None,
            report: Report::default(),
        }
    }

    /// What Corelane says it serves, and nobody has asked for.
    pub fn unsent(&self) -> Vec<String> {
        let served =
            self.served.iter().flat_map(|(api, versions)| versions.clone().map(move |version| (*api, version)));
        let unsent = served.filter(|one| !self.report.sent.contains(one));
        unsent.map(|(api, version)| format!("{} {version}", api.name())).collect()
    }

    pub fn script(&mut self, script: &Script) -> Result<()> {
        script.sections.iter().try_for_each(|section| self.section(script, section, usize::MAX))
    }

    /// Runs one section up to a line.
    pub fn section(&mut self, script: &Script, section: &Section, last_line: usize) -> Result<()> {
        self.sides.iter_mut().for_each(Side::reset);
        (self.last, self.pending) = (None, BTreeMap::new());
        let steps: Vec<Step> = section.steps.iter().filter(|s| s.line <= last_line).cloned().collect();
        self.steps(script, section, &steps)
    }

    fn steps(&mut self, script: &Script, section: &Section, steps: &[Step]) -> Result<()> {
        for step in steps {
            let place = format!("{}:{}", script.name, step.line);
            self.step(script, section, step, &place)
                .map_err(|e| if e.starts_with(&script.name) { e } else { format!("{place}: {e}") })?;
        }
        Ok(())
    }

    fn versions(&self, api: ApiKey, versions: &Versions) -> Result<Vec<i16>> {
        let served = self.served.get(&api).ok_or_else(|| format!("{} is not served", api.name()))?;
        Ok(match versions {
            Versions::All => served.clone().collect(),
            Versions::Last => vec![*served.end()],
            Versions::Any(n) => served.clone().skip(n % served.clone().count()).take(1).collect(),
            Versions::Current => match self.sides[0].value(&Expr::Variable("v".into()), -1)? {
                Tree::Int(v) => vec![i16::try_from(v).map_err(|e| e.to_string())?],
                _ => return Err("$v is no version".into()),
            },
            Versions::Range(low, high) => served.clone().filter(|v| (low..=high).contains(&v)).collect(),
        })
    }

    fn step(&mut self, script: &Script, section: &Section, step: &Step, place: &str) -> Result<()> {
        match &step.action {
            Action::Each { api, versions, steps } => {
                for version in self.versions(*api, versions)? {
                    self.sides.iter_mut().for_each(|s| s.keep("v", Tree::Int(version.into())));
                    self.steps(script, section, steps)?;
                }
            }
            Action::Let { name, path } => {
                let Some(last) = &self.last else { return Err("let: no answer before".into()) };
                for (side, answer) in self.sides.iter_mut().zip(last) {
                    let found =
                        value::at(answer, path).ok_or_else(|| format!("no {path} in {}", value::show_tree(answer)))?;
                    side.keep(name, found.clone());
                }
            }
            Action::Send { connection, api, versions, body, wait } => {
                let mut sent = 0;
                for version in self.versions(*api, versions)? {
                    let request = format!("{} {version} {}", api.name(), show(body));
                    if body.asks() {
                        self.settle_all()?;
                    }
                    let trees = self.trees(body, version);
                    let encoded =
                        trees.and_then(|t| Ok((encode(*api, &t[0], version)?, encode(*api, &t[1], version)?, t)));
                    let (kafka, corelane, trees) = match encoded {
                        Ok((Ok(kafka), Ok(corelane), trees)) => (kafka, corelane, trees),
                        Err(why) if !matches!(versions, Versions::Any(_)) => return Err(why),
                        _ => continue,
                    };
                    sent += 1;
                    self.report.sent.insert((*api, version));
                    self.settle(*api)?;
                    let silent =
                        *api == ApiKey::Produce && matches!(value::at(&trees[0], "acks"), None | Some(Tree::Int(0)));
                    self.send(connection, *api, version, [kafka, corelane], silent);
                    if *wait {
                        self.receive(connection, *api, version, place, section, &request);
                    } else {
                        self.pending.insert(connection.clone(), (*api, version, request));
                    }
                }
                if sent == 0 && !matches!(versions, Versions::Current | Versions::Any(_)) {
                    return Err("no version has a form for this request".into());
                }
            }
            Action::Raw { connection, api, version, body } => {
                let request = format!("raw {} {version} {}", api.name(), show(body));
                let bodies = self.bytes(body, *version)?;
                self.send(connection, *api, *version, bodies, false);
                self.receive(connection, *api, *version, place, section, &request);
            }
            Action::Token { connection, body } => {
                let tokens = self.bytes(body, 0)?;
                for (side, token) in self.sides.iter_mut().zip(tokens) {
                    side.send_token(connection, &token);
                }
                self.receive(connection, ApiKey::SaslAuthenticate, 0, place, section, &format!("token {}", show(body)));
            }
            Action::Read { connection } => {
                let (api, version, request) = self.pending.remove(connection).ok_or("read: nothing was sent")?;
                self.receive(connection, api, version, place, section, &request);
            }
            Action::Pass { milliseconds } => {
                wait::within(Duration::from_millis(*milliseconds), || None::<()>);
            }
            Action::Until { api, versions, body, path, value } => {
                let version = *self.versions(*api, versions)?.last().ok_or("no version")?;
                self.until(*api, version, body, path, value)?;
            }
        }
        Ok(())
    }

    fn trees(&self, body: &Expr, version: i16) -> Result<[Tree; 2]> {
        Ok([self.sides[0].value(body, version)?, self.sides[1].value(body, version)?])
    }

    fn bytes(&self, body: &Expr, version: i16) -> Result<[Bytes; 2]> {
        let [kafka, corelane] = self.trees(body, version)?;
        Ok([side::bytes(&kafka)?, side::bytes(&corelane)?])
    }

    fn send(&mut self, connection: &str, api: ApiKey, version: i16, bodies: [Bytes; 2], silent: bool) {
        for (side, body) in self.sides.iter_mut().zip(bodies) {
            side.send(connection, api, version, &body, silent);
        }
        self.changed |= CHANGES.contains(&api);
        self.rules_changed |= matches!(api, ApiKey::CreateAcls | ApiKey::DeleteAcls);
    }

    fn receive(&mut self, connection: &str, api: ApiKey, version: i16, place: &str, section: &Section, request: &str) {
        let [kafka, corelane] = &mut self.sides;
        let silent = kafka.expects_silence(connection);
        let outcomes = [kafka.receive(connection), corelane.receive(connection)];
        self.report.compared += 1;
        *self.report.by_api.entry(api.name()).or_default() += 1;
        let mut comparison = Comparison {
            api,
            identities: &mut self.identities,
            now: self.now - 1000..=self.now + 3_600_000,
            found: Vec::new(),
        };
        match &outcomes {
            [Outcome::Answer(kafka), Outcome::Answer(corelane)] => comparison.values("", "", kafka, corelane),
            [Outcome::Silent, Outcome::Silent] if !silent => println!("{place} {request}\n    neither answers"),
            [kafka, corelane] if kafka == corelane => {}
            [kafka, corelane] => {
                let shown = |o: &Outcome| match o {
                    Outcome::Answer(tree) => format!("answered {}", value::show_tree(tree)),
                    Outcome::Garbled(bytes) => format!("garbled {bytes:02x?}"),
                    Outcome::Closed => "closed".into(),
                    Outcome::Silent => "silent".into(),
                };
                comparison.found.push(FieldDifference {
                    path: "answer".into(),
                    kafka: shown(kafka),
                    corelane: shown(corelane),
                });
            }
        }
        let found = comparison.found;
        let before = found.len();
        let fields = accepted::unaccepted(self.accepted, api, version, found);
        self.report.accepted += before - fields.len();
        if !fields.is_empty() {
            let (place, section) = (place.to_owned(), section.name.clone());
            self.report.differences.push(Difference {
                place,
                section,
                api,
                version,
                request: request.to_owned(),
                fields,
            });
        }
        // a topic that was not there may have been made
        let [kafka, _] = &outcomes;
        self.changed |= api == ApiKey::Metadata && matches!(kafka, Outcome::Answer(a) if may_create(a));
        let [kafka, corelane] = outcomes;
        let tree = |o| if let Outcome::Answer(tree) = o { tree } else { Tree::Null };
        self.last = Some([tree(kafka), tree(corelane)]);
    }

    fn ask(&mut self, side: usize, api: ApiKey, version: i16, body: &Expr) -> Result<Tree> {
        let side = &mut self.sides[side];
        let bytes = encode(api, &side.value(body, version)?, version)??;
        side.send(ASIDE, api, version, &bytes, false);
        match side.receive(ASIDE) {
            Outcome::Answer(tree) => Ok(tree),
            other => Err(format!("{}: {other:?}", api.name())),
        }
    }

    fn until(&mut self, api: ApiKey, version: i16, body: &Expr, path: &str, wanted: &Expr) -> Result<()> {
        for side in 0..2 {
            let mut last = Tree::Null;
            let reached = wait::within(Duration::from_secs(30), || {
                last = self.ask(side, api, version, body).unwrap_or(Tree::Null);
                let wanted = self.sides[side].value(wanted, version).ok()?;
                (value::at(&last, path) == Some(&wanted)).then_some(())
            });
            let name = ["Apache Kafka", "Corelane"][side];
            reached.ok_or_else(|| {
                format!("{name} does not get to {path} = {}: {}", show(wanted), value::show_tree(&last))
            })?;
        }
        Ok(())
    }

    /// Before a request of another kind than the changes before it, waits until these are in force: metadata is applied
    /// in order and by one thread, so the one before a change that can be seen is whole.
    fn settle(&mut self, next: ApiKey) -> Result<()> {
        if CHANGES.contains(&next) && !self.rules_changed { Ok(()) } else { self.settle_all() }
    }

    fn settle_all(&mut self) -> Result<()> {
        if !self.changed {
            return Ok(());
        }
        (self.changed, self.rules_changed) = (false, false);
        for _ in 0..2 {
            self.steps_of_barrier += 1;
            let value = 1_000_000 + self.steps_of_barrier;
            let set = format!(
                r#"{{resources=[{{resource_type=2, resource_name="barrier", configs=[{{name="retention.ms", config_operation=0, value="{value}"}}]}}]}}"#
            );
            let get =
                r#"{resources=[{resource_type=2, resource_name="barrier", configuration_keys=["retention.ms"]}]}"#;
            let (set, _) = value::parse(&set)?;
            let (get, _) = value::parse(get)?;
            for side in 0..2 {
                self.ask(side, ApiKey::IncrementalAlterConfigs, 1, &set)?;
            }
            let wanted = Expr::Text(value.to_string());
            self.until(ApiKey::DescribeConfigs, 4, &get, "results[0].configs[0].value", &wanted)?;
        }
        Ok(())
    }

    /// Makes both brokers ready: the barrier's topic, and the coordinator's.
    pub fn prepare(&mut self) -> Result<()> {
        let create =
            value::parse(r#"{topics=[{name="barrier", num_partitions=1, replication_factor=1}], timeout_ms=10000}"#)?.0;
        for side in 0..2 {
            self.ask(side, ApiKey::CreateTopics, 7, &create)?;
        }
        let find = value::parse(r#"{key_type=0, coordinator_keys=["any"]}"#)?.0;
        self.until(ApiKey::FindCoordinator, 4, &find, "coordinators[0].error_code", &Expr::Literal(Tree::Int(0)))?;
        let init = value::parse("{transactional_id=null, transaction_timeout_ms=1000}")?.0;
        self.until(ApiKey::InitProducerId, 4, &init, "error_code", &Expr::Literal(Tree::Int(0)))?;
        let list = value::parse("{}")?.0;
        self.until(ApiKey::ListGroups, 4, &list, "error_code", &Expr::Literal(Tree::Int(0)))?;
        self.changed = true;
        self.settle(ApiKey::Fetch)
    }
}

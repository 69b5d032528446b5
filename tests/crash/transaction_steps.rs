//! The broker dies at each step of a transaction: at each record that a coordinator or a partition writes, when the record has its
//! place, when it is durable and nobody has heard of it, and when it has been told. Whatever had been decided holds afterwards, and
//! nothing else does.
//!
//! A run without a crash finds the steps of each kind of transaction; then the broker is started for each of them and ends itself
//! there (src/step.rs, in debug builds). The short form has each step once, in a kind of transaction that the seed picks; the long
//! form (`CORELANE_LONG`) each step of each kind.

use super::transaction_client::{Failed, Producer, Result, Version, at_rest, committed, committed_offset};
use super::{LIMIT, Moments};
use corelane_protocol::Str;
use corelane_protocol::record_frame::{CoordinatorKey, encode_versioned};
use corelane_protocol::records::transaction::{TransactionLogKey, TransactionLogValue};
use corelane_tests::batch::{ProducerIdentity, build, now_ms};
use corelane_tests::broker::{Broker, BrokerOptions};
use corelane_tests::connection::Connection;
use corelane_tests::librdkafka::create_topic;
use corelane_tests::{scratch, wait};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

const TOPIC: &str = "steps";
const GROUP: &str = "group";
const ID: &str = "producer";
/// The last epoch that a producer may have.
const LAST_EPOCH: i16 = i16::MAX - 1;
/// Producer ids of stored transactional ids, out of the way of those that the broker gives out.
const STORED_IDS: i64 = 1 << 40;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Commit(Version),
    Abort(Version),
    /// The coordinator aborts it, because it takes too long.
    Slow(Version),
    /// A new producer aborts what the one before it had open.
    Fenced(Version),
    /// The producer's epochs are used up when it begins, or when its transaction ends.
    NewIdAtStart,
    NewIdAtEnd,
}

const KINDS: [Kind; 10] = [
    Kind::Commit(Version::V1),
    Kind::Commit(Version::V2),
    Kind::Abort(Version::V1),
    Kind::Abort(Version::V2),
    Kind::Slow(Version::V1),
    Kind::Slow(Version::V2),
    Kind::Fenced(Version::V1),
    Kind::Fenced(Version::V2),
    Kind::NewIdAtStart,
    Kind::NewIdAtEnd,
];

impl Kind {
    fn version(self) -> Version {
        match self {
            Kind::Commit(version) | Kind::Abort(version) | Kind::Slow(version) | Kind::Fenced(version) => version,
            Kind::NewIdAtStart | Kind::NewIdAtEnd => Version::V2,
        }
    }

    fn commits(self) -> bool {
        matches!(self, Kind::Commit(_) | Kind::NewIdAtStart | Kind::NewIdAtEnd)
    }
}

/// One step of one kind of transaction: the `times`th that has its name.
#[derive(Clone, Debug)]
struct Case {
    kind: Kind,
    step: String,
    times: usize,
}

impl Case {
    /// Whether the transaction must be there after the crash; `None`: it may be.
    fn expected(&self, ended: bool) -> Option<bool> {
        let Some(rest) = self.step.strip_prefix("state PrepareCommit ") else {
            let decided = self.step.starts_with("marker ") || self.step.starts_with("state Complete");
            return Some(self.kind.commits() && (ended || decided));
        };
        if rest == "ordered" && !ended { None } else { Some(self.kind.commits()) }
    }
}

/// How far a client got before the broker died.
#[derive(Default)]
struct Told {
    producer: Option<Producer>,
    /// It asked for the end, and whether it was told that it has come.
    end: Option<bool>,
}

struct Test {
    broker: Broker,
    connection: Connection,
    steps: PathBuf,
    round: usize,
    /// Stored transactional ids that nobody has used: at the last epoch, and at the one before it.
    stored: [Vec<String>; 2],
    /// The highest epoch of each producer id that was given out, and whose it is.
    epochs: BTreeMap<i64, (String, i16)>,
    /// What must be in each partition in the end.
    values: [Vec<String>; 2],
    offset: i64,
    /// The timeout of a transaction that is to take too long.
    slow_ms: i32,
}

impl Test {
    fn new() -> Test {
        let steps = scratch::folder("steps");
        let built = std::env::var_os("CORELANE_BIN").map(PathBuf::from);
        let options = BrokerOptions {
            env: vec![("TRANSACTION_STEPS".into(), steps.to_string_lossy().into_owned())],
            binary: Some(built.unwrap_or_else(|| scratch::target_dir().join("debug/corelane"))),
            ..BrokerOptions::default()
        };
        let options = options.set("transaction.state.log.num.partitions", 1).set("offsets.topic.num.partitions", 1);
        let broker = Broker::start(BrokerOptions { advertise: "node".into(), ..options });
        create_topic(&broker, TOPIC, 2, &[]);
        let connection = Connection::open(broker.bootstrap()).expect("the broker");
        let mut test = Test {
            broker,
            connection,
            steps,
            round: 0,
            stored: Default::default(),
            epochs: BTreeMap::new(),
            values: Default::default(),
            offset: -1,
            slow_ms: 300,
        };
        test.store_old_producers();
        test
    }

    fn resume(&mut self) {
        self.broker.resume();
        self.connection = Connection::open(self.broker.bootstrap()).expect("the broker");
    }

    /// Writes transactional ids whose epochs are as good as used up, as a tool may, and lets the coordinator load them.
    fn store_old_producers(&mut self) {
        // Makes the topic of transactions.
        Producer::init(&mut self.connection, (ID, TOPIC), Version::V2, 60_000).expect("a producer");
        let mut records = Vec::new();
        for n in 0..400 {
            let (epoch, name) = (LAST_EPOCH - n % 2, format!("old-{n}"));
            let value = TransactionLogValue {
                producer_id: STORED_IDS + i64::from(n),
                previous_producer_id: STORED_IDS + i64::from(n),
                next_producer_id: -1,
                producer_epoch: epoch,
                transaction_timeout_ms: 60_000,
                transaction_status: 4, // CompleteCommit
                transaction_partitions: Some(Vec::new()),
                transaction_last_update_timestamp_ms: now_ms(),
                transaction_start_timestamp_ms: now_ms(),
                client_transaction_version: 2,
                ..Default::default()
            };
            let key = TransactionLogKey { transactional_id: Str::from(name.clone()) }.to_key_bytes().expect("a key");
            records.push((key, encode_versioned(&value, 1).expect("a value")));
            self.stored[usize::from(epoch < LAST_EPOCH)].push(name);
        }
        let batch = build(ProducerIdentity::NONE, now_ms(), records.iter().map(|(k, v)| (Some(&k[..]), Some(&v[..]))));
        self.connection.set_client_id("__admin_client");
        let answer = self.connection.produce("__transaction_state", 0, batch).expect("an answer");
        assert_eq!(answer.error_code, 0, "transactional ids");
        self.broker.kill();
        self.resume();
    }

    fn name(&mut self, kind: Kind) -> String {
        match kind {
            Kind::NewIdAtStart => self.stored[0].pop().expect("a stored id"),
            Kind::NewIdAtEnd => self.stored[1].pop().expect("a stored id"),
            _ => ID.to_owned(),
        }
    }

    /// No producer id goes to two transactional ids, and no epoch of one goes out twice.
    fn given(&mut self, producer: &Producer) {
        let before = self.epochs.insert(producer.id, (producer.name.clone(), producer.epoch));
        let Some((name, epoch)) = before else { return };
        assert_eq!(name, producer.name, "the owner of producer id {}", producer.id);
        assert!(epoch < producer.epoch, "{}: epoch {} after {epoch}", producer.id, producer.epoch);
    }

    fn init(&mut self, name: &str, kind: Kind) -> Result<Producer> {
        let timeout_ms = if matches!(kind, Kind::Slow(_)) { self.slow_ms } else { 60_000 };
        let producer = Producer::init(&mut self.connection, (name, TOPIC), kind.version(), timeout_ms)?;
        self.given(&producer);
        Ok(producer)
    }

    /// One transaction: a record in each partition, and an offset.
    fn transaction(&mut self, name: &str, kind: Kind, told: &mut Told) -> Result<()> {
        let producer = self.init(name, kind)?;
        let producer = told.producer.insert(producer);
        let connection = &mut self.connection;
        producer.add(connection)?;
        for partition in 0..2 {
            producer.write(connection, partition, &self.round.to_string())?;
        }
        producer.commit_offset(connection, GROUP, self.round as i64)?;
        match kind {
            Kind::Slow(_) => {}
            Kind::Fenced(_) => drop(self.init(name, kind)?),
            _ => {
                told.end = Some(false);
                producer.end(connection, kind.commits())?;
                told.end = Some(true);
            }
        }
        at_rest(&mut self.connection, name)?;
        Ok(())
    }

    /// A machine may be so slow that the time of a transaction is over before all of it is written, which is refused then: gives the
    /// next one more, when this one has ended.
    fn give_more_time(&mut self, name: &str, kind: Kind, code: i16) -> Result<()> {
        assert!(matches!(kind, Kind::Slow(_)) && self.slow_ms < 60_000, "{kind:?}: error {code}");
        self.slow_ms *= 2;
        at_rest(&mut self.connection, name).map(drop)
    }

    /// The steps of a kind of transaction, each with the number of times that it comes.
    fn steps_of(&mut self, kind: Kind) -> Vec<Case> {
        let name = self.name(kind);
        let passed = self.steps.join("passed");
        self.round += 1;
        loop {
            let _ = fs::remove_file(&passed);
            let done = match self.transaction(&name, kind, &mut Told::default()) {
                Err(Failed::Refused(code)) => self.give_more_time(&name, kind, code).map(|()| false),
                done => done.map(|()| true),
            };
            if done.unwrap_or_else(|e| panic!("{kind:?}: {e:?}")) {
                break;
            }
        }
        assert!(passed.exists(), "no steps: the binary must be a debug build");
        let last = if matches!(kind, Kind::Fenced(_)) { "state Empty told" } else { "told" };
        wait::until("the last step", LIMIT, || {
            fs::read_to_string(&passed).ok().filter(|text| text.trim_end().ends_with(last))
        });
        self.check(kind, Some(kind.commits()));
        let text = fs::read_to_string(&passed).expect("the steps");
        let mut times: BTreeMap<&str, usize> = BTreeMap::new();
        let mut case = |step| {
            let times = times.entry(step).or_default();
            *times += 1;
            Case { kind, step: step.to_owned(), times: *times }
        };
        text.lines().map(&mut case).collect()
    }

    /// One transaction through a crash.
    fn run(&mut self, case: &Case) {
        if case.step.starts_with("producer ids") {
            // A process asks for ids when it has none.
            self.broker.kill();
            self.resume();
        }
        let name = self.name(case.kind);
        self.round += 1;
        let order = self.steps.join("crash-at");
        let told = loop {
            fs::write(&order, format!("{} {}", case.times, case.step)).expect("an order");
            let mut told = Told::default();
            match self.transaction(&name, case.kind, &mut told) {
                Err(Failed::Refused(code)) if self.give_more_time(&name, case.kind, code).is_ok() => {}
                _ => break told,
            }
        };
        // A step behind the last answer comes a little later.
        assert!(self.broker.wait_exit(LIMIT).is_some(), "{case:?} was not reached");
        fs::remove_file(&order).expect("the order");
        self.resume();
        // What was asked and not answered is asked again, every other time.
        let mut ended = told.end == Some(true);
        if let (Some(false), Some(producer), 0) = (told.end, &told.producer, self.round % 2) {
            producer.end(&mut self.connection, case.kind.commits()).unwrap_or_else(|e| panic!("{case:?}: {e:?}"));
            ended = true;
        }
        let expected = case.expected(ended);
        let next = self.init(&name, case.kind).unwrap_or_else(|e| panic!("{case:?}: {e:?}"));
        at_rest(&mut self.connection, &name).unwrap_or_else(|e| panic!("{case:?}: {e:?}"));
        println!("{case:?}: {expected:?}");
        self.check(case.kind, expected);
        if let Some(mut old) = told.producer {
            assert!((old.id, old.epoch) != (next.id, next.epoch));
            assert!(matches!(old.end(&mut self.connection, true), Err(Failed::Refused(_))), "{case:?}: not fenced");
            let late = old.add(&mut self.connection).and_then(|()| old.write(&mut self.connection, 0, "late"));
            assert!(matches!(late, Err(Failed::Refused(_))), "{case:?}: a late record: {late:?}");
        }
    }

    /// The transaction of this round is whole or not there at all, as expected, and all that was decided before it stands.
    fn check(&mut self, kind: Kind, expected: Option<bool>) {
        let what = format!("{kind:?}, round {}", self.round);
        for partition in 0..2 {
            wait::until(&format!("{what}: an end of what is undecided"), LIMIT, || {
                let connection = &mut self.connection;
                (connection.latest_offset(TOPIC, partition, 1) == connection.latest_offset(TOPIC, partition, 0))
                    .then_some(())
            });
        }
        let offset = committed_offset(&mut self.connection, GROUP, TOPIC);
        let is_there = offset == self.round as i64;
        assert!(expected.is_none_or(|expected| expected == is_there), "{what}: expected {expected:?}");
        if is_there {
            self.offset = offset;
            self.values.iter_mut().for_each(|values| values.push(self.round.to_string()));
        }
        assert_eq!(offset, self.offset, "{what}");
        for partition in 0..2 {
            let found = committed(&mut self.connection, TOPIC, partition, 0);
            assert_eq!(found, self.values[partition as usize], "{what}: partition {partition}");
        }
    }
}

/// Steps that there must be, whatever else there is.
fn required() -> Vec<String> {
    let mut all = vec!["producer ids durable".to_owned()];
    for state in ["Empty", "Ongoing", "PrepareCommit", "PrepareAbort", "CompleteCommit", "CompleteAbort"] {
        all.extend(["ordered", "durable", "told"].map(|moment| format!("state {state} {moment}")));
    }
    all.extend(["ordered", "durable", "told"].map(|moment| format!("offsets {moment}")));
    for written in ["batch steps-0", "batch steps-1", "marker steps-0", "marker steps-1", "marker __consumer_offsets-0"]
    {
        all.extend(["ordered", "durable"].map(|moment| format!("{written} {moment}")));
    }
    all
}

#[test]
fn a_crash_at_any_step_of_a_transaction_leaves_all_of_it_or_nothing() {
    let mut test = Test::new();
    let mut by_step: BTreeMap<String, Vec<Case>> = BTreeMap::new();
    for kind in KINDS {
        for case in test.steps_of(kind) {
            by_step.entry(case.step.clone()).or_default().push(case);
        }
    }
    let found: BTreeSet<&String> = by_step.keys().collect();
    let missing: Vec<String> = required().into_iter().filter(|step| !found.contains(step)).collect();
    assert!(missing.is_empty(), "steps that no transaction comes to: {missing:?}");
    let mut moments = Moments::new();
    let cases: Vec<Case> = match std::env::var_os("CORELANE_LONG") {
        Some(_) => by_step.into_values().flatten().collect(),
        None => by_step.into_values().map(|mut cases| cases.swap_remove(moments.below(cases.len()))).collect(),
    };
    for case in &cases {
        test.run(case);
    }
    println!("{} crashes", cases.len());
}

//! Exactly once through kills: what one topic holds is written to another in transactions that also commit how far it was read, by
//! several producers at a time. Each transactional id has two of them that take it from each other; each reads what the others have
//! committed. What they did and were told is checked as a history.

use super::history::{History, Number, Outcome, Session, Transaction, Value};
use super::{LIMIT, Moments, broker, kill_and_restart, kills};
use corelane_tests::broker::Broker;
use corelane_tests::librdkafka::{config, create_topic, produce_all, producer, unique};
use corelane_tests::wait;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::util::Timeout;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

/// Of both topics; each input partition has a transactional id and a group of its own.
const PARTITIONS: usize = 3;
const RECORDS: usize = 60_000;
/// Records of one transaction at most.
const BATCH: usize = 8;
const SENTINEL: &str = "sentinel";

/// What the next step after a failure is.
enum Failed {
    Abort,
    Fatal,
}

fn judge(error: &KafkaError) -> Failed {
    match error {
        KafkaError::Transaction(error) if error.txn_requires_abort() => Failed::Abort,
        _ => Failed::Fatal,
    }
}

/// Does again what librdkafka says may be done again.
fn insist(mut step: impl FnMut() -> Result<(), KafkaError>) -> Result<(), Failed> {
    loop {
        match step() {
            Ok(()) => return Ok(()),
            Err(KafkaError::Transaction(error)) if error.is_retriable() => {}
            Err(error) => return Err(judge(&error)),
        }
    }
}

/// An abort needs somebody who takes delivery reports.
type Transactional = ThreadedProducer<DefaultProducerContext>;

/// What all workers share.
struct Work {
    bootstrap: String,
    input: String,
    output: String,
    stop: AtomicBool,
    number: AtomicUsize,
    committed: AtomicUsize,
    fenced: AtomicUsize,
    /// Committed transactions of each transactional id.
    by_id: [AtomicUsize; PARTITIONS],
    transactions: Mutex<Vec<Transaction>>,
    sessions: Mutex<Vec<(usize, Session)>>,
}

fn value_of(message: &BorrowedMessage<'_>) -> Option<Value> {
    let text = std::str::from_utf8(message.payload()?).ok()?;
    let (number, n) = text.split_once('.')?;
    Some((number.parse().ok()?, n.parse().ok()?))
}

/// Reads partitions of a topic with nobody else in its group.
fn assigned(config: &mut ClientConfig, topic: &str, partitions: std::ops::Range<usize>, from: Offset) -> BaseConsumer {
    config.set("enable.auto.commit", "false").set("isolation.level", "read_committed");
    config.set("auto.offset.reset", "earliest");
    let consumer: BaseConsumer = config.create().expect("a consumer");
    let mut list = TopicPartitionList::new();
    for partition in partitions {
        list.add_partition_offset(topic, partition as i32, from).expect("a partition");
    }
    consumer.assign(&list).expect("assign");
    consumer
}

/// One of the two that have a transactional id.
struct Worker<'a> {
    work: &'a Work,
    id: usize,
    moments: Moments,
    seen: BTreeMap<usize, Session>,
}

impl Worker<'_> {
    fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.work.bootstrap)
            .set("broker.address.family", "v4")
            .set("reconnect.backoff.max.ms", "200")
            .set_log_level(rdkafka::config::RDKafkaLogLevel::Emerg);
        config
    }

    fn stopped(&self) -> bool {
        self.work.stop.load(SeqCst)
    }

    fn run(&mut self) {
        let others =
            assigned(self.config().set("group.id", "none"), &self.work.output, 0..PARTITIONS, Offset::Beginning);
        while !self.stopped() {
            let mut config = self.config();
            config
                .set("transactional.id", format!("{}-{}", self.work.input, self.id))
                .set("transaction.timeout.ms", "30000")
                .set("linger.ms", "1");
            let producer: Transactional = config.create().expect("a producer");
            if insist(|| producer.init_transactions(LIMIT)).is_ok() {
                self.go_on_with(&producer, &others);
            }
            // The other one has taken the id, as a rule: takes it back after some of its transactions, or when it does none.
            self.work.fenced.fetch_add(1, SeqCst);
            let target = self.work.by_id[self.id].load(SeqCst) + self.moments.next(64);
            let enough = || (self.stopped() || self.work.by_id[self.id].load(SeqCst) >= target).then_some(());
            wait::within(Duration::from_secs(2), enough);
        }
        self.work.sessions.lock().expect("sessions").extend(std::mem::take(&mut self.seen));
    }

    /// Until a new producer is needed.
    fn go_on_with(&mut self, producer: &Transactional, others: &BaseConsumer) {
        while !self.stopped() {
            let group = format!("{}-{}", self.work.input, self.id);
            let range = self.id..self.id + 1;
            let consumer = assigned(self.config().set("group.id", group), &self.work.input, range, Offset::Stored);
            loop {
                if self.stopped() {
                    return;
                }
                match self.transaction(producer, &consumer, others) {
                    Ok(()) => {}
                    Err(Failed::Fatal) => return,
                    // What was not committed is read again: from where the group is, by a new consumer.
                    Err(Failed::Abort) => match insist(|| producer.abort_transaction(LIMIT)) {
                        Ok(()) => break,
                        Err(_) => return,
                    },
                }
            }
        }
    }

    /// One transaction. If it is aborted on purpose the consumer goes back to where it began.
    fn transaction(
        &mut self,
        producer: &Transactional,
        consumer: &BaseConsumer,
        others: &BaseConsumer,
    ) -> Result<(), Failed> {
        let Some(Ok(first)) = consumer.poll(Duration::from_millis(500)) else { return Ok(()) };
        let mut messages = vec![first];
        while messages.len() < BATCH
            && let Some(Ok(message)) = consumer.poll(Duration::ZERO)
        {
            messages.push(message);
        }
        let (from, to) = (messages[0].offset(), messages[messages.len() - 1].offset() + 1);
        let mut record = Transaction {
            number: self.work.number.fetch_add(1, SeqCst),
            producer: self.id,
            outcome: Outcome::Aborted,
            appends: Vec::new(),
            moved: Some((self.id, from, to)),
            saw: self.look(others),
        };
        let result = self.carry_out(producer, consumer, &mut record, messages.len());
        let aborted = result.is_ok() && record.outcome == Outcome::Aborted;
        if record.outcome == Outcome::Committed {
            self.work.committed.fetch_add(1, SeqCst);
            self.work.by_id[self.id].fetch_add(1, SeqCst);
        }
        self.work.transactions.lock().expect("transactions").push(record);
        if aborted {
            consumer.seek(&self.work.input, self.id as i32, Offset::Offset(from), LIMIT).map_err(|_| Failed::Fatal)?;
        }
        result
    }

    /// What the others have committed since the last look.
    fn look(&mut self, others: &BaseConsumer) -> Vec<Value> {
        let mut saw = Vec::new();
        while let Some(Ok(message)) = others.poll(Duration::ZERO) {
            if let Some(value) = value_of(&message) {
                self.seen.entry(message.partition() as usize).or_default().push((message.offset(), value));
                saw.push(value);
            }
        }
        saw
    }

    fn carry_out(
        &mut self,
        producer: &Transactional,
        consumer: &BaseConsumer,
        record: &mut Transaction,
        messages: usize,
    ) -> Result<(), Failed> {
        producer.begin_transaction().map_err(|error| judge(&error))?;
        // One into every partition, and one for each record that was read.
        for n in 0..PARTITIONS + messages {
            let partition = n % PARTITIONS;
            let value = format!("{}.{n}", record.number);
            let send: BaseRecord<'_, [u8], [u8]> =
                BaseRecord::to(&self.work.output).payload(value.as_bytes()).partition(partition as i32);
            producer.send(send).map_err(|_| Failed::Abort)?;
            record.appends.push((partition, (record.number, n)));
        }
        let mut list = TopicPartitionList::new();
        let to = record.moved.map_or(0, |(_, _, to)| to);
        list.add_partition_offset(&self.work.input, self.id as i32, Offset::Offset(to)).expect("a partition");
        let group = consumer.group_metadata().expect("a group");
        insist(|| producer.send_offsets_to_transaction(&list, &group, LIMIT))?;
        if record.number.is_multiple_of(5) {
            return insist(|| producer.abort_transaction(LIMIT)).map_err(|_| Failed::Fatal);
        }
        record.outcome = Outcome::Unknown;
        insist(|| producer.commit_transaction(LIMIT)).inspect_err(|failed| {
            if matches!(failed, Failed::Abort) {
                record.outcome = Outcome::Aborted;
            }
        })?;
        record.outcome = Outcome::Committed;
        Ok(())
    }
}

/// Every value of each partition that a reader of committed records sees, up to the sentinel behind them.
fn read_committed(broker: &Broker, topic: &str) -> Vec<Session> {
    let client: BaseProducer = config(broker).create().expect("a producer");
    for partition in 0..PARTITIONS {
        let record: BaseRecord<'_, [u8], [u8]> =
            BaseRecord::to(topic).payload(SENTINEL.as_bytes()).partition(partition as i32);
        client.send(record).map_err(|(error, _)| error).expect("a sentinel");
    }
    client.flush(Timeout::After(LIMIT)).expect("sentinels");
    let consumer = assigned(config(broker).set("group.id", unique("reader")), topic, 0..PARTITIONS, Offset::Beginning);
    let mut lists = vec![Vec::new(); PARTITIONS];
    let mut left: BTreeSet<usize> = (0..PARTITIONS).collect();
    while !left.is_empty() {
        let message = wait::until("committed records up to the sentinel", LIMIT, || {
            consumer.poll(Duration::from_millis(500)).and_then(Result::ok)
        });
        match value_of(&message) {
            Some(value) => lists[message.partition() as usize].push((message.offset(), value)),
            None => drop(left.remove(&(message.partition() as usize))),
        }
    }
    lists
}

fn positions(broker: &Broker, input: &str) -> Vec<i64> {
    let position = |id: usize| {
        let client: BaseConsumer =
            config(broker).set("group.id", format!("{input}-{id}")).create().expect("a consumer");
        let mut ask = TopicPartitionList::new();
        ask.add_partition(input, id as i32);
        let found = wait::until("committed offsets", LIMIT, || client.committed_offsets(ask.clone(), LIMIT).ok());
        found.find_partition(input, id as i32).expect("the partition").offset().to_raw().filter(|n| *n > 0).unwrap_or(0)
    };
    (0..PARTITIONS).map(position).collect()
}

#[test]
fn transactions_are_whole_or_not_at_all() {
    let mut broker = broker();
    let input = unique("exactly-once");
    let output = format!("{input}-out");
    for topic in [&input, &output] {
        create_topic(&broker, topic, PARTITIONS as i32, &[]);
    }
    let values: Vec<String> = (0..RECORDS).map(|n| n.to_string()).collect();
    let feeder = producer(&broker, &[("linger.ms", "20")]);
    produce_all(&feeder, &input, values.iter().map(|v| (v.as_bytes(), v.as_bytes())));
    drop(feeder);
    let work = Work {
        bootstrap: broker.bootstrap().to_owned(),
        input,
        output,
        stop: AtomicBool::new(false),
        number: AtomicUsize::new(1),
        committed: AtomicUsize::new(0),
        fenced: AtomicUsize::new(0),
        by_id: Default::default(),
        transactions: Mutex::default(),
        sessions: Mutex::default(),
    };
    let mut moments = Moments::new();
    std::thread::scope(|scope| {
        let work = &work;
        let worker = |n: usize, moments| {
            let mut worker = Worker { work, id: n % PARTITIONS, moments, seen: BTreeMap::new() };
            scope.spawn(move || worker.run())
        };
        let workers: Vec<_> = (0..2 * PARTITIONS).map(|n| worker(n, moments.fork())).collect();
        let wait_for = |what: &str, more: usize| {
            let target = work.committed.load(SeqCst) + more;
            wait::until(what, LIMIT * 2, || {
                assert!(!workers.iter().any(|worker| worker.is_finished()), "a worker gave up");
                (work.committed.load(SeqCst) >= target).then_some(())
            });
        };
        for kill in 0..kills().div_ceil(2) {
            wait_for(&format!("transactions before kill {kill}"), 10 + moments.next(200));
            kill_and_restart(&mut broker);
        }
        wait_for("transactions after the last kill", 5);
        work.stop.store(true, SeqCst);
        workers.into_iter().for_each(|worker| worker.join().expect("a worker"));
    });
    let history = History {
        lists: read_committed(&broker, &work.output),
        positions: positions(&broker, &work.input),
        transactions: work.transactions.into_inner().expect("transactions"),
        sessions: work.sessions.into_inner().expect("sessions"),
    };
    let took_place: Number = history.check().unwrap_or_else(|why| panic!("{why}"));
    let reads: usize = history.sessions.iter().map(|(_, session)| session.len()).sum();
    let fenced = work.fenced.load(SeqCst);
    println!(
        "{} transactions, {took_place} took place, {reads} values read, {fenced} changes of producer",
        history.transactions.len()
    );
}

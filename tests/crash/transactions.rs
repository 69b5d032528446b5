//! Exactly once through kills: what one topic holds is written to others in transactions that also commit how far it was read.
//! No record is lost, doubled or seen in half a transaction.

use super::{LIMIT, Moments, alone, broker, kill_and_restart, kills};
use corelane_tests::broker::Broker;
use corelane_tests::librdkafka::{config, create_topic, produce_all, producer, unique};
use corelane_tests::wait;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::util::Timeout;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

const PARTITIONS: i32 = 3;
const RECORDS: usize = 30_000;
/// Records of one transaction at most.
const BATCH: usize = 8;
const SENTINEL: &str = "sentinel";

struct Topics {
    input: String,
    /// Each input record once.
    output: String,
    /// The number of each transaction once in every partition.
    wide: String,
}

/// What went wrong, as far as the next step depends on it.
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

struct Worker<'a> {
    bootstrap: &'a str,
    topics: &'a Topics,
    stop: &'a AtomicBool,
    committed: &'a AtomicUsize,
    next: usize,
}

impl Worker<'_> {
    fn config(&self) -> rdkafka::ClientConfig {
        let mut config = rdkafka::ClientConfig::new();
        config
            .set("bootstrap.servers", self.bootstrap)
            .set("broker.address.family", "v4")
            .set("reconnect.backoff.max.ms", "200")
            .set_log_level(rdkafka::config::RDKafkaLogLevel::Emerg);
        config
    }

    fn run(&mut self) {
        while !self.stop.load(SeqCst) {
            let mut config = self.config();
            config
                .set("transactional.id", &self.topics.input)
                .set("transaction.timeout.ms", "30000")
                .set("linger.ms", "1");
            let producer: Transactional = config.create().expect("a producer");
            if insist(|| producer.init_transactions(LIMIT)).is_ok() {
                self.go_on_with(&producer);
            }
        }
    }

    /// Until something is so wrong that a new producer is needed.
    fn go_on_with(&mut self, producer: &Transactional) {
        while !self.stop.load(SeqCst) {
            let mut config = self.config();
            config.set("group.id", &self.topics.input).set("enable.auto.commit", "false");
            config.set("isolation.level", "read_committed").set("auto.offset.reset", "earliest");
            let consumer: BaseConsumer = config.create().expect("a consumer");
            let mut list = TopicPartitionList::new();
            for partition in 0..PARTITIONS {
                list.add_partition_offset(&self.topics.input, partition, Offset::Stored).expect("a partition");
            }
            consumer.assign(&list).expect("assign");
            // A transaction that is not committed is read again: from where the group was, by a new consumer.
            while !self.stop.load(SeqCst) {
                match self.transaction(producer, &consumer) {
                    Ok(true) => {}
                    Ok(false) => break,
                    Err(Failed::Fatal) => return,
                    Err(Failed::Abort) => match insist(|| producer.abort_transaction(LIMIT)) {
                        Ok(()) => break,
                        Err(_) => return,
                    },
                }
            }
        }
    }

    /// One transaction; false if it was aborted on purpose.
    fn transaction(&mut self, producer: &Transactional, consumer: &BaseConsumer) -> Result<bool, Failed> {
        let Some(Ok(first)) = consumer.poll(Duration::from_millis(500)) else { return Ok(true) };
        let mut messages = vec![first];
        while messages.len() < BATCH
            && let Some(Ok(message)) = consumer.poll(Duration::ZERO)
        {
            messages.push(message);
        }
        self.next += 1;
        producer.begin_transaction().map_err(|error| judge(&error))?;
        let mut offsets = BTreeMap::new();
        for message in &messages {
            let payload = message.payload().expect("a value");
            let record: BaseRecord<'_, [u8], [u8]> =
                BaseRecord::to(&self.topics.output).payload(payload).partition(message.offset() as i32 % PARTITIONS);
            producer.send(record).map_err(|_| Failed::Abort)?;
            offsets.insert(message.partition(), message.offset() + 1);
        }
        let number = self.next.to_string();
        for partition in 0..PARTITIONS {
            let record: BaseRecord<'_, [u8], [u8]> =
                BaseRecord::to(&self.topics.wide).payload(number.as_bytes()).partition(partition);
            producer.send(record).map_err(|_| Failed::Abort)?;
        }
        let mut list = TopicPartitionList::new();
        for (partition, offset) in offsets {
            list.add_partition_offset(&self.topics.input, partition, Offset::Offset(offset)).expect("a partition");
        }
        let group = consumer.group_metadata().expect("a group");
        insist(|| producer.send_offsets_to_transaction(&list, &group, LIMIT))?;
        if self.next.is_multiple_of(5) {
            insist(|| producer.abort_transaction(LIMIT)).map_err(|_| Failed::Fatal)?;
            return Ok(false);
        }
        insist(|| producer.commit_transaction(LIMIT))?;
        self.committed.fetch_add(1, SeqCst);
        Ok(true)
    }
}

/// Every value of each partition that a reader of committed records sees, up to the sentinel behind them.
fn read_committed(broker: &Broker, topic: &str) -> Vec<Vec<String>> {
    let client: BaseProducer = config(broker).create().expect("a producer");
    for partition in 0..PARTITIONS {
        let record: BaseRecord<'_, [u8], [u8]> =
            BaseRecord::to(topic).payload(SENTINEL.as_bytes()).partition(partition);
        client.send(record).map_err(|(error, _)| error).expect("a sentinel");
    }
    client.flush(Timeout::After(LIMIT)).expect("sentinels");
    let mut settings = config(broker);
    settings.set("group.id", unique("reader")).set("isolation.level", "read_committed");
    settings.set("enable.auto.commit", "false");
    let consumer: BaseConsumer = settings.create().expect("a consumer");
    let mut list = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        list.add_partition_offset(topic, partition, Offset::Beginning).expect("a partition");
    }
    consumer.assign(&list).expect("assign");
    let mut values = vec![Vec::new(); PARTITIONS as usize];
    let mut left: BTreeSet<i32> = (0..PARTITIONS).collect();
    while !left.is_empty() {
        let message = wait::until("committed records up to the sentinel", LIMIT, || {
            consumer.poll(Duration::from_millis(500)).and_then(Result::ok)
        });
        let value = String::from_utf8_lossy(message.payload().expect("a value")).into_owned();
        match value == SENTINEL {
            true => drop(left.remove(&message.partition())),
            false => values[message.partition() as usize].push(value),
        }
    }
    values
}

#[test]
fn transactions_are_whole_or_not_at_all() {
    let _alone = alone();
    let mut broker = broker();
    let name = unique("exactly-once");
    let topics = Topics { input: name.clone(), output: format!("{name}-out"), wide: format!("{name}-wide") };
    for topic in [&topics.input, &topics.output, &topics.wide] {
        create_topic(&broker, topic, PARTITIONS, &[]);
    }
    let values: Vec<String> = (0..RECORDS).map(|n| n.to_string()).collect();
    let feeder = producer(&broker, &[("linger.ms", "20")]);
    produce_all(&feeder, &topics.input, values.iter().map(|v| (v.as_bytes(), v.as_bytes())));
    drop(feeder);
    let (stop, committed) = (AtomicBool::new(false), AtomicUsize::new(0));
    let mut moments = Moments::new();
    let bootstrap = broker.bootstrap().to_owned();
    std::thread::scope(|scope| {
        let (topics, stop, committed) = (&topics, &stop, &committed);
        let mut worker = Worker { bootstrap: &bootstrap, topics, stop, committed, next: 0 };
        let work = scope.spawn(move || worker.run());
        for kill in 0..kills() {
            let target = committed.load(SeqCst) + moments.next(40);
            wait::until(&format!("transactions before kill {kill}"), LIMIT * 2, || {
                assert!(!work.is_finished(), "the worker gave up");
                (committed.load(SeqCst) >= target).then_some(())
            });
            kill_and_restart(&mut broker);
        }
        let target = committed.load(SeqCst) + 5;
        wait::until("transactions after the last kill", LIMIT * 2, || (committed.load(SeqCst) >= target).then_some(()));
        stop.store(true, SeqCst);
        work.join().expect("the worker");
    });
    check(&broker, &topics);
}

fn check(broker: &Broker, topics: &Topics) {
    let mut settings = config(broker);
    settings.set("group.id", &topics.input);
    let client: BaseConsumer = settings.create().expect("a consumer");
    let mut ask = TopicPartitionList::new();
    ask.add_partition_range(&topics.input, 0, PARTITIONS - 1);
    let found = wait::until("committed offsets", LIMIT, || client.committed_offsets(ask.clone(), LIMIT).ok());
    let input = read_committed(broker, &topics.input);
    let mut expected = Vec::new();
    for partition in 0..PARTITIONS {
        let element = found.find_partition(&topics.input, partition).expect("the partition");
        let upto = element.offset().to_raw().filter(|offset| *offset > 0).unwrap_or(0) as usize;
        expected.extend(input[partition as usize].iter().take(upto).cloned());
    }
    let mut output: Vec<String> = read_committed(broker, &topics.output).into_iter().flatten().collect();
    expected.sort();
    output.sort();
    assert_eq!(output.len(), expected.len(), "records that came out, and records that were read");
    assert_eq!(output, expected);
    let wide = read_committed(broker, &topics.wide);
    assert!(wide.iter().all(|partition| *partition == wide[0]), "a transaction is seen in half");
    let numbers: BTreeSet<&String> = wide[0].iter().collect();
    assert_eq!(numbers.len(), wide[0].len(), "a transaction is seen twice");
    println!("{} records in {} transactions", output.len(), numbers.len());
}

//! librdkafka with the defaults that the tests want, and short ways to do what most of them do.

use crate::broker::Broker;
use crate::connection::Connection;
use crate::wait;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::{ClientContext, DefaultClientContext};
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, DeliveryResult, Message};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

/// Bound on anything that should simply work. Generous: CI has two slow cores.
pub const LIMIT: Duration = Duration::from_secs(60);

/// A name that no other test and no earlier run has used.
pub fn unique(name: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let since = std::time::UNIX_EPOCH.elapsed().expect("a clock after 1970").as_millis();
    format!("{name}-{since:x}-{:x}-{}", std::process::id(), NEXT.fetch_add(1, Relaxed))
}

/// Settings of every client.
pub fn config(broker: &Broker) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", broker.bootstrap())
        .set("broker.address.family", "v4")
        .set("reconnect.backoff.max.ms", "1000")
        .set_log_level(RDKafkaLogLevel::Emerg);
    config
}

/// Runs a future of the admin client.
pub fn block_on<F: Future>(future: F) -> F::Output {
    futures::executor::block_on(future)
}

pub fn admin(broker: &Broker) -> AdminClient<DefaultClientContext> {
    config(broker).create().expect("an admin client")
}

pub fn admin_options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(LIMIT)).operation_timeout(Some(LIMIT))
}

/// Creates a topic and waits until every partition has a leader.
pub fn create_topic(broker: &Broker, name: &str, partitions: i32, configs: &[(&str, &str)]) {
    let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
    for (key, value) in configs {
        topic = topic.set(key, value);
    }
    let client = admin(broker);
    let results = block_on(client.create_topics([&topic], &admin_options())).expect("CreateTopics");
    assert_eq!(results, [Ok(name.to_owned())]);
    wait_leaders(broker, name, partitions);
}

/// Waits until the leader of each of the `partitions` partitions answers. Apache Kafka names leaders before they serve.
pub fn wait_leaders(broker: &Broker, name: &str, partitions: i32) {
    wait::until(&format!("leaders of {name}"), LIMIT, || Bounds::of(broker, name, partitions));
}

/// First offset and high watermark of every partition of a topic. Asked by hand: librdkafka takes half a second for each.
pub struct Bounds(pub Vec<(i64, i64)>);

impl Bounds {
    /// `None`: a partition has no leader that answers, or there are not so many.
    pub fn of(broker: &Broker, topic: &str, partitions: i32) -> Option<Bounds> {
        let metadata = Connection::open(broker.bootstrap()).ok()?.metadata(topic).ok()?;
        let known = &metadata.topics.first()?.partitions;
        if known.len() != usize::try_from(partitions).ok()? {
            return None;
        }
        let mut leaders: BTreeMap<i32, Connection> = BTreeMap::new();
        let mut bounds = vec![(0, 0); known.len()];
        for partition in known.iter().filter(|p| p.error_code == 0) {
            let leader = metadata.brokers.iter().find(|b| b.node_id == partition.leader_id)?;
            let connection = match leaders.entry(leader.node_id) {
                Entry::Occupied(open) => open.into_mut(),
                Entry::Vacant(new) => new.insert(Connection::open(&format!("{}:{}", leader.host, leader.port)).ok()?),
            };
            let index = partition.partition_index;
            let mut ask =
                |timestamp| connection.list_offset(topic, index, timestamp).ok().filter(|(_, error)| *error == 0);
            *bounds.get_mut(usize::try_from(index).ok()?)? = (ask(-2)?.0, ask(-1)?.0);
        }
        known.iter().all(|p| p.error_code == 0).then_some(Bounds(bounds))
    }
}

/// Where a record went, by the number the test gave it.
pub type Deliveries = BTreeMap<u64, Result<(i32, i64), RDKafkaErrorCode>>;

/// Collects delivery reports.
#[derive(Default)]
pub struct Reports {
    seen: Mutex<Deliveries>,
}

impl Reports {
    pub fn len(&self) -> usize {
        self.seen.lock().expect("reports").len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn take(&self) -> Deliveries {
        std::mem::take(&mut self.seen.lock().expect("reports"))
    }
}

impl ClientContext for Reports {}

impl ProducerContext for Reports {
    type DeliveryOpaque = Box<u64>;

    fn delivery(&self, result: &DeliveryResult<'_>, number: Box<u64>) {
        let outcome = match result {
            Ok(message) => Ok((message.partition(), message.offset())),
            Err((error, _)) => Err(error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown)),
        };
        let before = self.seen.lock().expect("reports").insert(*number, outcome);
        assert!(before.is_none(), "two delivery reports for record {number}");
    }
}

pub type ReportingProducer = BaseProducer<Reports>;

/// A producer whose delivery reports the test reads. `settings` come after the defaults (acks=all, linger 5 ms).
pub fn producer(broker: &Broker, settings: &[(&str, &str)]) -> ReportingProducer {
    let mut config = config(broker);
    config.set("acks", "all").set("linger.ms", "5").set("queue.buffering.max.messages", "1000000");
    for (key, value) in settings {
        config.set(*key, *value);
    }
    config.create_with_context(Reports::default()).expect("a producer")
}

/// Hands `record` over, serving delivery reports while the queue is full.
pub fn send(producer: &ReportingProducer, mut record: BaseRecord<'_, [u8], [u8], Box<u64>>) {
    loop {
        match producer.send(record) {
            Ok(()) => return,
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                record = back;
                producer.poll(Duration::from_millis(10));
            }
            Err((error, _)) => panic!("send: {error}"),
        }
    }
}

/// Sends records 0.. to `topic` and returns where each went. Fails if any was not delivered.
pub fn produce_all<'a>(
    producer: &ReportingProducer,
    topic: &str,
    records: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
) -> BTreeMap<u64, (i32, i64)> {
    let mut sent = 0;
    for (key, value) in records {
        send(producer, BaseRecord::with_opaque_to(topic, Box::new(sent)).key(key).payload(value));
        sent += 1;
        if sent % 512 == 0 {
            producer.poll(Duration::ZERO);
        }
    }
    producer.flush(LIMIT).expect("flush");
    let reports = producer.context().take();
    assert_eq!(reports.len() as u64, sent, "a delivery report for each record");
    reports.into_iter().map(|(n, r)| (n, r.unwrap_or_else(|e| panic!("record {n}: {e}")))).collect()
}

/// A record as a test compares it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    pub partition: i32,
    pub offset: i64,
    pub timestamp: Option<i64>,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
}

impl Read {
    pub fn of(message: &BorrowedMessage<'_>) -> Read {
        Read {
            partition: message.partition(),
            offset: message.offset(),
            timestamp: message.timestamp().to_millis(),
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(<[u8]>::to_vec),
        }
    }
}

/// A consumer with no group behaviour of its own: assigns partitions, commits nothing.
pub fn consumer(broker: &Broker, settings: &[(&str, &str)]) -> BaseConsumer {
    let mut config = config(broker);
    config
        .set("group.id", unique("reader"))
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "error")
        .set("check.crcs", "true");
    for (key, value) in settings {
        config.set(*key, *value);
    }
    config.create().expect("a consumer")
}

/// Assigns all `partitions` of `topic` from `offset`.
pub fn assign(consumer: &BaseConsumer, topic: &str, partitions: i32, offset: Offset) {
    let mut list = TopicPartitionList::new();
    for p in 0..partitions {
        list.add_partition_offset(topic, p, offset).expect("a partition");
    }
    consumer.assign(&list).expect("assign");
}

/// Polls until `enough` says so; fails on any error or when [`LIMIT`] passes without a record.
pub fn read_until<C>(consumer: &BaseConsumer<C>, mut each: impl FnMut(&BorrowedMessage<'_>) -> bool)
where
    C: rdkafka::consumer::ConsumerContext,
{
    loop {
        match consumer.poll(LIMIT) {
            Some(Ok(message)) => {
                if each(&message) {
                    return;
                }
            }
            Some(Err(error)) => panic!("consume: {error}"),
            None => panic!("no record for {LIMIT:?}"),
        }
    }
}

/// Reads `count` records of all partitions of `topic` from the start, and checks that then nothing more is there.
pub fn read_all(broker: &Broker, topic: &str, partitions: i32, count: usize) -> Vec<Read> {
    let consumer = consumer(broker, &[]);
    assign(&consumer, topic, partitions, Offset::Beginning);
    let mut out = Vec::with_capacity(count);
    if count > 0 {
        read_until(&consumer, |message| {
            out.push(Read::of(message));
            out.len() == count
        });
    }
    let bounds = wait::until("offsets of all partitions", LIMIT, || Bounds::of(broker, topic, partitions));
    for (p, (low, high)) in (0..).zip(bounds.0) {
        let read = i64::try_from(out.iter().filter(|r| r.partition == p).count()).expect("a count");
        assert_eq!(high - low, read, "{topic}-{p}: offsets {low}..{high}, records read {read}");
    }
    out
}

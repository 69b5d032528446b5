//! Two producers with one transactional id, and Apache Kafka's tool for transactions.

use corelane_protocol::Str;
use corelane_protocol::record_frame::CoordinatorKey;
use corelane_protocol::records::transaction::TransactionLogKey;
use corelane_tests::batch::{ProducerIdentity, build, now_ms};
use corelane_tests::broker::{Broker, BrokerOptions, is_corelane};
use corelane_tests::connection::Connection;
use corelane_tests::java::Java;
use corelane_tests::librdkafka::{LIMIT, config, create_topic, unique};
use corelane_tests::wait;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::time::Duration;

type Transactional = ThreadedProducer<DefaultProducerContext>;

fn transactional(broker: &Broker, id: &str) -> Transactional {
    let producer: Transactional =
        config(broker).set("transactional.id", id).set("linger.ms", "1").create().expect("a producer");
    producer.init_transactions(LIMIT).expect("InitProducerId");
    producer
}

fn send(producer: &Transactional, topic: &str, value: &str) -> Result<(), KafkaError> {
    let record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(topic).partition(0).payload(value.as_bytes());
    producer.send(record).map_err(|(error, _)| error)?;
    producer.flush(LIMIT)
}

fn is_fenced(error: &KafkaError) -> bool {
    let KafkaError::Transaction(error) = error else { return false };
    error.is_fatal() && error.code() == RDKafkaErrorCode::Fenced
}

/// Values that a reader of committed records sees of partition 0, up to `last`.
fn committed(broker: &Broker, topic: &str, last: &str) -> Vec<String> {
    let mut config = config(broker);
    config
        .set("group.id", unique("reader"))
        .set("isolation.level", "read_committed")
        .set("enable.auto.commit", "false");
    let consumer: BaseConsumer = config.create().expect("a consumer");
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, 0, Offset::Beginning).expect("a partition");
    consumer.assign(&list).expect("assign");
    let mut values: Vec<String> = Vec::new();
    while values.last().is_none_or(|value| value != last) {
        let message =
            wait::until("a committed record", LIMIT, || consumer.poll(Duration::from_millis(200)).and_then(Result::ok));
        values.push(String::from_utf8_lossy(message.payload().expect("a value")).into_owned());
    }
    values
}

#[test]
fn librdkafka_is_told_that_a_younger_producer_has_its_id() {
    let (broker, topic) = (Broker::shared(), unique("fencing"));
    create_topic(broker, &topic, 1, &[]);
    let old = transactional(broker, &topic);
    old.begin_transaction().expect("begin");
    send(&old, &topic, "of the old one").expect("a record");
    let young = transactional(broker, &topic);
    let error = old.commit_transaction(LIMIT).expect_err("a commit of the old one");
    assert!(is_fenced(&error), "{error:?}");
    young.begin_transaction().expect("begin");
    send(&young, &topic, "of the young one").expect("a record");
    young.commit_transaction(LIMIT).expect("commit");
    // It stays so, whatever the old one tries.
    assert!(old.begin_transaction().is_err());
    assert!(old.abort_transaction(LIMIT).is_err_and(|error| is_fenced(&error)));
    assert_eq!(old.client().fatal_error().map(|(code, _)| code), Some(RDKafkaErrorCode::Fenced));

    // One that is in the middle of a transaction and only writes hears of it too.
    let third = transactional(broker, &topic);
    young.begin_transaction().expect("begin");
    let _ = send(&young, &topic, "of the young one, too late");
    let error = young.commit_transaction(LIMIT).expect_err("a commit of the young one");
    assert!(is_fenced(&error), "{error:?}");
    third.begin_transaction().expect("begin");
    send(&third, &topic, "of the third").expect("a record");
    third.commit_transaction(LIMIT).expect("commit");
    assert_eq!(committed(broker, &topic, "of the third"), ["of the young one", "of the third"]);
}

/// `kafka-transactions.sh`: what it prints.
fn tool(broker: &Broker, arguments: &[&str]) -> String {
    let all = [&["--bootstrap-server", broker.bootstrap()], arguments].concat();
    Java::shared().run("org.apache.kafka.tools.TransactionsCommand", &all).ok()
}

/// The row of a table that has `cell`, by the names of its columns.
fn row(table: &str, cell: &str) -> Option<Vec<(String, String)>> {
    let cells = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let head = cells(table.lines().next()?);
    let found = table.lines().skip(1).map(cells).find(|cells| cells.iter().any(|c| c == cell))?;
    Some(head.into_iter().zip(found).collect())
}

#[track_caller]
fn column(table: &str, cell: &str, name: &str) -> String {
    let row = row(table, cell).unwrap_or_else(|| panic!("{cell} is not in:\n{table}"));
    row.into_iter().find(|(column, _)| column == name).unwrap_or_else(|| panic!("no {name} in:\n{table}")).1
}

#[test]
fn the_tool_lists_describes_finds_and_aborts_transactions() {
    if !is_corelane() {
        return;
    }
    let options = BrokerOptions::default().set("transaction.state.log.num.partitions", 1);
    let mut broker = Broker::start(BrokerOptions { advertise: "node".into(), ..options });
    let (topic, id) = (unique("tool"), unique("tool-id"));
    create_topic(&broker, &topic, 1, &[]);
    let producer = transactional(&broker, &id);
    producer.begin_transaction().expect("begin");
    send(&producer, &topic, "hangs").expect("a record");

    let listed = tool(&broker, &["list"]);
    assert_eq!(column(&listed, &id, "TransactionState"), "Ongoing");
    let producer_id = column(&listed, &id, "ProducerId");
    assert_eq!(row(&tool(&broker, &["list", "--duration-filter", "3600000"]), &id), None);
    assert!(row(&tool(&broker, &["list", "--transactional-id-pattern", "tool-id.*"]), &id).is_some());
    let described = tool(&broker, &["describe", "--transactional-id", &id]);
    assert_eq!(column(&described, &id, "ProducerId"), producer_id);
    assert_eq!(column(&described, &id, "TopicPartitions"), format!("{topic}-0"));
    let place = ["--topic", &topic, "--partition", "0"];
    let producers = tool(&broker, &[&["describe-producers"], &place[..]].concat());
    assert_eq!(column(&producers, &producer_id, "CurrentTransactionStartOffset"), "0");
    let hanging = ["find-hanging", "--topic", &topic, "--max-transaction-timeout", "0"];
    assert_eq!(row(&tool(&broker, &hanging), &producer_id), None, "its coordinator knows it");

    // The coordinator forgets it, as one with a bug may have: the partition's transaction is open for good.
    drop(producer);
    let key = TransactionLogKey { transactional_id: Str::from(id.clone()) }.to_key_bytes().expect("a key");
    let mut connection = Connection::open(broker.bootstrap()).expect("the broker");
    connection.set_client_id("__admin_client");
    let tombstone = build(ProducerIdentity::NONE, now_ms(), [(Some(&key[..]), None)]);
    let answer = connection.produce("__transaction_state", 0, tombstone).expect("an answer");
    assert_eq!(answer.error_code, 0);
    broker.kill();
    broker.resume();
    let found = tool(&broker, &hanging);
    assert_eq!(column(&found, &producer_id, "StartOffset"), "0");
    let by_broker = tool(&broker, &["find-hanging", "--broker-id", "1", "--max-transaction-timeout", "0"]);
    assert_eq!(column(&by_broker, &producer_id, "Topic"), topic);

    tool(&broker, &[&["abort", "--start-offset", "0"], &place[..]].concat());
    let producers = tool(&broker, &[&["describe-producers"], &place[..]].concat());
    assert_eq!(column(&producers, &producer_id, "CurrentTransactionStartOffset"), "None");
    assert_eq!(row(&tool(&broker, &hanging), &producer_id), None);
    let producer = transactional(&broker, &id);
    producer.begin_transaction().expect("begin");
    send(&producer, &topic, "kept").expect("a record");
    producer.commit_transaction(LIMIT).expect("commit");
    assert_eq!(committed(&broker, &topic, "kept"), ["kept"]);
}

//! A disk that fills: what is refused and what goes on, what goes before its time, and that service comes back by itself.

use corelane_protocol::ErrorCode;
use corelane_protocol::messages::{
    CreateTopicsRequest, CreateTopicsRequestCreatableTopic, DeleteRecordsRequest,
    DeleteRecordsRequestDeleteRecordsPartition, DeleteRecordsRequestDeleteRecordsTopic,
};
use corelane_tests::batch::{ProducerIdentity, build, now_ms, read};
use corelane_tests::broker::{Broker, BrokerOptions, is_corelane};
use corelane_tests::connection::{Connection, to_leader};
use corelane_tests::java::Java;
use corelane_tests::librdkafka::{admin, admin_options, block_on, consumer, create_topic, producer, send, unique};
use corelane_tests::small_disk::SmallDisk;
use corelane_tests::wait;
use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::producer::{BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);
const VALUE: usize = 900_000;
const KEEP: [(&str, &str); 1] = [("retention.ms", "-1")];

/// Acknowledged records of one partition: offset and number.
#[derive(Default)]
struct Acknowledged(Vec<(i64, u64)>);

/// Writes record `number`: where it went, or the error.
fn write(broker: &Broker, topic: &str, number: u64) -> Result<i64, ErrorCode> {
    let mut connection = wait::until("the leader", LIMIT, || to_leader(broker.bootstrap(), topic, 0).ok());
    let key = number.to_be_bytes();
    let value = vec![0x5a; VALUE];
    let batch = build(ProducerIdentity::NONE, now_ms(), [(Some(&key[..]), Some(&value[..]))]);
    let answer = connection.produce(topic, 0, batch).expect("an answer");
    match answer.error_code {
        0 => Ok(answer.base_offset),
        code => Err(ErrorCode::from_code(code).expect("an error of Kafka")),
    }
}

/// Writes until the broker refuses again and again; every refusal is one that clients retry.
fn fill(broker: &Broker, topic: &str, acknowledged: &mut Acknowledged) {
    let mut refused = 0;
    for number in 0..3000 {
        match write(broker, topic, number) {
            Ok(offset) => acknowledged.0.push((offset, number)),
            Err(error) => {
                assert!(error.retriable(), "{error:?}");
                refused += 1;
            }
        }
        if refused == 9 {
            assert!(broker.is_alive(), "a full disk does not end the process\n{}", broker.log_tail());
            return;
        }
    }
    panic!("the disk took {} MB", 3000 * VALUE / 1_000_000);
}

fn verify(broker: &Broker, topic: &str, acknowledged: &Acknowledged) {
    let mut connection = wait::until("the leader", LIMIT, || to_leader(broker.bootstrap(), topic, 0).ok());
    let high = wait::until("the high watermark", LIMIT, || {
        connection.list_offset(topic, 0, -1).ok().filter(|(_, error)| *error == 0).map(|(offset, _)| offset)
    });
    let mut expected = acknowledged.0.iter().peekable();
    while let Some((next, _)) = expected.peek() {
        assert!(*next < high, "the record acknowledged at {next} is below the high watermark {high}");
        let data = connection.fetch(topic, 0, *next).expect("fetch");
        let records = read(&data.records.expect("records").into_bytes());
        assert_eq!(records.first().map(|r| r.offset), Some(*next));
        for record in records {
            if let Some((offset, number)) = expected.next_if(|(offset, _)| *offset == record.offset) {
                let key = record.key.expect("a key");
                assert_eq!(key.as_ref(), number.to_be_bytes(), "the record acknowledged at {offset}");
            }
        }
    }
}

fn log_start(broker: &Broker, topic: &str) -> i64 {
    let mut connection = to_leader(broker.bootstrap(), topic, 0).expect("the leader");
    connection.list_offset(topic, 0, -2).expect("ListOffsets").0
}

fn commit(broker: &Broker, group: &str, topic: &str, offset: i64) {
    let mut offsets = TopicPartitionList::new();
    offsets.add_partition_offset(topic, 0, Offset::Offset(offset)).expect("a partition");
    let member = consumer(broker, &[("group.id", group)]);
    wait::until("the commit", LIMIT, || member.commit(&offsets, CommitMode::Sync).ok());
}

fn committed(broker: &Broker, group: &str, topic: &str) -> Offset {
    let mut asked = TopicPartitionList::new();
    asked.add_partition(topic, 0);
    let member = consumer(broker, &[("group.id", group)]);
    let found = wait::until("the offset", LIMIT, || member.committed_offsets(asked.clone(), LIMIT).ok());
    found.elements()[0].offset()
}

fn delete_records(broker: &Broker, topic: &str, offset: i64) {
    let request = DeleteRecordsRequest {
        topics: vec![DeleteRecordsRequestDeleteRecordsTopic {
            name: topic.to_owned().into(),
            partitions: vec![DeleteRecordsRequestDeleteRecordsPartition { offset, ..Default::default() }],
            ..Default::default()
        }],
        timeout_ms: 30_000,
        ..Default::default()
    };
    let response = to_leader(broker.bootstrap(), topic, 0).expect("the leader").call(2, &request);
    let answer = &response.topics[0].partitions[0];
    assert_eq!((answer.error_code, answer.low_watermark), (0, offset));
}

fn delete_topic(broker: &Broker, topic: &str) {
    let deleted = block_on(admin(broker).delete_topics(&[topic], &admin_options())).expect("DeleteTopics");
    assert_eq!(deleted, [Ok(topic.to_owned())]);
}

fn new_topic_error(broker: &Broker) -> ErrorCode {
    let topic = CreateTopicsRequestCreatableTopic {
        name: unique("new").into(),
        num_partitions: 1,
        replication_factor: 1,
        ..Default::default()
    };
    let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 30_000, ..Default::default() };
    let response = Connection::open(broker.bootstrap()).expect("a connection").call(7, &request);
    ErrorCode::from_code(response.topics[0].error_code).expect("an error of Kafka")
}

fn options(disk: &SmallDisk) -> BrokerOptions {
    let options = BrokerOptions { data_dir: Some(disk.path("data")), cores: "0".into(), ..BrokerOptions::default() };
    options.set("offsets.topic.num.partitions", 4)
}

#[test]
fn a_disk_below_its_mark_takes_no_records_but_all_else_goes_on() {
    let Some(disk) = is_corelane().then(|| SmallDisk::mount("low-disk", 700 << 20)).flatten() else { return };
    let mut broker = Broker::start(options(&disk));
    let (topic, filler, group) = (unique("full"), unique("filler"), unique("group"));
    create_topic(&broker, &topic, 1, &KEEP);
    create_topic(&broker, &filler, 1, &KEEP);
    let mut acknowledged = Acknowledged::default();
    for number in 0..20 {
        acknowledged.0.push((write(&broker, &topic, number).expect("room"), number));
    }
    let mut filled = Acknowledged::default();
    fill(&broker, &filler, &mut filled);
    // Two clients that want to write: they wait for room.
    let rdkafka = producer(&broker, &[("enable.idempotence", "true")]);
    for number in 0..30_u64 {
        let key: &[u8] = &number.to_be_bytes();
        send(&rdkafka, BaseRecord::with_opaque_to(&topic, Box::new(number)).key(key).payload(&[][..]));
    }
    let java = {
        let (bootstrap, topic) = (broker.bootstrap().to_owned(), topic.clone());
        std::thread::spawn(move || {
            // The tool's own default is 3 retries; the client's is to try for two minutes.
            let retries = ["--message-send-max-retries", "1000000"];
            let arguments = [&["--bootstrap-server", &bootstrap, "--topic", &topic, "--sync"], &retries[..]].concat();
            Java::shared().run_with("org.apache.kafka.tools.ConsoleProducer", &arguments, b"from java\n")
        })
    };
    for number in 0..20 {
        rdkafka.poll(Duration::from_millis(50));
        assert_eq!(write(&broker, &filler, number), Err(ErrorCode::KafkaStorageError));
    }
    assert_eq!(rdkafka.context().len(), 0, "librdkafka keeps trying");
    assert!(!java.is_finished(), "Java keeps trying");
    assert_eq!(new_topic_error(&broker), ErrorCode::KafkaStorageError);
    commit(&broker, &group, &topic, 17);
    delete_records(&broker, &topic, 5);
    acknowledged.0.drain(..5);
    verify(&broker, &topic, &acknowledged);
    verify(&broker, &filler, &filled);
    // A restart changes nothing of that.
    broker.kill();
    broker.resume();
    // The journal has given room back: that fills, too.
    fill(&broker, &filler, &mut filled);
    verify(&broker, &topic, &acknowledged);
    verify(&broker, &filler, &filled);
    assert_eq!(log_start(&broker, &topic), 5);
    assert_eq!(committed(&broker, &group, &topic), Offset::Offset(17));
    commit(&broker, &group, &topic, 18);
    // Room again.
    delete_topic(&broker, &filler);
    rdkafka.flush(LIMIT).expect("what waited is delivered");
    let delivered: Vec<i64> = rdkafka.context().take().into_values().map(|d| d.expect("delivered").1).collect();
    assert_eq!(delivered.len(), 30);
    assert!(delivered.is_sorted(), "in order: {delivered:?}");
    java.join().expect("the call of Java").ok();
    let next = write(&broker, &topic, 77).expect("room");
    assert_eq!(next, 20 + 30 + 1, "20 records before, 30 of librdkafka, one of Java: each once");
    create_topic(&broker, &filler, 1, &KEEP);
    verify(&broker, &topic, &acknowledged);
    assert_eq!(committed(&broker, &group, &topic), Offset::Offset(18));
}

#[test]
fn a_disk_without_a_free_byte_is_survived_with_the_reserve() {
    let Some(disk) = is_corelane().then(|| SmallDisk::mount("full-disk", 700 << 20)).flatten() else { return };
    let reserve = 64 << 20;
    let held = || std::fs::metadata(disk.path("data/reserve")).expect("the reserve").len();
    let options = options(&disk).set("storage.min.free.bytes", 0).set("storage.reserve.bytes", reserve);
    let mut broker = Broker::start(options);
    let (topic, other, group) = (unique("full"), unique("other"), unique("group"));
    create_topic(&broker, &topic, 1, &KEEP);
    create_topic(&broker, &other, 1, &KEEP);
    assert_eq!(held(), reserve);
    let mut acknowledged = Acknowledged::default();
    for number in 0..50 {
        acknowledged.0.push((write(&broker, &topic, number).expect("room"), number));
    }
    commit(&broker, &group, &topic, 1);
    // Somebody else takes the disk.
    disk.fill("hog");
    fill(&broker, &topic, &mut acknowledged);
    wait::until("the reserve to be given back", LIMIT, || (held() == 0).then_some(()));
    assert_eq!(write(&broker, &topic, 1), Err(ErrorCode::KafkaStorageError), "the reserve is not for new records");
    commit(&broker, &group, &topic, 2);
    delete_records(&broker, &topic, 3);
    acknowledged.0.retain(|(offset, _)| *offset >= 3);
    delete_topic(&broker, &other);
    verify(&broker, &topic, &acknowledged);
    broker.kill();
    broker.resume();
    verify(&broker, &topic, &acknowledged);
    assert_eq!(committed(&broker, &group, &topic), Offset::Offset(2));
    commit(&broker, &group, &topic, 3);
    disk.remove("hog");
    let offset = wait::until("records to be taken again", LIMIT, || write(&broker, &topic, 9999).ok());
    acknowledged.0.push((offset, 9999));
    wait::until("the reserve to be there again", LIMIT, || (held() == reserve).then_some(()));
    verify(&broker, &topic, &acknowledged);
    assert!(broker.stop().is_some_and(|status| status.success()), "{}", broker.log_tail());
}

#[test]
fn a_nearly_full_disk_lets_the_oldest_segments_go() {
    let Some(disk) = is_corelane().then(|| SmallDisk::mount("near-full", 1 << 30)).flatten() else { return };
    let options = options(&disk)
        .set("storage.min.free.bytes", 32 << 20)
        .set("storage.near.full.free.bytes", 300 << 20)
        .set("storage.min.retention.ms", 0);
    let broker = Broker::start(options);
    let segments = ("segment.bytes", "8388608");
    let names = [unique("kept"), unique("old"), unique("new")];
    let [kept, old, new] = &names;
    create_topic(&broker, kept, 1, &[segments, KEEP[0]]);
    create_topic(&broker, old, 1, &[segments]);
    create_topic(&broker, new, 1, &[segments]);
    let in_segment = (8 << 20) / VALUE as i64;
    let mut acknowledged = Acknowledged::default();
    for number in 0..60 {
        acknowledged.0.push((write(&broker, kept, number).expect("room"), number));
    }
    let mut old_end = 0;
    for number in 0..100 {
        old_end = write(&broker, old, number).expect("room") + 1;
    }
    assert_eq!(log_start(&broker, old), 0, "there is enough space");
    let mut went_first = None;
    let mut last = 0;
    for number in 0..2000 {
        last = write(&broker, new, number).expect("retention makes room in time");
        if number % 10 == 0 && went_first.is_none() && log_start(&broker, new) > 0 {
            went_first = Some(old_end - log_start(&broker, old));
        }
    }
    let left = went_first.expect("1.8 GB do not fit a disk of 1 GiB");
    assert!(left <= in_segment, "all closed segments of the older topic went first, {left} records are left");
    assert_eq!(log_start(&broker, kept), 0, "retention without limits is never brought forward");
    verify(&broker, kept, &acknowledged);
    // Retention may still be at work, at the other end.
    let numbers = (last - 100..=last).map(|offset| (offset, offset as u64)).collect();
    verify(&broker, new, &Acknowledged(numbers));
}

#[test]
fn a_disk_that_dies_ends_the_process_by_name_and_loses_nothing_acknowledged() {
    let Some(disk) = is_corelane().then(|| SmallDisk::mount("dying-disk", 700 << 20)).flatten() else { return };
    let mut broker = Broker::start(options(&disk));
    let (topic, group) = (unique("dying"), unique("group"));
    create_topic(&broker, &topic, 1, &KEEP);
    let mut acknowledged = Acknowledged::default();
    for number in 0..50 {
        acknowledged.0.push((write(&broker, &topic, number).expect("room"), number));
    }
    commit(&broker, &group, &topic, 7);
    if !disk.die() {
        return;
    }
    let batch = build(ProducerIdentity::NONE, now_ms(), [(Some(&b"lost"[..]), None)]);
    let answer = to_leader(broker.bootstrap(), &topic, 0).and_then(|mut c| c.produce(&topic, 0, batch));
    assert!(!answer.is_ok_and(|a| a.error_code == 0), "nothing is acknowledged that is not on the disk");
    let status = broker.wait_exit(LIMIT).expect("the process ends");
    assert_eq!(status.code(), Some(74));
    assert!(broker.log().contains("reason=\"journal\""), "{}", broker.log_tail());
    disk.revive();
    broker.resume();
    verify(&broker, &topic, &acknowledged);
    assert_eq!(committed(&broker, &group, &topic), Offset::Offset(7));
    write(&broker, &topic, 99).expect("room");
}

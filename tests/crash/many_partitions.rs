//! Thousands of partitions: made at once, killed, all there again; those at rest hold no file open.

use super::{LIMIT, Moments, broker};
use corelane_protocol::Str;
use corelane_protocol::messages::{
    ListOffsetsRequest, ListOffsetsRequestListOffsetsPartition, ListOffsetsRequestListOffsetsTopic,
};
use corelane_tests::batch::{self, ProducerIdentity, build, now_ms};
use corelane_tests::broker::{Broker, is_corelane};
use corelane_tests::connection::{Connection, produce_request, to_leader};
use corelane_tests::librdkafka::{create_topic, unique};
use corelane_tests::wait;
use rand::RngExt;
use std::collections::BTreeMap;

const PARTITIONS: [i32; 3] = [1200, 500, 300];
/// Sockets, rings, journals. One file for each partition would be ten times as many.
const DESCRIPTORS: usize = 200;

struct Topic {
    name: String,
    partitions: i32,
    /// What was acknowledged in each partition, in order.
    acknowledged: Vec<Vec<String>>,
}

/// Every partition has a leader: the partitions of each, by address.
fn by_leader(broker: &Broker, topic: &Topic) -> BTreeMap<String, Vec<i32>> {
    wait::until("leaders of all partitions", LIMIT, || {
        let metadata = Connection::open(broker.bootstrap()).ok()?.metadata(&topic.name).ok()?;
        let addresses: BTreeMap<i32, String> =
            metadata.brokers.iter().map(|b| (b.node_id, format!("{}:{}", b.host, b.port))).collect();
        let mut leaders: BTreeMap<String, Vec<i32>> = BTreeMap::new();
        let partitions = &metadata.topics.first()?.partitions;
        assert_eq!(partitions.len(), topic.partitions as usize, "partitions of {}", topic.name);
        for partition in partitions {
            leaders.entry(addresses.get(&partition.leader_id)?.clone()).or_default().push(partition.partition_index);
        }
        Some(leaders)
    })
}

/// Writes a record of its own to each partition that `chosen` names, all those of a leader in one request.
fn write(broker: &Broker, topic: &mut Topic, round: usize, mut chosen: impl FnMut(i32) -> bool) {
    for (leader, partitions) in by_leader(broker, topic) {
        let partitions: Vec<i32> = partitions.into_iter().filter(|p| chosen(*p)).collect();
        let value = |p: i32| format!("{}-{p}-{round}", topic.name);
        let who = ProducerIdentity { id: -1, epoch: -1, sequence: -1 };
        let batches = partitions.iter().map(|p| {
            let value = value(*p);
            (*p, build(who, now_ms(), [(None, Some(value.as_bytes()))]).into())
        });
        let request = produce_request(&topic.name, batches.collect(), -1);
        let answer = Connection::open(&leader).expect("the leader").call(12, &request);
        let answers = answer.responses.into_iter().flat_map(|t| t.partition_responses);
        let mut answered = 0;
        for answer in answers {
            let so_far = &mut topic.acknowledged[answer.index as usize];
            assert_eq!((answer.error_code, answer.base_offset), (0, so_far.len() as i64), "partition {}", answer.index);
            so_far.push(format!("{}-{}-{round}", topic.name, answer.index));
            answered += 1;
        }
        assert_eq!(answered, partitions.len());
    }
}

/// Each partition has as many records as were acknowledged, and a few are read.
fn check(broker: &Broker, topic: &Topic, moments: &mut Moments) {
    for (leader, partitions) in by_leader(broker, topic) {
        let ask = |p: &i32| ListOffsetsRequestListOffsetsPartition {
            partition_index: *p,
            timestamp: -1,
            ..Default::default()
        };
        let asked = ListOffsetsRequestListOffsetsTopic {
            name: Str::from(topic.name.clone()),
            partitions: partitions.iter().map(ask).collect(),
            ..Default::default()
        };
        let request = ListOffsetsRequest { replica_id: -1, topics: vec![asked], ..Default::default() };
        let answer = Connection::open(&leader).expect("the leader").call(7, &request);
        let ends: BTreeMap<i32, (i64, i16)> = answer
            .topics
            .iter()
            .flat_map(|t| &t.partitions)
            .map(|p| (p.partition_index, (p.offset, p.error_code)))
            .collect();
        for partition in partitions {
            let expected = topic.acknowledged[partition as usize].len() as i64;
            assert_eq!(ends.get(&partition), Some(&(expected, 0)), "end of {}-{partition}", topic.name);
        }
    }
    for _ in 0..20 {
        let partition = moments.0.random_range(0..topic.partitions);
        let expected = &topic.acknowledged[partition as usize];
        let mut connection = to_leader(broker.bootstrap(), &topic.name, partition).expect("the leader");
        let data = connection.fetch(&topic.name, partition, 0).expect("fetch");
        assert_eq!(data.error_code, 0, "fetch of {}-{partition}", topic.name);
        let records = data.records.map(|r| batch::read(&r.into_bytes())).unwrap_or_default();
        let values = records.into_iter().map(|r| String::from_utf8(r.value.expect("a value").to_vec()).expect("text"));
        assert_eq!(&values.collect::<Vec<_>>(), expected, "{}-{partition}", topic.name);
    }
}

/// Of the broker; 0 if it is not a process of this machine.
fn descriptors(broker: &Broker) -> usize {
    broker.pid().map_or(0, |pid| std::fs::read_dir(format!("/proc/{pid}/fd")).expect("its descriptors").count())
}

#[test]
fn thousands_of_partitions_outlive_kills_and_stops() {
    let (mut broker, mut moments) = (broker(), Moments::new());
    let mut topics: Vec<Topic> = PARTITIONS
        .iter()
        .map(|partitions| {
            let name = unique("many");
            create_topic(&broker, &name, *partitions, &[]);
            Topic { name, partitions: *partitions, acknowledged: vec![Vec::new(); *partitions as usize] }
        })
        .collect();
    for round in 0..2 {
        for topic in &mut topics {
            write(&broker, topic, round, |_| moments.0.random_range(0..3) == 0);
        }
        broker.kill();
        broker.resume();
        topics.iter().for_each(|topic| check(&broker, topic, &mut moments));
    }
    topics.iter_mut().for_each(|topic| write(&broker, topic, 2, |_| true));
    if let Some(status) = broker.stop() {
        assert!(status.success(), "{status}\n{}", broker.log_tail());
    }
    broker.resume();
    if is_corelane() {
        // What the start has looked at comes to rest soon.
        let few = wait::within(LIMIT, || (descriptors(&broker) < DESCRIPTORS).then_some(()));
        let open = descriptors(&broker);
        assert!(few.is_some(), "{open} descriptors are open although all partitions are at rest");
    }
    topics.iter().for_each(|topic| check(&broker, topic, &mut moments));
    // Nothing was written since: a kill takes nothing back.
    broker.kill();
    broker.resume();
    topics.iter().for_each(|topic| check(&broker, topic, &mut moments));
}

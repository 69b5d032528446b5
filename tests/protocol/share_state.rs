//! What share groups have stored: at every step of its life, before and after a kill, and as Kafka's own dump reads it.

use std::time::Duration;

use corelane_protocol::messages::initialize_share_group_state_request::{
    InitializeShareGroupStateRequestInitializeStateData, InitializeShareGroupStateRequestPartitionData,
};
use corelane_protocol::messages::read_share_group_state_request::{
    ReadShareGroupStateRequestPartitionData, ReadShareGroupStateRequestReadStateData,
};
use corelane_protocol::messages::write_share_group_state_request::{
    WriteShareGroupStateRequestPartitionData, WriteShareGroupStateRequestStateBatch,
    WriteShareGroupStateRequestWriteStateData,
};
use corelane_protocol::messages::{
    FindCoordinatorRequest, InitializeShareGroupStateRequest, ReadShareGroupStateRequest,
    ReadShareGroupStateResponsePartitionResult, WriteShareGroupStateRequest,
};
use corelane_protocol::{Str, Uuid};
use corelane_tests::broker::{Broker, BrokerOptions, controllable};
use corelane_tests::connection::Connection;
use corelane_tests::java::Java;
use corelane_tests::librdkafka::{create_topic, unique};
use corelane_tests::{scratch, wait};

const LIMIT: Duration = Duration::from_secs(30);
const FENCED_LEADER_EPOCH: i16 = 74;

/// One partition of one share group, and what is believed to be stored of it.
struct Stored {
    group: String,
    topic: Uuid,
    start: i64,
    /// Acknowledged after the start, one by one.
    done: Vec<i64>,
}

fn connect(broker: &Broker) -> Connection {
    Connection::open(broker.bootstrap()).expect("a connection")
}

impl Stored {
    fn begin(broker: &Broker, topic: &str) -> Stored {
        let mut connection = connect(broker);
        let group = unique("share");
        let metadata = connection.metadata(topic).expect("metadata");
        let topic = metadata.topics[0].topic_id;
        let find = FindCoordinatorRequest {
            key_type: 2,
            coordinator_keys: vec![Str::from(format!("{group}:{topic}:0"))],
            ..Default::default()
        };
        wait::until("a share coordinator", LIMIT, || {
            (connection.call(6, &find).coordinators[0].error_code == 0).then_some(())
        });
        let stored = Stored { group, topic, start: 0, done: Vec::new() };
        let initialize = InitializeShareGroupStateRequest {
            group_id: Str::from(stored.group.clone()),
            topics: vec![InitializeShareGroupStateRequestInitializeStateData {
                topic_id: topic,
                partitions: vec![InitializeShareGroupStateRequestPartitionData::default()],
                ..Default::default()
            }],
            ..Default::default()
        };
        wait::until("a state", LIMIT, || {
            (connection.call(0, &initialize).results[0].partitions[0].error_code == 0).then_some(())
        });
        stored
    }

    /// Acknowledges one offset and moves the start; the error code.
    fn write(&mut self, connection: &mut Connection, offset: i64, start: i64, leader_epoch: i32) -> i16 {
        let batch = WriteShareGroupStateRequestStateBatch {
            first_offset: offset,
            last_offset: offset,
            delivery_state: 2,
            delivery_count: 1,
            ..Default::default()
        };
        let write = WriteShareGroupStateRequest {
            group_id: Str::from(self.group.clone()),
            topics: vec![WriteShareGroupStateRequestWriteStateData {
                topic_id: self.topic,
                partitions: vec![WriteShareGroupStateRequestPartitionData {
                    leader_epoch,
                    start_offset: start,
                    state_batches: vec![batch],
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        };
        let error = connection.call(1, &write).results[0].partitions[0].error_code;
        if error == 0 {
            self.start = start;
            self.done.push(offset);
            self.done.retain(|offset| *offset >= start);
        }
        error
    }

    fn read(&self, connection: &mut Connection, leader_epoch: i32) -> ReadShareGroupStateResponsePartitionResult {
        let read = ReadShareGroupStateRequest {
            group_id: Str::from(self.group.clone()),
            topics: vec![ReadShareGroupStateRequestReadStateData {
                topic_id: self.topic,
                partitions: vec![ReadShareGroupStateRequestPartitionData { leader_epoch, ..Default::default() }],
                ..Default::default()
            }],
            ..Default::default()
        };
        wait::until("the state", LIMIT, || {
            let found = connection.call(0, &read).results.remove(0).partitions.remove(0);
            // A coordinator that is loading, or not there yet.
            (found.error_code != 14 && found.error_code != 16).then_some(found)
        })
    }

    fn check(&self, connection: &mut Connection) {
        let found = self.read(connection, -1);
        assert_eq!((found.error_code, found.start_offset), (0, self.start));
        let done = found
            .state_batches
            .iter()
            .inspect(|batch| assert_eq!((batch.delivery_state, batch.delivery_count), (2, 1)));
        let done: Vec<i64> = done.flat_map(|batch| batch.first_offset..=batch.last_offset).collect();
        assert_eq!(done, self.done, "{}", self.group);
    }
}

#[test]
fn what_a_share_group_stored_survives_kills_through_updates_and_snapshots() {
    if !controllable() {
        return;
    }
    let options = BrokerOptions::default()
        .set("share.coordinator.snapshot.update.records.per.snapshot", 7)
        .set("share.coordinator.state.topic.num.partitions", 4);
    let mut broker = Broker::start(options);
    let topic = unique("shared");
    create_topic(&broker, &topic, 1, &[]);
    let mut groups: Vec<Stored> = (0..5).map(|_| Stored::begin(&broker, &topic)).collect();
    assert_eq!(groups[0].read(&mut connect(&broker), 4).error_code, 0);
    for round in 0..4i64 {
        let mut connection = connect(&broker);
        for (place, group) in (0i64..).zip(&mut groups) {
            for step in 0..(5 + place) {
                let offset = round * 40 + step * 2;
                assert_eq!(group.write(&mut connection, offset, (round - 1).max(0) * 40 + step, -1), 0);
            }
        }
        broker.kill();
        broker.resume();
        let mut connection = connect(&broker);
        groups.iter().for_each(|group| group.check(&mut connection));
    }
    let mut connection = connect(&broker);
    let late = groups[0].write(&mut connection, 1000, 0, 3);
    assert_eq!(late, FENCED_LEADER_EPOCH, "a leader before the one that read the state");
    assert_eq!(groups[0].read(&mut connection, 3).error_code, FENCED_LEADER_EPOCH);
    assert!(broker.stop().is_some_and(|status| status.success()));
    let segments = scratch::files(&broker.data_dir(), "__share_group_state", ".log");
    let text = Java::shared().dump_log("--share-group-state-decoder", &segments);
    for group in &groups {
        let named = text.lines().filter(|line| line.contains(&group.group)).count();
        assert!(named > 20, "{named} records of {} in\n{text}", group.group);
    }
    assert!(!text.contains("Could not"), "{text}");
}

//! A member of a share group, by hand.

use std::time::Duration;

use corelane_protocol::messages::initialize_share_group_state_request::{
    InitializeShareGroupStateRequestInitializeStateData, InitializeShareGroupStateRequestPartitionData,
};
use corelane_protocol::messages::share_fetch_request::{
    ShareFetchRequestAcknowledgementBatch, ShareFetchRequestFetchPartition, ShareFetchRequestFetchTopic,
};
use corelane_protocol::messages::{
    FindCoordinatorRequest, InitializeShareGroupStateRequest, ShareFetchRequest, ShareFetchResponse,
};
use corelane_protocol::{Str, Uuid};
use corelane_tests::batch::{ProducerIdentity, build, now_ms};
use corelane_tests::broker::Broker;
use corelane_tests::connection::{Connection, produce_request, to_leader};
use corelane_tests::librdkafka::unique;
use corelane_tests::wait;

pub const LIMIT: Duration = Duration::from_secs(60);
/// Less than a lock takes to end.
const LENT: Duration = Duration::from_secs(20);

pub struct Member {
    pub connection: Connection,
    group: String,
    pub name: String,
    topic: Uuid,
    pub epoch: i32,
}

/// First and last offset, and how often they were lent.
pub type Ranges = Vec<(i64, i64, i16)>;

impl Member {
    pub fn new(broker: &Broker, topic: &str, id: Uuid, group: &str) -> Member {
        let connection = to_leader(broker.bootstrap(), topic, 0).expect("the leader");
        Member { connection, group: group.to_owned(), name: unique("m"), topic: id, epoch: 0 }
    }

    /// Acknowledges (first, last, type) and fetches; the errors of both and what was lent.
    pub fn fetch(&mut self, said: &[(i64, i64, i8)], max_wait_ms: i32) -> (i16, i16, Ranges) {
        let answer = self.ask(said, max_wait_ms);
        assert_eq!(answer.error_code, 0);
        self.epoch += 1;
        let Some(partition) = answer.responses.first().and_then(|topic| topic.partitions.first()) else {
            return (0, 0, Vec::new());
        };
        let ranges = partition.acquired_records.iter().map(|r| (r.first_offset, r.last_offset, r.delivery_count));
        (partition.error_code, partition.acknowledge_error_code, ranges.collect())
    }

    /// The same, whatever comes of it.
    pub fn ask(&mut self, said: &[(i64, i64, i8)], max_wait_ms: i32) -> ShareFetchResponse {
        let batch = |(first_offset, last_offset, kind): &(i64, i64, i8)| ShareFetchRequestAcknowledgementBatch {
            first_offset: *first_offset,
            last_offset: *last_offset,
            acknowledge_types: vec![*kind],
            ..Default::default()
        };
        let request = ShareFetchRequest {
            group_id: Some(Str::from(self.group.clone())),
            member_id: Some(Str::from(self.name.clone())),
            share_session_epoch: self.epoch,
            max_wait_ms,
            min_bytes: 1,
            max_bytes: 1 << 20,
            max_records: 500,
            batch_size: 500,
            topics: vec![ShareFetchRequestFetchTopic {
                topic_id: self.topic,
                partitions: vec![ShareFetchRequestFetchPartition {
                    acknowledgement_batches: said.iter().map(batch).collect(),
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        };
        self.connection.call(2, &request)
    }

    pub fn lent(&mut self) -> Ranges {
        wait::until("records", LENT, || {
            let (_, _, ranges) = self.fetch(&[], 500);
            (!ranges.is_empty()).then_some(ranges)
        })
    }
}

/// Initialises the state of a group in the topic's partition 0.
pub fn begin(broker: &Broker, topic: &str, group: &str) -> Uuid {
    let mut connection = Connection::open(broker.bootstrap()).expect("a connection");
    let id = connection.metadata(topic).expect("metadata").topics[0].topic_id;
    let find = FindCoordinatorRequest {
        key_type: 2,
        coordinator_keys: vec![Str::from(format!("{group}:{id}:0"))],
        ..Default::default()
    };
    let initialize = InitializeShareGroupStateRequest {
        group_id: Str::from(group.to_owned()),
        topics: vec![InitializeShareGroupStateRequestInitializeStateData {
            topic_id: id,
            partitions: vec![InitializeShareGroupStateRequestPartitionData::default()],
            ..Default::default()
        }],
        ..Default::default()
    };
    wait::until("a state", LIMIT, || {
        let _ = connection.call(6, &find);
        (connection.call(0, &initialize).results[0].partitions[0].error_code == 0).then_some(())
    });
    id
}

pub fn write(broker: &Broker, topic: &str, records: usize) {
    let mut connection = to_leader(broker.bootstrap(), topic, 0).expect("the leader");
    let none = ProducerIdentity { id: -1, epoch: -1, sequence: -1 };
    let batch = build(none, now_ms(), (0..records).map(|_| (None, Some(b"v".as_slice()))));
    let answer = connection.call(9, &produce_request(topic, vec![(0, batch.into())], -1));
    assert_eq!(answer.responses[0].partition_responses[0].error_code, 0);
}

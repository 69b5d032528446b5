//! What share groups' members get when a broker dies or a member goes.

use std::time::Duration;

use corelane_protocol::messages::initialize_share_group_state_request::{
    InitializeShareGroupStateRequestInitializeStateData, InitializeShareGroupStateRequestPartitionData,
};
use corelane_protocol::messages::share_fetch_request::{
    ShareFetchRequestAcknowledgementBatch, ShareFetchRequestFetchPartition, ShareFetchRequestFetchTopic,
};
use corelane_protocol::messages::{FindCoordinatorRequest, InitializeShareGroupStateRequest, ShareFetchRequest};
use corelane_protocol::{Str, Uuid};
use corelane_tests::batch::{ProducerIdentity, build, now_ms};
use corelane_tests::broker::{Broker, BrokerOptions, controllable};
use corelane_tests::connection::{Connection, produce_request, to_leader};
use corelane_tests::librdkafka::{create_topic, unique};
use corelane_tests::wait;

/// Less than a lock takes to end.
const LIMIT: Duration = Duration::from_secs(20);

struct Member {
    connection: Connection,
    group: String,
    name: String,
    topic: Uuid,
    epoch: i32,
}

/// First and last offset, and how often they were lent.
type Ranges = Vec<(i64, i64, i16)>;

impl Member {
    fn new(broker: &Broker, topic: &str, id: Uuid, group: &str) -> Member {
        let connection = to_leader(broker.bootstrap(), topic, 0).expect("the leader");
        Member { connection, group: group.to_owned(), name: unique("m"), topic: id, epoch: 0 }
    }

    /// Acknowledges (first, last, type) and fetches; the errors of both and what was lent.
    fn fetch(&mut self, said: &[(i64, i64, i8)], max_wait_ms: i32) -> (i16, i16, Ranges) {
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
        let answer = self.connection.call(2, &request);
        assert_eq!(answer.error_code, 0);
        self.epoch += 1;
        let Some(partition) = answer.responses.first().and_then(|topic| topic.partitions.first()) else {
            return (0, 0, Vec::new());
        };
        let ranges = partition.acquired_records.iter().map(|r| (r.first_offset, r.last_offset, r.delivery_count));
        (partition.error_code, partition.acknowledge_error_code, ranges.collect())
    }

    fn lent(&mut self) -> Ranges {
        wait::until("records", LIMIT, || {
            let (_, _, ranges) = self.fetch(&[], 500);
            (!ranges.is_empty()).then_some(ranges)
        })
    }
}

fn begin(broker: &Broker, topic: &str, group: &str) -> Uuid {
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

fn write(broker: &Broker, topic: &str, records: usize) {
    let mut connection = to_leader(broker.bootstrap(), topic, 0).expect("the leader");
    let none = ProducerIdentity { id: -1, epoch: -1, sequence: -1 };
    let batch = build(none, now_ms(), (0..records).map(|_| (None, Some(b"v".as_slice()))));
    let answer = connection.call(9, &produce_request(topic, vec![(0, batch.into())], -1));
    assert_eq!(answer.responses[0].partition_responses[0].error_code, 0);
}

#[test]
fn what_was_acknowledged_stays_so_through_kills_and_the_rest_comes_again() {
    if !controllable() {
        return;
    }
    let mut broker = Broker::start(BrokerOptions::default());
    let (topic, group) = (unique("queue"), unique("share"));
    create_topic(&broker, &topic, 1, &[]);
    let id = begin(&broker, &topic, &group);
    write(&broker, &topic, 10);
    let mut member = Member::new(&broker, &topic, id, &group);
    assert_eq!(member.lent(), [(0, 9, 1)]);
    assert_eq!(member.fetch(&[(0, 3, 1), (6, 6, 1), (8, 8, 3)], 0), (0, 0, vec![]));
    broker.kill();
    broker.resume();
    let mut member = Member::new(&broker, &topic, id, &group);
    assert_eq!(member.lent(), [(4, 5, 1), (7, 7, 1), (9, 9, 1)], "neither done with nor given up");
    let said = [(4, 5, 1), (7, 7, 2), (9, 9, 1)];
    assert_eq!(member.fetch(&said, 5_000), (0, 0, vec![(7, 7, 2)]), "given back, and counted");
    assert_eq!(member.fetch(&[(7, 7, 1)], 0).1, 0);
    broker.kill();
    broker.resume();
    write(&broker, &topic, 1);
    let mut member = Member::new(&broker, &topic, id, &group);
    assert_eq!(member.lent(), [(10, 10, 1)]);
}

#[test]
fn what_a_member_has_is_free_when_its_connection_ends() {
    if !controllable() {
        return;
    }
    let broker = Broker::shared();
    let (topic, group) = (unique("queue"), unique("share"));
    create_topic(broker, &topic, 1, &[]);
    let id = begin(broker, &topic, &group);
    write(broker, &topic, 4);
    let mut gone = Member::new(broker, &topic, id, &group);
    let mut stays = Member::new(broker, &topic, id, &group);
    assert_eq!(gone.lent(), [(0, 3, 1)]);
    assert_eq!(stays.fetch(&[], 100), (0, 0, vec![]), "it is lent");
    assert_eq!(stays.fetch(&[(0, 3, 1)], 0).1, 121, "another has it");
    drop(gone);
    assert_eq!(stays.lent(), [(0, 3, 2)]);
    write(broker, &topic, 2);
    assert_eq!(stays.fetch(&[(0, 3, 1)], 20_000), (0, 0, vec![(4, 5, 1)]));
}

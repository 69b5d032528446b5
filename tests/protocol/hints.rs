//! KIP-951: a client that asks the wrong broker is told the right one and where it is.

use corelane_protocol::messages::fetch_request::{FetchRequestFetchPartition, FetchRequestFetchTopic};
use corelane_protocol::messages::share_fetch_request::{ShareFetchRequestFetchPartition, ShareFetchRequestFetchTopic};
use corelane_protocol::messages::{DeleteRecordsRequest, FetchRequest, ShareFetchRequest};
use corelane_protocol::messages::{DeleteRecordsRequestDeleteRecordsPartition, DeleteRecordsRequestDeleteRecordsTopic};
use corelane_protocol::{Str, Uuid};
use corelane_tests::batch::{ProducerIdentity, build, now_ms};
use corelane_tests::broker::{Broker, BrokerOptions, is_corelane};
use corelane_tests::connection::{Connection, produce_request};
use corelane_tests::librdkafka::create_topic;

const NOT_LEADER: i16 = 6;
const FENCED_LEADER_EPOCH: i16 = 74;
const TOPIC: &str = "hinted";

fn fetch(topic: &str, topic_id: Uuid, partition: i32, current_leader_epoch: i32) -> FetchRequest {
    FetchRequest {
        max_bytes: 1 << 20,
        topics: vec![FetchRequestFetchTopic {
            topic: Str::from(topic.to_owned()),
            topic_id,
            partitions: vec![FetchRequestFetchPartition {
                partition,
                current_leader_epoch,
                partition_max_bytes: 1 << 20,
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    }
}

#[test]
fn each_core_says_which_one_leads() {
    if !is_corelane() {
        return;
    }
    let broker = Broker::start(BrokerOptions { advertise: "shard".into(), ..Default::default() });
    create_topic(&broker, TOPIC, 2, &[]);
    let mut connection = Connection::open(broker.bootstrap()).expect("a connection");
    let metadata = connection.metadata(TOPIC).expect("metadata");
    let (topic, here) = (&metadata.topics[0], metadata.controller_id);
    let own = topic.partitions.iter().find(|p| p.leader_id == here).expect("one of this core");
    let other = topic.partitions.iter().find(|p| p.leader_id != here).expect("one of another core");
    let leader = metadata.brokers.iter().find(|b| b.node_id == other.leader_id).expect("its broker");
    let address = (leader.node_id, leader.host.clone(), leader.port, leader.rack.clone());
    let hint = (other.leader_id, other.leader_epoch);
    let batch = || build(ProducerIdentity::NONE, now_ms(), [(None, Some(&b"v"[..]))]);

    for version in [3, 9, 10, 12, 13] {
        let mut request = produce_request(TOPIC, vec![(other.partition_index, batch().into())], -1);
        request.topic_data[0].topic_id = topic.topic_id;
        let answer = connection.call(version, &request);
        let partition = &answer.responses[0].partition_responses[0];
        assert_eq!((partition.error_code, partition.base_offset), (NOT_LEADER, -1), "Produce {version}");
        let told = (partition.current_leader.leader_id, partition.current_leader.leader_epoch);
        let endpoints: Vec<_> =
            answer.node_endpoints.into_iter().map(|n| (n.node_id, n.host, n.port, n.rack)).collect();
        match version < 10 {
            true => assert_eq!((told, endpoints.len()), ((-1, -1), 0), "Produce {version}"),
            false => assert_eq!((told, &endpoints[..]), (hint, &[address.clone()][..]), "Produce {version}"),
        }
    }
    for version in [4, 12, 15, 16, 18] {
        let answer = connection.call(version, &fetch(TOPIC, topic.topic_id, other.partition_index, -1));
        let partition = &answer.responses[0].partitions[0];
        assert_eq!(partition.error_code, NOT_LEADER, "Fetch {version}");
        let told = (partition.current_leader.leader_id, partition.current_leader.leader_epoch);
        let endpoints: Vec<_> =
            answer.node_endpoints.into_iter().map(|n| (n.node_id, n.host, n.port, n.rack)).collect();
        match version < 16 {
            true => assert_eq!((told, endpoints.len()), ((-1, -1), 0), "Fetch {version}"),
            false => assert_eq!((told, &endpoints[..]), (hint, &[address.clone()][..]), "Fetch {version}"),
        }
    }
    // what this core leads, asked for with an epoch of the past: the leader is here, in a later one
    let answer = connection.call(17, &fetch(TOPIC, topic.topic_id, own.partition_index, 0));
    let partition = &answer.responses[0].partitions[0];
    assert_eq!(partition.error_code, FENCED_LEADER_EPOCH);
    assert_eq!(
        (partition.current_leader.leader_id, partition.current_leader.leader_epoch),
        (own.leader_id, own.leader_epoch)
    );
    assert_eq!(answer.node_endpoints.len(), 1);

    let request = ShareFetchRequest {
        group_id: Some(Str::from_static("hinted")),
        member_id: Some(Str::from_static("member")),
        max_bytes: 1 << 20,
        max_records: 10,
        batch_size: 10,
        topics: vec![ShareFetchRequestFetchTopic {
            topic_id: topic.topic_id,
            partitions: vec![ShareFetchRequestFetchPartition {
                partition_index: other.partition_index,
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    let answer = connection.call(1, &request);
    let partition = &answer.responses[0].partitions[0];
    assert_eq!(partition.error_code, NOT_LEADER);
    assert_eq!((partition.current_leader.leader_id, partition.current_leader.leader_epoch), hint);
    assert_eq!(answer.node_endpoints.iter().map(|n| n.port).collect::<Vec<_>>(), [leader.port]);

    // those that have no hints refuse all the same
    let delete = DeleteRecordsRequestDeleteRecordsTopic {
        name: Str::from_static(TOPIC),
        partitions: vec![DeleteRecordsRequestDeleteRecordsPartition {
            partition_index: other.partition_index,
            offset: 0,
            ..Default::default()
        }],
        ..Default::default()
    };
    let delete = DeleteRecordsRequest { topics: vec![delete], timeout_ms: 10_000, ..Default::default() };
    assert_eq!(connection.call(2, &delete).topics[0].partitions[0].error_code, NOT_LEADER);
    assert_eq!(connection.list_offset(TOPIC, other.partition_index, -1).expect("an answer").1, NOT_LEADER);

    // and the broker that was named serves it
    let mut right = Connection::open(&format!("{}:{}", &*leader.host, leader.port)).expect("a connection");
    let produced = right.produce(TOPIC, other.partition_index, batch()).expect("an answer");
    assert_eq!((produced.error_code, produced.base_offset), (0, 0));
}

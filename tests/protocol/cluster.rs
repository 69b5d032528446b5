//! Where each core is a broker of its own: what the APIs of a cluster say of partitions that live on one node.

use corelane_protocol::Uuid;
use corelane_protocol::messages::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsRequestReassignablePartition,
    AlterPartitionReassignmentsRequestReassignableTopic, AlterReplicaLogDirsRequest,
    AlterReplicaLogDirsRequestAlterReplicaLogDir, AlterReplicaLogDirsRequestAlterReplicaLogDirTopic,
    DescribeLogDirsRequest, DescribeQuorumRequest, DescribeQuorumRequestPartitionData, DescribeQuorumRequestTopicData,
    ElectLeadersRequest, RemoveRaftVoterRequest, UnregisterBrokerRequest,
};
use corelane_tests::broker::{Broker, BrokerOptions, controllable, is_corelane};
use corelane_tests::connection::Connection;
use corelane_tests::librdkafka::create_topic;

const NONE: i16 = 0;
const REPLICA_NOT_AVAILABLE: i16 = 9;
const UNSUPPORTED_VERSION: i16 = 35;
const INVALID_REPLICA_ASSIGNMENT: i16 = 39;
const INVALID_REQUEST: i16 = 42;
const BROKER_ID_NOT_REGISTERED: i16 = 102;
const TOPIC: &str = "spread";

fn reassigned(connection: &mut Connection, partition_index: i32, replicas: &[i32]) -> i16 {
    let partition = AlterPartitionReassignmentsRequestReassignablePartition {
        partition_index,
        replicas: Some(replicas.to_vec()),
        ..Default::default()
    };
    let topic = AlterPartitionReassignmentsRequestReassignableTopic {
        name: TOPIC.into(),
        partitions: vec![partition],
        ..Default::default()
    };
    let request = AlterPartitionReassignmentsRequest { timeout_ms: 10_000, topics: vec![topic], ..Default::default() };
    connection.call(1, &request).responses[0].partitions[0].error_code
}

#[test]
fn each_core_is_a_broker_and_a_partition_stays_on_its_core() {
    if !controllable() {
        return;
    }
    let broker = Broker::start(BrokerOptions { advertise: "shard".into(), ..Default::default() });
    create_topic(&broker, TOPIC, 2, &[]);
    let mut connection = Connection::open(broker.bootstrap()).expect("a connection");
    let metadata = connection.metadata(TOPIC).expect("metadata");
    let leaders: Vec<i32> = {
        let mut partitions = metadata.topics[0].partitions.clone();
        partitions.sort_by_key(|p| p.partition_index);
        partitions.iter().map(|p| p.leader_id).collect()
    };
    assert_ne!(leaders[0], leaders[1], "two cores, two partitions");
    for (partition, here) in (0..).zip(&leaders) {
        let other = leaders.iter().find(|id| *id != here).expect("another core");
        assert_eq!(reassigned(&mut connection, partition, &[*here]), NONE);
        assert_eq!(reassigned(&mut connection, partition, &[*other]), INVALID_REPLICA_ASSIGNMENT);
        assert_eq!(reassigned(&mut connection, partition, &[*here, *other]), INVALID_REPLICA_ASSIGNMENT);
        assert_eq!(reassigned(&mut connection, partition, &[7]), INVALID_REPLICA_ASSIGNMENT);
    }
    let elected = connection.call(2, &ElectLeadersRequest { timeout_ms: 10_000, ..Default::default() });
    assert!(elected.replica_election_results.is_empty(), "nothing was asked for");

    let quorum = DescribeQuorumRequestTopicData {
        topic_name: "__cluster_metadata".into(),
        partitions: vec![DescribeQuorumRequestPartitionData::default()],
        ..Default::default()
    };
    let quorum = connection.call(2, &DescribeQuorumRequest { topics: vec![quorum], ..Default::default() });
    let log = &quorum.topics[0].partitions[0];
    assert_eq!(log.leader_id, metadata.controller_id);
    assert_eq!(log.current_voters.len(), 1);
    assert!(
        log.leader_epoch > 0 && log.high_watermark > 0 && log.current_voters[0].log_end_offset >= log.high_watermark
    );

    // each core answers for its own replicas
    for broker in &metadata.brokers {
        let address = format!("{}:{}", &*broker.host, broker.port);
        let mut connection = Connection::open(&address).expect("a connection");
        let dirs = connection.call(4, &DescribeLogDirsRequest { topics: None, ..Default::default() });
        let topic = AlterReplicaLogDirsRequestAlterReplicaLogDirTopic {
            name: TOPIC.into(),
            partitions: vec![0, 1],
            ..Default::default()
        };
        let dir = AlterReplicaLogDirsRequestAlterReplicaLogDir {
            path: dirs.results[0].log_dir.clone(),
            topics: vec![topic],
            ..Default::default()
        };
        let answer = connection.call(2, &AlterReplicaLogDirsRequest { dirs: vec![dir], ..Default::default() });
        for partition in &answer.results[0].partitions {
            let own = leaders[partition.partition_index as usize] == broker.node_id;
            assert_eq!(partition.error_code, if own { NONE } else { REPLICA_NOT_AVAILABLE });
        }
    }
}

#[test]
fn the_only_node_stays_whoever_asks_it_to_go() {
    if !is_corelane() {
        return;
    }
    for (advertise, ids) in [("node", vec![1]), ("shard", vec![1000, 1001])] {
        let broker = Broker::start(BrokerOptions { advertise: advertise.into(), ..Default::default() });
        let mut connection = Connection::open(broker.bootstrap()).expect("a connection");
        let mut unregistered = |broker_id: i32| {
            let answer = connection.call(0, &UnregisterBrokerRequest { broker_id, ..Default::default() });
            assert!(answer.error_message.is_some_and(|message| message.contains(&broker_id.to_string())));
            answer.error_code
        };
        assert_eq!(unregistered(9), BROKER_ID_NOT_REGISTERED);
        assert!(ids.iter().all(|id| unregistered(*id) == INVALID_REQUEST), "{advertise}");
        let voter = RemoveRaftVoterRequest {
            cluster_id: None,
            voter_id: ids[0],
            voter_directory_id: Uuid::from_u128(7),
            ..Default::default()
        };
        assert_eq!(connection.call(0, &voter).error_code, UNSUPPORTED_VERSION);
        create_topic(&broker, TOPIC, 2, &[]);
    }
}

//! Several listeners: clients are told of the brokers as their own listener reaches them.

use corelane_protocol::Str;
use corelane_protocol::messages::{
    DescribeClusterRequest, DescribeQuorumRequest, DescribeQuorumRequestPartitionData, DescribeQuorumRequestTopicData,
    FindCoordinatorRequest, MetadataRequest, MetadataRequestTopic,
};
use corelane_tests::broker::{Broker, BrokerOptions, is_corelane};
use corelane_tests::connection::Connection;
use corelane_tests::librdkafka::create_topic;

const NONE: i16 = 0;
const LEADER_NOT_AVAILABLE: i16 = 5;
const COORDINATOR_NOT_AVAILABLE: i16 = 15;
const LISTENER_NOT_FOUND: i16 = 72;

/// PLAINTEXT at the first port, OUTSIDE four further on, and HIDDEN, which is not advertised, another four.
fn start(advertise: &str) -> Broker {
    let options = BrokerOptions {
        advertise: advertise.into(),
        listen: Some(|port| {
            let (outside, hidden) = (port + 4, port + 8);
            format!("PLAINTEXT://127.0.0.1:{port},OUTSIDE://127.0.0.1:{outside},HIDDEN://127.0.0.1:{hidden}")
        }),
        ..BrokerOptions::default()
    };
    let options =
        options.set("listener.security.protocol.map", "plaintext:PLAINTEXT,OUTSIDE:PLAINTEXT,Hidden:PLAINTEXT");
    // A name that resolves to this machine, so that clients can follow it.
    Broker::start(options.set("advertised.listeners", "PLAINTEXT://127.0.0.1:7000,OUTSIDE://localhost:8000"))
}

fn asked(topic: &str) -> MetadataRequest {
    let topic = MetadataRequestTopic { name: Some(Str::from(topic.to_owned())), ..Default::default() };
    MetadataRequest { topics: Some(vec![topic]), ..Default::default() }
}

fn coordinator_of(group: &'static str) -> FindCoordinatorRequest {
    FindCoordinatorRequest { coordinator_keys: vec![group.into()], ..Default::default() }
}

#[test]
fn clients_are_told_of_brokers_as_their_listener_reaches_them() {
    if !is_corelane() {
        return;
    }
    for (advertise, brokers) in [("node", 1), ("shard", 2)] {
        let broker = start(advertise);
        let at = |offset: u16| format!("127.0.0.1:{}", broker.port() + offset);
        let told =
            |host: &'static str, port: i32| (0..brokers).map(move |n| (host.to_owned(), port + n)).collect::<Vec<_>>();
        // In shard mode every shard is at every listener.
        for (offset, want) in [(0, told("127.0.0.1", 7000)), (4, told("localhost", 8000))] {
            for shard in 0..brokers as u16 {
                let mut connection = Connection::open(&at(offset + shard)).expect("a connection");
                let metadata = connection.call(12, &MetadataRequest::default());
                let found: Vec<_> = metadata.brokers.iter().map(|b| (b.host.to_string(), b.port)).collect();
                assert_eq!(found, want, "{advertise} Metadata");
                let cluster = connection.call(1, &DescribeClusterRequest { endpoint_type: 1, ..Default::default() });
                let found: Vec<_> = cluster.brokers.iter().map(|b| (b.host.to_string(), b.port)).collect();
                assert_eq!(found, want, "{advertise} DescribeCluster");
                let coordinator = connection.call(4, &coordinator_of("g")).coordinators.remove(0);
                assert_eq!(coordinator.error_code, NONE);
                assert!(want.contains(&(coordinator.host.to_string(), coordinator.port)), "{coordinator:?}");
                let quorum = connection.call(2, &quorum());
                let listeners: Vec<_> =
                    quorum.nodes[0].listeners.iter().map(|l| (l.host.to_string(), i32::from(l.port))).collect();
                assert_eq!(listeners, want[..1], "{advertise} DescribeQuorum");
            }
        }
        // Who cannot be told a way to a broker is told so.
        let mut connection = Connection::open(&at(8)).expect("a connection");
        assert!(
            connection.call(12, &MetadataRequest { topics: Some(Vec::new()), ..Default::default() }).brokers.is_empty()
        );
        assert_eq!(connection.call(4, &coordinator_of("g")).coordinators[0].error_code, COORDINATOR_NOT_AVAILABLE);
    }
}

#[test]
fn a_listener_that_is_not_advertised_reaches_no_leader() {
    if !is_corelane() {
        return;
    }
    let options = BrokerOptions {
        listen: Some(|port| format!("PLAINTEXT://127.0.0.1:{port},HIDDEN://127.0.0.1:{}", port + 8)),
        args: vec!["--set".into(), "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,HIDDEN:PLAINTEXT".into()],
        advertise: "node".into(),
        ..BrokerOptions::default()
    };
    let mut broker = Broker::start(options.clone());
    let data_dir = Some(broker.data_dir());
    create_topic(&broker, "led", 1, &[]);
    broker.stop();
    let hidden = options.set("advertised.listeners", "PLAINTEXT://127.0.0.1:7000");
    let again = Broker::start(BrokerOptions { data_dir, ..hidden });
    let mut connection = Connection::open(&format!("127.0.0.1:{}", again.port() + 8)).expect("a connection");
    for (version, error) in [(5, LEADER_NOT_AVAILABLE), (6, LISTENER_NOT_FOUND), (12, LISTENER_NOT_FOUND)] {
        let answer = connection.call(version, &asked("led"));
        let partition = &answer.topics[0].partitions[0];
        assert_eq!((partition.error_code, partition.leader_id), (error, -1), "version {version}");
        assert_eq!(partition.offline_replicas, [1], "version {version}");
    }
}

fn quorum() -> DescribeQuorumRequest {
    let partitions = vec![DescribeQuorumRequestPartitionData::default()];
    let topic =
        DescribeQuorumRequestTopicData { topic_name: "__cluster_metadata".into(), partitions, ..Default::default() };
    DescribeQuorumRequest { topics: vec![topic], ..Default::default() }
}

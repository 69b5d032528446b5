//! Configs that change while the broker runs: what is refused and let pass afterwards, and what a restart remembers.

use corelane_protocol::messages::describe_configs_request::DescribeConfigsRequestDescribeConfigsResource;
use corelane_protocol::messages::describe_configs_response::DescribeConfigsResponseDescribeConfigsResourceResult;
use corelane_protocol::messages::incremental_alter_configs_request::{
    IncrementalAlterConfigsRequestAlterConfigsResource, IncrementalAlterConfigsRequestAlterableConfig,
};
use corelane_protocol::messages::{DescribeConfigsRequest, IncrementalAlterConfigsRequest};
use corelane_tests::batch::{ProducerIdentity, build, now_ms};
use corelane_tests::broker::{Broker, BrokerOptions, controllable};
use corelane_tests::connection::{Connection, to_leader};
use corelane_tests::librdkafka::{LIMIT, create_topic};
use corelane_tests::wait;

pub const TOPIC: i8 = 2;
pub const BROKER: i8 = 4;
pub const CLIENT_METRICS: i8 = 16;
pub const GROUP: i8 = 32;
const MESSAGE_TOO_LARGE: i16 = 10;

/// Every property of a resource, with its synonyms.
pub fn describe(
    connection: &mut Connection,
    kind: i8,
    resource: &str,
) -> Vec<DescribeConfigsResponseDescribeConfigsResourceResult> {
    let asked = DescribeConfigsRequestDescribeConfigsResource {
        resource_type: kind,
        resource_name: resource.to_owned().into(),
        configuration_keys: None,
        ..Default::default()
    };
    let request = DescribeConfigsRequest {
        resources: vec![asked],
        include_synonyms: true,
        include_documentation: true,
        ..Default::default()
    };
    let answer = connection.call(4, &request).results.remove(0);
    assert_eq!(answer.error_code, 0, "{kind} {resource}: {:?}", answer.error_message);
    answer.configs
}

/// One property's value and where it comes from.
pub fn value(connection: &mut Connection, kind: i8, resource: &str, name: &str) -> Option<(String, i8)> {
    let found = describe(connection, kind, resource).into_iter().find(|c| &*c.name == name)?;
    Some((found.value.map(|v| v.to_string()).unwrap_or_default(), found.config_source))
}

/// Sets a property, or with `None` takes it away; the error code and what is said with it.
pub fn alter(connection: &mut Connection, kind: i8, resource: &str, name: &str, value: Option<&str>) -> (i16, String) {
    alter_all(connection, kind, resource, &[(name, value)])
}

/// The same for several at once.
pub fn alter_all(
    connection: &mut Connection,
    kind: i8,
    resource: &str,
    changes: &[(&str, Option<&str>)],
) -> (i16, String) {
    let config = |(name, value): &(&str, Option<&str>)| IncrementalAlterConfigsRequestAlterableConfig {
        name: (*name).to_owned().into(),
        config_operation: if value.is_some() { 0 } else { 1 },
        value: value.map(|v| v.to_owned().into()),
        ..Default::default()
    };
    let resource = IncrementalAlterConfigsRequestAlterConfigsResource {
        resource_type: kind,
        resource_name: resource.to_owned().into(),
        configs: changes.iter().map(config).collect(),
        ..Default::default()
    };
    let request = IncrementalAlterConfigsRequest { resources: vec![resource], ..Default::default() };
    let answer = connection.call(1, &request).responses.remove(0);
    (answer.error_code, answer.error_message.map(|m| m.to_string()).unwrap_or_default())
}

fn set(connection: &mut Connection, kind: i8, resource: &str, name: &str, value: &str) {
    assert_eq!(alter(connection, kind, resource, name, Some(value)), (0, String::new()), "{name}={value}");
}

fn produce(connection: &mut Connection, topic: &str, bytes: usize) -> i16 {
    let value = vec![b'x'; bytes];
    let batch = build(ProducerIdentity::NONE, now_ms(), [(None, Some(value.as_slice()))]);
    connection.produce(topic, 0, batch).expect("an answer").error_code
}

#[test]
fn the_nearest_layer_of_a_brokers_configs_decides_at_once_and_after_a_kill() {
    if !controllable() {
        return;
    }
    let mut broker = Broker::start(BrokerOptions::default().set("message.max.bytes", 1500));
    create_topic(&broker, "plain", 1, &[]);
    create_topic(&broker, "own", 1, &[("max.message.bytes", "6000")]);
    let id = if BrokerOptions::default().advertise == "shard" { "1000" } else { "1" };
    let mut admin = Connection::open(broker.bootstrap()).expect("a connection");
    let leader = |broker: &Broker, topic: &str| to_leader(broker.bootstrap(), topic, 0).expect("the leader");
    let (mut plain, mut own) = (leader(&broker, "plain"), leader(&broker, "own"));
    assert_eq!((produce(&mut plain, "plain", 1000), produce(&mut plain, "plain", 2000)), (0, MESSAGE_TOO_LARGE));
    set(&mut admin, BROKER, "", "message.max.bytes", "5000");
    assert_eq!((produce(&mut plain, "plain", 2000), produce(&mut plain, "plain", 5500)), (0, MESSAGE_TOO_LARGE));
    assert_eq!((produce(&mut own, "own", 5500), produce(&mut own, "own", 7000)), (0, MESSAGE_TOO_LARGE));
    if id == "1" {
        set(&mut admin, BROKER, id, "message.max.bytes", "3000");
        assert_eq!((produce(&mut plain, "plain", 2000), produce(&mut plain, "plain", 4000)), (0, MESSAGE_TOO_LARGE));
        assert_eq!(produce(&mut own, "own", 5500), 0);
        broker.kill();
        broker.resume();
        admin = Connection::open(broker.bootstrap()).expect("a connection");
        assert_eq!(value(&mut admin, BROKER, id, "message.max.bytes"), Some(("3000".into(), 2)));
        plain = leader(&broker, "plain");
        assert_eq!((produce(&mut plain, "plain", 2000), produce(&mut plain, "plain", 4000)), (0, MESSAGE_TOO_LARGE));
        assert_eq!(alter(&mut admin, BROKER, id, "message.max.bytes", None).0, 0);
        assert_eq!(produce(&mut plain, "plain", 4000), 0, "what is set for all brokers counts again");
    }
    assert_eq!(alter(&mut admin, BROKER, "", "message.max.bytes", None).0, 0);
    assert_eq!((produce(&mut plain, "plain", 1000), produce(&mut plain, "plain", 2000)), (0, MESSAGE_TOO_LARGE));
}

#[test]
fn connections_are_limited_by_what_was_set_last() {
    if !controllable() {
        return;
    }
    let broker = Broker::start(BrokerOptions::default());
    let mut first = Connection::open(broker.bootstrap()).expect("a connection");
    set(&mut first, BROKER, "", "max.connections.per.ip", "2");
    // The connection that saw the broker ready counts until the broker has seen its end.
    let _second = wait::until("a second connection", LIMIT, || {
        let mut second = Connection::open(broker.bootstrap()).ok()?;
        second.metadata("none").ok().map(|_| second)
    });
    let third = Connection::open(broker.bootstrap()).and_then(|mut c| c.metadata("none"));
    assert!(third.is_err(), "two connections of one address are allowed");
    assert_eq!(alter(&mut first, BROKER, "", "max.connections.per.ip", None).0, 0);
    let again = Connection::open(broker.bootstrap()).and_then(|mut c| c.metadata("none"));
    assert!(again.is_ok());
}

#[test]
fn each_shard_that_is_a_broker_has_configs_of_its_own() {
    if !controllable() {
        return;
    }
    let options = BrokerOptions { advertise: "shard".into(), ..BrokerOptions::default() };
    let broker = Broker::start(options);
    let mut first = Connection::open(broker.bootstrap()).expect("a connection");
    create_topic(&broker, "t", 2, &[]);
    set(&mut first, BROKER, "1000", "message.max.bytes", "3000");
    assert_eq!(alter(&mut first, BROKER, "1001", "message.max.bytes", Some("3000")).0, 42, "another broker's");
    let metadata = first.metadata("t").expect("metadata");
    let leaders: Vec<(i32, i32)> =
        metadata.topics[0].partitions.iter().map(|p| (p.partition_index, p.leader_id)).collect();
    assert_eq!(leaders.len(), 2);
    for (partition, leader) in leaders {
        let mut connection = to_leader(broker.bootstrap(), "t", partition).expect("the leader");
        let value = vec![b'x'; 4000];
        let batch = build(ProducerIdentity::NONE, now_ms(), [(None, Some(value.as_slice()))]);
        let code = connection.produce("t", partition, batch).expect("an answer").error_code;
        assert_eq!(code, if leader == 1000 { MESSAGE_TOO_LARGE } else { 0 }, "partition {partition} at {leader}");
    }
}

#[test]
fn configs_of_groups_and_subscriptions_outlive_a_kill() {
    if !controllable() {
        return;
    }
    let mut broker = Broker::start(BrokerOptions::default());
    let mut connection = Connection::open(broker.bootstrap()).expect("a connection");
    set(&mut connection, GROUP, "g", "consumer.session.timeout.ms", "50000");
    set(&mut connection, CLIENT_METRICS, "m", "interval.ms", "1000");
    broker.kill();
    broker.resume();
    let mut connection = Connection::open(broker.bootstrap()).expect("a connection");
    assert_eq!(value(&mut connection, GROUP, "g", "consumer.session.timeout.ms"), Some(("50000".into(), 8)));
    assert_eq!(value(&mut connection, CLIENT_METRICS, "m", "interval.ms"), Some(("1000".into(), 7)));
}

//! Access rules: what they keep from whom, that they are there after a restart, and what the audit says.

use corelane_protocol::ErrorCode;
use corelane_protocol::messages::{
    CreateAclsRequest, CreateAclsRequestAclCreation, CreatePartitionsRequest,
    CreatePartitionsRequestCreatePartitionsTopic, CreateTopicsRequest, CreateTopicsRequestCreatableTopic,
    DeleteAclsRequest, DeleteAclsRequestDeleteAclsFilter, DeleteTopicsRequest, DescribeAclsRequest, FetchRequest,
    FetchRequestFetchPartition, FetchRequestFetchTopic,
};
use corelane_tests::batch::ProducerIdentity;
use corelane_tests::broker::{Broker, BrokerOptions, controllable};
use corelane_tests::connection::Connection;
use corelane_tests::wait;
use std::time::Duration;

pub const AUTHORIZER: &str = "org.apache.kafka.metadata.authorizer.StandardAuthorizer";
const TOPIC: i8 = 2;
const CLUSTER: i8 = 4;
const LITERAL: i8 = 3;
const ALL: i8 = 2;
const READ: i8 = 3;
const WRITE: i8 = 4;
const CREATE: i8 = 5;
const DELETE: i8 = 6;
const ALTER: i8 = 7;
const DENY: i8 = 2;
const ALLOW: i8 = 3;
/// In filters.
const ANY: i8 = 1;

fn broker() -> Broker {
    let options = BrokerOptions::default().set("authorizer.class.name", AUTHORIZER);
    Broker::start(options.set("allow.everyone.if.no.acl.found", "true"))
}

fn open(broker: &Broker) -> Connection {
    Connection::open(broker.bootstrap()).expect("a connection")
}

fn rule(name: &str, host: &str, operation: i8, permission_type: i8) -> CreateAclsRequestAclCreation {
    CreateAclsRequestAclCreation {
        resource_type: TOPIC,
        resource_name: name.to_owned().into(),
        resource_pattern_type: LITERAL,
        principal: "User:ANONYMOUS".into(),
        host: host.to_owned().into(),
        operation,
        permission_type,
        ..Default::default()
    }
}

fn create(connection: &mut Connection, rules: Vec<CreateAclsRequestAclCreation>) -> Vec<i16> {
    let request = CreateAclsRequest { creations: rules, ..Default::default() };
    connection.call(3, &request).results.iter().map(|result| result.error_code).collect()
}

pub fn make_topic(connection: &mut Connection, name: &str) -> i16 {
    let topic = CreateTopicsRequestCreatableTopic {
        name: name.to_owned().into(),
        num_partitions: 1,
        replication_factor: 1,
        ..Default::default()
    };
    let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 10_000, ..Default::default() };
    connection.call(7, &request).topics[0].error_code
}

fn produced(connection: &mut Connection, topic: &str) -> i16 {
    let batch = corelane_tests::batch::build(ProducerIdentity::NONE, 1, [(None, Some(&b"x"[..]))]);
    let request = corelane_tests::connection::produce_request(topic, vec![(0, batch.into())], -1);
    connection.call(9, &request).responses[0].partition_responses[0].error_code
}

#[test]
fn rules_take_hold_at_once_on_connections_that_are_open_and_after_a_restart() {
    if !controllable() {
        return;
    }
    let mut broker = broker();
    let mut connection = open(&broker);
    assert_eq!(make_topic(&mut connection, "t"), 0);
    assert_eq!(produced(&mut connection, "t"), 0);
    // A network, which Apache Kafka does not know.
    assert_eq!(
        create(&mut connection, vec![rule("t", "127.0.0.0/8", WRITE, DENY), rule("t", "*", ALL, ALLOW)]),
        [0, 0]
    );
    let refused = ErrorCode::TopicAuthorizationFailed.code();
    assert_eq!(produced(&mut connection, "t"), refused, "what was decided before is forgotten");
    assert_eq!(connection.fetch("t", 0, 0).expect("a fetch").error_code, 0);
    assert!(broker.stop().is_some_and(|status| status.success()));
    broker.resume();
    let mut connection = open(&broker);
    assert_eq!(produced(&mut connection, "t"), refused);
    let filter = DeleteAclsRequestDeleteAclsFilter {
        resource_type_filter: TOPIC,
        resource_name_filter: None,
        principal_filter: None,
        host_filter: None,
        pattern_type_filter: ANY,
        operation: WRITE,
        permission_type: DENY,
        ..Default::default()
    };
    let deleted = connection.call(3, &DeleteAclsRequest { filters: vec![filter], ..Default::default() });
    assert_eq!(deleted.filter_results[0].matching_acls.len(), 1);
    assert_eq!(produced(&mut connection, "t"), 0);
}

/// Kafka's controller is asked for what the client may do, and where that is late all of the request is. Deletion is late before
/// anybody asks what the client may do.
#[test]
fn a_request_without_time_is_late_as_a_whole_unless_all_of_it_is_refused() {
    if !controllable() {
        return;
    }
    let broker = broker();
    let mut connection = open(&broker);
    for topic in ["mine", "theirs"] {
        assert_eq!(make_topic(&mut connection, topic), 0);
    }
    let of_cluster = |operation| CreateAclsRequestAclCreation {
        resource_type: CLUSTER,
        ..rule("kafka-cluster", "*", operation, DENY)
    };
    let rules = vec![
        of_cluster(CREATE),
        of_cluster(DELETE),
        rule("their-new", "*", CREATE, DENY),
        rule("theirs", "*", ALTER, DENY),
        rule("theirs", "*", DELETE, DENY),
        rule("theirs", "*", ALL, ALLOW),
    ];
    assert_eq!(create(&mut connection, rules), [0; 6]);
    let (late, refused) = (ErrorCode::RequestTimedOut.code(), ErrorCode::TopicAuthorizationFailed.code());

    let mut created = |names: &[&'static str]| -> Vec<i16> {
        let topic = |name: &&'static str| CreateTopicsRequestCreatableTopic {
            name: (*name).into(),
            num_partitions: 1,
            replication_factor: 1,
            ..Default::default()
        };
        let topics = names.iter().map(topic).collect();
        let answer = connection.call(7, &CreateTopicsRequest { topics, timeout_ms: 0, ..Default::default() });
        answer.topics.iter().map(|topic| topic.error_code).collect()
    };
    assert_eq!(created(&["their-new", "my-new"]), [late; 2]);
    assert_eq!(created(&["their-new", "my-new", "my-new"]), [ErrorCode::InvalidRequest.code(), refused]);
    assert_eq!(created(&["their-new"]), [refused]);

    let mut grown = |names: &[&'static str]| -> Vec<i16> {
        let topic = |name: &&'static str| CreatePartitionsRequestCreatePartitionsTopic {
            name: (*name).into(),
            count: 2,
            ..Default::default()
        };
        let topics = names.iter().map(topic).collect();
        let answer = connection.call(3, &CreatePartitionsRequest { topics, timeout_ms: 0, ..Default::default() });
        answer.results.iter().map(|topic| topic.error_code).collect()
    };
    assert_eq!(grown(&["theirs", "mine"]), [late; 2]);
    assert_eq!(grown(&["theirs"]), [refused]);

    let request = DeleteTopicsRequest { topic_names: vec!["theirs".into()], timeout_ms: 0, ..Default::default() };
    assert_eq!(connection.call(5, &request).responses[0].error_code, late);
    let topics =
        ["my-new", "mine", "theirs"].map(|topic| connection.metadata(topic).expect("metadata").topics.remove(0));
    let partitions = topics.map(|topic| (topic.error_code, topic.partitions.len()));
    assert_eq!(partitions, [(ErrorCode::UnknownTopicOrPartition.code(), 0), (0, 1), (0, 1)], "nothing is done");
}

#[test]
fn without_an_authorizer_there_are_no_rules() {
    let broker = Broker::shared();
    let mut connection = open(broker);
    let disabled = ErrorCode::SecurityDisabled.code();
    assert_eq!(create(&mut connection, vec![rule("t", "*", READ, ALLOW)]), [disabled]);
    let filter = DescribeAclsRequest {
        resource_type_filter: ANY,
        pattern_type_filter: ANY,
        operation: ANY,
        permission_type: ANY,
        ..Default::default()
    };
    assert_eq!(connection.call(3, &filter).error_code, disabled);
}

#[test]
fn what_is_refused_and_what_is_changed_is_in_the_audit() {
    if !controllable() {
        return;
    }
    let broker = broker();
    let mut connection = open(&broker);
    connection.set_client_id("culprit");
    // A name that looks like lines of a log.
    let forged = "forged\n2026-01-01 INFO audit: nothing happened";
    assert_ne!(make_topic(&mut connection, forged), 0);
    assert_eq!(make_topic(&mut connection, "audited"), 0);
    assert_eq!(create(&mut connection, vec![rule("audited", "*", READ, DENY)]), [0]);
    connection.fetch("audited", 0, 0).expect("a fetch");
    let who = ["audit:", "User:ANONYMOUS", "127.0.0.1", "culprit"];
    let log = |words: &[&str]| broker.log_with(&[&who[..], words].concat());
    log(&["CreateTopics", "\"audited\"", "done"]);
    log(&["CreateTopics", r"forged\n2026", "InvalidTopicException"]);
    log(&["CreateAcls", "audited", "done"]);
    let log = log(&["Fetch", "Read", "Topic", "\"audited\"", "refused"]);
    assert!(!log.lines().any(|line| line.starts_with("2026-01-01 INFO audit")), "a line that a client wrote");
    // A flood does not fill the log: it comes to a line that counts those that were left out before it.
    let topics = vec![FetchRequestFetchTopic {
        topic: "audited".into(),
        partitions: vec![FetchRequestFetchPartition { partition_max_bytes: 1, ..Default::default() }],
        ..Default::default()
    }];
    let request = FetchRequest { session_epoch: -1, topics, ..Default::default() };
    wait::until("lines to be left out", Duration::from_secs(60), || {
        let sent: Vec<i32> = (0..500).map(|_| connection.send(12, &request).expect("a request")).collect();
        sent.into_iter().for_each(|id| drop(connection.receive::<FetchRequest>(12, id).expect("an answer")));
        let counts = |line: &str| line.contains("outcome=\"refused\"") && !line.contains("left_out_before=0");
        broker.log().lines().any(counts).then_some(())
    });
}

//! Clients that put into names and values what means something elsewhere: to files, to terminals, to those who read logs, to rules.

use super::{LIMIT, open};
use crate::configs::{self, alter};
use crate::sasl;
use corelane_protocol::messages::*;
use corelane_protocol::{ErrorCode, Str};
use corelane_sasl::Mechanism;
use corelane_sasl::scram::Hash;
use corelane_tests::batch::{ProducerIdentity, build, now_ms};
use corelane_tests::broker::{Broker, BrokerOptions, is_corelane};
use corelane_tests::connection::Connection;
use corelane_tests::sasl::authenticate;
use corelane_tests::wait;
use std::collections::BTreeSet;
use std::fs;
use std::num::NonZeroU32;
use std::path::Path;

const NAMES: [&str; 14] = [
    "..",
    "../escaped",
    "/tmp/escaped",
    "a/../../escaped",
    "a\0b",
    "forged\n2026-01-01T00:00:00.000000Z  INFO main all is well",
    "forged\r\n2026-01-01",
    "\u{1b}[2J\u{1b}]0;title\u{7}",
    "\u{202e}reversed\u{2028}",
    "%s%n%x",
    "${jndi:ldap://127.0.0.1/x}",
    "'; drop table topics; --",
    "$(touch escaped)`touch escaped`",
    "*",
];

fn text(text: &str) -> Str {
    Str::from(text.to_owned())
}

/// What lies in a folder and below.
fn files(folder: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        found.insert(entry.file_name().to_string_lossy().into_owned());
        if entry.path().is_dir() {
            found.extend(files(&entry.path()));
        }
    }
    found
}

/// Asks for everything that has a name with this one.
fn ask_with(broker: &Broker, name: &str) {
    let mut connection = open(broker);
    connection.set_client_id(name.to_owned());
    let topic = CreateTopicsRequestCreatableTopic {
        name: text(name),
        num_partitions: 1,
        replication_factor: 1,
        ..Default::default()
    };
    let create = CreateTopicsRequest { topics: vec![topic], timeout_ms: 10_000, ..Default::default() };
    let made = connection.call(7, &create);
    assert_eq!(made.topics[0].error_code, ErrorCode::InvalidTopicException.code(), "{name:?}");
    let asked = MetadataRequestTopic { name: Some(text(name)), ..Default::default() };
    let metadata = connection.call(12, &MetadataRequest { topics: Some(vec![asked]), ..Default::default() });
    assert_ne!(metadata.topics[0].error_code, 0, "{name:?}");
    let batch = build(ProducerIdentity::NONE, now_ms(), [(None, Some(&b"v"[..]))]);
    assert_ne!(connection.produce(name, 0, batch).expect("an answer").error_code, 0, "{name:?}");
    assert_ne!(connection.fetch(name, 0, 0).expect("an answer").error_code, 0, "{name:?}");
    assert_ne!(alter(&mut connection, configs::TOPIC, name, "retention.ms", Some("1000")).0, 0, "{name:?}");
    assert_ne!(alter(&mut connection, configs::TOPIC, "named", name, Some("1")).0, 0, "{name:?}");
    assert_ne!(alter(&mut connection, configs::TOPIC, "named", "cleanup.policy", Some(name)).0, 0, "{name:?}");
    let delete = DeleteTopicsRequest {
        topics: vec![DeleteTopicsRequestDeleteTopicState { name: Some(text(name)), ..Default::default() }],
        timeout_ms: 10_000,
        ..Default::default()
    };
    assert_ne!(connection.call(6, &delete).responses[0].error_code, 0, "{name:?}");
    // These may have any name.
    let partition = OffsetCommitRequestPartition { committed_metadata: Some(text(name)), ..Default::default() };
    let topic = OffsetCommitRequestTopic { name: text("named"), partitions: vec![partition], ..Default::default() };
    let commit = OffsetCommitRequest {
        group_id: text(name),
        generation_id_or_member_epoch: -1,
        topics: vec![topic],
        ..Default::default()
    };
    wait::until("a commit", LIMIT, || {
        let answer = connection.call(8, &commit);
        (answer.topics[0].partitions[0].error_code == 0).then_some(())
    });
    let init = InitProducerIdRequest {
        transactional_id: Some(text(name)),
        transaction_timeout_ms: 1000,
        producer_id: -1,
        producer_epoch: -1,
        ..Default::default()
    };
    wait::until("a producer id", LIMIT, || (connection.call(4, &init).error_code == 0).then_some(()));
    // Breaks the protocol, so that the broker says in its log who that was.
    connection.write(&[0x7f, 0xff, 0xff, 0xff]).expect("written");
    connection.fate();
}

#[test]
fn names_and_values_reach_neither_files_nor_lines_of_their_own() {
    if !is_corelane() {
        return;
    }
    let options = BrokerOptions { cores: "0".into(), advertise: "node".into(), ..BrokerOptions::default() };
    let mut broker = Broker::start(options);
    let mut connection = open(&broker);
    for topic in ["named", "bystander"] {
        corelane_tests::librdkafka::create_topic(&broker, topic, 1, &[]);
    }
    assert_eq!(alter(&mut connection, configs::TOPIC, "named", "retention.ms", Some("123456789")).0, 0);
    // Made with the first group and the first transaction.
    for key_type in [0, 1] {
        let find = FindCoordinatorRequest { key: text("any"), key_type, ..Default::default() };
        wait::until("a coordinator", LIMIT, || (connection.call(3, &find).error_code == 0).then_some(()));
    }
    for name in NAMES {
        ask_with(&broker, name);
    }
    let long = "x".repeat(30_000);
    ask_with_long(&mut connection, &long);
    connection.set_client_id("the-last");
    connection.metadata("named").expect("an answer");
    connection.write(&[0x7f, 0xff, 0xff, 0xff]).expect("written");
    let log = broker.log_with(&["connection closed", "the-last"]);
    assert!(log.contains(r"forged\n2026-01-01"), "it was logged");
    for (i, line) in log.lines().enumerate() {
        assert!(!line.starts_with("2026-01-01"), "line {i} is a client's: {line:?}");
        let strange = |c: char| c.is_control() || ('\u{2028}'..='\u{202e}').contains(&c);
        assert!(!line.contains(strange), "line {i}: {line:?}");
    }
    broker.kill();
    broker.resume();
    let (retention, _) = configs::value(&mut open(&broker), configs::TOPIC, "named", "retention.ms").expect("a value");
    assert_eq!(retention, "123456789");
    let all = files(broker.folder());
    let strange: Vec<&String> = all
        .iter()
        .filter(|name| {
            name.contains("escaped") || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        })
        .collect();
    assert!(strange.is_empty(), "{strange:?}");
}

fn ask_with_long(connection: &mut Connection, name: &str) {
    let topic = CreateTopicsRequestCreatableTopic { name: text(name), num_partitions: 1, ..Default::default() };
    let create = CreateTopicsRequest { topics: vec![topic], timeout_ms: 10_000, ..Default::default() };
    assert_eq!(connection.call(7, &create).topics[0].error_code, ErrorCode::InvalidTopicException.code());
    assert_ne!(alter(connection, configs::TOPIC, "named", "cleanup.policy", Some(name)).0, 0);
}

const READ: i8 = 3;
const DESCRIBE: i8 = 8;
const ALLOW: i8 = 3;
const GROUP_RESOURCE: i8 = 3;
const LITERAL: i8 = 3;
const PREFIXED: i8 = 4;

#[test]
fn wildcards_of_rules_are_no_names_of_groups_topics_users_or_hosts() {
    if !is_corelane() {
        return;
    }
    let authorizer = "org.apache.kafka.metadata.authorizer.StandardAuthorizer";
    // Who comes without SASL may change the rules.
    let set = [("authorizer.class.name", authorizer), ("super.users", "User:ANONYMOUS")];
    let (broker, _) = sasl::start("acl-names", &set);
    let mut admin = open(&broker);
    for topic in ["mine", "secret"] {
        let topic = CreateTopicsRequestCreatableTopic {
            name: text(topic),
            num_partitions: 1,
            replication_factor: 1,
            ..Default::default()
        };
        let create = CreateTopicsRequest { topics: vec![topic], timeout_ms: 10_000, ..Default::default() };
        assert_eq!(admin.call(7, &create).topics[0].error_code, 0);
    }
    let rule =
        |principal: &str, host: &str, of: i8, pattern: i8, name: &str, operation: i8| CreateAclsRequestAclCreation {
            resource_type: of,
            resource_name: text(name),
            resource_pattern_type: pattern,
            principal: text(principal),
            host: text(host),
            operation,
            permission_type: ALLOW,
            ..Default::default()
        };
    let creations = vec![
        rule("User:bob", "*", configs::TOPIC, LITERAL, "mine", READ),
        rule("User:bob", "*", GROUP_RESOURCE, LITERAL, "mine", READ),
        // None of these says what it looks like.
        rule("User:b*", "*", configs::TOPIC, LITERAL, "secret", READ),
        rule("User:bob", "127.*", configs::TOPIC, LITERAL, "secret", READ),
        rule("User:bob", "*", configs::TOPIC, PREFIXED, "*", READ),
        rule("User:bob", "*", configs::TOPIC, LITERAL, "s*", READ),
        rule("User:bob", "*", GROUP_RESOURCE, PREFIXED, "*", DESCRIBE),
    ];
    let made = admin.call(3, &CreateAclsRequest { creations, ..Default::default() });
    assert!(made.results.iter().all(|result| result.error_code == 0), "{made:?}");
    // A user may be called so, and is nobody else for that.
    let iterations = NonZeroU32::new(4096).expect("not zero");
    let user = AlterUserScramCredentialsRequestScramCredentialUpsertion {
        name: text("*"),
        mechanism: Hash::Sha256.code(),
        iterations: 4096,
        salt: (&b"0123456789"[..]).into(),
        salted_password: Hash::Sha256.salted_password("any", b"0123456789", iterations).into(),
        ..Default::default()
    };
    let alter = AlterUserScramCredentialsRequest { upsertions: vec![user], ..Default::default() };
    assert_eq!(admin.call(0, &alter).results[0].error_code, 0);

    let refused = ErrorCode::TopicAuthorizationFailed.code();
    let reads = |connection: &mut Connection, topic: &str| connection.fetch(topic, 0, 0).expect("an answer").error_code;
    let mut bob = sasl::open(&broker);
    authenticate(&mut bob, sasl::PLAIN, "bob", "bobs-secret").expect("bob");
    assert_eq!(reads(&mut bob, "mine"), 0);
    for topic in ["secret", "s*", "*", "mine*", "m", ""] {
        let code = reads(&mut bob, topic);
        assert!(
            code == refused || topic != "secret" && code == ErrorCode::UnknownTopicOrPartition.code(),
            "{topic}: {code}"
        );
    }
    let committed = |connection: &mut Connection, group: &str| {
        let group = OffsetFetchRequestGroup { group_id: text(group), topics: Some(Vec::new()), ..Default::default() };
        let request = OffsetFetchRequest { groups: vec![group], ..Default::default() };
        connection.call(8, &request).groups[0].error_code
    };
    let denied = ErrorCode::GroupAuthorizationFailed.code();
    for group in ["mine*", "m", "MINE", "mine\0", "secret", "", "User:bob"] {
        assert_eq!(committed(&mut bob, group), denied, "{group:?}");
    }
    assert_ne!(committed(&mut bob, "mine"), denied);
    let mut star = sasl::open(&broker);
    authenticate(&mut star, Mechanism::Scram(Hash::Sha256), "*", "any").expect("the user *");
    for topic in ["mine", "secret"] {
        assert_eq!(reads(&mut star, topic), refused, "{topic}");
    }
    assert_eq!(committed(&mut star, "mine"), denied);
}

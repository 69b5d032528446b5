//! The audit's topic: what is in it, and who may do what with it.

use crate::access::{AUTHORIZER, make_topic};
use crate::configs;
use crate::sasl;
use corelane_protocol::ErrorCode;
use corelane_protocol::messages::{
    DeleteRecordsRequest, DeleteRecordsRequestDeleteRecordsPartition, DeleteRecordsRequestDeleteRecordsTopic,
    DeleteTopicsRequest, DeleteTopicsRequestDeleteTopicState, FetchRequest, FetchRequestFetchPartition,
    FetchRequestFetchTopic,
};
use corelane_tests::batch::{ProducerIdentity, build, now_ms, read};
use corelane_tests::broker::{Broker, BrokerOptions, is_corelane};
use corelane_tests::connection::Connection;
use corelane_tests::sasl::authenticate;
use corelane_tests::small_disk::SmallDisk;
use corelane_tests::wait;
use serde_json::Value;
use std::fs;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);
const TOPIC: &str = "__audit_log";
const PARTITIONS: i32 = 2;
const API_ACTIVITY: i64 = 6003;
const AUTHENTICATION: i64 = 3002;

/// All events so far.
fn events(connection: &mut Connection) -> Vec<Value> {
    let mut found = Vec::new();
    for partition in 0..PARTITIONS {
        let mut next = 0;
        while let Ok(data) = connection.fetch(TOPIC, partition, next) {
            let records = data.records.map(|records| read(&records.into_bytes())).unwrap_or_default();
            let Some(last) = records.last() else { break };
            next = last.offset + 1;
            let values = records.iter().filter_map(|record| record.value.as_deref());
            found.extend(values.map(|value| serde_json::from_slice::<Value>(value).expect("JSON")));
        }
    }
    found
}

/// The event of this class whose texts hold all of `words`.
fn event(broker: &Broker, class: i64, words: &[&str]) -> Value {
    let mut connection = Connection::open(broker.bootstrap()).expect("a connection");
    wait::until(&format!("an event of {words:?}"), LIMIT, || {
        let is_it = |event: &Value| {
            let text = event.to_string();
            event["class_uid"] == class && words.iter().all(|word| text.contains(word))
        };
        events(&mut connection).into_iter().find(is_it)
    })
}

#[test]
fn what_is_refused_and_what_is_changed_is_in_a_topic_that_clients_only_read() {
    if !is_corelane() {
        return;
    }
    // Who comes without SASL may do everything, bob nothing.
    let partitions = PARTITIONS.to_string();
    let set = [
        ("authorizer.class.name", AUTHORIZER),
        ("super.users", "User:ANONYMOUS"),
        ("connection.failed.authentication.delay.ms", "0"),
        ("audit.topic.enable", "true"),
        ("audit.topic.num.partitions", &partitions),
        ("audit.topic.retention.ms", "7200000"),
    ];
    let (broker, _) = sasl::start("audit-topic", &set);
    let mut admin = Connection::open(broker.bootstrap()).expect("a connection");
    admin.set_client_id("the \"admin\"");
    assert_eq!(make_topic(&mut admin, "secret"), 0);
    assert_ne!(make_topic(&mut admin, "secret"), 0);
    let done = event(&broker, API_ACTIVITY, &["CreateTopics", "secret", "\"done\""]);
    assert_eq!(done["actor"]["user"]["name"], "User:ANONYMOUS");
    assert_eq!(
        (&done["src_endpoint"]["ip"], &done["unmapped"]["client_id"]),
        (&"127.0.0.1".into(), &"the \"admin\"".into())
    );
    assert_eq!((&done["status_id"], &done["activity_id"]), (&1.into(), &1.into()));
    let failed = event(&broker, API_ACTIVITY, &["CreateTopics", "secret", "TopicAlreadyExists"]);
    assert_eq!(failed["status_id"], 2);

    let mut bob = sasl::open(&broker);
    authenticate(&mut bob, sasl::PLAIN, "bob", "bobs-secret").expect("bob");
    const TIMES: u64 = 2000;
    for _ in 0..TIMES {
        bob.fetch("secret", 0, 0).expect("an answer");
    }
    let words = ["User:bob", "Fetch", "Read", "secret"];
    let refused = event(&broker, API_ACTIVITY, &words);
    assert_eq!(refused["actor"]["authorizations"][0]["decision"], "denied");
    // What is said again and again is said once in a while.
    let said = wait::until("all of it", LIMIT, || {
        let all = events(&mut admin);
        let of_bob = all.iter().filter(|event| words.iter().all(|word| event.to_string().contains(word)));
        let counts: Vec<u64> = of_bob.filter_map(|event| event["count"].as_u64()).collect();
        (counts.iter().sum::<u64>() == TIMES).then_some(counts)
    });
    assert!((said.len() as u64) < TIMES / 2, "{said:?}");

    let wrong = authenticate(&mut sasl::open(&broker), sasl::PLAIN, "mallory", "open-sesame");
    assert!(wrong.is_err());
    let login = event(&broker, AUTHENTICATION, &["mallory", "PLAIN", "SASL_PLAINTEXT"]);
    assert_eq!((&login["user"]["name"], &login["status_id"]), (&"mallory".into(), &2.into()));
    assert!(events(&mut admin).iter().all(|event| !event.to_string().contains("open-sesame")));

    // Nobody but the broker writes it, not even those who may write to other topics of the broker's, and nobody takes any of it away.
    let refused = ErrorCode::TopicAuthorizationFailed.code();
    let batch = build(ProducerIdentity::NONE, now_ms(), [(None, Some(&b"{}"[..]))]);
    for id in ["anybody", "__admin_client"] {
        admin.set_client_id(id);
        assert_eq!(admin.produce(TOPIC, 0, batch.clone()).expect("an answer").error_code, refused);
    }
    let delete = DeleteTopicsRequest {
        topics: vec![DeleteTopicsRequestDeleteTopicState { name: Some(TOPIC.into()), ..Default::default() }],
        timeout_ms: 10_000,
        ..Default::default()
    };
    assert_eq!(admin.call(6, &delete).responses[0].error_code, refused);
    let partition = DeleteRecordsRequestDeleteRecordsPartition { partition_index: 0, offset: -1, ..Default::default() };
    let topic = DeleteRecordsRequestDeleteRecordsTopic {
        name: TOPIC.into(),
        partitions: vec![partition],
        ..Default::default()
    };
    let delete = DeleteRecordsRequest { topics: vec![topic], timeout_ms: 10_000, ..Default::default() };
    assert_ne!(admin.call(2, &delete).topics[0].partitions[0].error_code, 0);
    assert_ne!(make_topic(&mut admin, TOPIC), 0);
    event(&broker, API_ACTIVITY, &["Write", TOPIC, "denied"]);
    event(&broker, API_ACTIVITY, &["Delete", TOPIC, "denied"]);
    // bob may not even read it.
    assert_eq!(bob.fetch(TOPIC, 0, 0).expect("an answer").error_code, refused);
    event(&broker, API_ACTIVITY, &["User:bob", "Read", TOPIC]);
    assert!(admin.metadata(TOPIC).expect("an answer").topics[0].is_internal);
    let (retention, _) = configs::value(&mut admin, configs::TOPIC, TOPIC, "retention.ms").expect("a value");
    assert_eq!(retention, "7200000");

    // What the broker writes there is not seen by the audit in turn: nobody has been told that he made the topic, or wrote to it.
    assert_eq!(make_topic(&mut admin, "last"), 0);
    event(&broker, API_ACTIVITY, &["CreateTopics", "\"last\""]);
    let all = events(&mut admin);
    let of_it = |words: &[&str]| {
        let text = all.iter().map(Value::to_string);
        text.filter(|text| text.contains(TOPIC) && words.iter().all(|word| text.contains(word))).count()
    };
    assert_eq!((of_it(&["CreateTopics", "\"done\""]), of_it(&["Produce"])), (0, 2));
}

/// What is refused to a client all at once.
const FLOOD: u64 = 3000;

fn flood(bob: &mut Connection) {
    let topic = |i| FetchRequestFetchTopic {
        topic: format!("{i}-{}", "x".repeat(200)).into(),
        partitions: vec![FetchRequestFetchPartition::default()],
        ..Default::default()
    };
    let fetch = FetchRequest { topics: (0..FLOOD).map(topic).collect(), ..Default::default() };
    assert_eq!(bob.call(12, &fetch).responses.len() as u64, FLOOD);
}

/// Waits until the topic tells of so many refusals of bob's; those of them that it only counts.
fn missing_of(count: u64, admin: &mut Connection) -> u64 {
    wait::until("each event, or a word of it", LIMIT, || {
        let all = events(admin);
        let sum = |these: &dyn Fn(&Value) -> bool| -> u64 {
            all.iter().filter(|event| these(event)).filter_map(|event| event["count"].as_u64()).sum()
        };
        let of_bob = sum(&|event| event["actor"]["user"]["name"] == "User:bob");
        let missing = sum(&|event| event["class_uid"] == 0);
        (of_bob + missing == count).then_some(missing)
    })
}

#[test]
fn a_flood_hides_no_change_and_what_there_is_no_room_for_is_counted() {
    if !is_corelane() {
        return;
    }
    let set = [
        ("authorizer.class.name", AUTHORIZER),
        ("super.users", "User:ANONYMOUS"),
        ("audit.topic.enable", "true"),
        ("audit.topic.num.partitions", &PARTITIONS.to_string()),
    ];
    let (mut broker, _) = sasl::start("audit-flood", &set);
    let mut admin = Connection::open(broker.bootstrap()).expect("a connection");
    let mut bob = sasl::open(&broker);
    authenticate(&mut bob, sasl::PLAIN, "bob", "bobs-secret").expect("bob");
    flood(&mut bob);
    assert_eq!(make_topic(&mut admin, "beside"), 0);
    event(&broker, API_ACTIVITY, &["CreateTopics", "beside"]);
    assert!(missing_of(FLOOD, &mut admin) > 0);

    // The end waits for the last events, and they are there after it.
    assert_eq!(make_topic(&mut admin, "at-the-end"), 0);
    assert!(broker.stop().is_some_and(|status| status.success()));
    broker.resume();
    event(&broker, API_ACTIVITY, &["CreateTopics", "at-the-end"]);
}

#[test]
fn without_it_the_name_is_like_any_other() {
    if !is_corelane() {
        return;
    }
    let broker = Broker::start(BrokerOptions::default());
    let mut client = Connection::open(broker.bootstrap()).expect("a connection");
    assert_eq!(make_topic(&mut client, TOPIC), 0);
    assert!(!client.metadata(TOPIC).expect("an answer").topics[0].is_internal);
    let batch = build(ProducerIdentity::NONE, now_ms(), [(None, Some(&b"{}"[..]))]);
    assert_eq!(client.produce(TOPIC, 0, batch).expect("an answer").error_code, 0);
}

/// `CORELANE_LONG`: the disk stays full for half a minute.
#[test]
fn on_a_full_disk_the_log_goes_on_and_the_topic_tells_later_what_it_lacks() {
    let Some(disk) = is_corelane().then(|| SmallDisk::mount("audit-full-disk", 700 << 20)).flatten() else { return };
    let set = [
        ("authorizer.class.name", AUTHORIZER),
        ("super.users", "User:ANONYMOUS"),
        ("audit.topic.enable", "true"),
        ("audit.topic.num.partitions", &PARTITIONS.to_string()),
        ("storage.min.free.bytes", "67108864"),
        ("storage.reserve.bytes", "0"),
    ];
    let (options, _) = sasl::options("audit-full-disk-keys", &set);
    let options = BrokerOptions { data_dir: Some(disk.path("data")), cores: "0".into(), ..options };
    let mut broker = Broker::start(options);
    let mut admin = Connection::open(broker.bootstrap()).expect("a connection");
    let mut bob = sasl::open(&broker);
    authenticate(&mut bob, sasl::PLAIN, "bob", "bobs-secret").expect("bob");
    assert_eq!(make_topic(&mut admin, "before"), 0);
    event(&broker, API_ACTIVITY, &["CreateTopics", "before"]);

    let full = ErrorCode::KafkaStorageError.code();
    let batch = build(ProducerIdentity::NONE, now_ms(), [(None, Some(&b"x"[..]))]);
    let fill = |admin: &mut Connection| {
        disk.leave("hog", 48 << 20);
        wait::until("the disk to be full", LIMIT, || {
            let answer = admin.produce("before", 0, batch.clone()).expect("an answer");
            (answer.error_code == full).then_some(())
        });
    };
    fill(&mut admin);
    // Nobody is held up, and the log says it all.
    assert_eq!(make_topic(&mut admin, "meanwhile"), full);
    broker.log_with(&["CreateTopics", "\"meanwhile\"", "KafkaStorageError"]);
    broker.log_with(&["the audit's topic takes no events", "KafkaStorageError", "storage.min.free.bytes"]);
    flood(&mut bob);
    broker.log_with(&["User:bob", "Fetch", "\"0-xxx", "outcome=\"refused\""]);
    assert_eq!(configs::alter(&mut admin, configs::TOPIC, "before", "retention.ms", Some("86400000")).0, 0);
    broker.log_with(&["IncrementalAlterConfigs", "before", "outcome=\"done\""]);
    let long = Duration::from_secs(if std::env::var_os("CORELANE_LONG").is_some() { 30 } else { 0 });
    let in_topic = || events(&mut admin).iter().any(|event| event.to_string().contains("meanwhile")).then_some(());
    assert!(wait::within(long, in_topic).is_none());

    // There is room again, and nobody has to do anything for it: what waited comes, and how many there was no room for.
    disk.remove("hog");
    assert!(missing_of(FLOOD, &mut admin) > 0);
    event(&broker, API_ACTIVITY, &["CreateTopics", "meanwhile", "KafkaStorageError"]);
    event(&broker, API_ACTIVITY, &["IncrementalAlterConfigs", "before", "\"done\""]);
    broker.log_with(&["the audit's topic takes events again"]);

    // The end does not wait for room, and says what is lost.
    fill(&mut admin);
    assert_eq!(make_topic(&mut admin, "at-the-end"), full);
    assert!(broker.stop().is_some_and(|status| status.success()), "{}", broker.log_tail());
    broker.log_with(&["events of the audit are missing from its topic, which does not say so", "lost=1"]);
    disk.remove("hog");
    broker.resume();
    assert_eq!(make_topic(&mut Connection::open(broker.bootstrap()).expect("a connection"), "after"), 0);
    event(&broker, API_ACTIVITY, &["CreateTopics", "after"]);
}

#[test]
fn where_a_partition_has_failed_events_go_to_another_and_without_any_to_the_log() {
    if !is_corelane() {
        return;
    }
    let options = BrokerOptions { cores: "0".into(), ..BrokerOptions::default() };
    let options = options.set("audit.topic.enable", "true").set("audit.topic.num.partitions", PARTITIONS);
    let mut broker = Broker::start(options);
    let make = |broker: &Broker, name: &str| {
        assert_eq!(make_topic(&mut Connection::open(broker.bootstrap()).expect("a connection"), name), 0);
    };
    make(&broker, "first");
    event(&broker, API_ACTIVITY, &["CreateTopics", "first"]);
    for (partition, name) in ["second", "third"].into_iter().enumerate() {
        assert!(broker.stop().is_some_and(|status| status.success()));
        let mut folders =
            fs::read_dir(broker.data_dir().join("data")).expect("data").map(|e| e.expect("an entry").path());
        let its = format!("/{TOPIC}-{partition}.");
        let folder = folders.find(|folder| folder.to_string_lossy().contains(&its)).expect("the partition's directory");
        fs::remove_dir_all(folder).expect("the directory");
        broker.resume();
        make(&broker, name);
        if partition == 0 {
            event(&broker, API_ACTIVITY, &["CreateTopics", name]);
        }
    }
    broker.log_with(&["CreateTopics", "third", "outcome=\"done\""]);
    broker.log_with(&["the audit's topic takes no events", "KafkaStorageError"]);
    assert!(broker.stop().is_some_and(|status| status.success()), "{}", broker.log_tail());
    broker.log_with(&["which does not say so", "lost=1"]);
}

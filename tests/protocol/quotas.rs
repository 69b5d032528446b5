//! Quotas: what a client is held up for, for how long, and that nobody else is.

use std::time::{Duration, Instant};

use corelane_protocol::messages::{
    AlterClientQuotasRequest, AlterClientQuotasRequestEntityData, AlterClientQuotasRequestEntryData,
    AlterClientQuotasRequestOpData, CreateTopicsRequest, CreateTopicsRequestCreatableTopic,
    DescribeClientQuotasRequest, FetchRequest, FetchRequestFetchPartition, FetchRequestFetchTopic, FetchResponse,
    MetadataRequest, MetadataRequestTopic, ProduceRequest,
};
use corelane_protocol::{ErrorCode, Str};
use corelane_tests::batch::{ProducerIdentity, build, now_ms};
use corelane_tests::broker::{Broker, BrokerOptions, controllable};
use corelane_tests::connection::{Connection, produce_request, to_leader};
use corelane_tests::librdkafka::{LIMIT, create_topic, unique};
use corelane_tests::wait;

const PRODUCE: &str = "producer_byte_rate";
const FETCH: &str = "consumer_byte_rate";
/// What happens within this time is the same to a quota as if it had happened at once.
const AT_ONCE: Duration = Duration::from_secs(1);

type Entity<'a> = &'a [(&'a str, Option<&'a str>)];

/// Sets a quota, or takes it away.
#[track_caller]
fn set(connection: &mut Connection, entity: Entity<'_>, key: &str, value: Option<f64>) {
    let part = |(kind, name): &(&str, Option<&str>)| AlterClientQuotasRequestEntityData {
        entity_type: Str::from((*kind).to_owned()),
        entity_name: name.map(|name| Str::from(name.to_owned())),
        ..Default::default()
    };
    let op = AlterClientQuotasRequestOpData {
        key: Str::from(key.to_owned()),
        value: value.unwrap_or_default(),
        remove: value.is_none(),
        ..Default::default()
    };
    let entry = AlterClientQuotasRequestEntryData {
        entity: entity.iter().map(part).collect(),
        ops: vec![op],
        ..Default::default()
    };
    let answer = connection.call(1, &AlterClientQuotasRequest { entries: vec![entry], ..Default::default() });
    assert_eq!(answer.entries[0].error_code, 0, "{:?}", answer.entries[0].error_message);
}

fn open(broker: &Broker) -> Connection {
    Connection::open(broker.bootstrap()).expect("a connection")
}

/// A connection to the topic's leader that calls itself so.
fn leader(broker: &Broker, topic: &str, client_id: &str) -> Connection {
    let mut connection = to_leader(broker.bootstrap(), topic, 0).expect("the leader");
    connection.set_client_id(client_id);
    connection
}

/// Writes so many bytes in one batch; how long the answer says to wait.
fn produced(connection: &mut Connection, topic: &str, bytes: usize) -> i32 {
    let answer = connection.call(12, &produce(topic, bytes));
    assert_eq!(answer.responses[0].partition_responses[0].error_code, 0);
    answer.throttle_time_ms
}

fn produce(topic: &str, bytes: usize) -> ProduceRequest {
    let batch = build(ProducerIdentity::NONE, now_ms(), [(None, Some(&vec![b'q'; bytes][..]))]);
    produce_request(topic, vec![(0, batch.into())], -1)
}

fn fetch(topic: &str, session: (i32, i32)) -> FetchRequest {
    FetchRequest {
        session_id: session.0,
        session_epoch: session.1,
        min_bytes: 1,
        max_wait_ms: 100,
        max_bytes: 50 << 20,
        topics: vec![FetchRequestFetchTopic {
            topic: Str::from(topic.to_owned()),
            partitions: vec![FetchRequestFetchPartition { partition_max_bytes: 1 << 20, ..Default::default() }],
            ..Default::default()
        }],
        ..Default::default()
    }
}

fn fetched_bytes(answer: &FetchResponse) -> usize {
    let partitions = answer.responses.iter().flat_map(|topic| &topic.partitions);
    partitions.filter_map(|partition| partition.records.clone()).map(|records| records.into_bytes().len()).sum()
}

fn is_answered(connection: &mut Connection) {
    let none = MetadataRequest { topics: Some(Vec::new()), ..Default::default() };
    connection.call(12, &none);
}

/// Two windows' worth comes at once, and then the rate.
fn with_short_memory() -> Option<Broker> {
    controllable().then(|| Broker::start(BrokerOptions::default().set("quota.window.num", "3")))
}

#[test]
fn a_producer_over_its_quota_is_answered_and_then_waits_and_others_do_not() {
    let Some(broker) = with_short_memory() else { return };
    let topic = unique("quota-produce");
    create_topic(&broker, &topic, 1, &[]);
    let slow: Entity<'_> = &[("client-id", Some("quota-slow"))];
    set(&mut open(&broker), slow, PRODUCE, Some(100_000.0));
    let mut connections: Vec<Connection> = (0..4).map(|_| leader(&broker, &topic, "quota-slow")).collect();
    let begun = Instant::now();
    // Four connections, on as many shards as there are, have one quota.
    let sizes = [50_000, 100_000, 300_000, 200_000];
    let waits: Vec<i32> = connections.iter_mut().zip(sizes).map(|(c, size)| produced(c, &topic, size)).collect();
    assert_eq!(waits[..2], [0, 0]);
    assert!(waits[2] <= 2_600 && waits[3] <= 4_600, "650 kB at 100 kB a second: {waits:?}");
    // A machine that has been slower has waited for some of it already.
    if begun.elapsed() < AT_ONCE {
        assert!(0 < waits[2] && waits[2] < waits[3], "{waits:?}");
    }
    // Whoever else there is notices nothing.
    let mut other = leader(&broker, &topic, "quota-other");
    for _ in 0..4 {
        assert_eq!(produced(&mut other, &topic, 400_000), 0);
    }
    // The answer was there before the wait; the next request is read after it.
    is_answered(&mut connections[3]);
    let waited = begun.elapsed();
    assert!(waited >= Duration::from_millis(waits[3] as u64), "{waited:?} after {waits:?}");
    set(&mut open(&broker), slow, PRODUCE, None);
    assert_eq!(produced(&mut connections[0], &topic, 900_000), 0, "it is free again");
}

#[test]
fn a_rate_is_kept_over_windows_whatever_a_client_sends_ahead() {
    let Some(broker) = with_short_memory() else { return };
    let topic = unique("quota-rate");
    create_topic(&broker, &topic, 1, &[]);
    let pair: Entity<'_> = &[("user", Some("ANONYMOUS")), ("client-id", Some("quota-ahead"))];
    set(&mut open(&broker), pair, PRODUCE, Some(200_000.0));
    let mut connection = leader(&broker, &topic, "quota-ahead");
    let (begun, mut sent) = (Instant::now(), 0);
    let mut waiting = std::collections::VecDeque::new();
    // For five seconds; and until it has got what may come at once, however slow the machine is.
    while begun.elapsed() < Duration::from_secs(5) || sent < 400_000 {
        // Five on their way at a time, as clients have.
        if waiting.len() < 5 {
            waiting.push_back(connection.send(12, &produce(&topic, 100_000)).expect("send"));
            continue;
        }
        let id = waiting.pop_front().expect("a request");
        connection.receive::<ProduceRequest>(12, id).expect("an answer");
        sent += 100_000;
    }
    // What two windows save up, the time since, and what was on its way when the quota was used up.
    let most = 200_000 * (2 + begun.elapsed().as_secs() as usize + 1) + 6 * 101_000;
    assert!(sent <= most, "{sent} bytes, {most} allowed");
}

#[test]
fn a_consumer_over_its_quota_gets_nothing_and_is_told_to_wait() {
    let Some(broker) = with_short_memory() else { return };
    let topic = unique("quota-fetch");
    create_topic(&broker, &topic, 1, &[]);
    let mut writer = leader(&broker, &topic, "quota-writer");
    for _ in 0..2 {
        produced(&mut writer, &topic, 180_000);
    }
    let one = 180_000..200_000;
    // A machine that takes longer for these has waited already: then they say nothing, and another client asks again.
    let (mut first, opened, refused, in_session) = wait::until("three requests at once", LIMIT, || {
        let reader = unique("quota-reader");
        set(&mut open(&broker), &[("client-id", Some(&reader))], FETCH, Some(100_000.0));
        let [mut first, mut second] = [(); 2].map(|()| leader(&broker, &topic, &reader));
        let begun = Instant::now();
        let opened = first.call(12, &fetch(&topic, (0, 0)));
        assert!(one.contains(&fetched_bytes(&opened)), "as much as may come at once: {}", fetched_bytes(&opened));
        assert_eq!(opened.throttle_time_ms, 0);
        let refused = second.call(12, &fetch(&topic, (0, 0)));
        let in_session = first.call(12, &fetch(&topic, (opened.session_id, 1)));
        (begun.elapsed() < AT_ONCE).then_some((first, opened, refused, in_session))
    });
    // On a connection of its own, and in a session: nothing but the time, and what was not given is not counted.
    assert_eq!((refused.responses.len(), refused.error_code, refused.session_id), (0, 0, 0));
    assert_eq!((in_session.responses.len(), in_session.session_id), (0, opened.session_id));
    for answer in [&refused, &in_session] {
        assert!((1..=1_700).contains(&answer.throttle_time_ms), "{}", answer.throttle_time_ms);
    }
    // When it has waited, the session goes on where it was: what it did not get counts as unread.
    let got = (2..20).map(|epoch| first.call(12, &fetch(&topic, (opened.session_id, epoch))));
    let got = got.into_iter().find(|answer| fetched_bytes(answer) > 0).expect("records in the end");
    assert!(one.contains(&fetched_bytes(&got)) && got.throttle_time_ms == 0, "{}", got.throttle_time_ms);
    let mut other = leader(&broker, &topic, "quota-other-reader");
    for _ in 0..4 {
        let answer = other.call(12, &fetch(&topic, (0, -1)));
        assert!(fetched_bytes(&answer) > 360_000 && answer.throttle_time_ms == 0);
    }
}

#[test]
fn work_is_limited_too() {
    let broker = Broker::shared();
    let slow: Entity<'_> = &[("client-id", Some("quota-work"))];
    // A millionth of a core.
    set(&mut open(broker), slow, "request_percentage", Some(0.0001));
    let mut connection = open(broker);
    connection.set_client_id("quota-work");
    let none = MetadataRequest { topics: Some(Vec::new()), ..Default::default() };
    let throttled = |connection: &mut Connection| connection.call(12, &none).throttle_time_ms;
    let waits: Vec<i32> = (0..3).map(|_| throttled(&mut connection)).collect();
    assert!(waits.iter().any(|wait| *wait > 0) && waits.iter().all(|wait| *wait <= 1000), "{waits:?}");
    let mut other = open(broker);
    assert!((0..20).all(|_| throttled(&mut other) == 0));
    set(&mut open(broker), slow, "request_percentage", None);
}

#[test]
fn work_counts_whichever_core_does_it() {
    if !controllable() {
        return;
    }
    const PARTITIONS: i32 = 4;
    let broker = Broker::start(BrokerOptions { advertise: "node".into(), ..BrokerOptions::default() });
    let topic = unique("quota-cores");
    // To compress what comes is work of the core that has the partition, whatever core the client is connected to.
    create_topic(&broker, &topic, PARTITIONS, &[("compression.type", "gzip"), ("compression.gzip.level", "9")]);
    set(&mut open(&broker), &[("client-id", None)], "request_percentage", Some(0.05));
    let mut connection = open(&broker);
    let value: Vec<u8> =
        (0..900_000_u32).flat_map(|i| (i.wrapping_mul(2_654_435_761) >> 20).to_be_bytes()).take(900_000).collect();
    for partition in 0..PARTITIONS {
        connection.set_client_id(format!("quota-cores-{partition}"));
        let wait = |_| {
            let batch = build(ProducerIdentity::NONE, now_ms(), [(None, Some(&value[..]))]);
            let request = produce_request(&topic, vec![(partition, batch.into())], -1);
            let answer = connection.call(9, &request);
            assert_eq!(answer.responses[0].partition_responses[0].error_code, 0);
            answer.throttle_time_ms
        };
        assert!((0..3).map(wait).any(|wait| wait > 0), "partition {partition}");
    }
}

#[test]
fn quotas_are_there_after_a_restart_and_partitions_are_refused_by_them() {
    if !controllable() {
        return;
    }
    let mut broker = Broker::start(BrokerOptions::default());
    let everybody: Entity<'_> = &[("user", None)];
    set(&mut open(&broker), everybody, "controller_mutation_rate", Some(0.001));
    assert!(broker.stop().is_some_and(|status| status.success()));
    broker.resume();
    let make = |name: &str| {
        let topic = CreateTopicsRequestCreatableTopic {
            name: Str::from(name.to_owned()),
            num_partitions: 1,
            replication_factor: 1,
            ..Default::default()
        };
        let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 10_000, ..Default::default() };
        let answer = open(&broker).call(7, &request);
        (answer.topics[0].error_code, answer.throttle_time_ms)
    };
    assert_eq!(make("first"), (0, 0));
    let (error, wait) = make("second");
    assert_eq!(error, ErrorCode::ThrottlingQuotaExceeded.code());
    assert!((900_000..=1_000_000).contains(&wait), "{wait}");
    // What is made for a client that asks for it counts, too; it only hears that there is no such topic.
    let found = |name: &str| {
        let topic = MetadataRequestTopic { name: Some(Str::from(name.to_owned())), ..Default::default() };
        let request =
            MetadataRequest { topics: Some(vec![topic]), allow_auto_topic_creation: true, ..Default::default() };
        open(&broker).call(12, &request).topics[0].error_code
    };
    assert_eq!(found("third"), ErrorCode::UnknownTopicOrPartition.code());
    let shown = open(&broker).call(1, &DescribeClientQuotasRequest { strict: true, ..Default::default() });
    assert_eq!(shown.entries.map(|entries| entries.len()), Some(0), "no entity is of no type");
    let shown = open(&broker).call(1, &DescribeClientQuotasRequest::default());
    assert_eq!(shown.entries.expect("entries")[0].values[0].value, 0.001);
    set(&mut open(&broker), everybody, "controller_mutation_rate", None);
    assert_eq!(make("second"), (0, 0));
    assert_eq!(found("third"), 0);
}

#[test]
fn an_address_that_connects_too_fast_is_not_served_until_it_is_slower() {
    if !controllable() {
        return;
    }
    let broker = Broker::start(BrokerOptions { advertise: "node".into(), ..Default::default() });
    let mut admin = open(&broker);
    let served = || Connection::open(broker.bootstrap()).and_then(|mut c| c.metadata("none")).is_ok();
    set(&mut admin, &[("ip", None)], "connection_creation_rate", Some(1.0));
    assert!((0..30).any(|_| !served()), "ten come at once, whichever shard takes them");
    set(&mut admin, &[("ip", Some("127.0.0.1"))], "connection_creation_rate", Some(1000.0));
    assert!((0..30).all(|_| served()), "its own quota holds");
}

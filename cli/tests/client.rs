//! The client against a running broker: `CORELANE_TEST_BOOTSTRAP=host:port`. Without one there is nothing to test.

use corelane_cli::client::fetch::{FetchOptions, Fetched, Fetchers, for_each_record};
use corelane_cli::client::group::Membership;
use corelane_cli::client::{
    Acks, ClientError, Cluster, Dial, Outgoing, Producer, ProducerOptions, TopicDescription, partition_of,
};
use corelane_protocol::ErrorCode;
use corelane_storage::record::{Codec, Compression};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const PARTITIONS: i32 = 4;

/// A cluster and a topic of its own for the test, or `None` without a broker.
fn broker(test: &str) -> Option<(Cluster, String)> {
    let mut cluster = another()?;
    let name = format!("client-{test}-{}", std::process::id());
    let topic = TopicDescription {
        name: name.clone(),
        partitions: PARTITIONS,
        replication: -1,
        configs: vec![("retention.ms".to_owned(), "-1".to_owned())],
    };
    cluster.create_topic(&topic, false).unwrap();
    Some((cluster, name))
}

fn another() -> Option<Cluster> {
    let bootstrap = std::env::var("CORELANE_TEST_BOOTSTRAP").ok()?;
    Some(Cluster::connect(&bootstrap, Dial::default()).unwrap())
}

fn produce(topic: &str, compression: Compression, acks: Acks, keys: std::ops::Range<u32>) {
    let options = ProducerOptions { topic: topic.to_owned(), acks, compression, idempotent: acks == Acks::All };
    let mut producer = Producer::new(another().unwrap(), options).unwrap();
    let mut acked = 0;
    for (i, key) in keys.clone().enumerate() {
        let text = key.to_string();
        let record = Outgoing {
            timestamp: 1000 + i64::from(key),
            key: Some(text.as_bytes()),
            value: Some(text.as_bytes()),
            headers: &[("h", Some(b"x"))],
        };
        producer.push(partition_of(text.as_bytes(), producer.partitions()) as i32, &record);
        if i % 97 == 96 {
            acked += producer.flush().unwrap().iter().map(|a| a.records).sum::<usize>();
        }
    }
    acked += producer.flush().unwrap().iter().map(|a| a.records).sum::<usize>();
    assert_eq!(acked, keys.len());
}

/// Reads from the start until there are `count` records; returns keys by partition, in order.
fn read_all(cluster: &mut Cluster, topic: &str, count: usize) -> BTreeMap<i32, Vec<u32>> {
    let begin = cluster.offsets(topic, None, -2).unwrap();
    let positions = begin.iter().map(|(p, o)| ((topic.to_owned(), *p), o.0)).collect();
    let fetchers = Fetchers::start(cluster, &positions, &FetchOptions::default()).unwrap();
    let mut all: BTreeMap<i32, Vec<u32>> = BTreeMap::new();
    let until = Instant::now() + Duration::from_secs(30);
    while all.values().map(Vec::len).sum::<usize>() < count {
        assert!(Instant::now() < until, "only {all:?}");
        match fetchers.events.recv_timeout(Duration::from_secs(30)).unwrap() {
            Fetched::Records { partition, from, bytes, .. } => for_each_record(&bytes, from, |_, r| {
                assert_eq!(r.key, r.value);
                assert_eq!(r.headers.iter().count(), 1);
                let key: u32 = std::str::from_utf8(&r.key.unwrap()).unwrap().parse().unwrap();
                all.entry(partition).or_default().push(key);
                true
            })
            .unwrap(),
            Fetched::Ended { error } => panic!("{error}"),
        }
    }
    all
}

#[test]
fn what_is_produced_with_any_codec_is_read_in_order() {
    let Some((mut cluster, topic)) = broker("codecs") else { return };
    let mut count = 0;
    for codec in Codec::ALL {
        for acks in [Acks::All, Acks::Leader] {
            produce(&topic, Compression::from(codec), acks, count..count + 500);
            count += 500;
        }
    }
    let all = read_all(&mut cluster, &topic, count as usize);
    assert_eq!(all.values().map(Vec::len).sum::<usize>(), count as usize);
    for (partition, keys) in &all {
        assert!(keys.windows(2).all(|w| w[0] < w[1]), "partition {partition} is out of order");
        assert!(keys.iter().all(|k| partition_of(k.to_string().as_bytes(), PARTITIONS as usize) as i32 == *partition));
    }
    cluster.delete_topic(&topic).unwrap();
}

#[test]
fn offsets_are_found_by_time() {
    let Some((mut cluster, topic)) = broker("times") else { return };
    produce(&topic, Compression::from(Codec::None), Acks::All, 0..400);
    let latest = cluster.offsets(&topic, None, -1).unwrap();
    assert_eq!(latest.values().map(|o| o.0).sum::<i64>(), 400);
    assert!(cluster.offsets(&topic, None, -2).unwrap().values().all(|o| o.0 == 0));
    let late = cluster.offsets(&topic, None, 1200).unwrap();
    for (p, (offset, time)) in late {
        assert!(time >= 1200 && offset > 0 && offset < latest[&p].0, "{p}: {offset} at {time}");
    }
    assert!(cluster.offsets(&topic, None, 9_999_999_999_999).unwrap().values().all(|o| o.0 == -1));
    let e = cluster.offsets(&topic, Some(&[99]), -1).unwrap_err();
    assert!(matches!(e, ClientError::NoSuchPartition { partition: 99, .. }), "{e}");
    cluster.delete_topic(&topic).unwrap();
}

#[test]
fn a_group_shares_partitions_and_keeps_its_offsets() {
    let Some((mut cluster, topic)) = broker("group") else { return };
    let group = format!("g-{topic}");
    let topics = [topic.clone()];
    let mut first = Membership::join(&mut cluster, &group, &topics).unwrap();
    assert_eq!(first.assigned[&topic], [0, 1, 2, 3]);
    let (name, own) = (group.clone(), topics.clone());
    let joining = std::thread::spawn(move || Membership::join(&mut another().unwrap(), &name, &own).unwrap());
    let until = Instant::now() + Duration::from_secs(30);
    while first.heartbeat().unwrap() {
        assert!(Instant::now() < until, "no rebalance");
        std::thread::yield_now();
    }
    first.rejoin(&mut cluster).unwrap();
    let second = joining.join().unwrap();
    let mut all: Vec<i32> = first.assigned[&topic].iter().chain(&second.assigned[&topic]).copied().collect();
    all.sort_unstable();
    assert_eq!(all, [0, 1, 2, 3]);
    first.commit(&[((topic.clone(), first.assigned[&topic][0]), 7)].into()).unwrap();
    let (_, described) = cluster.describe_group(&group).unwrap();
    assert_eq!(described.members.len(), 2);
    assert_eq!(cluster.delete_group(&group).unwrap_err().code(), Some(ErrorCode::NonEmptyGroup));
    second.leave().unwrap();
    first.leave().unwrap();
    assert_eq!(cluster.committed(&group).unwrap().values().map(|c| c.0).collect::<Vec<_>>(), [7]);
    assert!(cluster.groups().unwrap().iter().any(|(_, g)| g.group_id == group));
    cluster.delete_group(&group).unwrap();
    cluster.delete_topic(&topic).unwrap();
}

#[test]
fn refusals_carry_the_error_of_the_broker() {
    let Some((mut cluster, topic)) = broker("refusals") else { return };
    let again = TopicDescription { name: topic.clone(), partitions: 1, replication: -1, configs: Vec::new() };
    let code = |e: ClientError| e.code();
    assert_eq!(cluster.create_topic(&again, false).map_err(code), Err(Some(ErrorCode::TopicAlreadyExists)));
    let odd = TopicDescription { name: "a b".to_owned(), ..again };
    assert_eq!(cluster.create_topic(&odd, false).map_err(code), Err(Some(ErrorCode::InvalidTopicException)));
    let set = |n: &str, v: &str| [(n.to_owned(), Some(v.to_owned()))];
    assert_eq!(cluster.alter_topic(&topic, &set("nope", "1")).map_err(code), Err(Some(ErrorCode::InvalidConfig)));
    assert_eq!(
        cluster.alter_topic(&topic, &set("retention.ms", "x")).map_err(code),
        Err(Some(ErrorCode::InvalidConfig))
    );
    cluster.alter_topic(&topic, &set("retention.ms", "123456")).unwrap();
    let value = |c: &mut Cluster| {
        let all = c.topic_configs(&topic).unwrap();
        let one = all.into_iter().find(|c| c.name == "retention.ms").unwrap();
        (one.value.map(|v| v.to_string()), one.config_source)
    };
    // Kafka applies a change a moment after it has answered.
    let until = Instant::now() + Duration::from_secs(10);
    while value(&mut cluster) != (Some("123456".to_owned()), 1) {
        assert!(Instant::now() < until);
    }
    cluster.alter_topic(&topic, &[("retention.ms".to_owned(), None)]).unwrap();
    while value(&mut cluster).1 == 1 {
        assert!(Instant::now() < until);
    }
    assert_eq!(cluster.create_partitions(&topic, 1).map_err(code), Err(Some(ErrorCode::InvalidPartitions)));
    cluster.create_partitions(&topic, PARTITIONS + 2).unwrap();
    let until = Instant::now() + Duration::from_secs(10);
    while cluster.topic(&topic).unwrap().partitions.len() != PARTITIONS as usize + 2 {
        assert!(Instant::now() < until);
        cluster.forget_topics();
    }
    assert!(matches!(cluster.topic("no-such-topic"), Err(ClientError::NoSuchTopic(_))));
    cluster.delete_topic(&topic).unwrap();
}

#[test]
fn a_closed_port_is_unreachable() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let e = Cluster::connect(&closed.to_string(), Dial::default()).map(|_| ()).unwrap_err();
    assert!(matches!(e, ClientError::Unreachable { .. }), "{e}");
}

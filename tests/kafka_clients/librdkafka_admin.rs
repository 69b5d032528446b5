//! librdkafka's admin client.

use corelane_tests::broker::Broker;
use corelane_tests::librdkafka::{
    LIMIT, admin, admin_options, block_on, config, consumer, create_topic, produce_all, producer, unique, wait_leaders,
};
use corelane_tests::wait;
use rdkafka::admin::{AlterConfig, ConfigSource, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

fn describe(topic: &str) -> rdkafka::admin::ConfigResource {
    let client = admin(Broker::shared());
    let found = block_on(client.describe_configs([&ResourceSpecifier::Topic(topic)], &admin_options()));
    found.expect("DescribeConfigs").remove(0).expect("the topic's configs")
}

#[test]
fn topic_is_created_listed_and_deleted() {
    let broker = Broker::shared();
    let topic = unique("life");
    create_topic(broker, &topic, 7, &[]);
    let client = admin(broker);
    let again = NewTopic::new(&topic, 7, TopicReplication::Fixed(1));
    let results = block_on(client.create_topics([&again], &admin_options())).expect("CreateTopics");
    assert_eq!(results, [Err((topic.clone(), RDKafkaErrorCode::TopicAlreadyExists))]);
    let all = client.inner().fetch_metadata(None, LIMIT).expect("metadata");
    let found = all.topics().iter().find(|t| t.name() == topic).expect("listed");
    assert_eq!(found.partitions().len(), 7);
    assert!(found.partitions().iter().all(|p| p.replicas().len() == 1 && p.isr().len() == 1));
    let results = block_on(client.delete_topics(&[&topic], &admin_options())).expect("DeleteTopics");
    assert_eq!(results, [Ok(topic.clone())]);
    wait::until("the deleted topic to go", LIMIT, || {
        let all = client.inner().fetch_metadata(None, LIMIT).ok()?;
        all.topics().iter().all(|t| t.name() != topic).then_some(())
    });
    let results = block_on(client.delete_topics(&[&topic], &admin_options())).expect("DeleteTopics");
    assert_eq!(results, [Err((topic.clone(), RDKafkaErrorCode::UnknownTopicOrPartition))]);
}

#[test]
fn topic_created_again_under_its_name_starts_empty() {
    let broker = Broker::shared();
    let topic = unique("phoenix");
    let client = admin(broker);
    for round in 0..3 {
        create_topic(broker, &topic, 3, &[]);
        let reader = consumer(broker, &[]);
        for p in 0..3 {
            assert_eq!(reader.fetch_watermarks(&topic, p, LIMIT).expect("watermarks"), (0, 0), "round {round}");
        }
        let sender = producer(broker, &[]);
        produce_all(&sender, &topic, (0..50_u8).map(|_| (&b"key"[..], &b"value"[..])));
        // A producer that asks for the topic again makes it.
        drop(sender);
        let results = block_on(client.delete_topics(&[&topic], &admin_options())).expect("DeleteTopics");
        assert_eq!(results, [Ok(topic.clone())]);
        wait::until("the deleted topic to go", LIMIT, || {
            let all = client.inner().fetch_metadata(None, LIMIT).ok()?;
            all.topics().iter().all(|t| t.name() != topic).then_some(())
        });
    }
}

#[test]
fn wrong_topics_are_refused_with_kafkas_codes() {
    let client = admin(Broker::shared());
    let long = "x".repeat(250);
    let name = unique("wrong");
    let cases = [
        (NewTopic::new("a b", 1, TopicReplication::Fixed(1)), RDKafkaErrorCode::InvalidTopic),
        (NewTopic::new("..", 1, TopicReplication::Fixed(1)), RDKafkaErrorCode::InvalidTopic),
        (NewTopic::new(&long, 1, TopicReplication::Fixed(1)), RDKafkaErrorCode::InvalidTopic),
        (NewTopic::new(&name, 1, TopicReplication::Fixed(3)), RDKafkaErrorCode::InvalidReplicationFactor),
        (
            NewTopic::new(&name, 1, TopicReplication::Fixed(1)).set("no.such.config", "1"),
            RDKafkaErrorCode::InvalidConfig,
        ),
        (NewTopic::new(&name, 1, TopicReplication::Fixed(1)).set("retention.ms", "x"), RDKafkaErrorCode::InvalidConfig),
    ];
    for (topic, code) in cases {
        let results = block_on(client.create_topics([&topic], &admin_options())).expect("CreateTopics");
        assert_eq!(results, [Err((topic.name.to_owned(), code))], "{topic:?}");
    }
    // a dot and an underscore collide
    let (dot, underscore) = (format!("{name}.x"), format!("{name}_x"));
    create_topic(Broker::shared(), &dot, 1, &[]);
    let clash = NewTopic::new(&underscore, 1, TopicReplication::Fixed(1));
    let results = block_on(client.create_topics([&clash], &admin_options())).expect("CreateTopics");
    assert_eq!(results, [Err((underscore.clone(), RDKafkaErrorCode::InvalidTopic))]);
}

#[test]
fn validate_only_creates_nothing() {
    let client = admin(Broker::shared());
    let topic = unique("dry");
    let options = admin_options().validate_only(true);
    let new = NewTopic::new(&topic, 1, TopicReplication::Fixed(1));
    let results = block_on(client.create_topics([&new], &options)).expect("CreateTopics");
    assert_eq!(results, [Ok(topic.clone())]);
    let all = client.inner().fetch_metadata(None, LIMIT).expect("metadata");
    assert!(all.topics().iter().all(|t| t.name() != topic));
}

#[test]
fn partitions_are_added_and_serve() {
    let broker = Broker::shared();
    let topic = unique("grow");
    create_topic(broker, &topic, 2, &[]);
    let client = admin(broker);
    let more = NewPartitions::new(&topic, 5);
    let results = block_on(client.create_partitions([&more], &admin_options())).expect("CreatePartitions");
    assert_eq!(results, [Ok(topic.clone())]);
    wait_leaders(broker, &topic, 5);
    let fewer = NewPartitions::new(&topic, 3);
    let results = block_on(client.create_partitions([&fewer], &admin_options())).expect("CreatePartitions");
    assert_eq!(results, [Err((topic.clone(), RDKafkaErrorCode::InvalidPartitions))]);
    let keys: Vec<String> = (0..200).map(|i| format!("k{i}")).collect();
    let sender = producer(broker, &[]);
    let places = produce_all(&sender, &topic, keys.iter().map(|k| (k.as_bytes(), &b"v"[..])));
    let used: std::collections::BTreeSet<i32> = places.values().map(|(p, _)| *p).collect();
    assert_eq!(used.into_iter().collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
}

#[test]
fn topic_configs_are_described_and_altered() {
    let broker = Broker::shared();
    let topic = unique("configs");
    create_topic(broker, &topic, 1, &[("retention.ms", "123456"), ("cleanup.policy", "delete")]);
    let before = describe(&topic);
    let retention = before.get("retention.ms").expect("retention.ms");
    assert_eq!(retention.value.as_deref(), Some("123456"));
    assert_eq!(retention.source, ConfigSource::DynamicTopic);
    let segment = before.get("segment.bytes").expect("segment.bytes");
    assert_eq!(segment.value.as_deref(), Some("1073741824"));
    assert!(matches!(segment.source, ConfigSource::Default | ConfigSource::StaticBroker));
    for name in ["compression.type", "max.message.bytes", "min.insync.replicas", "message.timestamp.type", "flush.ms"] {
        assert!(before.get(name).is_some(), "{name} is described");
    }
    let client = admin(broker);
    // AlterConfigs replaces the whole set
    let change = AlterConfig::new(ResourceSpecifier::Topic(&topic)).set("max.message.bytes", "2000");
    let results = block_on(client.alter_configs([&change], &admin_options())).expect("AlterConfigs");
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    wait::until("the new configs", LIMIT, || {
        let now = describe(&topic);
        let max = now.get("max.message.bytes")?.value.as_deref() == Some("2000");
        let back = now.get("retention.ms")?.value.as_deref() == Some("604800000");
        (max && back).then_some(())
    });
    let sender = producer(broker, &[]);
    let value = vec![b'x'; 3000];
    corelane_tests::librdkafka::send(
        &sender,
        rdkafka::producer::BaseRecord::with_opaque_to(&topic, Box::new(0)).key(&b"k"[..]).payload(&value[..]),
    );
    rdkafka::producer::Producer::flush(&sender, LIMIT).expect("flush");
    let report = rdkafka::producer::Producer::context(&sender).take().remove(&0).expect("a report");
    assert_eq!(report, Err(RDKafkaErrorCode::MessageSizeTooLarge));
    // a refused change leaves all as it was (the rdkafka crate does not pass the error on; the Java tests see it)
    let wrong = AlterConfig::new(ResourceSpecifier::Topic(&topic)).set("retention.ms", "soon");
    block_on(client.alter_configs([&wrong], &admin_options())).expect("AlterConfigs");
    let after = describe(&topic);
    let value = |name: &str| after.get(name).and_then(|e| e.value.clone());
    assert_eq!(value("max.message.bytes").as_deref(), Some("2000"));
    assert_eq!(value("retention.ms").as_deref(), Some("604800000"));
}

#[test]
fn broker_configs_are_described() {
    let client = admin(Broker::shared());
    let metadata = client.inner().fetch_metadata(None, LIMIT).expect("metadata");
    let id = metadata.brokers()[0].id();
    let found = block_on(client.describe_configs([&ResourceSpecifier::Broker(id)], &admin_options()));
    let configs = found.expect("DescribeConfigs").remove(0).expect("the broker's configs");
    let value = |name: &str| configs.get(name).and_then(|e| e.value.clone());
    assert_eq!(value("num.partitions").as_deref(), Some("4"));
    assert_eq!(value("message.max.bytes").as_deref(), Some("1048588"));
    assert_eq!(value("log.retention.hours").as_deref(), Some("168"));
}

#[test]
fn unused_group_is_deleted_with_its_offsets() {
    let broker = Broker::shared();
    let (topic, group) = (unique("left"), unique("group"));
    create_topic(broker, &topic, 1, &[]);
    let reader: BaseConsumer = config(broker).set("group.id", &group).create().expect("a consumer");
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&topic, 0, Offset::Offset(0)).expect("a partition");
    wait::until("a commit", LIMIT, || reader.commit(&list, CommitMode::Sync).ok());
    let groups = reader.fetch_group_list(Some(&group), LIMIT).expect("groups");
    assert_eq!(groups.groups().len(), 1);
    assert_eq!(groups.groups()[0].state(), "Empty");
    let client = admin(broker);
    let results = block_on(client.delete_groups(&[&group], &admin_options())).expect("DeleteGroups");
    assert_eq!(results, [Ok(group.clone())]);
    let mut ask = TopicPartitionList::new();
    ask.add_partition(&topic, 0);
    let committed = reader.committed_offsets(ask, LIMIT).expect("OffsetFetch");
    assert_eq!(committed.find_partition(&topic, 0).expect("the partition").offset(), Offset::Invalid);
    let results = block_on(client.delete_groups(&[&group], &admin_options())).expect("DeleteGroups");
    assert!(matches!(results[0], Err((_, RDKafkaErrorCode::GroupIdNotFound))), "{results:?}");
}

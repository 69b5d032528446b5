//! Committed offsets, topics and configs survive kills.

use super::{LIMIT, broker, kill_and_restart, kills};
use corelane_tests::broker::Broker;
use corelane_tests::librdkafka::{admin, admin_options, block_on, config, create_topic, produce_all, producer, unique};
use corelane_tests::wait;
use rdkafka::Message;
use rdkafka::admin::{AlterConfig, ResourceSpecifier};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::collections::BTreeMap;
use std::time::Duration;

const GROUPS: usize = 5;

#[test]
fn committed_offsets_survive() {
    let mut broker = broker();
    let topic = unique("committed");
    create_topic(&broker, &topic, 3, &[]);
    let groups: Vec<String> = (0..GROUPS).map(|_| unique("group")).collect();
    let at = |group: usize, partition: i32, round: i64| round * 100 + (group as i64) * 10 + i64::from(partition);
    for round in 0..kills() as i64 {
        for (g, group) in groups.iter().enumerate() {
            let client: BaseConsumer = config(&broker).set("group.id", group).create().expect("a consumer");
            let mut list = TopicPartitionList::new();
            for p in 0..3 {
                list.add_partition_offset(&topic, p, Offset::Offset(at(g, p, round))).expect("a partition");
            }
            wait::until("a commit", LIMIT, || client.commit(&list, CommitMode::Sync).ok());
        }
        kill_and_restart(&mut broker);
        for (g, group) in groups.iter().enumerate() {
            let client: BaseConsumer = config(&broker).set("group.id", group).create().expect("a consumer");
            let mut ask = TopicPartitionList::new();
            ask.add_partition_range(&topic, 0, 2);
            let found = wait::until("OffsetFetch", LIMIT, || client.committed_offsets(ask.clone(), LIMIT).ok());
            for p in 0..3 {
                let offset = found.find_partition(&topic, p).expect("the partition").offset();
                assert_eq!(offset, Offset::Offset(at(g, p, round)), "{group}, partition {p}, kill {round}");
            }
        }
    }
}

/// Members of the consumer protocol (KIP-848) outlive the broker: they keep their partitions, and what they committed.
#[test]
fn members_of_a_consumer_group_go_on() {
    let mut broker = broker();
    let (topic, group) = (unique("members"), unique("members"));
    create_topic(&broker, &topic, 4, &[]);
    let member = |broker: &Broker| -> BaseConsumer {
        let mut config = config(broker);
        config.set("group.id", &group).set("group.protocol", "consumer").set("enable.auto.commit", "false");
        config.set("auto.offset.reset", "earliest").create().expect("a consumer")
    };
    let members = [member(&broker), member(&broker)];
    members.iter().for_each(|member| member.subscribe(&[&topic]).expect("subscribe"));
    let owned = |member: &BaseConsumer| member.assignment().expect("an assignment").count();
    // (partition, offset) of what was read, and how often.
    let mut read: BTreeMap<(i32, i64), usize> = BTreeMap::new();
    let mut sent = 0;
    for round in 0..kills().min(3) {
        produce_all(&producer(&broker, &[]), &topic, (0..40).map(|_| (&b"key"[..], &b"value"[..])));
        sent += 40;
        wait::until("two partitions each, and all records", LIMIT, || {
            for member in &members {
                if let Some(Ok(message)) = member.poll(Duration::from_millis(20)) {
                    *read.entry((message.partition(), message.offset())).or_default() += 1;
                }
            }
            let owned: Vec<usize> = members.iter().map(owned).collect();
            (read.len() == sent && owned == [2, 2]).then_some(())
        });
        for member in &members {
            wait::until("a commit", LIMIT, || match member.commit_consumer_state(CommitMode::Sync) {
                // Nothing was read of its partitions since.
                Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::NoOffset)) => Some(()),
                committed => committed.ok(),
            });
        }
        let before: Vec<_> = members.iter().map(|member| member.assignment().expect("an assignment")).collect();
        kill_and_restart(&mut broker);
        let after: Vec<_> = members.iter().map(|member| member.assignment().expect("an assignment")).collect();
        assert_eq!(after, before, "kill {round}");
    }
    drop(members);
    let again = member(&broker);
    again.subscribe(&[&topic]).expect("subscribe");
    wait::until("all partitions", LIMIT, || {
        if let Some(Ok(message)) = again.poll(Duration::from_millis(20)) {
            panic!("{} of partition {} was committed", message.offset(), message.partition());
        }
        (owned(&again) == 4).then_some(())
    });
}

#[test]
fn topics_and_configs_survive() {
    let mut broker = broker();
    let mut kept = Vec::new();
    for round in 0..kills().min(20) {
        let (keep, drop) = (unique("keep"), unique("drop"));
        create_topic(&broker, &keep, 3, &[("retention.ms", "1000000")]);
        create_topic(&broker, &drop, 2, &[]);
        let client = admin(&broker);
        let max = (5000 + round).to_string();
        let change = AlterConfig::new(ResourceSpecifier::Topic(&keep)).set("max.message.bytes", &max);
        let altered = block_on(client.alter_configs([&change], &admin_options())).expect("AlterConfigs");
        assert!(altered[0].is_ok());
        let deleted = block_on(client.delete_topics(&[&drop], &admin_options())).expect("DeleteTopics");
        assert_eq!(deleted, [Ok(drop.clone())]);
        kept.push((keep, max));
        kill_and_restart(&mut broker);
        let client = admin(&broker);
        let all = client.inner().fetch_metadata(None, LIMIT).expect("metadata");
        assert!(all.topics().iter().all(|t| t.name() != drop), "{drop} is back after kill {round}");
        for (name, max) in &kept {
            let topic = all.topics().iter().find(|t| t.name() == name);
            let topic = topic.unwrap_or_else(|| panic!("{name} is gone after kill {round}"));
            assert_eq!(topic.partitions().len(), 3);
            let found = block_on(client.describe_configs([&ResourceSpecifier::Topic(name)], &admin_options()));
            let configs = found.expect("DescribeConfigs").remove(0).expect("configs");
            let value = |key: &str| configs.get(key).and_then(|e| e.value.clone());
            assert_eq!(value("max.message.bytes").as_ref(), Some(max));
            assert_eq!(value("retention.ms").as_deref(), Some("604800000"), "AlterConfigs replaced the set");
        }
    }
}

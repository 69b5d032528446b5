//! Clients whose requests become larger than they look.

use super::{open, small};
use crate::bystander::{undisturbed, undisturbed_by};
use crate::frames::header;
use corelane_protocol::messages::ProduceRequest;
use corelane_tests::batch::{ProducerIdentity, bomb, build, now_ms, with_window, zstd};
use corelane_tests::broker::is_corelane;
use corelane_tests::connection::{Connection, Fate, produce_request, to_leader};
use corelane_tests::librdkafka::{create_topic, unique};
use std::time::Duration;

/// Elements of the arrays; each takes 2 bytes of a frame and 50 or more of memory.
const ELEMENTS: u32 = 8_000_000;

fn varint(mut value: u32) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

#[test]
fn requests_of_very_many_very_small_things_are_refused() {
    if !is_corelane() {
        return; // Apache Kafka takes them in
    }
    let many = |element: &[u8]| [varint(ELEMENTS + 1), element.repeat(ELEMENTS as usize)].concat();
    // An empty name and no tagged fields, and an empty name.
    let metadata = header(3, 9, true, &[many(&[1, 0]), vec![0; 4]].concat());
    let delete_topics = header(20, 4, true, &[many(&[1]), vec![0; 5]].concat());
    let describe_groups = header(15, 5, true, &[many(&[1]), vec![0; 2]].concat());
    undisturbed_by(|broker| {
        for (api, frame) in
            [("Metadata", metadata), ("DeleteTopics", delete_topics), ("DescribeGroups", describe_groups)]
        {
            let mut connection = open(broker);
            connection.write(&frame).expect("the request");
            let fate = connection.fate();
            assert!(matches!(fate, Fate::Closed), "{api}: {fate:?}");
        }
    });
}

#[test]
fn frames_of_the_greatest_size_share_the_memory_there_is() {
    if !is_corelane() {
        return;
    }
    let broker = small("0,1");
    undisturbed(&broker, |broker| {
        // All of them are sent whole, at once, again and again, and are nothing that could be answered.
        let frame = header(3, 9, true, &vec![0xff; super::REQUEST_MAX - 20]);
        std::thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| {
                    for _ in 0..4 {
                        let mut connection = open(broker);
                        let _ = connection.write(&frame);
                        let fate = connection.fate();
                        assert!(matches!(fate, Fate::Closed), "{fate:?}");
                    }
                });
            }
        });
    });
}

#[test]
fn batches_that_unpack_to_very_much_are_refused() {
    if !is_corelane() {
        return;
    }
    let record = build(ProducerIdentity::NONE, now_ms(), [(None, Some(&b"v"[..]))]);
    // A gigabyte, also with windows that take as much memory as may be.
    let bomb = bomb(&record, 1 << 30);
    let bombs = [with_window(&bomb, 27), with_window(&bomb, 31), bomb];
    let broker = small("0");
    undisturbed(&broker, |broker| {
        const PARTITIONS: i32 = 8;
        let topic = unique("bombed");
        create_topic(broker, &topic, PARTITIONS, &[]);
        let sent: Vec<(Connection, i32)> = (0..PARTITIONS)
            .flat_map(|partition| bombs.iter().map(move |bomb| (partition, bomb)))
            .map(|(partition, bomb)| {
                let mut connection = to_leader(broker.bootstrap(), &topic, partition).expect("the leader");
                connection.set_read_timeout(Duration::from_secs(120));
                let request = produce_request(&topic, vec![(partition, bomb.clone().into())], -1);
                let id = connection.send(12, &request).expect("sent");
                (connection, id)
            })
            .collect();
        for (mut connection, id) in sent {
            let answer = connection.receive::<ProduceRequest>(12, id).expect("an answer");
            assert_ne!(answer.responses[0].partition_responses[0].error_code, 0);
        }
        let mut connection = to_leader(broker.bootstrap(), &topic, 0).expect("the leader");
        assert_eq!(connection.produce(&topic, 0, zstd(&record)).expect("an answer").error_code, 0);
    });
}

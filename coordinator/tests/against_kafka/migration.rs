//! Kafka's own `__consumer_offsets` replayed: the groups and offsets must be those that Kafka says it has.

use corelane_coordinator::Now;
use corelane_coordinator::group::{GroupConfig, GroupCoordinator, Replayed, Reply, RequestContext};
use corelane_protocol::messages::*;
use corelane_protocol::{Str, Uuid};
use corelane_storage::record::{Batches, RecordIter};

use crate::kafka::Kafka;
use crate::text;

pub fn check(kafka: &mut Kafka) {
    let now = Now { mono_ms: 0, wall_ms: 0 };
    let mut machine = GroupCoordinator::new(GroupConfig::default());
    let mut applied = 0;
    for partition in 0..kafka.partitions_of("__consumer_offsets") {
        applied += replay(kafka, &mut machine, now, partition);
    }
    let context = RequestContext { client_id: Str::EMPTY, client_host: Str::EMPTY, api_version: 6, random: 0 };
    let (mut groups, mut offsets, mut stable) = (0, 0, 0);
    for listed in kafka.call(5, &ListGroupsRequest::default()).groups {
        groups += 1;
        let ids = vec![listed.group_id.clone()];
        let request = DescribeGroupsRequest { groups: ids.clone(), ..Default::default() };
        let described = kafka.call(6, &request).groups.remove(0);
        let mut ours = machine.describe_groups(&context, &ids).remove(0);
        if described.group_state == "Stable" {
            stable += 1;
            let mut described = described.clone();
            for group in [&mut described, &mut ours] {
                group.members.sort_by(|a, b| a.member_id.cmp(&b.member_id));
            }
            assert_eq!(described, ours);
        }
        assert_eq!(ours.error_code, 0, "{listed:?} is not in the log");
        let all = OffsetFetchRequestGroup { group_id: listed.group_id.clone(), topics: None, ..Default::default() };
        let request = OffsetFetchRequest { groups: vec![all.clone()], ..Default::default() };
        let mut theirs = kafka.call(9, &request).groups.remove(0);
        let Reply::Now(mut ours) = machine.offset_fetch(&all, false).reply else { panic!("nothing is being written") };
        for group in [&mut theirs, &mut ours] {
            group.topics.sort_by(|a, b| a.name.cmp(&b.name));
            for topic in &mut group.topics {
                topic.topic_id = Uuid::ZERO;
                topic.partitions.sort_by_key(|partition| partition.partition_index);
            }
        }
        offsets += theirs.topics.iter().map(|topic| topic.partitions.len()).sum::<usize>();
        assert_eq!(theirs, ours);
    }
    let counts = machine.counts();
    assert_eq!((counts.empty + counts.stable, counts.offsets), (groups, offsets));
    println!("{applied} records replayed: {groups} groups ({stable} stable), {offsets} offsets");
}

fn replay(kafka: &mut Kafka, machine: &mut GroupCoordinator, now: Now, partition: i32) -> usize {
    let mut applied = 0;
    let mut next = 0;
    loop {
        let request = FetchRequest {
            max_bytes: 50 << 20,
            topics: vec![FetchRequestFetchTopic {
                topic: text("__consumer_offsets"),
                partitions: vec![FetchRequestFetchPartition {
                    partition,
                    fetch_offset: next,
                    partition_max_bytes: 50 << 20,
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        };
        let response = kafka.call(12, &request).responses.remove(0).partitions.remove(0);
        assert_eq!(response.error_code, 0);
        for batch in Batches::new(response.records.unwrap_or_default().into_bytes()).map_while(Result::ok) {
            for record in RecordIter::new(&batch.1, 50 << 20).unwrap() {
                let record = record.unwrap();
                let key = record.key.expect("every record has a key");
                assert_eq!(machine.replay(now, key, record.value, None), Ok(Replayed::Applied));
                applied += 1;
                next = record.offset.0 + 1;
            }
        }
        if next >= response.high_watermark {
            return applied;
        }
    }
}

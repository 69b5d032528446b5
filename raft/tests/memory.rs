//! Hibernation gives back what it takes. In a process of its own, because it looks at the process's memory.

use bytes::Bytes;
use core_pinning::{ShardId, run_local};
use corelane_raft::{Group, Groups, GroupsOptions, first_state};
use corelane_storage::model::{LogId, NodeId, Offset, PartitionKey, RaftIndex, Term, TopicId};
use corelane_storage::record::{BatchBuilder, Codec};
use corelane_storage::{LogConfig, PartitionSpec, Store, StoreOptions};

const NODE: NodeId = NodeId(1);

async fn write(group: &Group) -> LogId {
    let base = group.next_offset();
    let mut builder = BatchBuilder::new(Codec::None);
    builder.push(0, None, Some(b"value"));
    let batch: Bytes = builder.build_at(base, group.leadership().term).unwrap();
    group.propose(batch, base, base).unwrap().applied().await.unwrap()
}

/// Resident memory of the process, bytes.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

#[test]
fn a_thousand_wakes_leave_nothing_behind() {
    let dir = tempfile::TempDir::new().unwrap();
    run_local(async || {
        let options = StoreOptions {
            journal_file_bytes: 1 << 20,
            ..StoreOptions::new(dir.path(), ShardId(0), 16 << 20, 1 << 20)
        };
        let (store, _) = Store::open(options).await.unwrap();
        // Room for one instance: each wake drops the other group's.
        let groups = Groups::new(GroupsOptions { hot_max: 1, ..GroupsOptions::new(NODE) });
        let mut both = vec![];
        for partition in 0..2 {
            let key = PartitionKey { topic: TopicId([1; 16]), partition };
            let spec = PartitionSpec { topic: "topic".into(), key, config: LogConfig::default() };
            let log = store.create(spec, first_state(NODE)).await.unwrap();
            both.push(groups.open(log).unwrap());
        }
        let mut before = 0;
        for cycle in 1..=1000 {
            for group in &both {
                group.wake().await.unwrap();
                // The term stays, and no entry is spent on the change.
                assert_eq!(write(group).await, LogId::new(Term(1), RaftIndex(cycle)));
            }
            if cycle == 200 {
                before = resident();
            }
        }
        let stats = groups.stats();
        assert_eq!((stats.builds, stats.drops, stats.hot), (2000, 1999, 1));
        assert_eq!(both[0].high_watermark(), Offset(1000));
        // 1600 instances of 85 KB at least were built since.
        let grown = resident().saturating_sub(before);
        assert!(grown < 8 << 20, "{} KB more than after 200 wakes", grown >> 10);
        groups.shutdown().await;
        assert_eq!(groups.stats().tasks, 0);
        store.close().await.unwrap();
    });
}

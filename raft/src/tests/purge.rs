use super::*;

fn id(index: u64) -> LogId {
    LogId::new(Term(1), RaftIndex(index))
}

#[test]
fn purges_hot_and_cold_alike() {
    run_local(async || {
        let shard = Shard::start().await;
        let group = shard.open(0).await;
        let producer = Producer::new(&group);
        group.wake().await.unwrap();
        for _ in 0..20 {
            producer.write().await.unwrap();
        }
        assert_eq!(group.purge(RaftIndex(5)).await.unwrap(), Some(id(5)));
        assert_eq!(shard.groups.stats().builds, 1);
        // Two at a time, one of them for less than what is purged.
        let (a, b) = futures::join!(group.purge(RaftIndex(8)), group.purge(RaftIndex(7)));
        assert_eq!((a.unwrap(), b.unwrap()), (Some(id(8)), Some(id(8))));
        producer.write().await.unwrap();
        group.0.drop_instance().await;
        assert_eq!(group.purge(RaftIndex(10)).await.unwrap(), Some(id(10)));
        assert_eq!(shard.groups.stats().hot, 0);
        // Up to what is applied, not beyond, and the log goes on after a purge of everything.
        assert_eq!(group.purge(RaftIndex(1000)).await.unwrap(), Some(id(21)));
        assert_eq!(producer.write().await.unwrap(), id(22));
        group.wake().await.unwrap();
        assert_eq!(group.purge(RaftIndex(22)).await.unwrap(), Some(id(22)));
        producer.write().await.unwrap();
        group.0.drop_instance().await;
        assert_eq!(producer.write().await.unwrap(), id(24));
        assert_eq!(group.high_watermark(), Offset(24));
        shard.close().await;
    });
}

#[test]
fn a_purge_of_a_cold_replica_and_a_proposal_go_together() {
    run_local(async || {
        let shard = Shard::start().await;
        let group = shard.open(0).await;
        let producer = Producer::new(&group);
        for _ in 0..3 {
            producer.write().await.unwrap();
        }
        let (purged, written) = futures::join!(group.purge(RaftIndex(2)), producer.write());
        assert_eq!(purged.unwrap().unwrap().index, RaftIndex(2));
        assert_eq!(written.unwrap().index, RaftIndex(4));
        shard.close().await;
    });
}

#[test]
fn retention_goes_on_under_a_group_that_is_hot_or_wakes() {
    let dir = TempDir::new().unwrap();
    let config = LogConfig { segment_bytes: 16 << 10, retention_bytes: 32 << 10, ..LogConfig::default() };
    let mut index = 0;
    for _ in 0..3 {
        run_local(async || {
            let shard = Shard::start_at(dir.path(), options()).await;
            let log = shard.log_with(0, config.clone()).await;
            let group = shard.groups.open(log.clone()).unwrap();
            let producer = Producer::new(&group);
            for round in 0..6 {
                for _ in 0..40 {
                    let base = group.next_offset();
                    let proposal = group.propose(batch_of(Term(1), base, 1000), base, base).unwrap();
                    index += 1;
                    assert_eq!(proposal.applied().await.unwrap(), id(index));
                }
                if round % 2 == 0 {
                    group.0.drop_instance().await;
                }
                // A build meets retention.
                let (freed, woken, written) =
                    futures::join!(log.apply_retention(time::wall_ms()), group.wake(), producer.write());
                woken.unwrap();
                index += 1;
                assert_eq!(written.unwrap(), id(index));
                freed.unwrap();
            }
            assert!(log.purged().unwrap().index > RaftIndex(100) && log.size_bytes() < 64 << 10);
            assert_eq!(group.purge(RaftIndex(10)).await.unwrap(), log.purged());
            shard.close().await;
        });
    }
}

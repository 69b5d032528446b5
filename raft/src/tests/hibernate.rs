use super::*;

#[test]
fn quiet_groups_are_dropped() {
    run_local(async || {
        let shard = Shard::start_with(GroupsOptions { quiet_after: Duration::from_millis(50), ..options() }).await;
        let group = shard.open(0).await;
        group.wake().await.unwrap();
        Producer::new(&group).write().await.unwrap();
        assert_eq!(shard.groups.stats().hot, 1);
        while shard.groups.stats().hot > 0 {
            time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(shard.groups.stats().tasks, 0);
        shard.close().await;
    });
}

#[test]
fn a_proposal_that_meets_the_drop_goes_on_without_an_instance() {
    run_local(async || {
        let shard = Shard::start().await;
        let group = shard.open(0).await;
        let producer = Producer::new(&group);
        for yields in 0..20 {
            group.wake().await.unwrap();
            let before = producer.propose().unwrap();
            before.applied().await.unwrap();
            let drop = task::spawn_here("drop", group.0.drop_instance());
            for _ in 0..yields {
                task::yield_now().await;
            }
            let index = 2 * (yields + 1);
            assert_eq!(producer.write().await.unwrap(), LogId::new(Term(1), RaftIndex(index)));
            drop.await;
        }
        assert_eq!((shard.groups.stats().builds, shard.groups.stats().hot), (20, 0));
        shard.close().await;
    });
}

#[test]
fn a_build_waits_for_what_went_without_an_instance() {
    run_local(async || {
        let shard = Shard::start().await;
        let group = shard.open(0).await;
        let producer = Producer::new(&group);
        for round in 0..10 {
            let mut all: Vec<_> = (0..10).map(|_| producer.propose().unwrap()).collect();
            let mut wake = std::pin::pin!(group.wake());
            assert!(futures::poll!(&mut wake).is_pending());
            // These wait for the instance.
            all.extend((0..10).map(|_| producer.propose().unwrap()));
            wake.await.unwrap();
            for (n, proposal) in all.iter().enumerate() {
                assert_eq!(proposal.applied().await.unwrap().index, RaftIndex(20 * round + n as u64 + 1));
            }
            assert_eq!(group.high_watermark(), group.next_offset());
            group.0.drop_instance().await;
        }
        shard.close().await;
    });
}

#[test]
fn instances_give_way_to_each_other() {
    run_local(async || {
        let shard = Rc::new(Shard::start_with(GroupsOptions { hot_max: 4, ..options() }).await);
        let mut tasks = vec![];
        for p in 0..32 {
            let group = shard.open(p).await;
            let shard = shard.clone();
            tasks.push(task::spawn_here("producer", async move {
                let producer = Producer::new(&group);
                for i in 1..=50 {
                    group.wake().await.unwrap();
                    let (a, b) = (producer.propose().unwrap(), producer.propose().unwrap());
                    assert_eq!(a.applied().await.unwrap().index, RaftIndex(2 * i - 1));
                    assert_eq!(b.applied().await.unwrap().index, RaftIndex(2 * i));
                    assert!(shard.groups.stats().hot <= 4);
                }
            }));
        }
        join_all(tasks).await;
        shard.close().await;
    });
}

#[test]
fn the_one_quiet_for_longest_gives_way() {
    run_local(async || {
        let shard = Shard::start_with(GroupsOptions { hot_max: 2, ..options() }).await;
        let groups = [shard.open(0).await, shard.open(1).await, shard.open(2).await];
        for (written, hot) in
            [(0, [true, false, false]), (1, [true, true, false]), (0, [true, true, false]), (2, [true, false, true])]
        {
            groups[written].wake().await.unwrap();
            Producer::new(&groups[written]).write().await.unwrap();
            assert_eq!([0, 1, 2].map(|g| groups[g].0.droppable()), hot, "after a write to {written}");
        }
        shard.close().await;
    });
}

#[test]
fn a_wake_by_many_is_one_build() {
    run_local(async || {
        let shard = Shard::start().await;
        let group = shard.open(0).await;
        let producer = Producer::new(&group);
        let wakes = join_all((0..10).map(|_| group.wake()));
        let writes = join_all((0..10).map(|_| producer.write()));
        let (woken, written) = futures::join!(wakes, writes);
        assert!(woken.iter().all(Result::is_ok));
        assert_eq!(written.last().unwrap().as_ref().unwrap().index, RaftIndex(10));
        assert_eq!(shard.groups.stats().builds, 1);
        shard.close().await;
    });
}

#[test]
fn a_shutdown_that_is_given_up_can_be_asked_for_again() {
    run_local(async || {
        let shard = Shard::start().await;
        let group = shard.open(0).await;
        group.wake().await.unwrap();
        for _ in 0..3 {
            assert!(futures::poll!(std::pin::pin!(shard.groups.shutdown())).is_pending());
        }
        shard.close().await;
    });
}

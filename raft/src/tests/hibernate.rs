use super::*;

#[test]
fn hibernates_and_wakes_a_thousand_times() {
    run_local(async || {
        let shard = Shard::start_with(GroupsOptions { hot_max: 1, ..options() }).await;
        let a = shard.open(0).await;
        let b = shard.open(1).await;
        let (pa, pb) = (Producer::new(&a), Producer::new(&b));
        for i in 1..=1000 {
            assert_eq!(pa.write().await.unwrap(), LogId::new(Term(1), RaftIndex(i)));
            assert_eq!(pb.write().await.unwrap(), LogId::new(Term(1), RaftIndex(i)));
            assert_eq!(shard.groups.stats().hot, 1);
        }
        let stats = shard.groups.stats();
        assert_eq!((stats.builds, stats.drops), (2000, 1999));
        shard.close().await;
    });
}

#[test]
fn quiet_groups_are_dropped() {
    run_local(async || {
        let shard = Shard::start_with(GroupsOptions { quiet_after: Duration::from_millis(50), ..options() }).await;
        let group = shard.open(0).await;
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
fn a_proposal_that_meets_the_drop_gets_a_new_instance() {
    run_local(async || {
        let shard = Shard::start().await;
        let group = shard.open(0).await;
        let producer = Producer::new(&group);
        producer.write().await.unwrap();
        for yields in 0..20 {
            let drop = task::spawn_here("drop", group.0.clone().drop_instance());
            for _ in 0..yields {
                task::yield_now().await;
            }
            assert_eq!(producer.write().await.unwrap().term, Term(1));
            drop.await;
        }
        assert_eq!(shard.groups.stats().builds, 21);
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

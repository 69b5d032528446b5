use futures::FutureExt;

use super::*;

#[test]
fn first_batch_has_offset_0_and_index_1() {
    run_local(async || {
        let shard = Shard::start().await;
        let group = shard.open(0).await;
        let producer = Producer::new(&group);
        assert_eq!(group.leadership(), Leadership { leader: Some(NODE), term: Term(1), is_self: true });
        assert_eq!(producer.write().await.unwrap(), LogId::new(Term(1), RaftIndex(1)));
        assert_eq!(group.high_watermark(), Offset(1));
        shard.close().await;
    });
}

#[test]
fn ten_thousand_proposals_from_cold_keep_their_order() {
    run_local(async || {
        let shard = Shard::start().await;
        let group = shard.open(0).await;
        let producer = Rc::new(Producer::new(&group));
        let mut tasks = vec![];
        let got = Rc::new(RefCell::new(vec![]));
        for _ in 0..100 {
            let (producer, got) = (producer.clone(), got.clone());
            tasks.push(task::spawn_here("producer", async move {
                for _ in 0..100 {
                    let base = producer.0.next_offset().0;
                    let p = producer.propose().unwrap();
                    let id = p.applied().await.unwrap();
                    got.borrow_mut().push((base, id.index.0));
                }
            }));
        }
        join_all(tasks).await;
        let mut got = got.borrow().clone();
        got.sort();
        assert_eq!(got.len(), 10_000);
        assert!(got.iter().all(|(base, index)| *base + 1 == *index as i64));
        shard.close().await;
    });
}

#[test]
fn busy_beyond_the_bound() {
    run_local(async || {
        let shard = Shard::start().await;
        let group = shard.open(0).await;
        for hot in [false, true] {
            if hot {
                group.wake().await.unwrap();
            }
            let producer = Producer::new(&group);
            let all: Vec<_> = (0..PROPOSALS_MAX).map(|_| producer.propose().unwrap()).collect();
            assert!(matches!(producer.propose(), Err(ProposeError::Busy)), "hot: {hot}");
            for p in &all {
                p.applied().await.unwrap();
            }
            assert_eq!(group.in_flight(), 0);
        }
        shard.close().await;
    });
}

#[test]
fn shutdown_waits_for_what_is_in_flight() {
    run_local(async || {
        let shard = Shard::start().await;
        let mut proposals = vec![];
        let mut handles = vec![];
        for p in 0..3 {
            let group = shard.open(p).await;
            let producer = Producer::new(&group);
            if p > 0 {
                group.wake().await.unwrap();
            }
            proposals.extend((0..10).map(|_| producer.propose().unwrap()));
            handles.push(producer);
        }
        shard.stop().await;
        for p in &proposals {
            assert!(p.applied().now_or_never().unwrap().is_ok());
        }
        for producer in &handles {
            assert!(matches!(producer.propose(), Err(ProposeError::Shutdown)));
            assert!(!producer.0.leadership().is_self);
        }
        assert_eq!(shard.groups.stats(), GroupsStats { builds: 2, drops: 2, ..Default::default() });
        assert!(matches!(shard.groups.open(shard.log(9).await), Err(OpenError::Shutdown)));
        shard.close().await;
    });
}

#[test]
fn the_high_watermark_moves_before_the_answer() {
    run_local(async || {
        let shard = Shard::start().await;
        let group = shard.open(0).await;
        let seen = Rc::new(Cell::new(Offset(0)));
        let hook = seen.clone();
        group.on_applied(move |offset| hook.set(offset));
        let producer = Producer::new(&group);
        for i in 1..=200 {
            if i == 101 {
                group.wake().await.unwrap();
            }
            let proposal = producer.propose().unwrap();
            assert_eq!(proposal.appended().await.unwrap(), proposal.flushed().await.unwrap());
            proposal.applied().await.unwrap();
            assert_eq!((seen.get(), group.high_watermark()), (Offset(i), Offset(i)));
        }
        shard.close().await;
    });
}

#[test]
fn with_write_caching_nothing_is_applied_before_its_proposal_is_known() {
    run_local(async || {
        let shard = Shard::start().await;
        let log = shard.log_with(0, LogConfig { write_caching: true, ..LogConfig::default() }).await;
        let group = shard.groups.open(log).unwrap();
        let seen = Rc::new(Cell::new(Offset(0)));
        let hook = seen.clone();
        group.on_applied(move |offset| hook.set(offset));
        let producer = Producer::new(&group);
        for i in 0..100 {
            let all: Vec<_> = (0..3).map(|_| producer.propose().unwrap()).collect();
            assert_eq!(seen.get(), Offset(3 * i));
            for p in &all {
                p.applied().await.unwrap();
            }
            assert_eq!((seen.get(), group.in_flight()), (Offset(3 * i + 3), 0));
        }
        shard.close().await;
    });
}

#[test]
fn groups_that_cannot_be_opened() {
    run_local(async || {
        let shard = Shard::start().await;
        let other = first_state(NodeId(8));
        let log = shard.store.create(Shard::spec(0, LogConfig::default()), other).await.unwrap();
        assert!(matches!(shard.groups.open(log), Err(OpenError::Peers(_))));
        let log = shard.log(1).await;
        shard.groups.open(log.clone()).unwrap();
        assert!(matches!(shard.groups.open(log), Err(OpenError::Open)));
    });
}

#[test]
fn a_batch_out_of_order_is_refused() {
    run_local(async || {
        let shard = Shard::start().await;
        let group = shard.open(0).await;
        let producer = Producer::new(&group);
        for hot in [false, true] {
            if hot {
                group.wake().await.unwrap();
            }
            let next = group.next_offset();
            for base in [next + 1, next + -1] {
                let refused = group.propose(batch(Term(1), base), base, base);
                assert!(matches!(refused, Err(ProposeError::OutOfOrder { next: n }) if n == next), "hot: {hot}");
            }
            assert_eq!(group.in_flight(), 0);
            producer.write().await.unwrap();
            assert_eq!(group.next_offset(), next.next());
        }
        shard.close().await;
    });
}

//! Tasks, timers, and what tasks wait for.

use super::on_shard;
use core_pinning::{
    Budget, Gate, Queue, rng, spawn, spawn_here,
    sync::{Event, Semaphore, Signal, mpsc, oneshot, watch},
    time::{self, Elapsed},
    yield_if_needed, yield_now,
};
use std::{
    cell::{Cell, RefCell},
    future::pending,
    rc::Rc,
    time::Duration,
};

const MS: Duration = Duration::from_millis(1);

#[test]
fn tasks_of_a_queue_begin_in_the_order_of_their_spawns() {
    on_shard(async |_| {
        for queue in Queue::ALL {
            let order = Rc::new(RefCell::new(vec![]));
            let tasks: Vec<_> = (0..20)
                .map(|n| {
                    let order = order.clone();
                    spawn(queue, "numbered", async move { order.borrow_mut().push(n) })
                })
                .collect();
            assert!(order.borrow().is_empty(), "polled inside spawn");
            for t in tasks {
                t.await;
            }
            assert_eq!(*order.borrow(), (0..20).collect::<Vec<_>>());
        }
    });
}

#[test]
fn every_queue_gets_its_turn() {
    on_shard(async |_| {
        let stop = Rc::new(Cell::new(false));
        let turns = Rc::new(Queue::ALL.map(|_| Cell::new(0u64)));
        let spinners: Vec<_> = Queue::ALL
            .iter()
            .enumerate()
            .map(|(at, queue)| {
                let (stop, turns) = (stop.clone(), turns.clone());
                spawn(*queue, "spinner", async move {
                    while !stop.get() {
                        turns[at].set(turns[at].get() + 1);
                        yield_if_needed().await;
                        yield_now().await;
                    }
                })
            })
            .collect();
        // Goes on for ever if one of them starves.
        while turns.iter().any(|turns| turns.get() < 20) {
            yield_now().await;
        }
        stop.set(true);
        for s in spinners {
            s.await;
        }
    });
}

#[test]
fn a_cancelled_task_is_dropped_and_a_dropped_handle_lets_it_go_on() {
    struct Flag(Rc<Cell<bool>>);
    impl Drop for Flag {
        fn drop(&mut self) {
            self.0.set(true);
        }
    }
    on_shard(async |_| {
        let dropped = Rc::new(Cell::new(false));
        let flag = Flag(dropped.clone());
        let t = spawn(Queue::Replicate, "waits", async move {
            let _flag = flag;
            pending::<()>().await
        });
        yield_now().await;
        assert_eq!(t.cancel().await, None);
        assert!(dropped.get());
        let signal = Rc::new(Signal::new());
        let s = signal.clone();
        drop(spawn_here("goes on", async move { s.notify() }));
        signal.wait().await;
    });
}

#[test]
fn timers_end_in_order_and_never_early() {
    on_shard(async |_| {
        // Again where the machine has not let all of them begin before the first was over.
        let mut at_once = false;
        while !at_once {
            let (order, waiting, begun) = (Rc::new(RefCell::new(vec![])), Rc::new(Cell::new(0)), time::now());
            let tasks: Vec<_> = [60, 3, 1, 30, 7]
                .map(|ms| {
                    let (order, waiting) = (order.clone(), waiting.clone());
                    spawn_here("sleeper", async move {
                        waiting.set(waiting.get() + 1);
                        time::sleep_until(begun + ms * MS).await;
                        assert!(begun.elapsed() >= ms * MS, "woke early");
                        order.borrow_mut().push(ms);
                    })
                })
                .into();
            while waiting.get() < tasks.len() {
                yield_now().await;
            }
            at_once = begun.elapsed() < MS;
            for t in tasks {
                t.await;
            }
            assert!(!at_once || *order.borrow() == [1, 3, 7, 30, 60], "{order:?}");
        }
    });
}

#[test]
fn a_time_out_ends_a_wait_and_nothing_else() {
    on_shard(async |_| {
        assert_eq!(time::timeout(5 * MS, pending::<()>()).await, Err(Elapsed));
        assert_eq!(time::timeout(Duration::from_secs(60), async { 4 }).await, Ok(4));
        let (before, wall) = (time::now(), time::wall_ms());
        time::sleep(20 * MS).await;
        assert!(time::now() - before >= 20 * MS);
        assert!(time::wall_ms() > wall);
    });
}

#[test]
fn what_tasks_wait_for_is_given_in_order() {
    on_shard(async |_| {
        let units = Rc::new(Semaphore::new(1));
        let held = units.acquire(1).await;
        let order = Rc::new(RefCell::new(vec![]));
        let tasks: Vec<_> = (0..10)
            .map(|n| {
                let (units, order) = (units.clone(), order.clone());
                spawn_here("waits", async move {
                    let _held = units.acquire(1).await;
                    yield_now().await;
                    order.borrow_mut().push(n);
                })
            })
            .collect();
        while units.waiting() < 10 {
            yield_now().await;
        }
        drop(held);
        for t in tasks {
            t.await;
        }
        assert_eq!(*order.borrow(), (0..10).collect::<Vec<_>>());
        let budget = Budget::new(100);
        let most = budget.take(80).await;
        assert!(budget.try_take(30).is_none());
        let b = budget.clone();
        let waits = spawn_here("waits", async move { b.take(60).await.bytes() });
        while budget.waiting() == 0 {
            yield_now().await;
        }
        assert!(budget.try_take(1).is_none(), "overtook a waiting task");
        drop(most);
        assert_eq!(waits.await, 60);
    });
}

#[test]
fn channels_keep_order_push_back_and_tell_of_the_end() {
    on_shard(async |_| {
        let (tx, mut rx) = mpsc::channel(2);
        let sender = spawn(Queue::Background, "sender", async move {
            for n in 0..50 {
                assert!(tx.len() <= 2);
                tx.send(n).await.unwrap();
            }
        });
        for n in 0..50 {
            assert_eq!(rx.recv().await, Some(n));
            if n % 7 == 0 {
                yield_now().await;
            }
        }
        assert_eq!(rx.recv().await, None);
        sender.await;
        let (tx, rx) = oneshot::channel::<u8>();
        drop(tx);
        assert!(rx.await.is_err());
        let (tx, mut rx) = watch::channel(0);
        tx.send(1).unwrap();
        tx.send(2).unwrap();
        rx.changed().await.unwrap();
        assert_eq!(*rx.borrow(), 2);
        assert!(!rx.has_changed());
        drop(tx);
        assert!(rx.changed().await.is_err());
    });
}

#[test]
fn an_event_wakes_everybody_and_a_gate_waits_for_everybody() {
    on_shard(async |_| {
        let (event, gate) = (Rc::new(Event::new()), Gate::new());
        let woken = Rc::new(Cell::new(0));
        let tasks: Vec<_> = Queue::ALL
            .map(|queue| {
                let (event, woken, inside) = (event.clone(), woken.clone(), gate.enter().unwrap());
                spawn(queue, "waits", async move {
                    event.listen().await;
                    woken.set(woken.get() + 1);
                    drop(inside);
                })
            })
            .into();
        while event.waiters() < tasks.len() {
            yield_now().await;
        }
        let g = gate.clone();
        let closing = spawn_here("closes", async move { g.close().await });
        gate.closing().await;
        assert!(gate.enter().is_none() && !closing.is_finished());
        event.notify_all();
        closing.await;
        assert_eq!((woken.get(), gate.inside()), (4, 0));
    });
}

#[test]
fn random_numbers_are_spread() {
    on_shard(async |_| {
        let mut seen = [0; 8];
        (0..1000).for_each(|_| seen[rng::below(8) as usize] += 1);
        assert!(seen.iter().all(|n| *n > 50), "{seen:?}");
        assert_ne!(rng::bytes::<16>(), rng::bytes::<16>());
    });
}

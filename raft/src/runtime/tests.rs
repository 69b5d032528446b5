use super::*;
use std::cell::RefCell;
use std::rc::Rc;

use openraft_rt::{Mpsc, MpscReceiver, MpscSender, Mutex};

#[test]
fn conforms_to_openraft() {
    openraft_rt::testing::Suite::<ShardRuntime>::test_all();
}

#[test]
fn spawn_does_not_poll_inline() {
    ShardRuntime::run(async {
        let polled = Rc::new(std::cell::Cell::new(false));
        let seen = polled.clone();
        let task = ShardRuntime::spawn(async move { seen.set(true) });
        assert!(!polled.get());
        task.await.unwrap();
        assert!(polled.get());
    });
}

#[test]
fn task_panic_is_contained_and_told_to_its_scope() {
    ShardRuntime::run(async {
        let told = Rc::new(RefCell::new(Vec::new()));
        let sink = told.clone();
        let scope = scope::Scope::new(move |p| sink.borrow_mut().push(p.0.to_string()));
        // The panic happens in a task that is spawned by a task of the scope.
        let inner = scope.run(std::future::poll_fn(|_| {
            std::task::Poll::Ready(ShardRuntime::spawn(async { ShardRuntime::spawn(async { panic!("boom") }).await }))
        }));
        let inner = inner.await.unwrap();
        assert_eq!(scope.live(), 1);
        let result: Result<(), TaskPanic> = inner.await.unwrap();
        assert_eq!(&*result.unwrap_err().0, "boom");
        scope.ended().await;
        assert_eq!(*told.borrow(), ["boom"]);
        // The shard goes on, and other tasks do not belong to the scope.
        assert_eq!(ShardRuntime::spawn(async { 7 }).await.unwrap(), 7);
        assert_eq!((scope.live(), scope::live_tasks()), (0, 0));
    });
}

#[test]
fn sends_keep_their_order_when_the_channel_is_full() {
    ShardRuntime::run(async {
        let (tx, mut rx) = LocalMpsc::channel(1);
        for i in 0..10 {
            let tx = tx.clone();
            drop(ShardRuntime::spawn(async move { tx.send(i).await.unwrap() }));
        }
        drop(tx);
        let mut got = Vec::new();
        while let Some(i) = rx.recv().await {
            got.push(i);
        }
        assert_eq!(got, (0..10).collect::<Vec<_>>());
    });
}

#[test]
fn lock_is_exclusive() {
    ShardRuntime::run(async {
        let lock = Rc::new(LocalMutex::new(0));
        let tasks: Vec<_> = (0..4)
            .map(|_| {
                let lock = lock.clone();
                ShardRuntime::spawn(async move {
                    let mut held = lock.lock().await;
                    let before = *held;
                    core_pinning::task::yield_now().await;
                    *held = before + 1;
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(*lock.lock().await, 4);
    });
}

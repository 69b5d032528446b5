//! How much is written for what is appended.

mod common;

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use common::*;
use core_pinning::{Queue, run_local, spawn};
use corelane_storage::StoreOptions;

const LOGS: u32 = 16;
const CHECKPOINTS: usize = 6;
const BLOCK: usize = 4096;

#[test]
fn a_checkpoint_does_not_follow_logs_that_go_on_being_appended_to() {
    let dir = tempfile::tempdir().unwrap();
    run_local(async || {
        // None of them is at rest, however long the machine lets it wait for its turn.
        let store = open_with(StoreOptions {
            journal_file_bytes: 4 << 20,
            dirty_budget: 64 << 20,
            idle: Duration::from_secs(3600),
            ..options(dir.path())
        })
        .await;
        let stop = Rc::new(Cell::new(false));
        let mut clients = Vec::new();
        for partition in 0..LOGS {
            let w = Writer { log: store.create(spec(partition), first()).await.unwrap() };
            let (store, stop) = (store.clone(), stop.clone());
            clients.push(spawn(Queue::Serve, "client", async move {
                while !stop.get() {
                    if store.dirty().is_over() {
                        store.dirty().room().await;
                    }
                    w.append_durably(1, 1000, 7).await;
                }
            }));
        }
        until("there were checkpoints", || store.stats().checkpoints >= CHECKPOINTS).await;
        let stats = store.stats();
        stop.set(true);
        for client in clients {
            client.await;
        }
        // At each checkpoint each log's last block is written before it is full, and small chunks share blocks at the beginning.
        let again = (stats.checkpoints + 1) * LOGS as usize * 2 * BLOCK;
        assert!(stats.write_back_bytes < stats.appended_bytes + again as u64, "{stats:?}");
        store.close().await.unwrap();
    });
}

//! Random work on a few logs against a plain model of them, over clean stops and crashes. A crash is a copy of the directory taken
//! at some moment: what has not been written by then is gone, and what is being written is there or not.
//!
//! `CORELANE_SEED` repeats one run, `CORELANE_ROUNDS` says how many starts there are.

mod common;

use std::cell::RefCell;
use std::rc::Rc;

use bytes::Bytes;
use common::*;
use core_pinning::run_local;
use corelane_storage::model::{LogId, Offset, RaftIndex, Term};
use corelane_storage::record::patch_base_offset_and_epoch;
use corelane_storage::{EntryKind, Log, LogConfig, LogEntry, ReadLimit, Store, StoreOptions, VoteRecord};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

#[derive(Default)]
struct Model {
    /// From index 0 on; those that are purged stay here.
    entries: Vec<(LogId, EntryKind, Bytes)>,
    log_start: Offset,
    applied: u64,
    vote: Option<VoteRecord>,
    term: u64,
    /// Entries, vote and log start acknowledged as durable.
    durable: Rc<RefCell<Durable>>,
}

#[derive(Default, Clone)]
struct Durable {
    entries: usize,
    votes: u64,
    log_start: Offset,
}

impl Model {
    fn log_end(&self) -> Offset {
        let data = self.entries.iter().rev().find(|(_, kind, _)| *kind == EntryKind::Data);
        data.map_or(Offset(0), |(_, _, batch)| {
            corelane_storage::record::BatchHeader::parse(batch).unwrap().next_offset()
        })
    }

    fn batches(&self, from: Offset) -> Vec<Bytes> {
        let data = self.entries.iter().filter(|(_, kind, _)| *kind == EntryKind::Data);
        let header = |b: &Bytes| corelane_storage::record::BatchHeader::parse(b).unwrap();
        data.map(|(_, _, b)| b.clone()).filter(|b| header(b).last_offset() >= from).collect()
    }
}

fn random_entry(rng: &mut StdRng, model: &mut Model, log: &Log) -> LogEntry {
    if rng.random_ratio(1, 40) {
        model.term += 1;
    }
    let id = LogId::new(Term(model.term), log.next_index());
    let (kind, bytes) = match rng.random_range(0..20) {
        0 => (EntryKind::Blank, Bytes::new()),
        1 => (EntryKind::Membership, Bytes::from(format!("members {}", rng.random::<u32>()))),
        _ => {
            let size = match rng.random_range(0..10) {
                0 => rng.random_range(5_000..90_000),
                1..4 => rng.random_range(500..5_000),
                _ => rng.random_range(0..500),
            };
            let mut bytes = batch(log.bounds().log_end, rng.random_range(1..5), size, rng.random()).to_vec();
            patch_base_offset_and_epoch(&mut bytes, log.bounds().log_end, id.term);
            (EntryKind::Data, Bytes::from(bytes))
        }
    };
    LogEntry { id, kind, bytes }
}

async fn step(rng: &mut StdRng, store: &Store, log: &Log, model: &mut Model) {
    match rng.random_range(0..100) {
        0..60 => {
            let mut count = rng.random_range(1..6);
            if store.dirty().is_over() {
                let room = core_pinning::time::timeout(std::time::Duration::from_secs(60), async {
                    store.dirty().room().await
                });
                assert!(room.await.is_ok(), "write-back stands still: {:?}, {:?}", store.stats(), store.refusal());
            }
            while count > 0 {
                let entry = random_entry(rng, model, log);
                model.entries.push((entry.id, entry.kind, entry.bytes.clone()));
                let (durable, len) = (model.durable.clone(), model.entries.len());
                log.append([entry], move |r| {
                    r.unwrap();
                    let mut durable = durable.borrow_mut();
                    assert!(len > durable.entries, "acknowledged out of order");
                    durable.entries = len;
                })
                .unwrap();
                count -= 1;
            }
        }
        60..75 => {
            let end = model.entries.len() as u64;
            if end > model.applied {
                model.applied = rng.random_range(model.applied + 1..=end);
                log.set_applied(RaftIndex(model.applied - 1));
            }
        }
        75..85 => read_some(rng, log, model).await,
        85..88 => flushed(log).await,
        88..91 => store.write_back().await.unwrap(),
        91..93 => {
            let vote = VoteRecord {
                term: Term(model.vote.map_or(0, |v| v.term.0) + 1),
                node: corelane_storage::model::NodeId(rng.random_range(0..3)),
                committed: rng.random(),
            };
            model.vote = Some(vote);
            let durable = model.durable.clone();
            log.save_vote(vote, move |r| {
                r.unwrap();
                durable.borrow_mut().votes = vote.term.0;
            });
        }
        93..95 => {
            let keep = rng.random_range(model.applied as usize..=model.entries.len());
            if keep > 0 {
                let last = model.entries[keep - 1].0;
                // Until it returns, the log may hold the old end or the new one; here it always gets to return.
                log.truncate_after(Some(last)).await.unwrap();
                model.entries.truncate(keep);
                let mut durable = model.durable.borrow_mut();
                durable.entries = durable.entries.min(keep);
                assert_eq!(log.last_log_id(), Some(last));
            }
        }
        95..97 => {
            let bounds = log.bounds();
            let to = Offset(rng.random_range(bounds.log_start.0..=bounds.high_watermark.0));
            log.trim(to).await.unwrap();
            model.log_start = model.log_start.max(to);
            model.durable.borrow_mut().log_start = model.log_start;
        }
        97..98 => {
            let mut config = log.config();
            config.retention_bytes = 400_000;
            config.retention_ms = -1;
            log.set_config(config.clone());
            log.apply_retention(0).await.unwrap();
            config.retention_bytes = -1;
            log.set_config(config);
            model.log_start = log.bounds().log_start;
            model.durable.borrow_mut().log_start = model.log_start;
        }
        _ => {
            for _ in 0..rng.random_range(0..10) {
                core_pinning::yield_now().await;
            }
        }
    }
}

async fn read_some(rng: &mut StdRng, log: &Log, model: &Model) {
    let bounds = log.bounds();
    assert_eq!(bounds.log_end, model.log_end());
    let from = Offset(rng.random_range(bounds.log_start.0..=bounds.log_end.0));
    let upto = Offset(rng.random_range(from.0..=bounds.log_end.0));
    let max_bytes = rng.random_range(0..60_000);
    let limit = ReadLimit { max_bytes, at_least_one: rng.random(), upto };
    let read = log.read(from, limit).await.unwrap();
    let found: Vec<u8> = read.slices.iter().flat_map(|s| s.to_vec()).collect();
    assert!(found.len() == read.bytes);
    let mut expected = Vec::new();
    let header = |b: &Bytes| corelane_storage::record::BatchHeader::parse(b).unwrap();
    let batches = model.batches(from);
    let mut next = from;
    for batch in batches.iter().filter(|b| header(b).next_offset() <= upto) {
        if expected.len() >= found.len() {
            break;
        }
        expected.extend_from_slice(batch);
        next = header(batch).next_offset();
    }
    assert!(found == expected, "other bytes from {from} to {upto}, {max_bytes} bytes");
    if !found.is_empty() {
        assert_eq!(read.next_offset, next);
        let first = header(&batches[0]).size();
        assert!(found.len() <= max_bytes || (limit.at_least_one && found.len() == first));
    } else if let Some(first) = batches.first().filter(|b| header(b).next_offset() <= upto) {
        assert!(!limit.at_least_one && first.len() > max_bytes, "nothing read");
    }
}

/// Compares all of a log with the model.
async fn verify(rng: &mut StdRng, log: &Log, model: &mut Model, crashed: bool) {
    let durable = model.durable.borrow().clone();
    let found = log.next_index().0 as usize;
    if crashed {
        assert!(found >= durable.entries, "{} entries were acknowledged, {found} are left", durable.entries);
        assert!(found <= model.entries.len());
        model.entries.truncate(found);
        let vote = log.vote().map_or(0, |v| v.term.0);
        assert!(vote >= durable.votes, "a vote was lost");
        assert!(log.bounds().log_start >= durable.log_start);
        model.log_start = log.bounds().log_start;
        let applied = log.applied().map_or(0, |id| id.index.0 + 1);
        assert!(applied <= model.applied);
        model.applied = applied;
    } else {
        assert_eq!(found, model.entries.len());
        assert_eq!(log.bounds().log_start, model.log_start);
        assert_eq!(log.vote(), model.vote);
        assert_eq!(log.applied().map_or(0, |id| id.index.0 + 1), model.applied);
    }
    model.vote = log.vote();
    *model.durable.borrow_mut() =
        Durable { entries: found, votes: model.vote.map_or(0, |v| v.term.0), log_start: model.log_start };
    assert_eq!(log.last_log_id(), model.entries.last().map(|e| e.0));
    assert_eq!(log.bounds().log_end, model.log_end());
    let members = model.entries.iter().rev().find(|e| e.1 == EntryKind::Membership);
    assert_eq!(log.membership(), members.map(|e| (e.0, e.2.clone())));
    let max_bytes = rng.random_range(1..200_000);
    assert_same(&read_all(log, model.log_start, max_bytes).await, &model.batches(model.log_start));
    let first = log.first_index();
    let mut at = first;
    while at < log.next_index() {
        let entries = log.read_entries(at..log.next_index(), rng.random_range(1..100_000)).await.unwrap();
        for entry in entries {
            let (id, kind, bytes) = &model.entries[at.0 as usize];
            assert!(entry.id == *id && entry.kind == *kind && entry.bytes == *bytes, "entry {at} differs");
            at = at.next();
        }
    }
    if first.0 > 0 {
        assert_eq!(log.purged(), Some(model.entries[first.0 as usize - 1].0));
    }
    let (epochs, mut last) = (log.epoch_cache(), None);
    for (id, _, _) in &model.entries {
        last = last.max(Some(id.term));
    }
    assert_eq!(epochs.latest().map(|(t, _)| t), last);
}

fn options_of(dir: &std::path::Path, rng: &mut StdRng) -> StoreOptions {
    StoreOptions {
        journal_file_bytes: [256 << 10, 1 << 20][rng.random_range(0..2)],
        journal_files_max: rng.random_range(2..6),
        bypass_bytes: [4 << 10, 20 << 10, usize::MAX][rng.random_range(0..3)],
        journal_write_bytes: [32 << 10, 256 << 10][rng.random_range(0..2)],
        cache_budget: [0, 100_000, 4 << 20][rng.random_range(0..3)],
        dirty_budget: [300_000, 8 << 20][rng.random_range(0..2)],
        open_files_max: rng.random_range(1..4),
        index_budget: [0, 1 << 20][rng.random_range(0..2)],
        idle: std::time::Duration::from_millis(rng.random_range(1..100)),
        ..options(dir)
    }
}

fn run(seed: u64, rounds: usize) {
    let root = tempfile::tempdir().unwrap();
    let mut dir = root.path().join("0");
    let mut rng = StdRng::seed_from_u64(seed);
    let config = LogConfig {
        segment_bytes: rng.random_range(100_000..600_000),
        index_interval_bytes: rng.random_range(100..5000),
        file_delete_delay_ms: 0,
        ..LogConfig::default()
    };
    let mut models: Vec<Model> = (0..3).map(|_| Model::default()).collect();
    let mut crashed = false;
    for round in 0..rounds {
        let (rng, models) = (&mut rng, &mut models);
        let next = root.path().join((round + 1).to_string());
        crashed = run_local(async || {
            let store = open_with(options_of(&dir, rng)).await;
            let mut logs = Vec::new();
            for (n, model) in models.iter_mut().enumerate() {
                let spec = spec_with(n as u32, config.clone());
                if store.exists(&spec) {
                    let log = store.load(spec).await.unwrap();
                    if crashed {
                        assert!(log.unclean_start());
                    }
                    verify(rng, &log, model, crashed).await;
                    logs.push(log);
                } else {
                    assert_eq!(model.durable.borrow().entries, 0, "a partition is gone");
                    let first = first();
                    let id = LogId::new(TERM, RaftIndex(0));
                    model.entries = vec![(id, EntryKind::Membership, first.membership.clone())];
                    model.vote = Some(first.vote);
                    (model.term, model.applied) = (1, 0);
                    logs.push(store.create(spec, first).await.unwrap());
                }
            }
            for _ in 0..rng.random_range(0..400) {
                let n = rng.random_range(0..logs.len());
                step(rng, &store, &logs[n], &mut models[n]).await;
            }
            let crash = rng.random_ratio(2, 3);
            if !crash {
                store.close().await.unwrap();
            }
            copy_dir(&dir, &next);
            crash
        });
        std::fs::remove_dir_all(&dir).unwrap();
        dir = next;
        println!("seed {seed} round {round}: {}", if crashed { "crashed" } else { "closed" });
    }
}

fn env(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn logs_agree_with_their_models() {
    let rounds = env("CORELANE_ROUNDS").unwrap_or(8) as usize;
    match env("CORELANE_SEED") {
        Some(seed) => run(seed, rounds),
        None => {
            let first: u64 = rand::random_range(0..1 << 40);
            (first..first + 6).for_each(|seed| run(seed, rounds));
        }
    }
}

//! One process: recovery, work, and its end.

use std::cell::RefCell;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use core_pinning::sim::{Faults, Rng, Sim};
use core_pinning::{Queue, Task, spawn, time};
use corelane_storage::model::{LogId, NodeId, Offset, RaftIndex, Term};
use corelane_storage::record::{Batches, patch_base_offset_and_epoch};
use corelane_storage::{
    Cleaner, CleanerOptions, EntryKind, FirstState, Log, LogConfig, LogEntry, PartitionSpec, ReadError, ReadLimit,
    StorageError, Store, StoreOptions, VoteRecord,
};

use super::model::{Acknowledge, Change, Model, Proofs, State};
use super::seed::Trouble;
use super::shards::{self, Homes};
use super::{common, compacted, contents, transactions};

/// How a process ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// In order.
    Closed,
    /// By itself: the disk refused what it cannot do without.
    GaveUp,
    /// In the middle of something.
    Crashed,
}

pub struct Life {
    pub sim: Sim,
    /// Of each store, but for its shard.
    pub options: StoreOptions,
    pub homes: Homes,
    pub config: LogConfig,
    /// The first partition is compacted.
    pub compacts: bool,
    /// The second one has transactions.
    pub transacts: bool,
    pub steps: u64,
    pub faults: Faults,
    pub trouble: Trouble,
    pub flipped: bool,
    pub verbose: bool,
}

/// The store refused something because of a fault that was put in: the process ends.
struct GaveUp;

/// What the work goes on with.
struct Working<'a> {
    life: &'a Life,
    stores: Vec<Store>,
    logs: Vec<Option<Log>>,
    models: &'a mut [Model],
    rng: Rng,
    /// An acknowledgement said no: the process ends at the next step.
    refused: Rc<RefCell<Option<StorageError>>>,
    /// What goes on beside the steps.
    aside: Vec<Task<()>>,
    cleaning: Option<Task<()>>,
}

impl Life {
    pub fn run(&self, models: &mut [Model], rng: Rng) -> Ending {
        match self.sim.run(async || self.live(models, rng).await) {
            None => Ending::Crashed,
            Some(Ok(())) => {
                models.iter_mut().for_each(Model::settle);
                Ending::Closed
            }
            Some(Err(GaveUp)) => Ending::GaveUp,
        }
    }

    async fn live(&self, models: &mut [Model], rng: Rng) -> Result<(), GaveUp> {
        let limit = Duration::from_secs(3600);
        let mut work = pin!(self.work(models, rng));
        if let Ok(done) = time::timeout(limit, work.as_mut()).await {
            return done;
        }
        if self.trouble == Trouble::Full {
            // What waits for room goes on when there is some.
            self.sim.set_capacity(1 << 40);
            if let Ok(done) = time::timeout(limit, work).await {
                return done;
            }
        }
        panic!("an hour for some steps: something waits for ever")
    }

    async fn work(&self, models: &mut [Model], rng: Rng) -> Result<(), GaveUp> {
        // Whatever goes wrong while a disk is read for recovery is another test's.
        let recovery = match self.trouble {
            Trouble::Flips => Faults::default(),
            _ => self.faults.clone(),
        };
        self.sim.set_faults(recovery);
        let stores = self.accept(self.homes.open(&self.options).await)?;
        let (refused, aside) = (Rc::default(), Vec::new());
        let mut work = Working { life: self, stores, logs: Vec::new(), models, rng, refused, aside, cleaning: None };
        work.begin().await?;
        let proofs = |store: &Store| {
            let store = store.clone();
            Proofs::new(move || store.stats().journal_writes)
        };
        let proofs: Vec<Proofs> = work.stores.iter().map(proofs).collect();
        work.models.iter_mut().enumerate().for_each(|(n, model)| model.prove_by(&proofs[self.homes.of(n)]));
        self.sim.set_faults(self.faults.clone());
        for _ in 0..self.steps {
            let n = work.rng.below(work.models.len() as u64) as usize;
            work.step(n).await?;
        }
        for task in work.aside.drain(..).chain(work.cleaning.take()) {
            task.await;
        }
        work.none_refused()?;
        // What was read wrong is not to be written.
        if self.trouble == Trouble::Flips {
            self.sim.set_faults(Faults::default());
        }
        self.accept(shards::close(&work.stores).await)
    }

    /// Without trouble nothing may be refused.
    fn accept<T>(&self, result: Result<T, StorageError>) -> Result<T, GaveUp> {
        match result {
            Ok(v) => Ok(v),
            Err(error) => {
                if self.verbose {
                    println!("refused: {error}");
                }
                let excused = match self.trouble {
                    _ if self.flipped && matches!(error, StorageError::Corrupt { .. }) => true,
                    Trouble::None | Trouble::Slow | Trouble::Flips => false,
                    Trouble::Errors => !matches!(error, StorageError::Corrupt { .. } | StorageError::DiskFull { .. }),
                    Trouble::Full => !matches!(error, StorageError::Corrupt { .. }),
                };
                assert!(excused, "{error}");
                Err(GaveUp)
            }
        }
    }

    fn is_compacted(&self, n: usize) -> bool {
        self.compacts && n == 0
    }

    pub fn spec(&self, n: usize) -> PartitionSpec {
        let mut config = self.config.clone();
        if self.is_compacted(n) {
            config.cleanup.compact = true;
        }
        common::spec_with(n as u32, config)
    }
}

impl Working<'_> {
    fn store(&self, n: usize) -> &Store {
        &self.stores[self.life.homes.of(n)]
    }

    /// Opens what is there, and compares it with what must be.
    async fn begin(&mut self) -> Result<(), GaveUp> {
        for n in 0..self.models.len() {
            let spec = self.life.spec(n);
            let log = match self.store(n).exists(&spec) {
                true => Some(self.life.accept(self.store(n).load(spec).await)?),
                false => None,
            };
            let survivors = self.models[n].survivors();
            let found = match &log {
                None => survivors.into_iter().find(Option::is_none),
                Some(log) => survivors.into_iter().find(|s| s.as_ref().is_some_and(|s| fits(log, s))),
            };
            let Some(found) = found else {
                let shown = log.as_ref().map(|l| (l.last_log_id(), l.vote(), l.bounds()));
                let states: Vec<_> = self.models[n].survivors().iter().map(short).collect();
                panic!("partition {n} is {shown:?}, but may only be one of {states:?}");
            };
            let limit = self.models[n].highest_start(&self.models[n].survivors());
            self.models[n].restart(found);
            if let Some(log) = &log {
                let model = &mut self.models[n];
                let start = log.bounds().log_start;
                assert!(start <= limit, "log start {start}, but never more than {limit}");
                if let Some(state) = &mut model.now {
                    state.log_start = start;
                }
                let now = model.now.clone();
                model.restart(now);
                let applied = log.applied().map_or(0, |id| id.index.0 as usize + 1);
                assert!(applied <= model.applied.max(1), "applied {applied}, but was only {}", model.applied);
                model.applied = applied;
                self.compare(n, log).await?;
            } else {
                self.models[n].applied = 0;
            }
            self.logs.push(log);
        }
        let settled = self.life.homes.settle(&self.stores, |n| self.logs[n].is_some()).await;
        self.life.accept(settled)
    }

    async fn compare(&mut self, n: usize, log: &Log) -> Result<(), GaveUp> {
        let model = &self.models[n];
        let compared = contents::compare(log, model.state(), model.compacted_to, self.life.flipped).await;
        self.life.accept(compared)
    }

    fn none_refused(&self) -> Result<(), GaveUp> {
        let refused = self.refused.borrow_mut().take();
        self.life.accept(refused.map_or(Ok(()), Err))
    }

    async fn step(&mut self, n: usize) -> Result<(), GaveUp> {
        self.none_refused()?;
        let Some(log) = self.logs[n].clone() else { return self.create(n).await };
        let bounds = log.bounds();
        let state = self.models[n].state();
        assert!(bounds.log_start <= bounds.high_watermark && bounds.high_watermark <= bounds.log_end);
        assert!(bounds.flushed <= bounds.log_end);
        assert_eq!(bounds.log_end, state.log_end());
        assert_eq!(log.next_index().0 as usize, state.entries.len());
        assert_eq!(bounds.log_start, state.log_start);
        match self.rng.below(100) {
            0..42 => self.append(n, &log).await?,
            42..55 => self.apply(n, &log),
            55..63 => self.read(n, &log).await?,
            63..67 => self.read_aside(&log),
            67..70 => self.clean(n, &log),
            70..73 => self.flush(&log).await?,
            73..76 => {
                let written = self.store(n).write_back().await;
                self.life.accept(written)?;
            }
            76..81 => self.vote(n, &log),
            81..84 => self.truncate(n, &log).await?,
            84..87 => self.trim(n, &log).await?,
            87..90 => self.retain(n, &log).await?,
            90..92 => self.configure(&log),
            92..93 => self.delete(n).await?,
            93..97 => {
                let ms = self.rng.pick(&[1, 10, 100, 1000]);
                time::sleep(Duration::from_millis(ms)).await;
            }
            _ => {
                for _ in 0..self.rng.below(20) {
                    core_pinning::yield_now().await;
                }
            }
        }
        Ok(())
    }

    /// Tells the model when a change is durable.
    fn acknowledge(&self, acknowledge: Acknowledge) -> impl FnOnce(Result<(), StorageError>) + 'static {
        let refused = self.refused.clone();
        move |result| match result {
            Ok(()) => acknowledge.now(),
            Err(StorageError::Deleted(_)) => {}
            Err(error) => drop(refused.borrow_mut().replace(error)),
        }
    }

    async fn create(&mut self, n: usize) -> Result<(), GaveUp> {
        let term = Term(self.models[n].term + 1);
        let vote = VoteRecord { term, node: NodeId(1), committed: true };
        let membership = Bytes::from(format!("members {}", self.rng.u64()));
        let created =
            self.store(n).create(self.life.spec(n), FirstState { vote, membership: membership.clone() }).await;
        let log = self.life.accept(created)?;
        let model = &mut self.models[n];
        model.term = term.0;
        model.applied = 0;
        (model.start_limit, model.compacted_to) = (Offset(0), Offset(0));
        let first = (LogId::new(term, RaftIndex(0)), EntryKind::Membership, membership);
        let _ = model.change(Change::Create(first, vote));
        self.logs[n] = Some(log);
        Ok(())
    }

    async fn append(&mut self, n: usize, log: &Log) -> Result<(), GaveUp> {
        let dirty = self.store(n).dirty();
        if dirty.is_over() {
            let room = time::timeout(Duration::from_secs(60), dirty.room()).await;
            if room.is_err() {
                let error = self.store(n).refusal();
                assert!(error.is_some() || self.life.trouble != Trouble::None, "write-back stands still");
                return self.life.accept(error.map_or(Ok(()), Err));
            }
        }
        for _ in 0..self.rng.between(1, 4) {
            if self.rng.one_in(40) {
                self.models[n].term += 1;
            }
            let id = LogId::new(Term(self.models[n].term), log.next_index());
            let (kind, bytes) = match self.rng.below(20) {
                0 => (EntryKind::Blank, Bytes::new()),
                1 => (EntryKind::Membership, Bytes::from(format!("members {}", self.rng.u64()))),
                _ => {
                    let size = match self.rng.below(20) {
                        0 => self.rng.between(5_000, 60_000),
                        1..5 => self.rng.between(500, 5_000),
                        _ => self.rng.below(500),
                    };
                    let end = log.bounds().log_end;
                    let count = self.rng.between(1, 4) as u32;
                    let size = size as usize / count as usize;
                    let mut bytes = if self.life.is_compacted(n) {
                        compacted::batch(end, count, size, id.term, &mut self.rng).to_vec()
                    } else if self.life.transacts && n == 1 {
                        transactions::batch(end, count, size, id.term, &mut self.rng).to_vec()
                    } else {
                        common::batch(end, count, size, self.rng.u64()).to_vec()
                    };
                    patch_base_offset_and_epoch(&mut bytes, end, id.term);
                    (EntryKind::Data, Bytes::from(bytes))
                }
            };
            let acknowledge = self.models[n].change(Change::Append((id, kind, bytes.clone())));
            let acknowledge = self.acknowledge(acknowledge);
            if let Err(error) = log.append([LogEntry { id, kind, bytes }], acknowledge) {
                return self.life.accept(Err(error));
            }
        }
        Ok(())
    }

    fn apply(&mut self, n: usize, log: &Log) {
        let model = &mut self.models[n];
        let end = model.state().entries.len();
        if end > model.applied {
            model.applied = self.rng.between(model.applied as u64 + 1, end as u64) as usize;
            log.set_applied(RaftIndex(model.applied as u64 - 1));
            if self.life.is_compacted(n) && self.cleaning.as_ref().is_some_and(|task| !task.is_finished()) {
                model.compacted_to = log.bounds().high_watermark;
            }
        }
    }

    /// Begins a pass of compaction, unless one is under way.
    fn clean(&mut self, n: usize, log: &Log) {
        if !self.life.is_compacted(n) || self.cleaning.as_ref().is_some_and(|task| !task.is_finished()) {
            return;
        }
        self.models[n].compacted_to = log.bounds().high_watermark;
        // From a map that holds next to nothing to one that holds all.
        let dedupe_bytes = self.rng.pick(&[64, 1000, 100_000]) * 24;
        let mut cleaner = Cleaner::new(CleanerOptions { dedupe_bytes, ..CleanerOptions::default() });
        let (log, refused) = (log.clone(), self.refused.clone());
        self.cleaning = Some(spawn(Queue::Background, "clean", async move {
            match cleaner.clean(&log, time::wall_ms()).await {
                Ok(_) | Err(StorageError::Deleted(_)) => {}
                Err(error) => drop(refused.borrow_mut().replace(error)),
            }
        }));
    }

    /// Begins a read that goes on while other things happen to the log: what it gives are batches, in order.
    fn read_aside(&mut self, log: &Log) {
        let bounds = log.bounds();
        let mut at = Offset(self.rng.between(bounds.log_start.0 as u64, bounds.log_end.0 as u64) as i64);
        let max_bytes = self.rng.below(60_000) as usize;
        let (log, refused, flipped) = (log.clone(), self.refused.clone(), self.life.flipped);
        self.aside.retain(|task| !task.is_finished());
        self.aside.push(spawn(Queue::Serve, "read", async move {
            let read = match log.read(at, ReadLimit { max_bytes, at_least_one: true, upto: Offset::MAX }).await {
                Ok(read) => read,
                // Cut, trimmed or deleted meanwhile.
                Err(ReadError::OutOfRange | ReadError::Storage(StorageError::Deleted(_))) => return,
                Err(ReadError::Storage(error)) => return drop(refused.borrow_mut().replace(error)),
            };
            if flipped {
                return;
            }
            for batch in read.slices.into_iter().flat_map(Batches::new) {
                let (header, batch) = batch.expect("a batch");
                header.verify_crc(&batch).expect("an intact batch");
                assert!(header.next_offset() > at, "a batch from {} where {at} is due", header.base_offset);
                at = header.next_offset();
            }
        }));
    }

    async fn flush(&mut self, log: &Log) -> Result<(), GaveUp> {
        let (sender, receiver) = core_pinning::sync::oneshot::channel();
        log.after_flush(move |r| drop(sender.send(r)));
        self.life.accept(receiver.await.unwrap_or(Err(StorageError::Closed)))
    }

    async fn read(&mut self, n: usize, log: &Log) -> Result<(), GaveUp> {
        let state = self.models[n].state();
        if self.life.transacts && n == 1 && !self.life.flipped {
            self.life.accept(transactions::check(log, state).await)?;
        }
        let bounds = log.bounds();
        let from = Offset(self.rng.between(bounds.log_start.0 as u64, bounds.log_end.0 as u64) as i64);
        let limit = ReadLimit { max_bytes: self.rng.below(60_000) as usize, at_least_one: true, upto: Offset::MAX };
        let read = match log.read(from, limit).await {
            Ok(read) => read,
            Err(ReadError::Storage(error)) => return self.life.accept(Err(error)),
            Err(ReadError::OutOfRange) => panic!("{from} of partition {n} is out of range"),
        };
        let found: Vec<u8> = read.slices.concat();
        let compacted_to = self.models[n].compacted_to;
        if from < compacted_to {
            let checked = compacted::check(&found, state, from, read.next_offset, compacted_to);
            assert_eq!(checked, Ok(()), "partition {n} from {from}, compacted up to {compacted_to}");
            assert!(!found.is_empty() || from == bounds.log_end, "nothing at {from} of partition {n}");
            return Ok(());
        }
        let (mut expected, mut len) = (Vec::new(), 0);
        for batch in state.batches(from) {
            if len >= found.len() {
                break;
            }
            len += batch.len();
            expected.push(batch);
        }
        assert!(contents::same(&found, &expected, self.life.flipped), "partition {n}: other bytes from {from}");
        assert!(!found.is_empty() || from == bounds.log_end || self.life.flipped, "nothing at {from} of partition {n}");
        Ok(())
    }

    fn vote(&mut self, n: usize, log: &Log) {
        let model = &mut self.models[n];
        model.term += 1;
        let (node, committed) = (NodeId(self.rng.below(3)), self.rng.one_in(2));
        let vote = VoteRecord { term: Term(model.term), node, committed };
        let acknowledge = model.change(Change::Vote(vote));
        log.save_vote(vote, self.acknowledge(acknowledge));
    }

    async fn truncate(&mut self, n: usize, log: &Log) -> Result<(), GaveUp> {
        let model = &mut self.models[n];
        let all = model.state().entries.len();
        let first = model.applied.max(log.first_index().0 as usize).max(1);
        if first >= all {
            return Ok(());
        }
        let keep = self.rng.between(first as u64, all as u64 - 1) as usize;
        let last = model.state().entries[keep - 1].0;
        // What replaces the entries is a later leader's.
        model.term += 1;
        let acknowledge = model.change(Change::Truncate(keep));
        self.life.accept(log.truncate_after(Some(last)).await)?;
        acknowledge.now();
        self.models[n].compacted_to = self.models[n].compacted_to.min(log.bounds().log_end);
        assert_eq!(log.last_log_id(), Some(last));
        Ok(())
    }

    async fn trim(&mut self, n: usize, log: &Log) -> Result<(), GaveUp> {
        let bounds = log.bounds();
        let to = Offset(self.rng.between(bounds.log_start.0 as u64, bounds.high_watermark.0 as u64) as i64);
        if to == bounds.log_start {
            return Ok(());
        }
        let acknowledge = self.models[n].change(Change::Start(to));
        self.life.accept(log.trim(to).await)?;
        acknowledge.now();
        Ok(())
    }

    async fn retain(&mut self, n: usize, log: &Log) -> Result<(), GaveUp> {
        let mut config = log.config();
        config.retention_bytes = self.rng.pick(&[0, 30_000, 100_000]);
        config.retention_ms = -1;
        log.set_config(config);
        // Where it will end is the log's decision: anything up to the high watermark.
        self.models[n].start_limit = log.bounds().high_watermark;
        self.life.accept(log.apply_retention(time::wall_ms()).await)?;
        let model = &mut self.models[n];
        let start = log.bounds().log_start;
        assert!(start >= model.state().log_start && start <= model.start_limit);
        if start > model.state().log_start {
            model.change(Change::Start(start)).now();
        }
        Ok(())
    }

    fn configure(&mut self, log: &Log) {
        let config = LogConfig {
            segment_bytes: self.rng.between(20_000, 200_000) as u32,
            segment_ms: self.rng.pick(&[20, 604_800_000]),
            index_interval_bytes: self.rng.between(100, 5000) as u32,
            delete_retention_ms: self.rng.pick(&[0, 100, 86_400_000]),
            ..log.config()
        };
        log.set_config(config);
    }

    async fn delete(&mut self, n: usize) -> Result<(), GaveUp> {
        let key = self.life.spec(n).key;
        let acknowledge = self.models[n].change(Change::Delete);
        self.logs[n] = None;
        let deleted = self.store(n).delete(key).await;
        self.life.accept(deleted)?;
        acknowledge.now();
        Ok(())
    }
}

/// True if the log may be this state: what it holds is compared after that.
pub fn fits(log: &Log, state: &State) -> bool {
    log.last_log_id() == state.entries.last().map(|e| e.0)
        && log.next_index().0 as usize == state.entries.len()
        && log.vote() == state.vote
        && log.bounds().log_end == state.log_end()
        && log.bounds().log_start >= state.log_start
}

pub fn short(state: &Option<State>) -> String {
    match state {
        None => "gone".into(),
        Some(s) => format!("{:?} {:?} from {}", s.entries.last().map(|e| e.0), s.vote.map(|v| v.term), s.log_start),
    }
}

//! Freeing the journal's oldest files.
//!
//! 1. Write back everything durable of each log that has records in them.
//! 2. Sync the segment files written since the last checkpoint, and directories with new files.
//! 3. Keep each log's state: in the journal if the log is in use, in its state file if it has not been since.
//! 4. When all that is durable, retire the files.
//!
//! A crash in between only leaves more to replay.
//!
//! The first two steps take their time: all at once they would hold up the appends beside them. The journal has room for twice
//! what it is at when a checkpoint begins, and the logs are spread over half the time after which the next one is due.

use std::rc::Rc;
use std::time::Duration;

use core_pinning::disk::fs;
use core_pinning::time::{self, Instant};
use futures::StreamExt;

use super::shared::Shared;
use crate::error::{Doing, StorageError};
use crate::layout;
use crate::log::LogInner;
use crate::point::Point;

/// Pause before a checkpoint that something came in the way of is tried again.
const RETRY: Duration = Duration::from_millis(10);
/// The same where the disk is full.
const RETRY_FULL: Duration = Duration::from_millis(500);
/// Logs written back and synced at a time.
const IN_FLIGHT: usize = 4;
/// No checkpoint is spread further.
const SPREAD_MAX: Duration = Duration::from_secs(1);
/// How long a checkpoint that runs ahead rests before it looks again.
const REST: Duration = Duration::from_millis(1);

/// A log of the checkpoint, and how far it was durable when that began.
struct Target {
    log: Rc<LogInner>,
    point: Point,
    generation: u64,
}

impl Target {
    fn is_written(&self) -> bool {
        self.log.is_deleted() || self.log.is_written_to(self.point)
    }
}

/// Spreads the logs of a checkpoint over the time that there is.
struct Pace {
    begun: Instant,
    spread: Duration,
}

impl Pace {
    fn new(due_every: Duration) -> Pace {
        Pace { begun: time::now(), spread: (due_every / 2).min(SPREAD_MAX) }
    }

    /// Waits while more than its share of the time has been done.
    async fn keep(&self, shared: &Shared, done: usize, all: usize) {
        let due = self.begun + self.spread.mul_f64(done as f64 / all.max(1) as f64);
        while time::now() < due && !shared.is_behind() {
            time::sleep(REST).await;
        }
    }
}

/// Runs checkpoints as long as the store is open.
pub(crate) async fn run(shared: Rc<Shared>) {
    let mut freed_at = time::now();
    while !shared.ending.get() {
        let live = shared.journal.live_files();
        let enough = if shared.thrift.is_on() { 1 } else { shared.options.journal_files_max / 2 };
        if live <= enough || shared.journal.failure().is_some() {
            shared.journal.progress().await;
            continue;
        }
        // All full files but the last: those that begin again and again would be written back too early.
        match checkpoint(&shared, (live / 2).max(1), Pace::new(freed_at.elapsed())).await {
            Ok(Outcome::Freed) => freed_at = time::now(),
            Ok(Outcome::Nothing) => shared.journal.progress().await,
            Ok(Outcome::Again) => time::sleep(RETRY).await,
            Err(StorageError::JournalFailed { .. }) => {}
            // Nothing is lost: the journal keeps its files.
            Err(StorageError::DiskFull { .. }) => time::sleep(RETRY_FULL).await,
            Err(error) => shared.journal.fail(&format!("checkpoint: {error}")),
        }
    }
}

/// What came of a checkpoint.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Outcome {
    Freed,
    /// No file is full, or writes into it are in flight.
    Nothing,
    /// A log changed so that the files are needed longer.
    Again,
}

/// Frees up to `count` files.
async fn checkpoint(shared: &Rc<Shared>, count: usize, pace: Pace) -> Result<Outcome, StorageError> {
    let Some(old) = shared.journal.oldest(count) else { return Ok(Outcome::Nothing) };
    // An entry may begin in these files and end in a later one: its log's durable point is past it only when all of it is.
    shared.journal.flush().await?;
    let mut logs: Vec<Rc<LogInner>> = old.owners;
    logs.sort_by_key(|log| log.key);
    logs.dedup_by(|a, b| Rc::ptr_eq(a, b));
    if logs.iter().any(|log| log.is_deleted() && !log.marks.removed.get()) {
        return Ok(Outcome::Again);
    }
    logs.retain(|log| !log.is_deleted());
    let mut targets: Vec<Target> = logs
        .into_iter()
        .map(|log| {
            let (point, generation) = log.flushed_point();
            Target { log, point, generation }
        })
        .collect();
    let all = targets.len();
    for (i, some) in targets.chunks_mut(IN_FLIGHT).enumerate() {
        pace.keep(shared, i * IN_FLIGHT, all).await;
        written_back(shared, some).await?;
        let synced = futures::stream::iter(some).map(|target| sync(shared, target)).buffer_unordered(IN_FLIGHT);
        let results: Vec<Result<(), StorageError>> = synced.collect().await;
        results.into_iter().collect::<Result<(), _>>()?;
    }
    if shared.root_unsynced.replace(false) {
        let root = layout::partitions_root(&shared.options.data_dir);
        fs::sync_dir(&root).await.doing("sync", &root).map_err(|error| not_synced(shared, &error))?;
    }
    if targets.iter().any(|t| !t.log.is_deleted() && t.log.flushed_point().1 != t.generation) {
        // A log was cut meanwhile: what it kept may not be written yet.
        return Ok(Outcome::Again);
    }
    let mut at_rest: Vec<&Target> = Vec::new();
    for target in targets.iter().filter(|t| !t.log.is_deleted()) {
        target.log.mark_synced(target.point);
        if target.log.last_file.get() > old.last || !target.log.is_at_rest() {
            target.log.snapshot_producers().await?;
            target.log.snapshot_index().await;
            target.log.journal_state(&mut target.log.state.borrow_mut(), None);
        } else {
            at_rest.push(target);
        }
    }
    shared.flush().await?;
    // A state file speaks of a log at rest. One that has been used again meanwhile gets a state in the journal after all.
    let in_use = |log: &LogInner| log.last_file.get() > old.last || !log.is_at_rest();
    let (used, at_rest): (Vec<&Target>, Vec<&Target>) =
        at_rest.into_iter().filter(|t| !t.log.is_deleted()).partition(|t| in_use(&t.log));
    for target in &used {
        target.log.journal_state(&mut target.log.state.borrow_mut(), None);
    }
    if !used.is_empty() {
        shared.flush().await?;
    }
    let writing = futures::stream::iter(at_rest).map(|target| async {
        // Looked at again at its turn; if not at rest any more, it is left for the next checkpoint.
        if in_use(&target.log) { Err(None) } else { write_state_file(&target.log).await }
    });
    let results: Vec<Result<(), Option<StorageError>>> = writing.buffer_unordered(IN_FLIGHT).collect().await;
    let failed: Vec<Option<StorageError>> = results.into_iter().filter_map(Result::err).collect();
    let fatal = |error: &StorageError| matches!(error, StorageError::JournalFailed { .. } | StorageError::Io { .. });
    if let Some(error) = failed.iter().flatten().find(|error| fatal(error)) {
        return Err(error.clone());
    }
    if let Some(error) = failed.iter().flatten().find(|error| matches!(error, StorageError::DiskFull { .. })) {
        return Err(error.clone());
    }
    if !failed.is_empty() {
        // Used again, or deleted: keeps the files, and tries again.
        return Ok(Outcome::Again);
    }
    shared.journal.release(old.last).await?;
    shared.stats.checkpoints.add(1);
    Ok(Outcome::Freed)
}

/// `None`: the log has been deleted meanwhile.
async fn write_state_file(log: &Rc<LogInner>) -> Result<(), Option<StorageError>> {
    log.write_state_file(false).await.map_err(|error| (!log.is_deleted()).then_some(error))
}

async fn sync(shared: &Rc<Shared>, target: &Target) -> Result<(), StorageError> {
    match target.log.sync_files().await {
        // Its files went away meanwhile.
        Err(_) if target.log.is_deleted() => Ok(()),
        other => other.map_err(|error| not_synced(shared, &error)),
    }
}

/// A sync that failed is not tried again, not even on a full disk: the kernel may have forgotten what it could not write, and
/// the next sync would succeed without it.
fn not_synced(shared: &Rc<Shared>, error: &StorageError) -> StorageError {
    let reason = format!("checkpoint: {error}");
    shared.journal.fail(&reason);
    StorageError::JournalFailed { reason: reason.into() }
}

/// Waits until what the targets name is in the segment files. A log that is cut meanwhile gets a new target.
async fn written_back(shared: &Rc<Shared>, targets: &mut [Target]) -> Result<(), StorageError> {
    targets.iter().filter(|t| !t.is_written()).for_each(|t| shared.write_back.force(&t.log));
    // One after the other: looking at all of them at each step takes its time where they are thousands.
    for target in targets {
        loop {
            let (point, generation) = target.log.flushed_point();
            if generation != target.generation {
                (target.point, target.generation) = (point, generation);
            }
            if target.is_written() {
                break;
            }
            if let Some(failure) = shared.journal.failure() {
                return Err(failure);
            }
            if target.log.marks.failing_for() > shared.options.write_back_patience {
                let reason = format!("{} cannot be written back and holds the journal's files", target.log.key);
                shared.journal.fail(&reason);
                return Err(StorageError::JournalFailed { reason: reason.into() });
            }
            shared.write_back.force_again(&target.log);
            shared.write_back.progress().await;
        }
    }
    Ok(())
}

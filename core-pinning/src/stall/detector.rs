//! The thread that looks.

use super::teller::{Captured, Teller};
use super::{NAME_SHIFT, Published, capture, running_us, shards};
use crate::shard::ShardId;
use std::{
    collections::HashMap,
    fmt, io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering, fence},
    },
    thread,
    time::{Duration, Instant},
};

/// Samples with nothing to see before the detector parks.
const QUIET_SAMPLES: u32 = 3;

/// When to tell, and how often.
#[derive(Clone, Copy, Debug)]
pub struct StallOptions {
    /// A poll longer than this is a stall, unless the thread was kept off its core meanwhile.
    pub threshold: Duration,
    /// Looks that often while a shard is awake; at most half the threshold.
    pub sample_every: Duration,
    /// At most one report per shard in this time. Stalls in between are counted in the next report.
    pub report_every: Duration,
}

impl Default for StallOptions {
    fn default() -> Self {
        StallOptions {
            threshold: Duration::from_millis(10),
            sample_every: Duration::from_millis(5),
            report_every: Duration::from_secs(1),
        }
    }
}

/// One task that held its core.
#[derive(Clone, Debug)]
pub struct StallReport {
    pub shard: ShardId,
    /// Name of the shard's thread.
    pub thread: String,
    pub task: &'static str,
    /// So far: the poll goes on.
    pub running_for: Duration,
    /// Where it was at that moment, one frame a line; empty if the thread did not answer.
    pub backtrace: String,
    /// Stalls of this shard since its last report that were not told.
    pub not_told: u64,
}

impl fmt::Display for StallReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "task \"{}\" has held shard {} for {:?}", self.task, self.shard, self.running_for)?;
        if self.not_told > 0 {
            write!(f, " ({} stalls before it were not told)", self.not_told)?;
        }
        write!(f, "\n{}", self.backtrace)
    }
}

struct Control {
    stop: AtomicBool,
}

/// A running detector; dropping it stops it. One per process is enough: it sees all shards of all pools.
pub struct Detector {
    control: Arc<Control>,
    thread: Option<thread::JoinHandle<()>>,
}

/// The detector is parked and wants to be woken by the first shard that wakes.
static PARKED: AtomicBool = AtomicBool::new(false);
static THREAD: Mutex<Option<thread::Thread>> = Mutex::new(None);

/// A shard wakes from its sleep.
#[inline]
pub(crate) fn shard_awake() {
    if PARKED.load(Ordering::SeqCst) {
        unpark();
    }
}

#[cold]
fn unpark() {
    if PARKED.swap(false, Ordering::SeqCst)
        && let Some(t) = &*THREAD.lock().unwrap_or_else(PoisonError::into_inner)
    {
        t.unpark();
    }
}

impl Detector {
    /// Starts the thread. `tell` runs on another, once the backtrace is in words.
    pub fn start(o: StallOptions, tell: impl FnMut(&StallReport) + Send + 'static) -> io::Result<Detector> {
        capture::install()?;
        let control = Arc::new(Control { stop: AtomicBool::new(false) });
        let c = control.clone();
        let teller = Teller::start(tell)?;
        let thread = thread::Builder::new().name("stall-detector".into()).spawn(move || {
            crate::topology::unpin_thread();
            watch(&o, &c, &teller);
        })?;
        *THREAD.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread.thread().clone());
        Ok(Detector { control, thread: Some(thread) })
    }
}

impl Drop for Detector {
    fn drop(&mut self) {
        self.control.stop.store(true, Ordering::SeqCst);
        if let Some(t) = self.thread.take() {
            t.thread().unpark();
            let _ = t.join();
        }
    }
}

/// What the detector remembers of a shard.
#[derive(Default)]
struct Seen {
    /// The poll under way at the last look, when it was first seen, and the thread's CPU time then.
    word: u64,
    first: Option<(Instant, Duration)>,
    /// The poll that was reported or counted last.
    told: u64,
    last_report: Option<Instant>,
    not_told: u64,
}

impl Seen {
    /// The thread could run, but the machine gives its core to others: no fault of the task's.
    fn is_kept_waiting(&self, thread: libc::pid_t) -> bool {
        self.first.is_some_and(|(at, cpu)| {
            let ran = capture::cpu_time(thread).saturating_sub(cpu);
            ran < at.elapsed() / 4 && capture::is_runnable(thread)
        })
    }
}

fn watch(o: &StallOptions, control: &Control, teller: &Teller) {
    let every = o.sample_every.min(o.threshold / 2).max(Duration::from_millis(1));
    let threshold_us = o.threshold.as_micros() as u64;
    let mut seen: HashMap<libc::pid_t, Seen> = HashMap::new();
    let mut quiet = 0;
    while !control.stop.load(Ordering::SeqCst) {
        let shards = shards();
        let idle = shards.iter().all(|s| is_idle(s));
        quiet = if idle { quiet + 1 } else { 0 };
        if quiet >= QUIET_SAMPLES {
            PARKED.store(true, Ordering::SeqCst);
            fence(Ordering::SeqCst);
            // a shard that wakes after this look sees PARKED; new shards wake when they start
            if shards.iter().all(|s| is_idle(s)) && !control.stop.load(Ordering::SeqCst) {
                drop(shards);
                thread::park();
            }
            PARKED.store(false, Ordering::SeqCst);
            quiet = 0;
            continue;
        }
        for s in &shards {
            let word = s.word();
            if word == 0 {
                continue;
            }
            let before = seen.entry(s.thread).or_default();
            if before.word != word {
                before.word = word;
                before.first = Some((Instant::now(), capture::cpu_time(s.thread)));
            }
            if running_us(word) <= threshold_us || before.told == word || before.is_kept_waiting(s.thread) {
                continue;
            }
            before.told = word;
            if before.last_report.is_some_and(|t| t.elapsed() < o.report_every) {
                before.not_told += 1;
                continue;
            }
            let frames = capture::capture(s.thread).unwrap_or_default();
            let same = s.word() == word; // otherwise the frames are somebody else's
            before.last_report = Some(Instant::now());
            let captured = Captured {
                shard: s.shard,
                thread: s.name.clone(),
                task: super::name((word >> NAME_SHIFT) as u16),
                running_for: Duration::from_micros(running_us(word)),
                frames: if same { frames } else { Vec::new() },
                not_told: before.not_told,
            };
            before.not_told = if teller.take(captured) { 0 } else { before.not_told + 1 };
        }
        thread::park_timeout(every);
    }
}

fn is_idle(s: &Published) -> bool {
    s.word() == 0 && s.remote.is_sleeping()
}

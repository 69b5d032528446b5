//! All cells of the process.

use super::histogram::{Counts, HistogramValue};
use crate::shard::{ShardId, lane};
use std::sync::{Mutex, PoisonError, Weak, atomic::AtomicU64, atomic::Ordering};

/// Names and values beside the shard's.
pub type Labels = Vec<(&'static str, String)>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Counter(u64),
    Gauge(i64),
    Histogram(Box<HistogramValue>),
}

impl Value {
    pub fn kind(&self) -> Kind {
        match self {
            Value::Counter(_) => Kind::Counter,
            Value::Gauge(_) => Kind::Gauge,
            Value::Histogram(_) => Kind::Histogram,
        }
    }
}

/// One cell at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    pub name: &'static str,
    pub help: &'static str,
    /// `None`: registered by an ordinary thread.
    pub shard: Option<ShardId>,
    pub labels: Labels,
    pub value: Value,
}

pub(super) enum Cell {
    Counter(Weak<AtomicU64>),
    Gauge(Weak<AtomicU64>),
    Histogram(Weak<Counts>),
}

impl Cell {
    fn is_gone(&self) -> bool {
        match self {
            Cell::Counter(c) | Cell::Gauge(c) => c.strong_count() == 0,
            Cell::Histogram(h) => h.strong_count() == 0,
        }
    }

    fn read(&self) -> Option<Value> {
        Some(match self {
            Cell::Counter(c) => Value::Counter(c.upgrade()?.load(Ordering::Relaxed)),
            Cell::Gauge(c) => Value::Gauge(c.upgrade()?.load(Ordering::Relaxed) as i64),
            Cell::Histogram(h) => Value::Histogram(Box::new(h.upgrade()?.read())),
        })
    }
}

struct Entry {
    name: &'static str,
    help: &'static str,
    shard: Option<ShardId>,
    labels: Labels,
    cell: Cell,
}

#[derive(Default)]
struct Registry {
    entries: Vec<Entry>,
    /// Look for dropped cells when this many are registered.
    sweep_at: usize,
}

static REGISTRY: Mutex<Registry> = Mutex::new(Registry { entries: Vec::new(), sweep_at: 1024 });

pub(super) fn register(name: &'static str, help: &'static str, labels: Labels, cell: Cell) {
    let shard = lane::try_current().map(|l| l.shard);
    let mut r = REGISTRY.lock().unwrap_or_else(PoisonError::into_inner);
    r.entries.push(Entry { name, help, shard, labels, cell });
    if r.entries.len() >= r.sweep_at {
        r.entries.retain(|e| !e.cell.is_gone());
        r.sweep_at = (r.entries.len() * 2).max(1024);
    }
}

/// All cells that are still held, in the order of their registration. The cells are read one after the other while
/// the shards go on.
pub fn snapshot() -> Vec<Sample> {
    let mut r = REGISTRY.lock().unwrap_or_else(PoisonError::into_inner);
    r.entries.retain(|e| !e.cell.is_gone());
    let read = r.entries.iter().filter_map(|e| {
        let value = e.cell.read()?;
        Some(Sample { name: e.name, help: e.help, shard: e.shard, labels: e.labels.clone(), value })
    });
    read.collect()
}

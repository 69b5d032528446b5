//! Shards and the pool that runs one on each core.

mod inbox;
pub(crate) mod lane;
mod pool;

pub use inbox::{Inbox, InboxReceiver};
#[cfg(sim)]
pub(crate) use pool::run_alone;
pub use pool::{ShardContext, ShardPool, ShardPoolOptions, on_panic, run_local, try_run_local};

use std::fmt;

/// Number of a shard in its pool, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(pub u16);

impl ShardId {
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The shard of the calling thread. Panics outside a shard.
pub fn current_shard() -> ShardId {
    lane::current().shard
}

/// Why a shard ended early.
#[derive(Clone, Debug)]
pub struct ShardPanic {
    pub shard: ShardId,
    /// The task that panicked.
    pub task: &'static str,
    pub message: String,
    /// `file:line:column`, where it is known.
    pub location: Option<String>,
}

impl fmt::Display for ShardPanic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "shard {} panicked in task \"{}\"", self.shard, self.task)?;
        if let Some(at) = &self.location {
            write!(f, " at {at}")?;
        }
        write!(f, ": {}", self.message)
    }
}

impl std::error::Error for ShardPanic {}

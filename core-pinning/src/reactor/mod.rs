//! What carries a shard's sockets, files and timers.
//!
//! `driver` is one io_uring per shard, for sockets and files alike, and the task that drives it: `ring` is the set-up,
//! `pump` the loop (submit, reap, wake, sleep), `turns` who waits for one of its turns, `offload` what the ring cannot
//! do. In a simulation the machine of `sim` stands there instead. Both share `ops` (the one-shot operations with the
//! memory they lend to the kernel), `timers` (the deadlines) and `remote` (the way in from other threads).

#[cfg(not(sim))]
mod driver;
#[cfg(not(sim))]
mod offload;
pub(crate) mod ops;
#[cfg(not(sim))]
pub(crate) mod pump;
mod remote;
#[cfg(not(sim))]
pub(crate) mod ring;
pub(crate) mod timers;
#[cfg(not(sim))]
mod turns;

#[cfg(sim)]
pub(crate) use crate::sim::reactor::{Reactor, pump};
#[cfg(not(sim))]
pub(crate) use driver::{Kind, Reactor, tag};
pub(crate) use remote::{Remote, mail};

/// Counters of one shard's reactor, from its start.
#[derive(Clone, Copy, Default, Debug)]
pub struct ReactorStats {
    /// Turns of the pump.
    pub turns: u64,
    /// System calls that submitted or looked for completions.
    pub enters: u64,
    pub completions: u64,
    /// Times the shard had nothing to do.
    pub sleeps: u64,
    /// Times a receive ended, or those that send much all waited, because the receive memory was used up.
    pub starved: u64,
}

/// Counters of the calling shard's reactor. Panics outside a shard.
pub fn reactor_stats() -> ReactorStats {
    crate::shard::lane::current().reactor.stats.get()
}

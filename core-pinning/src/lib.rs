//! Shards: one pinned reactor a core, with its sockets, files, timers and messages.
//!
//! A *shard* is a thread with an executor (glommio, named only under `rt/`) and one io_uring of its own beside it that
//! carries sockets and files alike (`reactor/`). Everything but [`mesh`], [`shard::Inbox`], [`metrics`] and the buffers
//! of [`buf`] stays on the shard that made it (`!Send`); shards talk through the mesh only.
//!
//! What glommio does: task queues with shares. Timers, disk, sockets and wake-ups from other threads are the pump's
//! (one task per shard), which also puts the thread to sleep, in our ring, when no task is ready. So glommio's rings,
//! its parking and its preempt timer play no part, nor do their traps: it parks with runnable tasks if its timer fires
//! at the wrong moment, and a busy executor looks at its rings only when that timer fires.
//!
//! `--cfg sim` puts a simulated machine in the place of all that (`sim/`): the same code then runs by a seed, with a clock,
//! a disk and a network that are the seed's too. What runs on both is tested on both (`tests/conformance/`).
//!
//! Deliberately absent: work stealing, cross-shard futures, and any way to block a shard.

// what only the ring needs stands idle in a simulation
#![cfg_attr(sim, allow(dead_code))]

pub mod budget;
pub mod buf;
#[cfg(not(sim))]
pub mod checks;
mod clock;
mod compute;
pub mod disk;
pub mod fault;
pub mod gate;
mod iobuf;
pub mod memory;
pub mod mesh;
pub mod metrics;
#[cfg(not(sim))]
pub mod net;
mod reactor;
mod ready;
pub mod rng;
mod rt;
pub mod shard;
#[cfg(sim)]
pub mod sim;
mod slab;
pub mod stall;
pub mod sync;
pub mod task;
pub mod time;
pub mod topology;

pub use budget::{Budget, BudgetUnits};
pub use buf::{AlignedBuf, BLOCK};
pub use compute::compute;
pub use disk::{File, IoBuf, OpenOptions, fs};
pub use gate::{Gate, GateGuard};
pub use mesh::MeshEnd;
pub use reactor::{ReactorStats, reactor_stats};
pub use shard::{
    Inbox, InboxReceiver, ShardContext, ShardId, ShardPanic, ShardPool, ShardPoolOptions, current_shard, run_local,
};
#[cfg(sim)]
pub use sim::net;
pub use task::{Queue, Task, spawn, spawn_here, yield_after, yield_if_needed, yield_now};

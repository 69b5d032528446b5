//! The executor under a shard: the only folder that names glommio.
//!
//! The seam is small on purpose, so that the seeded simulation can stand in for it: an [`Executor`] to run, `spawn` that
//! only schedules, `yield_queue`, and hints for when to give way. Waking, sleeping, time and I/O are not in it.

#[cfg(not(sim))]
mod glommio;
#[cfg(sim)]
mod sim;

#[cfg(not(sim))]
pub(crate) use self::glommio::{
    Executor, create_queues, preempt_soon, someone_waits_for_a_turn, spawn, spawn_pump, wants_yield, yield_queue,
    yield_turn,
};
#[cfg(sim)]
pub(crate) use self::sim::{
    Executor, create_queues, preempt_soon, someone_waits_for_a_turn, spawn, wants_yield, yield_queue, yield_turn,
};

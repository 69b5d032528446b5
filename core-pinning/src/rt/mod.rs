//! The executor under a shard: the only folder that names glommio.
//!
//! The seam is small on purpose, so that a seeded simulation can stand in for it: an [`Executor`] to run, `spawn` that
//! only schedules, `spawn_pump`, `yield_queue`, and `preempt_soon`. Waking, sleeping, time and I/O are not in it.

mod glommio;

pub(crate) use self::glommio::{Executor, create_queues, preempt_soon, spawn, spawn_pump, yield_queue};

//! The executor under a shard: the only folder that names glommio.
//!
//! The seam is small on purpose, so that a seeded simulation can stand in for it: an [`Executor`] to run, `spawn` that
//! only schedules, `yield_queue`, `preempt_soon`, and [`WakeFd`], the one thing a sleeping shard waits for.

mod glommio;

pub(crate) use self::glommio::{Executor, WakeFd, create_queues, preempt_soon, spawn, yield_queue};

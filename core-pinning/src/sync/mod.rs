//! Waiting inside one shard. Nothing here is `Send`, and nothing is atomic.
//!
//! Every future may be dropped at any time: a wake-up it was given goes on to the next waiter.

mod event;
pub mod mpsc;
pub mod oneshot;
mod semaphore;
mod signal;
mod waiters;
pub mod watch;

pub use event::Event;
pub use semaphore::{Permit, Semaphore};
pub use signal::Signal;
pub(crate) use waiters::Waiters;

/// The other side is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed;

impl std::fmt::Display for Closed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("channel closed")
    }
}

impl std::error::Error for Closed {}

//! Waiting for a condition with a deadline: the only place in the tests where time passes on purpose.

use std::thread;
use std::time::{Duration, Instant};

const STEP: Duration = Duration::from_millis(5);

/// Polls until `poll` returns something; `None` when `limit` has passed.
pub fn within<T>(limit: Duration, mut poll: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + limit;
    loop {
        if let Some(value) = poll() {
            return Some(value);
        }
        if Instant::now() >= end {
            return None;
        }
        thread::park_timeout(STEP);
    }
}

/// Polls until `poll` returns something, and fails the test with `what` when `limit` has passed.
#[track_caller]
pub fn until<T>(what: &str, limit: Duration, poll: impl FnMut() -> Option<T>) -> T {
    match within(limit, poll) {
        Some(value) => value,
        None => panic!("waited {limit:?} for: {what}"),
    }
}

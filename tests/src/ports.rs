//! Free TCP ports for brokers.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

const FIRST: u32 = 20_000;
const COUNT: u32 = 12_000; // ends below the range that the kernel hands out to clients

/// First of `n` neighbouring ports of 127.0.0.1 on which nobody listens. Never the same twice in one process.
pub fn free(n: u16) -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    for _ in 0..COUNT {
        let step = NEXT.fetch_add(u32::from(n), Relaxed);
        let first = FIRST + (std::process::id().wrapping_mul(97).wrapping_add(step)) % (COUNT - u32::from(n));
        let first = u16::try_from(first).expect("a port");
        if (first..first + n).all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok()) {
            return first;
        }
    }
    panic!("no {n} free ports from {FIRST} on");
}

//! The cheap clock of the hot path: the processor's cycle counter, about 10 ns a look.
//!
//! Only hints hang on it (how long a task has run, when the pump last turned); deadlines use CLOCK_MONOTONIC.
#![allow(unsafe_code)]

use std::sync::OnceLock;

/// Cycle counter now; only differences on one thread mean anything. In a simulation: the machine's nanoseconds.
#[inline]
pub(crate) fn ticks() -> u64 {
    #[cfg(sim)]
    if let Some(now) = crate::sim::world::with(|w| w.look_at_clock()) {
        return now;
    }
    hardware_ticks()
}

#[inline]
fn hardware_ticks() -> u64 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: rdtsc is available on every x86_64.
    unsafe {
        core::arch::x86_64::_rdtsc()
    }
    #[cfg(target_arch = "aarch64")]
    {
        let t: u64;
        // SAFETY: reads the virtual counter, which Linux lets user space read.
        unsafe { core::arch::asm!("mrs {}, cntvct_el0", out(reg) t, options(nomem, nostack)) };
        t
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    monotonic_ns()
}

/// Nanoseconds of CLOCK_MONOTONIC.
#[inline]
pub(crate) fn monotonic_ns() -> u64 {
    #[cfg(sim)]
    if let Some(now) = crate::sim::world::with(|w| w.look_at_clock()) {
        return now;
    }
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `t` is a valid timespec; CLOCK_MONOTONIC cannot fail on Linux.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut t) };
    t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64
}

/// Ticks per microsecond, measured once per process over half a millisecond.
pub(crate) fn ticks_per_us() -> u64 {
    #[cfg(sim)]
    if crate::sim::world::with(|_| ()).is_some() {
        return 1000;
    }
    static RATE: OnceLock<u64> = OnceLock::new();
    *RATE.get_or_init(|| {
        let (t0, n0) = (ticks(), monotonic_ns());
        let mut n1 = monotonic_ns();
        while n1 - n0 < 500_000 {
            std::hint::spin_loop();
            n1 = monotonic_ns();
        }
        (ticks().wrapping_sub(t0).saturating_mul(1000) / (n1 - n0)).max(1)
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn ticks_follow_the_monotonic_clock() {
        let rate = super::ticks_per_us();
        let (t0, n0) = (super::ticks(), super::monotonic_ns());
        while super::monotonic_ns() - n0 < 5_000_000 {}
        let us = super::ticks().wrapping_sub(t0) / rate;
        assert!(us >= 4_000, "{us} us seen in 5 ms");
    }
}

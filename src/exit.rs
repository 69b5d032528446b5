//! How the process ends when it cannot go on: one dead shard beside live siblings would be worse than a restart.

use std::panic;

use corelane_cli::log_lines;

/// A thread panicked: a defect of the broker.
pub const PANIC: i32 = 70;
/// The disk failed where something acknowledged could be lost.
pub const DISK: i32 = 74;

/// Makes a panic on any thread end the process, with its place and backtrace in the log.
pub fn on_panic() {
    panic::set_hook(Box::new(|info| {
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        let message = info.payload_as_str().unwrap_or("panic");
        let backtrace = std::backtrace::Backtrace::force_capture();
        tracing::error!(reason = "panic", place, message, %backtrace, "corelane ends");
        log_lines::end();
        std::process::exit(PANIC);
    }));
}

/// Ends the process at once, by name.
pub fn now(reason: &str, detail: impl std::fmt::Display) -> ! {
    tracing::error!(reason, %detail, "corelane ends");
    log_lines::end();
    std::process::exit(DISK)
}

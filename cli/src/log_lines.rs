//! Log lines on their way to standard error: written by a thread of their own, so that nobody who serves waits for whoever reads
//! them. Where that thread cannot follow, lines are lost and counted.

use corelane_config::LogFormat;
use std::io::{self, Write};
use std::sync::{Mutex, OnceLock, PoisonError};
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};

/// Lines that may wait.
const WAITING: usize = 8192;

static LOST: OnceLock<ErrorCounter> = OnceLock::new();
static THREAD: Mutex<Option<WorkerGuard>> = Mutex::new(None);

/// Where the lines of the process go from now on; once.
pub fn begin(format: LogFormat) -> NonBlocking {
    let lost = || LOST.get().map_or(0, ErrorCounter::dropped_lines);
    let lines = Lines { out: io::stderr(), format, lost, told: 0 };
    let (writer, thread) =
        NonBlockingBuilder::default().buffered_lines_limit(WAITING).lossy(true).thread_name("log").finish(lines);
    let _ = LOST.set(writer.error_counter());
    THREAD.lock().unwrap_or_else(PoisonError::into_inner).replace(thread);
    writer
}

/// The process ends: what was logged is written, unless nobody has taken it for a second. What is logged later is lost.
pub fn end() {
    drop(THREAD.lock().unwrap_or_else(PoisonError::into_inner).take());
}

struct Lines<W> {
    out: W,
    format: LogFormat,
    /// Lines lost so far.
    lost: fn() -> usize,
    /// Lost lines that the log has told of.
    told: usize,
}

impl<W: Write> Lines<W> {
    fn tell(&mut self, lost: usize) -> io::Result<()> {
        let mut now = String::new();
        let _ = SystemTime.format_time(&mut Writer::new(&mut now));
        let (more, message) =
            (lost - std::mem::replace(&mut self.told, lost), "log lines were lost: they are not taken fast enough");
        match self.format {
            LogFormat::Json => {
                let line = serde_json::json!({ "timestamp": now, "level": "WARN", "message": message, "lines": more, "target": "log" });
                writeln!(self.out, "{line}")
            }
            LogFormat::Text => writeln!(self.out, "{now}  WARN log: {message} lines={more}"),
        }
    }
}

impl<W: Write> Write for Lines<W> {
    /// One line.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let lost = (self.lost)();
        if lost > self.told {
            self.tell(lost)?;
        }
        self.out.write_all(line)?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    #[test]
    fn what_was_lost_is_told_once_before_the_next_line() {
        static LOST: AtomicUsize = AtomicUsize::new(0);
        for format in [LogFormat::Text, LogFormat::Json] {
            LOST.store(0, Relaxed);
            let mut lines = Lines { out: Vec::new(), format, lost: || LOST.load(Relaxed), told: 0 };
            for (lost, line) in [(0, "first\n"), (3, "second\n"), (3, "third\n"), (8, "fourth\n")] {
                LOST.store(lost, Relaxed);
                lines.write_all(line.as_bytes()).unwrap();
            }
            let text = String::from_utf8(lines.out).unwrap();
            let [first, three, second, third, five, fourth] = text.lines().collect::<Vec<_>>()[..] else {
                panic!("{text}")
            };
            assert_eq!([first, second, third, fourth], ["first", "second", "third", "fourth"]);
            for (line, lost) in [(three, 3), (five, 5)] {
                assert!(line.contains("log lines were lost"), "{line}");
                match format {
                    LogFormat::Text => assert!(line.ends_with(&format!(" lines={lost}")), "{line}"),
                    LogFormat::Json => {
                        assert_eq!(serde_json::from_str::<serde_json::Value>(line).unwrap()["lines"], lost);
                    }
                }
            }
        }
    }
}

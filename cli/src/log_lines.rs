//! Log lines on their way to standard error: written by a thread of their own, so that nobody who serves waits for whoever reads
//! them. Where that thread cannot follow, or the lines go to a disk that is full, lines are lost and counted.

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
    let lines = Lines { out: io::stderr(), format, lost, failed: 0, told: 0, torn: false };
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
    /// Lines lost so far on their way here.
    lost: fn() -> usize,
    /// Those that could not be written.
    failed: usize,
    /// Lost lines that the log has told of.
    told: usize,
    /// The last thing that was written is the beginning of a line.
    torn: bool,
}

impl<W: Write> Lines<W> {
    fn one(&mut self, line: &[u8]) -> io::Result<()> {
        let lost = (self.lost)() + self.failed;
        if lost > self.told {
            let told = self.loss(lost - self.told);
            self.put(told.as_bytes())?;
            self.told = lost;
        }
        self.put(line)
    }

    /// What is said of so many lost lines.
    fn loss(&self, lines: usize) -> String {
        let mut now = String::new();
        let _ = SystemTime.format_time(&mut Writer::new(&mut now));
        let message = "log lines were lost: they are not taken, or not fast enough";
        match self.format {
            LogFormat::Json => {
                let line = serde_json::json!({ "timestamp": now, "level": "WARN", "message": message, "lines": lines, "target": "log" });
                format!("{line}\n")
            }
            LogFormat::Text => format!("{now}  WARN log: {message} lines={lines}\n"),
        }
    }

    fn put(&mut self, line: &[u8]) -> io::Result<()> {
        if self.torn {
            self.out.write_all(b"\n")?;
            self.torn = false;
        }
        let mut rest = line;
        while !rest.is_empty() {
            match self.out.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => {
                    rest = rest.get(n..).unwrap_or_default();
                    self.torn = !rest.is_empty();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl<W: Write> Write for Lines<W> {
    /// One line.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let done = self.one(line);
        self.failed += usize::from(done.is_err());
        done.map(|()| line.len())
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
            let lost = || LOST.load(Relaxed);
            let mut lines = Lines { out: Vec::new(), format, lost, failed: 0, told: 0, torn: false };
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

    /// Takes so many bytes, and then no more until there is room again.
    struct Disk {
        room: usize,
        written: Vec<u8>,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let n = bytes.len().min(self.room);
            if n == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.room -= n;
            self.written.extend_from_slice(&bytes[..n]);
            Ok(n)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_a_full_disk_did_not_take_is_told_when_there_is_room_again() {
        let out = Disk { room: 10, written: Vec::new() };
        let mut lines = Lines { out, format: LogFormat::Text, lost: || 0, failed: 0, told: 0, torn: false };
        lines.write_all(b"first\n").unwrap();
        for _ in 0..3 {
            assert!(lines.write_all(b"second\n").is_err());
        }
        // Not for the whole of what there is to say.
        lines.out.room = 20;
        assert!(lines.write_all(b"third\n").is_err());
        lines.out.room = 1000;
        lines.write_all(b"fourth\n").unwrap();
        let text = String::from_utf8(lines.out.written).unwrap();
        let [first, torn, told, whole, fourth] = text.lines().collect::<Vec<_>>()[..] else { panic!("{text}") };
        assert_eq!([first, torn, fourth], ["first", "seco", "fourth"]);
        assert!(whole.starts_with(told) && whole.ends_with(" lines=4"), "{text}");
    }
}

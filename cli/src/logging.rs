//! Log lines of a running broker, on standard error.
//!
//! One event is one line, whatever is in it: what would end a line, move the cursor or turn the writing round stands escaped. So no
//! name that a client sends can look like a line of its own.

use crate::exit::Failure;
use crate::{log_lines, loggers};
use corelane_config::{BrokerConfig, LogFormat};
use std::fmt::{self, Write};
use std::io::IsTerminal;
use tracing::field::Field;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::fmt::format::{Writer, debug_fn};

/// The one field that may go over several lines: it is the broker's own.
const BACKTRACE: &str = "backtrace";

/// Sets up logging for the process; once.
pub fn init(config: &BrokerConfig) -> Result<(), Failure> {
    // What the Raft library reports of every start of a group is for its own developers.
    let level = match config.log_level.contains("openraft") {
        true => config.log_level.clone(),
        false => format!("openraft=warn,{}", config.log_level),
    };
    let filter = EnvFilter::try_new(&level).map_err(|e| {
        Failure::usage(format!(
            "log level {:?}: {e} (allowed: error, warn, info, debug, trace, or target=level directives)",
            config.log_level
        ))
    })?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(log_lines::begin(config.log_format))
        .with_thread_names(true);
    // The formats are of different types, and so are the handles on their filters.
    let done = match config.log_format {
        LogFormat::Json => {
            let builder = builder.json().flatten_event(true).with_current_span(false).with_filter_reloading();
            let handle = builder.reload_handle();
            loggers::begin(&level, Box::new(move |filter| drop(handle.reload(filter))));
            builder.try_init()
        }
        LogFormat::Text => {
            let builder = builder.fmt_fields(debug_fn(write_field).delimited(" "));
            let builder = builder.with_ansi(std::io::stderr().is_terminal()).with_filter_reloading();
            let handle = builder.reload_handle();
            loggers::begin(&level, Box::new(move |filter| drop(handle.reload(filter))));
            builder.try_init()
        }
    };
    done.map_err(|e| Failure::failed(format!("cannot set up logging: {e}")))
}

fn write_field(writer: &mut Writer<'_>, field: &Field, value: &dyn fmt::Debug) -> fmt::Result {
    if field.name() == BACKTRACE {
        return write!(writer, "{BACKTRACE}={value:?}");
    }
    let mut writer = OneLine(writer);
    match field.name() {
        "message" => write!(writer, "{value:?}"),
        name => write!(writer, "{name}={value:?}"),
    }
}

/// Escapes what must not be in a line.
struct OneLine<W>(W);

impl<W: Write> Write for OneLine<W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for part in text.split_inclusive(breaks) {
            let plain = part.trim_end_matches(breaks);
            self.0.write_str(plain)?;
            part[plain.len()..].chars().try_for_each(|c| write!(self.0, "{}", c.escape_default()))?;
        }
        Ok(())
    }
}

/// Control characters, line and paragraph separators, and those that change the direction of writing.
fn breaks(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn an_event_is_one_line_whatever_is_in_it() {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .fmt_fields(debug_fn(write_field).delimited(" "))
            .with_writer(move || writer.clone())
            .finish();
        let name = "x\r\nINFO\u{1b}[2J\u{202e}all is well\u{85}\u{2028}";
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(shown = %name, quoted = name, debugged = ?name, number = 7, "what {name} means");
            tracing::info!(plain = "caf\u{e9} \u{65e5}");
        });
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        let shown = r"x\r\nINFO\u{1b}[2J\u{202e}all is well\u{85}\u{2028}";
        let [first, second] = text.lines().collect::<Vec<_>>()[..] else { panic!("{text:?}") };
        assert!(
            first.contains(&format!(
                "what {shown} means shown={shown} quoted=\"{shown}\" debugged=\"{shown}\" number=7"
            )),
            "{first}"
        );
        assert!(second.ends_with("plain=\"caf\u{e9} \u{65e5}\""), "{second}");
        assert!(!text.contains(['\r', '\u{1b}', '\u{202e}', '\u{85}', '\u{2028}']), "{text:?}");
    }
}

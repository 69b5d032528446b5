//! SIGTERM and SIGINT end the broker in order; a second one ends it at once.

use std::io;
use std::sync::mpsc;

use corelane_cli::log_lines;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::shard::Event;

/// Exit status of a process that a user interrupted.
const INTERRUPTED: i32 = 130;

/// Turns the first signal into an event.
pub fn watch(events: mpsc::Sender<Event>) -> io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        let mut asked = false;
        for _ in signals.forever() {
            if asked || events.send(Event::StopAsked).is_err() {
                log_lines::end();
                std::process::exit(INTERRUPTED);
            }
            asked = true;
        }
    })?;
    Ok(())
}

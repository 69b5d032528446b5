//! The command line of Corelane.
//!
//! [`main`] parses the arguments and runs a command. Every command but `start` and the offline tools is a Kafka client
//! ([`client`]) and works against any Kafka broker. The broker itself is handed in as a function, so that this crate knows
//! nothing of it.

// This crate runs no shard: it blocks, and sleeps where it must wait.
#![allow(clippy::disallowed_methods)]

mod args;
mod banner;
mod bench;
pub mod client;
mod command;
mod exit;
mod identity;
pub mod log_lines;
pub mod loggers;
mod logging;
mod output;

pub use banner::{Banner, Ready, ReadyListener};
pub use exit::{Exit, Failure};

use args::{Cli, Command};
use clap::Parser;
use clap::error::ErrorKind;
use corelane_config::BrokerConfig;
use output::Output;
use std::process::ExitCode;

/// Runs the process: parses its arguments, does what they say, and gives the exit code.
///
/// `start` serves with a configuration that is checked, after logging has been set up and the checks without which a broker
/// cannot run have passed; it prints the banner when it serves, and returns when the broker has stopped.
pub fn main(start: impl FnOnce(BrokerConfig, Banner) -> Result<(), Failure>) -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => {
            // Help and version are no errors; a closed pipe is none either.
            let _ = e.print();
            let asked = matches!(e.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            return ExitCode::from(if asked { Exit::Ok as u8 } else { Exit::Usage as u8 });
        }
    };
    let mut out = Output::stdout(cli.options.json);
    let json = cli.options.json;
    let done = match cli.command {
        Command::Start(args) => {
            let done = command::start::run(&args, &mut out, start);
            log_lines::end();
            done
        }
        other => command::run(other, &cli.options, &mut out),
    };
    let done = done.and_then(|()| out.flush());
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // What was found out before the failure is still worth printing.
            let _ = out.flush();
            report(&failure, json);
            ExitCode::from(failure.exit as u8)
        }
    }
}

/// One line on standard error.
fn report(failure: &Failure, json: bool) {
    use std::io::Write;
    if failure.message.is_empty() {
        return;
    }
    let mut err = std::io::stderr();
    // Nowhere is left to complain if this fails.
    let _ = if json {
        writeln!(err, "{}", serde_json::json!({ "error": failure.message, "exit": failure.exit as u8 }))
    } else {
        writeln!(err, "corelane: {}", failure.message)
    };
}

//! The commands, one file each.

pub mod check;
pub mod cluster;
pub mod consume;
pub mod doctor;
pub mod dump_log;
pub mod group;
pub mod produce;
pub mod security;
pub mod start;
pub mod topic;

use crate::args::{Command, Global};
use crate::client::Cluster;
use crate::exit::Failure;
use crate::output::Output;
use signal_hook::consts::{SIGINT, SIGTERM};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Runs any command but `start`.
pub fn run(command: Command, options: &Global, out: &mut Output) -> Result<(), Failure> {
    match command {
        Command::Start(_) => Err(Failure::usage("start is not a client command")),
        Command::Topic(c) => topic::run(&c, options, out),
        Command::Produce(a) => produce::run(&a, options, out),
        Command::Consume(a) => consume::run(&a, options, out),
        Command::Group(c) => group::run(&c, options, out),
        Command::Cluster(c) => cluster::run(&c, options, out),
        Command::Security(c) => security::run(&c, options, out),
        Command::Bench(a) => crate::bench::run(&a, options, out),
        Command::DumpLog(a) => dump_log::run(&a, out),
        Command::Check(a) => check::run(&a, out),
        Command::Doctor(a) => doctor::run(&a, out),
    }
}

pub fn connect(options: &Global) -> Result<Cluster, Failure> {
    Ok(Cluster::connect(&options.bootstrap, options.dial()?)?)
}

/// Becomes true when the user (Ctrl-C) or the system asks to end. A second Ctrl-C ends the process at once.
pub fn interrupted() -> Result<Arc<AtomicBool>, Failure> {
    let flag = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, 130, flag.clone())?;
        signal_hook::flag::register(signal, flag.clone())?;
    }
    Ok(flag)
}

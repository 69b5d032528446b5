//! `corelane`: the broker and its command line.
#![deny(clippy::unwrap_used)]

mod audit_log;
mod broker;
mod compaction;
mod controller;
mod coordinator;
mod exit;
mod kafka;
mod node;
mod partition;
mod predecessor;
mod producer_ids;
mod quota;
mod retention;
mod router;
mod security;
mod settings;
mod shard;
mod signals;
mod space;
mod step;

use std::process::ExitCode;

use corelane_cli::{Exit, Failure};
use corelane_storage::DataDirError;

use crate::broker::BrokerError;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    corelane_cli::main(|config, banner| {
        exit::on_panic();
        // A kernel without the switch costs memory, not service.
        let _ = core_pinning::memory::huge_pages_where_asked();
        core_pinning::buf::keep_at_most((config.memory_bytes / 16) as usize);
        broker::run(config, banner).map_err(|error| {
            let exit = match &error {
                BrokerError::DataDir(DataDirError::Damaged { .. }) | BrokerError::Damaged(_) => Exit::Damaged,
                BrokerError::Listen { .. } | BrokerError::DataDir(_) => Exit::Refused,
                BrokerError::Start(_) | BrokerError::Shard(_) => Exit::Failed,
            };
            Failure::new(exit, error.to_string())
        })
    })
}

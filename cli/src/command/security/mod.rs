//! `corelane security`: what a secured broker is set up with.

mod acl;
mod certificates;
mod user;

use crate::args::Global;
use crate::exit::Failure;
use crate::output::Output;
use acl::AclCommand;
use certificates::{CaArgs, CertArgs};
use clap::Subcommand;
use user::UserCommand;

#[derive(Debug, Subcommand)]
pub enum SecurityCommand {
    Ca(CaArgs),
    Cert(CertArgs),
    /// Create, list and delete users who come by SCRAM
    #[command(subcommand)]
    User(UserCommand),
    /// Create, list and delete access rules
    #[command(subcommand)]
    Acl(AclCommand),
}

pub fn run(command: &SecurityCommand, options: &Global, out: &mut Output) -> Result<(), Failure> {
    match command {
        SecurityCommand::Ca(args) => certificates::ca(args, out),
        SecurityCommand::Cert(args) => certificates::cert(args, out),
        SecurityCommand::User(command) => user::run(command, options, out),
        SecurityCommand::Acl(command) => acl::run(command, options, out),
    }
}

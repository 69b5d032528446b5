//! `corelane security user`.

use crate::args::Global;
use crate::client::Cluster;
use crate::client::users::ScramUsers;
use crate::command::connect;
use crate::exit::{Exit, Failure};
use crate::identity::{password_in, text_of};
use crate::output::{Output, Table};
use clap::{Args, Subcommand};
use corelane_config::Password;
use corelane_sasl::Mechanism;
use corelane_sasl::scram::{Hash, ITERATIONS_MAX, ITERATIONS_MIN};
use serde_json::{Value, json};
use std::io::{IsTerminal, Read};
use std::num::NonZeroU32;
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub enum UserCommand {
    Add(AddArgs),
    /// List users
    List(ListArgs),
    /// Delete users
    Delete(DeleteArgs),
}

/// Make a user, or give one another password
///
/// The password is the one line of standard input, or of a file. It is salted and hashed here; the broker never sees it.
#[derive(Debug, Args)]
pub struct AddArgs {
    name: String,
    /// File of the password [default: standard input]
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// By which mechanism the user may come; repeatable [default: SCRAM-SHA-256 and SCRAM-SHA-512]
    #[arg(long, value_name = "MECHANISM", value_parser = mechanism)]
    mechanism: Vec<Hash>,
    /// How often the password is hashed: more makes guessing slower, and logging in, too
    #[arg(long, value_name = "N", default_value_t = ITERATIONS_MIN,
        value_parser = clap::value_parser!(u32).range(i64::from(ITERATIONS_MIN)..=i64::from(ITERATIONS_MAX)))]
    iterations: u32,
}

#[derive(Debug, Args)]
pub struct ListArgs {
    /// This one only
    name: Option<String>,
}

#[derive(Debug, Args)]
pub struct DeleteArgs {
    #[arg(required = true)]
    names: Vec<String>,
    /// Take away this mechanism only; repeatable [default: every one]
    #[arg(long, value_name = "MECHANISM", value_parser = mechanism)]
    mechanism: Vec<Hash>,
    /// No error for a user who does not exist
    #[arg(long)]
    if_exists: bool,
}

const HASHES: [Hash; 2] = [Hash::Sha256, Hash::Sha512];

fn mechanism(text: &str) -> Result<Hash, String> {
    let known = HASHES.into_iter().find(|hash| Mechanism::Scram(*hash).name().eq_ignore_ascii_case(text));
    known.ok_or_else(|| "allowed: SCRAM-SHA-256, SCRAM-SHA-512".to_owned())
}

pub fn run(command: &UserCommand, options: &Global, out: &mut Output) -> Result<(), Failure> {
    match command {
        UserCommand::Add(args) => {
            let password = new_password(args)?;
            add(args, &password, &mut connect(options)?, out)
        }
        UserCommand::List(args) => list(args, &mut connect(options)?, out),
        UserCommand::Delete(args) => {
            let mut cluster = connect(options)?;
            args.names.iter().try_for_each(|name| delete(name, args, &mut cluster, out))
        }
    }
}

fn new_password(args: &AddArgs) -> Result<Password, Failure> {
    if let Some(path) = &args.from {
        return password_in(&text_of(path)?);
    }
    let mut input = std::io::stdin();
    if input.is_terminal() {
        return Err(Failure::usage("a terminal would show the password: give it by a pipe, or by --from FILE"));
    }
    let mut text = String::new();
    input.read_to_string(&mut text)?;
    password_in(&text)
}

fn add(args: &AddArgs, password: &Password, cluster: &mut Cluster, out: &mut Output) -> Result<(), Failure> {
    let hashes = if args.mechanism.is_empty() { HASHES.as_slice() } else { &args.mechanism };
    let iterations = NonZeroU32::new(args.iterations).unwrap_or(NonZeroU32::MIN);
    cluster.set_scram_user(&args.name, password, hashes, iterations)?;
    tell(&args.name, "set", hashes, out)
}

fn list(args: &ListArgs, cluster: &mut Cluster, out: &mut Output) -> Result<(), Failure> {
    let users = cluster.scram_users(args.name.as_deref())?;
    if out.is_json() {
        return out.json(&json!({ "users": shown(&users) }));
    }
    let mut table = Table::new(&["user", "mechanism", ">iterations"]);
    for (user, credentials) in &users {
        for (hash, iterations) in credentials {
            table.row(vec![user.clone(), Mechanism::Scram(*hash).to_string(), iterations.to_string()]);
        }
    }
    if table.is_empty() { out.line("no users") } else { out.table(&table) }
}

fn shown(users: &ScramUsers) -> Vec<Value> {
    let credential = |(hash, iterations): &(Hash, i32)| json!({ "mechanism": Mechanism::Scram(*hash).name(), "iterations": iterations });
    let user = |(name, all): (&String, &Vec<(Hash, i32)>)| json!({ "name": name, "credentials": all.iter().map(credential).collect::<Vec<_>>() });
    users.iter().map(user).collect()
}

fn delete(name: &str, args: &DeleteArgs, cluster: &mut Cluster, out: &mut Output) -> Result<(), Failure> {
    let has = match cluster.scram_users(Some(name)).map_err(Failure::from) {
        Err(e) if args.if_exists && e.exit == Exit::NotFound => return tell(name, "did not exist", &[], out),
        other => other?.remove(name).unwrap_or_default(),
    };
    let hashes: Vec<Hash> = match args.mechanism.as_slice() {
        [] => has.into_iter().map(|(hash, _)| hash).collect(),
        some => some.to_vec(),
    };
    cluster.delete_scram_user(name, &hashes)?;
    tell(name, "deleted", &hashes, out)
}

fn tell(user: &str, result: &str, hashes: &[Hash], out: &mut Output) -> Result<(), Failure> {
    let names: Vec<&str> = hashes.iter().map(|hash| Mechanism::Scram(*hash).name()).collect();
    if out.is_json() {
        return out.json(&json!({ "user": user, "result": result, "mechanisms": names }));
    }
    let by = if names.is_empty() { String::new() } else { format!(": {}", names.join(", ")) };
    out.line(format!("user {user} {result}{by}"))
}

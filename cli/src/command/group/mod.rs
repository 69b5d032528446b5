//! `corelane group`: groups of every kind.

mod describe;
mod reset;

use super::connect;
use crate::args::Global;
use crate::client::Cluster;
use crate::client::groups::GroupKind;
use crate::exit::Failure;
use crate::output::{Output, Table};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

#[derive(Debug, Subcommand)]
pub enum GroupCommand {
    /// List groups: classic, consumer, share and streams
    List(ListArgs),
    /// Show members, offsets and lag
    Describe { name: String },
    /// Delete groups and their offsets
    Delete {
        #[arg(required = true)]
        names: Vec<String>,
    },
    /// Move the offsets of a group that has no members
    Reset(reset::ResetArgs),
}

#[derive(Debug, Args)]
pub struct ListArgs {
    /// Only groups of this kind; repeatable [default: every kind]
    #[arg(long = "type", value_name = "KIND")]
    kinds: Vec<GroupKind>,
}

pub fn run(command: &GroupCommand, options: &Global, out: &mut Output) -> Result<(), Failure> {
    let mut cluster = connect(options)?;
    match command {
        GroupCommand::List(args) => list(args, &mut cluster, out),
        GroupCommand::Describe { name } => describe::run(name, &mut cluster, out),
        GroupCommand::Delete { names } => names.iter().try_for_each(|name| {
            cluster.delete_group(name)?;
            if out.is_json() {
                return out.json(&json!({ "group": name, "result": "deleted" }));
            }
            out.line(format!("group {name} deleted"))
        }),
        GroupCommand::Reset(args) => reset::run(args, &mut cluster, out),
    }
}

fn list(args: &ListArgs, cluster: &mut Cluster, out: &mut Output) -> Result<(), Failure> {
    let is_wanted = |kind: &str| args.kinds.is_empty() || args.kinds.iter().any(|k| kind == k.name());
    let mut groups = cluster.groups()?;
    groups.retain(|(_, g)| is_wanted(&g.group_type));
    if out.is_json() {
        let all: Vec<Value> = groups
            .iter()
            .map(|(node, g)| {
                json!({
                    "name": &*g.group_id,
                    "state": &*g.group_state,
                    "type": &*g.group_type,
                    "protocol_type": &*g.protocol_type,
                    "coordinator": node,
                })
            })
            .collect();
        return out.json(&json!({ "groups": all }));
    }
    let mut table = Table::new(&["group", "state", "type", ">coordinator"]);
    for (node, g) in &groups {
        let kind = if g.group_type.is_empty() { &g.protocol_type } else { &g.group_type };
        table.row(vec![g.group_id.to_string(), g.group_state.to_string(), kind.to_string(), node.to_string()]);
    }
    if table.is_empty() { out.line("no groups") } else { out.table(&table) }
}

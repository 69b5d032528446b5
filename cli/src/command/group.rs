//! `corelane group`.

use super::connect;
use crate::args::Global;
use crate::client::group::decode_assignment;
use crate::client::{ClientError, Cluster};
use crate::exit::{Exit, Failure};
use crate::output::{Output, Table};
use clap::{Args, Subcommand};
use corelane_protocol::ErrorCode;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Subcommand)]
pub enum GroupCommand {
    /// List groups
    List,
    /// Show members, committed offsets and lag
    Describe { name: String },
    /// Delete groups and their offsets
    Delete {
        #[arg(required = true)]
        names: Vec<String>,
    },
    /// Move the committed offsets of a group that has no members
    Reset(ResetArgs),
}

#[derive(Debug, Args)]
pub struct ResetArgs {
    name: String,
    /// Topics to reset [default: every topic that the group has offsets of]
    #[arg(long, short, value_name = "TOPIC")]
    topic: Vec<String>,
    /// Where to: earliest, latest, an offset, or @MS for a time in ms since 1970
    #[arg(long, value_name = "WHERE")]
    to: String,
    /// Show only what would be committed
    #[arg(long)]
    dry_run: bool,
}

pub fn run(command: &GroupCommand, options: &Global, out: &mut Output) -> Result<(), Failure> {
    let mut cluster = connect(options)?;
    match command {
        GroupCommand::List => list(&mut cluster, out),
        GroupCommand::Describe { name } => describe(name, &mut cluster, out),
        GroupCommand::Delete { names } => names.iter().try_for_each(|name| {
            cluster.delete_group(name)?;
            if out.is_json() {
                return out.json(&json!({ "group": name, "result": "deleted" }));
            }
            out.line(format!("group {name} deleted"))
        }),
        GroupCommand::Reset(args) => reset(args, &mut cluster, out),
    }
}

fn list(cluster: &mut Cluster, out: &mut Output) -> Result<(), Failure> {
    let groups = cluster.groups()?;
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

/// One partition of a group.
struct Row {
    topic: String,
    partition: i32,
    committed: Option<i64>,
    end: Option<i64>,
    member: Option<String>,
}

impl Row {
    fn lag(&self) -> Option<i64> {
        Some((self.end? - self.committed?).max(0))
    }
}

fn describe(name: &str, cluster: &mut Cluster, out: &mut Output) -> Result<(), Failure> {
    let (node, group) = cluster.describe_group(name)?;
    let committed = cluster.committed(name)?;
    // Brokers of before 4.0 describe a group that does not exist as dead.
    if &*group.group_state == "Dead" && committed.is_empty() {
        return Err(Failure::new(Exit::NotFound, format!("group {name} does not exist")));
    }
    let mut owners: BTreeMap<(String, i32), String> = BTreeMap::new();
    for m in &group.members {
        for (topic, partitions) in decode_assignment(&m.member_assignment).unwrap_or_default() {
            owners.extend(partitions.into_iter().map(|p| ((topic.clone(), p), m.member_id.to_string())));
        }
    }
    let keys: BTreeSet<(String, i32)> = committed.keys().chain(owners.keys()).cloned().collect();
    let topics: BTreeSet<String> = keys.iter().map(|(t, _)| t.clone()).collect();
    let mut ends: BTreeMap<(String, i32), i64> = BTreeMap::new();
    for topic in topics {
        match cluster.offsets(&topic, None, -1) {
            Ok(found) => ends.extend(found.into_iter().map(|(p, (o, _))| ((topic.clone(), p), o))),
            Err(ClientError::NoSuchTopic(_)) => {}
            Err(e) => return Err(e.into()),
        }
    }
    let rows: Vec<Row> = keys
        .into_iter()
        .map(|key| Row {
            committed: committed.get(&key).map(|c| c.0),
            end: ends.get(&key).copied(),
            member: owners.get(&key).cloned(),
            topic: key.0,
            partition: key.1,
        })
        .collect();
    if out.is_json() {
        let offsets: Vec<Value> = rows
            .iter()
            .map(|r| {
                json!({
                    "topic": r.topic, "partition": r.partition, "committed": r.committed, "end": r.end,
                    "lag": r.lag(), "member": r.member,
                })
            })
            .collect();
        let members: Vec<Value> = group
            .members
            .iter()
            .map(|m| {
                json!({
                    "id": &*m.member_id, "instance": m.group_instance_id.as_deref(), "client": &*m.client_id,
                    "host": &*m.client_host,
                })
            })
            .collect();
        return out.json(&json!({
            "name": name, "state": &*group.group_state, "protocol_type": &*group.protocol_type,
            "assignor": &*group.protocol_data, "coordinator": node, "members": members, "offsets": offsets,
        }));
    }
    out.line(format!("group        {name}"))?;
    out.line(format!("state        {}", group.group_state))?;
    out.line(format!("assignor     {}", if group.protocol_data.is_empty() { "-" } else { &group.protocol_data }))?;
    out.line(format!("coordinator  {node}"))?;
    let mut table = Table::new(&["member", "client", "host", ">partitions"]);
    for m in &group.members {
        let count = owners.values().filter(|o| **o == *m.member_id).count();
        table.row(vec![m.member_id.to_string(), m.client_id.to_string(), m.client_host.to_string(), count.to_string()]);
    }
    if !table.is_empty() {
        out.line("")?;
        out.table(&table)?;
    }
    let mut table = Table::new(&["topic", ">partition", ">committed", ">end", ">lag", "member"]);
    let number = |n: Option<i64>| n.map_or_else(|| "-".to_owned(), |n| n.to_string());
    for r in &rows {
        table.row(vec![
            r.topic.clone(),
            r.partition.to_string(),
            number(r.committed),
            number(r.end),
            number(r.lag()),
            r.member.clone().unwrap_or_else(|| "-".to_owned()),
        ]);
    }
    if !table.is_empty() {
        out.line("")?;
        out.table(&table)?;
    }
    Ok(())
}

fn reset(args: &ResetArgs, cluster: &mut Cluster, out: &mut Output) -> Result<(), Failure> {
    let committed = cluster.committed(&args.name)?;
    let topics: BTreeSet<String> = if args.topic.is_empty() {
        committed.keys().map(|(t, _)| t.clone()).collect()
    } else {
        args.topic.iter().cloned().collect()
    };
    if topics.is_empty() {
        let message = format!("group {} has committed nothing: say which topics to reset with --topic", args.name);
        return Err(Failure::new(Exit::NotFound, message));
    }
    match cluster.describe_group(&args.name) {
        Ok((_, g)) if !g.members.is_empty() => {
            let message = format!("group {} has {} members: stop them first", args.name, g.members.len());
            return Err(Failure::new(Exit::Refused, message));
        }
        Ok(_) => {}
        // A group that does not exist yet gets its first offsets.
        Err(e) if e.code() == Some(ErrorCode::GroupIdNotFound) => {}
        Err(e) => return Err(e.into()),
    }
    let mut offsets: BTreeMap<(String, i32), i64> = BTreeMap::new();
    for topic in &topics {
        let earliest = cluster.offsets(topic, None, -2)?;
        let latest = cluster.offsets(topic, None, -1)?;
        let at: BTreeMap<i32, i64> = match args.to.as_str() {
            "earliest" | "beginning" => earliest.iter().map(|(p, o)| (*p, o.0)).collect(),
            "latest" | "end" => latest.iter().map(|(p, o)| (*p, o.0)).collect(),
            text => {
                let wrong = || Failure::usage(format!("--to {text}: allowed are earliest, latest, an offset, @MS"));
                match text.strip_prefix('@') {
                    Some(ms) => {
                        let times = cluster.offsets(topic, None, ms.parse().map_err(|_| wrong())?)?;
                        let end = |p: &i32| latest.get(p).map_or(0, |o| o.0);
                        times.iter().map(|(p, o)| (*p, if o.0 >= 0 { o.0 } else { end(p) })).collect()
                    }
                    None => {
                        let n: i64 = text.parse().map_err(|_| wrong())?;
                        let clamp = |p: &i32, end: i64| n.clamp(earliest.get(p).map_or(0, |o| o.0).min(end), end);
                        latest.iter().map(|(p, o)| (*p, clamp(p, o.0))).collect()
                    }
                }
            }
        };
        offsets.extend(at.into_iter().map(|(p, o)| ((topic.clone(), p), o)));
    }
    if !args.dry_run {
        cluster.commit(&args.name, (-1, ""), &offsets)?;
    }
    if out.is_json() {
        let all: Vec<Value> =
            offsets.iter().map(|((t, p), o)| json!({ "topic": t, "partition": p, "offset": o })).collect();
        return out.json(&json!({ "group": args.name, "committed": !args.dry_run, "offsets": all }));
    }
    let mut table = Table::new(&["topic", ">partition", ">before", ">now"]);
    for ((topic, p), o) in &offsets {
        let before = committed.get(&(topic.clone(), *p)).map_or_else(|| "-".to_owned(), |c| c.0.to_string());
        table.row(vec![topic.clone(), p.to_string(), before, o.to_string()]);
    }
    out.table(&table)
}

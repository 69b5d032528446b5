//! `corelane group reset`.

use crate::client::Cluster;
use crate::client::groups::GroupKind;
use crate::exit::{Exit, Failure};
use crate::output::{Output, Table};
use clap::Args;
use corelane_protocol::ErrorCode;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Args)]
pub struct ResetArgs {
    name: String,
    /// Topics to reset [default: every topic that the group has offsets of]
    #[arg(long, short, value_name = "TOPIC")]
    topic: Vec<String>,
    /// Where to: earliest, latest, an offset, or @MS for a time in ms since 1970
    #[arg(long, value_name = "WHERE")]
    to: String,
    /// Show only what would be set
    #[arg(long)]
    dry_run: bool,
}

pub fn run(args: &ResetArgs, cluster: &mut Cluster, out: &mut Output) -> Result<(), Failure> {
    let kind = match cluster.group(&args.name) {
        Ok(group) if !group.members.is_empty() => {
            let message = format!("group {} has {} members: stop them first", args.name, group.members.len());
            return Err(Failure::new(Exit::Refused, message));
        }
        Ok(group) => group.kind,
        // A group that does not exist yet gets its first offsets.
        Err(e) if e.code() == Some(ErrorCode::GroupIdNotFound) => GroupKind::Classic,
        Err(e) => return Err(e.into()),
    };
    let before: BTreeMap<(String, i32), Option<i64>> = match kind {
        GroupKind::Share => cluster.share_offsets(&args.name)?.into_iter().map(|(k, o)| (k, o.start)).collect(),
        _ => cluster.committed(&args.name)?.into_iter().map(|(k, (offset, _))| (k, Some(offset))).collect(),
    };
    let topics: BTreeSet<String> = if args.topic.is_empty() {
        before.keys().map(|(t, _)| t.clone()).collect()
    } else {
        args.topic.iter().cloned().collect()
    };
    if topics.is_empty() {
        let message = format!("group {} has no offsets: say which topics to reset with --topic", args.name);
        return Err(Failure::new(Exit::NotFound, message));
    }
    let mut offsets = BTreeMap::new();
    for topic in topics {
        let found = wanted(&topic, &args.to, cluster)?;
        offsets.extend(found.into_iter().map(|(p, o)| ((topic.clone(), p), o)));
    }
    if !args.dry_run {
        match kind {
            GroupKind::Share => cluster.alter_share_offsets(&args.name, &offsets)?,
            _ => cluster.commit(&args.name, (-1, ""), &offsets)?,
        }
    }
    if out.is_json() {
        let all: Vec<Value> =
            offsets.iter().map(|((t, p), o)| json!({ "topic": t, "partition": p, "offset": o })).collect();
        return out.json(&json!({ "group": args.name, "committed": !args.dry_run, "offsets": all }));
    }
    let mut table = Table::new(&["topic", ">partition", ">before", ">now"]);
    for ((topic, p), o) in &offsets {
        let before = before.get(&(topic.clone(), *p)).copied().flatten();
        let before = before.map_or_else(|| "-".to_owned(), |before| before.to_string());
        table.row(vec![topic.clone(), p.to_string(), before, o.to_string()]);
    }
    out.table(&table)
}

/// The offset of each partition that `to` means.
fn wanted(topic: &str, to: &str, cluster: &mut Cluster) -> Result<BTreeMap<i32, i64>, Failure> {
    let earliest = cluster.offsets(topic, None, -2)?;
    let latest = cluster.offsets(topic, None, -1)?;
    Ok(match to {
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
    })
}

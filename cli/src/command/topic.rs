//! `corelane topic`.

use super::connect;
use crate::args::{Global, pair};
use crate::client::{Cluster, TopicDescription};
use crate::exit::{Exit, Failure};
use crate::output::{Output, Table, grouped};
use clap::{Args, Subcommand};
use corelane_config::ConfigSource;
use corelane_config::units::format_size;
use serde_json::{Value, json};

#[derive(Debug, Subcommand)]
pub enum TopicCommand {
    /// Create a topic
    Create(CreateArgs),
    /// List topics
    List(ListArgs),
    /// Show partitions, leaders, offsets, sizes and configuration
    Describe(DescribeArgs),
    /// Change the configuration or raise the number of partitions
    Alter(AlterArgs),
    /// Delete topics
    Delete(DeleteArgs),
}

#[derive(Debug, Args)]
pub struct CreateArgs {
    name: String,
    /// Number of partitions [default: the broker's num.partitions]
    #[arg(long, short, value_name = "N", default_value_t = -1, hide_default_value = true)]
    partitions: i32,
    /// Replicas of each partition [default: the broker's default.replication.factor]
    #[arg(long, value_name = "N", default_value_t = -1, hide_default_value = true)]
    replication: i16,
    /// Set a topic property, such as retention.ms=3600000; repeatable [default: none]
    #[arg(long, short, value_name = "NAME=VALUE", value_parser = pair)]
    config: Vec<(String, String)>,
    /// No error if the topic exists
    #[arg(long)]
    if_missing: bool,
    /// Check only, create nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Args)]
pub struct ListArgs {
    /// Internal topics too, such as __consumer_offsets
    #[arg(long)]
    internal: bool,
}

#[derive(Debug, Args)]
pub struct DescribeArgs {
    #[arg(required = true)]
    names: Vec<String>,
    /// Every property, not only those that differ from the default
    #[arg(long)]
    all: bool,
}

#[derive(Debug, Args)]
pub struct AlterArgs {
    name: String,
    /// Set a property; repeatable [default: none]
    #[arg(long, short, value_name = "NAME=VALUE", value_parser = pair)]
    set: Vec<(String, String)>,
    /// Give a property its default again; repeatable [default: none]
    #[arg(long, short, value_name = "NAME")]
    unset: Vec<String>,
    /// Raise the number of partitions to this [default: as it is]
    #[arg(long, short, value_name = "N")]
    partitions: Option<i32>,
}

#[derive(Debug, Args)]
pub struct DeleteArgs {
    #[arg(required = true)]
    names: Vec<String>,
    /// No error for a topic that does not exist
    #[arg(long)]
    if_exists: bool,
}

pub fn run(command: &TopicCommand, options: &Global, out: &mut Output) -> Result<(), Failure> {
    let mut cluster = connect(options)?;
    match command {
        TopicCommand::Create(a) => create(a, &mut cluster, out),
        TopicCommand::List(a) => list(a, &mut cluster, out),
        TopicCommand::Describe(a) => a.names.iter().try_for_each(|n| describe(n, a.all, &mut cluster, out)),
        TopicCommand::Alter(a) => alter(a, &mut cluster, out),
        TopicCommand::Delete(a) => delete(a, &mut cluster, out),
    }
}

fn create(args: &CreateArgs, cluster: &mut Cluster, out: &mut Output) -> Result<(), Failure> {
    let topic = TopicDescription {
        name: args.name.clone(),
        partitions: args.partitions,
        replication: args.replication,
        configs: args.config.clone(),
    };
    let created = match cluster.create_topic(&topic, args.dry_run).map_err(Failure::from) {
        Err(e) if args.if_missing && e.exit == Exit::Exists => None,
        other => Some(other?),
    };
    let verb = match (&created, args.dry_run) {
        (None, _) => "exists",
        (_, true) => "could be created",
        _ => "created",
    };
    let partitions = created.flatten();
    if out.is_json() {
        return out.json(&json!({ "topic": args.name, "result": verb, "partitions": partitions }));
    }
    let count =
        partitions.map_or_else(String::new, |n| format!(" with {n} partition{}", if n == 1 { "" } else { "s" }));
    out.line(format!("topic {} {verb}{count}", args.name))
}

fn list(args: &ListArgs, cluster: &mut Cluster, out: &mut Output) -> Result<(), Failure> {
    let m = cluster.metadata(None, false)?;
    let mut topics: Vec<_> = m.topics.iter().filter(|t| args.internal || !t.is_internal).collect();
    topics.sort_by(|a, b| a.name.cmp(&b.name));
    let name = |t: &corelane_protocol::messages::MetadataResponseTopic| t.name.as_deref().unwrap_or("").to_owned();
    let replicas = |t: &corelane_protocol::messages::MetadataResponseTopic| {
        t.partitions.first().map_or(0, |p| p.replica_nodes.len())
    };
    if out.is_json() {
        let all: Vec<Value> = topics
            .iter()
            .map(|t| {
                json!({
                    "name": name(t),
                    "id": t.topic_id.to_string(),
                    "partitions": t.partitions.len(),
                    "replication": replicas(t),
                    "internal": t.is_internal,
                })
            })
            .collect();
        return out.json(&json!({ "topics": all }));
    }
    let mut table = Table::new(&["topic", ">partitions", ">replication"]);
    for t in topics {
        table.row(vec![name(t), t.partitions.len().to_string(), replicas(t).to_string()]);
    }
    if table.is_empty() { out.line("no topics") } else { out.table(&table) }
}

fn describe(name: &str, all: bool, cluster: &mut Cluster, out: &mut Output) -> Result<(), Failure> {
    let topic = cluster.topic(name)?;
    let configs = cluster.topic_configs(name)?;
    let earliest = cluster.offsets(name, None, -2)?;
    let latest = cluster.offsets(name, None, -1)?;
    let sizes = cluster.sizes(name)?;
    let offset = |of: &std::collections::BTreeMap<i32, (i64, i64)>, p: i32| of.get(&p).map(|o| o.0);
    let changed = |source: i8| source != ConfigSource::Default as i8;
    let shown = configs.iter().filter(|c| all || changed(c.config_source));
    if out.is_json() {
        let partitions: Vec<Value> = topic
            .partitions
            .iter()
            .map(|p| {
                json!({
                    "partition": p.index,
                    "leader": p.leader,
                    "leader_epoch": p.leader_epoch,
                    "replicas": p.replicas,
                    "in_sync": p.in_sync,
                    "log_start_offset": offset(&earliest, p.index),
                    "high_watermark": offset(&latest, p.index),
                    "bytes": sizes.get(&p.index),
                })
            })
            .collect();
        let configs: Vec<Value> = shown
            .map(|c| json!({ "name": &*c.name, "value": c.value.as_deref(), "source": source_name(c.config_source) }))
            .collect();
        return out.json(&json!({
            "name": name,
            "id": topic.id.to_string(),
            "internal": topic.is_internal,
            "partitions": partitions,
            "configs": configs,
        }));
    }
    let bytes: i64 = sizes.values().sum();
    let records: i64 =
        latest.iter().map(|(p, (end, _))| end - offset(&earliest, *p).unwrap_or_default()).filter(|n| *n > 0).sum();
    out.line(format!("topic       {name}{}", if topic.is_internal { " (internal)" } else { "" }))?;
    out.line(format!("id          {}", topic.id))?;
    out.line(format!("offsets     {} in {} partitions", grouped(records.unsigned_abs()), topic.partitions.len()))?;
    out.line(format!("on disk     {}", format_size(bytes.unsigned_abs())))?;
    out.line("")?;
    let mut table = Table::new(&[">partition", ">leader", ">epoch", "replicas", "in sync", ">start", ">end", ">size"]);
    let ids = |all: &[i32]| all.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let number = |n: Option<i64>| n.map_or_else(|| "-".to_owned(), |n| n.to_string());
    for p in &topic.partitions {
        table.row(vec![
            p.index.to_string(),
            number(p.leader.map(i64::from)),
            p.leader_epoch.to_string(),
            ids(&p.replicas),
            ids(&p.in_sync),
            number(offset(&earliest, p.index)),
            number(offset(&latest, p.index)),
            sizes.get(&p.index).map_or_else(|| "-".to_owned(), |n| format_size(n.unsigned_abs())),
        ]);
    }
    out.table(&table)?;
    let mut table = Table::new(&["property", "value", "from"]);
    for c in shown {
        let value = if c.is_sensitive { "(hidden)" } else { c.value.as_deref().unwrap_or("null") };
        table.row(vec![c.name.to_string(), value.to_owned(), source_name(c.config_source).to_owned()]);
    }
    if !table.is_empty() {
        out.line("")?;
        out.table(&table)?;
    }
    Ok(())
}

/// Kafka's config sources in words.
fn source_name(code: i8) -> &'static str {
    match code {
        1 => "topic",
        2 => "broker (dynamic)",
        3 => "all brokers (dynamic)",
        4 => "broker",
        5 => "default",
        _ => "unknown",
    }
}

fn alter(args: &AlterArgs, cluster: &mut Cluster, out: &mut Output) -> Result<(), Failure> {
    let set = args.set.iter().map(|(n, v)| (n.clone(), Some(v.clone())));
    let changes: Vec<_> = set.chain(args.unset.iter().map(|n| (n.clone(), None))).collect();
    if changes.is_empty() && args.partitions.is_none() {
        return Err(Failure::usage("nothing to change: give --set, --unset or --partitions"));
    }
    if !changes.is_empty() {
        cluster.alter_topic(&args.name, &changes)?;
    }
    if let Some(count) = args.partitions {
        cluster.create_partitions(&args.name, count)?;
    }
    if out.is_json() {
        return out.json(&json!({ "topic": args.name, "result": "altered" }));
    }
    out.line(format!("topic {} altered", args.name))
}

fn delete(args: &DeleteArgs, cluster: &mut Cluster, out: &mut Output) -> Result<(), Failure> {
    for name in &args.names {
        let result = match cluster.delete_topic(name).map_err(Failure::from) {
            Err(e) if args.if_exists && e.exit == Exit::NotFound => "did not exist",
            Err(e) => return Err(e),
            Ok(()) => "deleted",
        };
        if out.is_json() {
            out.json(&json!({ "topic": name, "result": result }))?;
        } else {
            out.line(format!("topic {name} {result}"))?;
        }
    }
    Ok(())
}

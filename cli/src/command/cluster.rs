//! `corelane cluster`.

use super::connect;
use crate::args::Global;
use crate::exit::Failure;
use crate::output::{Output, Table};
use clap::Subcommand;
use serde_json::json;

#[derive(Debug, Subcommand)]
pub enum ClusterCommand {
    /// Brokers, topics and partitions
    Info,
}

pub fn run(command: &ClusterCommand, options: &Global, out: &mut Output) -> Result<(), Failure> {
    let ClusterCommand::Info = command;
    let mut cluster = connect(options)?;
    let m = cluster.metadata(None, false)?;
    let led = |id: i32| m.topics.iter().flat_map(|t| &t.partitions).filter(|p| p.leader_id == id).count();
    let partitions: usize = m.topics.iter().map(|t| t.partitions.len()).sum();
    let leaderless = m.topics.iter().flat_map(|t| &t.partitions).filter(|p| p.leader_id < 0).count();
    if out.is_json() {
        let brokers: Vec<_> = m
            .brokers
            .iter()
            .map(|b| {
                json!({ "id": b.node_id, "host": &*b.host, "port": b.port, "rack": b.rack.as_deref(), "leads": led(b.node_id) })
            })
            .collect();
        return out.json(&json!({
            "cluster_id": m.cluster_id.as_deref(),
            "controller": m.controller_id,
            "brokers": brokers,
            "topics": m.topics.len(),
            "partitions": partitions,
            "leaderless": leaderless,
        }));
    }
    out.line(format!("cluster     {}", m.cluster_id.as_deref().unwrap_or("unknown")))?;
    out.line(format!("controller  {}", m.controller_id))?;
    out.line(format!("topics      {} with {partitions} partitions, {leaderless} without a leader", m.topics.len()))?;
    out.line("")?;
    let mut table = Table::new(&[">broker", "address", "rack", ">leads"]);
    let mut brokers: Vec<_> = m.brokers.iter().collect();
    brokers.sort_by_key(|b| b.node_id);
    for b in brokers {
        let rack = b.rack.as_deref().unwrap_or("-").to_owned();
        table.row(vec![b.node_id.to_string(), format!("{}:{}", b.host, b.port), rack, led(b.node_id).to_string()]);
    }
    out.table(&table)
}

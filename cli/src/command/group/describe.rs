//! `corelane group describe`.

use crate::client::groups::{GroupDescription, GroupKind, MemberDescription, Tasks};
use crate::client::{ClientError, Cluster};
use crate::exit::{Exit, Failure};
use crate::output::{Output, Table};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// One partition of a group.
struct Row {
    topic: String,
    partition: i32,
    /// What is committed, or where a share group starts.
    at: Option<i64>,
    end: Option<i64>,
    lag: Option<i64>,
    /// Who reads it: in a share group there may be several.
    members: Vec<String>,
}

pub fn run(name: &str, cluster: &mut Cluster, out: &mut Output) -> Result<(), Failure> {
    let group = cluster.group(name)?;
    let rows = rows(name, &group, cluster)?;
    // Brokers of before 4.0 describe a group that does not exist as dead.
    if group.state == "Dead" && rows.is_empty() {
        return Err(Failure::new(Exit::NotFound, format!("group {name} does not exist")));
    }
    if out.is_json() {
        return out.json(&document(name, &group, &rows));
    }
    header(name, &group, out)?;
    for table in [members(&group), offsets(&group, &rows)] {
        if !table.is_empty() {
            out.line("")?;
            out.table(&table)?;
        }
    }
    Ok(())
}

/// Partitions that the group has offsets of or members for, and how far behind it is.
fn rows(name: &str, group: &GroupDescription, cluster: &mut Cluster) -> Result<Vec<Row>, Failure> {
    type At = (Option<i64>, Option<i64>);
    let at: BTreeMap<(String, i32), At> = match group.kind {
        GroupKind::Share => cluster.share_offsets(name)?.into_iter().map(|(k, o)| (k, (o.start, o.lag))).collect(),
        _ => cluster.committed(name)?.into_iter().map(|(key, (offset, _))| (key, (Some(offset), None))).collect(),
    };
    let mut readers: BTreeMap<(String, i32), Vec<String>> = BTreeMap::new();
    for member in &group.members {
        for (topic, p) in member.assigned.iter().flat_map(|(t, all)| all.iter().map(move |p| (t, *p))) {
            readers.entry((topic.clone(), p)).or_default().push(member.id.clone());
        }
    }
    let keys: BTreeSet<(String, i32)> = at.keys().chain(readers.keys()).cloned().collect();
    let topics: BTreeSet<&String> = keys.iter().map(|(t, _)| t).collect();
    let mut ends: BTreeMap<(String, i32), i64> = BTreeMap::new();
    for topic in topics {
        match cluster.offsets(topic, None, -1) {
            Ok(found) => ends.extend(found.into_iter().map(|(p, (o, _))| ((topic.clone(), p), o))),
            Err(ClientError::NoSuchTopic(_)) => {}
            Err(e) => return Err(e.into()),
        }
    }
    let row = |key: (String, i32)| {
        let (offset, told) = at.get(&key).copied().unwrap_or_default();
        let end = ends.get(&key).copied();
        let behind = end.zip(offset).map(|(end, offset)| (end - offset).max(0));
        // What lies between start and end of a share group may be done with: only the broker knows.
        let lag = if group.kind == GroupKind::Share { told } else { behind };
        let members = readers.remove(&key).unwrap_or_default();
        Row { at: offset, end, lag, members, topic: key.0, partition: key.1 }
    };
    Ok(keys.into_iter().map(row).collect())
}

fn document(name: &str, group: &GroupDescription, rows: &[Row]) -> Value {
    let is_shared = group.kind == GroupKind::Share;
    let offset = |r: &Row| {
        let mut value = json!({ "topic": r.topic, "partition": r.partition, "end": r.end, "lag": r.lag });
        if is_shared {
            (value["start"], value["members"]) = (json!(r.at), json!(r.members));
        } else {
            (value["committed"], value["member"]) = (json!(r.at), json!(r.members.first()));
        }
        value
    };
    let member = |m: &MemberDescription| {
        let mut value = json!({
            "id": m.id, "instance": m.instance, "client": m.client, "host": m.host, "epoch": m.epoch,
            "assigned": m.assigned,
        });
        if let Some(Tasks { active, standby, warmup }) = &m.tasks {
            value["tasks"] = json!({ "active": active, "standby": standby, "warmup": warmup });
        }
        value
    };
    json!({
        "name": name, "type": group.kind.name(), "state": group.state, "protocol_type": group.protocol_type,
        "assignor": group.assignor, "epoch": group.epoch, "coordinator": group.coordinator,
        "members": group.members.iter().map(member).collect::<Vec<_>>(),
        "offsets": rows.iter().map(offset).collect::<Vec<_>>(),
    })
}

fn header(name: &str, group: &GroupDescription, out: &mut Output) -> Result<(), Failure> {
    out.line(format!("group        {name}"))?;
    out.line(format!("type         {}", group.kind.name()))?;
    out.line(format!("state        {}", group.state))?;
    if group.kind != GroupKind::Streams {
        out.line(format!("assignor     {}", if group.assignor.is_empty() { "-" } else { &group.assignor }))?;
    }
    if let Some(epoch) = group.epoch {
        out.line(format!("epoch        {epoch}"))?;
    }
    out.line(format!("coordinator  {}", group.coordinator))
}

fn members(group: &GroupDescription) -> Table {
    let is_streams = group.kind == GroupKind::Streams;
    let held: &[&str] = if is_streams { &["active", "standby", "warmup"] } else { &[">partitions"] };
    let mut table = Table::new(&[&["member", "client", "host"], held].concat());
    for m in &group.members {
        let mut cells = vec![m.id.clone(), m.client.clone(), m.host.clone()];
        match &m.tasks {
            Some(tasks) => cells.extend([&tasks.active, &tasks.standby, &tasks.warmup].map(|t| text(t))),
            None => cells.push(m.assigned.values().map(Vec::len).sum::<usize>().to_string()),
        }
        table.row(cells);
    }
    table
}

fn offsets(group: &GroupDescription, rows: &[Row]) -> Table {
    let is_shared = group.kind == GroupKind::Share;
    let at = if is_shared { ">start" } else { ">committed" };
    let mut table =
        Table::new(&["topic", ">partition", at, ">end", ">lag", if is_shared { "members" } else { "member" }]);
    let number = |n: Option<i64>| n.map_or_else(|| "-".to_owned(), |n| n.to_string());
    for r in rows {
        let numbers = [r.at, r.end, r.lag].map(number);
        let mut cells = vec![r.topic.clone(), r.partition.to_string()];
        cells.extend(numbers);
        cells.push(text(&r.members));
        table.row(cells);
    }
    table
}

fn text(words: &[String]) -> String {
    if words.is_empty() { "-".to_owned() } else { words.join(" ") }
}

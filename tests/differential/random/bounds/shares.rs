//! Share groups: what they fetch, and what is stored of them.

use super::led_by_none;
use crate::random::edit::{at_least, each_field, int, once};
use crate::value::Expr;
use corelane_protocol::ApiKey;

pub fn bound(api: ApiKey, name: &str, value: Expr) -> Expr {
    match (api, name) {
        // of a partition that is named twice no session begins in Apache Kafka (`SharePartitionManager.newContext`)
        (ApiKey::ShareFetch, "topics") => each_field(once(value, "topic_id"), &|name, value| match name {
            "partitions" => once(value, "partition_index"),
            _ => value,
        }),
        // ranges that hold nothing, and some that begin before what was fetched (`SharePartition.createBatches`)
        (ApiKey::ShareFetch, "batch_size") => at_least(1, value),
        // long enough to read what the group has stored
        (ApiKey::ShareFetch, "max_wait_ms") => int(300),
        // what leaders know of is in either 0 or 1
        (ApiKey::ReadShareGroupState, "topics") => led_by_none(value, 2),
        (ApiKey::WriteShareGroupState, "topics") => led_by_none(begun(value), 2),
        (ApiKey::InitializeShareGroupState, "topics") => begun(value),
        // a group with a partition below zero Apache Kafka does not delete at once (share_groups.txt)
        (ApiKey::AlterShareGroupOffsets, "topics") => each_field(begun(value), &|name, value| match name {
            "partition_index" => at_least(0, value),
            _ => value,
        }),
        _ => value,
    }
}

/// Share groups that begin where a log may: Apache Kafka lends nothing by the fetch that finds out where it does (share_fetch.txt).
fn begun(topics: Expr) -> Expr {
    each_field(topics, &|name, value| if name == "start_offset" { at_least(-1, value) } else { value })
}

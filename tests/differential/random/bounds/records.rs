//! Records: writing and reading them, and asking for offsets.

use super::{led_by_none, unknown_producer};
use crate::random::edit::{each_field, int, once};
use crate::value::Expr;
use corelane_protocol::{ApiKey, Tree};

pub fn bound(api: ApiKey, name: &str, value: Expr) -> Expr {
    match (api, name) {
        (ApiKey::Fetch, "max_wait_ms") => int(20),
        // small numbers may be those of sessions
        (ApiKey::Fetch, "session_id") => match value {
            Expr::Literal(Tree::Int(0)) => value,
            _ => int(1_999_999_937),
        },
        // an epoch that is given is one of the two only
        (ApiKey::OffsetForLeaderEpoch, "topics") => led_by_none(value, 101),
        (ApiKey::Fetch | ApiKey::ListOffsets, "topics") => each_field(value, &|name, value| match (name, &value) {
            ("current_leader_epoch" | "last_fetched_epoch", Expr::Literal(Tree::Int(0..=100))) => int(-1),
            _ => value,
        }),
        // of a partition that is written twice Apache Kafka loses the first batch (KafkaApis.handleProduceRequest has a map)
        (ApiKey::Produce, "topic_data") => {
            each_field(once(once(value, "name"), "topic_id"), &|name, value| match name {
                "partition_data" => once(value, "index"),
                "pid" => unknown_producer(value),
                _ => value,
            })
        }
        _ => value,
    }
}

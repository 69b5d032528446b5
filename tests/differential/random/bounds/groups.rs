//! Groups of consumers, and of Kafka Streams: heartbeats, and what a member of the classic protocol says.

use crate::random::edit::{each_field, field, int, once, text};
use crate::value::Expr;
use corelane_protocol::{ApiKey, Tree};

pub fn bound(api: ApiKey, name: &str, value: Expr) -> Expr {
    match (api, name) {
        (ApiKey::JoinGroup, "session_timeout_ms" | "rebalance_timeout_ms") => int(1_800_000),
        // Kafka fails where a group with one has no topics (accepted.txt), and has no group then.
        (ApiKey::StreamsGroupHeartbeat, "user_endpoint") => Expr::Literal(Tree::Null),
        // nobody is late with what it is to give up
        (ApiKey::ConsumerGroupHeartbeat | ApiKey::StreamsGroupHeartbeat, "rebalance_timeout_ms") => match value {
            Expr::Literal(Tree::Int(1..60_000)) => int(60_000),
            _ => value,
        },
        // Apache Kafka never answers a member that names a protocol twice
        (ApiKey::JoinGroup, "protocols") => once(
            each_field(value, &|name, value| match (name, value) {
                // (see `concat` in Series::own)
                ("metadata", Expr::Text(said)) if said.len() > 5 => text("x"),
                ("metadata", Expr::Literal(Tree::Bytes(bytes))) if reads_too_far(&bytes) => text("x"),
                (_, value) => value,
            }),
            "name",
        ),
        _ => value,
    }
}

/// All that join a group by heartbeats are one member: of two the order of Apache Kafka's hash tables decides who has what
/// (`ProcessState.membersByLoad`, of a streams group's). It has one instance id: with another one it would have both
/// (`ConsumerGroup.updateStaticMember`).
pub fn one_member(api: ApiKey, body: Expr) -> Expr {
    let joins = matches!(field(&body, "member_epoch"), None | Some(Expr::Literal(Tree::Int(0))));
    let Expr::Struct(mut fields) = body else { return body };
    for (name, value) in fields.iter_mut().filter(|_| joins) {
        let named = matches!(value, Expr::Text(name) if !name.is_empty());
        match (api, name.as_str()) {
            (ApiKey::ConsumerGroupHeartbeat, "member_id") => *value = text("m"),
            (ApiKey::ShareGroupHeartbeat | ApiKey::StreamsGroupHeartbeat, "member_id") if named => *value = text("m"),
            (ApiKey::ConsumerGroupHeartbeat, "instance_id") if named => *value = text("i"),
            _ => {}
        }
    }
    Expr::Struct(fields)
}

/// Whether one of a subscription's topics says that it is longer than what is left.
fn reads_too_far(subscription: &[u8]) -> bool {
    let Some((count, mut rest)) = subscription.get(2..).and_then(|after| after.split_first_chunk()) else {
        return false;
    };
    for _ in 0..i32::from_be_bytes(*count) {
        let Some((length, topic)) = rest.split_first_chunk() else { return false };
        let after = usize::try_from(i16::from_be_bytes(*length)).ok().and_then(|length| topic.get(length..));
        let Some(after) = after else { return true };
        rest = after;
    }
    false
}

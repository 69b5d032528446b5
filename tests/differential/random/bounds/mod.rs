//! What a random request may not have: no request waits long, none is answered by nobody, and none asks for what the two
//! brokers do at times of their own. Each family of APIs has its reasons.

mod groups;
mod metadata;
mod records;
mod shares;
mod transactions;

use super::edit::{each_field, given, int};
use crate::value::Expr;
use corelane_protocol::{ApiKey, Tree};

/// A field of a request's body as it may be.
type Bound = fn(ApiKey, &str, Expr) -> Expr;

const FAMILIES: [Bound; 5] = [groups::bound, metadata::bound, records::bound, shares::bound, transactions::bound];

pub fn bounded(api: ApiKey, body: Expr) -> Expr {
    let body = groups::one_member(api, metadata::validated(api, body));
    let Expr::Struct(fields) = body else { return body };
    let bound = |(name, value): (String, Expr)| {
        let value = FAMILIES.iter().fold(value, |value, bound| bound(api, &name, value));
        (name, value)
    };
    Expr::Struct(fields.into_iter().map(bound).collect())
}

/// Of the partitions' leader epochs none that stands `below` this, and may be one.
fn led_by_none(value: Expr, below: i64) -> Expr {
    each_field(value, &|name, value| match (name, value) {
        ("leader_epoch" | "current_leader_epoch", Expr::Literal(Tree::Int(epoch))) if (0..below).contains(&epoch) => {
            int(-1)
        }
        ("partitions", list) => given(list, "leader_epoch", -1),
        (_, value) => value,
    })
}

/// None that a broker has given out: they count up, and do not get so far.
fn unknown_producer(value: Expr) -> Expr {
    match value {
        Expr::Literal(Tree::Int(id @ 0..1_000_000)) => int(id + 1_000_000),
        other => other,
    }
}

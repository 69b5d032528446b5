//! Transactions: producers are those of the series of their own (transactions.rs), and here there are none.

use super::unknown_producer;
use crate::random::edit::{at_least, each_field, given, int, replaced, the_first};
use crate::value::Expr;
use corelane_protocol::{ApiKey, Tree};

pub fn bound(api: ApiKey, name: &str, value: Expr) -> Expr {
    match (api, name) {
        // what takes longer than a short while is not the same in both
        (ApiKey::ListTransactions, "duration_filter") => match value {
            Expr::Literal(Tree::Int(1..1_000_000_000)) => int(1_000_000_000),
            _ => value,
        },
        // a number that is given is a producer of one of the two only
        (ApiKey::ListTransactions, "producer_id_filters") => replaced(value, i64::from(i32::MAX)),
        (_, "producer_id" | "v3_and_below_producer_id") => unknown_producer(value),
        (ApiKey::AddPartitionsToTxn, "transactions") => each_field(value, &|name, value| match name {
            "producer_id" => unknown_producer(value),
            _ => value,
        }),
        // of two on one partition it depends on the millisecond which has the largest timestamp (ListOffsets)
        (ApiKey::WriteTxnMarkers, "markers") => {
            each_field(given(the_first(value), "coordinator_epoch", 3), &|name, value| match name {
                // (an id below zero is refused here, and written there)
                "producer_id" => unknown_producer(at_least(0, value)),
                // Apache Kafka stops at such a marker, when those before it are written
                "producer_epoch" => at_least(0, value),
                // the first coordinator's is 0 there, and 1 here
                "coordinator_epoch" => match value {
                    Expr::Literal(Tree::Int(0..=2)) => int(3),
                    _ => value,
                },
                _ => value,
            })
        }
        _ => value,
    }
}

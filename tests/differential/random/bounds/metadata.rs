//! What the controller decides: topics, configurations, features, quotas and access rules.

use crate::random::edit::{each_field, field, int};
use crate::value::{Expr, show};
use corelane_protocol::{ApiKey, Tree};
use std::collections::BTreeSet;

pub fn bound(api: ApiKey, name: &str, value: Expr) -> Expr {
    match (api, name) {
        // a limit that is set runs out now and then, in either broker, unless it is over from the beginning
        (
            ApiKey::CreateTopics
            | ApiKey::CreatePartitions
            | ApiKey::DeleteTopics
            | ApiKey::ElectLeaders
            | ApiKey::AlterPartitionReassignments,
            "timeout_ms",
        ) if matches!(value, Expr::Literal(Tree::Int(..=0))) => value,
        (_, "timeout_ms") => int(30_000),
        // Tiered storage is refused here with a reason: what is made in one of the two only is another difference in all that
        // follows. Apache Kafka's sum overflows (ReplicationControlManager.validateTotalNumberOfPartitions)
        (ApiKey::CreateTopics, "topics") => {
            each_field(without_config(value, "local.retention.ms"), &|name, value| match (name, &value) {
                // Apache Kafka makes a thousand in many seconds
                ("num_partitions", Expr::Literal(Tree::Int(101..10_000))) => int(100),
                ("num_partitions", Expr::Literal(Tree::Int(20_000..))) => int(20_000),
                _ => value,
            })
        }
        // it stands still after more than it makes at once (topics.txt)
        (ApiKey::CreatePartitions, "topics") => each_field(value, &|name, value| match (name, &value) {
            ("count", Expr::Literal(Tree::Int(101..))) => int(100),
            _ => value,
        }),
        // for a code that only filters have Apache Kafka makes none of the others either
        (ApiKey::CreateAcls, "creations") => match value {
            Expr::List(mut list) if list.len() > 1 => {
                list.retain(|one| !is_filter(one));
                Expr::List(list)
            }
            other => other,
        },
        // a resource named twice is never answered by Apache Kafka (AlterConfigsResponse.errors), and all types that there are not
        // are one to it
        (ApiKey::AlterConfigs, "resources") => match value {
            Expr::List(mut list) => {
                let mut seen = BTreeSet::new();
                list.retain(|one| {
                    let kind = match field(one, "resource_type") {
                        Some(Expr::Literal(Tree::Int(kind @ (2 | 4 | 8 | 16 | 32)))) => *kind,
                        _ => 0,
                    };
                    seen.insert((kind, field(one, "resource_name").map_or("\"\"".to_owned(), show)))
                });
                Expr::List(list)
            }
            other => other,
        },
        _ => value,
    }
}

/// What the whole cluster has is that of all series: these are told what would be.
pub fn validated(api: ApiKey, body: Expr) -> Expr {
    let of_broker = |resource: &Expr| matches!(field(resource, "resource_type"), Some(Expr::Literal(Tree::Int(4))));
    let of_cluster = match field(&body, "resources") {
        Some(Expr::List(list)) => list.iter().any(of_broker),
        _ => matches!(api, ApiKey::UpdateFeatures | ApiKey::AlterClientQuotas),
    };
    let alters = matches!(
        api,
        ApiKey::UpdateFeatures | ApiKey::AlterClientQuotas | ApiKey::AlterConfigs | ApiKey::IncrementalAlterConfigs
    );
    match body {
        Expr::Struct(mut fields) if of_cluster && alters => {
            fields.retain(|(name, _)| name != "validate_only");
            fields.push(("validate_only".to_owned(), Expr::Literal(Tree::Bool(true))));
            Expr::Struct(fields)
        }
        other => other,
    }
}

/// Whether a rule has a code that stands for many; what is missing is an unknown one.
fn is_filter(rule: &Expr) -> bool {
    let code = |name, codes: &[i64]| match field(rule, name) {
        Some(Expr::Literal(Tree::Int(code))) => codes.contains(code),
        _ => false,
    };
    code("resource_type", &[1])
        || code("resource_pattern_type", &[1, 2])
        || code("operation", &[1])
        || code("permission_type", &[1])
}

/// Topics without this one of their properties.
fn without_config(topics: Expr, config: &str) -> Expr {
    each_field(topics, &|name, value| match (name, value) {
        ("configs", Expr::List(mut list)) => {
            list.retain(|one| field(one, "name") != Some(&Expr::Text(config.into())));
            Expr::List(list)
        }
        (_, value) => value,
    })
}

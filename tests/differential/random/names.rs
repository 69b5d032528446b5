//! Whose a name is: what a series makes is its own, and not found by the next.

use super::change::TEXTS;
use super::edit::{each_field, field, once, text};
use crate::value::Expr;
use corelane_protocol::{ApiKey, Tree};

/// A valid name without a part that depends on the version.
pub fn is_plain(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') && !name.starts_with("__")
}

/// Names that are put in place of others become those of one series: what it makes under them is not found by the next.
pub fn own_names(seed: u64, api: ApiKey, body: Expr) -> Expr {
    let own = |value: Expr| match value {
        Expr::Text(text) if TEXTS.contains(&text.as_str()) && !matches!(text.as_str(), "" | "..") => {
            Expr::Text(format!("r{seed}-{text}"))
        }
        other => other,
    };
    let element = |kind: &str, element: Expr| {
        let Expr::Struct(fields) = element else { return element };
        let broker = fields.contains(&("resource_type".to_owned(), Expr::Literal(Tree::Int(4))));
        let field = |(name, value): (String, Expr)| {
            let value = match (kind, name.as_str()) {
                ("topics" | "topic_data", "name" | "topic" | "topic_name") => own(value),
                ("resources", "resource_name") if !broker => own(value),
                // a rule that comes of chance might keep out what others ask, and a broker's own requests
                ("creations", "resource_name") => match value {
                    Expr::Text(text) if !text.is_empty() => Expr::Text(format!("r{seed}-acl-{text}")),
                    other => other,
                },
                _ => value,
            };
            (name, value)
        };
        Expr::Struct(fields.into_iter().map(field).collect())
    };
    let group = |value: Expr| match value {
        Expr::Text(text) if text.is_empty() || text.starts_with(&format!("r{seed}-")) => Expr::Text(text),
        Expr::Text(text) if TEXTS.contains(&text.as_str()) => Expr::Text(format!("r{seed}-{text}")),
        other => other,
    };
    // When records that nobody is told of can be read is not promised: they go where nobody reads.
    let silent = api == ApiKey::Produce && matches!(field(&body, "acks"), None | Some(Expr::Literal(Tree::Int(0))));
    let body = if silent { to_topic(&format!("r{seed}-silent"), body) } else { body };
    each_field(body, &|name, value| match (name, value) {
        ("group_id" | "transactional_id", value) => group(value),
        // what a broker knows of a client lasts for a minute, or for as long as its connection
        ("client_instance_id", Expr::Call(uuid, id)) => match id.as_slice() {
            [Expr::Text(id)] if id.len() > 1 => Expr::Call(uuid, vec![text(format!("{seed:x}{id}"))]),
            _ => Expr::Call(uuid, id),
        },
        ("group_ids" | "groups_names" | "groups", Expr::List(list)) => {
            Expr::List(list.into_iter().map(group).collect())
        }
        ("topics" | "topic_data" | "resources" | "creations", Expr::List(list)) => {
            Expr::List(list.into_iter().map(|one| element(name, one)).collect())
        }
        (_, value) => value,
    })
}

/// A commit with texts that are too long: where it stores nothing at all Apache Kafka leaves an empty group behind.
pub fn refuses_offsets(body: &Expr) -> bool {
    match body {
        Expr::Struct(fields) => fields.iter().any(|(name, value)| match value {
            Expr::Call(function, _) => name == "committed_metadata" && function == "repeat",
            _ => refuses_offsets(value),
        }),
        Expr::List(list) => list.iter().any(refuses_offsets),
        _ => false,
    }
}

/// What is refused may leave a group behind in Apache Kafka, of which nothing else must know.
pub fn in_group(group: &str, body: Expr) -> Expr {
    each_field(body, &|name, value| match (name, value) {
        ("group_id", Expr::Text(id)) if !id.is_empty() => text(group),
        (_, value) => value,
    })
}

/// A Produce with all its topics replaced by one.
fn to_topic(topic: &str, body: Expr) -> Expr {
    let body = each_field(body, &|name, value| match (name, value) {
        ("name", Expr::Text(_)) => text(topic),
        ("topic_id", Expr::Call(id, _)) if id == "id" => Expr::Call(id, vec![text(topic)]),
        (_, value) => value,
    });
    each_field(body, &|name, value| if name == "topic_data" { once(value, "name") } else { value })
}

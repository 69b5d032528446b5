//! What broker properties must say together (Kafka's `KafkaConfig.validateValues`).

use crate::group::check_group_bounds;
use crate::layers::BrokerProperties;
use crate::per_ip;
use crate::table::Scope;
use crate::topic::inherited;
use crate::value::Value;

/// Memory that compaction needs for keys at least.
const DEDUPE_BYTES_MIN: i64 = 1 << 20;

/// The error: a property, and what is wrong with it.
pub(crate) fn check_broker(broker: &BrokerProperties) -> Result<(), (String, String)> {
    let wrong = |name: &str, what: &str| Err((name.to_owned(), format!("{name} {what}")));
    let topic = |name: &str| match Scope::Topic.find(name).map(|s| inherited(s, broker)) {
        Some(Ok(Some(Value::Integer(n)))) => n,
        // What is no number is refused by itself.
        _ => i64::MAX,
    };
    let number = |name: &str| broker.integer(name).ok().flatten().unwrap_or(i64::MAX);
    if topic("segment.ms") < 1 {
        return wrong("log.roll.ms", "must be greater than or equal to 1");
    }
    if topic("segment.jitter.ms") < 0 {
        return wrong("log.roll.jitter.ms", "must be greater than or equal to 0");
    }
    if topic("retention.ms") == 0 {
        return wrong("log.retention.ms", "must be unlimited (-1) or, greater than or equal to 1");
    }
    if number("log.cleaner.dedupe.buffer.size") <= DEDUPE_BYTES_MIN {
        return wrong("log.cleaner.dedupe.buffer.size", "must be at least 1MB per cleaner thread.");
    }
    let per_ip = broker.value("max.connections.per.ip.overrides").ok().flatten().map(|v| v.to_string());
    let per_ip = per_ip::parse(&per_ip.unwrap_or_default())?;
    if number("max.connections.per.ip") == 0 && per_ip.is_empty() {
        return wrong(
            "max.connections.per.ip",
            "can be set to zero only if max.connections.per.ip.overrides property is set.",
        );
    }
    check_group_bounds(broker)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_kafka_refuses_together_is_refused() {
        let check = |name: &str, value: &str| {
            let dynamic_default = [(name.to_owned(), value.to_owned())].into();
            check_broker(&BrokerProperties { dynamic_default, ..Default::default() }).map_err(|(name, _)| name)
        };
        for (name, value, right) in [
            ("log.roll.ms", "0", "1"),
            ("log.roll.jitter.ms", "-1", "0"),
            ("log.retention.ms", "0", "-1"),
            ("log.cleaner.dedupe.buffer.size", "1048576", "1048577"),
            ("max.connections.per.ip", "0", "1"),
            ("max.connections.per.ip.overrides", "some.host:1", "10.0.0.1:1"),
            ("group.share.max.session.timeout.ms", "1", "50000"),
        ] {
            assert_eq!(check(name, value), Err(name.to_owned()));
            check(name, right).unwrap();
        }
        check("log.retention.ms", "-7").unwrap();
    }
}

//! The typed configuration of one group: its own settings over the broker's over defaults, within the broker's bounds.
//! The rules are those of Kafka's `GroupConfig`.

use crate::duration::parse_duration;
use crate::error::ConfigError;
use crate::layers::{BrokerProperties, Overrides};
use crate::table::{Scope, Setting};
use crate::value::Value;
use std::time::Duration;

/// What a coordinator needs to know of one group, whichever kind it is. Durations in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupProperties {
    pub consumer: ConsumerGroupProperties,
    pub share: ShareGroupProperties,
    pub streams: StreamsGroupProperties,
}

/// `consumer.*` (KIP-848).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerGroupProperties {
    pub session_timeout_ms: i32,
    pub heartbeat_interval_ms: i32,
    pub assignment_interval_ms: i32,
}

/// `share.*` (KIP-932).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareGroupProperties {
    pub session_timeout_ms: i32,
    pub heartbeat_interval_ms: i32,
    pub assignment_interval_ms: i32,
    pub record_lock_duration_ms: i32,
    pub delivery_count_limit: i32,
    pub partition_max_record_locks: i32,
    pub auto_offset_reset: AutoOffsetReset,
    /// `share.isolation.level`
    pub read_committed: bool,
    pub renew_acknowledge: bool,
}

/// `streams.*` (KIP-1071).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamsGroupProperties {
    pub session_timeout_ms: i32,
    pub heartbeat_interval_ms: i32,
    pub assignment_interval_ms: i32,
    pub initial_rebalance_delay_ms: i32,
    pub standby_replicas: i32,
}

/// `share.auto.offset.reset`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AutoOffsetReset {
    Latest,
    Earliest,
    /// The first record that is not older than this.
    Back(Duration),
}

impl AutoOffsetReset {
    pub fn parse(text: &str) -> Option<AutoOffsetReset> {
        match text {
            "latest" => Some(AutoOffsetReset::Latest),
            "earliest" => Some(AutoOffsetReset::Earliest),
            _ => text.strip_prefix("by_duration:").and_then(parse_duration).map(AutoOffsetReset::Back),
        }
    }
}

/// Settings with bounds that are the broker's, in the order in which Kafka looks at them.
const BOUNDED: &[&str] = &[
    "consumer.heartbeat.interval.ms",
    "consumer.session.timeout.ms",
    "consumer.assignment.interval.ms",
    "share.heartbeat.interval.ms",
    "share.session.timeout.ms",
    "share.record.lock.duration.ms",
    "share.delivery.count.limit",
    "share.partition.max.record.locks",
    "share.assignment.interval.ms",
    "streams.heartbeat.interval.ms",
    "streams.session.timeout.ms",
    "streams.num.standby.replicas",
    "streams.assignment.interval.ms",
];

const KINDS: [&str; 3] = ["consumer", "share", "streams"];

impl GroupProperties {
    /// What is in force. Bounds may have changed since a setting was made: it is cut to them then.
    pub fn resolve(overrides: &Overrides, broker: &BrokerProperties) -> GroupProperties {
        let r = Resolver { overrides, broker };
        GroupProperties {
            consumer: ConsumerGroupProperties {
                session_timeout_ms: r.int("consumer.session.timeout.ms"),
                heartbeat_interval_ms: r.int("consumer.heartbeat.interval.ms"),
                assignment_interval_ms: r.int("consumer.assignment.interval.ms"),
            },
            share: ShareGroupProperties {
                session_timeout_ms: r.int("share.session.timeout.ms"),
                heartbeat_interval_ms: r.int("share.heartbeat.interval.ms"),
                assignment_interval_ms: r.int("share.assignment.interval.ms"),
                record_lock_duration_ms: r.int("share.record.lock.duration.ms"),
                delivery_count_limit: r.int("share.delivery.count.limit"),
                partition_max_record_locks: r.int("share.partition.max.record.locks"),
                auto_offset_reset: AutoOffsetReset::parse(&r.text("share.auto.offset.reset"))
                    .unwrap_or(AutoOffsetReset::Latest),
                read_committed: r.text("share.isolation.level") == "read_committed",
                renew_acknowledge: r.text("share.renew.acknowledge.enable") == "true",
            },
            streams: StreamsGroupProperties {
                session_timeout_ms: r.int("streams.session.timeout.ms"),
                heartbeat_interval_ms: r.int("streams.heartbeat.interval.ms"),
                assignment_interval_ms: r.int("streams.assignment.interval.ms"),
                initial_rebalance_delay_ms: r.int("streams.initial.rebalance.delay.ms"),
                standby_replicas: r.int("streams.num.standby.replicas"),
            },
        }
    }
}

struct Resolver<'a> {
    overrides: &'a Overrides,
    broker: &'a BrokerProperties,
}

impl Resolver<'_> {
    fn text(&self, name: &str) -> String {
        let value = Scope::Group.find(name).and_then(|s| in_force(s, self.overrides, self.broker));
        value.map(|v| v.to_string()).unwrap_or_default()
    }

    fn int(&self, name: &str) -> i32 {
        let value = Scope::Group.find(name).and_then(|s| number(in_force(s, self.overrides, self.broker))).unwrap_or(0);
        let (low, high) = bounds(name, self.broker);
        let above = low.map_or(value, |(_, low)| value.max(low));
        let within = high.map_or(above, |(_, high)| above.min(high));
        i32::try_from(within).unwrap_or(i32::MAX)
    }
}

/// A setting that is wrong was made by a release that knew other values: the broker's goes.
fn in_force(setting: &Setting, overrides: &Overrides, broker: &BrokerProperties) -> Option<Value> {
    let parse = |text: &str| Value::parse(setting, text).ok();
    let own = overrides.get(setting.name).and_then(|text| parse(text));
    own.or_else(|| broker_text(setting, broker).and_then(parse)).or_else(|| setting.default.and_then(parse))
}

/// What a group without a setting of its own has.
pub(crate) fn broker_text<'a>(setting: &Setting, broker: &'a BrokerProperties) -> Option<&'a str> {
    setting.synonyms.first().and_then(|name| Scope::Broker.find(name)).and_then(|s| broker.text(s))
}

fn number(value: Option<Value>) -> Option<i64> {
    match value {
        Some(Value::Integer(n)) => Some(n),
        _ => None,
    }
}

type Bound = (&'static str, i64);

/// The broker's least and largest value of a group's setting, with the names of the properties that say so.
fn bounds(name: &str, broker: &BrokerProperties) -> (Option<Bound>, Option<Bound>) {
    let Some((kind, rest)) = name.split_once('.') else { return (None, None) };
    let bound = |which: &str| {
        // `num.standby.replicas` is bounded by `max.standby.replicas`.
        let rest = rest.strip_prefix("num.").unwrap_or(rest);
        let setting = Scope::Broker.find(&format!("group.{kind}.{which}.{rest}"))?;
        let value = number(Value::parse(setting, broker.text(setting)?).ok())?;
        Some((setting.name, value))
    };
    (bound("min"), bound("max"))
}

/// What one setting alone cannot tell: the bounds of the broker, and that no session ends between two heartbeats.
pub(crate) fn check_group(overrides: &Overrides, broker: &BrokerProperties) -> Result<(), ConfigError> {
    let invalid = |message: String| Err(ConfigError::InvalidConfig(message));
    let value = |name: &str| Scope::Group.find(name).and_then(|s| number(in_force(s, overrides, broker)));
    for name in BOUNDED {
        let Some(value) = value(name) else { continue };
        let (low, high) = bounds(name, broker);
        if let Some((bound, _)) = low.filter(|(_, low)| value < *low) {
            return invalid(format!("{name} must be greater than or equal to {bound}"));
        }
        if let Some((bound, _)) = high.filter(|(_, high)| value > *high) {
            return invalid(format!("{name} must be less than or equal to {bound}"));
        }
    }
    for kind in KINDS {
        let (session, heartbeat) = (format!("{kind}.session.timeout.ms"), format!("{kind}.heartbeat.interval.ms"));
        if value(&session) <= value(&heartbeat) {
            return invalid(format!("{session} must be greater than {heartbeat}"));
        }
    }
    Ok(())
}

/// What the broker's own properties say about groups must fit together. The error: a property, and what is wrong with it.
pub(crate) fn check_group_bounds(broker: &BrokerProperties) -> Result<(), (String, String)> {
    for name in BOUNDED {
        if let (Some((low_name, low)), Some((high_name, high))) = bounds(name, broker)
            && low > high
        {
            return Err((high_name.to_owned(), format!("{high_name} must be greater than or equal to {low_name}")));
        }
    }
    check_group(&Overrides::new(), broker).map_err(|e| {
        let message = e.to_string();
        let name = message.split(' ').next().unwrap_or_default();
        (format!("group.{name}"), message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> Overrides {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn defaults_are_those_of_kafka() {
        let p = GroupProperties::resolve(&Overrides::new(), &BrokerProperties::default());
        assert_eq!(
            p.consumer,
            ConsumerGroupProperties {
                session_timeout_ms: 45_000,
                heartbeat_interval_ms: 5_000,
                assignment_interval_ms: 1_000,
            }
        );
        assert_eq!((p.share.record_lock_duration_ms, p.share.delivery_count_limit), (30_000, 5));
        assert_eq!((p.share.partition_max_record_locks, p.share.read_committed), (2_000, false));
        assert_eq!((p.share.auto_offset_reset, p.share.renew_acknowledge), (AutoOffsetReset::Latest, true));
        assert_eq!((p.streams.initial_rebalance_delay_ms, p.streams.standby_replicas), (3_000, 0));
    }

    #[test]
    fn a_group_goes_before_its_broker_and_stays_within_its_bounds() {
        let mut broker =
            BrokerProperties { fixed: map(&[("group.consumer.session.timeout.ms", "50000")]), ..Default::default() };
        let session =
            |o: &[(&str, &str)], b: &BrokerProperties| GroupProperties::resolve(&map(o), b).consumer.session_timeout_ms;
        assert_eq!(session(&[], &broker), 50_000);
        assert_eq!(session(&[("consumer.session.timeout.ms", "55000")], &broker), 55_000);
        broker.fixed.insert("group.consumer.max.session.timeout.ms".into(), "52000".into());
        assert_eq!(session(&[("consumer.session.timeout.ms", "55000")], &broker), 52_000);
        let back = map(&[("share.auto.offset.reset", "by_duration:PT1H")]);
        let share = GroupProperties::resolve(&back, &broker).share;
        assert_eq!(share.auto_offset_reset, AutoOffsetReset::Back(Duration::from_secs(3600)));
    }

    #[test]
    fn what_does_not_fit_is_refused_in_kafkas_words() {
        let broker = BrokerProperties::default();
        let refusal = |o: &[(&str, &str)]| check_group(&map(o), &broker).unwrap_err().to_string();
        check_group(&map(&[("consumer.session.timeout.ms", "60000")]), &broker).unwrap();
        assert_eq!(
            refusal(&[("consumer.session.timeout.ms", "44999")]),
            "consumer.session.timeout.ms must be greater than or equal to group.consumer.min.session.timeout.ms"
        );
        assert_eq!(
            refusal(&[("share.delivery.count.limit", "11")]),
            "share.delivery.count.limit must be less than or equal to group.share.max.delivery.count.limit"
        );
        assert_eq!(
            refusal(&[("streams.num.standby.replicas", "3")]),
            "streams.num.standby.replicas must be less than or equal to group.streams.max.standby.replicas"
        );
        let mut low = BrokerProperties::default();
        low.fixed.insert("group.consumer.min.session.timeout.ms".into(), "1".into());
        let e = check_group(&map(&[("consumer.session.timeout.ms", "5000")]), &low).unwrap_err();
        assert_eq!(e.to_string(), "consumer.session.timeout.ms must be greater than consumer.heartbeat.interval.ms");
    }

    #[test]
    fn each_bound_of_the_broker_bounds_its_groups() {
        let each = Scope::Broker.settings().iter().filter_map(|s| {
            let of = |which: &str| s.name.strip_prefix("group.")?.split_once(&format!(".{which}."));
            let (lower, (kind, rest)) = of("min").map(|of| (true, of)).or_else(|| of("max").map(|of| (false, of)))?;
            let names = [format!("{kind}.{rest}"), format!("{kind}.num.{rest}")];
            let name = names.into_iter().find(|name| Scope::Group.find(name).is_some())?;
            Some((s, lower, name))
        });
        let mut bounds = 0;
        for (bound, lower, name) in each {
            let now: i64 = Scope::Group.find(&name).unwrap().default.unwrap().parse().unwrap();
            let mut broker = BrokerProperties::default();
            broker.fixed.insert(bound.name.to_owned(), now.to_string());
            check_group(&Overrides::new(), &broker).unwrap_or_else(|e| panic!("{}={now}: {e}", bound.name));
            let beyond = if lower { now - 1 } else { now + 1 };
            let refusal = check_group(&map(&[(&name, &beyond.to_string())]), &broker).unwrap_err().to_string();
            assert!(refusal.starts_with(&name) && refusal.ends_with(bound.name), "{name}={beyond}: {refusal}");
            bounds += 1;
        }
        assert_eq!(bounds, 25);
    }

    #[test]
    fn a_broker_whose_bounds_cross_does_not_start() {
        let broker =
            BrokerProperties { fixed: map(&[("group.share.max.session.timeout.ms", "1")]), ..Default::default() };
        let (name, _) = check_group_bounds(&broker).unwrap_err();
        assert_eq!(name, "group.share.max.session.timeout.ms");
        check_group_bounds(&BrokerProperties::default()).unwrap();
    }
}

//! Changes of configuration through the API: CreateTopics, AlterConfigs, IncrementalAlterConfigs.
//! The steps and messages are those of Kafka's `ConfigurationControlManager`, `LogConfig.validate` and `DynamicBrokerConfig`.

use crate::client_metrics::MetricsSubscription;
use crate::error::ConfigError;
use crate::fit::check_broker;
use crate::group::check_group;
use crate::layers::{BrokerProperties, Overrides};
use crate::listener_change::{check_change, check_places};
use crate::nearest::nearest;
use crate::oauth::only_at_a_start;
use crate::of_listener::{of_one_listener, refusal};
use crate::table::{Kind, Scope, Setting, Status, Update};
use crate::topic::effective;
use crate::value::{Value, permit};
use std::collections::BTreeSet;

/// What Kafka's tools set while they move replicas; in no table, because Kafka has them only then.
const THROTTLES: [&str; 3] = [
    "leader.replication.throttled.rate",
    "follower.replication.throttled.rate",
    "replica.alter.log.dirs.io.max.bytes.per.second",
];

/// Kafka's operations of IncrementalAlterConfigs, by their wire codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i8)]
pub enum Operation {
    Set = 0,
    Delete = 1,
    Append = 2,
    Subtract = 3,
}

impl TryFrom<i8> for Operation {
    type Error = ConfigError;

    fn try_from(code: i8) -> Result<Operation, ConfigError> {
        match code {
            0 => Ok(Operation::Set),
            1 => Ok(Operation::Delete),
            2 => Ok(Operation::Append),
            3 => Ok(Operation::Subtract),
            _ => Err(ConfigError::InvalidRequest(format!("Unknown config operation {code}"))),
        }
    }
}

/// One change of one property.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alteration {
    pub name: String,
    pub operation: Operation,
    /// Must be there for every operation but delete.
    pub value: Option<String>,
}

/// Checks the whole set of a topic's overrides, `next`, which takes the place of `present` (empty for a new topic).
/// A value that stays as it is need only be valid.
pub fn validate_topic_overrides(present: &Overrides, next: &Overrides) -> Result<(), ConfigError> {
    validate(Scope::Topic, present, next)?;
    let (min, max) = ("min.compaction.lag.ms", "max.compaction.lag.ms");
    let lag = |name: &str| -> Result<Option<Value>, ConfigError> {
        let Some(setting) = Scope::Topic.find(name) else { return Ok(None) };
        effective(setting, next, &BrokerProperties::default())
    };
    if let (Some(Value::Integer(low)), Some(Value::Integer(high))) = (lag(min)?, lag(max)?)
        && low > high
    {
        let message = format!("conflict topic config setting {min} ({low}) > {max} ({high})");
        return Err(ConfigError::InvalidConfig(message));
    }
    Ok(())
}

/// Checks the whole set of a group's overrides, whose bounds are the broker's.
pub fn validate_group_overrides(
    present: &Overrides,
    next: &Overrides,
    broker: &BrokerProperties,
) -> Result<(), ConfigError> {
    validate(Scope::Group, present, next)?;
    check_group(next, broker)
}

/// Checks the whole set of the overrides of a subscription to client metrics.
pub fn validate_client_metrics_overrides(present: &Overrides, next: &Overrides) -> Result<(), ConfigError> {
    validate(Scope::ClientMetrics, present, next)?;
    MetricsSubscription::resolve(next).map(drop)
}

/// Checks the whole set of dynamic properties of one broker, or of all (`one_broker` false), over what else is in force in
/// `broker`. Kafka answers INVALID_REQUEST here.
pub fn validate_broker_dynamic(
    set: &Overrides,
    one_broker: bool,
    broker: &BrokerProperties,
) -> Result<(), ConfigError> {
    let invalid = |e: ConfigError| ConfigError::InvalidRequest(e.to_string());
    let (of_listener, of_broker): (Vec<_>, Vec<_>) = set.iter().partition(|(name, _)| of_one_listener(name).is_some());
    let of_broker: Vec<(&Setting, &String)> = of_broker
        .into_iter()
        .map(|(name, text)| Ok((find(Scope::Broker, name)?, text)))
        .collect::<Result<_, _>>()
        .map_err(invalid)?;
    let own: Vec<&Setting> = of_broker.iter().map(|(s, _)| *s).collect();
    let read_only: Vec<&Setting> = own.iter().copied().filter(|s| s.update == Update::ReadOnly).collect();
    if !read_only.is_empty() {
        let names: Vec<&str> = read_only.iter().map(|s| s.name).collect();
        let why = read_only.iter().filter_map(|s| match s.status {
            Status::Fixed(why) => Some(format!("; {} is fixed at its default: {why}", s.name)),
            Status::Honoured => None,
        });
        let why: String = why.collect();
        let message = format!("Cannot update these configs dynamically: [{}]{why}", names.join(", "));
        return Err(ConfigError::InvalidRequest(message));
    }
    check_places(set, &own, one_broker).and_then(|()| only_at_a_start(set)).map_err(ConfigError::InvalidRequest)?;
    let of_listener = of_listener.into_iter().filter_map(|(name, text)| Some((of_one_listener(name)?.1, text)));
    for (setting, text) in of_broker.into_iter().chain(of_listener) {
        Value::parse(setting, text).and_then(|v| permit(setting, &v)).map_err(invalid)?;
    }
    let mut next = broker.clone();
    if one_broker {
        next.dynamic_broker = set.clone();
    } else {
        next.dynamic_default = set.clone();
    }
    check_broker(&next)
        .and_then(|()| check_change(broker, &next))
        .map_err(|(_, message)| ConfigError::InvalidRequest(message))
}

fn validate(scope: Scope, present: &Overrides, next: &Overrides) -> Result<(), ConfigError> {
    // Kafka looks at all names before it looks at any value.
    for name in next.keys() {
        find(scope, name)?;
    }
    for (name, text) in next {
        let setting = find(scope, name)?;
        let value = Value::parse(setting, text)?;
        if present.get(name) != Some(text) {
            permit(setting, &value)?;
        }
    }
    Ok(())
}

fn find(scope: Scope, name: &str) -> Result<&'static Setting, ConfigError> {
    scope.find(name).ok_or_else(|| {
        let hint = nearest(name, scope.settings().iter().map(|s| s.name));
        let hint = hint.map_or_else(String::new, |n| format!(" (did you mean {n}?)"));
        match scope {
            Scope::Topic => ConfigError::InvalidConfig(format!("Unknown topic config name: {name}{hint}")),
            Scope::Broker if THROTTLES.contains(&name) => ConfigError::InvalidConfig(format!(
                "{name} cannot be set: there is no replication between nodes in this version, so nothing to throttle"
            )),
            Scope::Broker => {
                let hint = refusal(name).map_or(hint, |why| format!(": {why}"));
                ConfigError::InvalidConfig(format!("Unknown broker config name: {name}{hint}"))
            }
            Scope::Group => ConfigError::InvalidConfig(format!("Unknown group config name: {name}{hint}")),
            Scope::ClientMetrics => {
                ConfigError::InvalidRequest(format!("Unknown client metrics configuration: {name}{hint}"))
            }
        }
    })
}

/// The overrides that CreateTopics or the older AlterConfigs sends as a whole. Kafka refuses null values and names given twice.
pub fn collect<'a>(pairs: impl IntoIterator<Item = (&'a str, Option<&'a str>)>) -> Result<Overrides, ConfigError> {
    let pairs: Vec<(&str, Option<&str>)> = pairs.into_iter().collect();
    check_form(pairs.iter().map(|(name, value)| (*name, Operation::Set as i8, *value)))?;
    Ok(pairs.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned()))).collect())
}

/// What Kafka looks at before it looks at the resource: no name twice, and a value wherever one is needed.
/// `changes`: a name, Kafka's code of an operation, and a value.
pub fn check_form<'a>(changes: impl Iterator<Item = (&'a str, i8, Option<&'a str>)>) -> Result<(), ConfigError> {
    let (mut names, mut nulls) = (BTreeSet::new(), Vec::new());
    for (name, operation, value) in changes {
        if !names.insert(name) {
            return Err(ConfigError::InvalidRequest("Error due to duplicate config keys".to_owned()));
        }
        if operation != Operation::Delete as i8 && value.is_none() {
            nulls.push(name);
        }
    }
    if nulls.is_empty() {
        return Ok(());
    }
    Err(ConfigError::InvalidRequest(format!("Null value not supported for : {}", nulls.join(", "))))
}

/// Applies the operations, of which [`check_form`] has nothing to say, to the present overrides; the result still has to be
/// validated.
///
/// `broker` gives what APPEND and SUBTRACT start from when a topic has no override.
pub fn apply(
    scope: Scope,
    present: &Overrides,
    changes: &[Alteration],
    broker: &BrokerProperties,
) -> Result<Overrides, ConfigError> {
    let mut next = present.clone();
    for c in changes {
        let given = c.value.as_deref().unwrap_or_default();
        match c.operation {
            Operation::Delete => {
                next.remove(&c.name);
            }
            Operation::Set => {
                next.insert(c.name.clone(), given.to_owned());
            }
            Operation::Append | Operation::Subtract => {
                let list = amend(scope, &next, c, given, broker)?;
                next.insert(c.name.clone(), list);
            }
        }
    }
    Ok(next)
}

fn amend(
    scope: Scope,
    present: &Overrides,
    change: &Alteration,
    given: &str,
    broker: &BrokerProperties,
) -> Result<String, ConfigError> {
    let setting = scope.find(&change.name).filter(|s| s.kind == Kind::List);
    // Kafka's controller knows the types of brokers' and topics' properties only.
    let Some(setting) = setting.filter(|_| matches!(scope, Scope::Broker | Scope::Topic)) else {
        let operation = if change.operation == Operation::Append { "APPEND" } else { "SUBTRACT" };
        return Err(ConfigError::InvalidConfig(format!(
            "Can't {operation} to key {} because its type is not LIST.",
            change.name
        )));
    };
    let now = match (present.get(&change.name), scope) {
        (Some(text), _) => text.clone(),
        (None, Scope::Topic) => effective(setting, present, broker)?.map(|v| v.to_string()).unwrap_or_default(),
        (None, _) => broker.text(setting).unwrap_or_default().to_owned(),
    };
    let mut items: Vec<&str> = now.split(',').map(str::trim).filter(|i| !i.is_empty()).collect();
    let holes = given.split(',').any(|item| item.trim().is_empty());
    if change.operation == Operation::Append && holes && !items.is_empty() {
        // It is there for whoever validates the whole, after the name of the resource.
        items.push("");
    }
    for item in given.split(',').map(str::trim).filter(|i| !i.is_empty()) {
        match change.operation {
            Operation::Subtract => items.retain(|i| *i != item),
            _ if items.contains(&item) => {}
            _ => items.push(item),
        }
    }
    Ok(items.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> Overrides {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    fn change(name: &str, operation: Operation, value: &str) -> Alteration {
        Alteration { name: name.to_owned(), operation, value: Some(value.to_owned()) }
    }

    #[test]
    fn unknown_names_and_bad_values_are_invalid_config() {
        let check = |p: &[(&str, &str)]| validate_topic_overrides(&Overrides::new(), &map(p));
        check(&[("retention.ms", "5"), ("write.caching", "true"), ("flush.messages", "1")]).unwrap();
        let e = check(&[("nope", "1"), ("retention.ms", "x")]).unwrap_err();
        assert_eq!((e.code(), e.to_string().as_str()), (40, "Unknown topic config name: nope"));
        let e = check(&[("retension.ms", "1")]).unwrap_err();
        assert_eq!(e.to_string(), "Unknown topic config name: retension.ms (did you mean retention.ms?)");
        assert_eq!(check(&[("retention.ms", "-5")]).unwrap_err().code(), 40);
    }

    #[test]
    fn lags_of_compaction_fit_each_other() {
        let check = |p: &[(&str, &str)]| validate_topic_overrides(&Overrides::new(), &map(p));
        check(&[("cleanup.policy", "compact"), ("min.compaction.lag.ms", "5"), ("max.compaction.lag.ms", "5")])
            .unwrap();
        assert!(check(&[("min.compaction.lag.ms", "6"), ("max.compaction.lag.ms", "5")]).is_err());
    }

    #[test]
    fn lists_grow_and_shrink_from_what_is_in_force() {
        let broker = BrokerProperties::default();
        let run = |present: &[(&str, &str)], c: Alteration| {
            apply(Scope::Topic, &map(present), &[c], &broker).map(|o| o.get("cleanup.policy").cloned())
        };
        let set = |s: &str| Ok(Some(s.to_owned()));
        assert_eq!(run(&[], change("cleanup.policy", Operation::Append, "compact")), set("delete,compact"));
        assert_eq!(run(&[], change("cleanup.policy", Operation::Append, "delete")), set("delete"));
        assert_eq!(
            run(&[("cleanup.policy", "compact,delete")], change("cleanup.policy", Operation::Subtract, "compact")),
            set("delete")
        );
        assert_eq!(run(&[], change("cleanup.policy", Operation::Subtract, "delete")), set(""));
        let e = run(&[], change("retention.ms", Operation::Append, "5")).unwrap_err();
        assert_eq!(e.to_string(), "Can't APPEND to key retention.ms because its type is not LIST.");
    }

    #[test]
    fn twice_named_and_null_are_invalid_requests() {
        let check = |changes: &[(&'static str, i8, Option<&'static str>)]| check_form(changes.iter().copied());
        check(&[("retention.ms", 1, None), ("retention.bytes", 7, Some("1"))]).unwrap();
        assert_eq!(check(&[("retention.ms", 0, Some("1")), ("retention.ms", 1, None)]).unwrap_err().code(), 42);
        let e = check(&[("retention.ms", 0, None)]).unwrap_err();
        assert_eq!(e.to_string(), "Null value not supported for : retention.ms");
        assert_eq!(collect([("a", None), ("b", Some("1"))]).unwrap_err().code(), 42);
        assert_eq!(collect([("b", Some("2")), ("b", Some("1"))]).unwrap_err().code(), 42);
    }

    #[test]
    fn dynamic_broker_properties_are_refused_as_kafka_refuses_them() {
        let broker = BrokerProperties::default();
        let check = |p: &[(&str, &str)], one| {
            validate_broker_dynamic(&map(p), one, &broker).map_err(|e| (e.code(), e.to_string()))
        };
        check(&[("log.retention.ms", "5"), ("message.max.bytes", "9")], false).unwrap();
        let e = check(&[("num.partitions", "3")], true).unwrap_err();
        assert_eq!(e, (42, "Cannot update these configs dynamically: [num.partitions]".to_owned()));
        let e = check(&[("log.retention.ms", "x")], false).unwrap_err();
        assert_eq!(e.1, "Invalid value x for configuration log.retention.ms: Not a number of type LONG");
        assert_eq!(check(&[("nope", "x")], false).unwrap_err().0, 42);
        let e = check(&[("group.consumer.assignment.interval.ms", "15001")], false).unwrap_err();
        assert!(e.1.ends_with("must be less than or equal to group.consumer.max.assignment.interval.ms"), "{e:?}");
    }

    #[test]
    fn fixed_properties_of_brokers_are_refused_with_their_reason() {
        let broker = BrokerProperties::default();
        let check = |name: &str, value: &str| {
            validate_broker_dynamic(&map(&[(name, value)]), true, &broker).map_err(|e| e.to_string())
        };
        check("background.threads", "10").unwrap();
        let e = check("leader.replication.throttled.rate", "1000").unwrap_err();
        assert!(e.ends_with("so nothing to throttle"), "{e}");
        for (name, value) in [("background.threads", "11"), ("queued.max.requests", "500")] {
            let Status::Fixed(why) = Scope::Broker.find(name).unwrap().status else { panic!("{name} is fixed") };
            let e = check(name, value).unwrap_err();
            assert!(e.contains(why), "{e}");
        }
    }
}

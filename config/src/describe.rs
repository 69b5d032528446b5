//! What DescribeConfigs answers: every property with its value, where that value comes from, and what stands behind it.
//! The rules are those of Kafka's `ConfigHelper`, with one of its oddities: the synonyms of a property begin at the first one
//! that carries the asked name, so a topic's `retention.ms` that comes from `log.retention.hours` has source DEFAULT_CONFIG.

use crate::error::ConfigError;
use crate::group::broker_text;
use crate::layers::{BrokerProperties, Overrides};
use crate::of_listener::of_one_listener;
use crate::table::{Kind, Scope, Setting};
use crate::topic::effective;
use crate::value::Value;
use std::borrow::Cow;
use std::collections::BTreeSet;

/// Kafka's `ConfigSource` of DescribeConfigs; `as i8` is the wire code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i8)]
pub enum ConfigSource {
    Topic = 1,
    DynamicBroker = 2,
    DynamicDefaultBroker = 3,
    StaticBroker = 4,
    Default = 5,
    ClientMetrics = 7,
    Group = 8,
}

/// Kafka's `ConfigType` of DescribeConfigs; `as i8` is the wire code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i8)]
pub enum ConfigType {
    Boolean = 1,
    String = 2,
    Int = 3,
    Short = 4,
    Long = 5,
    Double = 6,
    List = 7,
    Class = 8,
    Password = 9,
}

impl From<Kind> for ConfigType {
    fn from(kind: Kind) -> ConfigType {
        match kind {
            Kind::Boolean => ConfigType::Boolean,
            Kind::String => ConfigType::String,
            Kind::Int => ConfigType::Int,
            Kind::Short => ConfigType::Short,
            Kind::Long => ConfigType::Long,
            Kind::Double => ConfigType::Double,
            Kind::List => ConfigType::List,
            Kind::Class => ConfigType::Class,
            Kind::Password => ConfigType::Password,
        }
    }
}

/// One value that stands behind a property, nearest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Synonym {
    pub name: Cow<'static, str>,
    pub value: Option<String>,
    pub source: ConfigSource,
}

/// One property in the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigEntry {
    pub name: Cow<'static, str>,
    /// `None` for null, and always for a sensitive property.
    pub value: Option<String>,
    pub source: ConfigSource,
    /// The nearest layer that any synonym is set in: what CreateTopics tells, where `source` counts only what `synonyms` shows.
    pub set_by: ConfigSource,
    pub is_default: bool,
    pub is_sensitive: bool,
    pub read_only: bool,
    pub kind: ConfigType,
    pub synonyms: Vec<Synonym>,
    pub documentation: String,
}

/// Every property of a topic with these overrides.
pub fn describe_topic(overrides: &Overrides, broker: &BrokerProperties) -> Result<Vec<ConfigEntry>, ConfigError> {
    let all = Scope::Topic.settings().iter();
    all.map(|s| {
        let value = effective(s, overrides, broker)?;
        let all = s.synonyms.first().map_or_else(Vec::new, |n| layers(n, s.synonyms, broker));
        let nearest = all.first().map_or(ConfigSource::Default, |x| x.source);
        let mut synonyms = s.synonyms.first().map_or_else(Vec::new, |n| from_name(n, all));
        if overrides.contains_key(s.name) {
            synonyms.insert(
                0,
                Synonym { name: s.name.into(), value: text(s, value.as_ref()), source: ConfigSource::Topic },
            );
        }
        let mut entry = entry(s, value.as_ref(), synonyms);
        entry.set_by = if entry.source == ConfigSource::Topic { entry.source } else { nearest };
        Ok(entry)
    })
    .collect()
}

/// Every property of this broker, and those that are set for one listener.
pub fn describe_broker(broker: &BrokerProperties) -> Result<Vec<ConfigEntry>, ConfigError> {
    let all = Scope::Broker.settings().iter();
    let of_all = all.map(|s| {
        let value = broker.value(s.name)?;
        Ok(entry(s, value.as_ref(), stack(s.name, family(s.name), broker)))
    });
    let of_one = of_listeners(broker.layers()).map(|(name, s)| {
        let given = broker.layers().into_iter().find_map(|layer| layer.get(name));
        of_listener(name, s, given, from_name(name, layers_of(&[(name.as_str(), s), (s.name, s)], broker)))
    });
    of_all.chain(of_one).collect()
}

/// The properties of one listener that some layers set.
fn of_listeners<'a>(
    layers: impl IntoIterator<Item = &'a Overrides>,
) -> impl Iterator<Item = (&'a String, &'static Setting)> {
    let names: BTreeSet<&String> = layers.into_iter().flat_map(|layer| layer.keys()).collect();
    names.into_iter().filter_map(|name| Some((name, of_one_listener(name)?.1)))
}

/// A property of one listener, behind which stands that of all.
fn of_listener(
    name: &str,
    setting: &'static Setting,
    given: Option<&String>,
    synonyms: Vec<Synonym>,
) -> Result<ConfigEntry, ConfigError> {
    let value = given.map(|text| Value::parse(setting, text)).transpose()?;
    Ok(ConfigEntry { name: name.to_owned().into(), ..entry(setting, value.as_ref(), synonyms) })
}

/// What AlterConfigs has set for all brokers: the answer for the broker resource with the empty name.
pub fn describe_broker_defaults(broker: &BrokerProperties) -> Result<Vec<ConfigEntry>, ConfigError> {
    let set = &broker.dynamic_default;
    let only_these = |mut synonyms: Vec<Synonym>| {
        synonyms.retain(|x| x.source == ConfigSource::DynamicDefaultBroker);
        synonyms
    };
    let of_all = set.keys().filter_map(|n| Scope::Broker.find(n)).map(|s| {
        let value = set.get(s.name).map(|t| Value::parse(s, t)).transpose()?;
        Ok(entry(s, value.as_ref(), only_these(stack(s.name, family(s.name), broker))))
    });
    let of_one = of_listeners([set]).map(|(name, s)| {
        let synonyms = from_name(name, layers_of(&[(name.as_str(), s), (s.name, s)], broker));
        of_listener(name, s, set.get(name), only_these(synonyms))
    });
    of_all.chain(of_one).collect()
}

/// Every property of a consumer, share or streams group.
pub fn describe_group(overrides: &Overrides, broker: &BrokerProperties) -> Result<Vec<ConfigEntry>, ConfigError> {
    let all = Scope::Group.settings().iter();
    all.map(|s| {
        let value = overrides.get(s.name).map(String::as_str).or(broker_text(s, broker)).or(s.default);
        let value = value.map(|t| Value::parse(s, t)).transpose()?;
        let default = s.default.map(|d| Synonym {
            name: s.name.into(),
            value: Some(d.to_owned()),
            source: ConfigSource::Default,
        });
        let inherited = s.synonyms.first().map_or_else(|| default.into_iter().collect(), |n| stack(n, &[], broker));
        let synonyms = own(s, overrides, value.as_ref(), ConfigSource::Group).into_iter().chain(inherited).collect();
        Ok(entry(s, value.as_ref(), synonyms))
    })
    .collect()
}

/// Every property of a client metrics subscription.
pub fn describe_client_metrics(overrides: &Overrides) -> Result<Vec<ConfigEntry>, ConfigError> {
    let all = Scope::ClientMetrics.settings().iter();
    all.map(|s| {
        let value = overrides.get(s.name).map(String::as_str).or(s.default);
        let value = value.map(|t| Value::parse(s, t)).transpose()?;
        let synonyms = own(s, overrides, value.as_ref(), ConfigSource::ClientMetrics).into_iter().collect();
        Ok(entry(s, value.as_ref(), synonyms))
    })
    .collect()
}

/// The resource's own value, if it has one.
fn own(
    setting: &'static Setting,
    overrides: &Overrides,
    value: Option<&Value>,
    source: ConfigSource,
) -> Option<Synonym> {
    overrides.get(setting.name).map(|_| Synonym { name: setting.name.into(), value: text(setting, value), source })
}

fn entry(setting: &'static Setting, value: Option<&Value>, synonyms: Vec<Synonym>) -> ConfigEntry {
    let source = synonyms.first().map_or(ConfigSource::Default, |s| s.source);
    ConfigEntry {
        name: setting.name.into(),
        value: text(setting, value),
        source,
        set_by: source,
        is_default: source == ConfigSource::Default,
        is_sensitive: setting.is_sensitive(),
        read_only: setting.is_read_only(),
        kind: setting.kind.into(),
        synonyms,
        documentation: setting.documentation(),
    }
}

fn text(setting: &Setting, value: Option<&Value>) -> Option<String> {
    if setting.is_sensitive() { None } else { value.map(ToString::to_string) }
}

/// Broker properties that stand in for one another (`DynamicBrokerConfig.brokerConfigSynonyms`).
fn family(name: &'static str) -> &'static [&'static str] {
    let families = Scope::Topic.settings().iter().map(|s| s.synonyms);
    families.into_iter().find(|f| f.contains(&name)).unwrap_or(&[])
}

/// The values behind `name`, layer by layer, from the first that carries the name itself.
fn stack(name: &'static str, family: &'static [&'static str], broker: &BrokerProperties) -> Vec<Synonym> {
    from_name(name, layers(name, family, broker))
}

fn from_name(name: &str, all: Vec<Synonym>) -> Vec<Synonym> {
    all.into_iter().skip_while(|s| s.name != name).collect()
}

/// The values behind `name` and its synonyms, layer by layer.
fn layers(name: &'static str, family: &'static [&'static str], broker: &BrokerProperties) -> Vec<Synonym> {
    let alone = [name];
    let family = if family.is_empty() { &alone } else { family };
    let settings = family.iter().filter_map(|n| Some((*n, Scope::Broker.find(n)?)));
    layers_of(&settings.collect::<Vec<_>>(), broker)
}

/// The same of these names, each with its property.
fn layers_of(names: &[(&str, &'static Setting)], broker: &BrokerProperties) -> Vec<Synonym> {
    let sources = [ConfigSource::DynamicBroker, ConfigSource::DynamicDefaultBroker, ConfigSource::StaticBroker];
    let synonym = |name: &str, setting: &Setting, text: &str, source| Synonym {
        name: name.to_owned().into(),
        value: (!setting.is_sensitive()).then(|| text.to_owned()),
        source,
    };
    let mut all = Vec::new();
    for (layer, source) in broker.layers().into_iter().zip(sources) {
        let given = names.iter().filter_map(|(name, s)| Some(synonym(name, s, layer.get(*name)?, source)));
        all.extend(given);
    }
    let defaults = names.iter().filter(|(name, s)| *name == s.name);
    all.extend(defaults.filter_map(|(name, s)| Some(synonym(name, s, s.default?, ConfigSource::Default))));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> Overrides {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    /// As `kafka-configs.sh --describe` prints it.
    fn line(entries: &[ConfigEntry], name: &str) -> String {
        let e = entries.iter().find(|e| e.name == name).unwrap();
        let synonyms: Vec<String> = e
            .synonyms
            .iter()
            .map(|s| format!("{}:{}={}", s.source as i8, s.name, s.value.as_deref().unwrap_or("null")))
            .collect();
        format!("{} {} {{{}}}", e.source as i8, e.value.as_deref().unwrap_or("null"), synonyms.join(", "))
    }

    /// Kafka 4.3.1 with `log.retention.minutes=99` and `log.retention.hours=168` in its server.properties.
    #[test]
    fn topics_are_described_as_kafka_describes_them() {
        let mut broker = BrokerProperties {
            fixed: map(&[("log.retention.minutes", "99"), ("log.retention.hours", "168"), ("compression.type", "lz4")]),
            ..Default::default()
        };
        let all = describe_topic(&map(&[("segment.ms", "5000")]), &broker).unwrap();
        assert_eq!(line(&all, "retention.ms"), "5 5940000 {}");
        assert_eq!(line(&all, "segment.ms"), "1 5000 {1:segment.ms=5000}");
        assert_eq!(line(&all, "flush.ms"), "5 9223372036854775807 {}");
        assert_eq!(line(&all, "compression.type"), "4 lz4 {4:compression.type=lz4, 5:compression.type=producer}");
        assert_eq!(line(&all, "preallocate"), "5 false {5:log.preallocate=false}");
        assert_eq!(line(&all, "leader.replication.throttled.replicas"), "5  {}");
        broker.dynamic_default = map(&[("log.retention.ms", "12345678")]);
        let all = describe_topic(&Overrides::new(), &broker).unwrap();
        assert_eq!(
            line(&all, "retention.ms"),
            "3 12345678 {3:log.retention.ms=12345678, 4:log.retention.minutes=99, 4:log.retention.hours=168, \
             5:log.retention.hours=168}"
        );
    }

    #[test]
    fn brokers_are_described_as_kafka_describes_them() {
        let mut broker = BrokerProperties {
            fixed: map(&[("log.retention.minutes", "99"), ("log.retention.hours", "168")]),
            ..Default::default()
        };
        let all = describe_broker(&broker).unwrap();
        assert_eq!(line(&all, "log.retention.hours"), "4 168 {4:log.retention.hours=168, 5:log.retention.hours=168}");
        assert_eq!(
            line(&all, "log.retention.minutes"),
            "4 99 {4:log.retention.minutes=99, 4:log.retention.hours=168, 5:log.retention.hours=168}"
        );
        assert_eq!(line(&all, "log.retention.ms"), "5 null {}");
        let one = |n| all.iter().find(|e| e.name == n).unwrap();
        assert!(one("num.partitions").read_only && !one("log.retention.ms").read_only);
        assert!(one("ssl.key.password").is_sensitive);
        assert!(describe_broker_defaults(&broker).unwrap().is_empty());
        broker.dynamic_default = map(&[("log.retention.ms", "7")]);
        let defaults = describe_broker_defaults(&broker).unwrap();
        assert_eq!(defaults.len(), 1);
        assert_eq!(line(&defaults, "log.retention.ms"), "3 7 {3:log.retention.ms=7}");
    }

    #[test]
    fn behind_a_property_of_a_listener_stands_that_of_all() {
        let own = "listener.name.a.max.connections";
        let mut broker =
            BrokerProperties { fixed: map(&[(own, "7"), ("max.connections", "70")]), ..Default::default() };
        broker.dynamic_default = map(&[("max.connections", "60")]);
        let shown = format!("4 7 {{4:{own}=7, 4:max.connections=70, 5:max.connections=2147483647}}");
        assert_eq!(line(&describe_broker(&broker).unwrap(), own), shown);
        broker.dynamic_default = map(&[(own, "6")]);
        let shown = format!("3 6 {{3:{own}=6, 4:{own}=7, 4:max.connections=70, 5:max.connections=2147483647}}");
        assert_eq!(line(&describe_broker(&broker).unwrap(), own), shown);
        let defaults = describe_broker_defaults(&broker).unwrap();
        assert_eq!((defaults.len(), line(&defaults, own)), (1, format!("3 6 {{3:{own}=6}}")));
        assert!(!defaults[0].read_only);
    }

    #[test]
    fn groups_take_the_values_of_their_broker() {
        let all = describe_group(&Overrides::new(), &BrokerProperties::default()).unwrap();
        assert_eq!(line(&all, "consumer.session.timeout.ms"), "5 45000 {5:group.consumer.session.timeout.ms=45000}");
        assert_eq!(
            line(&all, "share.isolation.level"),
            "5 read_uncommitted {5:share.isolation.level=read_uncommitted}"
        );
        let broker =
            BrokerProperties { fixed: map(&[("group.consumer.session.timeout.ms", "50000")]), ..Default::default() };
        let all = describe_group(&map(&[("consumer.session.timeout.ms", "55000")]), &broker).unwrap();
        assert_eq!(
            line(&all, "consumer.session.timeout.ms"),
            "8 55000 {8:consumer.session.timeout.ms=55000, 4:group.consumer.session.timeout.ms=50000, \
             5:group.consumer.session.timeout.ms=45000}"
        );
    }

    #[test]
    fn subscriptions_to_client_metrics_have_no_defaults_behind_them() {
        let all = describe_client_metrics(&map(&[("interval.ms", "1000")])).unwrap();
        assert_eq!(line(&all, "interval.ms"), "7 1000 {7:interval.ms=1000}");
        assert_eq!(line(&all, "match"), "5  {}");
        assert_eq!(all.len(), 3);
    }
}

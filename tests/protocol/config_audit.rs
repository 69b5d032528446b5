//! Every config of Apache Kafka 4.3 on a live broker: it is honoured, and then a change of it shows, or it is fixed, and then a
//! change of it is refused with the reason. None is taken and ignored.

use crate::configs::{BROKER, CLIENT_METRICS, GROUP, TOPIC, alter, describe, value};
use corelane_config::{Check, ConfigType, Kind, Scope, Setting, Status, Update, Value};
use corelane_tests::broker::{Broker, BrokerOptions, is_corelane};
use corelane_tests::connection::Connection;
use corelane_tests::librdkafka::create_topic;

const TABLE: &str = include_str!("../../config/data/kafka-4.3-configs.tsv");
const INVALID_REQUEST: i16 = 42;

/// The rows of Kafka's table, with what this broker says of each.
fn rows() -> Vec<(Scope, &'static Setting)> {
    let row = |line: &'static str| {
        let mut columns = line.split('\t');
        let (scope, name) = (columns.next().expect("a scope"), columns.next().expect("a name"));
        let scope = match scope {
            "topic" => Scope::Topic,
            "broker" => Scope::Broker,
            "group" => Scope::Group,
            "client-metrics" => Scope::ClientMetrics,
            other => panic!("no scope {other}"),
        };
        (scope, scope.find(name).unwrap_or_else(|| panic!("{name} is missing from the tables")))
    };
    TABLE.lines().skip(1).map(row).collect()
}

/// A valid value that is not the one in force.
fn another(setting: &Setting, now: &str) -> String {
    let low = match setting.check {
        Check::AtLeast(low) | Check::Between(low, _) => low,
        _ => 1,
    };
    let number = now.parse::<i64>().unwrap_or(low);
    let mut candidates = match setting.check {
        Check::OneOf(all) | Check::OneOfAnyCase(all) | Check::AnyOf(all) => {
            all.iter().map(|s| (*s).to_owned()).collect()
        }
        Check::ThrottledReplicas => vec!["0:1".to_owned()],
        Check::OffsetReset => vec!["by_duration:PT1H".to_owned()],
        _ => vec![],
    };
    candidates.extend(match setting.kind {
        Kind::Boolean => vec!["true".to_owned(), "false".to_owned()],
        Kind::Int | Kind::Short | Kind::Long => {
            let all = [number.saturating_add(1), number.saturating_sub(1), low, low + 1, 5];
            all.iter().map(ToString::to_string).collect()
        }
        Kind::Double => vec!["0.25".to_owned(), "2.5".to_owned()],
        _ if setting.name == "match" => vec!["client_id=a.*".to_owned()],
        _ if setting.name == "max.connections.per.ip.overrides" => vec!["10.0.0.9:5".to_owned()],
        _ => vec!["another".to_owned()],
    });
    let parsed = |text: &str| Value::parse(setting, text).ok();
    let other = candidates.into_iter().find(|c| parsed(c).is_some() && parsed(c) != parsed(now));
    other.unwrap_or_else(|| panic!("{}: no other value than {now}", setting.name))
}

struct Live {
    connection: Connection,
    topic: &'static str,
    group: &'static str,
}

impl Live {
    /// Where a property is set, and the source that its value then has.
    fn places(&self, scope: Scope) -> Vec<(i8, &'static str, i8)> {
        match scope {
            Scope::Topic => vec![(TOPIC, self.topic, 1)],
            // cluster-wide, then of this broker
            Scope::Broker => vec![(BROKER, "", 3), (BROKER, "1", 2)],
            Scope::Group => vec![(GROUP, self.group, 8)],
            Scope::ClientMetrics => vec![(CLIENT_METRICS, "a-subscription", 7)],
        }
    }

    fn shown_at(scope: Scope, resource: &'static str) -> &'static str {
        if scope == Scope::Broker { "1" } else { resource }
    }

    /// A change is taken, shown with its source, reaches what takes it as a default, and can be taken back.
    fn honours(&mut self, scope: Scope, setting: &Setting) {
        let name = setting.name;
        for (kind, resource, source) in self.places(scope) {
            let shown = Live::shown_at(scope, resource);
            let before = value(&mut self.connection, kind, shown, name).expect("described");
            let next = another(setting, &before.0);
            let answer = alter(&mut self.connection, kind, resource, name, Some(&next));
            assert_eq!(answer, (0, String::new()), "{scope:?} {name}={next} is honoured");
            let next = Value::parse(setting, &next).expect("a valid value").to_string();
            assert_eq!(value(&mut self.connection, kind, shown, name), Some((next.clone(), source)), "{name}");
            for (heir, kind, resource) in [(Scope::Topic, TOPIC, self.topic), (Scope::Group, GROUP, self.group)] {
                for s in heir.settings().iter().filter(|s| scope == Scope::Broker && s.synonyms.first() == Some(&name))
                {
                    let inherited = value(&mut self.connection, kind, resource, s.name);
                    assert_eq!(inherited, Some((next.clone(), source)), "{} follows {name}", s.name);
                }
            }
            assert_eq!(alter(&mut self.connection, kind, resource, name, None), (0, String::new()), "{name}");
            assert_eq!(value(&mut self.connection, kind, shown, name), Some(before), "{name} is as it was");
        }
    }

    /// A change is refused, and the refusal says why.
    fn refuses(&mut self, scope: Scope, setting: &Setting) {
        for (kind, resource, _) in self.places(scope) {
            let shown = Live::shown_at(scope, resource);
            let before = value(&mut self.connection, kind, shown, setting.name).expect("described");
            let next = another(setting, &before.0);
            let (code, message) = alter(&mut self.connection, kind, resource, setting.name, Some(&next));
            assert_ne!(code, 0, "{scope:?} {}={next} is not honoured", setting.name);
            if let Status::Fixed(why) = setting.status {
                assert!(message.contains(why), "{}: {message:?} does not say that {why}", setting.name);
            }
            if scope == Scope::Broker && setting.update == Update::ReadOnly {
                assert_eq!(code, INVALID_REQUEST);
                let words = format!("Cannot update these configs dynamically: [{}]", setting.name);
                assert!(message.starts_with(&words), "{message}");
            }
            assert_eq!(value(&mut self.connection, kind, shown, setting.name), Some(before), "{}", setting.name);
        }
    }
}

#[test]
fn every_config_of_kafka_is_honoured_or_refused_with_a_reason() {
    if !is_corelane() {
        return;
    }
    let options = BrokerOptions { advertise: "node".into(), ..BrokerOptions::default() };
    let broker = Broker::start(options);
    create_topic(&broker, "audited", 1, &[]);
    let connection = Connection::open(broker.bootstrap()).expect("a connection");
    let mut live = Live { connection, topic: "audited", group: "audited" };
    let (mut honoured, mut read_only, mut fixed) = (0, 0, 0);
    for (scope, setting) in rows() {
        let (kind, resource, _) = live.places(scope)[0];
        let all = describe(&mut live.connection, kind, Live::shown_at(scope, resource));
        let shown = all.iter().find(|c| &*c.name == setting.name);
        let shown = shown.unwrap_or_else(|| panic!("{scope:?} {} is not described", setting.name));
        assert_eq!(shown.config_type, ConfigType::from(setting.kind) as i8, "{}", setting.name);
        assert_eq!(shown.is_sensitive, setting.kind == Kind::Password, "{}", setting.name);
        let told = shown.documentation.as_deref().unwrap_or_default();
        match setting.status {
            Status::Fixed(why) => {
                assert!(shown.read_only && told.contains(why), "{} is shown as fixed: {told:?}", setting.name);
                live.refuses(scope, setting);
                fixed += 1;
            }
            Status::Honoured if setting.update == Update::ReadOnly => {
                assert!(shown.read_only && !told.is_empty(), "{}", setting.name);
                live.refuses(scope, setting);
                read_only += 1;
            }
            Status::Honoured if setting.update == Update::PerBroker => {
                // What it does is in live_listeners.rs.
                let (code, message) = alter(&mut live.connection, BROKER, "", setting.name, Some("PEM"));
                assert_eq!(code, INVALID_REQUEST, "{}", setting.name);
                assert!(
                    message.contains("broker id must be specified") || message.contains("only per-listener"),
                    "{message}"
                );
                honoured += 1;
            }
            Status::Honoured => {
                assert!(!shown.read_only && !told.is_empty(), "{}", setting.name);
                live.honours(scope, setting);
                honoured += 1;
            }
        }
    }
    println!("{honoured} honoured and changed, {read_only} honoured from the start on, {fixed} fixed");
    assert_eq!(honoured + read_only + fixed, TABLE.lines().count() - 1);
}

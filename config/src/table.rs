//! What is known of each property: the generated tables and how to find a row.

use crate::tables;

/// What a property belongs to. Kafka's resource types of DescribeConfigs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    Topic,
    Broker,
    Group,
    ClientMetrics,
}

impl Scope {
    pub const ALL: [Scope; 4] = [Scope::Topic, Scope::Broker, Scope::Group, Scope::ClientMetrics];

    /// Every property of the scope, ordered by name.
    pub fn settings(self) -> &'static [Setting] {
        match self {
            Scope::Topic => tables::topic::SETTINGS,
            Scope::Broker => tables::broker::SETTINGS,
            Scope::Group => tables::group::SETTINGS,
            Scope::ClientMetrics => tables::client_metrics::SETTINGS,
        }
    }

    pub fn find(self, name: &str) -> Option<&'static Setting> {
        let all = self.settings();
        all.binary_search_by(|s| s.name.cmp(name)).ok().and_then(|i| all.get(i))
    }
}

/// Kafka's types of a property (`ConfigDef.Type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Boolean,
    String,
    Int,
    Short,
    Long,
    Double,
    List,
    Class,
    Password,
}

impl Kind {
    /// As Kafka writes it in its messages.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Boolean => "BOOLEAN",
            Kind::String => "STRING",
            Kind::Int => "INT",
            Kind::Short => "SHORT",
            Kind::Long => "LONG",
            Kind::Double => "DOUBLE",
            Kind::List => "LIST",
            Kind::Class => "CLASS",
            Kind::Password => "PASSWORD",
        }
    }
}

/// What a value must satisfy beyond its type.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Check {
    Any,
    AtLeast(i64),
    /// Both ends included.
    Between(i64, i64),
    OneOf(&'static [&'static str]),
    OneOfAnyCase(&'static [&'static str]),
    /// A list of some of these.
    AnyOf(&'static [&'static str]),
    NonEmpty,
    /// 1 to 9, or -1 for the default of the codec.
    GzipLevel,
    /// `*`, or partition:broker pairs.
    ThrottledReplicas,
    /// `latest`, `earliest` or `by_duration:` with an ISO 8601 duration.
    OffsetReset,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Importance {
    High,
    Medium,
    Low,
}

/// Whether a broker property may change while the broker runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Update {
    ReadOnly,
    /// On one broker only; what is TLS, of one listener only.
    PerBroker,
    /// On one broker, or as the default of all.
    ClusterWide,
}

/// What this broker does with a property.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Honoured,
    /// Only the default is accepted; the text says why.
    Fixed(&'static str),
}

/// One property.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    pub name: &'static str,
    pub kind: Kind,
    /// The text form; `None` where Kafka has null, or no default at all.
    pub default: Option<&'static str>,
    pub check: Check,
    pub importance: Importance,
    pub update: Update,
    pub status: Status,
    /// Topic properties: the broker properties that give the default, the first one that is set decides.
    pub synonyms: &'static [&'static str],
    /// One or two sentences; empty for a fixed property.
    pub doc: &'static str,
}

impl Setting {
    /// What a reader is told about the property: its meaning, or why it is fixed.
    pub fn documentation(&self) -> String {
        match self.status {
            Status::Honoured => self.doc.to_owned(),
            Status::Fixed(why) => format!("Fixed at its default: {why}."),
        }
    }

    /// Whether no change of it is taken while the broker runs.
    pub fn is_read_only(&self) -> bool {
        self.update == Update::ReadOnly || self.status != Status::Honoured
    }

    /// Passwords are never shown.
    pub fn is_sensitive(&self) -> bool {
        self.kind == Kind::Password
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::Value;

    #[test]
    fn tables_are_ordered_and_complete() {
        for scope in Scope::ALL {
            let all = scope.settings();
            assert!(all.windows(2).all(|w| w[0].name < w[1].name), "{scope:?} is not ordered");
            for s in all {
                assert!(std::ptr::eq(scope.find(s.name).unwrap(), s));
                assert!(!s.documentation().is_empty(), "{}", s.name);
            }
        }
        let rows: usize = Scope::ALL.iter().map(|s| s.settings().len()).sum();
        let data = include_str!("../data/kafka-4.3-configs.tsv").lines().count() - 1;
        let own = include_str!("../data/corelane-own.tsv").lines().count() - 1;
        assert_eq!(rows, data + own);
    }

    #[test]
    fn every_default_is_a_valid_value_of_its_property() {
        for s in Scope::ALL.iter().flat_map(|s| s.settings()) {
            if let Some(d) = s.default {
                let v = Value::parse(s, d).unwrap_or_else(|e| panic!("{}: {e}", s.name));
                if s.kind != Kind::Double {
                    assert_eq!(v.to_string(), d, "{}", s.name);
                }
            }
        }
    }

    #[test]
    fn synonyms_name_broker_properties_of_the_same_fate() {
        for t in Scope::Topic.settings() {
            for s in t.synonyms {
                let b = Scope::Broker.find(s).unwrap_or_else(|| panic!("{}: no broker property {s}", t.name));
                assert_eq!(std::mem::discriminant(&b.status), std::mem::discriminant(&t.status), "{s}");
            }
        }
    }
}

//! Quotas of clients, as the controller keeps them (KIP-546; Kafka: `ClientQuotaControlManager`).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use corelane_protocol::{ErrorCode, Str};

use super::image::ClusterImage;
use super::records::MetadataRecord;
use super::{AT_ONCE, Decision, Refused};
use crate::shard::Shard;

pub const USER: &str = "user";
pub const CLIENT_ID: &str = "client-id";
pub const IP: &str = "ip";

/// Names of quotas.
pub const PRODUCER_BYTE_RATE: &str = "producer_byte_rate";
pub const CONSUMER_BYTE_RATE: &str = "consumer_byte_rate";
pub const REQUEST_PERCENTAGE: &str = "request_percentage";
pub const CONTROLLER_MUTATION_RATE: &str = "controller_mutation_rate";
pub const CONNECTION_CREATION_RATE: &str = "connection_creation_rate";

/// Whom of its kind an entity means.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Name {
    /// Everybody who has no quota of his own.
    Default,
    Of(Arc<str>),
}

impl Name {
    pub fn from_wire(name: Option<&str>) -> Name {
        name.map_or(Name::Default, |name| Name::Of(name.into()))
    }

    pub fn to_wire(&self) -> Option<Str> {
        match self {
            Name::Default => None,
            Name::Of(name) => Some(name.to_string().into()),
        }
    }
}

/// Whom quotas are for: what it names of a client.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QuotaEntity {
    pub user: Option<Name>,
    pub client_id: Option<Name>,
    pub ip: Option<Name>,
}

/// An entity as requests and records name it: types and names, in no order.
pub type NamedEntity = BTreeMap<String, Name>;

impl QuotaEntity {
    /// Types with their names, in the order in which Kafka lists them.
    pub fn parts(&self) -> impl Iterator<Item = (&'static str, &Name)> {
        let parts = [(CLIENT_ID, &self.client_id), (USER, &self.user), (IP, &self.ip)];
        parts.into_iter().filter_map(|(kind, name)| Some((kind, name.as_ref()?)))
    }

    /// Error: a type that there is not.
    pub fn from_parts(parts: impl IntoIterator<Item = (String, Name)>) -> Result<QuotaEntity, String> {
        let mut entity = QuotaEntity::default();
        for (kind, name) in parts {
            let part = match kind.as_str() {
                USER => &mut entity.user,
                CLIENT_ID => &mut entity.client_id,
                IP => &mut entity.ip,
                _ => return Err(format!("Unhandled client quota entity type: {kind}")),
            };
            *part = Some(name);
        }
        Ok(entity)
    }
}

/// Changes of one entity's quotas; `None` takes one away.
pub struct QuotaAlteration {
    pub entity: NamedEntity,
    pub changes: Vec<(String, Option<f64>)>,
}

/// Each entity succeeds or fails by itself, and is told of once.
pub struct AlterClientQuotas {
    pub alterations: Vec<QuotaAlteration>,
    pub validate_only: bool,
}

impl Decision for AlterClientQuotas {
    type Told = Vec<(NamedEntity, Result<(), Refused>)>;

    fn plan(self, _: &Shard, image: &ClusterImage) -> Result<(Vec<MetadataRecord>, Self::Told), Refused> {
        let mut records = Vec::new();
        let mut told: Self::Told = Vec::new();
        for QuotaAlteration { entity, changes } in self.alterations {
            let twice = changes.iter().map(|(key, _)| key).collect::<BTreeSet<_>>().len() < changes.len();
            let before = told.iter().position(|(known, _)| *known == entity);
            let outcome = match before.is_some() || twice {
                // What was said of it first stays: so it is in Kafka.
                true => Err(invalid("Ignoring duplicate entity")),
                false => plan_entity(image, &entity, changes).map(|planned| records.extend(planned)),
            };
            match before.and_then(|at| told.get_mut(at)) {
                Some(known) => known.1 = outcome,
                None => told.push((entity, outcome)),
            }
        }
        if records.len() > AT_ONCE {
            return Err(Refused::too_large());
        }
        Ok((if self.validate_only { Vec::new() } else { records }, told))
    }
}

fn invalid(message: impl Into<String>) -> Refused {
    Refused::new(ErrorCode::InvalidRequest, message)
}

fn plan_entity(
    image: &ClusterImage,
    named: &NamedEntity,
    changes: Vec<(String, Option<f64>)>,
) -> Result<Vec<MetadataRecord>, Refused> {
    let entity = checked(named)?;
    let current = image.quota(&entity);
    let mut records = Vec::new();
    for (key, value) in changes {
        let before = current.and_then(|quotas| quotas.get(&key));
        match value {
            Some(value) => check_value(&entity, &key, value)?,
            None if before.is_none() => continue,
            None => {}
        }
        if value.as_ref() != before {
            records.push(MetadataRecord::Quota { entity: entity.clone(), key, value });
        }
    }
    Ok(records)
}

fn checked(named: &NamedEntity) -> Result<QuotaEntity, Refused> {
    let empty = |(kind, name): (&String, &Name)| (*name == Name::Of("".into())).then(|| kind.clone());
    let entity = QuotaEntity::from_parts(named.clone()).map_err(invalid)?;
    if let Some(kind) = named.iter().find_map(empty) {
        return Err(invalid(format!("Empty {kind} not supported")));
    }
    match &entity {
        QuotaEntity { user: None, client_id: None, ip: None } => Err(invalid("Invalid empty client quota entity")),
        QuotaEntity { user: None, client_id: None, ip: Some(Name::Of(ip)) } if ip.parse::<IpAddr>().is_err() => {
            // Kafka would look names up: no name server decides here.
            Err(invalid(format!("{ip} is not a valid IP or resolvable host.")))
        }
        QuotaEntity { ip: None, .. } | QuotaEntity { user: None, client_id: None, .. } => Ok(entity),
        _ => Err(invalid("Invalid quota entity combination, IP entity should not be combined with User or ClientId")),
    }
}

fn check_value(entity: &QuotaEntity, key: &str, value: f64) -> Result<(), Refused> {
    let (most, kind) = match (key, entity.ip.is_some()) {
        (PRODUCER_BYTE_RATE | CONSUMER_BYTE_RATE, false) => (i64::MAX as f64, "a LONG"),
        (REQUEST_PERCENTAGE | CONTROLLER_MUTATION_RATE, false) => (f64::INFINITY, "a DOUBLE"),
        (CONNECTION_CREATION_RATE, true) => (f64::from(i32::MAX), "an INT"),
        _ => return Err(invalid(format!("Invalid configuration key {key}"))),
    };
    let is_whole = most < f64::INFINITY;
    match value {
        _ if value.is_nan() || value <= 0.0 => Err(invalid(format!("Quota {key} must be greater than 0"))),
        _ if value > most => Err(invalid(format!("Proposed value for {key} is too large for {kind}."))),
        _ if is_whole && (value % 1.0).abs() > 1e-6 => Err(invalid(format!("{key} cannot be a fractional value."))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entity(parts: &[(&str, Option<&str>)]) -> NamedEntity {
        parts.iter().map(|(kind, name)| (kind.to_string(), Name::from_wire(*name))).collect()
    }

    fn plan(parts: &[(&str, Option<&str>)], key: &str, value: f64) -> Result<usize, String> {
        let planned = plan_entity(&ClusterImage::default(), &entity(parts), vec![(key.into(), Some(value))]);
        planned.map(|records| records.len()).map_err(|refused| refused.message)
    }

    #[test]
    fn entities_and_values_are_checked() {
        for parts in [
            &[(USER, Some("a"))][..],
            &[(USER, None)],
            &[(CLIENT_ID, Some("a"))],
            &[(USER, Some("a")), (CLIENT_ID, None)],
            &[(USER, None), (CLIENT_ID, None)],
        ] {
            assert_eq!(plan(parts, PRODUCER_BYTE_RATE, 5.0), Ok(1));
            assert_eq!(plan(parts, REQUEST_PERCENTAGE, 0.5), Ok(1));
            assert!(plan(parts, CONNECTION_CREATION_RATE, 5.0).is_err());
        }
        for ip in [Some("10.0.0.1"), Some("::1"), None] {
            assert_eq!(plan(&[(IP, ip)], CONNECTION_CREATION_RATE, 5.0), Ok(1));
            assert!(plan(&[(IP, ip)], PRODUCER_BYTE_RATE, 5.0).is_err());
        }
        for bad in [
            &[][..],
            &[("group", Some("a"))],
            &[(USER, Some(""))],
            &[(IP, Some("10.0.0.1")), (USER, Some("a"))],
            &[(IP, None), (CLIENT_ID, None)],
            &[(IP, Some("some.host"))],
        ] {
            assert!(plan(bad, PRODUCER_BYTE_RATE, 5.0).is_err(), "{bad:?}");
        }
        for (key, value) in [
            (PRODUCER_BYTE_RATE, 0.0),
            (PRODUCER_BYTE_RATE, -1.0),
            (PRODUCER_BYTE_RATE, 1.5),
            (PRODUCER_BYTE_RATE, 1e19),
            (PRODUCER_BYTE_RATE, f64::NAN),
            (CONTROLLER_MUTATION_RATE, 0.0),
            ("nothing", 1.0),
        ] {
            assert!(plan(&[(USER, None)], key, value).is_err(), "{key} {value}");
        }
        assert!(plan(&[(IP, None)], CONNECTION_CREATION_RATE, 3e9).is_err());
    }

    #[test]
    fn what_stays_as_it_is_makes_no_record() {
        let mut image = ClusterImage::default();
        let user = QuotaEntity { user: Some(Name::Default), ..QuotaEntity::default() };
        let set = MetadataRecord::Quota { entity: user, key: PRODUCER_BYTE_RATE.into(), value: Some(5.0) };
        image.apply(&set).unwrap();
        let changes = vec![(PRODUCER_BYTE_RATE.to_owned(), Some(5.0)), (CONSUMER_BYTE_RATE.to_owned(), None)];
        assert_eq!(plan_entity(&image, &entity(&[(USER, None)]), changes), Ok(Vec::new()));
        let changes = vec![(PRODUCER_BYTE_RATE.to_owned(), None)];
        assert_eq!(plan_entity(&image, &entity(&[(USER, None)]), changes).unwrap().len(), 1);
    }
}

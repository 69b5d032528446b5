//! DescribeClientQuotas (KIP-546): the quotas of entities that fit a filter (Kafka: `ClientQuotasImage.describe`).

use std::collections::{BTreeMap, BTreeSet};

use corelane_protocol::ErrorCode;
use corelane_protocol::messages::{
    DescribeClientQuotasRequest, DescribeClientQuotasResponse, DescribeClientQuotasResponseEntityData,
    DescribeClientQuotasResponseEntryData, DescribeClientQuotasResponseValueData,
};

use crate::controller::Refused;
use crate::controller::quotas::{CLIENT_ID, IP, Name, QuotaEntity, USER};
use crate::kafka::request::RequestContext;

/// Kafka's codes: with this name, the default, any.
const EXACT: i8 = 0;
const DEFAULT: i8 = 1;
const SPECIFIED: i8 = 2;

pub async fn handle(context: RequestContext, request: DescribeClientQuotasRequest) -> DescribeClientQuotasResponse {
    let filter = match Filter::new(&request) {
        Ok(filter) => filter,
        Err(refused) => {
            let (error_code, error_message) = super::outcome_of(Err(refused));
            return DescribeClientQuotasResponse { error_code, error_message, entries: None, ..Default::default() };
        }
    };
    let image = context.shard.image();
    let fitting = image.quotas().filter(|(entity, _)| filter.fits(entity));
    let entries = fitting.map(|(entity, quotas)| DescribeClientQuotasResponseEntryData {
        entity: entity
            .parts()
            .map(|(kind, name)| DescribeClientQuotasResponseEntityData {
                entity_type: kind.into(),
                entity_name: name.to_wire(),
                ..Default::default()
            })
            .collect(),
        values: quotas
            .iter()
            .map(|(key, value)| DescribeClientQuotasResponseValueData {
                key: key.clone().into(),
                value: *value,
                ..Default::default()
            })
            .collect(),
        ..Default::default()
    });
    DescribeClientQuotasResponse { entries: Some(entries.collect()), ..Default::default() }
}

struct Filter {
    exact: BTreeMap<String, Name>,
    present: BTreeSet<String>,
    strict: bool,
}

impl Filter {
    fn new(request: &DescribeClientQuotasRequest) -> Result<Filter, Refused> {
        let invalid = |message: String| Err(Refused::new(ErrorCode::InvalidRequest, message));
        let mut filter = Filter { exact: BTreeMap::new(), present: BTreeSet::new(), strict: request.strict };
        for component in &request.components {
            let kind = component.entity_type.to_string();
            if kind.is_empty() {
                return invalid("Invalid empty entity type.".to_owned());
            }
            if filter.asks_for(&kind) {
                return invalid(format!("Entity type {kind} cannot appear more than once in the filter."));
            }
            if ![IP, USER, CLIENT_ID].contains(&kind.as_str()) {
                let message = format!("Unsupported entity type {kind}");
                return Err(Refused::new(ErrorCode::UnsupportedVersion, message));
            }
            match (component.match_type, &component.r#match) {
                (EXACT, Some(name)) => drop(filter.exact.insert(kind, Name::from_wire(Some(name)))),
                (DEFAULT, None) => drop(filter.exact.insert(kind, Name::Default)),
                (SPECIFIED, None) => drop(filter.present.insert(kind)),
                (EXACT | DEFAULT | SPECIFIED, _) => {
                    return invalid("The match type asks for a match string, or for none.".to_owned());
                }
                (other, _) => return invalid(format!("Unknown match type {other}")),
            }
        }
        if filter.asks_for(IP) && (filter.asks_for(USER) || filter.asks_for(CLIENT_ID)) {
            return invalid("An IP filter component cannot be combined with one of a user or client id.".to_owned());
        }
        Ok(filter)
    }

    fn asks_for(&self, kind: &str) -> bool {
        self.exact.contains_key(kind) || self.present.contains(kind)
    }

    fn fits(&self, entity: &QuotaEntity) -> bool {
        let parts: BTreeMap<&str, &Name> = entity.parts().collect();
        (!self.strict || parts.len() == self.exact.len() + self.present.len())
            && self.exact.iter().all(|(kind, name)| parts.get(kind.as_str()) == Some(&name))
            && self.present.iter().all(|kind| parts.contains_key(kind.as_str()))
    }
}

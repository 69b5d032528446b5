//! AlterClientQuotas (KIP-546): each entity's quotas change or stay.

use corelane_protocol::messages::{
    AlterClientQuotasRequest, AlterClientQuotasRequestEntryData, AlterClientQuotasResponse,
    AlterClientQuotasResponseEntityData, AlterClientQuotasResponseEntryData,
};

use crate::controller::quotas::{AlterClientQuotas, Name, NamedEntity, QuotaAlteration, QuotaEntity};
use crate::controller::requests::ask;
use crate::kafka::request::RequestContext;

pub async fn handle(context: RequestContext, request: AlterClientQuotasRequest) -> AlterClientQuotasResponse {
    let alterations = request.entries.iter().map(|entry| QuotaAlteration {
        entity: named(entry),
        changes: entry.ops.iter().map(|op| (op.key.to_string(), (!op.remove).then_some(op.value))).collect(),
    });
    let call = AlterClientQuotas { alterations: alterations.collect(), validate_only: request.validate_only };
    let entries = match ask(&context.shard, call).await {
        Ok(told) => told
            .into_iter()
            .map(|(entity, result)| {
                let (error_code, error_message) = super::outcome_of(result);
                let entity = parts(entity);
                AlterClientQuotasResponseEntryData { error_code, error_message, entity, ..Default::default() }
            })
            .collect(),
        Err(refused) => {
            let (error_code, error_message) = super::outcome_of(Err(refused));
            all_refused(&request, error_code, error_message.as_deref())
        }
    };
    AlterClientQuotasResponse { entries, ..Default::default() }
}

/// The same answer for every entry of the request.
pub fn all_refused(
    request: &AlterClientQuotasRequest,
    error_code: i16,
    message: Option<&str>,
) -> Vec<AlterClientQuotasResponseEntryData> {
    let refused = |entry: &AlterClientQuotasRequestEntryData| AlterClientQuotasResponseEntryData {
        error_code,
        error_message: message.map(|text| text.to_owned().into()),
        entity: entry
            .entity
            .iter()
            .map(|part| AlterClientQuotasResponseEntityData {
                entity_type: part.entity_type.clone(),
                entity_name: part.entity_name.clone(),
                ..Default::default()
            })
            .collect(),
        ..Default::default()
    };
    request.entries.iter().map(refused).collect()
}

/// Of a type that is named twice the last name counts.
fn named(entry: &AlterClientQuotasRequestEntryData) -> NamedEntity {
    let part = |part: &corelane_protocol::messages::alter_client_quotas_request::AlterClientQuotasRequestEntityData| {
        (part.entity_type.to_string(), Name::from_wire(part.entity_name.as_deref()))
    };
    entry.entity.iter().map(part).collect()
}

fn parts(entity: NamedEntity) -> Vec<AlterClientQuotasResponseEntityData> {
    let part = |kind: String, name: &Name| AlterClientQuotasResponseEntityData {
        entity_type: kind.into(),
        entity_name: name.to_wire(),
        ..Default::default()
    };
    match QuotaEntity::from_parts(entity.clone()) {
        Ok(known) => known.parts().map(|(kind, name)| part(kind.to_owned(), name)).collect(),
        Err(_) => entity.into_iter().map(|(kind, name)| part(kind, &name)).collect(),
    }
}

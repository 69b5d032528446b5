//! IncrementalAlterConfigs (KIP-339): set, delete, append, subtract.

use std::rc::Rc;

use corelane_config::alter::check_form;
use corelane_config::{Alteration, ConfigError, Operation};
use corelane_protocol::messages::incremental_alter_configs_response::IncrementalAlterConfigsResponseAlterConfigsResourceResponse;
use corelane_protocol::messages::{IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse};
use corelane_protocol::{ErrorCode, Str};

use crate::controller::Refused;
use crate::controller::image::ResourceType;
use crate::controller::requests::{ConfigChange, SetConfigs, ask};
use crate::kafka::request::RequestContext;
use crate::shard::Shard;

pub async fn handle(
    context: RequestContext,
    request: IncrementalAlterConfigsRequest,
) -> IncrementalAlterConfigsResponse {
    let shard = &context.shard;
    let named: Vec<_> = request.resources.iter().map(|r| (r.resource_type, r.resource_name.clone())).collect();
    let mut responses = Vec::with_capacity(request.resources.len());
    for resource in request.resources {
        let changes = resource.configs.iter().map(|config| {
            Ok(Alteration {
                name: config.name.to_string(),
                operation: Operation::try_from(config.config_operation)?,
                value: config.value.as_ref().map(Str::to_string),
            })
        });
        let changes = changes.collect::<Result<Vec<_>, ConfigError>>();
        let change = changes.and_then(|changes| check_form(&changes).map(|()| ConfigChange::Apply(changes)));
        let (kind, name) = (resource.resource_type, &resource.resource_name);
        let result = alter(shard, &named, kind, name, change.map_err(Refused::from), request.validate_only).await;
        let (error_code, error_message) = super::outcome_of(result);
        responses.push(IncrementalAlterConfigsResponseAlterConfigsResourceResponse {
            error_code,
            error_message,
            resource_type: resource.resource_type,
            resource_name: resource.resource_name,
            ..Default::default()
        });
    }
    IncrementalAlterConfigsResponse { responses, ..Default::default() }
}

/// Changes one of the resources that a request has `named`.
pub async fn alter(
    shard: &Rc<Shard>,
    named: &[(i8, Str)],
    kind: i8,
    name: &Str,
    change: Result<ConfigChange, Refused>,
    validate_only: bool,
) -> Result<(), Refused> {
    refuse_twice(named, kind, name)?;
    let change = change?;
    let kind = alterable(shard, kind, name)?;
    ask(shard, SetConfigs { kind, resource: name.to_string(), change, validate_only }).await
}

/// A type of resource whose configuration can change; a broker must be the one that is asked.
fn alterable(shard: &Shard, kind: i8, name: &str) -> Result<ResourceType, Refused> {
    let invalid = |message: String| Refused::new(ErrorCode::InvalidRequest, message);
    match ResourceType::from_code(kind) {
        Some(ResourceType::Broker) if !name.is_empty() => match name.parse::<i32>() {
            Ok(id) if id == shard.broker_id() => Ok(ResourceType::Broker),
            Ok(id) => {
                let own = shard.broker_id();
                Err(invalid(format!("Unexpected broker id, expected {own}, but received {id}")))
            }
            Err(_) => Err(invalid(format!("Node id must be an integer, but it is: {name}"))),
        },
        Some(kind) => Ok(kind),
        None => Err(invalid(format!("Unsupported resource type: {kind}"))),
    }
}

fn refuse_twice(named: &[(i8, Str)], kind: i8, name: &Str) -> Result<(), Refused> {
    match named.iter().filter(|(k, n)| *k == kind && n == name).count() {
        0 | 1 => Ok(()),
        _ => Err(Refused::new(ErrorCode::InvalidRequest, "Each resource must appear at most once.")),
    }
}

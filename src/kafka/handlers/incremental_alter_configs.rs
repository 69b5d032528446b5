//! IncrementalAlterConfigs (KIP-339): set, delete, append, subtract.

use corelane_acl::Operation;
use corelane_config::alter::check_form;
use corelane_config::{Alteration, ConfigError, Operation as Alter};
use corelane_protocol::messages::incremental_alter_configs_request::IncrementalAlterConfigsRequestAlterableConfig;
use corelane_protocol::messages::incremental_alter_configs_response::IncrementalAlterConfigsResponseAlterConfigsResourceResponse;
use corelane_protocol::messages::{IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse};
use corelane_protocol::{ErrorCode, Str};

use crate::controller::Refused;
use crate::controller::image::ResourceType;
use crate::controller::requests::{ConfigChange, SetConfigs, ask};
use crate::kafka::access::configured;
use crate::kafka::broker_loggers::{self, BROKER_LOGGER};
use crate::kafka::listeners::try_out;
use crate::kafka::request::RequestContext;
use crate::shard::Shard;

pub async fn handle(
    context: RequestContext,
    request: IncrementalAlterConfigsRequest,
) -> IncrementalAlterConfigsResponse {
    let named: Vec<_> = request.resources.iter().map(|r| (r.resource_type, r.resource_name.clone())).collect();
    let mut responses = Vec::with_capacity(request.resources.len());
    for resource in request.resources {
        let (kind, name, validate_only) = (resource.resource_type, &resource.resource_name, request.validate_only);
        let configs = resource.configs.iter().map(|c| (c.name.as_str(), c.config_operation, c.value.as_deref()));
        let result = match check_form(configs) {
            Err(error) => Err(error.into()),
            Ok(()) if kind == BROKER_LOGGER => refuse_twice(&named, kind, name)
                .and_then(|()| check_allowed(&context, kind, name))
                .and_then(|()| broker_loggers::alter(&context.shard, &resource, validate_only)),
            Ok(()) => alter(&context, &named, kind, name, change(&resource.configs), validate_only).await,
        };
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

fn change(configs: &[IncrementalAlterConfigsRequestAlterableConfig]) -> Result<ConfigChange, Refused> {
    let alterations = configs.iter().map(|config| {
        Ok(Alteration {
            name: config.name.to_string(),
            operation: Alter::try_from(config.config_operation)?,
            value: config.value.as_ref().map(Str::to_string),
        })
    });
    Ok(ConfigChange::Apply(alterations.collect::<Result<Vec<_>, ConfigError>>()?))
}

/// Changes one of the resources that a request has `named`. A broker of Kafka's looks at what is its own before its controller looks
/// at who asks; what else there is to say of a `change` is told only to who may make one.
pub async fn alter(
    context: &RequestContext,
    named: &[(i8, Str)],
    kind: i8,
    name: &Str,
    change: Result<ConfigChange, Refused>,
    validate_only: bool,
) -> Result<(), Refused> {
    refuse_twice(named, kind, name)?;
    let shard = &context.shard;
    let alterable = alterable(shard, kind, name)?;
    let allowed = check_allowed(context, kind, name);
    if alterable != ResourceType::Broker {
        allowed.clone()?;
    }
    let call = SetConfigs { kind: alterable, resource: name.to_string(), change: change?, validate_only };
    if alterable == ResourceType::Broker {
        call.outlook(shard)?;
    }
    allowed?;
    if let Some(wanted) = call.listeners(shard) {
        try_out(shard, wanted).await?;
    }
    ask(shard, call).await
}

/// Whether the client may alter the configuration of a resource.
fn check_allowed(context: &RequestContext, kind: i8, name: &str) -> Result<(), Refused> {
    match configured(kind, name) {
        Some((of, resource, error)) if !context.may(Operation::AlterConfigs, of, resource) => {
            Err(Refused::new(error, error.message()))
        }
        _ => Ok(()),
    }
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

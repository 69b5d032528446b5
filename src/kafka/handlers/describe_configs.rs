//! DescribeConfigs: every property with its value and where that comes from.

use corelane_config::ConfigEntry;
use corelane_protocol::messages::describe_configs_request::DescribeConfigsRequestDescribeConfigsResource;
use corelane_protocol::messages::describe_configs_response::{
    DescribeConfigsResponseDescribeConfigsResourceResult, DescribeConfigsResponseDescribeConfigsResult,
    DescribeConfigsResponseDescribeConfigsSynonym,
};
use corelane_protocol::messages::{DescribeConfigsRequest, DescribeConfigsResponse};
use corelane_protocol::{ErrorCode, Str};

use crate::controller::Refused;
use crate::controller::image::ResourceType;
use crate::controller::names::check_name;
use crate::kafka::broker_loggers::{self, BROKER_LOGGER};
use crate::kafka::request::RequestContext;
use crate::shard::Shard;

pub async fn handle(context: RequestContext, request: DescribeConfigsRequest) -> DescribeConfigsResponse {
    let known = |kind: i8| kind == BROKER_LOGGER || ResourceType::from_code(kind).is_some();
    let unknown = request.resources.iter().find(|resource| !known(resource.resource_type)).map(|resource| {
        let message = format!("Unexpected resource type {} for {}", resource.resource_type, resource.resource_name);
        Refused::new(ErrorCode::InvalidRequest, message)
    });
    let results = request.resources.iter().map(|resource| {
        // Kafka refuses the whole request then.
        let entries = match &unknown {
            Some(refused) => Err(refused.clone()),
            None if resource.resource_type == BROKER_LOGGER => {
                broker_loggers::check_described(&context.shard, &resource.resource_name).map(|()| Vec::new())
            }
            None => describe(&context.shard, resource.resource_type, &resource.resource_name),
        };
        let (error_code, error_message, configs) = match entries {
            Ok(entries) => (0, Some(Str::default()), entries),
            Err(refused) => (refused.code.code(), Some(refused.message.into()), Vec::new()),
        };
        let configs = configs
            .into_iter()
            .filter(|entry| wanted(resource, entry))
            .map(|entry| present(entry, request.include_synonyms, request.include_documentation));
        let loggers = match resource.resource_type {
            BROKER_LOGGER if error_code == 0 => broker_loggers::describe(resource),
            _ => Vec::new(),
        };
        DescribeConfigsResponseDescribeConfigsResult {
            error_code,
            error_message,
            resource_type: resource.resource_type,
            resource_name: resource.resource_name.clone(),
            configs: configs.chain(loggers).collect(),
            ..Default::default()
        }
    });
    DescribeConfigsResponse { results: results.collect(), ..Default::default() }
}

/// No keys given, or none at all, asks for every property.
fn wanted(resource: &DescribeConfigsRequestDescribeConfigsResource, entry: &ConfigEntry) -> bool {
    match &resource.configuration_keys {
        Some(keys) if !keys.is_empty() => keys.iter().any(|key| key.as_str() == entry.name),
        _ => true,
    }
}

fn describe(shard: &Shard, kind: i8, name: &Str) -> Result<Vec<ConfigEntry>, Refused> {
    let image = shard.image();
    match ResourceType::from_code(kind) {
        Some(ResourceType::Topic) => {
            check_name(name).map_err(|message| Refused::new(ErrorCode::InvalidTopicException, message))?;
            match image.topic_named(name) {
                Some(topic) => shard.config.describe_topic(&topic.configs),
                None => {
                    Err(Refused::new(ErrorCode::UnknownTopicOrPartition, ErrorCode::UnknownTopicOrPartition.message()))
                }
            }
        }
        Some(ResourceType::Broker) if name.is_empty() => shard.config.describe_broker_defaults(),
        Some(ResourceType::Broker) => match name.parse::<i32>() {
            Ok(id) if id == shard.broker_id() => shard.config.describe_broker(),
            Ok(id) => {
                let own = shard.broker_id();
                let message = format!("Unexpected broker id, expected {own} or empty string, but received {id}");
                Err(Refused::new(ErrorCode::InvalidRequest, message))
            }
            Err(_) => {
                let message = format!("Broker id must be an integer, but it is: {name}");
                Err(Refused::new(ErrorCode::InvalidRequest, message))
            }
        },
        Some(ResourceType::Group) if name.is_empty() => {
            Err(Refused::new(ErrorCode::InvalidRequest, "Group name must not be empty"))
        }
        Some(ResourceType::Group) => {
            let overrides = image.config(ResourceType::Group, name).cloned().unwrap_or_default();
            shard.config.describe_group(&overrides)
        }
        Some(ResourceType::ClientMetrics) if name.is_empty() => {
            Err(Refused::new(ErrorCode::InvalidRequest, "Client metrics subscription name must not be empty"))
        }
        Some(ResourceType::ClientMetrics) => {
            let overrides = image.config(ResourceType::ClientMetrics, name).cloned().unwrap_or_default();
            shard.config.describe_client_metrics(&overrides)
        }
        None => Err(Refused::new(ErrorCode::InvalidRequest, format!("Unsupported resource type: {kind}"))),
    }
}

fn present(
    entry: ConfigEntry,
    synonyms: bool,
    documentation: bool,
) -> DescribeConfigsResponseDescribeConfigsResourceResult {
    let synonyms = if synonyms { entry.synonyms } else { Vec::new() };
    DescribeConfigsResponseDescribeConfigsResourceResult {
        name: entry.name.into_owned().into(),
        value: entry.value.map(Into::into),
        read_only: entry.read_only,
        config_source: entry.source as i8,
        is_sensitive: entry.is_sensitive,
        synonyms: synonyms
            .into_iter()
            .map(|synonym| DescribeConfigsResponseDescribeConfigsSynonym {
                name: synonym.name.into_owned().into(),
                value: synonym.value.map(Into::into),
                source: synonym.source as i8,
                ..Default::default()
            })
            .collect(),
        config_type: entry.kind as i8,
        documentation: documentation.then(|| entry.documentation.into()),
        ..Default::default()
    }
}

//! ListConfigResources (KIP-1142): what has a configuration of its own.

use std::collections::BTreeSet;

use corelane_protocol::ErrorCode;
use corelane_protocol::messages::list_config_resources_response::ListConfigResourcesResponseConfigResource;
use corelane_protocol::messages::{ListConfigResourcesRequest, ListConfigResourcesResponse};

use crate::controller::image::ResourceType;
use crate::kafka::broker_loggers::BROKER_LOGGER;
use crate::kafka::request::RequestContext;

pub async fn handle(context: RequestContext, request: ListConfigResourcesRequest) -> ListConfigResourcesResponse {
    let (topic, broker, group) = (ResourceType::Topic as i8, ResourceType::Broker as i8, ResourceType::Group as i8);
    let client_metrics = ResourceType::ClientMetrics as i8;
    // v0 lists subscriptions to client metrics and nothing else.
    let types = match (context.version, request.resource_types.is_empty()) {
        (0, _) => vec![client_metrics],
        (_, true) => vec![topic, broker, BROKER_LOGGER, client_metrics, group],
        (_, false) => request.resource_types,
    };
    let types: BTreeSet<i8> = types.into_iter().collect();
    if types.iter().any(|t| ![topic, broker, BROKER_LOGGER, client_metrics, group].contains(t)) {
        return ListConfigResourcesResponse { error_code: ErrorCode::UnsupportedVersion.code(), ..Default::default() };
    }
    let image = context.shard.image();
    let mut config_resources = Vec::new();
    let mut add = |resource_type: i8, name: &str| {
        config_resources.push(ListConfigResourcesResponseConfigResource {
            resource_name: name.to_owned().into(),
            resource_type,
            ..Default::default()
        });
    };
    for kind in types {
        if kind == topic {
            image.topics().for_each(|t| add(topic, &t.name));
        } else if kind == broker || kind == BROKER_LOGGER {
            context.shard.node.broker_ids().for_each(|id| add(kind, &id.to_string()));
        } else {
            let of_kind = image.configs().filter(|((k, _), _)| *k as i8 == kind);
            of_kind.for_each(|((_, name), _)| add(kind, name));
        }
    }
    ListConfigResourcesResponse { config_resources, ..Default::default() }
}

//! AlterConfigs: replaces all overrides of a resource. Clients of today use IncrementalAlterConfigs.

use corelane_config::alter::collect;
use corelane_protocol::messages::alter_configs_response::AlterConfigsResponseAlterConfigsResourceResponse;
use corelane_protocol::messages::{AlterConfigsRequest, AlterConfigsResponse};

use super::incremental_alter_configs::alter;
use crate::controller::Refused;
use crate::controller::requests::ConfigChange;
use crate::kafka::request::RequestContext;

pub async fn handle(context: RequestContext, request: AlterConfigsRequest) -> AlterConfigsResponse {
    let named: Vec<_> = request.resources.iter().map(|r| (r.resource_type, r.resource_name.clone())).collect();
    let mut responses = Vec::with_capacity(request.resources.len());
    for resource in request.resources {
        let pairs = resource.configs.iter().map(|c| (c.name.as_str(), c.value.as_ref().map(|v| v.as_str())));
        let (kind, name) = (resource.resource_type, &resource.resource_name);
        let result = match collect(pairs) {
            Err(error) => Err(Refused::from(error)),
            Ok(all) => alter(&context, &named, kind, name, Ok(ConfigChange::Replace(all)), request.validate_only).await,
        };
        let (error_code, error_message) = super::outcome_of(result);
        responses.push(AlterConfigsResponseAlterConfigsResourceResponse {
            error_code,
            error_message,
            resource_type: resource.resource_type,
            resource_name: resource.resource_name,
            ..Default::default()
        });
    }
    AlterConfigsResponse { responses, ..Default::default() }
}

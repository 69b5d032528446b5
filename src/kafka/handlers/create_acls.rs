//! CreateAcls (KIP-140, KIP-290): each rule is made or refused by itself.

use corelane_acl::{CLUSTER_NAME, Operation, PatternType, Permission, ResourceType, Rule, WILDCARD};
use corelane_protocol::ErrorCode;
use corelane_protocol::messages::{
    CreateAclsRequest, CreateAclsRequestAclCreation, CreateAclsResponse, CreateAclsResponseAclCreationResult,
};

use crate::controller::Refused;
use crate::controller::acls::CreateAcls;
use crate::controller::requests::ask;
use crate::kafka::request::RequestContext;

pub async fn handle(context: RequestContext, request: CreateAclsRequest) -> CreateAclsResponse {
    let mut results: Vec<Result<(), Refused>> = Vec::with_capacity(request.creations.len());
    let mut rules = Vec::new();
    for creation in &request.creations {
        let checked = match context.shard.config.authorizer() {
            Some(_) => rule(creation),
            None => Err(super::security_disabled()),
        };
        results.push(checked.map(|rule| rules.push(rule)));
    }
    if !rules.is_empty()
        && let Err(refused) = ask(&context.shard, CreateAcls { rules }).await
    {
        results.iter_mut().filter(|result| result.is_ok()).for_each(|result| *result = Err(refused.clone()));
    }
    let results = results.into_iter().map(|result| {
        let Err(refused) = result else { return CreateAclsResponseAclCreationResult::default() };
        let (error_code, error_message) = super::outcome_of(Err(refused));
        CreateAclsResponseAclCreationResult { error_code, error_message, ..Default::default() }
    });
    CreateAclsResponse { results: results.collect(), ..Default::default() }
}

/// Kafka: `AclApis.handleCreateAcls`, then `AclControlManager.validateNewAcl`.
fn rule(creation: &CreateAclsRequestAclCreation) -> Result<Rule, Refused> {
    let refused = |message: String| Refused::new(ErrorCode::InvalidRequest, message);
    let name = creation.resource_name.as_str();
    let resource_type = ResourceType::from_code(creation.resource_type);
    if resource_type == Some(ResourceType::Cluster) && name != CLUSTER_NAME {
        return Err(refused(format!("The only valid name for the CLUSTER resource is {CLUSTER_NAME}")));
    }
    if name.is_empty() {
        return Err(refused("Invalid empty resource name".to_owned()));
    }
    let invalid = |what: &str, code: i8| refused(format!("Invalid {what} {code}"));
    let rule = Rule {
        principal: creation.principal.to_string(),
        resource_type: resource_type.ok_or_else(|| invalid("resourceType", creation.resource_type))?,
        pattern_type: PatternType::from_code(creation.resource_pattern_type)
            .ok_or_else(|| invalid("patternType", creation.resource_pattern_type))?,
        name: name.to_owned(),
        host: creation.host.to_string(),
        operation: Operation::from_code(creation.operation).ok_or_else(|| invalid("operation", creation.operation))?,
        permission: Permission::from_code(creation.permission_type)
            .ok_or_else(|| invalid("permissionType", creation.permission_type))?,
    };
    if !rule.principal.contains(':') {
        return Err(refused(format!(
            "Could not parse principal from `{}` (no colon is present separating the principal type from the principal name)",
            rule.principal
        )));
    }
    if rule.host.contains('/') && rule.host != WILDCARD && corelane_acl::Net::parse(&rule.host).is_none() {
        tracing::warn!(host = rule.host, "an access rule for a network that is none applies to nobody");
    }
    Ok(rule)
}

//! DeleteAcls (KIP-140, KIP-290): takes away the rules that fit filters, and tells which.

use corelane_acl::Rule;
use corelane_protocol::ErrorCode;
use corelane_protocol::messages::{
    DeleteAclsRequest, DeleteAclsResponse, DeleteAclsResponseDeleteAclsFilterResult,
    DeleteAclsResponseDeleteAclsMatchingAcl,
};

use super::describe_acls::Asked;
use crate::controller::Refused;
use crate::controller::acls::DeleteAcls;
use crate::controller::requests::ask;
use crate::kafka::request::RequestContext;

pub async fn handle(context: RequestContext, request: DeleteAclsRequest) -> DeleteAclsResponse {
    let mut filters = Vec::new();
    let mut results: Vec<Result<Vec<Rule>, Refused>> = Vec::with_capacity(request.filters.len());
    for filter in &request.filters {
        let asked = Asked {
            resource_type: filter.resource_type_filter,
            name: &filter.resource_name_filter,
            pattern_type: filter.pattern_type_filter,
            principal: &filter.principal_filter,
            host: &filter.host_filter,
            operation: filter.operation,
            permission: filter.permission_type,
        };
        let checked = match context.shard.config.authorizer() {
            Some(_) => asked.filter().map_err(|message| Refused::new(ErrorCode::InvalidRequest, message)),
            None => Err(super::security_disabled()),
        };
        results.push(checked.map(|filter| {
            filters.push(filter);
            Vec::new()
        }));
    }
    if !filters.is_empty() {
        let mut found = ask(&context.shard, DeleteAcls { filters }).await.map(Vec::into_iter);
        for result in results.iter_mut().filter(|result| result.is_ok()) {
            *result = found.as_mut().map(|found| found.next().unwrap_or_default()).map_err(|refused| refused.clone());
        }
    }
    let results = results.into_iter().map(|result| {
        let (result, rules) = match result {
            Ok(rules) => (Ok(()), rules),
            Err(refused) => (Err(refused), Vec::new()),
        };
        let (error_code, error_message) = super::outcome_of(result);
        let matching_acls = rules.into_iter().map(deleted).collect();
        DeleteAclsResponseDeleteAclsFilterResult { error_code, error_message, matching_acls, ..Default::default() }
    });
    DeleteAclsResponse { filter_results: results.collect(), ..Default::default() }
}

fn deleted(rule: Rule) -> DeleteAclsResponseDeleteAclsMatchingAcl {
    DeleteAclsResponseDeleteAclsMatchingAcl {
        error_message: None,
        resource_type: rule.resource_type.code(),
        pattern_type: rule.pattern_type.code(),
        operation: rule.operation.code(),
        permission_type: rule.permission.code(),
        resource_name: rule.name.into(),
        principal: rule.principal.into(),
        host: rule.host.into(),
        ..Default::default()
    }
}

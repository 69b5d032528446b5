//! Access rules (KIP-140, KIP-290).

use super::error::ClientError;
use super::routing::Cluster;
use corelane_acl::{Filter, Operation, PatternFilter, PatternType, Permission, ResourceType, Rule};
use corelane_protocol::Str;
use corelane_protocol::messages::{
    CreateAclsRequest, CreateAclsRequestAclCreation, DeleteAclsRequest, DeleteAclsRequestDeleteAclsFilter,
    DescribeAclsRequest,
};
use std::collections::BTreeSet;

/// Kafka's code for any of a kind.
const ANY: i8 = 1;
const MATCH: i8 = 2;

impl Cluster {
    pub fn create_acls(&mut self, rules: &[Rule]) -> Result<(), ClientError> {
        let creation = |rule: &Rule| CreateAclsRequestAclCreation {
            resource_type: rule.resource_type.code(),
            resource_name: text(&rule.name),
            resource_pattern_type: rule.pattern_type.code(),
            principal: text(&rule.principal),
            host: text(&rule.host),
            operation: rule.operation.code(),
            permission_type: rule.permission.code(),
            ..Default::default()
        };
        let request = CreateAclsRequest { creations: rules.iter().map(creation).collect(), ..Default::default() };
        let answer = self.any()?.call(&request)?;
        for (rule, r) in rules.iter().zip(&answer.results) {
            let what = || format!("rule for {} on {} {}", rule.principal, rule.resource_type.name(), rule.name);
            ClientError::check(what, r.error_code, r.error_message.as_deref())?;
        }
        Ok(())
    }

    /// Those that any of the filters means.
    pub fn describe_acls(&mut self, filters: &[Filter]) -> Result<BTreeSet<Rule>, ClientError> {
        let mut all = BTreeSet::new();
        for filter in filters {
            let request = DescribeAclsRequest {
                resource_type_filter: filter.resource_type.map_or(ANY, ResourceType::code),
                resource_name_filter: filter.name.as_deref().map(text),
                pattern_type_filter: pattern_code(filter.pattern),
                principal_filter: filter.principal.as_deref().map(text),
                host_filter: filter.host.as_deref().map(text),
                operation: filter.operation.map_or(ANY, Operation::code),
                permission_type: filter.permission.map_or(ANY, Permission::code),
                ..Default::default()
            };
            let answer = self.any()?.call(&request)?;
            ClientError::check(|| "rules".to_owned(), answer.error_code, answer.error_message.as_deref())?;
            for (resource, acl) in answer.resources.iter().flat_map(|r| r.acls.iter().map(move |acl| (r, acl))) {
                let codes = (resource.resource_type, resource.pattern_type, acl.operation, acl.permission_type);
                all.insert(rule(codes, &resource.resource_name, &acl.principal, &acl.host)?);
            }
        }
        Ok(all)
    }

    /// Deletes those that any of the filters means, and tells which they were.
    pub fn delete_acls(&mut self, filters: &[Filter]) -> Result<BTreeSet<Rule>, ClientError> {
        let asked = |filter: &Filter| DeleteAclsRequestDeleteAclsFilter {
            resource_type_filter: filter.resource_type.map_or(ANY, ResourceType::code),
            resource_name_filter: filter.name.as_deref().map(text),
            pattern_type_filter: pattern_code(filter.pattern),
            principal_filter: filter.principal.as_deref().map(text),
            host_filter: filter.host.as_deref().map(text),
            operation: filter.operation.map_or(ANY, Operation::code),
            permission_type: filter.permission.map_or(ANY, Permission::code),
            ..Default::default()
        };
        let request = DeleteAclsRequest { filters: filters.iter().map(asked).collect(), ..Default::default() };
        let answer = self.any()?.call(&request)?;
        let mut all = BTreeSet::new();
        for result in &answer.filter_results {
            ClientError::check(|| "rules".to_owned(), result.error_code, result.error_message.as_deref())?;
            for acl in &result.matching_acls {
                let what = || format!("rule for {} on {}", acl.principal, acl.resource_name);
                ClientError::check(what, acl.error_code, acl.error_message.as_deref())?;
                let codes = (acl.resource_type, acl.pattern_type, acl.operation, acl.permission_type);
                all.insert(rule(codes, &acl.resource_name, &acl.principal, &acl.host)?);
            }
        }
        Ok(all)
    }
}

fn pattern_code(pattern: PatternFilter) -> i8 {
    match pattern {
        PatternFilter::Any => ANY,
        PatternFilter::Match => MATCH,
        PatternFilter::Is(kind) => kind.code(),
    }
}

/// `codes`: of the resource's type, its pattern, the operation and the permission.
fn rule(codes: (i8, i8, i8, i8), name: &Str, principal: &Str, host: &Str) -> Result<Rule, ClientError> {
    let unknown = || ClientError::Invalid(format!("a rule of a kind that this client does not know: {codes:?}"));
    let (resource, pattern, operation, permission) = codes;
    Ok(Rule {
        principal: principal.to_string(),
        resource_type: ResourceType::from_code(resource).ok_or_else(unknown)?,
        pattern_type: PatternType::from_code(pattern).ok_or_else(unknown)?,
        name: name.to_string(),
        host: host.to_string(),
        operation: Operation::from_code(operation).ok_or_else(unknown)?,
        permission: Permission::from_code(permission).ok_or_else(unknown)?,
    })
}

fn text(text: &str) -> Str {
    Str::from(text.to_owned())
}

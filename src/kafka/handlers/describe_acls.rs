//! DescribeAcls (KIP-140, KIP-290): the rules that fit a filter, by the resources they are for.

use std::collections::BTreeMap;

use corelane_acl::{Filter, Operation, PatternFilter, PatternType, Permission, ResourceType};
use corelane_protocol::Str;
use corelane_protocol::messages::{
    DescribeAclsRequest, DescribeAclsResponse, DescribeAclsResponseAclDescription,
    DescribeAclsResponseDescribeAclsResource,
};

use crate::kafka::request::RequestContext;

pub async fn handle(context: RequestContext, request: DescribeAclsRequest) -> DescribeAclsResponse {
    if context.shard.config.authorizer().is_none() {
        let (error_code, error_message) = super::outcome_of(Err(super::security_disabled()));
        return DescribeAclsResponse { error_code, error_message, ..Default::default() };
    }
    let asked = Asked {
        resource_type: request.resource_type_filter,
        name: &request.resource_name_filter,
        pattern_type: request.pattern_type_filter,
        principal: &request.principal_filter,
        host: &request.host_filter,
        operation: request.operation,
        permission: request.permission_type,
    };
    // No rule is of a kind that there is not.
    let Ok(filter) = asked.filter() else { return DescribeAclsResponse::default() };
    let image = context.shard.image();
    let mut resources: BTreeMap<(ResourceType, PatternType, &str), Vec<_>> = BTreeMap::new();
    for (_, rule) in image.acls().iter().filter(|(_, rule)| filter.matches(rule)) {
        let pattern = (rule.resource_type, rule.pattern_type, rule.name.as_str());
        resources.entry(pattern).or_default().push(DescribeAclsResponseAclDescription {
            principal: rule.principal.clone().into(),
            host: rule.host.clone().into(),
            operation: rule.operation.code(),
            permission_type: rule.permission.code(),
            ..Default::default()
        });
    }
    let resource = |((resource_type, pattern_type, name), acls): ((ResourceType, PatternType, &str), Vec<_>)| {
        DescribeAclsResponseDescribeAclsResource {
            resource_type: resource_type.code(),
            resource_name: name.to_owned().into(),
            pattern_type: pattern_type.code(),
            acls,
            ..Default::default()
        }
    };
    DescribeAclsResponse { resources: resources.into_iter().map(resource).collect(), ..Default::default() }
}

/// A filter as requests carry it.
pub struct Asked<'a> {
    pub resource_type: i8,
    pub name: &'a Option<Str>,
    pub pattern_type: i8,
    pub principal: &'a Option<Str>,
    pub host: &'a Option<Str>,
    pub operation: i8,
    pub permission: i8,
}

/// Kafka's code for any, in each of the enumerations.
const ANY: i8 = 1;
const MATCH: i8 = 2;

impl Asked<'_> {
    /// Which half of the filter speaks of what there is not.
    pub fn filter(&self) -> Result<Filter, &'static str> {
        fn some<T>(code: i8, known: impl Fn(i8) -> Option<T>, half: &'static str) -> Result<Option<T>, &'static str> {
            if code == ANY { Ok(None) } else { known(code).map(Some).ok_or(half) }
        }
        const PATTERN: &str = "Unknown patternFilter.";
        const ENTRY: &str = "Unknown entryFilter.";
        let owned = |text: &Option<Str>| text.as_ref().map(Str::to_string);
        Ok(Filter {
            resource_type: some(self.resource_type, ResourceType::from_code, PATTERN)?,
            pattern: match self.pattern_type {
                ANY => PatternFilter::Any,
                MATCH => PatternFilter::Match,
                code => PatternFilter::Is(PatternType::from_code(code).ok_or(PATTERN)?),
            },
            name: owned(self.name),
            principal: owned(self.principal),
            host: owned(self.host),
            operation: some(self.operation, Operation::from_code, ENTRY)?,
            permission: some(self.permission, Permission::from_code, ENTRY)?,
        })
    }
}

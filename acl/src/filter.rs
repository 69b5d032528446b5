//! What rules a request means (`AclBindingFilter`). `None` is any.

use super::rule::{Operation, PatternType, Permission, ResourceType, Rule, WILDCARD};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatternFilter {
    Any,
    /// The patterns that a resource of the filter's name falls under.
    Match,
    Is(PatternType),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    pub resource_type: Option<ResourceType>,
    pub pattern: PatternFilter,
    pub name: Option<String>,
    pub principal: Option<String>,
    pub host: Option<String>,
    pub operation: Option<Operation>,
    pub permission: Option<Permission>,
}

impl Filter {
    pub fn matches(&self, rule: &Rule) -> bool {
        fn fits<T: PartialEq + ?Sized>(wanted: Option<&T>, is: &T) -> bool {
            wanted.is_none_or(|wanted| wanted == is)
        }
        fits(self.resource_type.as_ref(), &rule.resource_type)
            && fits(self.principal.as_ref(), &rule.principal)
            && fits(self.host.as_ref(), &rule.host)
            && fits(self.operation.as_ref(), &rule.operation)
            && fits(self.permission.as_ref(), &rule.permission)
            && self.matches_pattern(rule)
    }

    fn matches_pattern(&self, rule: &Rule) -> bool {
        if matches!(self.pattern, PatternFilter::Is(kind) if kind != rule.pattern_type) {
            return false;
        }
        let Some(name) = &self.name else { return true };
        match (self.pattern, rule.pattern_type) {
            (PatternFilter::Match, PatternType::Literal) => *name == rule.name || rule.name == WILDCARD,
            (PatternFilter::Match, PatternType::Prefixed) => name.starts_with(&rule.name),
            (PatternFilter::Any | PatternFilter::Is(_), _) => *name == rule.name,
        }
    }
}

//! What a broker is configured with, and the questions that it asks.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use super::acls::Acls;
use super::cell::Place;
use super::operations::Operations;
use super::rule::{EVERYBODY, Operation, PatternType, Permission, ResourceType, Rule};

#[derive(Clone, Debug, Default)]
pub struct Authorizer {
    super_users: HashSet<String>,
    /// Without a rule for a resource everybody may use it.
    allow_everyone: bool,
}

/// Who asks, and from where.
#[derive(Clone, Debug)]
pub struct Who {
    /// `Type:name`
    principal: Arc<str>,
    address: IpAddr,
    is_super: bool,
}

impl Who {
    pub fn principal(&self) -> &Arc<str> {
        &self.principal
    }
}

impl Authorizer {
    /// `super_users`: principals, `Type:name`.
    pub fn new(super_users: impl IntoIterator<Item = String>, allow_everyone: bool) -> Authorizer {
        Authorizer { super_users: super_users.into_iter().collect(), allow_everyone }
    }

    /// `principal`: `Type:name`.
    pub fn who(&self, principal: &str, address: IpAddr) -> Who {
        Who {
            principal: principal.into(),
            address: address.to_canonical(),
            is_super: self.super_users.contains(principal),
        }
    }

    /// All that `who` may do with a resource.
    pub fn operations(&self, acls: &Acls, who: &Who, of: ResourceType, name: &str) -> Operations {
        if who.is_super {
            return Operations::ALL;
        }
        let grant = acls.grant(&who.principal, who.address, of, name);
        if self.allow_everyone && !acls.has_rules(of, name) {
            return Operations::ALL;
        }
        grant.allowed.without(grant.denied)
    }

    pub fn allows(&self, acls: &Acls, who: &Who, operation: Operation, of: ResourceType, name: &str) -> bool {
        self.operations(acls, who, of, name).contains(operation)
    }

    /// Whether `who` may do it with some resource of a type (`Authorizer.authorizeByResourceType`): an ALLOW that no DENY for the
    /// same name, for a prefix of it, or for all covers. Operations imply nothing here, as in Kafka.
    pub fn allows_some(&self, acls: &Acls, who: &Who, operation: Operation, of: ResourceType) -> bool {
        // Kafka asks about a resource of this name: so super users get through, and everybody where nothing has a rule.
        if self.allows(acls, who, operation, of, "hardcode") {
            return true;
        }
        let comes_from = |host: &str| match Place::of(host) {
            Some(Place::Anywhere) => true,
            Some(Place::In(net)) => net.contains(who.address),
            None => false,
        };
        let applies = |rule: &&Rule| matches!(rule.operation, Operation::All) || rule.operation == operation;
        let rules = acls.of_principal(&who.principal, of).chain(acls.of_principal(EVERYBODY, of));
        let rules: Vec<&Rule> = rules.filter(applies).filter(|rule| comes_from(&rule.host)).collect();
        let (denied, allowed): (Vec<&Rule>, Vec<&Rule>) =
            rules.into_iter().partition(|rule| rule.permission == Permission::Deny);
        if denied.iter().any(|rule| rule.is_for_all()) {
            return false;
        }
        let denied: HashSet<(PatternType, &str)> =
            denied.into_iter().map(|rule| (rule.pattern_type, rule.name.as_str())).collect();
        let covered = |rule: &Rule| {
            let literal = rule.pattern_type == PatternType::Literal;
            let ends = rule.name.char_indices().map(|(at, c)| at + c.len_utf8());
            let mut prefixes = ends.filter_map(|end| rule.name.get(..end));
            literal && denied.contains(&(PatternType::Literal, rule.name.as_str()))
                || prefixes.any(|prefix| denied.contains(&(PatternType::Prefixed, prefix)))
        };
        allowed.into_iter().any(|rule| rule.is_for_all() || !covered(rule))
    }
}

#[cfg(test)]
#[path = "authorizer_tests.rs"]
mod tests;

//! All rules of a cluster. Versions share structure, so the next one costs what changed.

use std::net::IpAddr;
use std::sync::Arc;

use super::cell::{Cell, Place};
use super::operations::Grant;
use super::patterns::{Pattern, Patterns};
use super::rule::{EVERYBODY, Operation, PatternType, Permission, ResourceType, Rule};

/// A rule's name in the metadata log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleId(pub [u8; 16]);

#[derive(Clone, Debug, Default)]
pub struct Acls {
    rules: imbl::OrdMap<Arc<Rule>, RuleId>,
    by_id: imbl::HashMap<RuleId, Arc<Rule>>,
    principals: imbl::GenericHashMap<
        Box<str>,
        Patterns<Cell>,
        hashbrown::DefaultHashBuilder,
        imbl::shared_ptr::DefaultSharedPtr,
    >,
    /// What [`EVERYBODY`] may.
    everybody: Patterns<Cell>,
    /// Rules there are for a pattern, for whomever.
    counts: Patterns<usize>,
}

/// A change that does not fit the rules there are: the log that it comes from is damaged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Conflict {
    #[error("access rule {0:?} is there already")]
    Twice(Rule),
    #[error("there is another access rule of the id of {0:?}")]
    SameId(Rule),
    #[error("no access rule to remove has the id {0:?}")]
    Unknown(RuleId),
}

impl Acls {
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = (RuleId, &Arc<Rule>)> {
        self.rules.iter().map(|(rule, id)| (*id, rule))
    }

    pub fn contains(&self, rule: &Rule) -> bool {
        self.rules.contains_key(rule)
    }

    pub fn contains_id(&self, id: RuleId) -> bool {
        self.by_id.contains_key(&id)
    }

    /// Rules whose principal is written like this, for resources of one type.
    pub fn of_principal<'a>(&'a self, principal: &'a str, of: ResourceType) -> impl Iterator<Item = &'a Rule> {
        let first = Rule {
            principal: principal.to_owned(),
            resource_type: of,
            pattern_type: PatternType::Literal,
            name: String::new(),
            host: String::new(),
            operation: Operation::All,
            permission: Permission::Deny,
        };
        let rules = self.rules.range::<_, Rule>(first..).map(|(rule, _)| &**rule);
        rules.take_while(move |rule| rule.principal == principal && rule.resource_type == of)
    }

    pub fn add(&mut self, id: RuleId, rule: Rule) -> Result<(), Conflict> {
        if self.by_id.contains_key(&id) {
            return Err(Conflict::SameId(rule));
        }
        let rule = Arc::new(rule);
        if self.rules.contains_key(&rule) {
            return Err(Conflict::Twice((*rule).clone()));
        }
        self.rules.insert(rule.clone(), id);
        self.by_id.insert(id, rule.clone());
        self.counts.change(pattern(&rule), kept_name(&rule), |count| {
            *count += 1;
            true
        });
        self.change(&rule, |cell, place, rule| {
            cell.add(place, rule);
            true
        });
        Ok(())
    }

    pub fn remove(&mut self, id: RuleId) -> Result<Arc<Rule>, Conflict> {
        let rule = self.by_id.remove(&id).ok_or(Conflict::Unknown(id))?;
        self.rules.remove(&rule);
        self.counts.change(pattern(&rule), kept_name(&rule), |count| {
            *count = count.saturating_sub(1);
            *count > 0
        });
        self.change(&rule, Cell::remove);
        Ok(rule)
    }

    /// Changes what the principal of a rule may do.
    fn change(&mut self, rule: &Rule, change: impl FnOnce(&mut Cell, Place, (Operation, Permission)) -> bool) {
        // From nowhere nobody comes.
        let Some(place) = Place::of(&rule.host) else { return };
        let change = |cell: &mut Cell| change(cell, place, (rule.operation, rule.permission));
        let (pattern, name) = (pattern(rule), kept_name(rule));
        if rule.principal == EVERYBODY {
            return self.everybody.change(pattern, name, change);
        }
        let mut own = self.principals.remove(rule.principal.as_str()).unwrap_or_default();
        own.change(pattern, name, change);
        if !own.is_empty() {
            self.principals.insert(rule.principal.as_str().into(), own);
        }
    }

    /// What the rules say about a resource to a client.
    pub fn grant(&self, principal: &str, client: IpAddr, of: ResourceType, name: &str) -> Grant {
        let mut grant = Grant::default();
        if let Some(own) = self.principals.get(principal) {
            own.matching(of, name, |cell| grant.add(cell.grant(client)));
        }
        self.everybody.matching(of, name, |cell| grant.add(cell.grant(client)));
        grant
    }

    /// Whether there is any rule, for whomever, for a resource.
    pub fn has_rules(&self, of: ResourceType, name: &str) -> bool {
        let mut any = false;
        self.counts.matching(of, name, |_| any = true);
        any
    }
}

/// `*` is what all names begin with: nothing.
fn kept_name(rule: &Rule) -> &str {
    if rule.is_for_all() { "" } else { &rule.name }
}

fn pattern(rule: &Rule) -> Pattern {
    Pattern { of: rule.resource_type, prefixed: rule.is_for_all() || rule.pattern_type == PatternType::Prefixed }
}

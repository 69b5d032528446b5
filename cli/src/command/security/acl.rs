//! `corelane security acl`: rules, and the options that name them, as `kafka-acls.sh` has them.

use crate::args::Global;
use crate::command::connect;
use crate::exit::Failure;
use crate::output::{Output, Table};
use clap::{Args, Subcommand};
use corelane_acl::{
    CLUSTER_NAME, Filter, Operation, Operations, PatternFilter, PatternType, Permission, ResourceType, Rule, WILDCARD,
};
use serde_json::{Value, json};
use std::collections::BTreeSet;

#[derive(Debug, Subcommand)]
pub enum AclCommand {
    Add(AddArgs),
    List(ListArgs),
    Delete(DeleteArgs),
}

/// Make rules: one for each principal, host, resource and operation
///
/// Without a host it is for all, and it allows unless it is to deny.
#[derive(Debug, Args)]
pub struct AddArgs {
    #[command(flatten)]
    words: Words,
    /// What producers need: write, describe and create topics, write and describe transactional ids
    #[arg(long)]
    producer: bool,
    /// What consumers need: read and describe topics, read groups
    #[arg(long)]
    consumer: bool,
}

/// List rules: all, or those that have what is named
#[derive(Debug, Args)]
pub struct ListArgs {
    #[command(flatten)]
    words: Words,
}

/// Delete the rules that have what is named
#[derive(Debug, Args)]
pub struct DeleteArgs {
    #[command(flatten)]
    words: Words,
    /// Every rule that there is
    #[arg(long)]
    all: bool,
}

/// Of several of a kind each is meant.
#[derive(Debug, Args)]
struct Words {
    /// For whom, such as User:alice; User:* is everybody [default: any; a rule needs one]
    #[arg(long, value_name = "TYPE:NAME", value_parser = principal)]
    principal: Vec<String>,
    /// From where: an address, * is any; on Corelane also a network such as 10.0.0.0/8 [default: any]
    #[arg(long, value_name = "ADDRESS")]
    host: Vec<String>,
    /// What: Read, Write, Create, Delete, Alter, Describe, ClusterAction, DescribeConfigs, AlterConfigs, IdempotentWrite,
    /// CreateTokens, DescribeTokens, TwoPhaseCommit, All
    /// [default: any; a rule needs one]
    #[arg(long, value_name = "OPERATION", value_parser = operation)]
    operation: Vec<Operation>,
    /// Forbids instead of allowing
    #[arg(long)]
    deny: bool,
    /// Of this topic; * is every one [default: none]
    #[arg(long, value_name = "NAME")]
    topic: Vec<String>,
    /// Of this group [default: none]
    #[arg(long, value_name = "NAME")]
    group: Vec<String>,
    /// Of this transactional id [default: none]
    #[arg(long, value_name = "NAME")]
    transactional_id: Vec<String>,
    /// Of this delegation token [default: none]
    #[arg(long, value_name = "NAME")]
    delegation_token: Vec<String>,
    /// Of this user, whose tokens others make and see [default: none]
    #[arg(long, value_name = "TYPE:NAME")]
    user_principal: Vec<String>,
    /// The cluster itself
    #[arg(long)]
    cluster: bool,
    /// How the resource's name is meant: literal; prefixed, the beginning of names; to list and delete also any, and match, the
    /// rules that a resource of this name falls under [default: literal]
    #[arg(long, value_name = "PATTERN", value_parser = pattern)]
    resource_pattern_type: Option<PatternFilter>,
}

fn principal(text: &str) -> Result<String, String> {
    match text.split_once(':') {
        Some((kind, name)) if !kind.is_empty() && !name.is_empty() => Ok(text.to_owned()),
        _ => Err("a principal is TYPE:NAME, such as User:alice".to_owned()),
    }
}

/// `DescribeConfigs`, `describe_configs` and `describe-configs` are the same.
fn operation(text: &str) -> Result<Operation, String> {
    let wanted = text.replace(['_', '-'], "");
    let known = Operation::ALL.iter().find(|o| o.name().eq_ignore_ascii_case(&wanted));
    known.copied().ok_or_else(|| "there is no such operation".to_owned())
}

fn pattern(text: &str) -> Result<PatternFilter, String> {
    match text.to_ascii_lowercase().as_str() {
        "any" => Ok(PatternFilter::Any),
        "match" => Ok(PatternFilter::Match),
        "literal" => Ok(PatternFilter::Is(PatternType::Literal)),
        "prefixed" => Ok(PatternFilter::Is(PatternType::Prefixed)),
        _ => Err("allowed: literal, prefixed, match, any".to_owned()),
    }
}

impl Words {
    fn resources(&self) -> Vec<(ResourceType, String)> {
        let named = [
            (ResourceType::Topic, &self.topic),
            (ResourceType::Group, &self.group),
            (ResourceType::TransactionalId, &self.transactional_id),
            (ResourceType::DelegationToken, &self.delegation_token),
            (ResourceType::User, &self.user_principal),
        ];
        let each = named.into_iter().flat_map(|(kind, names)| names.iter().map(move |name| (kind, name.clone())));
        each.chain(self.cluster.then(|| (ResourceType::Cluster, CLUSTER_NAME.to_owned()))).collect()
    }

    /// One for each combination of what is named; nothing of a kind is any of it.
    fn filters(&self) -> Vec<Filter> {
        let resources = self.resources();
        let pattern = self.resource_pattern_type.unwrap_or(match resources.is_empty() {
            true => PatternFilter::Any,
            false => PatternFilter::Is(PatternType::Literal),
        });
        let mut all = Vec::new();
        for resource in any_of(&resources) {
            for principal in any_of(&self.principal) {
                for host in any_of(&self.host) {
                    for operation in any_of(&self.operation) {
                        all.push(Filter {
                            resource_type: resource.as_ref().map(|(kind, _)| *kind),
                            name: resource.as_ref().map(|(_, name)| name.clone()),
                            pattern,
                            principal: principal.clone(),
                            host: host.clone(),
                            operation,
                            permission: self.deny.then_some(Permission::Deny),
                        });
                    }
                }
            }
        }
        all
    }

    fn names_nothing(&self) -> bool {
        let lists = [&self.principal, &self.host].into_iter().all(Vec::is_empty);
        lists && self.operation.is_empty() && self.resources().is_empty() && !self.deny
    }
}

/// Each, or once any.
fn any_of<T: Clone>(list: &[T]) -> Vec<Option<T>> {
    if list.is_empty() { vec![None] } else { list.iter().cloned().map(Some).collect() }
}

impl AddArgs {
    fn operations(&self, of: ResourceType) -> Result<BTreeSet<Operation>, Failure> {
        use Operation::{Create, Describe, Read, Write};
        let mut all: BTreeSet<Operation> = self.words.operation.iter().copied().collect();
        if let Some(other) = all.iter().find(|o| **o != Operation::All && !Operations::supported(of).contains(**o)) {
            return Err(Failure::usage(format!("nothing of type {} knows the operation {}", of.name(), other.name())));
        }
        if self.producer {
            all.extend(match of {
                ResourceType::Topic => [Write, Describe, Create].as_slice(),
                ResourceType::TransactionalId => &[Write, Describe],
                _ => &[],
            });
        }
        if self.consumer {
            all.extend(match of {
                ResourceType::Topic => [Read, Describe].as_slice(),
                ResourceType::Group => &[Read],
                _ => &[],
            });
        }
        if all.is_empty() {
            return Err(Failure::usage(format!("what may be done with the {}? Give --operation", of.name())));
        }
        Ok(all)
    }

    fn rules(&self) -> Result<Vec<Rule>, Failure> {
        let words = &self.words;
        let resources = words.resources();
        if resources.is_empty() || words.principal.is_empty() {
            return Err(Failure::usage("a rule needs --principal and a resource, such as --topic"));
        }
        let pattern_type = match words.resource_pattern_type {
            None => PatternType::Literal,
            Some(PatternFilter::Is(kind)) => kind,
            Some(_) => return Err(Failure::usage("--resource-pattern-type of a rule is literal or prefixed")),
        };
        let hosts = if words.host.is_empty() { vec![WILDCARD.to_owned()] } else { words.host.clone() };
        let mut all = Vec::new();
        for (resource_type, name) in resources {
            for operation in self.operations(resource_type)? {
                for (principal, host) in words.principal.iter().flat_map(|p| hosts.iter().map(move |host| (p, host))) {
                    all.push(Rule {
                        principal: principal.clone(),
                        resource_type,
                        // The cluster has but one name.
                        pattern_type: if resource_type == ResourceType::Cluster {
                            PatternType::Literal
                        } else {
                            pattern_type
                        },
                        name: name.clone(),
                        host: host.clone(),
                        operation,
                        permission: if words.deny { Permission::Deny } else { Permission::Allow },
                    });
                }
            }
        }
        Ok(all)
    }
}

pub fn run(command: &AclCommand, options: &Global, out: &mut Output) -> Result<(), Failure> {
    match command {
        AclCommand::Add(args) => {
            let rules = args.rules()?;
            connect(options)?.create_acls(&rules)?;
            show("added", &rules.into_iter().collect(), out)
        }
        AclCommand::List(args) => show("rules", &connect(options)?.describe_acls(&args.words.filters())?, out),
        AclCommand::Delete(args) => {
            if args.all != args.words.names_nothing() {
                return Err(Failure::usage("say which rules, such as --principal User:alice, or --all, but not both"));
            }
            show("deleted", &connect(options)?.delete_acls(&args.words.filters())?, out)
        }
    }
}

fn show(what: &str, rules: &BTreeSet<Rule>, out: &mut Output) -> Result<(), Failure> {
    if out.is_json() {
        let rule = |r: &Rule| {
            json!({
                "principal": r.principal, "host": r.host, "permission": r.permission.name(), "operation": r.operation.name(),
                "resource": r.resource_type.name(), "pattern": r.pattern_type.name(), "name": r.name,
            })
        };
        let rules: Vec<Value> = rules.iter().map(rule).collect();
        return out.json(&json!({ what: rules }));
    }
    let mut table = Table::new(&["principal", "host", "permission", "operation", "resource", "pattern", "name"]);
    for r in rules {
        table.row(vec![
            r.principal.clone(),
            r.host.clone(),
            r.permission.name().to_owned(),
            r.operation.name().to_owned(),
            r.resource_type.name().to_owned(),
            r.pattern_type.name().to_owned(),
            r.name.clone(),
        ]);
    }
    match (what, table.is_empty()) {
        ("rules", false) => out.table(&table),
        ("rules", true) => out.line("no rules"),
        (_, true) => out.line(format!("{what}: nothing")),
        (_, false) => {
            out.line(format!("{what}:"))?;
            out.table(&table)
        }
    }
}

//! Kafka's access rules (KIP-11, KIP-290): who may do what with which resource, from where.
//!
//! [`Acls`] is all the rules of a cluster, immutable and cheap to change into the next version; [`Authorizer`] asks it with what a
//! broker is configured with. Semantics are those of Kafka's `StandardAuthorizer`: any DENY wins, READ, WRITE, DELETE and ALTER
//! allow DESCRIBE too, ALTER_CONFIGS allows DESCRIBE_CONFIGS, and without a rule for a resource only super users get through,
//! or everybody where that is configured. Two things differ, because Kafka's way surprises those who write rules:
//! - A host may be a network (`10.0.0.0/8`, `fd00::/8`), and an address of IPv6 may be written in any form. To Kafka such a host is a
//!   text that no client's address equals.
//! - `*` is any name. In Kafka it is any name that does not begin with `*`, so that a group `*x` slips through a DENY for `*`.
//!
//! Nothing here knows of requests, connections or the metadata log.

mod acls;
mod authorizer;
mod cell;
mod filter;
mod host;
mod operations;
mod patterns;
mod rule;

pub use acls::{Acls, Conflict, RuleId};
pub use authorizer::{Authorizer, Who};
pub use filter::{Filter, PatternFilter};
pub use host::Net;
pub use operations::{Grant, Operations};
pub use rule::{CLUSTER_NAME, EVERYBODY, Operation, PatternType, Permission, ResourceType, Rule, WILDCARD};

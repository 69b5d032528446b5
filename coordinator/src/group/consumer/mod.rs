//! Consumer groups of KIP-848: the coordinator itself assigns partitions, and moves one member at a time.
//!
//! A heartbeat changes what a member asks for, which raises the group's epoch; the epoch asks for a new target assignment;
//! and every member goes from what it has to its target at its own heartbeats, giving up before others take. Members whose
//! target does not change notice nothing but the epoch.
//!
//! Members of the classic protocol may be among them while a group moves from one protocol to the other, one member after the
//! other. The first member of the consumer protocol makes a classic group a consumer group, and the last one that goes makes it
//! a classic group again ([`upgrade`], [`downgrade`]), as far as `group.consumer.migration.policy` lets it.

mod batch;
pub(crate) mod change;
mod classic_join;
mod classic_member;
mod describe;
mod downgrade;
pub(crate) mod group;
mod heartbeat;
mod leave;
pub(crate) mod member;
mod offsets;
mod reconcile;
mod regex;
mod replay;
mod requests;
mod sessions;
mod target;
mod upgrade;

pub(crate) use offsets::Committer;

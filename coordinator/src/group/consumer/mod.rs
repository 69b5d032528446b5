//! Consumer groups of KIP-848: the coordinator itself assigns partitions, and moves one member at a time.
//!
//! A heartbeat changes what a member asks for, which raises the group's epoch; the epoch asks for a new target assignment;
//! and every member goes from what it has to its target at its own heartbeats, giving up before others take. Members whose
//! target does not change notice nothing but the epoch.

mod batch;
pub(crate) mod change;
mod describe;
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

pub(crate) use offsets::Committer;

//! The wire: what a broker does with broken input, and semantics that clients do not show.

mod bystander;
mod cluster;
mod config_audit;
mod configs;
mod connections;
mod consumer_groups;
mod features;
mod fetch;
mod fetch_waits;
mod frames;
mod groups;
mod metadata;
mod mutations;
mod offsets;
mod produce;
mod share_fetch;
mod share_groups;
mod share_state;
mod transactions;
mod unread;

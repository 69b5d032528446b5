//! Streams groups (KIP-1071) at the coordinator.

mod harness;
mod heartbeats;
mod offsets;
mod random;

//! Groups of the consumer protocol by behaviour: heartbeats in virtual time, with writes that end when the test says so.

mod classic;
mod harness;
mod heartbeats;
mod migration;
mod migration_random;
mod offsets;
mod random;
mod rebalance;
mod regexes;
mod statics;

//! Groups of the consumer protocol by behaviour: heartbeats in virtual time, with writes that end when the test says so.

mod harness;
mod heartbeats;
mod offsets;
mod random;
mod rebalance;
mod regexes;
mod statics;

//! The group coordinator by behaviour: requests in virtual time, with writes that end when the test says so.

mod admin;
mod harness;
mod heartbeat;
mod join;
mod leave;
mod offsets;
mod random;
mod rebalance;
mod replay;
mod retention;
mod share;
mod share_random;
mod static_members;
mod sync;
mod transactions;
mod writes;

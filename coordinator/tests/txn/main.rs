//! What a producer may rely on from the coordinator of its transactions.

mod crash;
mod ends;
mod expiry;
mod fencing;
mod harness;
mod records;

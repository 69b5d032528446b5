//! Transactions: who writes under a transactional id, and how its transaction ends.
//!
//! [`TxnCoordinator`] is one partition of `__transaction_state` at work. A request gives a [`Reply`], now or later, and
//! [`Effects`]: records to write, markers to send, answers for those who waited. Judge its behaviour by Apache Kafka's
//! `TransactionCoordinator`, `TransactionMetadata` and `TransactionStateManager`.
//!
//! # When a state counts
//!
//! As in Kafka a transition is made when the record that says so is durable, and a transactional id has one under way at most:
//! until then other requests see the old state or are told to come again. A write that fails leaves the old state.
//!
//! # The end of a transaction
//!
//! A `Prepare` record decides it. After that the markers go out ([`Markers`]), which the adapter repeats until every partition
//! has its own; then a `Complete` record. Whoever loads a `Prepare` record sends its markers again: a marker that is written
//! twice ends nothing twice.
//!
//! # Left out
//!
//! Transactions that outlive their producer (KIP-939), whose requests no stable version of Kafka serves.

mod admin;
mod config;
mod coordinator;
mod end;
mod expiry;
mod init_producer_id;
mod loading;
mod outcome;
mod partitions;
mod persist;
mod state;
mod transaction;
mod writes;

pub use admin::ListFilter;
pub use config::TxnConfig;
pub use coordinator::{TxnCoordinator, TxnCounts};
pub use end::TxnResult;
pub use outcome::{Answer, Completed, Effects, Markers, Outcome, Reply};
pub use partitions::{Partitions, TxnVersion};
pub use state::TxnState;
pub use transaction::Producer;

//! The share coordinator from outside: operations in, records and answers out.

mod coordinator;
mod harness;
mod in_flight;
mod random;

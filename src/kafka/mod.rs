//! Kafka's protocol: listeners, connections, and one handler for each API.

mod access;
pub mod answer_memory;
mod authentication;
mod broker_loggers;
pub mod connection;
mod each_partition;
mod fetch_read;
pub mod fetch_session;
mod fetch_tails;
mod fetch_watch;
mod frame;
mod handlers;
mod hints;
mod leaders;
pub mod limits;
pub mod listeners;
mod offset_answers;
mod operations;
mod pace;
pub mod request;
pub mod server;
pub mod share;
mod share_state;
pub mod telemetry;
pub mod topics;
mod transaction_check;
mod transport;

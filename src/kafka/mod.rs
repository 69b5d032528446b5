//! Kafka's protocol: listeners, connections, and one handler for each API.

pub mod answer_memory;
pub mod connection;
mod each_partition;
mod fetch_read;
pub mod fetch_session;
mod fetch_tails;
mod fetch_watch;
mod frame;
mod handlers;
mod leaders;
pub mod limits;
mod offset_answers;
mod operations;
pub mod request;
pub mod server;
pub mod share;
mod share_state;
pub mod topics;
mod transaction_check;

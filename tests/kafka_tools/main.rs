//! Apache Kafka's own command line tools of the same version, unchanged. Each is run on Apache Kafka and on Corelane; what
//! they print and their exit codes must be the same, but for what each broker names by itself.

mod acls;
mod both;
mod client_metrics;
mod cluster;
mod connect;
mod delegation_tokens;
mod groups;
mod load;
mod quotas;
mod share;
mod topics;
mod transactions;
mod users;

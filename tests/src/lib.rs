//! What the system tests share: a broker to test, clients to test it with, and real input.
//!
//! A test is written against "a Kafka bootstrap address and maybe control of the process", so that the same test runs
//! on Apache Kafka first, which proves the test, and on Corelane then. See [`broker`] for the environment variables.

pub mod api_versions;
pub mod batch;
pub mod broker;
pub mod command;
pub mod connection;
pub mod corpus;
pub mod issuer;
pub mod java;
pub mod kafka;
pub mod kcat;
pub mod keytool;
pub mod librdkafka;
pub mod oauth;
pub mod ports;
pub mod process;
pub mod sasl;
pub mod scratch;
pub mod small_disk;
pub mod tls;
pub mod wait;

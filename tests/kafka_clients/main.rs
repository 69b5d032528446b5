//! Unmodified Kafka clients against one broker: librdkafka here, Java and kcat beside it.

mod codecs;
mod compaction;
mod consumer_groups;
mod delegation_tokens;
mod java;
mod kafka_configs;
mod kcat;
mod key_stores;
mod librdkafka_admin;
mod librdkafka_groups;
mod librdkafka_records;
mod librdkafka_secured;
mod oauth;
mod rebootstrap;
mod sasl;
mod share;
mod streams;
mod telemetry;
mod tls;
mod transactions;

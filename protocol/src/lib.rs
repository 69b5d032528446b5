//! Apache Kafka's messages, generated from its own schemas

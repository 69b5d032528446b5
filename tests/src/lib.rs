//! Tests of the corelane binary against real Kafka clients

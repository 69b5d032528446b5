//! kafka-producer-perf-test, kafka-consumer-perf-test, kafka-e2e-latency, kafka-verifiable-producer and -consumer.

use crate::both::on_both;
use crate::topics::create;

const TOOLS: &str = "org.apache.kafka.tools";

fn tool(name: &str) -> String {
    format!("{TOOLS}.{name}")
}

#[test]
fn performance_tools() {
    on_both(|side| {
        create(side, "load", "2");
        let load = ["--topic", "load", "--num-records", "20000", "--record-size", "100", "--throughput", "-1"];
        let out = side.unseen(&tool("ProducerPerformance"), &load, "").ok();
        assert!(out.contains("20000 records sent, "), "{out}");
        let load = ["--topic", "load", "--num-records", "500", "--payload-monotonic", "--throughput", "5000"];
        let props = ["--command-property", "acks=1", "--print-metrics"];
        let out = side.unseen(&tool("ProducerPerformance"), &[&load[..], &props].concat(), "").ok();
        assert!(out.contains("500 records sent, ") && out.contains("producer-metrics:record-send-total"), "{out}");
        let read = ["--topic", "load", "--num-records", "20500", "--group", "load-readers", "--timeout", "30000"];
        let out = side.unseen(&tool("ConsumerPerformance"), &read, "").ok();
        let figures: Vec<&str> = out.lines().nth(1).expect("a line of figures").split(", ").collect();
        assert_eq!(figures.get(4).copied(), Some("20500"), "{out}");
        let latency =
            ["--topic", "load-latency", "--num-records", "50", "--producer-acks", "all", "--record-size", "20"];
        let out = side.unseen(&tool("EndToEndLatency"), &latency, "").ok();
        assert!(out.contains("Percentiles: 50th = "), "{out}");
    });
}

#[test]
fn verifiable_producer_and_consumer() {
    on_both(|side| {
        create(side, "verified", "1");
        let produce = ["--topic", "verified", "--max-messages", "200", "--throughput", "-1", "--acks", "-1"];
        let out = side.alone(&tool("VerifiableProducer"), &produce);
        assert_eq!(out.lines().filter(|l| l.contains("producer_send_success")).count(), 200, "{out}");
        assert!(out.contains(r#""sent":200"#) && out.contains(r#""acked":200"#), "{out}");
        let consume = ["--topic", "verified", "--group-id", "verifiers", "--max-messages", "200", "--verbose"];
        let out = side.alone(&tool("VerifiableConsumer"), &consume);
        let values: Vec<&str> = out.lines().filter(|l| l.contains(r#""name":"record_data""#)).collect();
        assert_eq!(values.len(), 200, "{out}");
        for (n, line) in values.iter().enumerate() {
            assert!(line.contains(&format!(r#""value":"{n}""#)), "record {n}: {line}");
        }
        assert!(out.contains("offsets_committed"), "{out}");
        side.tool(
            "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
            &["--group", "verifiers", "--describe"],
        )
        .ok();
    });
}

//! Java's clients push their metrics to a broker that has subscribed to them (KIP-714).

use corelane_tests::broker::{Broker, BrokerOptions, is_corelane};
use corelane_tests::java::Java;
use corelane_tests::librdkafka::unique;
use corelane_tests::wait;
use std::time::Duration;

#[test]
fn java_producer_pushes_the_metrics_that_it_is_asked_for() {
    if !is_corelane() {
        return;
    }
    let broker = Broker::start(BrokerOptions::default());
    let client = unique("pushing");
    let out = Java::shared().run("TelemetryChecks", &[broker.bootstrap(), &client]).ok();
    let id = out.lines().find_map(|line| line.strip_prefix("id ")).expect("the producer's id");
    let push = wait::until("a push", Duration::from_secs(60), || {
        let log = broker.log();
        log.lines().find(|line| line.contains("metrics of a client") && line.contains(id)).map(str::to_owned)
    });
    assert!(push.contains(&client) && push.contains("apache-kafka-java"), "{push}");
    assert!(push.contains("org.apache.kafka.producer.record.send.total="), "{push}");
    assert!(!broker.log().contains("pushed metrics cannot be read"), "{}", broker.log_tail());
}

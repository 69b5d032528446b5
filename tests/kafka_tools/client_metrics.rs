//! kafka-client-metrics and kafka-configs on subscriptions.

use crate::both::on_both;

const CLIENT_METRICS: &str = "org.apache.kafka.tools.ClientMetricsCommand";
const CONFIGS: &str = "kafka.admin.ConfigCommand";

#[test]
fn kafka_client_metrics() {
    on_both(|side| {
        let metrics = |arguments: &[&str]| side.tool(CLIENT_METRICS, arguments);
        let listed = || {
            let out = side.unseen(CLIENT_METRICS, &["--list"], "").ok();
            side.note(&out.lines().filter(|line| line.starts_with("tools-")).collect::<Vec<_>>().join("\n"));
        };
        let alter = ["--alter", "--name", "tools-metrics"];
        let producers = ["--metrics", "org.apache.kafka.producer.,org.apache.kafka.consumer.coordinator.rebalance."];
        metrics(
            &[&alter[..], &producers, &["--interval", "30000", "--match", "client_id=a.*,client_software_name=x"]]
                .concat(),
        )
        .ok();
        listed();
        metrics(&["--describe", "--name", "tools-metrics"]).ok();
        metrics(&[&alter[..], &["--interval", ""]].concat()).ok();
        metrics(&["--describe", "--name", "tools-metrics"]).ok();
        assert_ne!(metrics(&[&alter[..], &["--interval", "99"]].concat()).status, 0);
        assert_ne!(metrics(&[&alter[..], &["--match", "client_nobody=x"]].concat()).status, 0);
        metrics(&["--describe", "--name", "tools-metrics-none"]).ok();
        let entity = ["--entity-type", "client-metrics", "--entity-name", "tools-metrics"];
        side.tool(CONFIGS, &[&["--alter", "--add-config", "interval.ms=5000"], &entity[..]].concat()).ok();
        side.tool(CONFIGS, &[&["--describe"], &entity[..]].concat()).ok();
        metrics(&["--delete", "--name", "tools-metrics"]).ok();
        metrics(&["--describe", "--name", "tools-metrics"]);
        listed();
    });
}

//! kafka-configs on the quotas of users, client ids and addresses.

use crate::both::on_both;

const CONFIGS: &str = "kafka.admin.ConfigCommand";

#[test]
fn kafka_configs_of_quotas() {
    on_both(|side| {
        let alter = |of: &[&str], change: &[&str]| side.tool(CONFIGS, &[&["--alter"], change, of].concat());
        let describe = |of: &[&str]| {
            let text = side.unseen(CONFIGS, &[&["--describe"], of].concat(), "").ok();
            let mut lines: Vec<String> = text.lines().map(sorted_values).collect();
            lines.sort_unstable();
            side.note(&lines.join("\n"));
        };
        let alice = ["--entity-type", "users", "--entity-name", "tools-alice"];
        let users = ["--entity-type", "users", "--entity-default"];
        let client = ["--entity-type", "clients", "--entity-name", "tools-client"];
        let pair = [&alice[..], &client].concat();
        let ip = ["--entity-type", "ips", "--entity-name", "10.9.8.7"];
        let ips = ["--entity-type", "ips", "--entity-default"];
        alter(&alice, &["--add-config", "producer_byte_rate=1000000000000,consumer_byte_rate=2000000000000"]).ok();
        alter(&users, &["--add-config", "request_percentage=100000.5"]).ok();
        alter(&client, &["--add-config", "controller_mutation_rate=1000000"]).ok();
        alter(&pair, &["--add-config", "producer_byte_rate=3000000000000"]).ok();
        alter(&ip, &["--add-config", "connection_creation_rate=1000000"]).ok();
        alter(&ips, &["--add-config", "connection_creation_rate=2000000"]).ok();
        let kinds = ["--entity-type", "users", "--entity-type", "clients"];
        [&client[..], &pair, &ip, &ips, &kinds[2..], &kinds, &["--entity-type", "ips"]].into_iter().for_each(describe);
        // With their SCRAM credentials, which this one has none of.
        [&alice, &kinds[..2], &users[..]].into_iter().for_each(describe);
        assert_ne!(alter(&alice, &["--add-config", "producer_byte_rate=-5"]).status, 0);
        assert_ne!(alter(&ip, &["--add-config", "producer_byte_rate=5"]).status, 0);
        assert_ne!(alter(&alice, &["--delete-config", "request_percentage"]).status, 0);
        alter(&alice, &["--delete-config", "consumer_byte_rate"]).ok();
        alter(&alice, &["--delete-config", "producer_byte_rate"]).ok();
        alter(&users, &["--delete-config", "request_percentage"]).ok();
        alter(&client, &["--delete-config", "controller_mutation_rate"]).ok();
        alter(&pair, &["--delete-config", "producer_byte_rate"]).ok();
        alter(&ip, &["--delete-config", "connection_creation_rate"]).ok();
        alter(&ips, &["--delete-config", "connection_creation_rate"]).ok();
        describe(&kinds);
        describe(&["--entity-type", "ips"]);
    });
}

/// Kafka lists the quotas of an entity, and the mechanisms of a user, in no order.
pub fn sorted_values(line: &str) -> String {
    match line.split_once(" are ") {
        Some((head, values)) => {
            let mut values: Vec<&str> = values.split(", ").collect();
            values.sort_unstable();
            format!("{head} are {}", values.join(", "))
        }
        None => line.to_owned(),
    }
}

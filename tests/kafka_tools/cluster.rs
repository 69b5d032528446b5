//! kafka-cluster, kafka-broker-api-versions, kafka-features, kafka-metadata-quorum, kafka-log-dirs, kafka-configs on loggers,
//! kafka-leader-election and kafka-reassign-partitions.

use crate::both::on_both;
use crate::topics::{create, produce};
use corelane_tests::java::Java;

const CLUSTER: &str = "org.apache.kafka.tools.ClusterTool";
const API_VERSIONS: &str = "org.apache.kafka.tools.BrokerApiVersionsCommand";
const CONFIGS: &str = "kafka.admin.ConfigCommand";
const FEATURES: &str = "org.apache.kafka.tools.FeatureCommand";
const QUORUM: &str = "org.apache.kafka.tools.MetadataQuorumCommand";
const LOG_DIRS: &str = "org.apache.kafka.tools.LogDirsCommand";
const ELECTION: &str = "org.apache.kafka.tools.LeaderElectionCommand";
const REASSIGN: &str = "org.apache.kafka.tools.reassign.ReassignPartitionsCommand";

#[test]
fn kafka_cluster_and_api_versions() {
    on_both(|side| {
        // its commands stand before the address
        for arguments in [&["cluster-id"][..], &["list-endpoints"], &["list-endpoints", "--include-fenced-brokers"]] {
            let all = [arguments, &["--bootstrap-server", side.bootstrap()]].concat();
            side.note(&Java::shared().run(CLUSTER, &all).ok());
        }
        let out = Java::shared().run(CLUSTER, &["unregister", "--bootstrap-server", side.bootstrap(), "--id", "9"]);
        assert!(out.status != 0 && out.stderr.contains("BrokerIdNotRegisteredException"), "{out:?}");
        let out = side.unseen(API_VERSIONS, &[], "").ok();
        assert!(out.contains("Produce(0): ") && out.contains("DescribeQuorum(55): "), "{out}");
    });
}

#[test]
fn kafka_features() {
    on_both(|side| {
        // of all features those that Corelane has too
        let describe = || {
            let out = side.unseen(FEATURES, &["describe"], "").ok();
            let lines = out.lines().filter(|line| line.contains("transaction.version"));
            side.note(&lines.filter_map(|line| line.split("Epoch:").next()).collect::<Vec<_>>().join("\n"));
        };
        let features = |arguments: &[&str]| side.unseen(FEATURES, arguments, "");
        describe();
        features(&["downgrade", "--feature", "transaction.version=1", "--dry-run"]).ok();
        describe();
        features(&["downgrade", "--feature", "transaction.version=1"]).ok();
        describe();
        assert_ne!(features(&["downgrade", "--feature", "transaction.version=2"]).status, 0);
        assert_ne!(features(&["upgrade", "--feature", "transaction.version=3"]).status, 0);
        assert_ne!(features(&["upgrade", "--feature", "no.such.feature=1"]).status, 0);
        features(&["disable", "--feature", "transaction.version"]).ok();
        describe();
        features(&["upgrade", "--feature", "transaction.version=2", "--dry-run"]).ok();
        features(&["upgrade", "--feature", "transaction.version=2"]).ok();
        describe();
        features(&["upgrade", "--metadata", "4.3-IV0"]).ok();
        side.note(&features(&["version-mapping", "--release-version", "4.3-IV0"]).ok());
        side.note(&features(&["feature-dependencies", "--feature", "transaction.version=2"]).ok());
    });
}

#[test]
fn kafka_metadata_quorum() {
    on_both(|side| {
        let out = side.unseen(QUORUM, &["describe", "--status"], "").ok();
        let value = |name: &str| {
            let line =
                out.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("no {name}: {out}"));
            line.trim().to_owned()
        };
        let same = ["ClusterId:", "LeaderId:", "MaxFollowerLag:", "MaxFollowerLagTimeMs:", "CurrentObservers:"];
        same.iter().for_each(|name| side.note(&format!("{name} {}", value(name))));
        for number in ["LeaderEpoch:", "HighWatermark:"] {
            assert!(value(number).parse::<u64>().expect("a number") > 0, "{out}");
        }
        assert!(value("CurrentVoters:").contains(r#""id": 1"#), "{out}");
        let out = side.unseen(QUORUM, &["describe", "--replication"], "").ok();
        let leader: Vec<&str> = out.lines().nth(1).expect("a replica").split_whitespace().collect();
        side.note(&[leader[0], leader[3], leader[6]].join(" "));
        side.unseen(QUORUM, &["describe", "--replication", "--human-readable"], "").ok();
        let another = ["--controller-id", "9", "--controller-directory-id", "AAAAAAAAAAAAAAAAAAAAdw"];
        let out = side.unseen(QUORUM, &[&["remove-controller"], &another[..]].concat(), "");
        assert_ne!(out.status, 0, "{out:?}");
    });
}

#[test]
fn kafka_log_dirs() {
    on_both(|side| {
        create(side, "dirs", "2");
        let out = side.unseen(LOG_DIRS, &["--describe", "--topic-list", "dirs", "--broker-list", "1"], "").ok();
        let json = out.lines().find(|line| line.starts_with('{')).expect("json");
        let json: serde_json::Value = serde_json::from_str(json).expect("json");
        let dir = &json["brokers"][0]["logDirs"][0];
        side.note(&format!("{} {} {}", json["version"], json["brokers"][0]["broker"], dir["error"]));
        let mut partitions: Vec<String> = dir["partitions"]
            .as_array()
            .expect("partitions")
            .iter()
            .map(|p| format!("{} {} {}", p["partition"], p["offsetLag"], p["isFuture"]))
            .collect();
        partitions.sort();
        side.note(&partitions.join("\n"));
        assert_eq!(partitions.len(), 2);
        assert_ne!(side.unseen(LOG_DIRS, &["--describe", "--broker-list", "9"], "").status, 0);
    });
}

#[test]
fn kafka_leader_election() {
    on_both(|side| {
        create(side, "elected", "2");
        let elect = |arguments: &[&str]| side.tool(ELECTION, arguments);
        for kind in ["preferred", "unclean"] {
            elect(&["--election-type", kind, "--topic", "elected", "--partition", "0"]).ok();
            elect(&["--election-type", kind, "--all-topic-partitions"]).ok();
            elect(&["--election-type", kind, "--topic", "elected", "--partition", "5"]);
            let partitions = r#"{"partitions":[{"topic":"elected","partition":0},{"topic":"elected","partition":1}]}"#;
            let file = side.file("elected.json", partitions);
            elect(&["--election-type", kind, "--path-to-json-file", &file]).ok();
        }
    });
}

#[test]
fn kafka_reassign_partitions() {
    on_both(|side| {
        create(side, "moved", "2");
        produce(side, "moved", "one\ntwo\n");
        let reassign = |arguments: &[&str]| side.tool(REASSIGN, arguments);
        let topics = side.file("topics.json", r#"{"topics":[{"topic":"moved"}],"version":1}"#);
        reassign(&["--generate", "--topics-to-move-json-file", &topics, "--broker-list", "1"]).ok();
        reassign(&["--generate", "--topics-to-move-json-file", &topics, "--broker-list", "1,2"]);
        let plan = |name: &str, replicas: &str| {
            let partitions =
                ["0", "1"].map(|p| format!(r#"{{"topic":"moved","partition":{p},"replicas":{replicas}}}"#));
            side.file(name, &format!(r#"{{"version":1,"partitions":[{}]}}"#, partitions.join(",")))
        };
        let same = plan("same.json", "[1]");
        reassign(&["--execute", "--reassignment-json-file", &same]).ok();
        reassign(&["--verify", "--reassignment-json-file", &same]).ok();
        reassign(&["--list"]).ok();
        reassign(&["--cancel", "--reassignment-json-file", &same]).ok();
        reassign(&["--execute", "--reassignment-json-file", &plan("unknown.json", "[9]")]);
        reassign(&[
            "--execute",
            "--reassignment-json-file",
            &plan("wider.json", "[1,2]"),
            "--disallow-replication-factor-change",
        ]);
        let placed = r#"{"version":1,"partitions":[{"topic":"moved","partition":0,"replicas":[1],"log_dirs":["/no/such/folder"]}]}"#;
        let placed = side.file("placed.json", placed);
        reassign(&["--execute", "--reassignment-json-file", &placed]);
    });
}

#[test]
fn kafka_configs_of_broker_loggers() {
    on_both(|side| {
        let entity = ["--entity-type", "broker-loggers", "--entity-name", "1"];
        let configs = |arguments: &[&str]| side.unseen(CONFIGS, &[&entity[..], arguments].concat(), "");
        // each broker has loggers of its own
        let root = || {
            let out = configs(&["--describe"]).ok();
            side.note(&out.lines().filter(|line| line.trim().starts_with("root=")).collect::<Vec<_>>().join("\n"));
        };
        root();
        side.note(&configs(&["--alter", "--add-config", "root=ERROR"]).ok());
        root();
        assert_ne!(configs(&["--alter", "--add-config", "no.such.logger=ERROR"]).status, 0);
        assert_ne!(configs(&["--alter", "--add-config", "root=LOUD"]).status, 0);
        assert_ne!(configs(&["--alter", "--delete-config", "root"]).status, 0);
        root();
        side.note(&configs(&["--alter", "--add-config", "root=INFO"]).ok());
        root();
    });
}

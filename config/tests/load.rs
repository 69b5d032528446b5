//! Where settings come from, which one wins, and how wrong ones are refused.

use corelane_config::{Advertise, BrokerConfig, Listener, LoadOptions, LogFormat, Scope, Status};
use std::path::PathBuf;

struct Case {
    options: LoadOptions,
    _file: Option<tempfile::NamedTempFile>,
}

fn case(file: &str, environment: &[(&str, &str)], flags: &[(&str, &str)], set: &[&str]) -> Case {
    let written = (!file.is_empty()).then(|| {
        let f = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
        std::fs::write(f.path(), file).unwrap();
        f
    });
    let pairs = |p: &[(&str, &str)]| p.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let options = LoadOptions {
        file: written.as_ref().map(|f| f.path().to_owned()),
        environment: pairs(environment),
        flags: pairs(flags),
        set: set.iter().map(|s| (*s).to_owned()).collect(),
    };
    Case { options, _file: written }
}

impl Case {
    fn load(&self) -> BrokerConfig {
        BrokerConfig::load(&self.options).unwrap_or_else(|e| panic!("{e}"))
    }

    /// The refusal, with the file's name shortened to `FILE`.
    fn refusal(&self) -> String {
        let e = BrokerConfig::load(&self.options).expect_err("must be refused").to_string();
        self.options.file.as_ref().map_or(e.clone(), |f| e.replace(&f.display().to_string(), "FILE"))
    }
}

fn first(config: &BrokerConfig) -> &Listener {
    &config.listeners[0]
}

fn advertised(config: &BrokerConfig) -> String {
    first(config).advertised.as_ref().unwrap().to_string()
}

#[test]
fn nothing_given_serves_on_the_local_port_from_the_local_folder() {
    let c = case("", &[("PATH", "/bin")], &[], &[]).load();
    assert_eq!(c.data_dir, PathBuf::from("corelane-data"));
    assert_eq!(first(&c).listen.to_string(), "127.0.0.1:9092");
    assert_eq!(advertised(&c), "127.0.0.1:9092");
    assert_eq!((c.advertise, c.node_id, c.cores.clone(), c.rack.clone()), (Advertise::Node, 0, None, None));
    assert!(c.memory_bytes >= 64 << 20);
    assert!(c.auto_create_topics && c.delete_topics);
    assert_eq!(c.default_partitions, 1);
    assert_eq!((c.listen_backlog, c.socket_receive_bytes, c.socket_send_bytes), (50, None, None));
    assert_eq!(c.fetch_max_bytes, 57_671_680);
    assert_eq!(c.offsets.topic_partitions, 50);
    assert_eq!(c.offsets.retention_ms, 7 * 24 * 3_600_000);
    assert_eq!(c.group.max_session_timeout_ms, 1_800_000);
    assert_eq!((c.log_format, c.log_level.as_str()), (LogFormat::Text, "info"));
    let fixed: Vec<_> = c.properties.fixed.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    assert_eq!(fixed, [("broker.id", "0"), ("node.id", "0")]);
}

#[test]
fn flags_go_over_environment_over_file() {
    let file = "listen = ':1'\ndata_dir = 'f'\ncores = '0-1'\nmemory = '128M'\n[kafka]\nnum.partitions = 2\n\
                log.retention.ms = 5\n";
    let c = case(file, &[], &[], &[]).load();
    assert_eq!((first(&c).listen.port, c.default_partitions, c.memory_bytes), (1, 2, 128 << 20));
    let environment =
        [("CORELANE_LISTEN", ":2"), ("CORELANE_KAFKA_NUM_PARTITIONS", "3"), ("CORELANE_LOG_FORMAT", "json")];
    let c = case(file, &environment, &[], &[]).load();
    assert_eq!((first(&c).listen.port, c.default_partitions, c.log_format), (2, 3, LogFormat::Json));
    assert_eq!((c.data_dir.clone(), c.cores.clone()), (PathBuf::from("f"), Some(vec![0, 1])));
    let c =
        case(file, &environment, &[("--listen", "h:3"), ("--cores", "2")], &["num.partitions=4", "log.dir=g"]).load();
    assert_eq!((first(&c).listen.to_string().as_str(), c.default_partitions), ("h:3", 4));
    assert_eq!((c.data_dir.clone(), c.cores.clone()), (PathBuf::from("g"), Some(vec![2])));
    assert_eq!(c.properties.fixed.get("log.retention.ms").map(String::as_str), Some("5"));
    assert_eq!(c.properties.fixed.get("log.dirs").map(String::as_str), Some("g"));
}

#[test]
fn short_and_long_names_are_the_same_setting() {
    let set =
        ["listeners=PLAINTEXT://0.0.0.0:7", "advertised.listeners=PLAINTEXT://b:8", "broker.id=4", "broker.rack=r"];
    let c = case("", &[], &[("--advertise", "shard")], &set).load();
    assert_eq!((first(&c).listen.port, advertised(&c).as_str(), c.node_id), (7, "b:8", 4));
    assert_eq!((c.advertise, c.rack.as_deref()), (Advertise::Shard, Some("r")));
    let e = case("", &[], &[("--data-dir", "a")], &["log.dirs=b"]).refusal();
    assert_eq!(e, "--set log.dirs: log.dirs is given twice: also at --data-dir");
}

#[test]
fn refusals_name_their_place_and_what_is_allowed() {
    let refused = |file: &str, environment: &[(&str, &str)], flags: &[(&str, &str)], set: &[&str], want: &str| {
        let got = case(file, environment, flags, set).refusal();
        assert!(got.starts_with(want), "got:  {got}\nwant: {want}");
    };
    refused("\nlistn = 'x'", &[], &[], &[], "FILE:2: unknown key listn; did you mean listen? Allowed: data_dir, ");
    refused(
        "[kafka]\n\nnum.partitons = 3",
        &[],
        &[],
        &[],
        "FILE:3: unknown property num.partitons; did you mean num.partitions?",
    );
    refused(
        "[kafka]\nnum.partitions = 0",
        &[],
        &[],
        &[],
        "FILE:2: Invalid value 0 for configuration num.partitions: Value must be at least 1 (allowed: a number, at least 1)",
    );
    refused("[kafka]\nretention.ms = 0", &[], &[], &[], "FILE:2: unknown property retention.ms; ");
    refused(
        "",
        &[("CORELANE_LISTN", "x")],
        &[],
        &[],
        "CORELANE_LISTN: unknown environment variable; did you mean CORELANE_LISTEN?",
    );
    refused("", &[("CORELANE_KAFKA_NOPE", "x")], &[], &[], "CORELANE_KAFKA_NOPE: unknown property nope");
    refused("", &[], &[("--listen", "x")], &[], "--listen: \"x\" is not HOST:PORT");
    refused("", &[], &[("--memory", "lots")], &[], "--memory: \"lots\" is not a size");
    refused(
        "",
        &[],
        &[("--memory", "1k")],
        &[],
        "--memory: Invalid value 1024 for configuration memory.bytes: Value must be at least",
    );
    refused("", &[], &[("--cores", "3-1")], &[], "--cores: \"3-1\" is not a core");
    refused(
        "",
        &[],
        &[("--advertise", "both")],
        &[],
        "--advertise: Invalid value both for configuration listeners.advertise: String must be one of: node, shard",
    );
    refused("", &[], &[("--log-format", "xml")], &[], "--log-format: \"xml\" is not text or json");
    refused(
        "",
        &[],
        &[],
        &["num.io.threads=16"],
        "--set num.io.threads: Invalid value 16 for configuration num.io.threads: this version of Corelane accepts only \"8\" here, because every core",
    );
    refused("", &[], &[], &["x"], "--set x: must be NAME=VALUE");
    refused(
        "",
        &[],
        &[],
        &["listeners=SASL_PLAINTEXT://a:1"],
        "default: listener SASL_PLAINTEXT: sasl.enabled.mechanisms: GSSAPI is not served (allowed: some of PLAIN, ",
    );
    refused(
        "",
        &[],
        &[],
        &["listeners=PLAINTEXT://a:1,PLAINTEXT://b:2"],
        "--set listeners: Each listener must have a different name",
    );
    refused("", &[], &[], &["advertised.listeners=PLAINTEXT://0.0.0.0:1"], "--set advertised.listeners: no client");
    refused("", &[], &[], &["log.dirs=a,b"], "--set log.dirs: one data directory");
    refused(
        "",
        &[],
        &[],
        &["group.min.session.timeout.ms=9999999"],
        "--set group.min.session.timeout.ms: must not be above",
    );
    for buffer in ["socket.receive.buffer.bytes", "socket.send.buffer.bytes"] {
        for bytes in [0, -2] {
            let want = format!("--set {buffer}: {bytes} is neither a size nor -1");
            refused("", &[], &[], &[&format!("{buffer}={bytes}")], &want);
        }
    }
    refused("", &[], &[("--advertise", "shard"), ("--node-id", "2147483")], &[], "--node-id: must be at most 2147482");
    refused(
        "",
        &[],
        &[("--advertise", "shard"), ("--listen", ":65535"), ("--cores", "0-3")],
        &[],
        "--listen: port + 4 cores",
    );
    refused(
        "",
        &[],
        &[],
        &["sasl.oauthbearer.assertion.private.key.passphrase=secret"],
        "--set sasl.oauthbearer.assertion.private.key.passphrase: Invalid value [hidden]",
    );
}

#[test]
fn what_is_set_for_one_listener_is_read_or_refused() {
    let two = [
        "listeners=A://127.0.0.1:1,PLAINTEXT://127.0.0.1:2",
        "listener.security.protocol.map=A:PLAINTEXT,PLAINTEXT:PLAINTEXT",
    ];
    let own = ["max.connections=70", "listener.name.a.max.connections=7", "listener.name.a.num.network.threads=3"];
    let rate = [("CORELANE_KAFKA_LISTENER_NAME_PLAINTEXT_MAX_CONNECTION_CREATION_RATE", "5")];
    let config = case("", &rate, &[], &[&two[..], &own].concat()).load();
    let bounds = |l: &Listener| (l.name.clone(), l.connections_max, l.connections_creation_rate);
    let bounds: Vec<_> = config.listeners.iter().map(bounds).collect();
    assert_eq!(bounds, [("A".to_owned(), 7, i32::MAX), ("PLAINTEXT".to_owned(), 70, 5)]);
    // As in Kafka, wherever it stands.
    assert_eq!(config.inter_broker_listener, "PLAINTEXT");
    for (set, why) in [
        (
            "listener.name.a.max.connections=-1",
            "Invalid value -1 for configuration max.connections: Value must be at least 0",
        ),
        ("listener.name.a.num.network.threads=4", "because every core runs one reactor"),
        ("listener.name.a.principal.builder.class=My", "because there is no Java virtual machine"),
        ("listener.name.nobody.max.connections=4", "there is no listener nobody: listeners names A,PLAINTEXT"),
        ("listener.name.a.ssl.client.auth=required", "would do nothing: listener A is PLAINTEXT, which has no TLS"),
        ("listener.name.a.plain.connections.max.reauth.ms=5", "listener A is PLAINTEXT, which has no SASL"),
        ("listener.name.a.max.connections.per.ip=1", "max.connections.per.ip is of the whole broker"),
        ("listener.name.A.max.connections=1", "there is no listener A"),
    ] {
        let refusal = case("", &[], &[], &[&two[..], &[set]].concat()).refusal();
        let name = set.split_once('=').map(|(name, _)| name).unwrap();
        assert!(refusal.starts_with(&format!("--set {name}: ")) && refusal.contains(why), "{refusal}");
    }
}

#[test]
fn what_kubernetes_and_tests_leave_in_the_environment_is_let_pass() {
    let environment = [
        ("CORELANE_SERVICE_HOST", "10.0.0.1"),
        ("CORELANE_PORT", "tcp://10.0.0.1:9092"),
        ("CORELANE_PORT_9092_TCP_ADDR", "10.0.0.1"),
        ("CORELANE_TEST_SEED", "1"),
        ("CORELANE_BOOTSTRAP", "x:1"),
    ];
    assert_eq!(case("", &environment, &[], &[]).load().listeners[0].listen.port, 9092);
}

#[test]
fn a_missing_file_is_named() {
    let options = LoadOptions { file: Some("/nowhere/c.toml".into()), ..Default::default() };
    let e = BrokerConfig::load(&options).unwrap_err().to_string();
    assert!(e.starts_with("cannot read the configuration file /nowhere/c.toml: "), "{e}");
}

/// Every property that is said to be honoured is read by the broker's settings, or gives topics or groups a default or a bound.
#[test]
fn honoured_properties_are_read() {
    let reader = [
        include_str!("../src/broker.rs"),
        include_str!("../src/listeners.rs"),
        include_str!("../src/oauth.rs"),
        include_str!("../src/sasl.rs"),
        include_str!("../src/stores.rs"),
        include_str!("../src/tls.rs"),
    ]
    .concat();
    let resources = [Scope::Topic, Scope::Group].into_iter().flat_map(|scope| scope.settings());
    let backing: Vec<&str> = resources.flat_map(|s| s.synonyms.iter().copied()).collect();
    let bounded = |name: &str| {
        let of = [(".min.", "."), (".max.", "."), (".max.", ".num.")];
        let unbound = of.map(|(bound, plain)| name.replacen(bound, plain, 1));
        unbound.iter().any(|n| n != name && backing.contains(&n.as_str()) && n.starts_with("group."))
    };
    for s in Scope::Broker.settings().iter().filter(|s| s.status == Status::Honoured) {
        let read = reader.contains(&format!("\"{}\"", s.name))
            || backing.contains(&s.name)
            || bounded(s.name)
            || s.name == "broker.id";
        assert!(read, "{} is honoured but nothing reads it", s.name);
    }
    let typed = [
        (Scope::Topic, include_str!("../src/topic.rs")),
        (Scope::Group, include_str!("../src/group.rs")),
        (Scope::ClientMetrics, include_str!("../src/client_metrics.rs")),
    ];
    for (scope, reader) in typed {
        for s in scope.settings().iter().filter(|s| s.status == Status::Honoured) {
            assert!(reader.contains(&format!("\"{}\"", s.name)), "{} is honoured but nothing reads it", s.name);
        }
    }
}

#[test]
fn a_listener_that_asks_nobody_is_exposed_beyond_this_machine() {
    let exposed = |set: &[&str]| case("", &[], &[], set).load().exposed().map(|l| l.name.clone());
    let tls =
        ["ssl.keystore.type=PEM", "ssl.keystore.location=/a", "ssl.truststore.type=PEM", "ssl.truststore.location=/b"];
    for local in ["127.0.0.1", "127.8.8.8", "[::1]", "localhost"] {
        assert_eq!(exposed(&[&format!("listeners=PLAINTEXT://{local}:1")]), None);
    }
    for other in ["", "0.0.0.0", "[::]", "10.0.0.1", "broker.example"] {
        let plain = format!("listeners=PLAINTEXT://{other}:1");
        assert_eq!(exposed(&[&plain]).as_deref(), Some("PLAINTEXT"), "{other}");
        assert_eq!(exposed(&[&plain, "listeners.allow.unauthenticated=true"]), None);
        let ssl = format!("listeners=PLAINTEXT://localhost:2,SSL://{other}:1");
        let with = |more: &[&'static str]| exposed(&[&[&*ssl], &tls[..], more].concat());
        assert_eq!(with(&[]).as_deref(), Some("SSL"));
        assert_eq!(with(&["ssl.client.auth=requested"]).as_deref(), Some("SSL"));
        assert_eq!(with(&["ssl.client.auth=required"]), None);
    }
}

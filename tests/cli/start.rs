//! `corelane start`: what it refuses, and how it ends.

use corelane_tests::batch::{ProducerIdentity, build, now_ms};
use corelane_tests::broker::{self, Broker, BrokerOptions, is_corelane};
use corelane_tests::command::corelane;
use corelane_tests::connection::{Connection, to_leader};
use corelane_tests::java::Java;
use corelane_tests::librdkafka::{LIMIT, create_topic, unique};
use corelane_tests::{ports, process, scratch, wait};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

fn start(arguments: &[&str]) -> corelane_tests::command::Output {
    corelane("", &[&["start"], arguments].concat())
}

#[test]
fn settings_that_are_wrong_are_refused_with_their_place() {
    let dir = scratch::folder("settings");
    let data = dir.join("data").to_str().expect("a path").to_owned();
    let file = |text: &str| {
        let path = dir.join("corelane.toml");
        fs::write(&path, text).expect("a file");
        path.to_str().expect("a path").to_owned()
    };
    let listen = ["--data-dir", &data, "--listen", "127.0.0.1:1"];
    start(&[&listen[..], &["--config", &file("node_id = 1\n\nbad_key = 3\n")]].concat())
        .fails(2, &[":3", "bad_key", "node_id"]);
    start(&[&listen[..], &["--config", &file("[kafka]\n\"no.such.property\" = 1\n")]].concat())
        .fails(2, &[":2", "no.such.property"]);
    start(&[&listen[..], &["--config", &file("advertise = \"both\"\n")]].concat()).fails(2, &[":1", "node", "shard"]);
    start(&[&listen[..], &["--config", &file("node_id = \n")]].concat()).fails(2, &[":1"]);
    start(&[&listen[..], &["--config", "/no/such/file.toml"]].concat()).fails(4, &["/no/such/file.toml"]);
    start(&[&listen[..], &["--set", "no.such=1"]].concat()).fails(2, &["no.such"]);
    start(&[&listen[..], &["--set", "num.partitions=many"]].concat()).fails(2, &["num.partitions", "many"]);
    start(&[&listen[..], &["--cores", "0-x"]].concat()).fails(2, &["0-x"]);
    start(&[&listen[..], &["--memory", "lots"]].concat()).fails(2, &["lots"]);
    start(&[&listen[..], &["--node-id", "-3"]].concat()).fails(2, &["node-id", "at least 0"]);
    start(&[&listen[..], &["--cores", "1000"]].concat()).fails(2, &["1000", "--cores"]);
    assert!(!Path::new(&data).exists(), "nothing was made");
}

#[test]
fn without_options_it_serves_at_kafkas_port_from_where_it_is_started() {
    const ADDRESS: &str = "127.0.0.1:9092";
    if !is_corelane() {
        return;
    }
    if TcpListener::bind(ADDRESS).is_err() {
        println!("not checked: something else has {ADDRESS}");
        return;
    }
    let here = scratch::folder("no-options");
    let printed = here.join("printed");
    let mut command = process::command(broker::binary());
    command.arg("start").current_dir(&here).stdin(Stdio::null()).stderr(Stdio::null());
    command.stdout(fs::File::create(&printed).expect("a file"));
    let mut child = process::spawn(command).expect("a broker");
    let served = || Connection::open(ADDRESS).ok()?.metadata("none").ok();
    wait::until("the broker", LIMIT, served);
    let banner = wait::until("a banner", LIMIT, || {
        let text = fs::read_to_string(&printed).expect("what was printed");
        text.contains("corelane consume").then_some(text)
    });
    for word in [ADDRESS, "corelane-data", "corelane produce"] {
        assert!(banner.contains(word), "no {word} in\n{banner}");
    }
    let without_address = |arguments: &[&str], input: &[u8]| {
        let mut command = process::command(broker::binary());
        command.args(arguments).env_remove("CORELANE_BOOTSTRAP");
        corelane_tests::command::run(command, input).ok()
    };
    without_address(&["produce", "greetings"], b"hello\n");
    assert_eq!(without_address(&["consume", "greetings", "--from", "beginning", "-n", "1"], b""), "hello\n");
    assert!(here.join("corelane-data/meta.properties").exists());
    kill_process(Pid::from_raw(child.id() as i32).expect("a pid"), Signal::TERM).expect("SIGTERM");
    let status = wait::until("its end", LIMIT, || child.try_wait().expect("a child"));
    assert!(status.success(), "{status:?}");
}

#[test]
fn port_in_use_and_second_start_are_refused_and_the_first_broker_goes_on() {
    if !is_corelane() {
        return;
    }
    let mut broker = Broker::start(BrokerOptions::default());
    let other = scratch::folder("second").join("data");
    let other = other.to_str().expect("a path");
    // What lives is not waited for; what was killed would be, for 5 s.
    let at_once = |arguments: &[&str]| {
        let begun = Instant::now();
        let out = start(arguments);
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
        out
    };
    at_once(&["--data-dir", other, "--listen", broker.bootstrap(), "--cores", "0"])
        .fails(6, &["listen", broker.bootstrap()]);
    let data = broker.data_dir();
    let data = data.to_str().expect("a path");
    let pid = format!("process {}", broker.pid().expect("a pid"));
    at_once(&["--data-dir", data, "--listen", "127.0.0.1:0", "--cores", "0", "--node-id", "1"])
        .fails(6, &["in use", &pid]);
    corelane(broker.bootstrap(), &["cluster", "info"]).ok();
    assert!(broker.stop().is_some_and(|s| s.success()), "SIGTERM ends well\n{}", broker.log_tail());
    // another node's directory
    start(&["--data-dir", data, "--listen", "127.0.0.1:0", "--cores", "0", "--node-id", "9"]).fails(6, &["node"]);
    // a directory of a newer version
    let path = broker.data_dir().join("meta.properties");
    let text = fs::read_to_string(&path).expect("meta.properties");
    let body = text.split("crc32c=").next().expect("text").replace("format.version=1", "format.version=2");
    fs::write(&path, format!("{body}crc32c={:08x}\n", crc32c::crc32c(body.as_bytes()))).expect("meta.properties");
    start(&["--data-dir", data, "--listen", "127.0.0.1:0", "--cores", "0", "--node-id", "1"]).fails(6, &["version"]);
    fs::write(&path, text).expect("meta.properties");
    broker.resume();
    corelane(broker.bootstrap(), &["cluster", "info"]).ok();
}

fn segments(dir: &Path, topic: &str, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            segments(&path, topic, out);
        } else if path.extension().is_some_and(|e| e == "log") && path.to_string_lossy().contains(topic) {
            out.push(path);
        }
    }
}

#[test]
fn kafkas_dump_log_segments_and_our_own_read_the_segments() {
    if !is_corelane() {
        return;
    }
    let mut broker = Broker::start(BrokerOptions::default());
    let topic = unique("segments");
    create_topic(&broker, &topic, 1, &[("segment.bytes", "1048576")]);
    let mut connection = to_leader(broker.bootstrap(), &topic, 0).expect("the leader");
    let value = vec![b'x'; 10_000];
    for _ in 0..400 {
        let batch =
            build(ProducerIdentity::NONE, now_ms(), [(Some(&b"k"[..]), Some(&value[..])), (None, Some(&b"v"[..]))]);
        assert_eq!(connection.produce(&topic, 0, batch).expect("produce").error_code, 0);
    }
    assert!(broker.stop().is_some_and(|s| s.success()));
    let mut files = Vec::new();
    segments(&broker.data_dir(), &topic, &mut files);
    files.sort();
    assert!(files.len() >= 3, "4 MB in segments of 1 MiB: {files:?}");
    let list: Vec<&str> = files.iter().map(|p| p.to_str().expect("a path")).collect();
    let out = Java::shared()
        .run(
            "org.apache.kafka.tools.DumpLogSegments",
            &["--deep-iteration", "--print-data-log", "--files", &list.join(",")],
        )
        .ok();
    assert_eq!(out.lines().filter(|l| l.starts_with("| offset: ")).count(), 800, "records");
    for bad in ["isvalid: false", "Mismatches", "Non-consecutive", "invalid bytes"] {
        assert!(!out.contains(bad), "{bad}");
    }
    let out = corelane("", &["dump-log", "--json", "--records", &broker.data_dir().join("data").to_string_lossy()]);
    assert_eq!(out.code, Some(0), "{}", out.stderr);
    broker.resume();
    let mut connection = to_leader(broker.bootstrap(), &topic, 0).expect("the leader");
    assert_eq!(connection.list_offset(&topic, 0, -1).expect("ListOffsets"), (800, 0));
}

#[test]
fn a_log_that_nobody_reads_holds_up_nobody() {
    if !is_corelane() {
        return;
    }
    let (dir, address) = (scratch::folder("unread"), format!("127.0.0.1:{}", ports::free(1)));
    let mut command = process::command(broker::binary());
    command.args(["start", "--listen", &address, "--cores", "0", "--data-dir"]).arg(dir.join("data"));
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = process::spawn(command).expect("a broker");
    wait::until("the broker", LIMIT, || Connection::open(&address).ok()?.metadata("none").ok());
    // Each leaves a line; all of them are far more than the pipe takes.
    for _ in 0..2000 {
        let mut connection = Connection::open(&address).expect("a connection");
        connection.write(&[0x7f, 0xff, 0xff, 0xff]).expect("written");
        connection.fate();
    }
    Connection::open(&address).expect("a connection").metadata("none").expect("an answer");
    let pid = Pid::from_raw(child.id() as i32).expect("a pid");
    kill_process(pid, Signal::TERM).expect("SIGTERM");
    let status = wait::until("its end", LIMIT, || child.try_wait().expect("a child"));
    assert!(status.success(), "{status:?}");
}

#[test]
fn interrupt_ends_like_terminate_and_all_that_is_printed_can_be_json() {
    if !is_corelane() {
        return;
    }
    let mut broker = Broker::start(BrokerOptions { args: vec!["--json".into()], ..Default::default() });
    let pid = Pid::from_raw(broker.pid().expect("a pid") as i32).expect("a pid");
    kill_process(pid, Signal::INT).expect("SIGINT");
    let status = broker.wait_exit(LIMIT);
    assert!(status.is_some_and(|s| s.success()), "{status:?}\n{}", broker.log_tail());
    let log = broker.log();
    let parse = |line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
    let lines: Vec<serde_json::Value> = log.lines().map(parse).collect();
    let ready: Vec<_> = lines.iter().filter(|l| l["event"] == "ready").collect();
    assert_eq!(ready.len(), 1, "{log}");
    assert_eq!(ready[0]["advertised"][0], broker.bootstrap());
    assert_eq!(ready[0]["data_dir"], broker.data_dir().to_str().expect("a path"));
    assert_eq!((&ready[0]["cores"], &ready[0]["node_id"]), (&serde_json::json!([0, 1]), &serde_json::json!(1)));
    assert!(lines.iter().any(|l| l["level"] == "INFO" && l["message"] == "stopping"), "{log}");
}

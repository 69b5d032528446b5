//! `corelane bench`: what it counts and how it measures.

use std::time::Duration;

use corelane_tests::broker::{Broker, BrokerOptions, is_corelane};
use corelane_tests::command::{Output, corelane};
use corelane_tests::connection::Connection;
use corelane_tests::librdkafka::{LIMIT, unique};
use corelane_tests::wait;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

fn bench(broker: &Broker, mode: &str, topic: &str, more: &[&str]) -> Output {
    corelane(broker.bootstrap(), &[&["bench", mode, "--topic", topic], more].concat())
}

const LOAD: [&str; 6] = ["--warmup", "0", "--partitions", "2", "--size", "100"];

/// Percentiles that rise.
fn rises(latency: &Value) -> bool {
    let of = |name: &str| latency[name].as_u64().unwrap_or_else(|| panic!("no {name}: {latency}"));
    let all = ["p50", "p90", "p99", "p99_9", "max"].map(of);
    all[0] > 0 && all.is_sorted()
}

#[test]
fn runs_count_what_was_written_and_read_and_how_long_it_took() {
    let (broker, topic) = (Broker::shared(), unique("counted"));
    let json = |mode, more: &[&str]| bench(broker, mode, &topic, &[&["--json", "--quiet"], more].concat()).json();
    let mut written = 0;
    for rate in [&["--rate", "500"][..], &[]] {
        let out = json("produce", &[&LOAD[..], &["--seconds", "1"], rate].concat());
        assert_eq!((&out["errors"], &out["unsent"]), (&0.into(), &0.into()), "{out}");
        let acked = out["acked"].as_u64().expect("a count");
        assert!(acked > 0 && rises(&out["produce_us"]), "{out}");
        written += acked;
    }
    let out = json("consume", &[]);
    // what was written before the measurement began, or after its end, is not counted
    assert!(out["records"].as_u64() >= Some(written) && out["errors"] == 0, "{written}: {out}");
    let out = bench(broker, "latency", &topic, &[&LOAD[..], &["--rate", "500", "--seconds", "2"]].concat());
    assert!(out.stderr.contains("p99"), "no progress: {}", out.stderr);
    let text = out.ok();
    assert!(text.contains("messages a second") && text.contains("end to end"), "{text}");
}

/// A broker that stands still for a second delays a second's worth of messages, not only those that are on their way.
#[test]
fn messages_that_were_due_while_the_broker_stood_still_are_late() {
    if !is_corelane() {
        return;
    }
    let broker = Broker::start(BrokerOptions { advertise: "node".into(), ..BrokerOptions::default() });
    let arguments = ["--json", "--quiet", "--rate", "500", "--seconds", "3", "--warmup", "0", "--partitions", "1"];
    let out = std::thread::scope(|threads| {
        let run = threads.spawn(|| bench(&broker, "produce", "stalled", &arguments).json());
        let mut connection = Connection::open(broker.bootstrap()).expect("a connection");
        wait::until("the first message", LIMIT, || {
            connection.list_offset("stalled", 0, -1).ok().filter(|(offset, _)| *offset > 0)
        });
        let pid = Pid::from_raw(broker.pid().expect("a pid") as i32).expect("a pid");
        kill_process(pid, Signal::STOP).expect("SIGSTOP");
        assert!(wait::within(Duration::from_secs(1), || run.is_finished().then_some(())).is_none());
        kill_process(pid, Signal::CONT).expect("SIGCONT");
        run.join().expect("the run")
    });
    // A third of them, by up to a second.
    assert!(out["produce_us"]["p90"].as_u64() >= Some(300_000), "{out}");
    assert_eq!(out["unsent"], 0, "{out}");
}

//! The same requests to Corelane and to Apache Kafka 4.3.1, and what differs in the answers.
//!
//! | environment | meaning |
//! |---|---|
//! | `CORELANE_TEST_DIFF_SCRIPT` | run this file instead of `scripts/*.txt` |
//! | `CORELANE_TEST_DIFF_AT` | `file.txt:line`: run only the section that the line is in, up to that line |
//! | `CORELANE_TEST_DIFF_SECONDS` | then series of random requests for so long, at least one |
//! | `CORELANE_TEST_SEED` | the first of those series (1) |
//!
//! Where all scripts run, every accepted difference must be met, and every version of every API that Corelane serves be asked for.

mod accepted;
mod batch;
mod compare;
mod logins;
mod random;
mod run;
mod sasl;
mod script;
mod shape;
mod shares;
mod side;
mod transactions;
mod value;
mod written;

use corelane_tests::api_versions::advertised;
use corelane_tests::broker::{Broker, BrokerOptions};
use corelane_tests::java::{self, repository};
use corelane_tests::kafka::Kafka;
use corelane_tests::scratch;
use run::{Difference, Report, Runner};
use script::Script;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Requests of one random series, and steps of one of transactions.
const SERIES: usize = 300;
const TRANSACTIONS: usize = 100;
const SHARES: usize = 60;
/// Clients of one series of logins.
const LOGINS: usize = 20;
/// Series of share groups and of logins that every run has.
const SEEDS: std::ops::RangeInclusive<u64> = 1..=2;

/// What both brokers are started with, after what all test brokers have.
const SETTINGS: [(&str, &str); 21] = [
    ("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer"),
    ("allow.everyone.if.no.acl.found", "true"),
    ("offsets.topic.num.partitions", "4"),
    ("fetch.max.bytes", "1048576"),
    ("group.share.min.record.lock.duration.ms", "1000"),
    // groups without offsets, and records as old as those of 1970, go at the broker's own times
    ("offsets.retention.check.interval.ms", "86400000"),
    ("log.retention.check.interval.ms", "86400000"),
    // what benches/kafka.sh has
    ("log.segment.bytes", "1073741824"),
    ("log.retention.hours", "168"),
    ("process.roles", "broker,controller"),
    ("num.network.threads", "3"),
    ("num.io.threads", "8"),
    ("num.recovery.threads.per.data.dir", "2"),
    ("socket.send.buffer.bytes", "102400"),
    ("socket.receive.buffer.bytes", "102400"),
    ("socket.request.max.bytes", "104857600"),
    ("offsets.topic.replication.factor", "1"),
    ("transaction.state.log.replication.factor", "1"),
    ("transaction.state.log.min.isr", "1"),
    ("share.coordinator.state.topic.replication.factor", "1"),
    ("share.coordinator.state.topic.min.isr", "1"),
];

fn folder() -> PathBuf {
    repository().join("tests/differential")
}

fn scripts() -> Vec<Script> {
    let mut paths: Vec<PathBuf> = match std::env::var_os("CORELANE_TEST_DIFF_SCRIPT") {
        Some(path) => vec![path.into()],
        None => fs::read_dir(folder().join("scripts")).expect("scripts").flatten().map(|e| e.path()).collect(),
    };
    paths.sort();
    let script = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        script::parse(&name, &text).unwrap_or_else(|e| panic!("{e}"))
    };
    paths.iter().map(script).collect()
}

fn print_differences(differences: &[Difference]) {
    let mut section = "";
    let mut rest = differences;
    while let Some(first) = rest.first() {
        // one line of a script at several versions, all with the same outcome
        let alike = |d: &&Difference| d.place == first.place && d.api == first.api && d.fields == first.fields;
        let count = rest.iter().take_while(alike).count();
        if section != first.section {
            section = &first.section;
            println!("\n== {section}");
        }
        println!("{} {}", first.place, first.request);
        if count > 1 {
            println!("    and the same {} times more, up to version {}", count - 1, rest[count - 1].version);
        }
        for field in &first.fields {
            println!("    {}\n        kafka:    {}\n        corelane: {}", field.path, field.kafka, field.corelane);
        }
        rest = &rest[count..];
    }
}

fn print(report: &Report) {
    print_differences(&report.differences);
    if let Some(first) = report.differences.first() {
        println!("\nto run one again: CORELANE_TEST_DIFF_AT={} scripts/differential", first.place);
    }
    for (api, requests) in &report.by_api {
        println!("{requests:6} {api}");
    }
    let (compared, accepted, differences) = (report.compared, report.accepted, report.differences.len());
    println!(
        "{compared} requests compared, {accepted} fields differ with a reason, {differences} requests without one"
    );
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|e| panic!("{name}={text}: {e}")))
}

/// The series of a seed, and their texts.
fn all(generator: &random::Generator, seed: u64) -> [(Script, String); 4] {
    [
        generator.script(seed, SERIES),
        transactions::script(seed, TRANSACTIONS),
        shares::script(seed, SHARES),
        logins::script(seed, LOGINS),
    ]
}

/// One series after the other, each from its own seed.
fn random(runner: &mut Runner<'_>, scripts: &[Script], seconds: u64) {
    let generator = random::Generator::new(scripts);
    let first = number("CORELANE_TEST_SEED");
    let end = Instant::now() + Duration::from_secs(seconds);
    let kept = scratch::target_dir().join("differential");
    fs::create_dir_all(&kept).expect("target/differential");
    for (seed, (script, text)) in
        (first.unwrap_or(1)..).flat_map(|seed| all(&generator, seed).map(|script| (seed, script)))
    {
        fs::write(kept.join(&script.name), text).expect("target/differential");
        let before = runner.report.differences.len();
        if let Err(why) = runner.script(&script) {
            print(&runner.report);
            panic!("{why}");
        }
        if runner.report.differences.len() > before {
            print_differences(&runner.report.differences[before..]);
            let name = &script.name;
            println!(
                "CORELANE_TEST_SEED={seed} differs; as a script: CORELANE_TEST_DIFF_SCRIPT=target/differential/{name}"
            );
        } else {
            let _ = fs::remove_file(kept.join(&script.name));
        }
        if Instant::now() >= end {
            return;
        }
    }
}

#[test]
fn scripts_and_random_series_are_read_as_they_are_written() {
    let scripts = scripts();
    let generator = random::Generator::new(&scripts);
    for seed in 0..10 {
        for ((script, text), (_, again)) in all(&generator, seed).into_iter().zip(all(&generator, seed)) {
            assert_eq!(text, again, "{}", script.name);
            assert_eq!(script.sections[0].steps.len() + 1, text.lines().count(), "{}", script.name);
        }
    }
}

#[test]
fn every_message_survives_its_tree() {
    let mut random = corelane_protocol::Random::new(1);
    for schema in corelane_protocol::SCHEMAS {
        for version in schema.min_version..=schema.max_version {
            let (bytes, _) = (schema.random)(&mut random, version);
            let tree =
                (schema.tree)(bytes.clone(), version).unwrap_or_else(|e| panic!("{} {version}: {e}", schema.name));
            let again = (schema.write)(&tree, version).unwrap_or_else(|e| panic!("{} {version}: {e}", schema.name));
            assert_eq!(again, Ok(bytes), "{} version {version}", schema.name);
        }
    }
}

#[test]
fn answers_are_those_of_apache_kafka() {
    let accepted = fs::read_to_string(folder().join("accepted.txt")).expect("accepted.txt");
    let accepted = accepted::parse(&accepted).unwrap_or_else(|e| panic!("accepted.txt: {e}"));
    let scripts = scripts();
    let started = Instant::now();
    // Kafka serves the APIs of client metrics where it has a receiver.
    let own = [("controller.quorum.append.linger.ms", "0"), ("metric.reporters", "TelemetryReceiver")];
    let users = sasl::settings();
    let users: Vec<(&str, &str)> = users.iter().map(|(k, v)| (*k, v.as_str())).collect();
    let common = [SETTINGS.as_slice(), &users].concat();
    let kafka = Kafka::start_with_sasl(&[common.as_slice(), &own].concat(), Some(&java::plugins()), "");
    let options = common.iter().fold(BrokerOptions::default(), |o, (k, v)| o.set(k, v));
    let listen = |port| format!("PLAINTEXT://127.0.0.1:{port},SASL_PLAINTEXT://127.0.0.1:{}", port + 1);
    let corelane = Broker::start(BrokerOptions { advertise: "node".into(), listen: Some(listen), ..options });
    kafka.wait_ready();
    println!("both brokers stand after {:?}", started.elapsed());
    let served = advertised(corelane.bootstrap());
    let secured = format!("127.0.0.1:{}", corelane.port() + 1);
    let (kafka, corelane) = ([kafka.bootstrap.as_str(), &kafka.sasl], [corelane.bootstrap(), &secured]);
    let mut runner = Runner::new(kafka, corelane, served, &accepted);
    runner.prepare().unwrap_or_else(|e| panic!("{e}"));
    // What that one takes from clients it does not give back.
    let (last, scripts): (Vec<Script>, Vec<Script>) = scripts.into_iter().partition(|s| s.name == "withheld.txt");
    let at = std::env::var("CORELANE_TEST_DIFF_AT").ok();
    let run = |runner: &mut Runner<'_>, script: &Script| {
        let result = match &at {
            Some(place) => {
                let (name, line) = place.rsplit_once(':').expect("CORELANE_TEST_DIFF_AT=file:line");
                let line = line.parse().expect("a line");
                let section = script.sections.iter().rfind(|s| s.steps.first().is_some_and(|s| s.line <= line));
                section.filter(|_| name == script.name).map_or(Ok(()), |section| runner.section(script, section, line))
            }
            None => runner.script(script),
        };
        println!("{}: {:?}", script.name, started.elapsed());
        if let Err(why) = result {
            print(&runner.report);
            panic!("{why}");
        }
    };
    scripts.iter().for_each(|script| run(&mut runner, script));
    let seconds = number("CORELANE_TEST_DIFF_SECONDS");
    if at.is_none() && std::env::var_os("CORELANE_TEST_DIFF_SCRIPT").is_none() {
        SEEDS.for_each(|seed| run(&mut runner, &shares::script(seed, SHARES).0));
        SEEDS.for_each(|seed| run(&mut runner, &logins::script(seed, LOGINS).0));
    }
    if let Some(seconds) = seconds {
        // What users ask says little without them.
        let kept = |s: &Script| !["authentication.txt", "authorization.txt"].contains(&s.name.as_str());
        let scripts: Vec<Script> = scripts.into_iter().filter(kept).collect();
        random(&mut runner, &scripts, seconds);
    }
    last.iter().for_each(|script| run(&mut runner, script));
    print(&runner.report);
    println!("{:?}", started.elapsed());
    assert!(runner.report.differences.is_empty(), "{} requests differ", runner.report.differences.len());
    let whole = at.is_none() && std::env::var_os("CORELANE_TEST_DIFF_SCRIPT").is_none();
    if whole {
        let unsent = runner.unsent();
        assert!(unsent.is_empty(), "served, and in no script:\n{}", unsent.join("\n"));
        let unused: Vec<String> =
            accepted.iter().filter(|a| a.used.get() == 0 && !a.by_chance).map(|a| a.name()).collect();
        assert!(unused.is_empty(), "accepted differences that were not met:\n{}", unused.join("\n"));
    }
}

//! Every kind of file that a broker writes has a reader, and damage in each kind has its exit code.

use corelane_tests::broker::{Broker, BrokerOptions, is_corelane};
use corelane_tests::command::corelane;
use corelane_tests::librdkafka::{
    LIMIT, admin, admin_options, block_on, config, create_topic, produce_all, producer, unique,
};
use corelane_tests::{scratch, wait};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// A kind of file, what the paths of such files contain, and the exit code of `corelane check` and of `corelane dump-log` when a byte in
/// the middle of one is another.
type Kind = (&'static str, &'static str, i32, i32);

/// While a broker runs, and after a kill.
const IN_USE: [Kind; 3] = [
    ("ledger", "/ledger/0", 7, 7),
    // Which record was acknowledged a file alone does not say.
    ("journal", ".jnl", 7, 0),
    // From the start after a kill on.
    ("unclean", "/unclean", 8, 8),
];

/// After a stop too.
const AT_REST: [Kind; 12] = [
    ("meta", "meta.properties", 7, 7),
    ("lock", "/.lock", 0, 0),
    ("reserve", "/reserve", 0, 0),
    ("spare", "/spare-", 0, 0),
    ("state", "/state", 7, 7),
    ("segment", ".log", 7, 7),
    ("metadata snapshot", ".checkpoint", 7, 7),
    ("index", ".idx", 8, 8),
    ("indexes", "/indexes", 8, 8),
    ("producers", ".snap", 8, 8),
    ("aborted transactions", ".txnindex", 8, 8),
    ("cleaner", "/cleaner", 8, 8),
];

/// There for moments only, or after damage: the tests of the storage engine make them.
const PASSING: [&str; 6] = ["replayed", "damaged state", "swap", "cleaned", "deleted", "unfinished"];

/// Segments of many batches, some of them compacted, of an idempotent producer; an aborted transaction; commits of a group; a topic
/// that is gone.
fn work(broker: &Broker) {
    let (compacted, gone) = (unique("compacted"), unique("gone"));
    let configs = [("cleanup.policy", "compact"), ("segment.bytes", "1048576"), ("min.cleanable.dirty.ratio", "0.01")];
    create_topic(broker, &compacted, 1, &configs);
    create_topic(broker, &gone, 1, &[]);
    let records: Vec<(String, String)> =
        (0..4000).map(|n| (format!("k{}", n % 50), format!("{n}-{}", "x".repeat(600)))).collect();
    let client = producer(broker, &[("compression.type", "none"), ("enable.idempotence", "true")]);
    produce_all(&client, &compacted, records.iter().map(|(k, v)| (k.as_bytes(), v.as_bytes())));
    block_on(admin(broker).delete_topics(&[&gone], &admin_options())).expect("deleted")[0].as_ref().expect("deleted");

    let aborts: ThreadedProducer<DefaultProducerContext> =
        config(broker).set("transactional.id", unique("aborts")).create().expect("a producer");
    aborts.init_transactions(LIMIT).expect("InitProducerId");
    aborts.begin_transaction().expect("begun");
    let record = BaseRecord::to(&compacted).partition(0).key("k").payload("aborted");
    aborts.send(record).map_err(|(error, _)| error).expect("sent");
    aborts.flush(LIMIT).expect("flushed");
    aborts.abort_transaction(LIMIT).expect("aborted");

    let group: BaseConsumer = config(broker).set("group.id", unique("group")).create().expect("a consumer");
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&compacted, 0, Offset::Offset(7)).expect("a partition");
    wait::until("a commit", LIMIT, || group.commit(&list, CommitMode::Sync).ok());
    wait::until("compaction", LIMIT, || files(broker).iter().any(|path| is_of(path, "/cleaner")).then_some(()));
}

fn files(broker: &Broker) -> Vec<PathBuf> {
    scratch::files(&broker.data_dir(), "", "")
}

fn is_of(path: &Path, part: &str) -> bool {
    let path = path.to_str().expect("a path");
    path.ends_with(part) || part.ends_with('-') && path.contains(part)
}

/// The directory is sound, and every file in it is of a kind that is known; gives the kinds.
fn kinds(broker: &Broker) -> BTreeSet<String> {
    let data_dir = broker.data_dir();
    let out = corelane("", &["check", "--json", "--quiet", data_dir.to_str().expect("a path")]);
    assert_eq!(out.code, Some(0), "{}\n{}", out.stdout, out.stderr);
    let report = out.json();
    let counted = report["files"].as_object().expect("files by kind");
    let all: u64 = counted.values().filter_map(|count| count.as_u64()).sum();
    assert_eq!((all, report["unknown_files"].as_u64()), (files(broker).len() as u64, Some(0)), "{report}");
    let known = IN_USE.iter().chain(&AT_REST).map(|(kind, ..)| *kind).chain(PASSING);
    let known: BTreeSet<String> = known.map(str::to_owned).collect();
    let found: BTreeSet<String> = counted.keys().cloned().collect();
    assert!(found.is_subset(&known), "kinds that this test does not know: {report}");
    found
}

/// Puts one bit into the largest file of the kind that is another, looks, and puts it back.
fn damage(broker: &Broker, (kind, part, check, dump): &Kind) {
    let largest = files(broker).into_iter().filter(|path| is_of(path, part));
    // Of journal files, which are all of one size, the first: the one after it is not in use yet.
    let path =
        largest.max_by_key(|path| (fs::metadata(path).map_or(0, |m| m.len()), Reverse(path.clone()))).expect(kind);
    let file = File::options().read(true).write(true).open(&path).expect("the file");
    // A journal's first record: those behind it know that it was durable.
    let at = if *kind == "journal" { 4096 + 100 } else { file.metadata().expect("the file").len() / 2 };
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("a byte");
    file.write_all_at(&[byte[0] ^ 1], at).expect("a byte");
    let name = path.to_str().expect("a path");
    let out = corelane("", &["check", broker.data_dir().to_str().expect("a path")]);
    assert_eq!(out.code, Some(*check), "check, {kind} {name}:\n{}", out.stdout);
    // Of a journal that record is told, of the metadata what cannot be used then.
    assert!(*check == 0 || out.stdout.contains(name), "{name} is not named:\n{}", out.stdout);
    let out = corelane("", &["dump-log", name]);
    assert_eq!(out.code, Some(*dump), "dump-log, {kind} {name}:\n{}", out.stdout);
    file.write_all_at(&byte, at).expect("a byte");
}

#[test]
fn every_kind_of_file_that_a_broker_writes_is_read_and_damage_in_it_is_told() {
    if !is_corelane() {
        return;
    }
    let options = BrokerOptions { cores: "0".into(), ..BrokerOptions::default() };
    let options = options
        .set("log.cleaner.backoff.ms", 200)
        .set("metadata.log.max.record.bytes.between.snapshots", 1000)
        .set("storage.reserve.bytes", 1 << 20);
    let mut broker = Broker::start(options);
    work(&broker);
    broker.kill();
    kinds(&broker);
    broker.resume();
    work(&broker);
    broker.kill();
    let in_use = kinds(&broker);
    for kind in &IN_USE {
        assert!(in_use.contains(kind.0), "no {}: {in_use:?}", kind.0);
        damage(&broker, kind);
    }
    broker.resume();
    assert!(broker.stop().is_some_and(|s| s.success()));
    let at_rest = kinds(&broker);
    for kind in &AT_REST {
        assert!(at_rest.contains(kind.0), "no {}: {at_rest:?}", kind.0);
        damage(&broker, kind);
    }
    let dumped = corelane("", &["dump-log", "--all", broker.data_dir().to_str().expect("a path")]).ok();
    for path in files(&broker) {
        assert!(dumped.contains(path.to_str().expect("a path")), "{} is not described", path.display());
    }
    fs::write(broker.data_dir().join("data/of-tomorrow"), b"?").expect("a file");
    let out = corelane("", &["check", "--json", broker.data_dir().to_str().expect("a path")]);
    assert!(out.stdout.contains("\"unknown_files\":1"), "{}", out.stdout);
}

//! Every message at every version against Kafka's own classes, both ways. Run by scripts/test-protocol.
//!
//! Environment: `CORELANE_SCHEMA_VALUES`, random values for each message and version (20);
//! `CORELANE_SCHEMA_SEED`, the seed of them all (0).

mod peer;

use bytes::Bytes;
use corelane_protocol::records::{group, metadata, share, transaction};
use corelane_protocol::{ApiKey, DecodeError, Random, SCHEMAS, Schema};
use peer::Peer;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().expect("a number"))
}

/// A seed for one message: its position must not matter, so that failures can be run again alone.
fn seed(schema: &Schema, version: i16, turn: u64) -> u64 {
    let mut seed = setting("CORELANE_SCHEMA_SEED", 0) ^ turn << 32 ^ (version as u64) << 16;
    for byte in schema.java_class.bytes() {
        seed = seed.wrapping_mul(0x100_0000_01b3) ^ u64::from(byte);
    }
    seed
}

fn cases() -> impl Iterator<Item = (&'static Schema, i16, u64)> {
    let values = setting("CORELANE_SCHEMA_VALUES", 20);
    SCHEMAS.iter().flat_map(move |schema| {
        (schema.min_version..=schema.max_version)
            .flat_map(move |version| (0..values).map(move |turn| (schema, version, turn)))
    })
}

#[test]
#[ignore = "needs Java: scripts/test-protocol"]
fn java_reads_what_rust_writes() {
    let mut java = Peer::start();
    let mut count = 0;
    for (schema, version, turn) in cases() {
        let seed = seed(schema, version, turn);
        let what = format!("{} version {version} seed {seed}", schema.name);
        let (bytes, dump) = (schema.random)(&mut Random::new(seed), version);
        let written = java.rewrite(schema.java_class, version, &bytes).unwrap_or_else(|e| panic!("{what}: {e}"));
        assert_eq!(written.dump, dump, "{what}: Java sees other values");
        assert_eq!(written.bytes, bytes, "{what}: Java writes other bytes");
        let (again, seen) = (schema.read)(bytes.clone(), version).unwrap_or_else(|e| panic!("{what}: {e}"));
        assert_eq!((again, seen), (bytes, dump), "{what}: not the same after a round trip");
        count += 1;
    }
    println!("{count} values of {} messages", SCHEMAS.len());
}

#[test]
#[ignore = "needs Java: scripts/test-protocol"]
fn rust_reads_what_java_writes() {
    let mut java = Peer::start();
    let mut count = 0;
    for (schema, version, turn) in cases() {
        let seed = seed(schema, version, turn);
        let what = format!("{} version {version} seed {seed}", schema.name);
        let written = java.random(schema.java_class, version, seed).unwrap_or_else(|e| panic!("{what}: {e}"));
        let (bytes, dump) = (schema.read)(written.bytes.clone(), version).unwrap_or_else(|e| panic!("{what}: {e}"));
        assert_eq!(dump, written.dump, "{what}: Rust sees other values");
        assert_eq!(bytes, written.bytes, "{what}: Rust writes other bytes");
        count += 1;
    }
    println!("{count} values of {} messages", SCHEMAS.len());
}

/// A value of one version written in another: what may be left out, and what is refused.
#[test]
#[ignore = "needs Java: scripts/test-protocol"]
fn fields_of_other_versions_are_treated_as_java_does() {
    let mut java = Peer::start();
    let (mut written, mut refused) = (0, 0);
    for (schema, to, turn) in cases() {
        for from in [schema.max_version, schema.min_version] {
            let seed = seed(schema, to, turn);
            let what = format!("{} version {from} as {to}, seed {seed}", schema.name);
            let (bytes, _) = (schema.random)(&mut Random::new(seed), from);
            let ours = (schema.convert)(bytes.clone(), from, to).unwrap_or_else(|e| panic!("{what}: {e}"));
            match (ours, java.convert(schema.java_class, from, to, &bytes)) {
                (Ok(ours), Ok(theirs)) => {
                    assert_eq!(ours, theirs, "{what}");
                    written += 1;
                }
                (Err(_), Err(_)) => refused += 1,
                (ours, theirs) => panic!("{what}: {ours:?} here, {theirs:?} there"),
            }
        }
    }
    println!("{written} values written, {refused} refused");
}

#[test]
#[ignore = "needs Java: scripts/test-protocol"]
fn versions_and_defaults_are_javas() {
    let mut java = Peer::start();
    for schema in SCHEMAS {
        let class = java.class(schema.java_class).unwrap();
        assert_eq!(class.versions, (schema.min_version, schema.max_version), "{}", schema.name);
        assert_eq!(class.default, (schema.default)(), "{}: default value", schema.name);
    }
}

#[test]
#[ignore = "needs Java: scripts/test-protocol"]
fn api_table_is_javas() {
    let mut lines = Vec::new();
    for &api in ApiKey::ALL {
        let served = api.valid_versions();
        let schema = SCHEMAS.iter().find(|schema| schema.name == format!("{api}Request")).unwrap();
        let headers = (schema.min_version..=schema.max_version)
            .map(|v| format!("\t{v}:{}:{}", api.request_header_version(v), api.response_header_version(v)))
            .collect::<String>();
        // Kafka's listeners are an ordered set of the same two names.
        let listeners: Vec<_> = api.listeners().iter().map(|l| format!("{l:?}").to_uppercase()).collect();
        lines.push(format!("{}\t{}\t{}\t[{}]{headers}", api.key(), served.start(), served.end(), listeners.join(", ")));
    }
    assert_eq!(lines, Peer::start().apis());
}

/// Java frames random records of one package; `check` gives what Rust makes of them.
fn framed(package: &str, metadata: bool, check: impl Fn(&Schema, i16, i16, Bytes) -> Result<Bytes, DecodeError>) {
    let mut java = Peer::start();
    let mut count = 0;
    for schema in SCHEMAS.iter().filter(|schema| schema.java_class.contains(package)) {
        let record_type = java.class(schema.java_class).unwrap().api_key;
        for version in schema.min_version..=schema.max_version {
            let (bytes, _) = (schema.random)(&mut Random::new(seed(schema, version, 0)), version);
            let stored = if metadata {
                java.metadata_frame(schema.java_class, version, &bytes)
            } else {
                java.coordinator_frame(schema.java_class, version, &bytes)
            };
            let again = check(schema, version, record_type, stored.clone());
            assert_eq!(again.as_ref(), Ok(&stored), "{} version {version}", schema.name);
            count += 1;
        }
    }
    assert!(count > 0, "no records in {package}");
}

macro_rules! coordinator_check {
    ($key:ty, $value:ty) => {
        |schema, version, record_type, stored| {
            if schema.name.ends_with("Key") {
                let key = <$key>::decode(stored)?;
                assert_eq!(key.record_type(), record_type);
                return Ok(key.encode().unwrap());
            }
            let (value, found) = <$value>::decode(record_type, stored)?;
            assert_eq!(found, version);
            Ok(value.encode(version).unwrap())
        }
    };
}

#[test]
#[ignore = "needs Java: scripts/test-protocol"]
fn stored_records_are_javas() {
    framed("coordinator.group.generated", false, coordinator_check!(group::GroupRecordKey, group::GroupRecordValue));
    framed(
        "coordinator.transaction.generated",
        false,
        coordinator_check!(transaction::TransactionRecordKey, transaction::TransactionRecordValue),
    );
    framed("coordinator.share.generated", false, coordinator_check!(share::ShareRecordKey, share::ShareRecordValue));
    framed("common.metadata", true, |_, version, record_type, stored| {
        let (record, found) = metadata::MetadataRecord::decode(stored)?;
        assert_eq!((found, record.record_type()), (version, record_type));
        Ok(record.encode(version).unwrap())
    });
}

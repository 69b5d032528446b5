//! Random requests of every advertised API and version, as they are and damaged. Seeded: `CORELANE_TEST_SEED`.
//! `CORELANE_TEST_HOSTILE_SECONDS` bounds each test (default 15).

use super::bystander::undisturbed_by;
use bytes::Bytes;
use corelane_protocol::messages::RequestHeader;
use corelane_protocol::{ApiKey, Encoder, Message, Random, SCHEMAS, Str};
use corelane_tests::api_versions::advertised;
use corelane_tests::broker::{Broker, is_corelane};
use corelane_tests::connection::{Connection, Fate};
use std::time::{Duration, Instant};

/// These would take Apache Kafka's broker itself out of service, which is what they are for.
const NOT_FOR_STRANGERS: [ApiKey; 5] = [
    ApiKey::UnregisterBroker,
    ApiKey::UpdateFeatures,
    ApiKey::AddRaftVoter,
    ApiKey::RemoveRaftVoter,
    ApiKey::AlterPartitionReassignments,
];

/// Requests that may rightly have no answer for a while (or ever: acks=0).
const MAY_WAIT: [ApiKey; 6] =
    [ApiKey::Produce, ApiKey::Fetch, ApiKey::JoinGroup, ApiKey::SyncGroup, ApiKey::ShareFetch, ApiKey::DeleteRecords];

fn seed() -> u64 {
    let seed = std::env::var("CORELANE_TEST_SEED").ok().map(|s| s.parse().expect("CORELANE_TEST_SEED"));
    let seed = seed.unwrap_or_else(rand::random);
    println!("CORELANE_TEST_SEED={seed}");
    seed
}

fn time_box() -> Instant {
    let seconds = std::env::var("CORELANE_TEST_HOSTILE_SECONDS").map_or(15, |s| s.parse().expect("seconds"));
    Instant::now() + Duration::from_secs(seconds)
}

fn head(api: ApiKey, version: i16) -> Bytes {
    let header = RequestHeader {
        request_api_key: api.key(),
        request_api_version: version,
        correlation_id: 7,
        client_id: Some(Str::from("hostile")),
        ..RequestHeader::default()
    };
    let mut e = Encoder::new();
    header.encode(&mut e, api.request_header_version(version)).expect("a header");
    e.into_bytes()
}

/// A random body of an API's request, if there is a schema for it.
fn body(api: ApiKey, version: i16, random: &mut Random) -> Bytes {
    let name = format!("{}Request", api.name());
    let schema = SCHEMAS.iter().find(|s| s.name == name).unwrap_or_else(|| panic!("no schema {name}"));
    (schema.random)(random, version).0
}

fn framed(head: &[u8], body: &[u8]) -> Vec<u8> {
    let length = i32::try_from(head.len() + body.len()).expect("small");
    [&length.to_be_bytes(), head, body].concat()
}

/// One connection that is replaced when the broker closes it.
struct Attacker<'a> {
    broker: &'a Broker,
    connection: Option<Connection>,
    sent: u64,
    answered: u64,
}

impl Attacker<'_> {
    fn new(broker: &Broker) -> Attacker<'_> {
        Attacker { broker, connection: None, sent: 0, answered: 0 }
    }

    fn send(&mut self, api: ApiKey, version: i16, bytes: &[u8], what: &str) {
        let mut connection = self.connection.take().unwrap_or_else(|| {
            Connection::open(self.broker.bootstrap())
                .unwrap_or_else(|e| panic!("{e} before {what}\n{}", self.broker.log_tail()))
        });
        let may_wait = MAY_WAIT.contains(&api);
        let patience = match (may_wait, is_corelane()) {
            (true, _) => Duration::from_millis(30),
            (false, true) => Duration::from_secs(30),
            (false, false) => Duration::from_secs(2),
        };
        connection.set_read_timeout(patience);
        self.sent += 1;
        if connection.write(bytes).is_err() {
            return;
        }
        match connection.fate() {
            Fate::Answered(_) => {
                self.answered += 1;
                self.connection = Some(connection);
            }
            Fate::Closed => {}
            // Apache Kafka forgets to answer some, such as AddPartitionsToTxn v4 with no transaction in it
            Fate::Silent => assert!(
                may_wait || !is_corelane(),
                "{} v{version} ({what}): no answer in {patience:?}: {bytes:02x?}",
                api.name()
            ),
        }
    }
}

fn each_version(broker: &Broker) -> Vec<(ApiKey, i16)> {
    let apis = advertised(broker.bootstrap());
    let wanted = apis.into_iter().filter(|(api, _)| is_corelane() || !NOT_FOR_STRANGERS.contains(api));
    wanted.flat_map(|(api, versions)| versions.map(move |v| (api, v))).collect()
}

#[test]
fn random_requests_of_every_api_and_version_are_answered_or_refused() {
    let (mut random, end) = (Random::new(seed()), time_box());
    undisturbed_by(|broker| {
        let (mut attacker, all, mut rounds) = (Attacker::new(broker), each_version(broker), 0);
        while rounds == 0 || Instant::now() < end {
            for (api, version) in &all {
                let bytes = framed(&head(*api, *version), &body(*api, *version, &mut random));
                attacker.send(*api, *version, &bytes, "random values");
                if rounds > 0 && Instant::now() >= end {
                    break;
                }
            }
            rounds += 1;
        }
        println!("{} requests, {} answered", attacker.sent, attacker.answered);
    });
}

#[test]
fn damaged_requests_of_every_api_and_version_are_answered_or_refused() {
    let (mut random, end) = (Random::new(seed()), time_box());
    undisturbed_by(|broker| {
        let (mut attacker, all, mut rounds) = (Attacker::new(broker), each_version(broker), 0);
        while rounds == 0 || Instant::now() < end {
            for (api, version) in &all {
                let (head, mut body) = (head(*api, *version), body(*api, *version, &mut random).to_vec());
                let what = damage(&mut body, &mut random);
                attacker.send(*api, *version, &framed(&head, &body), what);
                if rounds > 0 && Instant::now() >= end {
                    break;
                }
            }
            rounds += 1;
        }
        println!("{} requests, {} answered", attacker.sent, attacker.answered);
    });
}

/// Damages a body in one of the ways that decoders fall for; returns which.
fn damage(body: &mut Vec<u8>, random: &mut Random) -> &'static str {
    let at = random.below(body.len() as u64 + 1) as usize;
    match random.below(6) {
        0 => {
            body.truncate(at);
            "cut"
        }
        1 => {
            for _ in 0..=random.below(8) {
                let at = random.below(body.len().max(1) as u64) as usize;
                if let Some(byte) = body.get_mut(at) {
                    *byte = random.u64() as u8;
                }
            }
            "bytes changed"
        }
        2 => {
            body.splice(at..at, (0..=random.below(20)).map(|i| i as u8)).for_each(drop);
            "bytes inserted"
        }
        3 => {
            overwrite(body, at, &[0x7f, 0xff, 0xff, 0xff]);
            "a huge length"
        }
        4 => {
            overwrite(body, at, &[0xff, 0xff, 0xff, 0xff, 0x0f]);
            "a huge varint"
        }
        _ => {
            overwrite(body, at, &[0xff, 0xff, 0xff, 0xfe]);
            "a negative length"
        }
    }
}

fn overwrite(body: &mut Vec<u8>, at: usize, with: &[u8]) {
    body.resize(body.len().max(at + with.len()), 0);
    body[at..at + with.len()].copy_from_slice(with);
}

#[test]
fn giant_arrays_announced_in_small_frames_take_nothing() {
    let mut random = Random::new(seed());
    undisturbed_by(|broker| {
        let mut attacker = Attacker::new(broker);
        for (api, version) in each_version(broker) {
            let head = head(api, version);
            let mut small = body(api, version, &mut random).to_vec();
            small.truncate(60);
            let lengths: [&[u8]; 2] = [&[0x7f, 0xff, 0xff, 0xf0], &[0xf0, 0xff, 0xff, 0xff, 0x07]];
            for at in (0..small.len().min(24)).step_by(3) {
                for length in lengths {
                    let mut body = small.clone();
                    overwrite(&mut body, at, length);
                    attacker.send(api, version, &framed(&head, &body), "a giant array");
                }
            }
        }
        println!("{} requests, {} answered", attacker.sent, attacker.answered);
    });
}

#[test]
fn noise_is_refused() {
    let (mut random, end) = (Random::new(seed()), time_box());
    undisturbed_by(|broker| {
        let mut sent = 0;
        while Instant::now() < end && sent < 3000 {
            let mut connection = Connection::open(broker.bootstrap()).expect("a connection");
            connection.set_read_timeout(Duration::from_millis(20));
            let length = random.below(2000) as usize;
            let mut noise: Vec<u8> = (0..length).map(|_| random.u64() as u8).collect();
            if random.below(2) == 0 {
                // a length that fits, so that the noise is taken for a request
                noise.splice(0..0, i32::try_from(length).expect("small").to_be_bytes()).for_each(drop);
            }
            let _ = connection.write(&noise);
            let _ = connection.fate();
            sent += 1;
        }
        println!("{sent} connections");
    });
}

//! The order of a client's requests, and the bounds of what is known of clients.

use super::*;
use corelane_protocol::Str;

fn client() -> Attributes {
    Attributes {
        client_id: Some(Str::from_static("c")),
        software_name: Str::from_static("s"),
        software_version: Str::from_static("1"),
        peer: "10.0.0.1:5000".parse().unwrap(),
    }
}

const ID: Uuid = Uuid::from_u128(77);
const INTERVAL: Duration = Duration::from_secs(300);

struct Life {
    telemetry: Telemetry,
    now: Instant,
}

impl Life {
    fn new() -> Life {
        Life { telemetry: Telemetry::default(), now: Instant::now() }
    }

    fn get(&self) -> Result<i32, ErrorCode> {
        self.telemetry.get(ID, client(), 1, self.now).answer.map(|wanted| wanted.subscription_id)
    }

    fn push(&self, change: impl FnOnce(&mut Push)) -> Result<(), ErrorCode> {
        let subscription_id = self.telemetry.subscriptions.borrow().wanted(ID, &client()).subscription_id;
        let mut push = Push { id: ID, subscription_id, terminating: false, compression: 0, size: 10, max_size: 100 };
        change(&mut push);
        self.telemetry.push(push, client(), 1, self.now).answer
    }

    fn after(&mut self, passed: Duration) {
        self.now += passed;
    }
}

#[test]
fn requests_that_come_too_early_are_throttled() {
    let mut life = Life::new();
    assert!(life.get().is_ok());
    life.after(Duration::from_millis(1));
    assert_eq!(life.get(), Err(ErrorCode::ThrottlingQuotaExceeded));
    assert_eq!(life.push(|_| ()), Ok(()), "the first push comes when it likes");
    life.after(Duration::from_millis(1));
    assert_eq!(life.push(|_| ()), Err(ErrorCode::ThrottlingQuotaExceeded));
    assert_eq!(life.get(), Err(ErrorCode::ThrottlingQuotaExceeded));
    life.after(INTERVAL);
    assert_eq!(life.push(|_| ()), Ok(()));
    life.after(INTERVAL);
    assert!(life.get().is_ok());
}

#[test]
fn what_a_push_says_wrong_may_be_asked_at_once() {
    let mut life = Life::new();
    life.get().unwrap();
    life.after(Duration::from_millis(1));
    assert_eq!(life.push(|p| p.subscription_id ^= 1), Err(ErrorCode::UnknownSubscriptionId));
    assert!(life.get().is_ok());
    assert_eq!(life.get(), Err(ErrorCode::ThrottlingQuotaExceeded), "once");
    life.after(INTERVAL);
    assert_eq!(life.push(|p| p.compression = 5), Err(ErrorCode::UnsupportedCompressionType));
    assert!(life.get().is_ok());
    life.after(INTERVAL);
    assert_eq!(life.push(|p| p.size = 101), Err(ErrorCode::TelemetryTooLarge));
    assert_eq!(life.get(), Err(ErrorCode::ThrottlingQuotaExceeded));
    for id in [Uuid::ZERO, Uuid::ONE] {
        assert_eq!(life.push(|p| p.id = id), Err(ErrorCode::InvalidRequest));
    }
}

#[test]
fn after_its_last_push_a_client_pushes_no_more() {
    let mut life = Life::new();
    assert_eq!(life.push(|_| ()), Ok(()), "known or not");
    assert_eq!(life.push(|p| p.terminating = true), Ok(()), "the last one is not throttled");
    assert_eq!(life.push(|p| p.terminating = true), Err(ErrorCode::InvalidRequest));
    life.after(INTERVAL * 3);
    assert_eq!(life.push(|_| ()), Ok(()), "it has been forgotten");
}

#[test]
fn what_is_known_of_clients_is_bounded() {
    let telemetry = Telemetry::default();
    let now = Instant::now();
    for id in 2..40_002 {
        telemetry.get(Uuid::from_u128(id), client(), 4, now).answer.unwrap();
    }
    assert_eq!(telemetry.instances.borrow().by_id.len(), INSTANCES_MAX / 4);
    let long = Attributes { client_id: Some(Str::from("x".repeat(30_000))), ..client() };
    for id in 2..2_002 {
        telemetry.get(Uuid::from_u128(id), long.clone(), 4, now).answer.unwrap();
    }
    let instances = telemetry.instances.borrow();
    assert!(instances.bytes <= BYTES_MAX && instances.turns.len() == instances.by_id.len());
    drop(instances);
    telemetry.get(Uuid::from_u128(2_001), client(), 4, now).answer.unwrap_err();
    telemetry.instances.borrow_mut().remove(Uuid::from_u128(2_001));
    assert!(telemetry.get(Uuid::from_u128(2_001), client(), 4, now).is_new);
}

#[test]
fn pushes_are_read_in_every_compression_and_no_further_than_allowed() {
    use corelane_storage::record::{Codec, codec};
    let telemetry = Telemetry::default();
    let max = 1000;
    let read = |codec: Codec, raw: &[u8]| {
        let mut packed = Vec::new();
        codec::compress(codec.into(), raw, &mut packed).unwrap();
        receive(&telemetry, (ID, &client()), false, (codec.bits() as i8, &packed.into()), max)
    };
    for codec in Codec::ALL {
        assert_eq!(read(codec, &[]), Ok(()), "{codec:?}");
        assert_eq!(read(codec, b"\x0a\x00"), Ok(()), "{codec:?}");
        assert_eq!(read(codec, b"\x0a\x05"), Err(ErrorCode::InvalidRecord), "{codec:?}");
        assert_eq!(read(codec, &[0; 1001]), Err(ErrorCode::InvalidRecord), "{codec:?}: too much of it");
    }
    assert_eq!(
        receive(&telemetry, (ID, &client()), false, (4, &vec![9; 50].into()), max),
        Err(ErrorCode::InvalidRecord)
    );
}

//! Client metrics (KIP-714): who pushes, how often, and what becomes of it (Kafka: `ClientMetricsManager`).
//!
//! A client instance belongs to one shard of the broker that it is connected to, by its id: a client may ask on one connection
//! and push on another.

mod otlp;
mod receive;
mod subscriptions;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use core_pinning::ShardId;
use core_pinning::time::Instant;
use corelane_protocol::{ErrorCode, Uuid};
use hashbrown::HashMap;

pub use self::receive::{Received, receive};
use self::subscriptions::Subscriptions;
pub use self::subscriptions::{Attributes, Wanted};
use crate::controller::image::ClusterImage;
use crate::kafka::request::Client;
use crate::router::ShardCall;
use crate::shard::Shard;

/// Client instances of one broker, as in Kafka; those that were silent for longest make room.
const INSTANCES_MAX: usize = 16_384;
/// Bytes that the instances of one shard may hold.
const BYTES_MAX: usize = 8 << 20;
/// What an instance holds beside its texts.
const INSTANCE_BYTES: usize = 400;
/// An instance is forgotten after so long, or three intervals of its pushes.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// The largest code of compression (`CompressionType.ZSTD`).
const COMPRESSIONS: std::ops::RangeInclusive<i8> = 0..=4;

/// The shard of this broker that knows a client instance.
pub fn home(shard: &Shard, id: Uuid) -> ShardId {
    let shards: Vec<ShardId> = shard.of_this_broker().collect();
    let place = (id.to_u128() % shards.len().max(1) as u128) as usize;
    shards.get(place).copied().unwrap_or(shard.id)
}

/// The connection on which an instance came has ended: it begins anew when it comes again.
pub fn forget(shard: &Rc<Shard>, client: &Client) {
    if let Some(id) = client.pushed_as() {
        drop(shard.router.call(shard, home(shard, id), ForgetCall { id }));
    }
}

struct ForgetCall {
    id: Uuid,
}

impl ShardCall for ForgetCall {
    type Reply = ();

    fn run(self, shard: &Rc<Shard>) -> impl Future<Output = ()> + 'static {
        shard.telemetry.instances.borrow_mut().remove(self.id);
        std::future::ready(())
    }
}

/// An id that no client has, in a form that Kafka gives.
pub fn new_id() -> Uuid {
    loop {
        let id = Uuid(rand::random());
        if !is_reserved(id) && !id.to_string().starts_with('-') {
            return id;
        }
    }
}

fn is_reserved(id: Uuid) -> bool {
    matches!(id, Uuid::ZERO | Uuid::ONE)
}

/// What of a push decides whether it is taken.
#[derive(Clone, Copy, Debug)]
pub struct Push {
    pub id: Uuid,
    pub subscription_id: i32,
    pub terminating: bool,
    pub compression: i8,
    /// Bytes as they came, and how many are allowed.
    pub size: usize,
    pub max_size: usize,
}

struct Instance {
    client: Attributes,
    wanted: Rc<Wanted>,
    version: u64,
    last_get: Option<Instant>,
    last_push: Option<Instant>,
    terminating: bool,
    /// Its last push was refused for what it can learn by asking again.
    may_ask: bool,
    expires: Instant,
    turn: u64,
}

impl Instance {
    fn size(&self) -> usize {
        let metrics: usize = self.wanted.metrics.iter().map(|name| name.len() + size_of::<String>()).sum();
        INSTANCE_BYTES + self.client.size() + metrics
    }

    fn interval(&self) -> Duration {
        Duration::from_millis(self.wanted.interval_ms.max(0) as u64)
    }

    fn is_due(&self, last: Option<Instant>, now: Instant) -> bool {
        last.is_none_or(|last| now.saturating_duration_since(last) >= self.interval())
    }
}

#[derive(Default)]
struct Instances {
    by_id: HashMap<Uuid, Instance>,
    /// In the order of their last requests.
    turns: BTreeMap<u64, Uuid>,
    next_turn: u64,
    bytes: usize,
}

impl Instances {
    fn remove(&mut self, id: Uuid) -> Option<Instance> {
        let instance = self.by_id.remove(&id)?;
        self.turns.remove(&instance.turn);
        self.bytes -= instance.size();
        Some(instance)
    }

    fn insert(&mut self, id: Uuid, mut instance: Instance, max: usize) {
        instance.turn = self.next_turn;
        self.next_turn += 1;
        self.turns.insert(instance.turn, id);
        self.bytes += instance.size();
        self.by_id.insert(id, instance);
        while self.by_id.len() > max || (self.bytes > BYTES_MAX && self.by_id.len() > 1) {
            let Some(oldest) = self.turns.first_key_value().map(|(_, id)| *id) else { return };
            self.remove(oldest);
        }
    }
}

#[derive(Default)]
pub struct Telemetry {
    subscriptions: RefCell<Subscriptions>,
    instances: RefCell<Instances>,
    received: Received,
}

/// What a request found.
pub struct Told<T> {
    pub answer: Result<T, ErrorCode>,
    /// The instance was not known, or is another one now: it ends with the connection of this request.
    pub is_new: bool,
}

impl Telemetry {
    pub fn take_image(&self, image: &ClusterImage) {
        self.subscriptions.borrow_mut().take_image(image);
    }

    /// GetTelemetrySubscriptions. `shards`: how many the broker has.
    pub fn get(&self, id: Uuid, client: Attributes, shards: usize, now: Instant) -> Told<Rc<Wanted>> {
        self.with(id, client, shards, now, |instance| {
            let due = instance.is_due(instance.last_get.max(instance.last_push), now);
            if due {
                instance.last_get = Some(now);
            }
            if !due && !instance.may_ask {
                return Err(ErrorCode::ThrottlingQuotaExceeded);
            }
            instance.may_ask = false;
            Ok(instance.wanted.clone())
        })
    }

    /// PushTelemetry, before the metrics are looked at.
    pub fn push(&self, push: Push, client: Attributes, shards: usize, now: Instant) -> Told<()> {
        if is_reserved(push.id) {
            return Told { answer: Err(ErrorCode::InvalidRequest), is_new: false };
        }
        self.with(push.id, client, shards, now, |instance| {
            let answer = check(instance, push, now);
            instance.may_ask =
                matches!(answer, Err(ErrorCode::UnknownSubscriptionId | ErrorCode::UnsupportedCompressionType));
            instance.terminating = push.terminating;
            answer
        })
    }

    /// Runs `request` on the instance, which is made if need be.
    fn with<T>(
        &self,
        id: Uuid,
        client: Attributes,
        shards: usize,
        now: Instant,
        request: impl FnOnce(&mut Instance) -> Result<T, ErrorCode>,
    ) -> Told<T> {
        let subscriptions = self.subscriptions.borrow();
        let mut instances = self.instances.borrow_mut();
        let known = instances.remove(id).filter(|instance| now < instance.expires);
        let is_new = known.as_ref().is_none_or(|instance| instance.version < subscriptions.version);
        let mut instance = match known {
            Some(known) if !is_new => known,
            // Who is known by other subscriptions stays who it is, and may ask again at once.
            other => {
                let client = other.map_or(client, |instance| instance.client);
                let wanted = Rc::new(subscriptions.wanted(id, &client));
                Instance {
                    client,
                    wanted,
                    version: subscriptions.version,
                    last_get: None,
                    last_push: None,
                    terminating: false,
                    may_ask: false,
                    expires: now,
                    turn: 0,
                }
            }
        };
        instance.expires = now + SILENCE_MAX.max(instance.interval() * 3);
        let answer = request(&mut instance);
        instances.insert(id, instance, (INSTANCES_MAX / shards.max(1)).max(1));
        Told { answer, is_new }
    }
}

fn check(instance: &mut Instance, push: Push, now: Instant) -> Result<(), ErrorCode> {
    if instance.terminating {
        return Err(ErrorCode::InvalidRequest);
    }
    // The first push after it has asked comes at a random time.
    let has_asked = instance.last_get > instance.last_push;
    let due = has_asked || instance.is_due(instance.last_push, now);
    if due {
        instance.last_push = Some(now);
    } else if !push.terminating {
        return Err(ErrorCode::ThrottlingQuotaExceeded);
    }
    if push.subscription_id != instance.wanted.subscription_id {
        return Err(ErrorCode::UnknownSubscriptionId);
    }
    if !COMPRESSIONS.contains(&push.compression) {
        return Err(ErrorCode::UnsupportedCompressionType);
    }
    if push.size > push.max_size {
        return Err(ErrorCode::TelemetryTooLarge);
    }
    Ok(())
}

#[cfg(test)]
mod tests;

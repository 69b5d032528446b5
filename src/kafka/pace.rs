//! One request of a client that quotas may hold up. It is answered at once, and then nothing more is read of its connection for
//! as long as the answer says (KIP-219).

use std::rc::Rc;
use std::time::Duration;

use corelane_protocol::messages::{FetchResponse, ProduceResponse};
use corelane_protocol::{ApiKey, Encoder, ErrorCode, Message, Str};

use crate::controller::Refused;
use crate::controller::requests::ask;
use crate::kafka::request::{Client, RequestContext};
use crate::quota::{Charge, Keep, Kind, Mutator, Owed, Share, charge};
use crate::router::Meter;
use crate::security::Principal;
use crate::shard::Shard;

pub struct Pace {
    client: Rc<Client>,
    principal: Rc<Principal>,
    client_id: Option<Str>,
    /// Bytes of the request.
    size: usize,
    /// What all shards have worked for it.
    pub work: Meter,
}

impl Pace {
    /// `None`: nobody has a quota.
    pub fn begin(shard: &Shard, client: &Rc<Client>, size: usize) -> Option<Rc<Pace>> {
        shard.quotas.any().then(|| {
            Rc::new(Pace {
                client: client.clone(),
                principal: client.principal(),
                client_id: client.id(),
                size,
                work: Meter::default(),
            })
        })
    }

    fn share(&self, shard: &Shard, kind: Kind) -> Option<Share> {
        shard.quotas.share(kind, &self.principal.name, self.client_id.as_deref().unwrap_or_default())
    }

    async fn charge(&self, shard: &Rc<Shard>, kind: Kind, amount: f64, keep: Keep) -> Duration {
        match self.share(shard, kind) {
            Some(share) => charge(shard, Charge { kind, share, amount, keep }).await,
            None => Duration::ZERO,
        }
    }

    async fn charge_work(&self, shard: &Rc<Shard>) -> Duration {
        self.charge(shard, Kind::Request, self.work.spent().as_secs_f64() * 100.0, Keep::Always).await
    }

    /// Tells the client and holds it up.
    fn hold(&self, response: &mut impl Message, wait: Duration) {
        let ms = i32::try_from(wait.as_millis()).unwrap_or(i32::MAX);
        match response.throttle_time_ms() {
            // Its handler may have had a reason of its own.
            Some(told) => {
                *told = ms.max(*told);
                self.client.hold(*told);
            }
            None => self.client.hold(ms),
        }
    }

    pub async fn produced(&self, shard: &Rc<Shard>, silent: bool, response: &mut ProduceResponse) {
        let mut wait = self.charge(shard, Kind::Produce, self.size as f64, Keep::Always).await;
        if !silent {
            wait = wait.max(self.charge_work(shard).await);
        }
        self.hold(response, wait);
    }

    /// Bytes that a fetch may answer with and not be over the quota by itself.
    pub fn fetch_max_bytes(&self, shard: &Shard) -> usize {
        self.share(shard, Kind::Fetch).map_or(usize::MAX, |share| shard.quotas.at_once(share) as usize)
    }

    /// How long a client waits instead of getting this; zero: it gets it.
    pub async fn fetched(&self, shard: &Rc<Shard>, version: i16, response: &FetchResponse) -> Duration {
        let work = self.charge_work(shard).await;
        if self.share(shard, Kind::Fetch).is_none() {
            return work;
        }
        let keep = if work.is_zero() { Keep::Within } else { Keep::Never };
        work.max(self.charge(shard, Kind::Fetch, size(version, response) as f64, keep).await)
    }

    /// The answer is there, of any API but Produce.
    pub async fn answered<M: Message>(&self, shard: &Rc<Shard>, api: ApiKey, version: i16, response: &mut M) {
        let wait = match api {
            // It has been charged, if it is no replica's; and what other brokers ask is not held up.
            ApiKey::Fetch | ApiKey::WriteTxnMarkers => Duration::ZERO,
            ApiKey::ShareFetch => {
                let work = self.charge_work(shard).await;
                // Its records are the client's now: to keep them back would lock them for nobody, as they are in Kafka.
                let bytes = if self.share(shard, Kind::Fetch).is_some() { size(version, response) } else { 0 };
                work.max(self.charge(shard, Kind::Fetch, bytes as f64, Keep::Always).await)
            }
            _ => self.charge_work(shard).await,
        };
        self.hold(response, wait);
    }
}

impl RequestContext {
    /// Who pays for partitions that are made or deleted. `strict_from`: the first version that is refused.
    pub fn mutator(&self, strict_from: i16) -> Option<Mutator> {
        let share = self.pace.as_ref()?.share(&self.shard, Kind::Mutation)?;
        Some(Mutator { share, strict: self.version >= strict_from })
    }

    /// The same of topics that are made for a client which asked for something else: Kafka's brokers ask their controller for them in
    /// the client's name, by a CreateTopics of the newest version (`KRaftTopicCreator`), which is refused.
    pub fn mutator_by_the_way(&self) -> Option<Mutator> {
        self.mutator(0)
    }
}

/// Somebody's quota was used up.
pub fn exceeded<'a>(refusals: impl IntoIterator<Item = &'a Refused>) -> bool {
    refusals.into_iter().any(|refused| refused.code == ErrorCode::ThrottlingQuotaExceeded)
}

/// Milliseconds that a mutator waits. `refused`: something was.
pub async fn mutator_waits(shard: &Rc<Shard>, mutator: Option<Mutator>, refused: bool) -> i32 {
    match mutator.filter(|mutator| refused || !mutator.strict) {
        Some(mutator) => i32::try_from(ask(shard, Owed(mutator.share)).await.as_millis()).unwrap_or(i32::MAX),
        None => 0,
    }
}

/// Kafka counts the length before it, too.
fn size<M: Message>(version: i16, response: &M) -> usize {
    let mut encoder = Encoder::new();
    match response.encode(&mut encoder, version) {
        Ok(()) => encoder.finish().iter().map(|slice| slice.len()).sum::<usize>() + size_of::<i32>(),
        Err(_) => 0,
    }
}

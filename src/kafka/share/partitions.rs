//! The partitions of share groups that a shard serves, and reaching them from any shard.

use std::cell::RefCell;
use std::future::Future;
use std::rc::Rc;

use corelane_acl::Operation;
use corelane_coordinator::share::in_flight::Acknowledgement;
use corelane_protocol::{ErrorCode, Str};
use corelane_storage::model::{PartitionKey, TopicId};
use futures::future::join_all;
use hashbrown::HashMap;

use super::served::Served;
use super::sessions::{Name, Who};
use crate::controller::image::owner;
use crate::kafka::request::RequestContext;
use crate::router::ShardCall;
use crate::shard::Shard;

#[derive(Default)]
pub struct SharePartitions {
    served: RefCell<HashMap<(Str, PartitionKey), Rc<Served>>>,
}

impl SharePartitions {
    pub fn get(&self, group: &Str, key: PartitionKey) -> Option<Rc<Served>> {
        self.served.borrow().get(&(group.clone(), key)).cloned()
    }

    /// Begins to serve a partition if need be. What is known of it comes later.
    pub fn serve(&self, shard: &Rc<Shard>, group: &Str, key: PartitionKey) -> Result<Rc<Served>, ErrorCode> {
        if let Some(served) = self.get(group, key) {
            return Ok(served);
        }
        let partition = shard.partitions.find(key)?;
        let served = Served::start(shard, group.detach(), partition);
        self.served.borrow_mut().insert((group.detach(), key), served.clone());
        Ok(served)
    }

    /// Serves it no longer: the next fetch begins with what is stored.
    pub fn drop_served(&self, served: &Rc<Served>) {
        let place = (served.group.clone(), served.partition.key);
        let mut all = self.served.borrow_mut();
        if all.get(&place).is_some_and(|known| Rc::ptr_eq(known, served)) {
            all.remove(&place);
        }
        drop(all);
        served.end();
    }

    pub fn topic_deleted(&self, topic: TopicId) {
        self.drop_all(|_, key| key.topic == topic);
    }

    /// The last session of a group has ended. A member may hold locks in a partition that none of them named any more.
    pub fn group_left(&self, group: &Str) {
        self.drop_all(|of, _| of == group);
    }

    fn drop_all(&self, these: impl Fn(&Str, &PartitionKey) -> bool) {
        let gone: Vec<_> = self.served.borrow_mut().extract_if(|(group, key), _| these(group, key)).collect();
        gone.into_iter().for_each(|(_, served)| served.end());
    }

    /// Nothing is lent or stored afterwards.
    pub fn stop(&self) {
        let all = self.served.take();
        all.into_values().for_each(|served| served.end());
    }
}

/// A member's partition; else UNKNOWN_TOPIC_ID, UNKNOWN_TOPIC_OR_PARTITION, NOT_LEADER_OR_FOLLOWER.
pub fn find(shard: &Shard, name: Name) -> Result<PartitionKey, ErrorCode> {
    let image = shard.image();
    let topic = image.topic(TopicId(name.topic.0)).ok_or(ErrorCode::UnknownTopicId)?;
    let key =
        topic.partition(name.partition).map(|index| topic.key(index)).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    shard.leading(key).map(|_| key)
}

/// The same for a client, which must be allowed to read the topic.
pub fn find_readable(context: &RequestContext, name: Name) -> Result<PartitionKey, ErrorCode> {
    let image = context.shard.image();
    let topic = image.topic(TopicId(name.topic.0)).ok_or(ErrorCode::UnknownTopicId)?;
    match context.may_topic(Operation::Read, &topic.name) {
        true => find(&context.shard, name),
        false => Err(ErrorCode::TopicAuthorizationFailed),
    }
}

/// Acknowledges, each on the shard of its partition; answers come in the order of `wanted`, when they are stored.
pub async fn acknowledge(
    shard: &Rc<Shard>,
    who: &Who,
    wanted: Vec<(PartitionKey, Vec<Acknowledgement>)>,
) -> Vec<Result<(), ErrorCode>> {
    let call = |(key, acknowledgements): (PartitionKey, Vec<Acknowledgement>)| {
        let to = owner(key, shard.shards);
        shard.router.call(shard, to, AcknowledgeCall { who: who.clone(), key, acknowledgements })
    };
    join_all(wanted.into_iter().map(call).collect::<Vec<_>>()).await
}

struct AcknowledgeCall {
    who: Who,
    key: PartitionKey,
    acknowledgements: Vec<Acknowledgement>,
}

impl ShardCall for AcknowledgeCall {
    type Reply = Result<(), ErrorCode>;

    fn run(self, shard: &Rc<Shard>) -> impl Future<Output = Self::Reply> + 'static {
        let served = shard.share_partitions.get(&self.who.group, self.key);
        let stored = served
            .ok_or(ErrorCode::UnknownTopicOrPartition)
            .and_then(|served| served.acknowledge(shard, &self.who.member, &self.acknowledgements));
        async move {
            match stored? {
                None => Ok(()),
                Some(stored) => stored.await.unwrap_or(Err(ErrorCode::NotLeaderOrFollower)),
            }
        }
    }
}

/// A session has ended: what the member was lent of these is free for others. Ready when that is stored.
pub async fn release(shard: &Rc<Shard>, who: &Who, names: Vec<Name>) {
    let call = |key| shard.router.call(shard, owner(key, shard.shards), ReleaseCall { who: who.clone(), key });
    let keys = names.into_iter().filter_map(|name| find(shard, name).ok());
    join_all(keys.map(call).collect::<Vec<_>>()).await;
}

struct ReleaseCall {
    who: Who,
    key: PartitionKey,
}

impl ShardCall for ReleaseCall {
    type Reply = ();

    fn run(self, shard: &Rc<Shard>) -> impl Future<Output = ()> + 'static {
        let served = shard.share_partitions.get(&self.who.group, self.key);
        let shard = shard.clone();
        async move {
            if let Some(served) = served {
                served.release(&shard, &self.who.member).await;
            }
        }
    }
}

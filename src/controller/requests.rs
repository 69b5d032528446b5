//! What can be asked of the controller, from any shard.

use std::collections::BTreeSet;
use std::future::Future;
use std::rc::Rc;

use core_pinning::ShardId;
use corelane_config::{Alteration, Overrides};
use corelane_protocol::{ErrorCode, Uuid};
use corelane_storage::model::TopicId;

use super::image::{ClusterImage, ResourceType, TopicImage};
use super::names::{check_name, collision};
use super::records::MetadataRecord;
use super::{AT_ONCE, Controller, Decision, Refused};
use crate::quota::Mutator;
use crate::router::{CallFuture, ShardCall};
use crate::shard::Shard;

pub const CONTROLLER_SHARD: ShardId = ShardId(0);
/// Producer ids are handed to shards in blocks, as Kafka hands them to brokers (`ProducerIdsBlock.PRODUCER_ID_BLOCK_SIZE`).
const PRODUCER_ID_BLOCK: i64 = 1000;

/// Asks the controller, wherever it is.
pub fn ask<C: ShardCall>(shard: &Rc<Shard>, call: C) -> CallFuture<C> {
    shard.router.call(shard, CONTROLLER_SHARD, call)
}

#[derive(Clone, Debug)]
pub struct NewTopic {
    pub name: String,
    /// -1: the broker's default.
    pub partitions: i32,
    /// -1: the broker's default.
    pub replication_factor: i16,
    /// Partition index to broker ids; empty: the broker places them.
    pub assignments: Vec<(i32, Vec<i32>)>,
    pub configs: Overrides,
    /// Configs without a value, for which a topic that could be made is refused.
    pub nulls: Vec<String>,
    /// Made by the broker itself: may be internal and compacted.
    pub internal: bool,
}

impl NewTopic {
    /// As the broker makes one by itself.
    pub fn with_defaults(name: &str) -> NewTopic {
        NewTopic {
            name: name.to_owned(),
            partitions: -1,
            replication_factor: -1,
            assignments: Vec::new(),
            configs: Overrides::new(),
            nulls: Vec::new(),
            internal: false,
        }
    }
}

/// Each topic succeeds or fails by itself, in the order given, unless nothing is done about any.
pub struct CreateTopics {
    pub topics: Vec<NewTopic>,
    pub validate_only: bool,
    /// Who has a quota and pays for their partitions.
    pub mutator: Option<Mutator>,
}

impl ShardCall for CreateTopics {
    type Reply = Result<Vec<Result<TopicImage, Refused>>, Refused>;

    fn run(self, shard: &Rc<Shard>) -> impl Future<Output = Self::Reply> + 'static {
        let shard = shard.clone();
        async move {
            let controller = shard.controller();
            let _turn = controller.turn.acquire(1).await;
            let mut image = controller.image();
            self.check_count(&shard)?;
            let mut records = Vec::new();
            let mut results = Vec::with_capacity(self.topics.len());
            for topic in self.topics {
                let planned = plan_topic(&shard, &image, topic, self.mutator);
                results.push(planned.map(|planned| {
                    let id = planned.0;
                    planned.1.iter().for_each(|r| drop(image.apply(r)));
                    records.extend(planned.1);
                    id
                }));
            }
            if !self.validate_only
                && let Err(refused) = controller.commit(&shard, records).await
            {
                return Ok(results.into_iter().map(|r| r.and(Err(refused.clone()))).collect());
            }
            let created = |id: TopicId| image.topic(id).map(|t| (**t).clone());
            let gone = || Refused::new(ErrorCode::UnknownServerError, "the topic is not in the image it was put into");
            Ok(results.into_iter().map(|r| r.and_then(|id| created(id).ok_or_else(gone))).collect())
        }
    }
}

/// The same for who asks for each of them: what refuses all refuses each.
pub async fn create_each(shard: &Rc<Shard>, call: CreateTopics) -> Vec<Result<TopicImage, Refused>> {
    let count = call.topics.len();
    ask(shard, call).await.unwrap_or_else(|refused| vec![Err(refused); count])
}

impl CreateTopics {
    /// None of them is made where they ask for too many partitions, whether these can be had or not.
    fn check_count(&self, shard: &Shard) -> Result<(), Refused> {
        let of_topic = |topic: &NewTopic| match (topic.assignments.len(), topic.partitions) {
            (0, -1) => i64::from(shard.config.broker().default_partitions),
            (0, count) => i64::from(count.max(0)),
            (assigned, _) => assigned as i64,
        };
        if self.topics.iter().map(of_topic).sum::<i64>() <= AT_ONCE as i64 {
            return Ok(());
        }
        Err(Refused::new(ErrorCode::PolicyViolation, "Excessively large number of partitions per request."))
    }
}

fn plan_topic(
    shard: &Shard,
    image: &ClusterImage,
    topic: NewTopic,
    mutator: Option<Mutator>,
) -> Result<(TopicId, Vec<MetadataRecord>), Refused> {
    let name = &topic.name;
    check_name(name).map_err(|message| Refused::new(ErrorCode::InvalidTopicException, message))?;
    if image.topic_named(name).is_some() {
        return Err(Refused::new(ErrorCode::TopicAlreadyExists, format!("Topic '{name}' already exists.")));
    }
    if shard.config.is_internal(name) && !topic.internal {
        return Err(Refused::new(ErrorCode::InvalidRequest, format!("topic {name} is the broker's own")));
    }
    if let Some(other) = collision(image, name) {
        let message = format!("Topic '{name}' collides with existing topic: {}", other.name);
        return Err(Refused::new(ErrorCode::InvalidTopicException, message));
    }
    if !topic.nulls.is_empty() {
        let message = format!("Null value not supported for topic configs: {}", topic.nulls.join(","));
        return Err(Refused::new(ErrorCode::InvalidConfig, message));
    }
    shard.config.check_new_topic(&topic.configs)?;
    let replicas = |message: String| Err(Refused::new(ErrorCode::InvalidReplicationFactor, message));
    let partitions = match (topic.assignments.is_empty(), topic.replication_factor) {
        (false, _) => assigned_count(shard, &topic)?,
        (true, ..=-2 | 0) => return replicas("Replication factor must be larger than 0.".to_owned()),
        (true, factor) => {
            let count = partition_count(topic.partitions, shard)?;
            if factor > 1 {
                return replicas(format!("replication factor {factor} needs as many brokers, there is one"));
            }
            count
        }
    };
    if !topic.internal {
        check_space(shard)?;
    }
    shard.controller().mutations().charge(mutator, partitions as usize)?;
    let id = TopicId(new_uuid().0);
    let mut records = vec![MetadataRecord::Topic { name: topic.name.clone(), id }];
    records.extend((0..partitions).map(|partition| MetadataRecord::Partition { topic: id, partition }));
    records.extend(topic.configs.into_iter().map(|(name, value)| MetadataRecord::Config {
        kind: ResourceType::Topic,
        resource: topic.name.clone(),
        name,
        value: Some(value),
    }));
    Ok((id, records))
}

/// What is new takes space: not from a disk that is full.
fn check_space(shard: &Shard) -> Result<(), Refused> {
    shard.space.refusal().map_or(Ok(()), |(code, message)| Err(Refused::new(code, message)))
}

fn partition_count(asked: i32, shard: &Shard) -> Result<u32, Refused> {
    let count = if asked == -1 { shard.config.broker().default_partitions } else { asked };
    match u32::try_from(count) {
        Ok(count @ 1..) => Ok(count),
        _ => Err(Refused::new(
            ErrorCode::InvalidPartitions,
            "Number of partitions was set to an invalid non-positive value.",
        )),
    }
}

/// A manual assignment: consecutive partitions from 0, each on this one broker.
fn assigned_count(shard: &Shard, topic: &NewTopic) -> Result<u32, Refused> {
    let wrong = |message: String| Refused::new(ErrorCode::InvalidReplicaAssignment, message);
    if topic.partitions != -1 || topic.replication_factor != -1 {
        return Err(Refused::new(
            ErrorCode::InvalidRequest,
            "A manual partition assignment was specified, but numPartitions or replicationFactor was not set to -1.",
        ));
    }
    let mut seen = BTreeSet::new();
    for (partition, brokers) in &topic.assignments {
        if !seen.insert(*partition) {
            return Err(wrong(format!("Found multiple manual partition assignments for partition {partition}")));
        }
        check_replicas(shard, brokers)?;
    }
    if seen.into_iter().ne(0..topic.assignments.len() as i32) {
        return Err(wrong("partitions should be a consecutive 0-based integer sequence".to_owned()));
    }
    Ok(topic.assignments.len() as u32)
}

/// One replica, on a broker that is there.
pub fn check_replicas(shard: &Shard, brokers: &[i32]) -> Result<(), Refused> {
    let wrong = |message: String| Refused::new(ErrorCode::InvalidReplicaAssignment, message);
    match brokers {
        [one] if shard.node.is_broker(*one) => Ok(()),
        [] => Err(wrong("The manual partition assignment includes an empty replica list.".to_owned())),
        [one] => Err(wrong(format!(
            "The manual partition assignment includes broker {one}, but no such broker is registered."
        ))),
        _ => Err(wrong(format!("{} replicas need as many nodes, there is one", brokers.len()))),
    }
}

pub(super) fn new_uuid() -> Uuid {
    loop {
        let id: [u8; 16] = rand::random();
        // Kafka keeps the lowest ids for itself, and ids whose text starts with '-' trouble command lines.
        if id[..8] != [0; 8] && id[0] >> 2 != 0b11_1110 {
            return Uuid(id);
        }
    }
}

pub struct DeleteTopics {
    pub topics: Vec<TopicId>,
    /// Who has a quota and pays for their partitions.
    pub mutator: Option<Mutator>,
}

impl ShardCall for DeleteTopics {
    type Reply = Vec<Result<(), Refused>>;

    fn run(self, shard: &Rc<Shard>) -> impl Future<Output = Self::Reply> + 'static {
        let shard = shard.clone();
        async move {
            let controller = shard.controller();
            let _turn = controller.turn.acquire(1).await;
            let image = controller.image();
            let mut removed = BTreeSet::new();
            let results: Vec<Result<(), Refused>> = self
                .topics
                .iter()
                .map(|id| match image.topic(*id) {
                    Some(topic) if !removed.contains(id) => {
                        controller.mutations().charge(self.mutator, topic.partitions as usize)?;
                        removed.insert(*id);
                        Ok(())
                    }
                    _ => Err(Refused::new(ErrorCode::UnknownTopicId, "This server does not host this topic ID.")),
                })
                .collect();
            let records = removed.into_iter().map(|id| MetadataRecord::RemoveTopic { id }).collect();
            match controller.commit(&shard, records).await {
                Ok(()) => results,
                Err(refused) => results.into_iter().map(|r| r.and(Err(refused.clone()))).collect(),
            }
        }
    }
}

pub struct CreatePartitions {
    pub topic: String,
    /// The count that the topic shall have.
    pub count: i32,
    /// Brokers of each new partition; `None`: the broker places them.
    pub assignments: Option<Vec<Vec<i32>>>,
    pub validate_only: bool,
    /// Who has a quota and pays for the new partitions.
    pub mutator: Option<Mutator>,
}

impl Decision for CreatePartitions {
    type Told = ();

    fn plan(self, shard: &Shard, image: &ClusterImage) -> Result<(Vec<MetadataRecord>, ()), Refused> {
        let records = plan_partitions(shard, image, &self)?;
        Ok((if self.validate_only { Vec::new() } else { records }, ()))
    }
}

fn plan_partitions(
    shard: &Shard,
    image: &ClusterImage,
    call: &CreatePartitions,
) -> Result<Vec<MetadataRecord>, Refused> {
    let topic = image.topic_named(&call.topic).ok_or_else(|| {
        Refused::new(ErrorCode::UnknownTopicOrPartition, "This server does not host this topic-partition.")
    })?;
    let invalid = |message: String| Refused::new(ErrorCode::InvalidPartitions, message);
    if i64::from(call.count) == i64::from(topic.partitions) {
        return Err(invalid(format!("Topic already has {} partition(s).", topic.partitions)));
    }
    if i64::from(call.count) < i64::from(topic.partitions) {
        return Err(invalid(format!(
            "The topic {} currently has {} partition(s); {} would not be an increase.",
            topic.name, topic.partitions, call.count
        )));
    }
    let count = partition_count(call.count, shard)?;
    let new = count - topic.partitions;
    if let Some(assignments) = call.assignments.as_ref().filter(|given| given.len() as u64 != u64::from(new)) {
        let message = format!("{new} new partition(s) were asked for, {} assignment(s) given", assignments.len());
        return Err(Refused::new(ErrorCode::InvalidReplicaAssignment, message));
    }
    shard.controller().mutations().charge(call.mutator, new as usize)?;
    if let Some(assignments) = &call.assignments {
        assignments.iter().try_for_each(|brokers| check_replicas(shard, brokers))?;
    }
    if new as usize > AT_ONCE {
        return Err(Refused::too_large());
    }
    check_space(shard)?;
    Ok((topic.partitions..count).map(|partition| MetadataRecord::Partition { topic: topic.id, partition }).collect())
}

/// Changes the overrides of one resource.
pub struct SetConfigs {
    pub kind: ResourceType,
    pub resource: String,
    pub change: ConfigChange,
    pub validate_only: bool,
}

pub enum ConfigChange {
    /// All overrides (AlterConfigs).
    Replace(Overrides),
    /// Single operations (IncrementalAlterConfigs).
    Apply(Vec<Alteration>),
}

impl Decision for SetConfigs {
    type Told = ();

    fn plan(self, shard: &Shard, image: &ClusterImage) -> Result<(Vec<MetadataRecord>, ()), Refused> {
        let (before, there) = current_configs(image, self.kind, &self.resource);
        let after = self.after(shard, &before)?;
        there?;
        if self.validate_only {
            return Ok((Vec::new(), ()));
        }
        let set = after.iter().filter(|(name, value)| before.get(*name) != Some(value));
        let unset = before.keys().filter(|name| !after.contains_key(*name));
        let changes = set.map(|(n, v)| (n, Some(v.clone()))).chain(unset.map(|n| (n, None)));
        let records = changes.map(|(name, value)| MetadataRecord::Config {
            kind: self.kind,
            resource: self.resource.clone(),
            name: name.clone(),
            value,
        });
        Ok((records.collect(), ()))
    }
}

impl SetConfigs {
    /// The overrides afterwards, checked.
    fn after(&self, shard: &Shard, before: &Overrides) -> Result<Overrides, Refused> {
        match &self.change {
            ConfigChange::Replace(after) => {
                shard.config.check_overrides(self.kind, &self.resource, before, after)?;
                Ok(after.clone())
            }
            ConfigChange::Apply(changes) => shard.config.altered(self.kind, &self.resource, before, changes),
        }
    }

    /// The overrides afterwards, as far as is known here.
    pub fn outlook(&self, shard: &Shard) -> Result<Overrides, Refused> {
        let (before, _) = current_configs(&shard.image(), self.kind, &self.resource);
        self.after(shard, &before)
    }

    /// The listeners that there would be, if this is about one broker and could be done at all.
    pub fn listeners(&self, shard: &Shard) -> Option<Vec<corelane_config::Listener>> {
        if self.kind != ResourceType::Broker || self.resource.is_empty() {
            return None;
        }
        shard.config.listeners_with(self.outlook(shard).ok()?)
    }
}

/// What a resource sets now, and whether it is there: Kafka looks at values first.
fn current_configs(image: &ClusterImage, kind: ResourceType, name: &str) -> (Overrides, Result<(), Refused>) {
    let topic = image.topic_named(name);
    if kind == ResourceType::Topic && topic.is_none() {
        let message = format!("The topic '{name}' does not exist.");
        return (Overrides::new(), Err(Refused::new(ErrorCode::UnknownTopicOrPartition, message)));
    }
    let configs = match kind {
        ResourceType::Topic => topic.map(|topic| &topic.configs),
        _ => image.config(kind, name),
    };
    (configs.map(|c| (**c).clone()).unwrap_or_default(), Ok(()))
}

/// A block of producer ids that nobody else has: `(first, count)`.
pub struct AllocateProducerIds;

impl Decision for AllocateProducerIds {
    type Told = (i64, i64);

    fn plan(self, _: &Shard, image: &ClusterImage) -> Result<(Vec<MetadataRecord>, Self::Told), Refused> {
        let first = image.next_producer_id();
        let next = first + PRODUCER_ID_BLOCK;
        Ok((vec![MetadataRecord::ProducerIds { next }], (first, PRODUCER_ID_BLOCK)))
    }
}

impl Shard {
    /// Only shard 0 has one, and [`ask`] goes there.
    pub fn controller(&self) -> Rc<Controller> {
        self.controller.borrow().clone().expect("the controller opened before anybody could ask it")
    }
}

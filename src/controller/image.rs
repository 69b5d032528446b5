//! What the cluster is: topics, configs, producer id blocks. Immutable once published; every shard holds one.
//!
//! The controller applies metadata records to its own image and publishes the result. Maps share structure between
//! versions, so that publishing costs what changed and not what exists.

use std::collections::BTreeMap;
use std::sync::Arc;

use core_pinning::ShardId;
use corelane_acl::Acls;
use corelane_protocol::{Str, Uuid};
use corelane_storage::model::{Offset, PartitionKey, TopicId};

use super::features::feature_named;
use super::quotas::QuotaEntity;
use super::records::MetadataRecord;
use super::scram::ScramUsers;
use super::tokens::Tokens;

pub use corelane_storage::model::METADATA_TOPIC_ID;
/// Kafka's own name of the log that holds the metadata (`Topic.CLUSTER_METADATA_TOPIC_NAME`).
pub const METADATA_TOPIC: &str = "__cluster_metadata";
pub const OFFSETS_TOPIC: &str = "__consumer_offsets";
pub const TRANSACTION_TOPIC: &str = "__transaction_state";
pub const SHARE_STATE_TOPIC: &str = "__share_group_state";
pub const AUDIT_TOPIC: &str = "__audit_log";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicImage {
    pub id: TopicId,
    pub name: Arc<str>,
    pub partitions: u32,
    /// Overrides of this topic, by config name.
    pub configs: Arc<BTreeMap<String, String>>,
}

impl TopicImage {
    pub fn key(&self, partition: u32) -> PartitionKey {
        PartitionKey { topic: self.id, partition }
    }

    /// The name as messages carry it.
    pub fn wire_name(&self) -> Str {
        Str::from(self.name.to_string())
    }

    pub fn uuid(&self) -> Uuid {
        Uuid(self.id.0)
    }

    /// The partition that Kafka clients mean by `index`, if the topic has it.
    pub fn partition(&self, index: i32) -> Option<u32> {
        u32::try_from(index).ok().filter(|p| *p < self.partitions)
    }
}

/// The topics that coordinators keep their records in: made when they are first needed, and the broker cannot go on without them.
pub fn is_essential(topic: &str) -> bool {
    matches!(topic, OFFSETS_TOPIC | TRANSACTION_TOPIC | SHARE_STATE_TOPIC)
}

/// Kafka's config resource types that a broker keeps (`ConfigResource.Type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ResourceType {
    Topic = 2,
    Broker = 4,
    /// A subscription to client metrics (KIP-714).
    ClientMetrics = 16,
    Group = 32,
}

impl ResourceType {
    pub fn from_code(code: i8) -> Option<ResourceType> {
        match code {
            2 => Some(ResourceType::Topic),
            4 => Some(ResourceType::Broker),
            16 => Some(ResourceType::ClientMetrics),
            32 => Some(ResourceType::Group),
            _ => None,
        }
    }
}

#[derive(Clone, Debug, Default)]
pub struct ClusterImage {
    topics: imbl::HashMap<TopicId, Arc<TopicImage>>,
    ids_by_name: imbl::OrdMap<Arc<str>, TopicId>,
    /// Overrides of everything but topics: `(type, name)`; a broker's name is its id, `""` is all of them.
    configs: imbl::OrdMap<(ResourceType, String), Arc<BTreeMap<String, String>>>,
    next_producer_id: i64,
    /// Levels of features that have a record.
    features: imbl::OrdMap<String, i16>,
    acls: Acls,
    /// Differs between images of one process whose access rules differ.
    acl_version: u64,
    scram_users: ScramUsers,
    tokens: Tokens,
    quotas: imbl::OrdMap<QuotaEntity, Arc<BTreeMap<String, f64>>>,
    /// Differs between images of one process whose quotas differ.
    quota_version: u64,
    /// Where the metadata log ends with it.
    offset: Offset,
}

impl ClusterImage {
    pub fn topic(&self, id: TopicId) -> Option<&Arc<TopicImage>> {
        self.topics.get(&id)
    }

    pub fn topic_named(&self, name: &str) -> Option<&Arc<TopicImage>> {
        self.topics.get(self.ids_by_name.get(name)?)
    }

    /// In the order of their names.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<TopicImage>> {
        self.ids_by_name.values().filter_map(|id| self.topics.get(id))
    }

    /// Topics whose names come after `name`, in order: for paged answers.
    pub fn topics_from<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a Arc<TopicImage>> {
        let from: Arc<str> = name.into();
        self.ids_by_name.range(from..).filter_map(|(_, id)| self.topics.get(id))
    }

    pub fn config(&self, kind: ResourceType, name: &str) -> Option<&Arc<BTreeMap<String, String>>> {
        self.configs.get(&(kind, name.to_owned()))
    }

    pub fn configs(&self) -> impl Iterator<Item = (&(ResourceType, String), &Arc<BTreeMap<String, String>>)> {
        self.configs.iter()
    }

    /// First producer id that was never handed out.
    pub fn next_producer_id(&self) -> i64 {
        self.next_producer_id
    }

    /// The level of a feature; 0: without it.
    pub fn feature(&self, name: &str) -> i16 {
        let highest = || feature_named(name).map_or(0, |feature| feature.max);
        self.features.get(name).copied().unwrap_or_else(highest)
    }

    pub fn acls(&self) -> &Acls {
        &self.acls
    }

    pub fn acl_version(&self) -> u64 {
        self.acl_version
    }

    pub fn scram_users(&self) -> &ScramUsers {
        &self.scram_users
    }

    pub fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    pub fn quota(&self, of: &QuotaEntity) -> Option<&Arc<BTreeMap<String, f64>>> {
        self.quotas.get(of)
    }

    /// Quotas by their names, of each entity that has some.
    pub fn quotas(&self) -> impl Iterator<Item = (&QuotaEntity, &Arc<BTreeMap<String, f64>>)> {
        self.quotas.iter()
    }

    pub fn quota_version(&self) -> u64 {
        self.quota_version
    }

    /// Grows with every change: clients tell by it which of two answers is the later one.
    pub fn offset(&self) -> Offset {
        self.offset
    }

    pub(super) fn set_offset(&mut self, offset: Offset) {
        self.offset = offset;
    }

    /// Applies one record; returns the topic it touches. Records of the log were checked before they were written, so
    /// one that does not fit its predecessors is damage.
    pub fn apply(&mut self, record: &MetadataRecord) -> Result<Option<TopicId>, String> {
        match record {
            MetadataRecord::Topic { name, id } => {
                let image = TopicImage { id: *id, name: name.as_str().into(), partitions: 0, configs: Arc::default() };
                if self.ids_by_name.insert(image.name.clone(), *id).is_some() {
                    return Err(format!("topic {name} is there twice"));
                }
                self.topics.insert(*id, Arc::new(image));
                Ok(Some(*id))
            }
            MetadataRecord::Partition { topic, partition } => {
                let image = self.topic_mut(*topic)?;
                if *partition != image.partitions {
                    return Err(format!(
                        "partition {partition} of {} does not follow {}",
                        image.name, image.partitions
                    ));
                }
                image.partitions += 1;
                Ok(Some(*topic))
            }
            MetadataRecord::RemoveTopic { id } => {
                let image = self.topics.remove(id).ok_or_else(|| format!("no topic {id:?} to remove"))?;
                self.ids_by_name.remove(&image.name);
                Ok(Some(*id))
            }
            MetadataRecord::Config { kind: ResourceType::Topic, resource, name, value } => {
                let id = *self.ids_by_name.get(resource.as_str()).ok_or_else(|| format!("no topic {resource}"))?;
                let image = self.topic_mut(id)?;
                set(Arc::make_mut(&mut image.configs), name, value);
                Ok(Some(id))
            }
            MetadataRecord::Config { kind, resource, name, value } => {
                let key = (*kind, resource.clone());
                let mut configs = self.configs.get(&key).map(|c| (**c).clone()).unwrap_or_default();
                set(&mut configs, name, value);
                match configs.is_empty() {
                    true => self.configs.remove(&key),
                    false => self.configs.insert(key, Arc::new(configs)),
                };
                Ok(None)
            }
            MetadataRecord::ProducerIds { next } => {
                self.next_producer_id = self.next_producer_id.max(*next);
                Ok(None)
            }
            MetadataRecord::Feature { name, level } => {
                match feature_named(name) {
                    Some(feature) if (feature.min..=feature.max).contains(level) => {}
                    _ if *level == 0 => {}
                    _ => return Err(format!("level {level} of feature {name} is not one of this release")),
                }
                self.features.insert(name.clone(), *level);
                Ok(None)
            }
            MetadataRecord::Acl { id, rule } => {
                self.acl_version += 1;
                self.acls.add(*id, rule.clone()).map(|()| None).map_err(|conflict| conflict.to_string())
            }
            MetadataRecord::RemoveAcl { id } => {
                self.acl_version += 1;
                self.acls.remove(*id).map(|_| None).map_err(|conflict| conflict.to_string())
            }
            MetadataRecord::ScramUser { hash, user, credential } => {
                self.scram_users.set(*hash, user, credential.clone());
                Ok(None)
            }
            MetadataRecord::RemoveScramUser { hash, user } => self.scram_users.remove(*hash, user).map(|()| None),
            MetadataRecord::Token(token) => {
                self.tokens.set(token.clone());
                Ok(None)
            }
            MetadataRecord::RemoveToken { id } => self.tokens.remove(id).map(|()| None),
            MetadataRecord::Quota { entity, key, value } => {
                self.quota_version += 1;
                let mut quotas = self.quotas.get(entity).map(|quotas| (**quotas).clone()).unwrap_or_default();
                match value {
                    Some(value) => quotas.insert(key.clone(), *value),
                    None => quotas.remove(key),
                };
                match quotas.is_empty() {
                    true => self.quotas.remove(entity),
                    false => self.quotas.insert(entity.clone(), Arc::new(quotas)),
                };
                Ok(None)
            }
        }
    }

    fn topic_mut(&mut self, id: TopicId) -> Result<&mut TopicImage, String> {
        self.topics.get_mut(&id).map(Arc::make_mut).ok_or_else(|| format!("no topic {id:?}"))
    }

    /// The records that make this image out of nothing.
    pub fn to_records(&self) -> Vec<MetadataRecord> {
        let mut records = Vec::new();
        let config = |kind, resource: &str, configs: &BTreeMap<String, String>| -> Vec<MetadataRecord> {
            let one = |(name, value): (&String, &String)| MetadataRecord::Config {
                kind,
                resource: resource.to_owned(),
                name: name.clone(),
                value: Some(value.clone()),
            };
            configs.iter().map(one).collect()
        };
        for topic in self.topics() {
            records.push(MetadataRecord::Topic { name: topic.name.to_string(), id: topic.id });
            records.extend(
                (0..topic.partitions).map(|partition| MetadataRecord::Partition { topic: topic.id, partition }),
            );
            records.extend(config(ResourceType::Topic, &topic.name, &topic.configs));
        }
        for ((kind, resource), configs) in &self.configs {
            records.extend(config(*kind, resource, configs));
        }
        records.push(MetadataRecord::ProducerIds { next: self.next_producer_id });
        let feature = |(name, level): (&String, &i16)| MetadataRecord::Feature { name: name.clone(), level: *level };
        records.extend(self.features.iter().map(feature));
        records.extend(self.scram_users.to_records());
        records.extend(self.tokens.iter().map(|kept| MetadataRecord::Token((*kept.token).clone())));
        records.extend(self.acls.iter().map(|(id, rule)| MetadataRecord::Acl { id, rule: (**rule).clone() }));
        for (entity, quotas) in &self.quotas {
            let quota = |(key, value): (&String, &f64)| MetadataRecord::Quota {
                entity: entity.clone(),
                key: key.clone(),
                value: Some(*value),
            };
            records.extend(quotas.iter().map(quota));
        }
        records
    }
}

fn set(configs: &mut BTreeMap<String, String>, name: &str, value: &Option<String>) {
    match value {
        Some(value) => configs.insert(name.to_owned(), value.clone()),
        None => configs.remove(name),
    };
}

/// The shard that owns a partition. A function of the ids and the shard count alone, so that a start with another
/// count re-homes every partition without a change of metadata; partitions of one topic go round the shards.
pub fn owner(key: PartitionKey, shards: usize) -> ShardId {
    if key.topic == METADATA_TOPIC_ID {
        return ShardId(0);
    }
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&key.topic.0[8..]);
    let start = u64::from_be_bytes(bytes) % shards as u64;
    ShardId(((start + u64::from(key.partition)) % shards as u64) as u16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::quotas::Name;
    use crate::controller::tokens::Token;
    use crate::security::Principal;
    use corelane_acl::{Operation, PatternType, Permission, ResourceType as AclResourceType, Rule, RuleId};
    use corelane_sasl::scram::{Credential, Hash};

    fn apply_all(records: &[MetadataRecord]) -> ClusterImage {
        let mut image = ClusterImage::default();
        for record in records {
            image.apply(record).unwrap();
        }
        image
    }

    #[test]
    fn an_image_comes_back_from_its_own_records() {
        let id = TopicId([7; 16]);
        let set = |kind, resource: &str, name: &str, value: Option<&str>| MetadataRecord::Config {
            kind,
            resource: resource.into(),
            name: name.into(),
            value: value.map(str::to_owned),
        };
        let acl = |id, principal: &str| MetadataRecord::Acl {
            id: RuleId([id; 16]),
            rule: Rule {
                principal: principal.into(),
                resource_type: AclResourceType::Topic,
                pattern_type: PatternType::Literal,
                name: "a".into(),
                host: "*".into(),
                operation: Operation::Read,
                permission: Permission::Allow,
            },
        };
        let scram = |user: &str, salted: u8| MetadataRecord::ScramUser {
            hash: Hash::Sha256,
            user: user.into(),
            credential: Credential::of_salted(Hash::Sha256, &[salted], vec![1], 4096),
        };
        let token = |id: &str, expires_ms| {
            MetadataRecord::Token(Token {
                id: id.into(),
                owner: Principal::user("alice"),
                requester: Principal::user("bob"),
                renewers: vec![Principal::user("carol")],
                issued_ms: 1,
                expires_ms,
                max_ms: 9,
            })
        };
        let everybody = QuotaEntity { user: Some(Name::Default), ..QuotaEntity::default() };
        let quota = |key: &str, value| MetadataRecord::Quota { entity: everybody.clone(), key: key.into(), value };
        let image = apply_all(&[
            MetadataRecord::Topic { name: "b".into(), id: TopicId([8; 16]) },
            MetadataRecord::Topic { name: "a".into(), id },
            MetadataRecord::Partition { topic: id, partition: 0 },
            MetadataRecord::Partition { topic: id, partition: 1 },
            set(ResourceType::Topic, "a", "retention.ms", Some("5")),
            set(ResourceType::Topic, "a", "segment.ms", Some("5")),
            set(ResourceType::Topic, "a", "segment.ms", None),
            set(ResourceType::Broker, "", "message.max.bytes", Some("9")),
            set(ResourceType::Group, "g", "consumer.session.timeout.ms", Some("50000")),
            set(ResourceType::ClientMetrics, "m", "interval.ms", Some("1000")),
            MetadataRecord::RemoveTopic { id: TopicId([8; 16]) },
            MetadataRecord::ProducerIds { next: 3000 },
            MetadataRecord::Feature { name: "transaction.version".into(), level: 1 },
            acl(1, "User:a"),
            acl(2, "User:b"),
            MetadataRecord::RemoveAcl { id: RuleId([1; 16]) },
            scram("gone", 1),
            scram("alice", 2),
            scram("alice", 3),
            MetadataRecord::RemoveScramUser { hash: Hash::Sha256, user: "gone".into() },
            token("gone", 5),
            token("kept", 5),
            token("kept", 7),
            MetadataRecord::RemoveToken { id: "gone".into() },
            quota("producer_byte_rate", Some(5.0)),
            quota("request_percentage", Some(0.5)),
            quota("producer_byte_rate", None),
        ]);
        assert_eq!((image.feature("transaction.version"), image.feature("none")), (1, 0));
        let again = apply_all(&image.to_records());
        assert_eq!(again.to_records(), image.to_records());
        assert_eq!(again.feature("transaction.version"), 1);
        assert_eq!(again.topic_named("a").unwrap().partitions, 2);
        assert!(again.topic_named("b").is_none());
        assert_eq!(again.next_producer_id(), 3000);
        assert!(again.scram_users().names().into_iter().eq(["alice"]));
        let latest = Credential::of_salted(Hash::Sha256, &[3], vec![1], 4096);
        assert_eq!(again.scram_users().get(Hash::Sha256, "alice").map(|c| &**c), Some(&latest));
        let tokens: Vec<_> = again.tokens().iter().map(|k| (k.token.id.as_str(), k.token.expires_ms)).collect();
        assert_eq!(tokens, [("kept", 7)]);
        let read = |user: &str| again.acls.grant(user, [127, 0, 0, 1].into(), AclResourceType::Topic, "a").allowed;
        assert!(read("User:b").contains(Operation::Read) && !read("User:a").contains(Operation::Read));
        assert_eq!(**again.quota(&everybody).unwrap(), [("request_percentage".to_owned(), 0.5)].into());
        assert_eq!(again.config(ResourceType::Broker, "").unwrap()["message.max.bytes"], "9");
        assert_eq!(again.config(ResourceType::Group, "g").unwrap()["consumer.session.timeout.ms"], "50000");
        assert_eq!(again.config(ResourceType::ClientMetrics, "m").unwrap()["interval.ms"], "1000");
    }

    #[test]
    fn a_record_that_does_not_fit_is_refused() {
        let mut image = ClusterImage::default();
        assert!(image.apply(&MetadataRecord::Partition { topic: TopicId([1; 16]), partition: 0 }).is_err());
        assert!(image.apply(&MetadataRecord::RemoveTopic { id: TopicId([1; 16]) }).is_err());
        assert!(image.apply(&MetadataRecord::Feature { name: "of.the.future".into(), level: 1 }).is_err());
        assert!(image.apply(&MetadataRecord::RemoveAcl { id: RuleId([1; 16]) }).is_err());
        assert!(image.apply(&MetadataRecord::RemoveScramUser { hash: Hash::Sha256, user: "u".into() }).is_err());
        assert!(image.apply(&MetadataRecord::RemoveToken { id: "t".into() }).is_err());
    }

    #[test]
    fn partitions_of_a_topic_spread_over_all_shards() {
        let shards = (0..8).map(|partition| owner(PartitionKey { topic: TopicId([9; 16]), partition }, 4).0);
        let mut counts = [0; 4];
        shards.for_each(|s| counts[s as usize] += 1);
        assert_eq!(counts, [2; 4]);
    }
}

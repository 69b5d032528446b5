//! The topics that there are, as the caller knows them, and what members' groups remember of them.

use std::fmt;
use std::rc::Rc;

use corelane_protocol::{Str, Uuid};
use hashbrown::HashMap;
use twox_hash::XxHash3_64;

/// A topic of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    pub id: Uuid,
    pub name: Str,
    pub partitions: i32,
}

/// One version of the cluster's topics.
pub trait Topics: fmt::Debug {
    fn named(&self, name: &str) -> Option<Topic>;
    fn with_id(&self, id: Uuid) -> Option<Topic>;
    fn each_name(&self, visit: &mut dyn FnMut(&str));
}

/// A cluster without topics.
#[derive(Debug)]
pub struct NoTopics;

impl Topics for NoTopics {
    fn named(&self, _: &str) -> Option<Topic> {
        None
    }

    fn with_id(&self, _: Uuid) -> Option<Topic> {
        None
    }

    fn each_name(&self, _: &mut dyn FnMut(&str)) {}
}

/// The topics, and the hashes that were made of them.
#[derive(Debug)]
pub(crate) struct Catalog {
    pub(crate) topics: Rc<dyn Topics>,
    hashes: HashMap<Str, u64>,
    /// Counts the times that topics were created: regular expressions may match more then.
    pub(crate) creations: u64,
}

impl Default for Catalog {
    fn default() -> Catalog {
        Catalog { topics: Rc::new(NoTopics), hashes: HashMap::new(), creations: 0 }
    }
}

impl Catalog {
    /// Takes over a new version, in which the topics of these names have changed.
    pub(crate) fn replace(&mut self, topics: Rc<dyn Topics>, changed: &[Str]) {
        let created = changed.iter().any(|name| self.topics.named(name).is_none() && topics.named(name).is_some());
        self.topics = topics;
        for name in changed {
            self.hashes.remove(name);
        }
        self.creations += u64::from(created);
    }

    /// What a group remembers of the topics that it reads, to see when they change: 0 if none of them exists.
    /// (Kafka: `Utils.computeGroupHash`, the same value for topics whose partitions have no racks.)
    pub(crate) fn group_hash<'a>(&mut self, names: impl Iterator<Item = &'a Str>) -> i64 {
        let mut bytes = Vec::new();
        for name in names {
            let hash = match self.hashes.get(name) {
                Some(hash) => *hash,
                None => {
                    let Some(topic) = self.topics.named(name) else { continue };
                    let hash = topic_hash(&topic);
                    self.hashes.insert(name.clone(), hash);
                    hash
                }
            };
            bytes.extend_from_slice(&hash.to_le_bytes());
        }
        if bytes.is_empty() { 0 } else { XxHash3_64::oneshot(&bytes) as i64 }
    }

    pub(crate) fn partitions_of(&self, id: Uuid) -> Option<i32> {
        self.topics.with_id(id).map(|topic| topic.partitions)
    }
}

/// Kafka's `Utils.computeTopicHash`: numbers in little endian, the name in UTF-16 with its length behind it.
fn topic_hash(topic: &Topic) -> u64 {
    let mut bytes = vec![0];
    let (most, least) = topic.id.0.split_at(8);
    bytes.extend(most.iter().rev());
    bytes.extend(least.iter().rev());
    let units: Vec<u16> = topic.name.encode_utf16().collect();
    units.iter().for_each(|unit| bytes.extend_from_slice(&unit.to_le_bytes()));
    bytes.extend_from_slice(&(units.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&topic.partitions.to_le_bytes());
    (0..topic.partitions).for_each(|partition| bytes.extend_from_slice(&partition.to_le_bytes()));
    XxHash3_64::oneshot(&bytes)
}

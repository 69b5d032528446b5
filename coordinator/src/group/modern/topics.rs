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

    /// The racks of the brokers that have a replica of the partition, one for each that is in a rack.
    fn racks(&self, id: Uuid, partition: i32) -> Vec<Str> {
        let _ = (id, partition);
        Vec::new()
    }
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
    /// (Kafka: `Utils.computeGroupHash`, the same value.)
    pub(crate) fn group_hash<'a>(&mut self, names: impl Iterator<Item = &'a Str>) -> i64 {
        let mut bytes = Vec::new();
        for name in names {
            let hash = match self.hashes.get(name) {
                Some(hash) => *hash,
                None => {
                    let Some(topic) = self.topics.named(name) else { continue };
                    let hash = topic_hash(&topic, &*self.topics);
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

/// Kafka's `Utils.computeTopicHash`: numbers in little endian, a text in UTF-16 with its length behind it, a rack with its
/// length also in front.
fn topic_hash(topic: &Topic, topics: &dyn Topics) -> u64 {
    let mut bytes = vec![0];
    let (most, least) = topic.id.0.split_at(8);
    bytes.extend(most.iter().rev());
    bytes.extend(least.iter().rev());
    push_text(&mut bytes, &topic.name);
    bytes.extend_from_slice(&topic.partitions.to_le_bytes());
    for partition in 0..topic.partitions {
        bytes.extend_from_slice(&partition.to_le_bytes());
        let mut racks = topics.racks(topic.id, partition);
        // As Java orders texts.
        racks.sort_by(|a, b| a.encode_utf16().cmp(b.encode_utf16()));
        for rack in &racks {
            bytes.extend_from_slice(&(rack.encode_utf16().count() as u32).to_le_bytes());
            push_text(&mut bytes, rack);
        }
    }
    XxHash3_64::oneshot(&bytes)
}

fn push_text(bytes: &mut Vec<u8>, text: &str) {
    let before = bytes.len();
    text.encode_utf16().for_each(|unit| bytes.extend_from_slice(&unit.to_le_bytes()));
    let units = (bytes.len() - before) / 2;
    bytes.extend_from_slice(&(units as u32).to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One topic, with the racks of its two partitions.
    #[derive(Debug)]
    struct Racks(&'static [&'static str], &'static [&'static str]);

    impl Topics for Racks {
        fn named(&self, name: &str) -> Option<Topic> {
            let id = Uuid::from_u128(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10);
            Some(Topic { id, name: Str::from(name.to_owned()), partitions: 2 })
        }

        fn with_id(&self, _: Uuid) -> Option<Topic> {
            self.named("")
        }

        fn each_name(&self, _: &mut dyn FnMut(&str)) {}

        fn racks(&self, _: Uuid, partition: i32) -> Vec<Str> {
            let racks = if partition == 0 { self.0 } else { self.1 };
            racks.iter().map(|rack| Str::from_static(rack)).collect()
        }
    }

    /// The values are what `computeGroupHash` of Apache Kafka 4.3.1 gives.
    #[test]
    fn topics_have_the_hash_that_kafka_gives_them() {
        for (racks, hash) in [
            (Racks(&[], &[]), 8673001787857470936),
            (Racks(&["rack-ä"], &["rack-ä"]), 7909052264730771090),
            (Racks(&["b", "a"], &["c"]), -4213338151387556118),
        ] {
            let mut catalog = Catalog { topics: Rc::new(racks), ..Catalog::default() };
            assert_eq!(catalog.group_hash([Str::from_static("grüße")].iter()), hash);
        }
    }
}

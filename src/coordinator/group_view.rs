//! What the group coordinators see of the cluster: its topics, and the settings of groups.

use std::fmt;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use corelane_coordinator::group::{
    ConsumerGroupSettings, ConsumerSettings, ShareGroupSettings, ShareSettings, Topic, Topics,
};
use corelane_protocol::{Str, Uuid};
use corelane_storage::model::TopicId;

use crate::controller::image::{ClusterImage, TopicImage};
use crate::shard::Shard;

/// The topics of one image, whose replicas are all on this node.
pub struct ImageTopics {
    image: Arc<ClusterImage>,
    rack: Option<Str>,
}

impl ImageTopics {
    pub fn of(shard: &Shard, image: Arc<ClusterImage>) -> ImageTopics {
        ImageTopics { image, rack: shard.node.rack().map(Str::from) }
    }
}

impl fmt::Debug for ImageTopics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.image.topics().map(|topic| &topic.name)).finish()
    }
}

fn topic(image: &TopicImage) -> Topic {
    Topic { id: image.uuid(), name: image.wire_name(), partitions: image.partitions as i32 }
}

impl Topics for ImageTopics {
    fn named(&self, name: &str) -> Option<Topic> {
        self.image.topic_named(name).map(|image| topic(image))
    }

    fn with_id(&self, id: Uuid) -> Option<Topic> {
        self.image.topic(TopicId(id.0)).map(|image| topic(image))
    }

    fn each_name(&self, visit: &mut dyn FnMut(&str)) {
        self.image.topics().for_each(|topic| visit(&topic.name));
    }

    fn racks(&self, _: Uuid, _: i32) -> Vec<Str> {
        self.rack.iter().cloned().collect()
    }
}

/// The settings that are in force on a shard.
pub struct ShardSettings(Weak<Shard>);

impl ShardSettings {
    pub fn of(shard: &Rc<Shard>) -> ShardSettings {
        ShardSettings(Rc::downgrade(shard))
    }
}

impl fmt::Debug for ShardSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ShardSettings")
    }
}

impl ConsumerSettings for ShardSettings {
    fn of(&self, group: &str) -> ConsumerGroupSettings {
        let Some(shard) = self.0.upgrade() else { return ConsumerGroupSettings::default() };
        let consumer = &shard.group_properties(group).consumer;
        ConsumerGroupSettings {
            session_timeout_ms: consumer.session_timeout_ms,
            heartbeat_interval_ms: consumer.heartbeat_interval_ms,
            assignment_interval_ms: consumer.assignment_interval_ms,
        }
    }
}

impl ShareSettings for ShardSettings {
    fn of(&self, group: &str) -> ShareGroupSettings {
        let Some(shard) = self.0.upgrade() else { return ShareGroupSettings::default() };
        let share = &shard.group_properties(group).share;
        ShareGroupSettings {
            max_size: shard.config.share_group_max_size(),
            session_timeout_ms: share.session_timeout_ms,
            heartbeat_interval_ms: share.heartbeat_interval_ms,
            assignment_interval_ms: share.assignment_interval_ms,
            ..ShareGroupSettings::default()
        }
    }
}

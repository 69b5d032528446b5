//! A shard follows the metadata: partitions it owns come, change and go with the image.

use std::rc::Rc;
use std::sync::Arc;

use corelane_config::ConfigError;
use corelane_raft::{OpenError, first_state};
use corelane_storage::model::TopicId;
use corelane_storage::{PartitionSpec, StorageError};

use super::Shard;
use crate::controller::image::{ClusterImage, TopicImage, owner};
use crate::partition::{Partition, log_config};

/// Why a partition does not open.
#[derive(Debug, thiserror::Error)]
pub enum PartitionError {
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error(transparent)]
    Group(#[from] OpenError),
    /// Overrides are checked before they are written: these are of a release that knew other values.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

impl Shard {
    /// Makes `image` the one that this shard serves. `touched`: the topics in which it differs from the one before.
    pub async fn take_image(self: &Rc<Self>, image: Arc<ClusterImage>, touched: &[TopicId]) {
        let changed: Vec<TopicId> = match self.config.take_image(&image) {
            // A default of the whole broker changed: every topic may have another configuration.
            true => image.topics().map(|topic| topic.id).collect(),
            false => touched.to_vec(),
        };
        // Partitions are there before anybody can learn of them from the image, and go after it.
        for topic in changed.iter().filter_map(|id| image.topic(*id)) {
            self.open_partitions(topic).await;
        }
        self.image.replace(image.clone());
        for id in touched.iter().filter(|id| image.topic(**id).is_none()) {
            self.delete_topic(*id).await;
        }
        self.coordinators.take_image(self, &image, touched);
        self.has_image.notify();
    }

    /// Opens or creates the partitions of `topic` that this shard owns and does not serve yet. One that does not open is
    /// offline: clients get KAFKA_STORAGE_ERROR, and the next start tries again, or [`reopen_failed`](Self::reopen_failed).
    async fn open_partitions(self: &Rc<Self>, topic: &Arc<TopicImage>) {
        let own = (0..topic.partitions).filter(|index| owner(topic.key(*index), self.shards) == self.id);
        for index in own {
            if let Err(error) = self.open_partition(topic, index).await {
                self.partitions.set_failed(topic.key(index));
                tracing::error!(topic = %topic.name, partition = index, %error, "partition does not open");
            }
        }
    }

    /// Tries again to open what did not open. A disk that was full has room again.
    pub async fn reopen_failed(self: &Rc<Self>) {
        let mut topics: Vec<TopicId> = self.partitions.failed().into_iter().map(|key| key.topic).collect();
        topics.sort_unstable();
        topics.dedup();
        let image = self.image();
        for topic in topics.iter().filter_map(|id| image.topic(*id)) {
            self.open_partitions(topic).await;
        }
        self.coordinators.take_image(self, &image, &topics);
    }

    async fn open_partition(self: &Rc<Self>, topic: &Arc<TopicImage>, index: u32) -> Result<(), PartitionError> {
        let key = topic.key(index);
        let config = Rc::new(self.config.topic(topic)?);
        if let Some(partition) = self.partitions.get(key) {
            partition.set_config(config);
            return Ok(());
        }
        let spec = PartitionSpec { topic: topic.name.clone(), key, config: log_config(&config, topic.is_internal()) };
        let log = match self.store.exists(&spec) {
            true => self.store.load(spec).await?,
            false => self.store.create(spec, first_state(self.node.raft_id())).await?,
        };
        let group = self.groups.open(log.clone())?;
        self.partitions.insert(Partition::new(key, topic.name.clone(), log, group, config));
        Ok(())
    }

    async fn delete_topic(self: &Rc<Self>, topic: TopicId) {
        for partition in self.partitions.remove_topic(topic) {
            partition.mark_deleted();
            partition.group().clone().stop().await;
            if let Err(error) = self.store.delete(partition.key).await {
                // The topic is gone for clients; the next start removes what is left of its files.
                tracing::error!(topic = %partition.topic, partition = partition.index, %error, "files could not be removed");
            }
        }
    }
}

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
            if let Err(error) = self.open_partitions(topic).await {
                // Clients find the partition offline (KAFKA_STORAGE_ERROR); the next start tries again.
                tracing::error!(topic = %topic.name, %error, "partition could not be created");
            }
        }
        self.image.replace(image.clone());
        for id in touched.iter().filter(|id| image.topic(**id).is_none()) {
            self.delete_topic(*id).await;
        }
        self.coordinators.take_image(self, &image, touched);
        self.has_image.notify();
    }

    /// Opens or creates the partitions of `topic` that this shard owns and does not serve yet.
    pub async fn open_partitions(self: &Rc<Self>, topic: &Arc<TopicImage>) -> Result<(), PartitionError> {
        let config = Rc::new(self.config.topic(topic)?);
        for index in 0..topic.partitions {
            let key = topic.key(index);
            if owner(key, self.shards) != self.id {
                continue;
            }
            if let Some(partition) = self.partitions.get(key) {
                partition.set_config(config.clone());
                continue;
            }
            let spec = PartitionSpec { topic: topic.name.clone(), key, config: log_config(&config) };
            let log = match self.store.exists(&spec) {
                true => self.store.load(spec).await?,
                false => self.store.create(spec, first_state(self.node.raft_id())).await?,
            };
            let group = self.groups.open(log.clone())?;
            self.partitions.insert(Partition::new(key, topic.name.clone(), log, group, config.clone()));
        }
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

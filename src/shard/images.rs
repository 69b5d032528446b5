//! A shard follows the metadata: partitions it owns come, change and go with the image.

use std::rc::Rc;
use std::sync::Arc;

use corelane_config::{ConfigError, TopicConfig};
use corelane_raft::{OpenError, first_state};
use corelane_storage::model::{PartitionKey, TopicId};
use corelane_storage::{PartitionSpec, StorageError};
use futures::{StreamExt, stream};

use super::Shard;
use crate::controller::image::{ClusterImage, METADATA_TOPIC_ID, TopicImage, is_essential, owner};
use crate::kafka::open_connections;
use crate::partition::{Partition, log_config};

/// Partitions opened or made at a time. More do not help: directories are made one after the other.
const OPENS_IN_FLIGHT: usize = 16;

/// A partition to open on this shard.
struct OwnPartition {
    topic: Arc<TopicImage>,
    index: u32,
    config: Result<Rc<TopicConfig>, ConfigError>,
}

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
            true => {
                self.connection_limits.follow(&self.config.broker());
                // One shard looks after the connections of all.
                if self.of_this_broker().next() == Some(self.id) {
                    open_connections::limit(self);
                }
                self.listeners.may_have_changed();
                image.topics().map(|topic| topic.id).collect()
            }
            false => touched.to_vec(),
        };
        if self.quotas.take_image(&image) {
            self.connection_limits.follow_ips(self.quotas.ips());
        }
        self.telemetry.take_image(&image);
        // Partitions are there before anybody can learn of them from the image, and go after it.
        self.open_partitions(&image, &changed).await;
        if !self.settled.replace(true) {
            self.settle(&image, touched).await;
        }
        self.image.replace(image.clone());
        for id in touched.iter().filter(|id| image.topic(**id).is_none()) {
            self.delete_topic(*id).await;
        }
        self.coordinators.take_image(self, &image, touched);
    }

    /// Opens or creates the partitions of `topics` that this shard owns and does not serve yet. One that does not open is
    /// offline: clients get KAFKA_STORAGE_ERROR, and the next start tries again, or [`reopen_failed`](Self::reopen_failed).
    async fn open_partitions(&self, image: &ClusterImage, topics: &[TopicId]) {
        let topics = topics.iter().filter_map(|id| image.topic(*id));
        let own = topics.flat_map(|topic| self.own_partitions(topic));
        let opening = stream::iter(own).for_each_concurrent(OPENS_IN_FLIGHT, async |own| {
            let (topic, index) = (own.topic.clone(), own.index);
            if let Err(error) = self.open_partition(own).await {
                self.partitions.set_failed(topic.key(index));
                tracing::error!(topic = %topic.name, partition = index, %error, "partition does not open");
            }
        });
        opening.await;
    }

    /// The partitions of `topic` that this shard owns, with the topic's configuration: one for all, they may be thousands.
    fn own_partitions(&self, topic: &Arc<TopicImage>) -> impl Iterator<Item = OwnPartition> + use<> {
        let (id, shards, topic) = (self.id, self.shards, topic.clone());
        let config = self.config.topic(&topic).map(Rc::new);
        (0..topic.partitions).filter_map(move |index| {
            let own = owner(topic.key(index), shards) == id;
            own.then(|| OwnPartition { topic: topic.clone(), index, config: config.clone() })
        })
    }

    /// Tries again to open what did not open. A disk that was full has room again.
    pub async fn reopen_failed(self: &Rc<Self>) {
        let mut topics: Vec<TopicId> = self.partitions.failed().into_iter().map(|key| key.topic).collect();
        topics.sort_unstable();
        topics.dedup();
        let image = self.image();
        self.open_partitions(&image, &topics).await;
        self.coordinators.take_image(self, &image, &topics);
    }

    async fn open_partition(&self, OwnPartition { topic, index, config }: OwnPartition) -> Result<(), PartitionError> {
        let (key, config) = (topic.key(index), config?);
        if let Some(partition) = self.partitions.get(key) {
            partition.set_config(config);
            return Ok(());
        }
        let spec =
            PartitionSpec { topic: topic.name.clone(), key, config: log_config(&config, is_essential(&topic.name)) };
        let log = self.store.load_or_create(spec, first_state(self.node.raft_id())).await?;
        let group = self.groups.open(log.clone())?;
        self.partitions.insert(Partition::new(key, topic.name.clone(), log, group, config));
        Ok(())
    }

    /// With the first image: whatever else lies in the data directory. Topics that are `touched` and not in the image were
    /// deleted.
    async fn settle(&self, image: &ClusterImage, touched: &[TopicId]) {
        let exists = |key: PartitionKey| {
            key.topic == METADATA_TOPIC_ID
                || image.topic(key.topic).is_some_and(|topic| key.partition < topic.partitions)
        };
        let found = match self.store.unopened().await {
            Ok(found) => found,
            Err(error) => return tracing::error!(%error, "the data directory could not be looked through"),
        };
        for (key, dir) in found.into_iter().filter(|(key, _)| owner(*key, self.shards) == self.id && !exists(*key)) {
            let deleted = image.topic(key.topic).is_none() && touched.contains(&key.topic);
            let path = dir.display().to_string();
            match self.store.put_away(key, dir, deleted).await {
                Ok(None) => tracing::info!(path, "a deletion that had been cut short is finished"),
                Ok(Some(at)) => {
                    tracing::warn!(path, now = %at.display(), "a partition that the metadata does not name")
                }
                Err(error) => tracing::error!(path, %error, "what is left of a partition could not be moved"),
            }
        }
        if let Err(error) = self.store.take_over(|key| exists(key) && owner(key, self.shards) == self.id).await {
            tracing::error!(%error, "the ledger could not be written");
        }
    }

    /// Removes what there is of partitions that did not open.
    async fn delete_failed(&self, keys: &[PartitionKey]) {
        let mut found = self.store.unopened().await.unwrap_or_default();
        for key in keys {
            let dir = found.iter().position(|(k, _)| k == key).map(|at| found.swap_remove(at).1);
            if let Err(error) = self.store.delete_left_over(*key, dir).await {
                tracing::error!(partition = %key, %error, "files could not be removed");
            }
        }
    }

    async fn delete_topic(self: &Rc<Self>, topic: TopicId) {
        self.share_partitions.topic_deleted(topic);
        let failed = self.partitions.take_failed(topic);
        if !failed.is_empty() {
            self.delete_failed(&failed).await;
        }
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

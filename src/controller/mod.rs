//! The controller: decides about topics, configs and producer ids, and writes what it decided to the metadata log.
//!
//! It lives on shard 0. Requests change nothing by themselves: they are checked against the image, become records, are
//! written, and then change the image, which is published to every shard. A request is answered when all shards have
//! taken the new image, so a topic serves as soon as its creation is answered.

pub mod acls;
pub mod features;
pub mod image;
mod log;
pub mod names;
pub mod quorum;
pub mod quotas;
pub mod records;
pub mod requests;
pub mod scram;
pub mod tokens;

use std::cell::RefCell;
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;

use core_pinning::sync::Semaphore;
use corelane_protocol::ErrorCode;
use corelane_storage::model::TopicId;

use self::image::ClusterImage;
use self::log::MetadataLog;
use self::records::MetadataRecord;
use crate::quota::Mutations;
use crate::router::ShardCall;
use crate::shard::Shard;

pub use self::log::MetadataError;

/// Partitions or rules that one request may make (Kafka: `QuorumController.MAX_RECORDS_PER_USER_OP`,
/// `ReplicationControlManager.MAX_PARTITIONS_PER_BATCH`): more would hold everybody up and take memory without bound.
const AT_ONCE: usize = 10_000;

pub struct Controller {
    image: RefCell<ClusterImage>,
    log: MetadataLog,
    /// Decisions are made one at a time.
    turn: Semaphore,
    mutations: Mutations,
}

/// A refusal, as clients see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    pub code: ErrorCode,
    pub message: String,
}

impl Refused {
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Refused {
        Refused { code, message: message.into() }
    }

    /// A request is for more than [`AT_ONCE`].
    fn too_large() -> Refused {
        Refused::new(ErrorCode::PolicyViolation, "Unable to perform excessively large batch operation.")
    }
}

impl Controller {
    /// Rebuilds the image from the metadata log. With it come the topics that the log says were deleted: a crash may have left
    /// something of them.
    pub async fn open(shard: &Rc<Shard>) -> Result<(Controller, Vec<TopicId>), MetadataError> {
        let (log, image, deleted) = MetadataLog::open(shard).await?;
        let mutations = Mutations::new(shard.config.controller_quota_windows());
        Ok((Controller { image: RefCell::new(image), log, turn: Semaphore::new(1), mutations }, deleted))
    }

    /// What clients with a quota have made and deleted.
    pub fn mutations(&self) -> &Mutations {
        &self.mutations
    }

    pub fn image(&self) -> ClusterImage {
        self.image.borrow().clone()
    }

    /// Writes `records` and publishes the image they make. On an error nothing has changed.
    async fn commit(&self, shard: &Rc<Shard>, records: Vec<MetadataRecord>) -> Result<(), Refused> {
        if records.is_empty() {
            return Ok(());
        }
        let mut next = self.image();
        let mut touched: Vec<TopicId> = Vec::new();
        for record in &records {
            let topic = next.apply(record).map_err(|message| Refused::new(ErrorCode::UnknownServerError, message))?;
            touched.extend(topic.filter(|t| !touched.contains(t)));
        }
        self.log.append(&records).await.map_err(|error| {
            tracing::error!(%error, "metadata could not be written");
            Refused::new(ErrorCode::KafkaStorageError, "the metadata log could not be written")
        })?;
        next.set_offset(self.log.end());
        self.image.replace(next.clone());
        publish(shard, next.clone(), touched).await;
        self.log.maybe_snapshot(&next).await;
        Ok(())
    }
}

/// What is decided by the image, as a whole and while nobody else decides.
pub trait Decision: Send + 'static {
    /// What the one who asked is told once it is in force.
    type Told: Send + 'static;

    /// The records that make it so.
    fn plan(self, shard: &Shard, image: &ClusterImage) -> Result<(Vec<MetadataRecord>, Self::Told), Refused>;
}

impl<D: Decision> ShardCall for D {
    type Reply = Result<D::Told, Refused>;

    fn run(self, shard: &Rc<Shard>) -> impl Future<Output = Self::Reply> + 'static {
        let shard = shard.clone();
        async move {
            let controller = shard.controller();
            let _turn = controller.turn.acquire(1).await;
            let (records, told) = self.plan(&shard, &controller.image())?;
            controller.commit(&shard, records).await?;
            Ok(told)
        }
    }
}

/// Gives every shard the image and waits until they have taken it.
pub async fn publish(shard: &Rc<Shard>, image: ClusterImage, touched: Vec<TopicId>) {
    let call = TakeImage { image: Arc::new(image), touched: Arc::new(touched) };
    shard.router.call_each(shard, shard.all_shards(), call).await;
}

#[derive(Clone)]
struct TakeImage {
    image: Arc<ClusterImage>,
    touched: Arc<Vec<TopicId>>,
}

impl ShardCall for TakeImage {
    type Reply = ();

    fn run(self, shard: &Rc<Shard>) -> impl Future<Output = ()> + 'static {
        let shard = shard.clone();
        async move { shard.take_image(self.image, &self.touched).await }
    }
}

//! The controller: decides about topics, configs and producer ids, and writes what it decided to the metadata log.
//!
//! It lives on shard 0. Requests change nothing by themselves: they are checked against the image, become records, are
//! written, and then change the image, which is published to every shard. A request is answered when all shards have
//! taken the new image, so a topic serves as soon as its creation is answered.

pub mod features;
pub mod image;
mod log;
pub mod names;
pub mod quorum;
pub mod records;
pub mod requests;

use std::cell::RefCell;
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;

use core_pinning::ShardId;
use core_pinning::sync::Semaphore;
use corelane_protocol::ErrorCode;
use corelane_storage::model::TopicId;

use self::image::ClusterImage;
use self::log::MetadataLog;
use self::records::MetadataRecord;
use crate::router::ShardCall;
use crate::shard::Shard;

pub use self::log::MetadataError;

pub struct Controller {
    image: RefCell<ClusterImage>,
    log: MetadataLog,
    /// Decisions are made one at a time.
    turn: Semaphore,
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
}

impl Controller {
    /// Rebuilds the image from the metadata log. With it come the topics that the log says were deleted: a crash may have left
    /// something of them.
    pub async fn open(shard: &Rc<Shard>) -> Result<(Controller, Vec<TopicId>), MetadataError> {
        let (log, image, deleted) = MetadataLog::open(shard).await?;
        Ok((Controller { image: RefCell::new(image), log, turn: Semaphore::new(1) }, deleted))
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

/// Gives every shard the image and waits until they have taken it.
pub async fn publish(shard: &Rc<Shard>, image: ClusterImage, touched: Vec<TopicId>) {
    let image = Arc::new(image);
    let touched = Arc::new(touched);
    let calls: Vec<_> = (0..shard.shards)
        .map(|to| {
            let call = TakeImage { image: image.clone(), touched: touched.clone() };
            shard.router.call(shard, ShardId(to as u16), call)
        })
        .collect();
    for call in calls {
        call.await;
    }
}

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

//! What topic a request means.

use std::sync::Arc;

use corelane_protocol::{ErrorCode, Uuid};
use corelane_storage::model::TopicId;

use crate::controller::image::{ClusterImage, TopicImage};

/// By id where the request's version carries ids (KIP-516), else by name.
pub fn find_topic<'a>(
    image: &'a ClusterImage,
    by_id: bool,
    name: &str,
    id: Uuid,
) -> Result<&'a Arc<TopicImage>, ErrorCode> {
    match by_id {
        true => image.topic(TopicId(id.0)).ok_or(ErrorCode::UnknownTopicId),
        false => image.topic_named(name).ok_or(ErrorCode::UnknownTopicOrPartition),
    }
}

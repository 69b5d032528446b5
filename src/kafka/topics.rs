//! What topic a request means.

use std::collections::BTreeSet;
use std::sync::Arc;

use corelane_acl::Operation;
use corelane_protocol::{ErrorCode, Uuid};
use corelane_storage::model::TopicId;

use super::request::RequestContext;
use crate::controller::image::{ClusterImage, TopicImage};

/// What stands more than once in a request.
pub fn named_twice<'n, T: Ord + Clone + 'n>(names: impl IntoIterator<Item = &'n T>) -> BTreeSet<T> {
    let (mut seen, mut twice) = (BTreeSet::new(), BTreeSet::new());
    for name in names {
        if !seen.insert(name) {
            twice.insert(name.clone());
        }
    }
    twice
}

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

/// The same for a client that wants to do something with it: of a topic with which it may not, it does not hear whether it is there.
pub fn find_allowed<'a>(
    context: &RequestContext,
    operation: Operation,
    image: &'a ClusterImage,
    by_id: bool,
    name: &str,
    id: Uuid,
) -> Result<&'a Arc<TopicImage>, ErrorCode> {
    let found = find_topic(image, by_id, name, id);
    let name = match &found {
        Ok(topic) => &*topic.name,
        // It names nothing that could be hidden.
        Err(error) if by_id => return Err(*error),
        Err(_) => name,
    };
    if context.may_topic(operation, name) { found } else { Err(ErrorCode::TopicAuthorizationFailed) }
}

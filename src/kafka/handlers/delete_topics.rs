//! DeleteTopics, by name or (v6+) by id.

use corelane_protocol::messages::delete_topics_response::DeleteTopicsResponseDeletableTopicResult;
use corelane_protocol::messages::{DeleteTopicsRequest, DeleteTopicsResponse};
use corelane_protocol::{ErrorCode, Str, Uuid};
use corelane_storage::model::TopicId;

use crate::controller::Refused;
use crate::controller::requests::{DeleteTopics, ask};
use crate::kafka::request::RequestContext;

struct Asked {
    name: Option<Str>,
    id: Uuid,
    result: Result<(), Refused>,
}

pub async fn handle(context: RequestContext, request: DeleteTopicsRequest) -> DeleteTopicsResponse {
    let shard = &context.shard;
    let image = shard.image();
    let named = request.topic_names.into_iter().map(|name| (Some(name), Uuid::ZERO));
    let stated = request.topics.into_iter().map(|t| (t.name, t.topic_id));
    let mut asked: Vec<Asked> = named
        .chain(stated)
        .map(|(name, id)| {
            let (found, missing) = match &name {
                Some(_) if id != Uuid::ZERO => (None, ErrorCode::InvalidRequest),
                Some(name) => (image.topic_named(name), ErrorCode::UnknownTopicOrPartition),
                None => (image.topic(TopicId(id.0)), ErrorCode::UnknownTopicId),
            };
            match found {
                Some(topic) => Asked { name: Some(topic.wire_name()), id: topic.uuid(), result: Ok(()) },
                None => Asked { name, id, result: Err(Refused::new(missing, missing.message())) },
            }
        })
        .collect();
    if !shard.config.broker().delete_topics {
        let code = if context.version < 3 { ErrorCode::InvalidRequest } else { ErrorCode::TopicDeletionDisabled };
        asked.iter_mut().for_each(|a| a.result = Err(Refused::new(code, "Topic deletion is disabled.")));
    }
    let topics = asked.iter().filter(|a| a.result.is_ok()).map(|a| TopicId(a.id.0)).collect();
    let mut deleted = ask(shard, DeleteTopics { topics }).await.into_iter();
    for asked in asked.iter_mut().filter(|a| a.result.is_ok()) {
        asked.result = deleted.next().unwrap_or(Ok(()));
    }
    let responses = asked.into_iter().map(|asked| {
        let (error_code, error_message) = super::outcome_of(asked.result);
        DeleteTopicsResponseDeletableTopicResult {
            name: asked.name,
            topic_id: asked.id,
            error_code,
            error_message,
            ..Default::default()
        }
    });
    DeleteTopicsResponse { responses: responses.collect(), ..Default::default() }
}

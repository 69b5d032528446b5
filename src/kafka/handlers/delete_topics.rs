//! DeleteTopics, by name or (v6+) by id.

use std::collections::BTreeSet;

use corelane_acl::Operation;
use corelane_protocol::messages::delete_topics_response::DeleteTopicsResponseDeletableTopicResult;
use corelane_protocol::messages::{DeleteTopicsRequest, DeleteTopicsResponse};
use corelane_protocol::{ErrorCode, Str, Uuid};
use corelane_storage::model::TopicId;

use crate::controller::Refused;
use crate::controller::requests::{DeleteTopics, ask};
use crate::kafka::pace::{exceeded, mutator_waits};
use crate::kafka::request::RequestContext;
use crate::kafka::topics::named_twice;

/// First version that is refused where a quota is used up (KIP-599).
const STRICT_FROM: i16 = 5;

struct Asked {
    name: Option<Str>,
    id: Uuid,
    result: Result<(), Refused>,
}

pub async fn handle(context: RequestContext, request: DeleteTopicsRequest) -> DeleteTopicsResponse {
    let shard = &context.shard;
    let image = shard.image();
    if !shard.config.broker().delete_topics {
        let code = if context.version < 3 { ErrorCode::InvalidRequest } else { ErrorCode::TopicDeletionDisabled };
        return refused_as_it_came(&request, Refused::new(code, "Topic deletion is disabled."));
    }
    if is_late(&request) {
        return refused_as_it_came(&request, super::out_of_time());
    }
    let all = stated(&request);
    let mut asked: Vec<Asked> = Vec::with_capacity(all.len());
    let (repeated, mut told) = (named_twice(&all), BTreeSet::new());
    for one @ (name, id) in &all {
        let twice = repeated.contains(one);
        // What names no topic, or names it in two ways, is told as often as it comes.
        if twice && is_name(one) && !told.insert(one) {
            continue;
        }
        let wrong = |message: &str| Err(Refused::new(ErrorCode::InvalidRequest, message));
        let refused = |error: ErrorCode| Refused::new(error, error.message());
        let missing = |error: ErrorCode| Err(refused(error));
        let found = match (name, *id) {
            (None, Uuid::ZERO) => wrong("Neither topic name nor id were specified."),
            (Some(_), Uuid::ZERO) if twice => wrong("Duplicate topic name."),
            (Some(name), Uuid::ZERO) => {
                image.topic_named(name).ok_or(ErrorCode::UnknownTopicOrPartition).or_else(missing)
            }
            (Some(_), _) => wrong("You may not specify both topic name and topic id."),
            (None, _) if twice => wrong("Duplicate topic id."),
            (None, id) => image.topic(TopicId(id.0)).ok_or(ErrorCode::UnknownTopicId).or_else(missing),
        };
        let kept = |name: &str| shard.config.is_audit_log(name) && !context.may_topic(Operation::Delete, name);
        asked.push(match found {
            Ok(topic) => {
                let result = match kept(&topic.name) {
                    true => Err(refused(ErrorCode::TopicAuthorizationFailed)),
                    false => Ok(()),
                };
                Asked { name: Some(topic.wire_name()), id: topic.uuid(), result }
            }
            Err(refused) => Asked { name: name.clone(), id: *id, result: Err(refused) },
        });
    }
    // the same topic by its name and by its id
    let ids: Vec<Uuid> = asked.iter().filter(|a| a.result.is_ok()).map(|a| a.id).collect();
    let stated: BTreeSet<Uuid> = asked.iter().filter(|a| a.name.is_none() && a.result.is_err()).map(|a| a.id).collect();
    let both_ways = named_twice(&ids);
    let twice = |id: &Uuid| stated.contains(id) || both_ways.contains(id);
    let mut told = BTreeSet::new();
    asked.retain(|a| a.result.is_err() || !twice(&a.id) || told.insert(a.id));
    for asked in asked.iter_mut().filter(|a| a.result.is_ok() && twice(&a.id)) {
        let message = "The provided topic name maps to an ID that was already supplied.";
        asked.result = Err(Refused::new(ErrorCode::InvalidRequest, message));
    }
    let topics = asked.iter().filter(|a| a.result.is_ok()).map(|a| TopicId(a.id.0)).collect();
    let mutator = context.mutator(STRICT_FROM);
    let mut deleted = ask(shard, DeleteTopics { topics, mutator }).await.into_iter();
    for asked in asked.iter_mut().filter(|a| a.result.is_ok()) {
        asked.result = deleted.next().unwrap_or(Ok(()));
    }
    let refused = exceeded(asked.iter().filter_map(|a| a.result.as_ref().err()));
    let throttle_time_ms = mutator_waits(shard, mutator, refused).await;
    let responses = asked.into_iter().map(|asked| result((asked.name, asked.id), asked.result));
    DeleteTopicsResponse { responses: responses.collect(), throttle_time_ms, ..Default::default() }
}

/// A topic by its name, or by its id, as a request states it.
type Stated = (Option<Str>, Uuid);

fn stated(request: &DeleteTopicsRequest) -> Vec<Stated> {
    let named = request.topic_names.iter().map(|name| (Some(name.clone()), Uuid::ZERO));
    named.chain(request.topics.iter().map(|topic| (topic.name.clone(), topic.topic_id))).collect()
}

/// Neither without a name and an id, nor with both.
fn is_name((name, id): &Stated) -> bool {
    name.is_some() != (*id != Uuid::ZERO)
}

/// Whether the request has no time left when Kafka's controller is asked to find any topic: before anything is looked at, who may
/// delete what, too.
pub fn is_late(request: &DeleteTopicsRequest) -> bool {
    if request.timeout_ms > 0 {
        return false;
    }
    let all = stated(request);
    let twice = named_twice(&all);
    all.iter().any(|one| is_name(one) && !twice.contains(one))
}

fn refused_as_it_came(request: &DeleteTopicsRequest, why: Refused) -> DeleteTopicsResponse {
    let responses = stated(request).into_iter().map(|one| result(one, Err(why.clone())));
    DeleteTopicsResponse { responses: responses.collect(), ..Default::default() }
}

fn result((name, topic_id): Stated, done: Result<(), Refused>) -> DeleteTopicsResponseDeletableTopicResult {
    let (error_code, error_message) = super::outcome_unless_throttled(done);
    DeleteTopicsResponseDeletableTopicResult { name, topic_id, error_code, error_message, ..Default::default() }
}

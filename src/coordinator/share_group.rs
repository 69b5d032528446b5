//! What the group coordinators ask of the share coordinators.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use core_pinning::time::sleep;
use corelane_coordinator::group::{InitializeShareState, Partitions};
use corelane_coordinator::share::{Answer, Operation, Refusal, SharePartitionKey};
use corelane_protocol::{ErrorCode, Str, Uuid};

use super::share_state::share_states;
use super::topics::create_internal_topic;
use crate::controller::image::SHARE_STATE_TOPIC;
use crate::shard::Shard;

/// How often a share coordinator that is not there yet is asked, and the pause before it is asked again, which doubles.
const ATTEMPTS: u32 = 8;
const BACKOFF: Duration = Duration::from_millis(20);

/// What a share coordinator answered for each partition.
pub type ShareAnswers = BTreeMap<Uuid, BTreeMap<i32, Result<Answer, Refusal>>>;

/// Runs an operation on each of these partitions of a group. The topic of the states is made if there is none; coordinators that
/// are not there yet are asked again, for a while.
pub async fn ask_share_states(
    shard: &Rc<Shard>,
    group: &Str,
    asked: impl IntoIterator<Item = (Uuid, i32, Operation)>,
) -> ShareAnswers {
    let key = |topic, partition| SharePartitionKey { group: group.detach(), topic, partition };
    let mut left: Vec<_> = asked.into_iter().map(|(topic, index, what)| (key(topic, index), what)).collect();
    let mut answers = ShareAnswers::new();
    let mut pause = BACKOFF;
    for attempt in 1..=ATTEMPTS {
        if left.is_empty() {
            break;
        }
        if shard.image().topic_named(SHARE_STATE_TOPIC).is_none() {
            // If it cannot be made nobody coordinates, which is what asking says.
            let _ = create_internal_topic(shard, SHARE_STATE_TOPIC).await;
        }
        let mut again = Vec::new();
        for ((key, what), answer) in left.clone().into_iter().zip(share_states(shard, left).await) {
            match &answer {
                Err(refusal) if attempt < ATTEMPTS && is_not_there(refusal.code) => again.push((key, what)),
                _ => drop(answers.entry(key.topic).or_default().insert(key.partition, answer)),
            }
        }
        left = again;
        if !left.is_empty() {
            sleep(pause).await;
            pause *= 2;
        }
    }
    answers
}

fn is_not_there(error: ErrorCode) -> bool {
    use ErrorCode::{CoordinatorLoadInProgress, CoordinatorNotAvailable, NotCoordinator};
    matches!(error, CoordinatorLoadInProgress | CoordinatorNotAvailable | NotCoordinator)
}

/// Initialises the states of partitions.
pub async fn initialize_share_states(shard: &Rc<Shard>, asked: &InitializeShareState) -> ShareAnswers {
    let state_epoch = asked.state_epoch;
    let operations = asked.topics.iter().flat_map(|(topic, offsets)| {
        let initialize = move |start_offset| Operation::Initialize { state_epoch, start_offset };
        offsets.iter().map(move |(index, offset)| (*topic, *index, initialize(*offset)))
    });
    ask_share_states(shard, &asked.group, operations).await
}

/// Deletes the states of partitions.
pub async fn delete_share_states(shard: &Rc<Shard>, group: &Str, partitions: &Partitions) -> ShareAnswers {
    let each = |(topic, indexes): (&Uuid, &BTreeSet<i32>)| {
        let topic = *topic;
        indexes.iter().map(move |index| (topic, *index, Operation::Delete)).collect::<Vec<_>>()
    };
    ask_share_states(shard, group, partitions.iter().flat_map(each)).await
}

/// The first error among the answers for a topic's partitions.
pub fn error_among(answers: &BTreeMap<i32, Result<Answer, Refusal>>) -> Option<ErrorCode> {
    answers.values().find_map(|answer| answer.as_ref().err()).map(|refusal| refusal.code)
}

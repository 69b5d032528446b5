//! What the five requests about the states of share groups have in common.

use std::collections::BTreeMap;
use std::rc::Rc;

use corelane_coordinator::share::{Answer, Operation, Refusal, SharePartitionKey};
use corelane_protocol::{Str, Uuid};

use crate::coordinator::share_states;
use crate::shard::Shard;

/// What is asked of a topic's partitions.
pub type Asked = (Uuid, Vec<(i32, Operation)>);
pub type Answered = (Uuid, BTreeMap<i32, Result<Answer, Refusal>>);

/// Runs operations of one group. As in Kafka a request that is not whole (no group, no topics, a topic without partitions) gets an
/// empty answer; what is asked twice is done twice and answered once.
pub async fn run(shard: &Rc<Shard>, group: &Str, asked: Vec<Asked>) -> Vec<Answered> {
    if group.is_empty() || asked.iter().any(|(_, partitions)| partitions.is_empty()) {
        return Vec::new();
    }
    let mut answered: Vec<Answered> = Vec::new();
    let mut places = Vec::new();
    let mut operations = Vec::new();
    for (topic, partitions) in asked {
        let place = answered.iter().position(|(known, _)| *known == topic).unwrap_or_else(|| {
            answered.push((topic, BTreeMap::new()));
            answered.len() - 1
        });
        for (partition, operation) in partitions {
            places.push((place, partition));
            operations.push((SharePartitionKey { group: group.detach(), topic, partition }, operation));
        }
    }
    for ((place, partition), answer) in places.into_iter().zip(share_states(shard, operations).await) {
        if let Some((_, answers)) = answered.get_mut(place) {
            answers.insert(partition, answer);
        }
    }
    answered
}

/// Error code and message as the answers carry them.
pub fn told(refusal: &Refusal) -> (i16, Option<Str>) {
    (refusal.code.code(), Some(Str::from_static(refusal.message())))
}

/// Of an operation that only succeeds or fails.
pub fn outcome(answer: &Result<Answer, Refusal>) -> (i16, Option<Str>) {
    match answer {
        Ok(_) => (0, None),
        Err(refusal) => told(refusal),
    }
}

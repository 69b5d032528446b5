//! Acknowledgements, whether they come alone or with a fetch.

use std::collections::BTreeMap;

use corelane_coordinator::share::in_flight::Acknowledgement;
use corelane_protocol::ErrorCode;

use super::partitions::{self, find_readable};
use super::sessions::{Name, Who};
use crate::kafka::request::RequestContext;

/// The largest type that a version knows: KIP-1222 brought 4.
const RENEW: i8 = 4;

/// What a message may say.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    pub renew_known: bool,
    /// The message is one that renews (`IsRenewAck`).
    pub renews: bool,
}

/// Takes a member's acknowledgements; errors by partition, each named once. A partition without any gets no answer, unless all of
/// them are wrong or none has any.
pub async fn acknowledge(
    context: &RequestContext,
    who: &Who,
    terms: Terms,
    said: Vec<(Name, Vec<Acknowledgement>)>,
) -> BTreeMap<Name, ErrorCode> {
    let mut answers = BTreeMap::new();
    let mut places = Vec::new();
    let mut wanted = Vec::new();
    let mut silent = Vec::new();
    let said: BTreeMap<Name, Vec<Acknowledgement>> = said.into_iter().collect();
    for (name, acknowledgements) in said {
        let found = match find_readable(context, name) {
            Err(ErrorCode::UnknownTopicId) => Err(ErrorCode::UnknownTopicId),
            other => check(&acknowledgements, terms).and(other),
        };
        match found {
            Err(error) => drop(answers.insert(name, error)),
            Ok(_) if acknowledgements.is_empty() => silent.push(name),
            Ok(key) => {
                places.push(name);
                wanted.push((key, acknowledgements));
            }
        }
    }
    if wanted.is_empty() {
        return answers;
    }
    let stored = partitions::acknowledge(&context.shard, who, wanted).await;
    answers.extend(places.into_iter().zip(stored.into_iter().map(|s| s.err().unwrap_or(ErrorCode::None))));
    answers.extend(silent.into_iter().map(|name| (name, ErrorCode::None)));
    answers
}

/// Kafka: `KafkaApis.validateAcknowledgementBatches`.
fn check(acknowledgements: &[Acknowledgement], terms: Terms) -> Result<(), ErrorCode> {
    let mut end = -1;
    for Acknowledgement { first, last, types } in acknowledgements {
        let largest = if terms.renew_known { RENEW } else { RENEW - 1 };
        let fits = types.len() == 1 || last.checked_sub(*first) == i64::try_from(types.len()).ok().map(|n| n - 1);
        let known = types.iter().all(|kind| (0..=largest).contains(kind));
        let renews = types.contains(&RENEW);
        if first > last || *first < end || types.is_empty() || !fits || !known || (renews && !terms.renews) {
            return Err(ErrorCode::InvalidRequest);
        }
        end = *last;
    }
    Ok(())
}

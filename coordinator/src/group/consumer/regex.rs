//! Subscriptions by regular expression: which topics they match, and when that is looked at again.
//! (Kafka: `GroupMetadataManager.maybeUpdateRegularExpressions`, `TopicRegexResolver`.)

use std::collections::BTreeSet;
use std::sync::Arc;

use corelane_protocol::{ErrorCode, Str};

use super::batch::Batch;
use super::change::{Change, Resolved};
use super::group::ConsumerGroup;
use crate::group::env::Env;
use crate::group::refusal::Refusal;
use crate::re2;

/// Time between two resolutions of a group's expressions at the least.
const MIN_INTERVAL_MS: i64 = 10_000;
/// Time after which expressions are resolved again in any case. (Kafka: `group.consumer.regex.refresh.interval.ms`, which it does
/// not show.)
const MAX_INTERVAL_MS: i64 = 600_000;

/// What a member did to its regular expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RegexChange {
    None,
    /// Its topics will be known later.
    Changed,
    /// Its topics are known.
    Resolved,
}

impl ConsumerGroup {
    /// To be called before the member's subscription changes.
    pub(super) fn change_regex(&mut self, batch: &mut Batch, old: &Str, new: &Str) -> Result<RegexChange, Refusal> {
        if old == new {
            return Ok(RegexChange::None);
        }
        let mut change = RegexChange::Changed;
        let is_new = !new.is_empty() && !self.regexes.contains_key(new);
        if is_new && let Err(error) = re2::compile(new) {
            let message = format!("SubscribedTopicRegex `{new}` is not a valid regular expression: {error}.");
            return Err(Refusal::new(ErrorCode::InvalidRegularExpression, message));
        }
        if new.is_empty() || (!is_new && self.resolved.contains_key(new)) {
            change = RegexChange::Resolved;
        }
        if !old.is_empty() && self.regexes.get(old) == Some(&1) {
            self.change(batch, Change::Regex(old.clone(), None));
        }
        Ok(change)
    }

    /// Has the expressions resolved soon if that is due: those of a group all together, so that they make one new assignment.
    pub(super) fn maybe_refresh_regexes(&mut self, env: &mut Env<'_>) {
        if self.regexes.is_empty() {
            return;
        }
        let last = self.resolved.values().next().map(|resolved| resolved.at_ms);
        if last.is_some_and(|last| env.now.wall_ms <= last.saturating_add(MIN_INTERVAL_MS)) {
            return;
        }
        let is_old = |last: i64| env.now.wall_ms > last.saturating_add(MAX_INTERVAL_MS);
        let due = self.regexes.len() != self.resolved.len()
            || self.creations_seen != Some(env.catalog.creations)
            || last.is_none_or(is_old);
        if due {
            self.schedule_regexes(env);
        }
    }

    /// Matches the expressions with the topics that there are.
    pub(super) fn resolve_regexes(&mut self, env: &mut Env<'_>, batch: &mut Batch) {
        let regexes: Vec<Str> = self.regexes.keys().cloned().collect();
        let matched = match_topics(env, &regexes);
        let at_ms = env.now.wall_ms;
        let mut bump = false;
        for (regex, topics) in regexes.into_iter().zip(matched) {
            let none = BTreeSet::new();
            bump |= self.resolved.get(&regex).map_or(&none, |resolved| &resolved.topics) != &topics;
            self.change(batch, Change::Regex(regex, Some(Arc::new(Resolved { topics, at_ms }))));
        }
        self.creations_seen = Some(env.catalog.creations);
        let topics_hash = env.catalog.group_hash(self.readers.keys());
        if bump || topics_hash != self.epoch.topics_hash {
            self.look_at_topics(env, batch, true);
        }
    }
}

/// The topics that each expression matches as a whole.
fn match_topics(env: &Env<'_>, regexes: &[Str]) -> Vec<BTreeSet<Str>> {
    let mut matched = vec![BTreeSet::new(); regexes.len()];
    // They were checked when they came. One that does not compile any more matches nothing.
    let compiled: Vec<Option<regex::Regex>> = regexes.iter().map(|regex| re2::compile(regex).ok()).collect();
    env.catalog.topics.each_name(&mut |name| {
        for (regex, topics) in compiled.iter().zip(&mut matched) {
            if regex.as_ref().is_some_and(|regex| regex.is_match(name)) {
                topics.insert(Str::from(name.to_owned()));
            }
        }
    });
    matched
}

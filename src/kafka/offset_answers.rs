//! Answers for partitions of which a handler refuses some and the group's coordinator answers the others, put together as Kafka
//! does: a topic that the handler speaks of stands once, however often the request named it, and before those it has nothing to say
//! of; what the coordinator says alone stays as it said it.

use corelane_protocol::{ErrorCode, Str, Uuid};

/// Name and id of a topic, and a code for each partition. One of the two is what names it.
pub type TopicAnswers = (Str, Uuid, Vec<(i32, i16)>);

#[derive(Default)]
pub struct OffsetAnswers(Vec<TopicAnswers>);

impl OffsetAnswers {
    /// Refuses partitions of a topic; without any the topic is only named.
    pub fn refuse(&mut self, name: &Str, id: Uuid, partitions: impl Iterator<Item = i32>, error: ErrorCode) {
        self.topic(name, id).extend(partitions.map(|index| (index, error.code())));
    }

    fn topic(&mut self, name: &Str, id: Uuid) -> &mut Vec<(i32, i16)> {
        let found = self.0.iter().position(|(n, i, _)| n == name && *i == id);
        let at = found.unwrap_or_else(|| {
            self.0.push((name.clone(), id, Vec::new()));
            self.0.len() - 1
        });
        &mut self.0[at].2
    }

    pub fn merge(mut self, of_group: impl Iterator<Item = TopicAnswers>) -> Vec<TopicAnswers> {
        if self.0.is_empty() {
            return of_group.collect();
        }
        of_group.for_each(|(name, id, partitions)| self.topic(&name, id).extend(partitions));
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_topic_stands_once() {
        let name = |text: &'static str| Str::from_static(text);
        let of_group = || [(name("a"), Uuid::ZERO, vec![(0, 0)]), (name("a"), Uuid::ZERO, vec![(0, 0)])].into_iter();
        assert_eq!(OffsetAnswers::default().merge(of_group()).len(), 2);
        let mut answers = OffsetAnswers::default();
        for partition in [7, 8] {
            answers.refuse(&name("b"), Uuid::ZERO, [partition].into_iter(), ErrorCode::UnknownTopicOrPartition);
        }
        let merged = answers.merge(of_group());
        assert_eq!(
            merged,
            [(name("b"), Uuid::ZERO, vec![(7, 3), (8, 3)]), (name("a"), Uuid::ZERO, vec![(0, 0), (0, 0)])]
        );
    }
}

//! The internal topics of an application with their numbers of partitions, as they follow from its topology and the topics there are.

use std::collections::{BTreeMap, BTreeSet};

use corelane_protocol::Str;

use super::status::Status;
use super::topology::{PartitionCounts, Subtopology, TopicInfo, Topology, invalid};
use super::{by_key, unknown};
use crate::group::refusal::Refusal;

/// An internal topic as it is to be, or to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InternalTopic {
    pub name: Str,
    pub partitions: i32,
    /// `None`: the broker's default.
    pub replication_factor: Option<i16>,
    pub configs: BTreeMap<Str, Str>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ConfiguredSubtopology {
    pub(crate) tasks: i32,
    pub(crate) source_topics: BTreeSet<Str>,
    pub(crate) repartition_source_topics: BTreeMap<Str, InternalTopic>,
    pub(crate) repartition_sink_topics: BTreeSet<Str>,
    pub(crate) state_changelog_topics: BTreeMap<Str, InternalTopic>,
}

/// A topology fitted to the topics there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ConfiguredTopology {
    pub(crate) epoch: i32,
    /// `None`: it could not be fitted.
    pub(crate) subtopologies: Option<BTreeMap<Str, ConfiguredSubtopology>>,
    /// Internal topics that are still to be made.
    pub(crate) missing: Vec<InternalTopic>,
    /// Why there cannot be an assignment yet.
    pub(crate) problem: Option<(Status, String)>,
}

impl ConfiguredTopology {
    pub(crate) fn is_ready(&self) -> bool {
        self.problem.is_none()
    }
}

/// Why a topology does not fit: with a status that its members are told, or not at all.
enum Misfit {
    Problem(Status, String),
    Refusal(Refusal),
}

impl From<Refusal> for Misfit {
    fn from(refusal: Refusal) -> Misfit {
        Misfit::Refusal(refusal)
    }
}

fn wrongly_partitioned(message: String) -> Misfit {
    Misfit::Problem(Status::IncorrectlyPartitionedTopics, message)
}

/// Fits a topology to the topics there are. An error: it is none that could ever fit.
pub(crate) fn configure(topology: &Topology, topics: PartitionCounts<'_>) -> Result<ConfiguredTopology, Refusal> {
    let unfit = |problem| ConfiguredTopology {
        epoch: topology.epoch,
        subtopologies: None,
        missing: Vec::new(),
        problem: Some(problem),
    };
    match fit(topology, topics) {
        Err(Misfit::Refusal(refused)) => Err(refused),
        Err(Misfit::Problem(status, message)) => Ok(unfit((status, message))),
        Ok((subtopologies, missing)) => {
            let names: Vec<&Str> = missing.iter().map(|topic| &topic.name).collect();
            let message = || format!("Internal topics are missing: {}", summary(&names));
            let problem = (!missing.is_empty()).then(|| (Status::MissingInternalTopics, message()));
            Ok(ConfiguredTopology { epoch: topology.epoch, subtopologies: Some(subtopologies), missing, problem })
        }
    }
}

type Fitted = (BTreeMap<Str, ConfiguredSubtopology>, Vec<InternalTopic>);

fn fit(topology: &Topology, topics: PartitionCounts<'_>) -> Result<Fitted, Misfit> {
    let copartitioned = copartition_groups(topology)?;
    let sources: BTreeSet<&Str> = topology.subtopologies.values().flat_map(|s| &s.source_topics).collect();
    let missing: Vec<&Str> = sources.into_iter().filter(|name| topics(name).is_none()).collect();
    if !missing.is_empty() {
        let message = format!("Source topics {} are missing.", summary(&missing));
        return Err(Misfit::Problem(Status::MissingSourceTopics, message));
    }
    let mut counts = Counts { topics, decided: repartition_counts(topology, topics)? };
    enforce_copartitioning(topology, copartitioned, &mut counts)?;
    for s in topology.subtopologies.values() {
        let most = counts.most_of(s)?;
        counts.decided.extend(s.state_changelog_topics.iter().map(|topic| (topic.name.clone(), most)));
    }
    let configured = |(id, s): (&Str, &Subtopology)| Ok((id.clone(), counts.configured(s)?));
    let subtopologies: BTreeMap<Str, ConfiguredSubtopology> =
        topology.subtopologies.iter().map(configured).collect::<Result<_, Refusal>>()?;
    let mut missing = Vec::new();
    let internal = subtopologies
        .values()
        .flat_map(|s| s.repartition_source_topics.values().chain(s.state_changelog_topics.values()));
    let internal: BTreeMap<&Str, &InternalTopic> = internal.map(|topic| (&topic.name, topic)).collect();
    for topic in internal.into_values() {
        match topics(&topic.name) {
            None => missing.push(topic.clone()),
            Some(found) if found != topic.partitions => {
                return Err(wrongly_partitioned(format!(
                    "Existing topic {} has different number of partitions: expected {}, found {}",
                    topic.name, topic.partitions, found
                )));
            }
            Some(_) => {}
        }
    }
    Ok((subtopologies, missing))
}

/// Numbers of partitions: of topics that are there, and of internal ones as far as they are decided.
struct Counts<'a> {
    topics: PartitionCounts<'a>,
    decided: BTreeMap<Str, i32>,
}

impl Counts<'_> {
    fn of(&self, name: &Str) -> Result<i32, Refusal> {
        (self.topics)(name).or_else(|| self.decided.get(name).copied()).ok_or_else(unknown)
    }

    /// The most partitions of what a subtopology reads, which is how many tasks it has.
    fn most_of(&self, s: &Subtopology) -> Result<i32, Refusal> {
        let read = s.source_topics.iter().chain(s.repartition_source_topics.iter().map(|topic| &topic.name));
        let counts: Vec<i32> = read.map(|name| self.of(name)).collect::<Result<_, Refusal>>()?;
        let none = || invalid(format!("No source topics found for subtopology {}", s.subtopology_id));
        counts.into_iter().max().ok_or_else(none)
    }

    fn configured(&self, s: &Subtopology) -> Result<ConfiguredSubtopology, Refusal> {
        let internal = |topics: &[TopicInfo]| -> Result<BTreeMap<Str, InternalTopic>, Refusal> {
            let topics: Vec<(Str, InternalTopic)> =
                topics.iter().map(|topic| Ok((topic.name.clone(), self.internal(topic)?))).collect::<Result<_, _>>()?;
            by_key(topics.into_iter())
        };
        Ok(ConfiguredSubtopology {
            tasks: self.most_of(s)?,
            source_topics: s.source_topics.iter().cloned().collect(),
            repartition_source_topics: internal(&s.repartition_source_topics)?,
            repartition_sink_topics: s.repartition_sink_topics.iter().cloned().collect(),
            state_changelog_topics: internal(&s.state_changelog_topics)?,
        })
    }

    fn internal(&self, info: &TopicInfo) -> Result<InternalTopic, Refusal> {
        let decided = || self.decided.get(&info.name).copied().ok_or_else(unknown);
        let partitions = if info.partitions == 0 { decided()? } else { info.partitions };
        if partitions < 1 {
            return Err(unknown());
        }
        Ok(InternalTopic {
            name: info.name.clone(),
            partitions,
            replication_factor: Some(info.replication_factor).filter(|factor| *factor != 0),
            configs: by_key(info.topic_configs.iter().map(|pair| (pair.key.clone(), pair.value.clone())))?,
        })
    }
}

/// A repartition topic has the partitions that it asks for, or as many as the largest topic that its writer reads.
fn repartition_counts(topology: &Topology, topics: PartitionCounts<'_>) -> Result<BTreeMap<Str, i32>, Refusal> {
    let sources = || topology.subtopologies.values().flat_map(|s| &s.repartition_source_topics);
    let fixed = sources().filter(|topic| topic.partitions != 0);
    let mut counts: BTreeMap<Str, i32> = fixed.map(|topic| (topic.name.clone(), topic.partitions)).collect();
    // as they are numbered, which is from source to sink
    let mut in_order: Vec<&Subtopology> = topology.subtopologies.values().collect();
    in_order.sort_by_key(|s| s.subtopology_id.len());
    loop {
        let (mut progress, mut open) = (false, false);
        for s in &in_order {
            for sink in &s.repartition_sink_topics {
                if counts.contains_key(sink) {
                    continue;
                }
                let internal = s.repartition_source_topics.iter().filter_map(|topic| counts.get(&topic.name).copied());
                let external = s.source_topics.iter().filter_map(|name| topics(name));
                match internal.chain(external).max() {
                    Some(most) => {
                        counts.insert(sink.clone(), most);
                        progress = true;
                    }
                    None => open = true,
                }
            }
        }
        if !open {
            break;
        }
        if !progress {
            return Err(invalid(
                "Failed to compute number of partitions for all repartition topics. There may be loops in the topology \
                 that cannot be resolved.",
            ));
        }
    }
    if sources().any(|topic| !counts.contains_key(&topic.name)) {
        return Err(invalid(
            "Failed to compute number of partitions for all repartition topics, because a repartition source topic is \
             never used as a sink topic.",
        ));
    }
    Ok(counts)
}

/// The names of the topics of each group that must have the same number of partitions.
fn copartition_groups(topology: &Topology) -> Result<Vec<BTreeSet<Str>>, Refusal> {
    let mut groups = Vec::new();
    for s in topology.subtopologies.values() {
        for group in &s.copartition_groups {
            let mut names = BTreeSet::new();
            for index in &group.source_topics {
                let name = usize::try_from(*index).ok().and_then(|index| s.source_topics.get(index));
                names.insert(name.cloned().ok_or_else(unknown)?);
            }
            for index in &group.repartition_source_topics {
                let topic = usize::try_from(*index).ok().and_then(|index| s.repartition_source_topics.get(index));
                names.insert(topic.map(|topic| topic.name.clone()).ok_or_else(unknown)?);
            }
            groups.push(names);
        }
    }
    Ok(groups)
}

/// Topics that are joined must have the same number of partitions: repartition topics are given those of the others.
fn enforce_copartitioning(
    topology: &Topology,
    groups: Vec<BTreeSet<Str>>,
    counts: &mut Counts<'_>,
) -> Result<(), Misfit> {
    let sources = || topology.subtopologies.values().flat_map(|s| &s.repartition_source_topics);
    let fixed: BTreeSet<&Str> = sources().filter(|t| t.partitions != 0).map(|t| &t.name).collect();
    let repartition: BTreeSet<&Str> = sources().map(|topic| &topic.name).collect();
    for group in groups {
        let with_counts = |inside: bool| -> Result<BTreeMap<&Str, i32>, Refusal> {
            let names = group.iter().filter(|name| repartition.contains(name) == inside);
            names.map(|name| Ok((name, counts.of(name)?))).collect()
        };
        let (internal, external) = (with_counts(true)?, with_counts(false)?);
        let differ = |shown: &BTreeMap<&Str, i32>| {
            let pairs: Vec<String> = shown.iter().map(|(name, count)| format!("{name}={count}")).collect();
            wrongly_partitioned(format!(
                "Following topics do not have the same number of partitions: [{{{}}}]",
                pairs.join(", ")
            ))
        };
        let decided = if let Some(count) = external.values().next().copied() {
            if external.values().any(|other| *other != count) {
                return Err(differ(&external));
            }
            count
        } else if fixed.is_empty() {
            let most = internal.values().copied().max();
            match most {
                None => continue,
                Some(most @ 1..) => most,
                Some(_) => {
                    let names: Vec<&str> = internal.keys().map(|name| name.as_str()).collect();
                    return Err(Misfit::Refusal(invalid(format!(
                        "All topics in the copartition group had undefined partition number: [{}]",
                        names.join(", ")
                    ))));
                }
            }
        } else if group.is_empty() {
            continue;
        } else {
            // as in Kafka, of all fixed ones of the application
            let of_fixed: Vec<i32> = fixed.iter().map(|name| counts.of(name)).collect::<Result<_, Refusal>>()?;
            let Some(count) = of_fixed.first().copied() else { continue };
            if of_fixed.iter().any(|other| *other != count) {
                return Err(differ(&internal));
            }
            count
        };
        for (name, count) in &internal {
            if fixed.contains(name) && *count != decided {
                return Err(wrongly_partitioned(format!(
                    "Number of partitions [{count}] of repartition topic [{name}] doesn't match number of partitions \
                     [{decided}] of the source topic."
                )));
            }
        }
        let names: Vec<Str> = internal.into_keys().cloned().collect();
        counts.decided.extend(names.into_iter().map(|name| (name, decided)));
    }
    Ok(())
}

/// Up to three names, and how many more there are.
fn summary(names: &[&Str]) -> String {
    let shown: Vec<&str> = names.iter().take(3).map(|name| name.as_str()).collect();
    let mut text = shown.join(", ");
    if names.len() > 3 {
        text.push_str(&format!(" and {} additional topics", names.len() - 3));
    }
    text
}

#[cfg(test)]
#[path = "configured_tests.rs"]
mod tests;

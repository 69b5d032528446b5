use corelane_protocol::ErrorCode;
use corelane_protocol::records::group::StreamsGroupTopologyValueCopartitionGroup;

use super::*;

fn names(names: &[&'static str]) -> Vec<Str> {
    names.iter().map(|name| Str::from(*name)).collect()
}

fn internal(name: &'static str, partitions: i32) -> TopicInfo {
    TopicInfo { name: Str::from(name), partitions, ..Default::default() }
}

fn subtopology(id: &'static str, sources: &[&'static str]) -> Subtopology {
    Subtopology { subtopology_id: Str::from(id), source_topics: names(sources), ..Default::default() }
}

fn topology(subtopologies: Vec<Subtopology>) -> Topology {
    let subtopologies = subtopologies.into_iter().map(|s| (s.subtopology_id.clone(), s)).collect();
    Topology { epoch: 3, subtopologies }
}

/// Words from `text`, counted behind a repartition topic.
fn word_count() -> Topology {
    let mut first = subtopology("0", &["text"]);
    first.repartition_sink_topics = names(&["words-repartition"]);
    let mut second = subtopology("1", &[]);
    second.repartition_source_topics = vec![internal("words-repartition", 0)];
    second.state_changelog_topics = vec![internal("counts-changelog", 0)];
    topology(vec![first, second])
}

/// A join of `left` and a repartition topic that `other` is written to.
fn join(repartition: i32) -> Topology {
    let mut first = subtopology("0", &["other"]);
    first.repartition_sink_topics = names(&["other-repartition"]);
    let mut second = subtopology("1", &["left"]);
    second.repartition_source_topics = vec![internal("other-repartition", repartition)];
    let group = StreamsGroupTopologyValueCopartitionGroup {
        source_topics: vec![0],
        repartition_source_topics: vec![0],
        ..Default::default()
    };
    second.copartition_groups = vec![group];
    topology(vec![first, second])
}

fn run(topology: &Topology, topics: &[(&str, i32)]) -> Result<ConfiguredTopology, Refusal> {
    let topics: BTreeMap<String, i32> = topics.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
    configure(topology, &|name| topics.get(name).copied())
}

fn problem(topology: &Topology, topics: &[(&str, i32)]) -> (Status, String) {
    run(topology, topics).unwrap().problem.unwrap()
}

fn created(configured: &ConfiguredTopology) -> Vec<(&str, i32)> {
    configured.missing.iter().map(|topic| (topic.name.as_str(), topic.partitions)).collect()
}

fn tasks(configured: &ConfiguredTopology) -> Vec<i32> {
    configured.subtopologies.as_ref().unwrap().values().map(|s| s.tasks).collect()
}

#[test]
fn internal_topics_get_the_partitions_of_what_is_written_to_them() {
    let configured = run(&word_count(), &[("text", 5)]).unwrap();
    assert_eq!(created(&configured), [("counts-changelog", 5), ("words-repartition", 5)]);
    assert_eq!(tasks(&configured), [5, 5]);
    let detail = "Internal topics are missing: counts-changelog, words-repartition".to_owned();
    assert_eq!(configured.problem, Some((Status::MissingInternalTopics, detail)));
    let configured = run(&word_count(), &[("text", 5), ("counts-changelog", 5), ("words-repartition", 5)]).unwrap();
    assert!(configured.is_ready() && configured.missing.is_empty());
}

#[test]
fn a_repartition_topic_with_its_own_number_decides_the_tasks_behind_it() {
    let mut topology = word_count();
    let second = topology.subtopologies.get_mut("1").unwrap();
    second.repartition_source_topics = vec![internal("words-repartition", 2)];
    let configured = run(&topology, &[("text", 5)]).unwrap();
    assert_eq!(created(&configured), [("counts-changelog", 2), ("words-repartition", 2)]);
    assert_eq!(tasks(&configured), [5, 2]);
}

#[test]
fn missing_sources_are_named() {
    let expected = (Status::MissingSourceTopics, "Source topics text are missing.".to_owned());
    assert_eq!(problem(&word_count(), &[]), expected);
    let many = topology(vec![subtopology("0", &["e", "d", "c", "b", "a"])]);
    assert_eq!(problem(&many, &[("c", 1)]).1, "Source topics a, b, d and 1 additional topics are missing.");
}

#[test]
fn an_internal_topic_that_is_there_must_fit() {
    let detail = "Existing topic counts-changelog has different number of partitions: expected 5, found 4".to_owned();
    let found = problem(&word_count(), &[("text", 5), ("counts-changelog", 4)]);
    assert_eq!(found, (Status::IncorrectlyPartitionedTopics, detail));
}

#[test]
fn joined_topics_have_the_same_number_of_partitions() {
    let configured = run(&join(0), &[("left", 6), ("other", 2)]).unwrap();
    assert_eq!(created(&configured), [("other-repartition", 6)]);
    let detail =
        "Number of partitions [3] of repartition topic [other-repartition] doesn't match number of partitions \
                  [6] of the source topic."
            .to_owned();
    assert_eq!(problem(&join(3), &[("left", 6), ("other", 2)]), (Status::IncorrectlyPartitionedTopics, detail));
    let mut both = topology(vec![subtopology("0", &["a", "b"])]);
    let group = StreamsGroupTopologyValueCopartitionGroup { source_topics: vec![0, 1], ..Default::default() };
    both.subtopologies.get_mut("0").unwrap().copartition_groups = vec![group];
    let detail = "Following topics do not have the same number of partitions: [{a=1, b=2}]".to_owned();
    assert_eq!(problem(&both, &[("a", 1), ("b", 2)]), (Status::IncorrectlyPartitionedTopics, detail));
    assert!(run(&both, &[("a", 2), ("b", 2)]).unwrap().is_ready());
}

#[test]
fn a_topology_that_cannot_be_resolved_is_refused() {
    let mut unwritten = word_count();
    unwritten.subtopologies.get_mut("0").unwrap().repartition_sink_topics.clear();
    assert_eq!(run(&unwritten, &[("text", 1)]).unwrap_err().code, ErrorCode::StreamsInvalidTopology);
    // two subtopologies that feed each other, and nothing else
    let mut ring = Vec::new();
    for (id, from, to) in [("0", "a", "b"), ("1", "b", "a")] {
        let mut s = subtopology(id, &[]);
        s.repartition_source_topics = vec![internal(from, 0)];
        s.repartition_sink_topics = names(&[to]);
        ring.push(s);
    }
    assert_eq!(run(&topology(ring), &[]).unwrap_err().code, ErrorCode::StreamsInvalidTopology);
    let empty = topology(vec![subtopology("0", &[])]);
    assert_eq!(run(&empty, &[]).unwrap_err().message, "No source topics found for subtopology 0");
    let mut wrong = join(0);
    wrong.subtopologies.get_mut("1").unwrap().copartition_groups[0].source_topics = vec![7];
    assert_eq!(run(&wrong, &[("left", 1), ("other", 1)]).unwrap_err().code, ErrorCode::UnknownServerError);
}

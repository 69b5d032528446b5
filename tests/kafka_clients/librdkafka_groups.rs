//! librdkafka: consumer groups of the classic protocol.

use corelane_tests::broker::Broker;
use corelane_tests::librdkafka::{LIMIT, config, create_topic, produce_all, producer, unique};
use corelane_tests::wait;
use rdkafka::ClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance};
use rdkafka::message::Message;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

const STEP: Duration = Duration::from_millis(20);

/// Counts rebalances and knows the assignment.
#[derive(Default)]
struct Member {
    assignments: AtomicUsize,
    owned: Mutex<BTreeSet<(String, i32)>>,
}

impl ClientContext for Member {}

impl ConsumerContext for Member {
    fn post_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        // not asked of the client: librdkafka does not answer that while it is being closed
        let mut owned = self.owned.lock().expect("owned");
        let places = |list: &TopicPartitionList| -> Vec<(String, i32)> {
            list.elements().iter().map(|e| (e.topic().to_owned(), e.partition())).collect()
        };
        match rebalance {
            Rebalance::Assign(list) => {
                self.assignments.fetch_add(1, SeqCst);
                owned.extend(places(list));
            }
            Rebalance::Revoke(list) => places(list).iter().for_each(|place| {
                owned.remove(place);
            }),
            Rebalance::Error(_) => owned.clear(),
        }
    }
}

type Joined = BaseConsumer<Member>;

fn join(group: &str, topic: &str, settings: &[(&str, &str)]) -> Joined {
    let mut config = config(Broker::shared());
    config
        .set("group.id", group)
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "earliest")
        .set("session.timeout.ms", "30000")
        .set("heartbeat.interval.ms", "200");
    for (key, value) in settings {
        config.set(*key, *value);
    }
    let consumer: Joined = config.create_with_context(Member::default()).expect("a consumer");
    consumer.subscribe(&[topic]).expect("subscribe");
    consumer
}

fn owned(consumer: &Joined) -> usize {
    consumer.context().owned.lock().expect("owned").len()
}

/// Polls all `members` (which drives their rebalances) until `done`, and passes on what they read.
fn drive(what: &str, members: &[&Joined], mut each: impl FnMut(usize, i32, i64), mut done: impl FnMut() -> bool) {
    wait::until(what, LIMIT, || {
        for (m, member) in members.iter().enumerate() {
            // All that has come: else one that has nothing to read would hold up the others for each of their records.
            let mut patience = STEP;
            while let Some(polled) = member.poll(patience) {
                let message = polled.unwrap_or_else(|error| panic!("member {m}: {error}"));
                each(m, message.partition(), message.offset());
                patience = Duration::ZERO;
            }
        }
        done().then_some(())
    });
}

fn fill(topic: &str, partitions: i32, records: usize) {
    create_topic(Broker::shared(), topic, partitions, &[]);
    add(topic, records);
}

fn add(topic: &str, records: usize) {
    let keys: Vec<String> = (0..records).map(|i| format!("key-{i}")).collect();
    let sender = producer(Broker::shared(), &[]);
    produce_all(&sender, topic, keys.iter().map(|k| (k.as_bytes(), k.as_bytes())));
}

#[test]
fn two_members_share_the_partitions_and_the_survivor_takes_all() {
    let (topic, group) = (unique("shared"), unique("group"));
    fill(&topic, 8, 4000);
    let first = join(&group, &topic, &[]);
    drive("all partitions at one member", &[&first], |_, _, _| {}, || owned(&first) == 8);
    let second = join(&group, &topic, &[]);
    drive("four partitions each", &[&first, &second], |_, _, _| {}, || owned(&first) == 4 && owned(&second) == 4);
    let mine = first.context().owned.lock().expect("owned").clone();
    let yours = second.context().owned.lock().expect("owned").clone();
    assert!(mine.is_disjoint(&yours));
    drop(second); // leaves the group
    drive("all partitions back", &[&first], |_, _, _| {}, || owned(&first) == 8);
}

#[test]
fn every_record_is_read_once_by_two_members() {
    let (topic, group) = (unique("once"), unique("group"));
    fill(&topic, 8, 2500);
    let (a, b) = (join(&group, &topic, &[]), join(&group, &topic, &[]));
    let seen = Mutex::new(BTreeSet::new());
    // nothing is committed and nobody leaves: a record read again would be one that both owned
    drive(
        "both to join",
        &[&a, &b],
        |_, p, o| {
            seen.lock().expect("seen").insert((p, o));
        },
        || owned(&a) == 4 && owned(&b) == 4,
    );
    // The first may have read all that there was before the second came.
    add(&topic, 2500);
    let (start, readers) = (seen.lock().expect("seen").clone(), Mutex::new([0, 0]));
    drive(
        "all records",
        &[&a, &b],
        |m, p, o| {
            readers.lock().expect("readers")[m] += 1;
            let fresh = seen.lock().expect("seen").insert((p, o));
            assert!(fresh || start.contains(&(p, o)), "{p}/{o} was read twice");
        },
        || seen.lock().expect("seen").len() == 5000,
    );
    let [by_a, by_b] = *readers.lock().expect("readers");
    assert!(by_a > 0 && by_b > 0, "both read: {by_a}, {by_b}");
}

#[test]
fn restarted_member_resumes_after_the_committed_offsets() {
    let (topic, group) = (unique("resume"), unique("group"));
    fill(&topic, 4, 2000);
    let mut seen = BTreeSet::new();
    for round in 1..=4 {
        let member = join(&group, &topic, &[]);
        let target = round * 500;
        let mut fresh = Vec::new();
        wait::until("the next records", LIMIT, || {
            match member.poll(STEP) {
                Some(Ok(message)) => fresh.push((message.partition(), message.offset())),
                Some(Err(error)) => panic!("{error}"),
                None => {}
            }
            (seen.len() + fresh.len() >= target).then_some(())
        });
        for place in fresh {
            assert!(seen.insert(place), "{place:?} again in round {round}, after it was committed");
        }
        member.commit_consumer_state(CommitMode::Sync).expect("commit");
    }
    assert_eq!(seen.len(), 2000);
}

#[test]
fn static_member_comes_back_without_a_rebalance() {
    let (topic, group) = (unique("static"), unique("group"));
    fill(&topic, 6, 600);
    let keeper = join(&group, &topic, &[("group.instance.id", "keeper")]);
    let leaver = join(&group, &topic, &[("group.instance.id", "leaver")]);
    drive("three each", &[&keeper, &leaver], |_, _, _| {}, || owned(&keeper) == 3 && owned(&leaver) == 3);
    let before = leaver.context().owned.lock().expect("owned").clone();
    let rebalances = keeper.context().assignments.load(SeqCst);
    drop(leaver); // a static member does not leave
    let back = join(&group, &topic, &[("group.instance.id", "leaver")]);
    drive("the member is back", &[&keeper, &back], |_, _, _| {}, || owned(&back) == 3);
    assert_eq!(*back.context().owned.lock().expect("owned"), before, "the same partitions as before");
    assert_eq!(keeper.context().assignments.load(SeqCst), rebalances, "the other member saw no rebalance");
}

#[test]
fn silent_member_loses_its_partitions_after_the_session_timeout() {
    let (topic, group) = (unique("silent"), unique("group"));
    fill(&topic, 4, 400);
    let short = [("session.timeout.ms", "1500")];
    // static members say no goodbye: the coordinator has to notice
    let silent = join(&group, &topic, &[("group.instance.id", "silent"), short[0]]);
    let alive = join(&group, &topic, &[("group.instance.id", "alive"), short[0]]);
    drive("two each", &[&silent, &alive], |_, _, _| {}, || owned(&silent) == 2 && owned(&alive) == 2);
    drop(silent);
    drive("all at the one that is alive", &[&alive], |_, _, _| {}, || owned(&alive) == 4);
}

#[test]
fn cooperative_members_keep_what_they_need_not_give_up() {
    let (topic, group) = (unique("sticky"), unique("group"));
    fill(&topic, 6, 600);
    let sticky = [("partition.assignment.strategy", "cooperative-sticky")];
    let first = join(&group, &topic, &sticky);
    drive("all six", &[&first], |_, _, _| {}, || owned(&first) == 6);
    let second = join(&group, &topic, &sticky);
    drive("three each", &[&first, &second], |_, _, _| {}, || owned(&first) == 3 && owned(&second) == 3);
    let third = join(&group, &topic, &sticky);
    drive(
        "two each",
        &[&first, &second, &third],
        |_, _, _| {},
        || [&first, &second, &third].iter().all(|m| owned(m) == 2),
    );
}

#[test]
fn members_with_no_common_protocol_cannot_share_a_group() {
    let (topic, group) = (unique("mixed"), unique("group"));
    fill(&topic, 2, 20);
    let eager = join(&group, &topic, &[("partition.assignment.strategy", "range")]);
    drive("the first member", &[&eager], |_, _, _| {}, || owned(&eager) == 2);
    let other = join(&group, &topic, &[("partition.assignment.strategy", "roundrobin")]);
    let error = wait::until("an error", LIMIT, || match other.poll(STEP) {
        Some(Err(error)) => Some(error),
        Some(Ok(_)) => panic!("a record for a member that cannot be"),
        None => eager.poll(Duration::ZERO).and(None),
    });
    assert_eq!(
        error.rdkafka_error_code(),
        Some(rdkafka::error::RDKafkaErrorCode::InconsistentGroupProtocol),
        "{error}"
    );
}

#[test]
fn commits_come_back_with_their_metadata_and_unknown_groups_have_none() {
    let topic = unique("commits");
    create_topic(Broker::shared(), &topic, 3, &[]);
    let group = unique("group");
    let member: BaseConsumer = config(Broker::shared()).set("group.id", &group).create().expect("a consumer");
    let ask = || {
        let mut list = TopicPartitionList::new();
        list.add_partition_range(&topic, 0, 2);
        member.committed_offsets(list, LIMIT).expect("OffsetFetch")
    };
    for p in 0..3 {
        assert_eq!(ask().find_partition(&topic, p).expect("a partition").offset(), Offset::Invalid);
    }
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&topic, 0, Offset::Offset(0)).expect("a partition");
    list.add_partition_offset(&topic, 2, Offset::Offset(77)).expect("a partition");
    list.find_partition(&topic, 2).expect("a partition").set_metadata("seen by a test");
    wait::until("a commit", LIMIT, || member.commit(&list, CommitMode::Sync).ok());
    let back = ask();
    assert_eq!(back.find_partition(&topic, 0).expect("a partition").offset(), Offset::Offset(0));
    assert_eq!(back.find_partition(&topic, 1).expect("a partition").offset(), Offset::Invalid);
    let last = back.find_partition(&topic, 2).expect("a partition");
    assert_eq!((last.offset(), last.metadata()), (Offset::Offset(77), "seen by a test"));
}

#[test]
fn groups_are_listed_and_described() {
    let (topic, group) = (unique("listed"), unique("group"));
    fill(&topic, 2, 20);
    let member = join(&group, &topic, &[("client.id", "the-member")]);
    drive("both partitions", &[&member], |_, _, _| {}, || owned(&member) == 2);
    let groups = member.fetch_group_list(Some(&group), LIMIT).expect("groups");
    let found = groups.groups().first().expect("the group");
    assert_eq!((found.name(), found.state(), found.protocol_type()), (group.as_str(), "Stable", "consumer"));
    let [seen] = found.members() else { panic!("one member") };
    assert_eq!(seen.client_id(), "the-member");
    assert!(seen.assignment().is_some_and(|a| !a.is_empty()), "the assignment is described");
    let all = member.fetch_group_list(None, LIMIT).expect("groups");
    assert!(all.groups().iter().any(|g| g.name() == group));
}

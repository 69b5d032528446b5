use super::*;
use crate::group::streams::topology::{Subtopology, TopicInfo};

fn text(text: &'static str) -> Str {
    Str::from(text)
}

fn tasks_of(partitions: &[i32]) -> Tasks {
    [(text("0"), partitions.iter().copied().collect())].into()
}

#[test]
fn what_is_written_is_read_again() {
    let current = CurrentAssignment {
        epoch: 7,
        previous_epoch: 6,
        state: MemberState::UnrevokedTasks,
        assigned: AssignedTasks {
            active: [(text("0"), [(1, 4), (2, 6)].into())].into(),
            standby: tasks_of(&[3]),
            warmup: Tasks::new(),
        },
        revoked: AssignedTasks { active: [(text("1"), [(0, 2)].into())].into(), ..Default::default() },
    };
    let member = MemberMetadata {
        rack_id: Some(text("r1")),
        client_id: text("app"),
        client_host: text("/127.0.0.1"),
        rebalance_timeout_ms: 300_000,
        topology_epoch: 0,
        process_id: text("process"),
        user_endpoint: Some((text("host"), 65_535)),
        client_tags: [(text("zone"), text("a"))].into(),
        instance_id: None,
    };
    let subtopology = Subtopology {
        subtopology_id: text("0"),
        source_topics: vec![text("in")],
        state_changelog_topics: vec![TopicInfo { name: text("log"), ..Default::default() }],
        ..Default::default()
    };
    let topology = Topology { epoch: 0, subtopologies: [(text("0"), subtopology)].into() };
    let metadata = GroupMetadata {
        epoch: 9,
        metadata_hash: -3,
        validated_topology_epoch: 0,
        assignment_configs: [(text("num.standby.replicas"), text("1"))].into(),
    };
    let id = || text("member");
    let changes = [
        Change::Metadata(Some(metadata)),
        Change::Member(id(), Some(member)),
        Change::TargetMetadata(Some(TargetMetadata { epoch: 9, made_ms: 1234 })),
        Change::Target(id(), Some(TaskSet { active: tasks_of(&[0, 1]), ..TaskSet::default() })),
        Change::Current(id(), Some(current)),
        Change::Topology(Some(Rc::new(topology))),
        Change::Metadata(None),
        Change::Member(id(), None),
        Change::TargetMetadata(None),
        Change::Target(id(), None),
        Change::Current(id(), None),
        Change::Topology(None),
    ];
    for change in changes {
        let record = change.to_record(&text("group")).unwrap();
        let read = Change::from_record(&record.key, record.value.as_ref()).unwrap();
        assert_eq!(read, Some((text("group"), change)));
    }
}

#[test]
fn assignments_without_epochs_are_of_the_members() {
    let ids = StreamsGroupCurrentMemberAssignmentValueTaskIds {
        subtopology_id: text("0"),
        partitions: vec![1, 2],
        assignment_epochs: None,
        ..Default::default()
    };
    let mut value = StreamsGroupCurrentMemberAssignmentValue { member_epoch: 5, state: 1, ..Default::default() };
    value.active_tasks = vec![ids];
    let expected: EpochTasks = [(text("0"), [(1, 5), (2, 5)].into())].into();
    assert_eq!(current_assignment(value).assigned.active, expected);
}

#[test]
fn records_of_other_groups_are_none_of_streams() {
    let key = GroupMetadataKey { group: text("classic") }.to_key_bytes().unwrap();
    assert_eq!(Change::from_record(&key, None).unwrap(), None);
}

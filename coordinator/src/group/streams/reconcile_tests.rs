use super::*;
use crate::group::streams::member::MemberMetadata;

fn active(partitions: &[i32]) -> TaskSet {
    TaskSet { active: set(partitions), ..TaskSet::default() }
}

fn set(partitions: &[i32]) -> Tasks {
    if partitions.is_empty() {
        return Tasks::new();
    }
    [(Str::from("0"), partitions.iter().copied().collect())].into()
}

fn since(partitions: &[(i32, i32)]) -> AssignedTasks {
    let mut tasks = AssignedTasks::default();
    if !partitions.is_empty() {
        tasks.active.insert(Str::from("0"), partitions.iter().copied().collect());
    }
    tasks
}

fn member(process: &'static str, current: CurrentAssignment) -> Member {
    let metadata = MemberMetadata { process_id: Str::from(process), ..MemberMetadata::default() };
    Member { metadata, current, ..Member::default() }
}

fn current(epoch: i32, state: MemberState, assigned: AssignedTasks, revoked: AssignedTasks) -> CurrentAssignment {
    CurrentAssignment { epoch, previous_epoch: epoch - 1, state, assigned, revoked }
}

/// The next step of the first member.
fn next(members: &[Member], target_epoch: i32, target: &TaskSet, owned: Option<&TaskSet>) -> CurrentAssignment {
    let holders = Holders::of(members.iter());
    let first = &members[0];
    let process_id = &first.metadata.process_id;
    Reconciliation { current: &first.current, process_id, target_epoch, target, owned, holders: &holders }
        .next()
        .unwrap()
}

#[test]
fn tasks_move_when_the_one_has_let_them_go() {
    let mut one = member("p", current(3, MemberState::Stable, since(&[(0, 2), (1, 2)]), since(&[])));
    let mut two = member("q", CurrentAssignment::default());
    let (first, second) = (active(&[0]), active(&[1]));

    let waiting = next(&[one], 4, &first, None);
    assert_eq!(waiting, current(3, MemberState::UnrevokedTasks, since(&[(0, 2)]), since(&[(1, 2)])).since(3));
    one = member("p", waiting.clone());
    two = member("q", next(&[two, one], 4, &second, None));
    assert_eq!((two.current.state, two.current.epoch), (MemberState::UnreleasedTasks, 4));
    assert!(two.current.assigned.is_empty());

    // it still has the task, or does not say
    let both = active(&[0, 1]);
    assert_eq!(next(&[member("p", waiting.clone())], 4, &first, Some(&both)), waiting);
    assert_eq!(next(&[member("p", waiting.clone())], 4, &first, None), waiting);
    one = member("p", next(&[member("p", waiting)], 4, &first, Some(&first)));
    assert_eq!((one.current.state, one.current.epoch), (MemberState::Stable, 4));
    assert_eq!(one.current.assigned, since(&[(0, 2)]), "a task that stays keeps its epoch");

    let after = next(&[two, one], 4, &second, Some(&TaskSet::default()));
    assert_eq!((after.state, after.assigned), (MemberState::Stable, since(&[(1, 4)])));
}

impl CurrentAssignment {
    fn since(mut self, previous: i32) -> CurrentAssignment {
        self.previous_epoch = previous;
        self
    }
}

#[test]
fn a_member_that_has_given_up_more_than_asked_need_not_wait() {
    let one = member("p", current(3, MemberState::Stable, since(&[(0, 2), (1, 2)]), since(&[])));
    let after = next(&[one], 4, &active(&[0]), Some(&TaskSet::default()));
    assert_eq!((after.state, after.epoch, after.assigned), (MemberState::Stable, 4, since(&[(0, 2)])));
}

#[test]
fn a_process_has_a_task_once() {
    let standby = TaskSet { standby: set(&[1]), ..TaskSet::default() };
    let mut holder = current(3, MemberState::Stable, since(&[]), since(&[]));
    holder.assigned.standby = set(&[1]);
    let joining = || member("p", CurrentAssignment::default());
    // another member of the process has a copy: neither the task nor another copy
    for target in [active(&[1]), standby.clone()] {
        let after = next(&[joining(), member("p", holder.clone())], 4, &target, None);
        assert_eq!((after.state, after.assigned.is_empty()), (MemberState::UnreleasedTasks, true), "{target:?}");
        let after = next(&[joining(), member("q", holder.clone())], 4, &target, None);
        assert_eq!((after.state, after.assigned.is_empty()), (MemberState::Stable, false), "{target:?}");
    }
    // a task is done once, wherever; a copy of it may be in another process
    let doing = current(3, MemberState::Stable, since(&[(1, 2)]), since(&[]));
    let after = next(&[joining(), member("q", doing.clone())], 4, &active(&[1]), None);
    assert_eq!(after.state, MemberState::UnreleasedTasks);
    let after = next(&[joining(), member("q", doing)], 4, &standby, None);
    assert_eq!((after.state, after.assigned.standby), (MemberState::Stable, set(&[1])));
}

#[test]
fn a_state_of_a_newer_kafka_is_left_by_joining_again() {
    let unknown = current(3, MemberState::Unknown, since(&[(0, 2)]), since(&[]));
    let run = |owned: Option<&TaskSet>| {
        let (holders, process, target) = (Holders::default(), Str::from("p"), active(&[0]));
        Reconciliation {
            current: &unknown,
            process_id: &process,
            target_epoch: 4,
            target: &target,
            owned,
            holders: &holders,
        }
        .next()
    };
    assert_eq!(run(None).unwrap_err().code, ErrorCode::FencedMemberEpoch);
    assert_eq!(run(Some(&active(&[0]))).unwrap_err().code, ErrorCode::FencedMemberEpoch);
    assert_eq!(run(Some(&TaskSet::default())).unwrap().state, MemberState::Stable);
}

//! What can be said against a heartbeat without knowing its group, in the order in which Kafka looks.

use corelane_protocol::ErrorCode;
use corelane_protocol::messages::{StreamsGroupHeartbeatRequest, StreamsGroupHeartbeatRequestTopology};

use super::topology::invalid;
use crate::group::refusal::Refusal;

/// Member epoch of a request that joins.
pub(super) const JOINING: i32 = 0;
/// Member epoch of a request that leaves.
pub(super) const LEAVING: i32 = -1;
/// Member epoch of a static member that will come back.
pub(super) const LEAVING_FOR_A_WHILE: i32 = -2;

pub(super) fn validate(request: &StreamsGroupHeartbeatRequest) -> Result<(), Refusal> {
    unsupported(request)?;
    let blank = |text: &str| text.trim().is_empty();
    let none_of = |is: bool, message: &str| if is { Err(wrong(message)) } else { Ok(()) };
    none_of(blank(&request.member_id), "MemberId can't be empty.")?;
    none_of(blank(&request.group_id), "GroupId can't be empty.")?;
    none_of(request.rack_id.as_deref().is_some_and(blank), "RackId can't be empty.")?;
    let tasks = [&request.active_tasks, &request.standby_tasks, &request.warmup_tasks];
    match request.member_epoch {
        JOINING => {
            none_of(request.rebalance_timeout_ms == -1, "RebalanceTimeoutMs must be provided in first request.")?;
            for (name, tasks) in ["ActiveTasks", "StandbyTasks", "WarmupTasks"].into_iter().zip(tasks) {
                let message = format!("{name} must be empty when (re-)joining.");
                none_of(tasks.as_ref().is_none_or(|tasks| !tasks.is_empty()), &message)?;
            }
            match &request.topology {
                None => return Err(wrong("Topology must be non-null when (re-)joining.")),
                Some(topology) => check_changelogs(topology)?,
            }
        }
        // only static members leave for a while, and there are none
        LEAVING_FOR_A_WHILE => return Err(wrong("InstanceId can't be null.")),
        epoch @ ..LEAVING_FOR_A_WHILE => {
            return Err(wrong(&format!("MemberEpoch is {epoch}, but must be greater than or equal to -2.")));
        }
        _ => {}
    }
    let given = tasks.iter().filter(|tasks| tasks.is_some()).count();
    none_of(given != 0 && given != tasks.len(), "If one task-type is non-null, all must be non-null.")?;
    let early = request.member_epoch != JOINING && request.topology.is_some();
    none_of(early, "Topology can only be provided when (re-)joining.")
}

fn wrong(message: &str) -> Refusal {
    Refusal::new(ErrorCode::InvalidRequest, message)
}

fn unsupported(request: &StreamsGroupHeartbeatRequest) -> Result<(), Refusal> {
    let warmup = request.warmup_tasks.as_ref().is_some_and(|tasks| !tasks.is_empty());
    let mut subtopologies = request.topology.iter().flat_map(|topology| &topology.subtopologies);
    let what = if request.instance_id.is_some() {
        "Static membership is not yet supported."
    } else if request.task_offsets.is_some() {
        "TaskOffsets are not supported yet."
    } else if request.task_end_offsets.is_some() {
        "TaskEndOffsets are not supported yet."
    } else if warmup {
        "WarmupTasks are not supported yet."
    } else if subtopologies.any(|subtopology| !subtopology.source_topic_regex.is_empty()) {
        "Regular expressions for source topics are not supported yet."
    } else {
        return Ok(());
    };
    Err(wrong(what))
}

/// A changelog has as many partitions as its store has tasks.
fn check_changelogs(topology: &StreamsGroupHeartbeatRequestTopology) -> Result<(), Refusal> {
    for topic in topology.subtopologies.iter().flat_map(|subtopology| &subtopology.state_changelog_topics) {
        if topic.partitions != 0 {
            return Err(invalid(format!(
                "Changelog topic {} must have an undefined partition count, but it is set to {}.",
                topic.name, topic.partitions
            )));
        }
    }
    Ok(())
}

//! What a member is told besides its tasks.

use corelane_protocol::Str;
use corelane_protocol::messages::StreamsGroupHeartbeatResponseStatus;

/// Numbers of `StreamsGroupHeartbeatResponse.Status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    StaleTopology = 0,
    MissingSourceTopics = 1,
    IncorrectlyPartitionedTopics = 2,
    MissingInternalTopics = 3,
    ShutdownApplication = 4,
    AssignmentDelayed = 5,
}

impl Status {
    pub fn code(self) -> i8 {
        self as i8
    }

    pub(crate) fn with(self, detail: impl Into<String>) -> StreamsGroupHeartbeatResponseStatus {
        let status_detail = Str::from(detail.into());
        StreamsGroupHeartbeatResponseStatus { status_code: self.code(), status_detail, ..Default::default() }
    }
}

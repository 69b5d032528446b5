//! What becomes of one record, or of a run of them.

use corelane_protocol::Str;

use super::state::StoreId;

/// Kafka's `RecordState`, with its number in what is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordState {
    Available = 0,
    /// Lent to a member.
    Acquired = 1,
    Acknowledged = 2,
    /// Given up: rejected, tried too often, or not there any more.
    Archived = 4,
}

impl RecordState {
    pub fn id(self) -> i8 {
        self as i8
    }

    /// As it is stored. What was lent is lent to nobody after a restart.
    pub(super) fn from_stored(id: i8) -> Option<RecordState> {
        match id {
            0 | 1 => Some(RecordState::Available),
            2 => Some(RecordState::Acknowledged),
            4 => Some(RecordState::Archived),
            _ => None,
        }
    }

    /// Done with for good.
    pub fn is_terminal(self) -> bool {
        matches!(self, RecordState::Acknowledged | RecordState::Archived)
    }
}

/// Who has a record, and until when (monotonic clock).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lock {
    pub(super) member: Str,
    pub(super) until_ms: i64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) state: RecordState,
    pub(super) delivery_count: i16,
    /// While it is lent, and while an acknowledgement of it is being stored.
    pub(super) lock: Option<Lock>,
    /// Its state is being stored; only then does it count.
    pub(super) storing: Option<StoreId>,
}

impl Slot {
    pub(super) fn new(state: RecordState, delivery_count: i16) -> Slot {
        Slot { state, delivery_count, lock: None, storing: None }
    }

    /// Can be lent.
    pub(super) fn is_free(&self) -> bool {
        self.state == RecordState::Available && self.storing.is_none()
    }

    /// Done with, and nothing can undo it.
    pub(super) fn is_settled(&self) -> bool {
        self.state.is_terminal() && self.storing.is_none()
    }

    pub(super) fn is_lent_to(&self, member: &str) -> bool {
        self.state == RecordState::Acquired && self.lock.as_ref().is_some_and(|lock| lock.member == *member)
    }

    pub(super) fn is_overdue(&self, now_ms: i64) -> bool {
        self.lock.as_ref().is_some_and(|lock| lock.until_ms <= now_ms)
    }

    /// The state of a record that is given back: it is given up once it has been lent often enough.
    pub(super) fn given_back(&self, max_delivery_count: i16) -> RecordState {
        if self.delivery_count >= max_delivery_count { RecordState::Archived } else { RecordState::Available }
    }

    pub(super) fn archive(&mut self) {
        *self = Slot::new(RecordState::Archived, self.delivery_count);
    }

    /// What was being stored is stored, or cannot be.
    pub(super) fn stored(&mut self, succeeded: bool, now_ms: i64, max_delivery_count: i16) {
        self.storing = None;
        if succeeded {
            self.lock = None;
        } else if self.is_overdue(now_ms) {
            *self = Slot::new(self.given_back(max_delivery_count), self.delivery_count);
        } else {
            self.state = RecordState::Acquired;
        }
    }
}

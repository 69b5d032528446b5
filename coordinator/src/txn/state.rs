//! Where a transaction stands.

/// State of a transactional id (Kafka's `TransactionState`). Its `Dead` and `PrepareEpochFence` never reach a record and are
/// left out: an id that ended is not in the table, and a fence is a step towards `PrepareAbort`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TxnState {
    /// No transaction since the producer was initialised.
    Empty = 0,
    Ongoing = 1,
    /// The end is decided; markers are on their way.
    PrepareCommit = 2,
    PrepareAbort = 3,
    /// Every marker is written.
    CompleteCommit = 4,
    CompleteAbort = 5,
}

impl TxnState {
    pub const ALL: [TxnState; 6] = [
        TxnState::Empty,
        TxnState::Ongoing,
        TxnState::PrepareCommit,
        TxnState::PrepareAbort,
        TxnState::CompleteCommit,
        TxnState::CompleteAbort,
    ];

    /// As in records.
    pub fn id(self) -> i8 {
        self as i8
    }

    pub fn from_id(id: i8) -> Option<TxnState> {
        TxnState::ALL.into_iter().find(|state| state.id() == id)
    }

    /// As Kafka's tools show and filter it.
    pub fn name(self) -> &'static str {
        match self {
            TxnState::Empty => "Empty",
            TxnState::Ongoing => "Ongoing",
            TxnState::PrepareCommit => "PrepareCommit",
            TxnState::PrepareAbort => "PrepareAbort",
            TxnState::CompleteCommit => "CompleteCommit",
            TxnState::CompleteAbort => "CompleteAbort",
        }
    }

    /// The end is decided and not yet complete.
    pub fn is_prepared(self) -> bool {
        matches!(self, TxnState::PrepareCommit | TxnState::PrepareAbort)
    }

    /// Nothing is open: the id may expire, or a new transaction begin.
    pub fn is_at_rest(self) -> bool {
        matches!(self, TxnState::Empty | TxnState::CompleteCommit | TxnState::CompleteAbort)
    }
}

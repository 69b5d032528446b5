//! The machine itself.

use corelane_protocol::Str;
use hashbrown::HashMap;

use super::config::TxnConfig;
use super::expiry::Checks;
use super::outcome::{Answer, Effects, Outcome, Reply};
use super::partitions::TxnVersion;
use super::state::TxnState;
use super::transaction::{Pending, Stored, Transaction};
use super::writes::WriteLog;
use crate::Now;
use crate::group::WaitToken;

/// The transactional ids of one partition of `__transaction_state`.
///
/// To start: `replay` every record of the partition in order, then `finish_loading`. After every call write its writes, send its
/// markers, hand out its completed answers, and call `tick` at `next_deadline` at the latest. Before a call see to it that it
/// has a producer id to give out: `wants_producer_id`.
#[derive(Debug)]
pub struct TxnCoordinator {
    pub(super) config: TxnConfig,
    pub(super) transactions: HashMap<Str, Transaction>,
    pub(super) writes: WriteLog,
    pub(super) checks: Checks,
    /// Producer ids that nobody has had.
    pub(super) spare_ids: Vec<i64>,
    /// What the cluster has agreed on.
    pub(super) version: TxnVersion,
    next_token: u64,
}

/// How many there are in each state, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TxnCounts {
    pub ids: usize,
    pub ongoing: usize,
    pub ending: usize,
    pub writes_under_way: usize,
}

impl TxnCoordinator {
    pub fn new(config: TxnConfig) -> TxnCoordinator {
        TxnCoordinator {
            config,
            transactions: HashMap::new(),
            writes: WriteLog::default(),
            checks: Checks::default(),
            spare_ids: Vec::new(),
            version: TxnVersion::V2,
            next_token: 0,
        }
    }

    /// The level of transactions that the cluster has agreed on: how the broker aborts, and what it stores. Clients bring their own.
    pub fn set_version(&mut self, version: TxnVersion) {
        self.version = version;
    }

    /// Whether what is stored can tell that a transaction is of a client of `version`: below level 1 it can not, and such a client
    /// would find another epoch after a restart (Kafka: `TransactionLog.valueToBytes` throws UNSUPPORTED_VERSION).
    pub(super) fn stores(&self, version: TxnVersion) -> bool {
        version == TxnVersion::V0 || self.version.value_version() >= 1
    }

    /// Whether a call may need a producer id that it does not have; no call takes more than one, and a tick leaves what it
    /// has none for until the next one.
    pub fn wants_producer_id(&self) -> bool {
        self.spare_ids.is_empty()
    }

    pub fn add_producer_id(&mut self, id: i64) {
        self.spare_ids.push(id);
    }

    pub fn counts(&self) -> TxnCounts {
        let mut counts =
            TxnCounts { ids: self.transactions.len(), writes_under_way: self.writes.len(), ..Default::default() };
        for transaction in self.transactions.values() {
            counts.ongoing += usize::from(transaction.stored.state == TxnState::Ongoing);
            counts.ending += usize::from(transaction.stored.state.is_prepared());
        }
        counts
    }

    pub(super) fn insert(&mut self, transactional_id: &str, stored: Stored) {
        self.transactions.insert(Str::from(transactional_id.to_owned()), Transaction { stored, pending: None });
    }

    /// Begins a transition; `answer` goes out when it is durable.
    pub(super) fn begin(&mut self, now: Now, transactional_id: &str, pending: Pending, answer: Answer) -> Outcome {
        let mut effects = Effects::default();
        self.next_token += 1;
        let token = WaitToken(self.next_token);
        self.write(transactional_id, pending, Some((token, answer)), &mut effects);
        self.settle(now, &mut effects);
        let own = effects.completed.iter().position(|completed| completed.token == token);
        let reply = match own.map(|position| effects.completed.remove(position)) {
            Some(completed) => Reply::Now(completed.answer),
            None => Reply::Later(token),
        };
        Outcome { reply, effects }
    }
}

//! DescribeTransactions and ListTransactions.

use corelane_protocol::messages::{
    DescribeTransactionsResponseTopicData, DescribeTransactionsResponseTransactionState,
    ListTransactionsResponseTransactionState,
};
use corelane_protocol::{ErrorCode, Str};

use super::coordinator::TxnCoordinator;
use super::state::TxnState;
use super::transaction::Transaction;
use crate::Now;

/// What ListTransactions asks for; empty lists ask for everything.
#[derive(Clone, Debug, Default)]
pub struct ListFilter {
    pub producer_ids: Vec<i64>,
    pub states: Vec<TxnState>,
    /// Transactions that began longer ago than this; negative: all.
    pub duration_ms: i64,
}

impl TxnCoordinator {
    pub fn describe(&self, transactional_id: &Str) -> DescribeTransactionsResponseTransactionState {
        let transactional_id = transactional_id.clone();
        let failed = |error: ErrorCode| DescribeTransactionsResponseTransactionState {
            error_code: error.code(),
            transactional_id: transactional_id.clone(),
            ..Default::default()
        };
        if transactional_id.is_empty() {
            return failed(ErrorCode::InvalidRequest);
        }
        let Some(found) = self.transactions.get(&transactional_id) else {
            return failed(ErrorCode::TransactionalIdNotFound);
        };
        let stored = &found.stored;
        let topics = stored.partitions.topics().map(|(topic, partitions)| DescribeTransactionsResponseTopicData {
            topic: topic.clone(),
            partitions: partitions.iter().copied().collect(),
            ..Default::default()
        });
        DescribeTransactionsResponseTransactionState {
            transaction_state: Str::from_static(stored.state.name()),
            transaction_timeout_ms: stored.timeout_ms,
            transaction_start_time_ms: stored.started_ms,
            producer_id: stored.producer.id,
            producer_epoch: stored.producer.epoch,
            topics: topics.collect(),
            ..failed(ErrorCode::None)
        }
    }

    /// The ids that pass the filter and whose name does, in no particular order.
    pub fn list(
        &self,
        now: Now,
        filter: &ListFilter,
        is_wanted: impl Fn(&str) -> bool,
    ) -> Vec<ListTransactionsResponseTransactionState> {
        let passes = |transaction: &Transaction| {
            let stored = &transaction.stored;
            (filter.producer_ids.is_empty() || filter.producer_ids.contains(&stored.producer.id))
                && (filter.states.is_empty() || filter.states.contains(&stored.state))
                && (filter.duration_ms < 0 || now.wall_ms.saturating_sub(stored.started_ms) > filter.duration_ms)
        };
        let found = self.transactions.iter().filter(|(id, transaction)| passes(transaction) && is_wanted(id));
        let state = |(id, transaction): (&Str, &Transaction)| ListTransactionsResponseTransactionState {
            transactional_id: id.clone(),
            producer_id: transaction.stored.producer.id,
            transaction_state: Str::from_static(transaction.stored.state.name()),
            ..Default::default()
        };
        found.map(state).collect()
    }
}

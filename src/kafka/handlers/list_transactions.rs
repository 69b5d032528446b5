//! ListTransactions (KIP-664), of all coordinators of this broker; by duration from v1 on, by a pattern of ids from v2 on.

use corelane_coordinator::re2;
use corelane_coordinator::txn::{ListFilter, TxnState};
use corelane_protocol::ErrorCode;
use corelane_protocol::messages::{ListTransactionsRequest, ListTransactionsResponse};

use crate::coordinator::every_transaction;
use crate::kafka::request::RequestContext;

pub async fn handle(context: RequestContext, request: ListTransactionsRequest) -> ListTransactionsResponse {
    let mut response = ListTransactionsResponse::default();
    let mut filter = ListFilter {
        producer_ids: request.producer_id_filters,
        states: Vec::new(),
        duration_ms: request.duration_filter,
    };
    // Kafka knows two more names, of states that nobody sees from outside.
    let invisible = |name: &str| matches!(name, "Dead" | "PrepareEpochFence");
    let asks_for_some = !request.state_filters.is_empty();
    for name in request.state_filters {
        match TxnState::ALL.into_iter().find(|state| state.name() == name.as_str()) {
            Some(state) => filter.states.push(state),
            None if invisible(&name) => {}
            None if response.unknown_state_filters.contains(&name) => {}
            None => response.unknown_state_filters.push(name),
        }
    }
    let pattern = match request.transactional_id_pattern.filter(|pattern| !pattern.is_empty()).map(|p| re2::compile(&p))
    {
        None => None,
        Some(Ok(pattern)) => Some(pattern),
        Some(Err(_)) => {
            return refused(ErrorCode::InvalidRegularExpression);
        }
    };
    let nothing_passes = asks_for_some && filter.states.is_empty();
    let question = move |txns: &corelane_coordinator::txn::TxnCoordinator, now| {
        txns.list(now, &filter, |id| !nothing_passes && pattern.as_ref().is_none_or(|pattern| pattern.is_match(id)))
    };
    match every_transaction(&context.shard, question).await {
        Ok(states) => ListTransactionsResponse { transaction_states: states, ..response },
        Err(error) => refused(error),
    }
}

/// Then nothing is told of the filters either.
fn refused(error: ErrorCode) -> ListTransactionsResponse {
    ListTransactionsResponse { error_code: error.code(), ..Default::default() }
}

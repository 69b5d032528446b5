//! DescribeTransactions (KIP-664).

use corelane_protocol::messages::{
    DescribeTransactionsRequest, DescribeTransactionsResponse, DescribeTransactionsResponseTransactionState,
};

use crate::coordinator::ask_transaction;
use crate::kafka::request::RequestContext;

pub async fn handle(context: RequestContext, request: DescribeTransactionsRequest) -> DescribeTransactionsResponse {
    let mut states = Vec::with_capacity(request.transactional_ids.len());
    for transactional_id in request.transactional_ids {
        let id = transactional_id.clone();
        let described = ask_transaction(&context.shard, &transactional_id, move |txns, _| txns.describe(&id)).await;
        states.push(described.unwrap_or_else(|error| DescribeTransactionsResponseTransactionState {
            error_code: error.code(),
            transactional_id,
            ..Default::default()
        }));
    }
    DescribeTransactionsResponse { transaction_states: states, ..Default::default() }
}

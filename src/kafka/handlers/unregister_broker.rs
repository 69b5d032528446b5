//! UnregisterBroker (KIP-500): a broker that is gone for good is forgotten. There is one node, and it runs.

use corelane_protocol::ErrorCode;
use corelane_protocol::messages::{UnregisterBrokerRequest, UnregisterBrokerResponse};

use crate::controller::Refused;
use crate::kafka::request::RequestContext;

pub async fn handle(context: RequestContext, request: UnregisterBrokerRequest) -> UnregisterBrokerResponse {
    let id = request.broker_id;
    let refused = match context.shard.node.is_broker(id) {
        // Kafka does it, and no partition has a leader until the next start.
        true => Refused::new(
            ErrorCode::InvalidRequest,
            format!("Broker {id} runs, and is the only node: without it no partition has a leader"),
        ),
        false => Refused::new(ErrorCode::BrokerIdNotRegistered, format!("There is no broker {id}")),
    };
    let (error_code, error_message) = super::outcome_of(Err(refused));
    UnregisterBrokerResponse { error_code, error_message, ..Default::default() }
}

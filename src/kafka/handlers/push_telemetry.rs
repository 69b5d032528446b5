//! PushTelemetry (KIP-714): metrics of a client.

use std::future::Future;
use std::rc::Rc;

use core_pinning::time::now;
use corelane_protocol::ErrorCode;
use corelane_protocol::messages::{PushTelemetryRequest, PushTelemetryResponse};

use crate::kafka::request::RequestContext;
use crate::kafka::telemetry::{Attributes, Push, home, receive};
use crate::router::ShardCall;
use crate::shard::Shard;

struct PushCall {
    push: Push,
    client: Attributes,
}

impl ShardCall for PushCall {
    /// Whether it is taken, and whether the instance is new.
    type Reply = (Result<(), ErrorCode>, bool);

    fn run(self, shard: &Rc<Shard>) -> impl Future<Output = Self::Reply> + 'static {
        let told = shard.telemetry.push(self.push, self.client, shard.of_this_broker().count(), now());
        std::future::ready((told.answer, told.is_new))
    }
}

pub async fn handle(context: RequestContext, request: PushTelemetryRequest) -> PushTelemetryResponse {
    let error_code = push(&context, &request).await.err().unwrap_or(ErrorCode::None).code();
    PushTelemetryResponse { error_code, ..Default::default() }
}

async fn push(context: &RequestContext, request: &PushTelemetryRequest) -> Result<(), ErrorCode> {
    let RequestContext { shard, client, .. } = context;
    let (id, attributes) = (request.client_instance_id, client.attributes());
    let max_size = shard.config.broker().telemetry_max_bytes.max(0) as usize;
    let push = Push {
        id,
        subscription_id: request.subscription_id,
        terminating: request.terminating,
        compression: request.compression_type,
        size: request.metrics.len(),
        max_size,
    };
    let call = PushCall { push, client: attributes.clone() };
    let (answer, is_new) = shard.router.call(shard, home(shard, id), call).await;
    if is_new {
        client.pushes_as(id);
    }
    answer?;
    match request.metrics.is_empty() {
        true => Ok(()),
        false => {
            let packed = (request.compression_type, &request.metrics);
            receive(&shard.telemetry, (id, &attributes), request.terminating, packed, max_size)
        }
    }
}

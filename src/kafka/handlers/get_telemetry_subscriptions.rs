//! GetTelemetrySubscriptions (KIP-714): which metrics a client shall push, and how often.

use std::future::Future;
use std::rc::Rc;

use core_pinning::time::now;
use corelane_protocol::messages::{GetTelemetrySubscriptionsRequest, GetTelemetrySubscriptionsResponse};
use corelane_protocol::{ErrorCode, Uuid};

use crate::kafka::request::RequestContext;
use crate::kafka::telemetry::{Attributes, Wanted, home, new_id};
use crate::router::ShardCall;
use crate::shard::Shard;

/// Kafka's codes of what it takes, in its order: zstd, lz4, gzip, snappy.
const COMPRESSIONS: [i8; 4] = [4, 3, 1, 2];

struct GetCall {
    id: Uuid,
    client: Attributes,
}

impl ShardCall for GetCall {
    /// What is wanted, and whether the instance is new.
    type Reply = (Result<Wanted, ErrorCode>, bool);

    fn run(self, shard: &Rc<Shard>) -> impl Future<Output = Self::Reply> + 'static {
        let told = shard.telemetry.get(self.id, self.client, shard.of_this_broker().count(), now());
        std::future::ready((told.answer.map(|wanted| (*wanted).clone()), told.is_new))
    }
}

pub async fn handle(
    context: RequestContext,
    request: GetTelemetrySubscriptionsRequest,
) -> GetTelemetrySubscriptionsResponse {
    let RequestContext { shard, client, .. } = &context;
    let id = match request.client_instance_id {
        Uuid::ZERO => new_id(),
        id => id,
    };
    let call = GetCall { id, client: client.attributes() };
    let (answer, is_new) = shard.router.call(shard, home(shard, id), call).await;
    if is_new {
        client.pushes_as(id);
    }
    match answer {
        Err(error) => GetTelemetrySubscriptionsResponse { error_code: error.code(), ..Default::default() },
        Ok(wanted) => GetTelemetrySubscriptionsResponse {
            client_instance_id: id,
            subscription_id: wanted.subscription_id,
            accepted_compression_types: COMPRESSIONS.to_vec(),
            push_interval_ms: wanted.interval_ms,
            telemetry_max_bytes: shard.config.broker().telemetry_max_bytes,
            delta_temporality: true,
            requested_metrics: wanted.metrics.into_iter().map(Into::into).collect(),
            ..Default::default()
        },
    }
}

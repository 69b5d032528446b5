//! AddOffsetsToTxn: a transaction will commit offsets of a group, whose partition of `__consumer_offsets` joins it.

use corelane_coordinator::txn::{Partitions, Producer, TxnVersion};
use corelane_protocol::messages::{AddOffsetsToTxnRequest, AddOffsetsToTxnResponse};
use corelane_protocol::{ErrorCode, Str};

use super::end_txn::fenced;
use crate::controller::image::OFFSETS_TOPIC;
use crate::coordinator::{create_internal_topic, group_partition, with_transaction};
use crate::kafka::request::RequestContext;

/// First version that knows PRODUCER_FENCED.
const FENCED_FROM: i16 = 2;

pub async fn handle(context: RequestContext, request: AddOffsetsToTxnRequest) -> AddOffsetsToTxnResponse {
    let error = add(&context, request).await.err().unwrap_or(ErrorCode::None);
    AddOffsetsToTxnResponse { error_code: fenced(context.version >= FENCED_FROM, error).code(), ..Default::default() }
}

async fn add(context: &RequestContext, request: AddOffsetsToTxnRequest) -> Result<Producer, ErrorCode> {
    if context.shard.image().topic_named(OFFSETS_TOPIC).is_none() {
        create_internal_topic(&context.shard, OFFSETS_TOPIC).await?;
    }
    let image = context.shard.image();
    let topic = image.topic_named(OFFSETS_TOPIC).ok_or(ErrorCode::CoordinatorNotAvailable)?;
    let partition = group_partition(topic, &request.group_id) as i32;
    let partitions = Partitions::from_iter([(Str::from_static(OFFSETS_TOPIC), partition)]);
    let producer = Producer { id: request.producer_id, epoch: request.producer_epoch };
    let (id, key) = (request.transactional_id.clone(), request.transactional_id);
    with_transaction(&context.shard, &key, move |txns, now| {
        txns.add_partitions(now, &id, producer, &partitions, TxnVersion::V0)
    })
    .await
}

//! The topics that coordinators keep their records in.

use std::collections::BTreeMap;
use std::rc::Rc;

use corelane_protocol::ErrorCode;

use crate::controller::image::{SHARE_STATE_TOPIC, TRANSACTION_TOPIC};
use crate::controller::requests::{CreateTopics, NewTopic, create_each};
use crate::shard::Shard;

pub async fn create_internal_topic(shard: &Rc<Shard>, name: &str) -> Result<(), ErrorCode> {
    let broker = shard.config.broker();
    let (partitions, segment_bytes, compression) = match name {
        TRANSACTION_TOPIC => {
            (broker.transactions.topic_partitions, broker.transactions.topic_segment_bytes, "uncompressed")
        }
        SHARE_STATE_TOPIC => {
            (broker.share_states.topic_partitions, broker.share_states.topic_segment_bytes, "producer")
        }
        _ => (broker.offsets.topic_partitions, broker.offsets.topic_segment_bytes, "producer"),
    };
    let mut configs = vec![
        ("cleanup.policy", "compact".to_owned()),
        ("compression.type", compression.to_owned()),
        ("segment.bytes", segment_bytes.to_string()),
    ];
    if name == SHARE_STATE_TOPIC {
        // Pruned by its coordinator, which knows what is needed.
        configs[0].1 = "delete".to_owned();
        configs.extend([("min.insync.replicas", "1".to_owned()), ("retention.ms", "-1".to_owned())]);
    }
    let topic = NewTopic {
        partitions,
        configs: configs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect::<BTreeMap<_, _>>(),
        internal: true,
        ..NewTopic::with_defaults(name)
    };
    let created = create_each(shard, CreateTopics { topics: vec![topic], validate_only: false, mutator: None }).await;
    match created.into_iter().next() {
        Some(Ok(_)) => Ok(()),
        // Another request was faster.
        Some(Err(refused)) if refused.code == ErrorCode::TopicAlreadyExists => Ok(()),
        Some(Err(refused)) => {
            tracing::error!(topic = name, message = refused.message, "a coordinator's topic could not be created");
            Err(ErrorCode::CoordinatorNotAvailable)
        }
        None => Err(ErrorCode::CoordinatorNotAvailable),
    }
}

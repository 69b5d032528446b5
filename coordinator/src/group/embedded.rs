//! The consumer protocol as members of classic groups embed it: what they subscribe to, and what they are assigned.
//! (Kafka: `ConsumerProtocol`. A version in two bytes, then the message.)

use bytes::Bytes;
use corelane_protocol::record_frame::encode_versioned;
use corelane_protocol::records::data::{
    ConsumerProtocolAssignment, ConsumerProtocolAssignmentTopicPartition, ConsumerProtocolSubscription,
};
use corelane_protocol::{DecodeError, Decoder, EncodeError, Message};

use super::modern::partitions::Partitions;
use super::modern::topics::Topics;

pub(crate) fn subscription(metadata: &Bytes) -> Result<ConsumerProtocolSubscription, DecodeError> {
    decode(metadata)
}

pub(crate) fn assignment(bytes: &Bytes) -> Result<ConsumerProtocolAssignment, DecodeError> {
    decode(bytes)
}

/// The assignment in the version that a member's `metadata` is of. Topics that are gone are left out.
pub(crate) fn encode_assignment(
    metadata: &Bytes,
    partitions: &Partitions,
    topics: &dyn Topics,
) -> Result<Result<Bytes, EncodeError>, DecodeError> {
    let version = version::<ConsumerProtocolAssignment>(&mut Decoder::new(metadata.clone()))?;
    let topic = |(id, partitions): (&corelane_protocol::Uuid, &std::collections::BTreeSet<i32>)| {
        let topic = topics.with_id(*id)?.name;
        let partitions = partitions.iter().copied().collect();
        Some(ConsumerProtocolAssignmentTopicPartition { topic, partitions })
    };
    let assigned_partitions = partitions.iter().filter_map(topic).collect();
    Ok(encode_versioned(&ConsumerProtocolAssignment { assigned_partitions, user_data: None }, version))
}

fn decode<M: Message>(bytes: &Bytes) -> Result<M, DecodeError> {
    let mut decoder = Decoder::new(bytes.clone());
    let version = version::<M>(&mut decoder)?;
    M::decode(&mut decoder, version)
}

/// Newer versions begin like the newest one that is known.
fn version<M: Message>(decoder: &mut Decoder) -> Result<i16, DecodeError> {
    match decoder.i16()? {
        version @ ..0 => Err(DecodeError::UnsupportedVersion { message: M::NAME, version }),
        version => Ok(version.min(M::MAX_VERSION)),
    }
}

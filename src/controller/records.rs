//! The records of the metadata log, in Kafka's own schemas and framing (KIP-746: frame version, type, version, body).

use bytes::Bytes;
use corelane_protocol::Uuid;
use corelane_protocol::records::metadata::{
    ConfigRecord, FeatureLevelRecord, MetadataRecord as Schema, PartitionRecord, ProducerIdsRecord, RemoveTopicRecord,
    TopicRecord,
};
use corelane_storage::model::TopicId;

use super::image::ResourceType;

/// What Corelane writes into the metadata log. A record of another kind or of a later version ends the start: the data
/// directory is from a newer release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MetadataRecord {
    Topic {
        name: String,
        id: TopicId,
    },
    Partition {
        topic: TopicId,
        partition: u32,
    },
    RemoveTopic {
        id: TopicId,
    },
    /// `value: None` takes the override away.
    Config {
        kind: ResourceType,
        resource: String,
        name: String,
        value: Option<String>,
    },
    /// All ids below `next` may be in use.
    ProducerIds {
        next: i64,
    },
    /// A level that the cluster has agreed on; 0: without the feature.
    Feature {
        name: String,
        level: i16,
    },
}

#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    #[error("metadata record of type {0} is unknown here: the data directory may be of a newer release")]
    Unknown(i16),
    #[error("metadata record: {0}")]
    Decode(#[from] corelane_protocol::DecodeError),
    #[error("metadata record: {0} is out of bounds")]
    Bounds(&'static str),
}

impl MetadataRecord {
    /// Frame and body, as one record's value; at version 0, which every release reads.
    pub fn encode(&self) -> Bytes {
        let record = match self {
            MetadataRecord::Topic { name, id } => {
                Schema::Topic(TopicRecord { name: name.clone().into(), topic_id: Uuid(id.0), ..Default::default() })
            }
            MetadataRecord::Partition { topic, partition } => Schema::Partition(PartitionRecord {
                partition_id: *partition as i32,
                topic_id: Uuid(topic.0),
                ..Default::default()
            }),
            MetadataRecord::RemoveTopic { id } => {
                Schema::RemoveTopic(RemoveTopicRecord { topic_id: Uuid(id.0), ..Default::default() })
            }
            MetadataRecord::Config { kind, resource, name, value } => Schema::Config(ConfigRecord {
                resource_type: *kind as i8,
                resource_name: resource.clone().into(),
                name: name.clone().into(),
                value: value.clone().map(Into::into),
                ..Default::default()
            }),
            MetadataRecord::ProducerIds { next } => {
                Schema::ProducerIds(ProducerIdsRecord { next_producer_id: *next, ..Default::default() })
            }
            MetadataRecord::Feature { name, level } => Schema::FeatureLevel(FeatureLevelRecord {
                name: name.clone().into(),
                feature_level: *level,
                ..Default::default()
            }),
        };
        record.encode(0).expect("only fields of version 0 are set, and names and values were bounded by their frame")
    }

    pub fn decode(value: Bytes) -> Result<MetadataRecord, RecordError> {
        let (record, _) = Schema::decode(value)?;
        Ok(match record {
            Schema::Topic(topic) => {
                MetadataRecord::Topic { name: topic.name.to_string(), id: TopicId(topic.topic_id.0) }
            }
            Schema::Partition(record) => MetadataRecord::Partition {
                topic: TopicId(record.topic_id.0),
                partition: u32::try_from(record.partition_id).map_err(|_| RecordError::Bounds("partition"))?,
            },
            Schema::RemoveTopic(record) => MetadataRecord::RemoveTopic { id: TopicId(record.topic_id.0) },
            Schema::Config(record) => MetadataRecord::Config {
                kind: ResourceType::from_code(record.resource_type).ok_or(RecordError::Bounds("resource type"))?,
                resource: record.resource_name.to_string(),
                name: record.name.to_string(),
                value: record.value.map(|v| v.to_string()),
            },
            Schema::ProducerIds(record) => MetadataRecord::ProducerIds { next: record.next_producer_id },
            Schema::FeatureLevel(record) => {
                MetadataRecord::Feature { name: record.name.to_string(), level: record.feature_level }
            }
            other => return Err(RecordError::Unknown(other.record_type())),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_back_as_they_were_written() {
        let id = TopicId(*b"0123456789abcdef");
        for record in [
            MetadataRecord::Topic { name: "a.topic".into(), id },
            MetadataRecord::Partition { topic: id, partition: 7 },
            MetadataRecord::RemoveTopic { id },
            MetadataRecord::Config {
                kind: ResourceType::Broker,
                resource: "1".into(),
                name: "retention.ms".into(),
                value: None,
            },
            MetadataRecord::ProducerIds { next: 1 << 40 },
            MetadataRecord::Feature { name: "transaction.version".into(), level: 1 },
        ] {
            assert_eq!(MetadataRecord::decode(record.encode()).unwrap(), record);
        }
    }

    #[test]
    fn a_record_of_another_kind_is_refused() {
        let record = Schema::NoOp(Default::default()).encode(0).unwrap();
        assert!(matches!(MetadataRecord::decode(record), Err(RecordError::Unknown(20))));
    }
}

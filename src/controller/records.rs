//! The records of the metadata log, in Kafka's own schemas and framing (KIP-746: frame version, type, version, body).

use bytes::Bytes;
use corelane_acl::{Operation, PatternType, Permission, ResourceType as AclResourceType, Rule, RuleId};
use corelane_protocol::Uuid;
use corelane_protocol::records::metadata::{
    AccessControlEntryRecord, ClientQuotaRecord, ClientQuotaRecordEntityData, ConfigRecord, DelegationTokenRecord,
    FeatureLevelRecord, MetadataRecord as Schema, PartitionRecord, ProducerIdsRecord, RemoveAccessControlEntryRecord,
    RemoveDelegationTokenRecord, RemoveTopicRecord, RemoveUserScramCredentialRecord, TopicRecord,
    UserScramCredentialRecord,
};
use corelane_sasl::scram::{Credential, Hash};
use corelane_storage::model::TopicId;

use super::image::ResourceType;
use super::quotas::{Name, QuotaEntity};
use super::tokens::Token;
use crate::security::Principal;

/// What Corelane writes into the metadata log. A record of another kind or of a later version ends the start: the data
/// directory is from a newer release.
#[derive(Clone, Debug, PartialEq)]
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
    Acl {
        id: RuleId,
        rule: Rule,
    },
    RemoveAcl {
        id: RuleId,
    },
    /// Who may come by SCRAM, in place of what was there.
    ScramUser {
        hash: Hash,
        user: String,
        credential: Credential,
    },
    RemoveScramUser {
        hash: Hash,
        user: String,
    },
    /// In place of the one with its id.
    Token(Token),
    RemoveToken {
        id: String,
    },
    /// `value: None` takes the quota away.
    Quota {
        entity: QuotaEntity,
        key: String,
        value: Option<f64>,
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
            MetadataRecord::Acl { id, rule } => Schema::AccessControlEntry(AccessControlEntryRecord {
                id: Uuid(id.0),
                resource_type: rule.resource_type.code(),
                resource_name: rule.name.clone().into(),
                pattern_type: rule.pattern_type.code(),
                principal: rule.principal.clone().into(),
                host: rule.host.clone().into(),
                operation: rule.operation.code(),
                permission_type: rule.permission.code(),
                ..Default::default()
            }),
            MetadataRecord::RemoveAcl { id } => Schema::RemoveAccessControlEntry(RemoveAccessControlEntryRecord {
                id: Uuid(id.0),
                ..Default::default()
            }),
            MetadataRecord::ScramUser { hash, user, credential } => {
                Schema::UserScramCredential(UserScramCredentialRecord {
                    name: user.clone().into(),
                    mechanism: hash.code(),
                    salt: credential.salt.clone().into(),
                    stored_key: credential.stored_key.clone().into(),
                    server_key: credential.server_key.clone().into(),
                    iterations: credential.iterations as i32,
                    ..Default::default()
                })
            }
            MetadataRecord::RemoveScramUser { hash, user } => {
                Schema::RemoveUserScramCredential(RemoveUserScramCredentialRecord {
                    name: user.clone().into(),
                    mechanism: hash.code(),
                    ..Default::default()
                })
            }
            MetadataRecord::Token(token) => Schema::DelegationToken(DelegationTokenRecord {
                owner: token.owner.to_string().into(),
                requester: token.requester.to_string().into(),
                renewers: token.renewers.iter().map(|renewer| renewer.to_string().into()).collect(),
                issue_timestamp: token.issued_ms,
                max_timestamp: token.max_ms,
                expiration_timestamp: token.expires_ms,
                token_id: token.id.clone().into(),
                ..Default::default()
            }),
            MetadataRecord::RemoveToken { id } => Schema::RemoveDelegationToken(RemoveDelegationTokenRecord {
                token_id: id.clone().into(),
                ..Default::default()
            }),
            MetadataRecord::Quota { entity, key, value } => Schema::ClientQuota(ClientQuotaRecord {
                entity: entity
                    .parts()
                    .map(|(kind, name)| ClientQuotaRecordEntityData {
                        entity_type: kind.into(),
                        entity_name: name.to_wire(),
                        ..Default::default()
                    })
                    .collect(),
                key: key.clone().into(),
                value: value.unwrap_or_default(),
                remove: value.is_none(),
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
            Schema::AccessControlEntry(record) => MetadataRecord::Acl {
                id: RuleId(record.id.0),
                rule: rule(record).ok_or(RecordError::Bounds("access rule"))?,
            },
            Schema::RemoveAccessControlEntry(record) => MetadataRecord::RemoveAcl { id: RuleId(record.id.0) },
            Schema::UserScramCredential(record) => MetadataRecord::ScramUser {
                hash: Hash::from_code(record.mechanism).ok_or(RecordError::Bounds("SCRAM mechanism"))?,
                user: record.name.to_string(),
                credential: Credential {
                    salt: record.salt.to_vec(),
                    stored_key: record.stored_key.to_vec(),
                    server_key: record.server_key.to_vec(),
                    iterations: u32::try_from(record.iterations).map_err(|_| RecordError::Bounds("iterations"))?,
                },
            },
            Schema::RemoveUserScramCredential(record) => MetadataRecord::RemoveScramUser {
                hash: Hash::from_code(record.mechanism).ok_or(RecordError::Bounds("SCRAM mechanism"))?,
                user: record.name.to_string(),
            },
            Schema::DelegationToken(record) => {
                MetadataRecord::Token(token(record).ok_or(RecordError::Bounds("principal of a delegation token"))?)
            }
            Schema::RemoveDelegationToken(record) => MetadataRecord::RemoveToken { id: record.token_id.to_string() },
            Schema::ClientQuota(record) => {
                let parts = record
                    .entity
                    .iter()
                    .map(|part| (part.entity_type.to_string(), Name::from_wire(part.entity_name.as_deref())));
                MetadataRecord::Quota {
                    entity: QuotaEntity::from_parts(parts).map_err(|_| RecordError::Bounds("quota entity"))?,
                    key: record.key.to_string(),
                    value: (!record.remove).then_some(record.value),
                }
            }
            other => return Err(RecordError::Unknown(other.record_type())),
        })
    }
}

/// `None`: of a kind that this release does not know.
fn rule(record: AccessControlEntryRecord) -> Option<Rule> {
    Some(Rule {
        principal: record.principal.to_string(),
        resource_type: AclResourceType::from_code(record.resource_type)?,
        pattern_type: PatternType::from_code(record.pattern_type)?,
        name: record.resource_name.to_string(),
        host: record.host.to_string(),
        operation: Operation::from_code(record.operation)?,
        permission: Permission::from_code(record.permission_type)?,
    })
}

fn token(record: DelegationTokenRecord) -> Option<Token> {
    Some(Token {
        id: record.token_id.to_string(),
        owner: Principal::parse(&record.owner)?,
        requester: Principal::parse(&record.requester)?,
        renewers: record.renewers.iter().map(|renewer| Principal::parse(renewer)).collect::<Option<_>>()?,
        issued_ms: record.issue_timestamp,
        expires_ms: record.expiration_timestamp,
        max_ms: record.max_timestamp,
    })
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
            MetadataRecord::Acl {
                id: RuleId([9; 16]),
                rule: Rule {
                    principal: "User:CN=a,O=b".into(),
                    resource_type: AclResourceType::TransactionalId,
                    pattern_type: PatternType::Prefixed,
                    name: "*".into(),
                    host: "10.0.0.0/8".into(),
                    operation: Operation::TwoPhaseCommit,
                    permission: Permission::Deny,
                },
            },
            MetadataRecord::RemoveAcl { id: RuleId([9; 16]) },
            MetadataRecord::ScramUser {
                hash: Hash::Sha512,
                user: "a,=b".into(),
                credential: Credential::of_salted(Hash::Sha512, b"salted", b"salt".to_vec(), 4096),
            },
            MetadataRecord::RemoveScramUser { hash: Hash::Sha256, user: "u".into() },
            MetadataRecord::Token(Token {
                id: "AAAAAAAAAAAAAAAAAAAAAQ".into(),
                owner: Principal::parse("Group:a:b").unwrap(),
                requester: Principal::user("CN=a,O=b"),
                renewers: vec![Principal::user(""), Principal::anonymous()],
                issued_ms: 1,
                expires_ms: 2,
                max_ms: i64::MAX,
            }),
            MetadataRecord::RemoveToken { id: "t".into() },
            MetadataRecord::Quota {
                entity: QuotaEntity { user: Some(Name::Of("a".into())), client_id: Some(Name::Default), ip: None },
                key: "producer_byte_rate".into(),
                value: Some(1.5),
            },
            MetadataRecord::Quota {
                entity: QuotaEntity { ip: Some(Name::Of("::1".into())), ..QuotaEntity::default() },
                key: "connection_creation_rate".into(),
                value: None,
            },
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

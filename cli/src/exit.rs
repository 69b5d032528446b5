//! How a command ends: exit codes that scripts can rely on.

use crate::client::ClientError;
use corelane_protocol::ErrorCode;
use std::fmt;
use std::io;

/// The exit code of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    Ok = 0,
    /// Anything that has no code of its own.
    Failed = 1,
    /// Wrong flags, or a configuration that is refused.
    Usage = 2,
    /// No broker answers.
    Unreachable = 3,
    /// The topic, group or file does not exist.
    NotFound = 4,
    /// What should be created exists.
    Exists = 5,
    /// The broker understood and refuses: authorization, policy, a value out of bounds, a group in use.
    Refused = 6,
    /// Data on disk is damaged.
    Damaged = 7,
    /// Only files are damaged that a broker makes again from the data.
    Rebuilt = 8,
}

/// The list that `--help` shows.
pub const EXIT_CODES: &str = "Exit codes:
  0  done
  1  failed
  2  wrong usage, or a configuration that is refused
  3  no broker answers
  4  not found (topic, group, file)
  5  exists already
  6  refused by the broker (authorization, policy, value out of bounds, group in use)
  7  damaged data
  8  damage only to what a broker makes again from the data: indexes, snapshots of producers, marks";

/// Why a command failed: one message for people, one code for scripts. An empty message is not printed.
#[derive(Debug)]
pub struct Failure {
    pub exit: Exit,
    pub message: String,
}

impl Failure {
    pub fn new(exit: Exit, message: impl Into<String>) -> Failure {
        Failure { exit, message: message.into() }
    }

    /// How a look at files ends in which so many are damaged, or so many shortcuts.
    pub fn of_damage(damaged: u64, rebuilt: u64) -> Result<(), Failure> {
        match (damaged, rebuilt) {
            (0, 0) => Ok(()),
            (0, _) => {
                Err(Failure::new(Exit::Rebuilt, format!("damage found that a broker mends by itself ({rebuilt})")))
            }
            _ => Err(Failure::new(Exit::Damaged, format!("damage found ({damaged})"))),
        }
    }

    pub fn failed(message: impl Into<String>) -> Failure {
        Failure::new(Exit::Failed, message)
    }

    pub fn usage(message: impl Into<String>) -> Failure {
        Failure::new(Exit::Usage, message)
    }

    /// What the broker answered about `what`, with its own words where it gave any.
    pub fn server(what: &str, code: i16, message: Option<&str>) -> Failure {
        let name = ErrorCode::from_code(code).map_or_else(|| format!("error {code}"), |c| c.name().to_owned());
        let text = message.map(str::to_owned).filter(|m| !m.is_empty());
        let text = text.or_else(|| ErrorCode::from_code(code).map(|c| c.message().to_owned())).unwrap_or_default();
        Failure::new(exit_of(code), format!("{what}: {text} ({name})"))
    }
}

/// Which exit code stands for an error code of Kafka.
pub fn exit_of(code: i16) -> Exit {
    use ErrorCode as E;
    match ErrorCode::from_code(code) {
        Some(E::None) => Exit::Ok,
        Some(E::UnknownTopicOrPartition | E::UnknownTopicId | E::GroupIdNotFound | E::ResourceNotFound) => {
            Exit::NotFound
        }
        Some(E::TopicAlreadyExists) => Exit::Exists,
        Some(
            E::TopicAuthorizationFailed
            | E::GroupAuthorizationFailed
            | E::ClusterAuthorizationFailed
            | E::TransactionalIdAuthorizationFailed
            | E::SaslAuthenticationFailed
            | E::UnsupportedSaslMechanism
            | E::SecurityDisabled
            | E::UnacceptableCredential
            | E::PolicyViolation
            | E::InvalidConfig
            | E::InvalidRequest
            | E::InvalidTopicException
            | E::InvalidPartitions
            | E::InvalidReplicationFactor
            | E::InvalidReplicaAssignment
            | E::InvalidGroupId
            | E::TopicDeletionDisabled
            | E::NonEmptyGroup
            | E::GroupSubscribedToTopic
            | E::OffsetOutOfRange
            | E::RecordListTooLarge
            | E::MessageTooLarge
            | E::InvalidRecord
            | E::InvalidTimestamp
            | E::ThrottlingQuotaExceeded,
        ) => Exit::Refused,
        _ => Exit::Failed,
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

impl From<io::Error> for Failure {
    /// A reader that has seen enough (`| head`) is no failure.
    fn from(e: io::Error) -> Failure {
        if e.kind() == io::ErrorKind::BrokenPipe {
            return Failure::new(Exit::Ok, "");
        }
        Failure::failed(e.to_string())
    }
}

impl From<ClientError> for Failure {
    fn from(e: ClientError) -> Failure {
        match e {
            ClientError::Server { what, code, message } => Failure::server(&what, code, message.as_deref()),
            ClientError::Unreachable { .. } => Failure::new(Exit::Unreachable, e.to_string()),
            ClientError::NoSuchTopic(_) | ClientError::NoSuchPartition { .. } => {
                Failure::new(Exit::NotFound, e.to_string())
            }
            _ => Failure::failed(e.to_string()),
        }
    }
}

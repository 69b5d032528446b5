//! What can go wrong between this client and a broker.

use corelane_protocol::{ApiKey, ErrorCode};
use std::io;

#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("no broker answers at {address}: {error}")]
    Unreachable { address: String, error: io::Error },
    #[error("no TLS with {address}: {error}")]
    Tls { address: String, error: io::Error },
    #[error("the connection to {address} broke: {error}")]
    Lost { address: String, error: io::Error },
    #[error("the broker at {address} sent something that is not Kafka's protocol: {what}")]
    Broken { address: String, what: String },
    #[error("the broker at {address} does not support {api} in a version this client speaks")]
    Unsupported { address: String, api: ApiKey },
    #[error("{what}: error {code} {}", message.as_deref().unwrap_or_default())]
    Server { what: String, code: i16, message: Option<String> },
    #[error("topic {0} does not exist")]
    NoSuchTopic(String),
    #[error("topic {topic} has no partition {partition}")]
    NoSuchPartition { topic: String, partition: i32 },
    #[error("{0}")]
    Invalid(String),
}

impl ClientError {
    pub fn server(what: impl Into<String>, code: i16) -> ClientError {
        ClientError::Server { what: what.into(), code, message: None }
    }

    /// Turns an error code in an answer into an error.
    pub fn check(what: impl FnOnce() -> String, code: i16, message: Option<&str>) -> Result<(), ClientError> {
        if code == 0 {
            return Ok(());
        }
        Err(ClientError::Server { what: what(), code, message: message.map(str::to_owned) })
    }

    /// The same call may succeed a little later, perhaps at another broker.
    pub fn is_retriable(&self) -> bool {
        match self {
            ClientError::Lost { .. } | ClientError::Unreachable { .. } => true,
            ClientError::Server { code, .. } => ErrorCode::from_code(*code).is_some_and(ErrorCode::retriable),
            _ => false,
        }
    }

    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            ClientError::Server { code, .. } => ErrorCode::from_code(*code),
            _ => None,
        }
    }
}

//! TLS of a listener (rustls): certificates and who they stand for, the handshake, and the bytes of a connection.

mod certificate;
mod context;
mod mapping;
mod session;

pub use context::TlsContext;
pub use session::TlsConn;

//! Clients of the listener that asks who one is: what scripts say as somebody, and the tokens that they send by themselves.

use corelane_protocol::Tree;
use corelane_sasl::Mechanism;
use corelane_sasl::scram::{Hash, ScramClient};
use corelane_tests::connection::Connection;
use corelane_tests::sasl::authenticate;
use std::io;
use std::num::NonZeroU32;

/// Who may come by PLAIN, each with [`password`].
pub const USERS: [&str; 3] = ["alice", "bob", "zoe"];
/// How long somebody may stay: longer than any run.
const SESSION_MS: &str = "3600000";
/// A client's part of the nonce.
const NONCE: &str = "rOprNGfwEbeRWgbNEkqO";

pub fn password(user: &str) -> String {
    format!("{user}-secret")
}

/// What a broker's listener is told; the listener is called `SASL_PLAINTEXT`.
pub fn settings() -> Vec<(&'static str, String)> {
    let users: Vec<String> = USERS.iter().map(|user| format!("user_{user}=\"{}\"", password(user))).collect();
    let users = users.join(" ");
    vec![
        ("sasl.enabled.mechanisms", "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512".to_owned()),
        ("connections.max.reauth.ms", SESSION_MS.to_owned()),
        (
            "listener.name.sasl_plaintext.plain.sasl.jaas.config",
            format!("org.apache.kafka.common.security.plain.PlainLoginModule required {users};"),
        ),
        (
            "listener.name.sasl_plaintext.scram-sha-256.sasl.jaas.config",
            "org.apache.kafka.common.security.scram.ScramLoginModule required;".to_owned(),
        ),
        (
            "listener.name.sasl_plaintext.scram-sha-512.sasl.jaas.config",
            "org.apache.kafka.common.security.scram.ScramLoginModule required;".to_owned(),
        ),
    ]
}

/// A connection of one of [`USERS`].
pub fn open(address: &str, user: &str) -> io::Result<Connection> {
    let mut connection = Connection::open(address)?;
    authenticate(&mut connection, Mechanism::Plain, user, &password(user))?;
    Ok(connection)
}

/// Tokens, as scripts write them; `None`: another function.
///
/// | call | value |
/// |---|---|
/// | `scram(mechanism, user)` | a client's first message |
/// | `proof(mechanism, user, password, challenge)` | its answer |
/// | `flipped(token, place, bits)` | with other bits at this place from the end |
/// | `salted(mechanism, password, salt, n)` | what a broker is given of a password |
pub fn call(name: &str, a: &[Tree]) -> Option<Result<Tree, String>> {
    let text = |at: usize| match a.get(at) {
        Some(Tree::Text(text)) => Ok(text.as_str()),
        other => Err(format!("a text instead of {other:?}")),
    };
    let bytes = |at: usize| match a.get(at) {
        Some(Tree::Bytes(bytes)) => Ok(bytes.to_vec()),
        other => Err(format!("bytes instead of {other:?}")),
    };
    let hash = || match Mechanism::named(text(0)?) {
        Some(Mechanism::Scram(hash)) => Ok::<Hash, String>(hash),
        _ => Err(format!("no mechanism of SCRAM: {}", text(0)?)),
    };
    let number = |at: usize| match a.get(at) {
        Some(Tree::Int(n)) => usize::try_from(*n).map_err(|e| e.to_string()),
        other => Err(format!("a number instead of {other:?}")),
    };
    let make = || -> Result<Vec<u8>, String> {
        match name {
            "scram" => Ok(ScramClient::new(hash()?, text(1)?, "", NONCE).first()),
            "proof" => {
                let mut client = ScramClient::new(hash()?, text(1)?, text(2)?, NONCE);
                client.last(&bytes(3)?).map_err(|e| e.to_string())
            }
            "flipped" => {
                let (mut token, place, bits) = (bytes(0)?, number(1)?, number(2)?);
                let byte = token.iter_mut().rev().nth(place).ok_or("a place in the token")?;
                *byte ^= u8::try_from(bits).map_err(|e| e.to_string())?;
                Ok(token)
            }
            _ => {
                let n = u32::try_from(number(3)?).ok().and_then(NonZeroU32::new).ok_or("a number above 0")?;
                Ok(hash()?.salted_password(text(1)?, &bytes(2)?, n))
            }
        }
    };
    ["scram", "proof", "flipped", "salted"].contains(&name).then(|| make().map(|bytes| Tree::Bytes(bytes.into())))
}

//! A client's part of SASL on a raw connection.

use crate::connection::Connection;
use corelane_protocol::messages::{
    SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeRequest, SaslHandshakeResponse,
};
use corelane_sasl::scram::{Hash, ScramClient};
use corelane_sasl::{Mechanism, oauth, plain};
use std::io;

fn failed(why: impl ToString) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, why.to_string())
}

pub fn handshake(connection: &mut Connection, version: i16, mechanism: &str) -> io::Result<SaslHandshakeResponse> {
    let request = SaslHandshakeRequest { mechanism: mechanism.to_owned().into() };
    connection.try_call(version, &request)
}

/// One token and the answer to it, whatever that is.
pub fn token(connection: &mut Connection, version: i16, token: Vec<u8>) -> io::Result<SaslAuthenticateResponse> {
    let request = SaslAuthenticateRequest { auth_bytes: token.into(), ..Default::default() };
    connection.try_call(version, &request)
}

fn accepted(connection: &mut Connection, bytes: Vec<u8>) -> io::Result<SaslAuthenticateResponse> {
    let answer = token(connection, 2, bytes)?;
    match answer.error_code {
        0 => Ok(answer),
        code => Err(failed(format!("error {code}: {}", answer.error_message.as_deref().unwrap_or_default()))),
    }
}

/// The whole of it; gives the last answer. A refusal is `PermissionDenied`. The password of OAUTHBEARER is the token.
pub fn authenticate(
    connection: &mut Connection,
    mechanism: Mechanism,
    user: &str,
    password: &str,
) -> io::Result<SaslAuthenticateResponse> {
    shake(connection, mechanism)?;
    match mechanism {
        Mechanism::Plain => accepted(connection, plain::token(user, password)),
        Mechanism::OAuthBearer => {
            let answer = accepted(connection, oauth::first_message(password))?;
            match answer.auth_bytes.is_empty() {
                true => Ok(answer),
                false => accepted(connection, vec![1]),
            }
        }
        Mechanism::Scram(hash) => scram(connection, ScramClient::new(hash, user, password, NONCE)),
    }
}

/// The same with a delegation token: its id, and the text of its HMAC.
pub fn authenticate_by_token(
    connection: &mut Connection,
    hash: Hash,
    id: &str,
    hmac: &str,
) -> io::Result<SaslAuthenticateResponse> {
    shake(connection, Mechanism::Scram(hash))?;
    scram(connection, ScramClient::of_token(hash, id, hmac, NONCE))
}

const NONCE: &str = "rOprNGfwEbeRWgbNEkqO";

fn scram(connection: &mut Connection, mut client: ScramClient) -> io::Result<SaslAuthenticateResponse> {
    let challenge = accepted(connection, client.first())?;
    let last = client.last(&challenge.auth_bytes).map_err(failed)?;
    let answer = accepted(connection, last)?;
    client.verify(&answer.auth_bytes).map_err(failed)?;
    Ok(answer)
}

/// A handshake that goes well.
fn shake(connection: &mut Connection, mechanism: Mechanism) -> io::Result<()> {
    match handshake(connection, 1, mechanism.name())?.error_code {
        0 => Ok(()),
        code => Err(failed(format!("error {code} of the handshake"))),
    }
}

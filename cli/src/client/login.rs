//! A client's part of SASL: the handshake, then tokens until the broker knows who it is.

use super::connection::Connection;
use super::error::ClientError;
use super::security::Login;
use corelane_protocol::ErrorCode;
use corelane_protocol::messages::{SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeRequest};
use corelane_sasl::scram::{ScramClient, ServerFault};
use corelane_sasl::{oauth, plain};
use std::time::Duration;

/// Shows who this is; gives how long that lasts, where the broker says so (KIP-368).
pub fn authenticate(connection: &mut Connection, login: &Login) -> Result<Option<Duration>, ClientError> {
    let mechanism = login.mechanism();
    let request = SaslHandshakeRequest { mechanism: mechanism.name().into() };
    let shaken = connection.call(&request)?;
    if shaken.error_code == ErrorCode::UnsupportedSaslMechanism.code() {
        let offered: Vec<&str> = shaken.mechanisms.iter().map(|m| &**m).collect();
        let message = format!("the broker offers {}, not {mechanism}", offered.join(", "));
        return Err(ClientError::Server { what: user(login), code: shaken.error_code, message: Some(message) });
    }
    ClientError::check(|| user(login), shaken.error_code, None)?;
    let last = match login {
        Login::Plain { user, password } => token(connection, login, plain::token(user, password.reveal()))?,
        Login::Scram { hash, user, password, is_token } => {
            let fault = |connection: &Connection, fault: ServerFault| connection.broken(fault.to_string());
            let begin = if *is_token { ScramClient::of_token } else { ScramClient::new };
            let mut client = begin(*hash, user, password.reveal(), &nonce());
            let challenge = token(connection, login, client.first())?;
            let proof = client.last(&challenge.auth_bytes).map_err(|e| fault(connection, e))?;
            let answer = token(connection, login, proof)?;
            client.verify(&answer.auth_bytes).map_err(|e| fault(connection, e))?;
            answer
        }
        Login::OAuthBearer(source) => {
            let answer = token(connection, login, oauth::first_message(&source.token()?))?;
            // The broker says what is wrong, and refuses once it knows that it was heard (RFC 7628, 3.2.3).
            if answer.auth_bytes.is_empty() { answer } else { token(connection, login, vec![1])? }
        }
    };
    let lifetime = u64::try_from(last.session_lifetime_ms).ok().filter(|ms| *ms > 0);
    Ok(lifetime.map(Duration::from_millis))
}

fn token(connection: &mut Connection, login: &Login, token: Vec<u8>) -> Result<SaslAuthenticateResponse, ClientError> {
    let request = SaslAuthenticateRequest { auth_bytes: token.into(), ..Default::default() };
    let answer = connection.call(&request)?;
    ClientError::check(|| user(login), answer.error_code, answer.error_message.as_deref())?;
    Ok(answer)
}

fn user(login: &Login) -> String {
    match login {
        Login::Plain { user, .. } | Login::Scram { user, is_token: false, .. } => format!("user {user}"),
        Login::Scram { user, .. } => format!("delegation token {user}"),
        Login::OAuthBearer(source) => format!("the bearer of {source}"),
    }
}

/// Random, printable and without commas.
fn nonce() -> String {
    format!("{:032x}", rand::random::<u128>())
}

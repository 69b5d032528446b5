//! A client's part of SASL: the handshake, then tokens until the broker knows who it is.

use super::connection::Connection;
use super::error::ClientError;
use super::security::Login;
use corelane_protocol::ErrorCode;
use corelane_protocol::messages::{SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeRequest};
use corelane_sasl::scram::{ScramClient, ServerFault};
use corelane_sasl::{Mechanism, plain};
use std::time::Duration;

/// Shows who this is; gives how long that lasts, where the broker says so (KIP-368).
pub fn authenticate(connection: &mut Connection, login: &Login) -> Result<Option<Duration>, ClientError> {
    let request = SaslHandshakeRequest { mechanism: login.mechanism.name().into() };
    let shaken = connection.call(&request)?;
    if shaken.error_code == ErrorCode::UnsupportedSaslMechanism.code() {
        let offered: Vec<&str> = shaken.mechanisms.iter().map(|m| &**m).collect();
        let message = format!("the broker offers {}, not {}", offered.join(", "), login.mechanism);
        return Err(ClientError::Server { what: user(login), code: shaken.error_code, message: Some(message) });
    }
    ClientError::check(|| user(login), shaken.error_code, None)?;
    let password = login.password.reveal();
    let last = match login.mechanism {
        Mechanism::OAuthBearer => {
            return Err(ClientError::Invalid(format!("{} is not spoken by this client", login.mechanism)));
        }
        Mechanism::Plain => token(connection, login, plain::token(&login.user, password))?,
        Mechanism::Scram(hash) => {
            let fault = |connection: &Connection, fault: ServerFault| connection.broken(fault.to_string());
            let mut client = ScramClient::new(hash, &login.user, password, &nonce());
            let challenge = token(connection, login, client.first())?;
            let proof = client.last(&challenge.auth_bytes).map_err(|e| fault(connection, e))?;
            let answer = token(connection, login, proof)?;
            client.verify(&answer.auth_bytes).map_err(|e| fault(connection, e))?;
            answer
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
    format!("user {}", login.user)
}

/// Random, printable and without commas.
fn nonce() -> String {
    format!("{:032x}", rand::random::<u128>())
}

//! The broker's half.

use super::first_message::FirstMessage;
use crate::exchange::{Exchange, Failure, Step, Users};

/// What the client is told of a token that is not believed, whatever the reason (Kafka's `OAuthBearerValidatorCallbackHandler`).
const INVALID_TOKEN: &str = "{\"status\":\"invalid_token\"}";
/// What the client then says (RFC 7628, 3.2.3).
const ACKNOWLEDGED: &[u8] = &[1];

#[derive(Default)]
pub struct OAuthServer {
    state: State,
}

#[derive(Default)]
enum State {
    #[default]
    Begun,
    /// The client has to acknowledge that its token is not believed.
    Denied,
    Over,
}

impl OAuthServer {
    fn first(message: &[u8], users: &dyn Users) -> Step {
        let first = match FirstMessage::parse(message) {
            Ok(first) => first,
            Err(why) => return Step::Failed(Failure::Untold(why)),
        };
        let identity = match users.bearer(first.token) {
            Ok(identity) => identity,
            Err(reason) => return Step::Denied { answer: INVALID_TOKEN.as_bytes().to_vec(), reason },
        };
        if !first.authorize.is_empty() && first.authorize != identity.user {
            return Step::Failed(Failure::ToldOther {
                told: format!(
                    "Authentication failed: Client requested an authorization id ({}) that is different from the token's principal \
                     name ({})",
                    first.authorize, identity.user
                ),
                reason: Some("another authorization id than the token names"),
            });
        }
        Step::Done(Vec::new(), identity)
    }
}

impl Exchange for OAuthServer {
    fn step(&mut self, token: &[u8], users: &dyn Users) -> Step {
        let step = match std::mem::replace(&mut self.state, State::Over) {
            State::Begun => OAuthServer::first(token, users),
            State::Denied if token == ACKNOWLEDGED => {
                Step::Failed(Failure::ToldOther { told: INVALID_TOKEN.to_owned(), reason: None })
            }
            // Kafka would look at another token: here one is enough for a connection.
            State::Denied | State::Over => Step::Failed(Failure::Untold("the exchange is over")),
        };
        if matches!(step, Step::Denied { .. }) {
            self.state = State::Denied;
        }
        step
    }
}

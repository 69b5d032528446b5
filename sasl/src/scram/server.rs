//! The broker's half.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};

use super::credential::Credential;
use super::hash::{Hash, xor};
use super::messages::{ClientFinal, ClientFirst};
use crate::exchange::{Exchange, Failure, Identity, Step, Users};

/// Random bytes of the broker's part of the nonce.
const NONCE: usize = 24;

pub struct ScramServer {
    hash: Hash,
    begun: Option<Begun>,
    /// The client has had its answer: it gets no second one.
    over: bool,
}

struct Begun {
    first: ClientFirst,
    /// What the broker said to it.
    challenge: String,
    /// Of both.
    nonce: String,
    credential: Arc<Credential>,
    /// Whom the right proof makes of the client; `None`: no proof is right.
    identity: Option<Identity>,
}

impl ScramServer {
    pub fn new(hash: Hash) -> ScramServer {
        ScramServer { hash, begun: None, over: false }
    }

    fn first(&mut self, token: &[u8], users: &dyn Users) -> Result<Step, Failure> {
        let first = ClientFirst::parse(token).ok_or(Failure::Untold("the first message has another form"))?;
        if !first.authorize.is_empty() && first.authorize != first.user {
            return Err(Failure::Told(
                "Authentication failed: Client requested an authorization id that is different from username",
            ));
        }
        let (credential, identity) = match first.is_token {
            true => users.token(self.hash, &first.user),
            false => (users.scram(self.hash, &first.user), Some(Identity::user(&*first.user))),
        };
        let mut random = [0; NONCE];
        SystemRandom::new().fill(&mut random).map_err(|_| Failure::Untold("no random numbers"))?;
        let nonce = format!("{}{}", first.nonce, STANDARD.encode(random));
        let challenge = format!("r={nonce},s={},i={}", STANDARD.encode(&credential.salt), credential.iterations);
        let step = Step::Challenge(challenge.clone().into_bytes());
        self.begun = Some(Begun { first, challenge, nonce, credential, identity });
        Ok(step)
    }

    fn last(&self, begun: &Begun, token: &[u8]) -> Result<Step, Failure> {
        let last = ClientFinal::parse(token).ok_or(Failure::Untold("the last message has another form"))?;
        if last.nonce != begun.nonce {
            return Err(Failure::Untold("the last message belongs to another exchange"));
        }
        if last.binding != begun.first.gs2_header.as_bytes() {
            return Err(Failure::Untold("the last message has another header than the first"));
        }
        if last.proof.len() != self.hash.size() {
            return Err(Failure::Untold("the proof has another size"));
        }
        let (hash, credential) = (self.hash, &begun.credential);
        let said = format!("{},{},{}", begun.first.bare, begun.challenge, last.without_proof);
        let signature = hash.hmac(&credential.stored_key, said.as_bytes());
        let client_key = xor(&signature, &last.proof);
        // Compared by what only the two would give under one key: in the time that any two take.
        let compare = hash.hmac_key(said.as_bytes());
        let expected = hmac::sign(&compare, &credential.stored_key);
        let shown = hmac::verify(&compare, &hash.digest(&client_key), expected.as_ref());
        let answer = format!("v={}", STANDARD.encode(hash.hmac(&credential.server_key, said.as_bytes())));
        match (shown, &begun.identity) {
            (Ok(()), Some(identity)) => Ok(Step::Done(answer.into_bytes(), identity.clone())),
            _ if begun.first.is_token => Err(Failure::Untold("wrong HMAC, or no such token")),
            _ => Err(Failure::Untold("wrong password, or no such user")),
        }
    }
}

impl Exchange for ScramServer {
    fn step(&mut self, token: &[u8], users: &dyn Users) -> Step {
        let step = match &self.begun {
            _ if self.over => Err(Failure::Untold("the exchange is over")),
            None => self.first(token, users),
            Some(begun) => {
                let step = self.last(begun, token);
                self.over = true;
                step
            }
        };
        step.unwrap_or_else(|failure| {
            self.over = true;
            Step::Failed(failure)
        })
    }

    fn claimed(&self) -> Option<&str> {
        self.begun.as_ref().map(|begun| begun.first.user.as_str())
    }
}

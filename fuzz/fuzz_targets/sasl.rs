//! What strangers send before they are somebody: frames of any bytes, requests that are well formed with tokens that are not, and
//! now and then what an honest client would say. Nobody gets in without the password, the token of somebody who has it or a token
//! that the issuer has signed, and nobody becomes somebody else.
#![no_main]

use std::num::NonZeroU32;
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use corelane_fuzz::{ALICES_CLAIMS, HEADER, Issuer, NOW_MS, expected};
use corelane_protocol::frame::request;
use corelane_protocol::messages::{
    ApiVersionsRequest, ApiVersionsResponse, SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeRequest,
};
use corelane_protocol::{Decoder, Message, Request, frame};
use corelane_sasl::oauth::{KeySet, first_message};
use corelane_sasl::plain::{self, Passwords};
use corelane_sasl::scram::{Credential, Decoys, Hash, ScramClient};
use corelane_sasl::{Authenticator, Host, Identity, Mechanism, Outcome, Previous, TokenKey, Users};
use libfuzzer_sys::fuzz_target;

const PASSWORD: &str = "open sesame";
/// A delegation token of alice's.
const TOKEN_ID: &str = "token-id";
const HASHES: [Hash; 2] = [Hash::Sha256, Hash::Sha512];

/// Knows alice.
struct Broker {
    passwords: Passwords,
    credentials: [Arc<Credential>; 2],
    token_credentials: [Arc<Credential>; 2],
    token_hmac: String,
    decoys: Decoys,
    keys: KeySet,
    /// What the issuer has signed for alice.
    bearer_token: String,
}

static BROKER: LazyLock<Broker> = LazyLock::new(|| {
    // Fewer rounds than any real user has.
    let credentials = |password: &str| {
        HASHES.map(|h| Arc::new(Credential::of_password(h, password, b"salt".to_vec(), NonZeroU32::MIN)))
    };
    let token_hmac = TokenKey::new("secret").hmac(TOKEN_ID).text();
    let issuer = Issuer::new();
    Broker {
        passwords: Passwords::new(&[1; 32], [("alice", PASSWORD)]),
        credentials: credentials(PASSWORD),
        token_credentials: credentials(&token_hmac),
        token_hmac,
        decoys: Decoys::new(&[2; 32]),
        keys: issuer.keys(),
        bearer_token: issuer.sign(HEADER.as_bytes(), ALICES_CLAIMS.as_bytes()),
    }
});

impl Users for Broker {
    fn has_password(&self, user: &str, password: &str) -> bool {
        self.passwords.has(user, password)
    }

    fn scram(&self, hash: Hash, user: &str) -> Arc<Credential> {
        match user {
            "alice" => self.credentials[usize::from(hash == Hash::Sha512)].clone(),
            _ => Arc::new(self.decoys.credential(hash, user, None)),
        }
    }

    fn token(&self, hash: Hash, id: &str) -> (Arc<Credential>, Option<Identity>) {
        match id {
            TOKEN_ID => {
                let credential = self.token_credentials[usize::from(hash == Hash::Sha512)].clone();
                (credential, Some(Identity { by_token: true, ..Identity::user("alice") }))
            }
            _ => (Arc::new(self.decoys.credential(hash, id, None)), None),
        }
    }

    fn bearer(&self, token: &str) -> Result<Identity, String> {
        expected().verify(token, &self.keys, NOW_MS).map_err(|why| why.to_string())
    }
}

impl Host for Broker {
    fn mechanisms(&self) -> &[Mechanism] {
        &Mechanism::ALL
    }

    fn api_versions(&self, _: i16, _: &ApiVersionsRequest) -> ApiVersionsResponse {
        ApiVersionsResponse::default()
    }

    fn unknown_api_versions(&self, _: i32) -> Vec<Bytes> {
        Vec::new()
    }

    fn session_ms(&self, _: Mechanism, _: &Identity) -> Option<i64> {
        Some(1)
    }
}

fn framed<R: Request>(version: i16, body: &R) -> Bytes {
    let slices = request(version, 7, None, body).expect("a request");
    // Without its length.
    Bytes::from(slices.concat()).slice(4..)
}

fn token(token: Vec<u8>) -> Bytes {
    framed(2, &SaslAuthenticateRequest { auth_bytes: token.into(), ..Default::default() })
}

/// The token in an answer to [`token`].
fn said(answer: &[Bytes]) -> Option<Bytes> {
    let mut d = Decoder::new(Bytes::from(answer.concat()));
    d.i32().ok()?;
    frame::decode_response_header(&mut d, SaslAuthenticateRequest::API_KEY, 2).ok()?;
    Some(SaslAuthenticateResponse::decode(&mut d, 2).ok()?.auth_bytes)
}

fuzz_target!(|data: &[u8]| {
    let Some((&flags, mut rest)) = data.split_first() else { return };
    let hash = HASHES[usize::from(flags >> 1 & 1)];
    let user = if flags & 4 == 0 { "alice" } else { "mallory" };
    let by_token = flags & 8 != 0;
    let mechanism = if flags & 16 == 0 { Mechanism::Scram(hash) } else { Mechanism::OAuthBearer };
    let again = flags & 1 == 1;
    let previous = Previous { user: "alice".to_owned(), mechanism };
    let mut authenticator = if again { Authenticator::again(previous) } else { Authenticator::new() };
    let mut client = match by_token {
        true => ScramClient::of_token(hash, TOKEN_ID, &BROKER.token_hmac, "nonce"),
        false => ScramClient::new(hash, user, PASSWORD, "nonce"),
    };
    let (mut challenge, mut honest) = (Bytes::new(), false);
    while let Some((&[kind, length], after)) = rest.split_first_chunk::<2>() {
        let (bytes, after) = after.split_at(after.len().min(usize::from(length)));
        rest = after;
        let text = || String::from_utf8_lossy(bytes).into_owned();
        let frame = match kind % 10 {
            0 => Bytes::copy_from_slice(bytes),
            1 => {
                let named = ApiVersionsRequest { client_software_name: text().into(), ..Default::default() };
                framed(3, &named)
            }
            2 => framed(1, &SaslHandshakeRequest { mechanism: mechanism.name().into() }),
            3 => framed(i16::from(length & 1), &SaslHandshakeRequest { mechanism: "PLAIN".into() }),
            4 => framed(1, &SaslHandshakeRequest { mechanism: text().into() }),
            5 => token(bytes.to_vec()),
            6 if length & 1 == 1 => {
                honest = true;
                token(plain::token(user, PASSWORD))
            }
            6 => token(client.first()),
            7 => token(first_message(&text())),
            8 => {
                honest = true;
                token(first_message(&BROKER.bearer_token))
            }
            _ => match client.last(&challenge) {
                Ok(last) => {
                    honest = true;
                    token(last)
                }
                Err(_) => token(bytes.to_vec()),
            },
        };
        let outcome = authenticator.frame(frame, &*BROKER);
        let _ = authenticator.claimed();
        match outcome {
            Outcome::Next(answer) => challenge = said(&answer).unwrap_or_default(),
            Outcome::Denied { .. } => {}
            Outcome::Done(_, session) => {
                assert!(honest, "nobody has shown the password");
                assert_eq!(session.user, "alice");
                assert!(!again || session.mechanism == mechanism);
                assert!(!session.by_token || (by_token && session.mechanism == Mechanism::Scram(hash)));
                return;
            }
            Outcome::Refused { .. } | Outcome::Broken(_) => return,
        }
    }
});

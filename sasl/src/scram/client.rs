//! A client's half.

use std::fmt;
use std::num::NonZeroU32;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;

use super::hash::{Hash, xor};
use super::messages::{TOKEN_AUTH, escaped};

/// More would be a broker's way to keep a client busy.
const ITERATIONS_BELIEVED: u32 = 1_000_000;

/// The broker does not speak SCRAM, or is another one than it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerFault(pub &'static str);

impl fmt::Display for ServerFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for ServerFault {}

pub struct ScramClient {
    hash: Hash,
    password: String,
    nonce: String,
    bare: String,
    /// What the broker must sign with.
    expected: Option<(hmac::Key, String)>,
}

impl ScramClient {
    /// `nonce`: random and printable, without commas.
    pub fn new(hash: Hash, user: &str, password: &str, nonce: &str) -> ScramClient {
        let bare = format!("n={},r={nonce}", escaped(user));
        ScramClient { hash, password: password.to_owned(), nonce: nonce.to_owned(), bare, expected: None }
    }

    /// Of one who shows a delegation token: its id, and the text of its HMAC.
    pub fn of_token(hash: Hash, id: &str, hmac: &str, nonce: &str) -> ScramClient {
        let client = ScramClient::new(hash, id, hmac, nonce);
        ScramClient { bare: format!("{},{TOKEN_AUTH}=true", client.bare), ..client }
    }

    pub fn first(&self) -> Vec<u8> {
        format!("n,,{}", self.bare).into_bytes()
    }

    /// The answer to the broker's challenge.
    pub fn last(&mut self, challenge: &[u8]) -> Result<Vec<u8>, ServerFault> {
        let fault = ServerFault("its challenge has another form");
        let challenge = std::str::from_utf8(challenge).map_err(|_| fault.clone())?;
        let mut parts = challenge.split(',');
        let mut part = |key| parts.next().and_then(|part| part.strip_prefix(key)).ok_or(fault.clone());
        let (nonce, salt, iterations) = (part("r=")?, part("s=")?, part("i=")?);
        let salt = STANDARD.decode(salt).map_err(|_| fault.clone())?;
        let iterations = iterations.parse::<NonZeroU32>().ok().filter(|n| n.get() <= ITERATIONS_BELIEVED);
        let iterations = iterations.ok_or(ServerFault("it asks for too many iterations"))?;
        if !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() {
            return Err(ServerFault("it answers somebody else"));
        }
        let hash = self.hash;
        let salted = hash.salted_password(&self.password, &salt, iterations);
        let client_key = hash.hmac(&salted, b"Client Key");
        let without_proof = format!("c={},r={nonce}", STANDARD.encode("n,,"));
        let said = format!("{},{challenge},{without_proof}", self.bare);
        let signature = hash.hmac(&hash.digest(&client_key), said.as_bytes());
        let proof = STANDARD.encode(xor(&client_key, &signature));
        let server_key = hash.hmac(&salted, b"Server Key");
        self.expected = Some((hash.hmac_key(&server_key), said));
        Ok(format!("{without_proof},p={proof}").into_bytes())
    }

    /// Whether the broker knows the password, too.
    pub fn verify(&self, last: &[u8]) -> Result<(), ServerFault> {
        let impostor = ServerFault("it does not know the password");
        let signature = last.strip_prefix(b"v=").and_then(|text| STANDARD.decode(text).ok()).ok_or(impostor.clone())?;
        let (key, said) = self.expected.as_ref().ok_or(impostor.clone())?;
        hmac::verify(key, said.as_bytes(), &signature).map_err(|_| impostor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 7677.
    #[test]
    fn it_says_what_the_standard_says() {
        let mut client = ScramClient::new(Hash::Sha256, "user", "pencil", "rOprNGfwEbeRWgbNEkqO");
        assert_eq!(client.first(), b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        let nonce = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        let last = client.last(format!("r={nonce},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096").as_bytes()).unwrap();
        let expected = format!("c=biws,r={nonce},p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=");
        assert_eq!(String::from_utf8(last).unwrap(), expected);
        client.verify(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=").unwrap();
    }

    #[test]
    fn a_broker_that_is_none_is_found_out() {
        let mut client = ScramClient::new(Hash::Sha256, "u", "p", "abc");
        for challenge in [
            "",
            "e=other-error",
            "r=xyz,s=AA==,i=4096",
            "r=abc,s=AA==,i=4096",
            "r=abcd,s=AA==,i=0",
            "r=abcd,s=AA==,i=9999999",
        ] {
            assert!(client.last(challenge.as_bytes()).is_err(), "{challenge}");
        }
    }
}

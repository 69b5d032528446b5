//! A provider of OAuth on loopback: it hands tokens out (`/token`) and tells with which keys it signs them (`/jwks`).

use crate::issuer::{Issuer, jwks};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

pub const ISSUER: &str = "https://issuer.example";
pub const AUDIENCE: &str = "corelane";

pub fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

/// What a token for a test broker says.
pub fn claims(user: &str, lifetime_s: u64) -> String {
    let now = now_s();
    let expires = now + lifetime_s;
    format!(r#"{{"iss":"{ISSUER}","aud":"{AUDIENCE}","sub":"{user}","iat":{now},"exp":{expires},"scope":["kafka"]}}"#)
}

/// What a broker is told of the tokens it shall believe.
pub fn properties(jwks_url: &str) -> Vec<(String, String)> {
    let all = [
        ("sasl.enabled.mechanisms", "OAUTHBEARER"),
        ("sasl.oauthbearer.jwks.endpoint.url", jwks_url),
        ("sasl.oauthbearer.expected.audience", AUDIENCE),
        ("sasl.oauthbearer.expected.issuer", ISSUER),
    ];
    all.map(|(k, v)| (k.to_owned(), v.to_owned())).to_vec()
}

struct State {
    issuer: Issuer,
    /// What `/jwks` answers; `None`: it fails.
    jwks: Option<String>,
    jwks_read: usize,
    user: String,
    lifetime_s: u64,
    tokens: usize,
    /// What those who ask for tokens are answered next: a status and a text.
    refusals: Vec<(&'static str, &'static str)>,
    /// Who asked for a token last (the header Authorization), and for what (the body).
    last: (String, String),
}

/// Serves until the process ends.
#[derive(Clone)]
pub struct Provider {
    url: String,
    state: Arc<Mutex<State>>,
}

impl Provider {
    /// With a key of this id, in plain text or with this certificate. Its tokens are alice's.
    pub fn start(key: &str, tls: Option<Arc<ServerConfig>>) -> Provider {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let issuer = Issuer::new(key);
        let jwks = Some(jwks(&[&issuer]));
        let state = State {
            issuer,
            jwks,
            jwks_read: 0,
            user: "alice".into(),
            lifetime_s: 3600,
            tokens: 0,
            refusals: vec![],
            last: Default::default(),
        };
        let provider = Provider { url: format!("{scheme}://localhost:{port}"), state: Arc::new(Mutex::new(state)) };
        let serving = provider.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // Who goes away is no concern of a provider.
                let _ = serving.serve(stream, tls.clone());
            }
        });
        provider
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn jwks_url(&self) -> String {
        format!("{}/jwks", self.url)
    }

    pub fn token_url(&self) -> String {
        format!("{}/token", self.url)
    }

    /// How often the keys have been asked for, and tokens been handed out.
    pub fn asked(&self) -> (usize, usize) {
        let state = self.state();
        (state.jwks_read, state.tokens)
    }

    /// Whose tokens it hands out, and how long they last.
    pub fn hand_out(&self, user: &str, lifetime_s: u64) {
        let mut state = self.state();
        (state.user, state.lifetime_s) = (user.to_owned(), lifetime_s);
    }

    /// Answers those who ask for tokens next with these statuses and texts.
    pub fn refuse(&self, refusals: &[(&'static str, &'static str)]) {
        self.state().refusals = refusals.iter().rev().copied().collect();
    }

    /// Who asked for a token last (the header Authorization), and for what (the body).
    pub fn last_asked(&self) -> (String, String) {
        self.state().last.clone()
    }

    /// Signs with another key from now on, which is all that `/jwks` says.
    pub fn rotate(&self, key: &str) {
        self.rotate_to(Issuer::new(key));
    }

    /// The same with the key of this issuer.
    pub fn rotate_to(&self, issuer: Issuer) {
        let mut state = self.state();
        state.jwks = Some(jwks(&[&issuer]));
        state.issuer = issuer;
    }

    /// What `/jwks` says; `None`: it fails.
    pub fn say(&self, jwks: Option<&str>) {
        self.state().jwks = jwks.map(str::to_owned);
    }

    pub fn jwks(&self) -> String {
        jwks(&[&self.state().issuer])
    }

    /// A token of these claims.
    pub fn token(&self, claims: &str) -> String {
        self.state().issuer.token(claims)
    }

    fn serve(&self, stream: TcpStream, tls: Option<Arc<ServerConfig>>) -> io::Result<()> {
        match tls {
            None => self.answer(stream),
            Some(config) => {
                let connection = ServerConnection::new(config).map_err(io::Error::other)?;
                self.answer(StreamOwned::new(connection, stream))
            }
        }
    }

    fn answer(&self, stream: impl Read + Write) -> io::Result<()> {
        let mut stream = BufReader::new(stream);
        let (mut request, mut line, mut who, mut body) = (String::new(), String::new(), String::new(), 0);
        stream.read_line(&mut request)?;
        while line != "\r\n" {
            line.clear();
            if stream.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let (name, value) = line.split_once(':').unwrap_or_default();
            if name.eq_ignore_ascii_case("content-length") {
                body = value.trim().parse().map_err(io::Error::other)?;
            } else if name.eq_ignore_ascii_case("authorization") {
                who = value.trim().to_owned();
            }
        }
        let mut asked = vec![0; body];
        stream.read_exact(&mut asked)?;
        let asked = String::from_utf8(asked).map_err(io::Error::other)?;
        let (status, text) = self.say_to(&request, (who, asked));
        let len = text.len();
        let head = format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len}\r\n");
        write!(stream.get_mut(), "{head}Connection: close\r\n\r\n{text}")?;
        stream.get_mut().flush()
    }

    fn say_to(&self, request: &str, asked: (String, String)) -> (&'static str, String) {
        let mut state = self.state();
        if request.starts_with("GET /jwks ") {
            state.jwks_read += 1;
            return match &state.jwks {
                Some(jwks) => ("200 OK", jwks.clone()),
                None => ("503 Service Unavailable", String::new()),
            };
        }
        if request.starts_with("POST /token ") {
            state.tokens += 1;
            state.last = asked;
            if let Some((status, text)) = state.refusals.pop() {
                return (status, text.to_owned());
            }
            let token = state.issuer.token(&claims(&state.user, state.lifetime_s));
            let lifetime = state.lifetime_s;
            return (
                "200 OK",
                format!(r#"{{"access_token":"{token}","token_type":"Bearer","expires_in":{lifetime}}}"#),
            );
        }
        ("404 Not Found", String::new())
    }
}

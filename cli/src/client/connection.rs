//! One connection to one broker.

use super::error::ClientError;
use super::login::authenticate;
use super::security::Security;
use super::wire::Wire;
use bytes::Bytes;
use corelane_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};
use corelane_protocol::{ApiKey, Decoder, ErrorCode, Message, Request, Str, frame as framing};
use std::collections::HashMap;
use std::io::{self, Read};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

/// The longest answer that is believed.
const FRAME_MAX: usize = 512 << 20;
const CLIENT_ID: &str = "corelane-cli";

#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    pub connect: Duration,
    /// How long to wait for an answer, on top of what the request itself asks the broker to wait.
    pub answer: Duration,
}

impl Default for Timeouts {
    fn default() -> Timeouts {
        Timeouts { connect: Duration::from_secs(5), answer: Duration::from_secs(30) }
    }
}

/// How connections are made.
#[derive(Clone, Debug, Default)]
pub struct Dial {
    pub timeouts: Timeouts,
    pub security: Security,
}

/// How long a broker knows who this is.
#[derive(Clone, Copy)]
struct Known {
    /// When to show it again: a request may be on its way when time is up.
    until: Instant,
    /// When that is not too soon. It may be later; whose time is up may still show who he is.
    again_from: Instant,
}

/// Brokers refuse who shows himself again twice within a second (KIP-368); some more for clocks that do not run alike.
const AGAIN_AFTER: Duration = Duration::from_millis(1050);

/// A negotiated connection.
pub struct Connection {
    wire: Arc<Wire>,
    address: String,
    dial: Dial,
    /// The broker's range of each API.
    versions: HashMap<i16, (i16, i16)>,
    correlation: i32,
    answers: u64,
    known: Option<Known>,
    /// Answers, where somebody else reads them from the wire.
    read: Option<Receiver<Bytes>>,
}

impl Connection {
    /// Connects, asks which versions the broker speaks, and shows who this is.
    pub fn open(address: &str, dial: &Dial) -> Result<Connection, ClientError> {
        let unreachable = |error| ClientError::Unreachable { address: address.to_owned(), error };
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        let mut stream = None;
        for to in address.to_socket_addrs().map_err(unreachable)? {
            match TcpStream::connect_timeout(&to, dial.timeouts.connect) {
                Ok(s) => {
                    stream = Some(s);
                    break;
                }
                Err(e) => last = e,
            }
        }
        let stream = stream.ok_or(last).map_err(unreachable)?;
        let answer = dial.timeouts.answer;
        let ready = stream
            .set_nodelay(true)
            .and_then(|()| stream.set_read_timeout(Some(answer)))
            .and_then(|()| stream.set_write_timeout(Some(answer)));
        ready.map_err(unreachable)?;
        let wire = match &dial.security.tls {
            None => Wire::plain(stream),
            Some(config) => {
                let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
                let host = host.trim_start_matches('[').trim_end_matches(']');
                let tls = Wire::tls(stream, host, config);
                tls.map_err(|error| ClientError::Tls { address: address.to_owned(), error })?
            }
        };
        let mut connection = Connection {
            wire: Arc::new(wire),
            address: address.to_owned(),
            dial: dial.clone(),
            versions: HashMap::new(),
            correlation: 0,
            answers: 0,
            known: None,
            read: None,
        };
        connection.negotiate()?;
        connection.authenticate()?;
        Ok(connection)
    }

    /// Its bytes, for another thread that reads or ends it.
    pub fn wire(&self) -> &Arc<Wire> {
        &self.wire
    }

    /// From now on another thread reads from the wire; it hands over what this connection asks for itself.
    pub fn read_by(&mut self, answers: Receiver<Bytes>) {
        self.read = Some(answers);
    }

    /// It is time to show again who this is.
    pub fn has_to_login(&self) -> bool {
        self.known.is_some_and(|known| known.until <= Instant::now())
    }

    /// Shows again who this is, if it is time. Nothing may be on its way.
    pub fn stay_known(&mut self) -> Result<(), ClientError> {
        let Some(known) = self.known.filter(|_| self.has_to_login()) else { return Ok(()) };
        thread::sleep(known.again_from.saturating_duration_since(Instant::now()));
        self.authenticate()
    }

    fn authenticate(&mut self) -> Result<(), ClientError> {
        self.known = None;
        let Some(login) = self.dial.security.login.clone() else { return Ok(()) };
        let lifetime = authenticate(self, &login)?;
        let now = Instant::now();
        self.known = lifetime.and_then(|lifetime| {
            Some(Known { until: now.checked_add(lifetime / 10 * 9)?, again_from: now + AGAIN_AFTER })
        });
        Ok(())
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    fn negotiate(&mut self) -> Result<(), ClientError> {
        let request = ApiVersionsRequest {
            client_software_name: Str::from_static("corelane"),
            client_software_version: Str::from_static(env!("CARGO_PKG_VERSION")),
            ..Default::default()
        };
        let mut answer: ApiVersionsResponse = ApiVersionsResponse::default();
        for version in [3, 0] {
            self.send(&request, version)?;
            let body = self.receive()?;
            // A broker that does not know the version answers in version 0, with the error as its first field.
            let mut ahead = Decoder::new(body.clone());
            let refused =
                ahead.i32().and_then(|_| ahead.i16()).is_ok_and(|e| e == ErrorCode::UnsupportedVersion.code());
            answer = self.parse::<ApiVersionsRequest>(body, if refused { 0 } else { version })?.1;
            if !refused {
                break;
            }
        }
        ClientError::check(|| format!("ApiVersions of {}", self.address), answer.error_code, None)?;
        self.versions = answer.api_keys.iter().map(|k| (k.api_key, (k.min_version, k.max_version))).collect();
        Ok(())
    }

    /// Does the broker serve the API at all?
    pub fn serves(&self, api: ApiKey) -> bool {
        self.versions.contains_key(&api.key())
    }

    /// The newest version that both sides speak.
    pub fn version<R: Request>(&self) -> Result<i16, ClientError> {
        self.version_up_to::<R>(i16::MAX)
    }

    pub fn version_up_to<R: Request>(&self, most: i16) -> Result<i16, ClientError> {
        let unsupported = || ClientError::Unsupported { address: self.address.clone(), api: R::API_KEY };
        let (low, high) = self.versions.get(&R::API_KEY.key()).copied().ok_or_else(unsupported)?;
        let version = high.min(R::MAX_VERSION).min(most);
        if version >= low.max(R::MIN_VERSION) { Ok(version) } else { Err(unsupported()) }
    }

    /// Sends a request and waits for its answer.
    pub fn call<R: Request>(&mut self, request: &R) -> Result<R::Response, ClientError> {
        self.call_up_to(request, i16::MAX)
    }

    pub fn call_up_to<R: Request>(&mut self, request: &R, most: i16) -> Result<R::Response, ClientError> {
        let version = self.version_up_to::<R>(most)?;
        self.stay_known()?;
        let sent = self.send(request, version)?;
        let body = self.receive()?;
        let (id, response) = self.parse::<R>(body, version)?;
        if id != sent {
            return Err(self.broken(format!("answer {id} to request {sent}")));
        }
        Ok(response)
    }

    /// Sends a request without waiting; returns its correlation id.
    pub fn send<R: Request>(&mut self, request: &R, version: i16) -> Result<i32, ClientError> {
        self.correlation = self.correlation.wrapping_add(1);
        let slices = frame(request, version, self.correlation).map_err(ClientError::Invalid)?;
        self.wire.write_all(&slices).map_err(|e| self.lost(e))?;
        Ok(self.correlation)
    }

    /// Waits for the next answer; returns it without its length.
    pub fn receive(&mut self) -> Result<Bytes, ClientError> {
        let frame = match &self.read {
            None => read_frame(&*self.wire),
            Some(answers) => answers.recv_timeout(self.dial.timeouts.answer).map_err(|e| match e {
                RecvTimeoutError::Timeout => io::ErrorKind::TimedOut.into(),
                RecvTimeoutError::Disconnected => io::ErrorKind::UnexpectedEof.into(),
            }),
        };
        let frame = frame.map_err(|e| match e.kind() {
            // The broker's last word on a certificate may come when the handshake is over for this side.
            _ if e.get_ref().is_some_and(|cause| cause.is::<rustls::Error>()) => {
                ClientError::Tls { address: self.address.clone(), error: e }
            }
            io::ErrorKind::InvalidData => self.broken(e.to_string()),
            _ => self.lost(e),
        })?;
        self.answers += 1;
        Ok(frame)
    }

    /// The correlation id and the body of an answer.
    pub fn parse<R: Request>(&self, body: Bytes, version: i16) -> Result<(i32, R::Response), ClientError> {
        parse::<R>(body, version).map_err(|what| self.broken(what))
    }

    fn lost(&self, error: io::Error) -> ClientError {
        let error = match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                io::Error::new(io::ErrorKind::TimedOut, "no answer in time")
            }
            // Those who are to say first who they are may ask for versions at most.
            io::ErrorKind::UnexpectedEof if self.answers < 2 => {
                io::Error::new(error.kind(), "closed by the broker: does it want TLS or a user? (--tls-ca, --user)")
            }
            _ => error,
        };
        ClientError::Lost { address: self.address.clone(), error }
    }

    pub(super) fn broken(&self, what: impl Into<String>) -> ClientError {
        ClientError::Broken { address: self.address.clone(), what: what.into() }
    }
}

/// A request as it goes on the wire.
pub fn frame<R: Request>(request: &R, version: i16, correlation: i32) -> Result<Vec<Bytes>, String> {
    framing::request(version, correlation, Some(Str::from_static(CLIENT_ID)), request)
        .map_err(|e| format!("{} version {version}: {e}", R::API_KEY))
}

/// The correlation id and the body of an answer.
pub fn parse<R: Request>(body: Bytes, version: i16) -> Result<(i32, R::Response), String> {
    let mut d = Decoder::new(body);
    let wrong = |e: corelane_protocol::DecodeError| format!("{} version {version}: {e}", R::API_KEY);
    let header = framing::decode_response_header(&mut d, R::API_KEY, version).map_err(wrong)?;
    let response = R::Response::decode(&mut d, version).map_err(wrong)?;
    d.finish().map_err(wrong)?;
    Ok((header.correlation_id, response))
}

/// Blocks for one answer.
pub fn read_frame(mut stream: impl Read) -> io::Result<Bytes> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = usize::try_from(i32::from_be_bytes(length)).ok().filter(|n| *n <= FRAME_MAX);
    let Some(length) = length else {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "an answer with an impossible length"));
    };
    // Memory follows the bytes that arrive, not the length that is claimed.
    let mut body = Vec::with_capacity(length.min(1 << 20));
    if stream.take(length as u64).read_to_end(&mut body)? < length {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "closed by the broker inside an answer"));
    }
    Ok(Bytes::from(body))
}

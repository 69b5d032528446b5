//! One of the two brokers, as a script sees it.

use crate::value::Expr;
use crate::{batch, sasl};
use bytes::Bytes;
use corelane_protocol::frame::decode_response_header;
use corelane_protocol::messages::{MetadataResponseTopic, RequestHeader};
use corelane_protocol::{ApiKey, Decoder, Encoder, Message, SCHEMAS, Schema, Str, Tree, Uuid};
use corelane_tests::connection::Connection;
use std::collections::HashMap;
use std::io;
use std::time::Duration;

/// No answer takes longer, unless there is none.
const PATIENCE: Duration = Duration::from_secs(8);

/// Where the comparison asks for itself, and there is an answer.
pub const ASIDE: &str = "aside";
const PATIENCE_ASIDE: Duration = Duration::from_secs(60);

/// What came of a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    Answer(Tree),
    /// Bytes that are no answer of this version.
    Garbled(Bytes),
    Closed,
    Silent,
}

struct Pending {
    api: ApiKey,
    version: i16,
    expected: Expected,
}

#[derive(PartialEq)]
enum Expected {
    Answer,
    /// A request without an answer is followed by one that has one.
    Silence,
    /// Bytes without a header.
    Token,
}

pub struct Side {
    bootstrap: String,
    /// Where one is asked who one is.
    secured: String,
    connections: HashMap<String, Connection>,
    pending: HashMap<String, Pending>,
    variables: HashMap<String, Tree>,
    /// Milliseconds since 1970; the same on both sides.
    now: i64,
}

fn schema(api: ApiKey, kind: &str) -> &'static Schema {
    let name = format!("{}{kind}", api.name());
    SCHEMAS.iter().find(|s| s.name == name).unwrap_or_else(|| panic!("no schema {name}"))
}

/// The bytes of a request, or why it has no form: the outer error is the script's, the inner one the version's.
pub fn encode(api: ApiKey, tree: &Tree, version: i16) -> Result<Result<Bytes, String>, String> {
    Ok((schema(api, "Request").write)(tree, version)?.map_err(|e| e.to_string()))
}

fn header(api: ApiKey, version: i16) -> Vec<u8> {
    let header = RequestHeader {
        request_api_key: api.key(),
        request_api_version: version,
        correlation_id: 7,
        client_id: Some(Str::from("differential")),
        ..RequestHeader::default()
    };
    let mut e = Encoder::new();
    header.encode(&mut e, api.request_header_version(version)).expect("a header");
    e.into_bytes().to_vec()
}

fn int(tree: Option<&Tree>) -> Result<i64, String> {
    if let Some(Tree::Int(value)) = tree { Ok(*value) } else { Err(format!("a number instead of {tree:?}")) }
}

fn text(tree: Option<&Tree>) -> Result<&str, String> {
    if let Some(Tree::Text(value)) = tree { Ok(value) } else { Err(format!("a text instead of {tree:?}")) }
}

pub fn bytes(tree: &Tree) -> Result<Bytes, String> {
    match tree {
        Tree::Bytes(bytes) => Ok(bytes.clone()),
        Tree::Text(text) => Ok(text.clone().into_bytes().into()),
        _ => Err(format!("no bytes: {tree:?}")),
    }
}

impl Side {
    /// `addresses`: of the listener for everybody, and of that for users.
    pub fn new([bootstrap, secured]: [&str; 2], now: i64) -> Side {
        Side {
            bootstrap: bootstrap.to_owned(),
            secured: secured.to_owned(),
            connections: HashMap::new(),
            pending: HashMap::new(),
            variables: HashMap::new(),
            now,
        }
    }

    /// Forgets what the last section kept and had open.
    pub fn reset(&mut self) {
        self.connections.clear();
        self.pending.clear();
        self.variables.clear();
    }

    pub fn keep(&mut self, name: &str, value: Tree) {
        self.variables.insert(name.to_owned(), value);
    }

    fn topic(&self, name: &str) -> Result<MetadataResponseTopic, String> {
        let metadata =
            Connection::open(&self.bootstrap).and_then(|mut c| c.metadata(name)).map_err(|e| e.to_string())?;
        metadata.topics.into_iter().next().ok_or_else(|| format!("no metadata of {name}"))
    }

    /// What the functions of scripts give.
    ///
    /// | call | value |
    /// |---|---|
    /// | `id("t")`, `uuid("hex")` | the id of a topic (zeros: there is none), an id |
    /// | `epoch("t", p, d)` | the leader epoch of a partition plus d |
    /// | `now(d)` | the start of the run plus d milliseconds |
    /// | `plus($x, d)` | a number |
    /// | `repeat("x", n)`, `concat(a, b)` | a long text, bytes one after the other |
    /// | `batch{..}` | a record batch, see [`batch::build`] |
    /// | `scram(..)`, `proof(..)`, `flipped(..)`, `salted(..)` | tokens of SASL, see [`sasl::call`] |
    pub fn call(&self, name: &str, a: &[Tree]) -> Result<Tree, String> {
        if let Some(token) = sasl::call(name, a) {
            return token;
        }
        match name {
            "id" => Ok(Tree::Uuid(self.topic(text(a.first())?)?.topic_id)),
            "uuid" => {
                let id = u128::from_str_radix(text(a.first())?, 16).map_err(|e| e.to_string())?;
                Ok(Tree::Uuid(Uuid::from_u128(id)))
            }
            "epoch" => {
                let partition = int(a.get(1))?;
                let topic = self.topic(text(a.first())?)?;
                let found = topic.partitions.iter().find(|p| i64::from(p.partition_index) == partition);
                let epoch = found.map_or(-1, |p| i64::from(p.leader_epoch));
                Ok(Tree::Int(epoch + int(a.get(2)).unwrap_or(0)))
            }
            "now" => Ok(Tree::Int(self.now + int(a.first()).unwrap_or(0))),
            "plus" => Ok(Tree::Int(int(a.first())? + int(a.get(1))?)),
            "repeat" => {
                let count = usize::try_from(int(a.get(1))?).map_err(|e| e.to_string())?;
                Ok(Tree::Text(text(a.first())?.repeat(count)))
            }
            "concat" => {
                let parts: Result<Vec<Bytes>, String> = a.iter().map(bytes).collect();
                Ok(Tree::Bytes(parts?.concat().into()))
            }
            "batch" => Ok(Tree::Bytes(batch::build(a.first().unwrap_or(&Tree::Null), self.now)?)),
            _ => Err(format!("no function '{name}'")),
        }
    }

    fn filled(&self, text: &str, version: i16) -> Result<String, String> {
        let mut out = String::new();
        let mut rest = text;
        while let Some(start) = rest.find('$') {
            let after = &rest[start + 1..];
            let end = after.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(after.len());
            out.push_str(&rest[..start]);
            match self.variable(&after[..end], version)? {
                Tree::Text(text) => out.push_str(&text),
                Tree::Int(number) => out.push_str(&number.to_string()),
                other => return Err(format!("{other:?} in a text")),
            }
            rest = &after[end..];
        }
        Ok(out + rest)
    }

    fn variable(&self, name: &str, version: i16) -> Result<Tree, String> {
        if name == "v" && !self.variables.contains_key("v") {
            return Ok(Tree::Int(version.into()));
        }
        self.variables.get(name).cloned().ok_or_else(|| format!("${name} has no value"))
    }

    /// What an expression means here.
    pub fn value(&self, expr: &Expr, version: i16) -> Result<Tree, String> {
        let all = |list: &[Expr]| list.iter().map(|e| self.value(e, version)).collect::<Result<Vec<_>, _>>();
        Ok(match expr {
            Expr::Literal(tree) => tree.clone(),
            Expr::Text(text) => Tree::Text(self.filled(text, version)?),
            Expr::List(list) => Tree::List(all(list)?),
            Expr::Struct(fields) => {
                let field = |(name, e): &(String, Expr)| Ok((name.clone(), self.value(e, version)?));
                Tree::Struct(fields.iter().map(field).collect::<Result<_, String>>()?)
            }
            Expr::Variable(name) => self.variable(name, version)?,
            Expr::Call(name, arguments) => self.call(name, &all(arguments)?)?,
        })
    }

    /// `as NAME`: a user's; `sasl NAME`: of somebody who has not said yet who he is.
    fn open(&self, connection: &str) -> io::Result<Connection> {
        match connection.split_once(' ') {
            Some(("as", user)) => Ok(sasl::open(&self.secured, user).unwrap_or_else(|e| panic!("{user}: {e}"))),
            Some(_) => Connection::open(&self.secured),
            None => Connection::open(&self.bootstrap),
        }
    }

    /// Sends a request; [`Side::receive`] has what comes of it. `silent`: it has no answer.
    pub fn send(&mut self, connection: &str, api: ApiKey, version: i16, body: &[u8], silent: bool) {
        let mut frames = vec![[&header(api, version), body].concat()];
        let mut expected = Expected::Answer;
        if silent {
            frames.push(header(ApiKey::ApiVersions, 0));
            expected = Expected::Silence;
        }
        self.write(connection, Pending { api, version, expected }, frames);
    }

    /// Sends bytes without a header; what comes of them is a token, too.
    pub fn send_token(&mut self, connection: &str, token: &[u8]) {
        let pending = Pending { api: ApiKey::SaslAuthenticate, version: 0, expected: Expected::Token };
        self.write(connection, pending, vec![token.to_vec()]);
    }

    fn write(&mut self, connection: &str, pending: Pending, frames: Vec<Vec<u8>>) {
        self.pending.insert(connection.to_owned(), pending);
        if !self.connections.contains_key(connection) {
            let Ok(open) = self.open(connection) else { return };
            open.set_read_timeout(if connection == ASIDE { PATIENCE_ASIDE } else { PATIENCE });
            self.connections.insert(connection.to_owned(), open);
        }
        let open = self.connections.get_mut(connection).expect("just opened");
        for frame in frames {
            let length = i32::try_from(frame.len()).expect("a frame");
            // a connection that is closed is found out when reading
            let _ = open.write(&[&length.to_be_bytes(), &*frame].concat());
        }
    }

    /// Whether the request that was sent last has no answer.
    pub fn expects_silence(&self, connection: &str) -> bool {
        self.pending.get(connection).is_some_and(|p| p.expected == Expected::Silence)
    }

    pub fn receive(&mut self, connection: &str) -> Outcome {
        let pending = self.pending.remove(connection).expect("a request before its answer");
        let frame =
            self.connections.get_mut(connection).map_or(Err(io::ErrorKind::NotConnected.into()), |c| c.read_frame());
        let frame = match frame {
            Ok(frame) => frame,
            Err(e) => {
                self.connections.remove(connection);
                let late = matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut);
                return if late { Outcome::Silent } else { Outcome::Closed };
            }
        };
        let Pending { api, version, expected } = pending;
        match expected {
            Expected::Answer => {}
            Expected::Silence => return Outcome::Silent,
            Expected::Token => return Outcome::Answer(Tree::Struct(vec![("auth_bytes".into(), Tree::Bytes(frame))])),
        }
        // what is asked for at an unknown version is answered at the oldest
        let known = api.valid_versions().contains(&version);
        let version = if known { version } else { 0 };
        let mut d = Decoder::new(frame.clone());
        let tree = decode_response_header(&mut d, api, version)
            .ok()
            .and_then(|_| (schema(api, "Response").tree)(d.rest(), version).ok());
        tree.map_or(Outcome::Garbled(frame), Outcome::Answer)
    }
}

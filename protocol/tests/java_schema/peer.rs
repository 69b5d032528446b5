//! Kafka's serialiser in a Java process, asked over a pipe (tests/java-schema/SchemaPeer.java).

use std::io::{BufReader, BufWriter, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use bytes::{Buf, BufMut, Bytes};

/// The Java process; ends when its input does.
pub struct Peer {
    child: Child,
    to: Option<BufWriter<ChildStdin>>,
    from: BufReader<ChildStdout>,
}

/// Bytes that Java wrote, and its dump of the value.
pub struct Written {
    pub bytes: Bytes,
    pub dump: String,
}

/// What Java knows of a class.
pub struct Class {
    pub versions: (i16, i16),
    pub api_key: i16,
    pub default: String,
}

impl Peer {
    pub fn start() -> Peer {
        let classpath = std::env::var("CORELANE_SCHEMA_CLASSPATH").expect("run through scripts/test-protocol");
        let mut child = Command::new("java")
            .args(["-cp", &classpath, "SchemaPeer"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("Java starts");
        let to = child.stdin.take().map(BufWriter::new);
        let from = BufReader::new(child.stdout.take().expect("stdout is a pipe"));
        Peer { child, to, from }
    }

    fn ask(&mut self, request: &[u8]) -> Result<Bytes, String> {
        let to = self.to.as_mut().expect("not closed yet");
        to.write_all(&(request.len() as u32).to_be_bytes()).unwrap();
        to.write_all(request).unwrap();
        to.flush().unwrap();
        let mut prefix = [0; 4];
        self.from.read_exact(&mut prefix).expect("Java answers");
        let mut reply = vec![0; u32::from_be_bytes(prefix) as usize];
        self.from.read_exact(&mut reply).expect("Java answers");
        let mut reply = Bytes::from(reply);
        if reply.get_u8() == 0 { Ok(reply) } else { Err(text(&mut reply)) }
    }

    /// Java reads `bytes` and writes what it read.
    pub fn rewrite(&mut self, class: &str, version: i16, bytes: &Bytes) -> Result<Written, String> {
        self.ask(&message(0, class, version, bytes)).map(written)
    }

    /// Java reads `bytes` in one version and writes them in another.
    pub fn convert(&mut self, class: &str, from: i16, to: i16, bytes: &Bytes) -> Result<Bytes, String> {
        let mut request = head(6, class);
        request.put_i16(from);
        request.put_i16(to);
        request.put_u32(bytes.len() as u32);
        request.put_slice(bytes);
        self.ask(&request).map(|mut reply| field(&mut reply))
    }

    /// Java draws a value.
    pub fn random(&mut self, class: &str, version: i16, seed: u64) -> Result<Written, String> {
        let mut request = head(1, class);
        request.put_i16(version);
        request.put_u64(seed);
        self.ask(&request).map(written)
    }

    pub fn class(&mut self, class: &str) -> Result<Class, String> {
        let mut reply = self.ask(&head(2, class))?;
        let versions = (reply.get_i16(), reply.get_i16());
        Ok(Class { versions, api_key: reply.get_i16(), default: text(&mut reply) })
    }

    /// One line per API: see SchemaPeer.
    pub fn apis(&mut self) -> Vec<String> {
        let mut reply = self.ask(&[3]).unwrap();
        let mut lines = Vec::new();
        while reply.has_remaining() {
            lines.push(text(&mut reply));
        }
        lines
    }

    /// A coordinator's key or value as it is stored.
    pub fn coordinator_frame(&mut self, class: &str, version: i16, bytes: &Bytes) -> Bytes {
        let mut reply = self.ask(&message(4, class, version, bytes)).unwrap();
        field(&mut reply)
    }

    /// A metadata record as it is stored.
    pub fn metadata_frame(&mut self, class: &str, version: i16, bytes: &Bytes) -> Bytes {
        let mut reply = self.ask(&message(5, class, version, bytes)).unwrap();
        field(&mut reply)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.to = None;
        let _ = self.child.wait();
    }
}

fn head(operation: u8, class: &str) -> Vec<u8> {
    let mut request = vec![operation];
    request.put_u32(class.len() as u32);
    request.put_slice(class.as_bytes());
    request
}

fn message(operation: u8, class: &str, version: i16, bytes: &Bytes) -> Vec<u8> {
    let mut request = head(operation, class);
    request.put_i16(version);
    request.put_u32(bytes.len() as u32);
    request.put_slice(bytes);
    request
}

fn field(reply: &mut Bytes) -> Bytes {
    let length = reply.get_u32() as usize;
    reply.split_to(length)
}

fn text(reply: &mut Bytes) -> String {
    String::from_utf8(field(reply).to_vec()).unwrap()
}

fn written(mut reply: Bytes) -> Written {
    let bytes = field(&mut reply);
    Written { bytes, dump: text(&mut reply) }
}

//! The real one.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use bytes::Bytes;
use corelane_protocol::messages::*;
use corelane_protocol::{Decoder, Message, Request, Str, Uuid, frame};

use crate::{Asked, Side, TOPICS, Ticket, text};

const QUICKLY: Duration = Duration::from_millis(15);
const LONG: Duration = Duration::from_secs(20);
/// The connection of all requests that never wait.
const COMMON: usize = usize::MAX;

struct Connection {
    stream: TcpStream,
    received: Vec<u8>,
    answers: HashMap<i32, Bytes>,
}

impl Connection {
    fn new(bootstrap: &str) -> Connection {
        let stream = TcpStream::connect(bootstrap).unwrap();
        stream.set_nodelay(true).unwrap();
        Connection { stream, received: Vec::new(), answers: HashMap::new() }
    }

    /// Reads what there is, for no longer than `wait` if the answer `number` is not there yet.
    fn receive(&mut self, number: i32, wait: Duration) {
        let end = Instant::now() + wait;
        while !self.answers.contains_key(&number) {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            self.stream.set_read_timeout(Some(left)).unwrap();
            let mut chunk = [0; 65_536];
            match self.stream.read(&mut chunk) {
                Ok(0) => panic!("Kafka closed the connection"),
                Ok(length) => self.received.extend_from_slice(&chunk[..length]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return,
                Err(error) => panic!("{error}"),
            }
            while let Some(length) = self.received.first_chunk::<4>().map(|bytes| u32::from_be_bytes(*bytes) as usize) {
                if self.received.len() < 4 + length {
                    break;
                }
                let answer = Bytes::copy_from_slice(&self.received[4..4 + length]);
                self.received.drain(..4 + length);
                self.answers.insert(i32::from_be_bytes(*answer.first_chunk().unwrap()), answer);
            }
        }
    }
}

pub struct Kafka {
    bootstrap: String,
    connections: HashMap<usize, Connection>,
    topics: HashMap<String, Uuid>,
    next: i32,
}

impl Kafka {
    pub fn connect(bootstrap: &str) -> Kafka {
        let mut kafka =
            Kafka { bootstrap: bootstrap.to_owned(), connections: HashMap::new(), topics: HashMap::new(), next: 0 };
        let topic = |name: &&str| CreateTopicsRequestCreatableTopic {
            name: text(name),
            num_partitions: 3,
            replication_factor: 1,
            ..Default::default()
        };
        let request = CreateTopicsRequest {
            topics: TOPICS.iter().map(topic).collect(),
            timeout_ms: 10_000,
            ..Default::default()
        };
        kafka.call(5, &request);
        let request = FindCoordinatorRequest { key: text("x"), ..Default::default() };
        while kafka.call(2, &request).error_code != 0 {
            kafka.pause();
        }
        let request = MetadataRequest { topics: None, ..Default::default() };
        loop {
            let topics = kafka.call(12, &request).topics;
            for topic in topics {
                kafka.topics.insert(topic.name.unwrap_or_default().to_string(), topic.topic_id);
            }
            if TOPICS.iter().all(|name| kafka.topics.contains_key(*name)) {
                return kafka;
            }
            kafka.pause();
        }
    }

    pub fn call<R: Request>(&mut self, version: i16, request: &R) -> R::Response {
        let number = self.send(COMMON, version, request);
        let connection = self.connections.get_mut(&COMMON).unwrap();
        connection.receive(number, LONG);
        decode::<R>(connection.answers.remove(&number).expect("an answer"), version)
    }

    pub fn partitions_of(&mut self, topic: &str) -> i32 {
        let topics = vec![MetadataRequestTopic { name: Some(text(topic)), ..Default::default() }];
        let request = MetadataRequest { topics: Some(topics), ..Default::default() };
        self.call(12, &request).topics[0].partitions.len() as i32
    }

    /// Waits for an answer that nobody will give.
    fn pause(&mut self) {
        self.connections.get_mut(&COMMON).unwrap().receive(-1, Duration::from_millis(200));
    }

    fn send<R: Request>(&mut self, connection: usize, version: i16, request: &R) -> i32 {
        self.next += 1;
        let bootstrap = &self.bootstrap;
        let connection = self.connections.entry(connection).or_insert_with(|| Connection::new(bootstrap));
        let slices = frame::request(version, self.next, Some(Str::from("app")), request).unwrap();
        connection.stream.write_all(&slices.concat()).unwrap();
        self.next
    }

    /// Closes the clients' connections.
    pub fn hang_up(&mut self) {
        self.connections.retain(|client, _| *client == COMMON);
    }
}

fn decode<R: Request>(answer: Bytes, version: i16) -> R::Response {
    let mut decoder = Decoder::new(answer);
    frame::decode_response_header(&mut decoder, R::API_KEY, version).unwrap();
    let response = R::Response::decode(&mut decoder, version).unwrap();
    decoder.finish().unwrap();
    response
}

impl Side for Kafka {
    fn ask<R: Asked>(&mut self, client: usize, version: i16, request: &R) -> Ticket {
        let connection = if R::may_wait() { client } else { COMMON };
        let number = self.send(connection, version, request);
        Ticket { client, number, version, may_wait: R::may_wait() }
    }

    fn answer<R: Asked>(&mut self, ticket: &Ticket, wait: bool) -> Option<R::Response> {
        let connection = self.connections.get_mut(if ticket.may_wait { &ticket.client } else { &COMMON }).unwrap();
        connection.receive(ticket.number, if wait { LONG } else { QUICKLY });
        connection.answers.remove(&ticket.number).map(|answer| decode::<R>(answer, ticket.version))
    }

    fn topic_id(&self, name: &str) -> Uuid {
        self.topics.get(name).copied().unwrap_or(Uuid::from_u128(77))
    }
}

//! Who asks, and with which version.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;

use corelane_protocol::Str;

use super::answer_memory::AnswerMemory;
use super::fetch_tails::Tails;
use crate::shard::Shard;

/// The other end of a connection.
pub struct Client {
    pub peer: SocketAddr,
    /// Address as Kafka shows it: `/127.0.0.1`.
    pub host: String,
    /// The client id of the last request.
    id: RefCell<Option<Str>>,
    /// What the connection's fetches leave behind for the next one.
    pub fetch_tails: RefCell<Tails>,
}

impl Client {
    pub fn new(peer: SocketAddr) -> Client {
        Client { peer, host: format!("/{}", peer.ip()), id: RefCell::new(None), fetch_tails: RefCell::default() }
    }

    pub fn id(&self) -> Option<Str> {
        self.id.borrow().clone()
    }

    pub fn set_id(&self, id: Option<Str>) {
        if *self.id.borrow() != id {
            self.id.replace(id);
        }
    }
}

#[derive(Clone)]
pub struct RequestContext {
    pub shard: Rc<Shard>,
    pub client: Rc<Client>,
    pub version: i16,
    /// What its answer holds.
    pub memory: AnswerMemory,
}

//! Who asks, and with which version.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use core_pinning::time::{Instant, now};
use corelane_protocol::{ApiKey, Str, Uuid};

use super::access::Decisions;
use super::answer_memory::AnswerMemory;
use super::authentication::Authentication;
use super::fairness::{Usage, Usages, Who};
use super::fetch_tails::Tails;
use super::pace::Pace;
use super::telemetry::Attributes;
use crate::node::Listener;
use crate::security::Principal;
use crate::security::audit::Asker;
use crate::shard::Shard;

/// Software that does not say what it is (Kafka: `ClientInformation.EMPTY`).
const UNKNOWN: &str = "unknown";

/// The other end of a connection.
pub struct Client {
    pub peer: SocketAddr,
    /// Address as Kafka shows it: `/127.0.0.1`.
    pub host: String,
    /// What it came by.
    pub listener: Rc<Listener>,
    is_somebody: Cell<bool>,
    principal: RefCell<Rc<Principal>>,
    /// It is somebody by a delegation token of that one's.
    by_token: Cell<bool>,
    /// Where the listener demands it.
    pub authentication: Option<Authentication>,
    /// The client id of the last request.
    id: RefCell<Option<Str>>,
    /// Name and version of its software (KIP-511).
    software: RefCell<Option<(Str, Str)>>,
    /// The client instance that pushes metrics on this connection.
    telemetry: Cell<Option<Uuid>>,
    /// What the connection's fetches leave behind for the next one.
    pub fetch_tails: RefCell<Tails>,
    /// What it may do, as far as it has been asked.
    pub decisions: RefCell<Decisions>,
    /// What it takes of the core, counted as that of all its connections; looked up anew when it is somebody else.
    usage: RefCell<Option<Rc<Usage>>>,
    /// Quotas hold it up until then.
    held_until: Cell<Option<Instant>>,
}

impl Client {
    pub fn new(peer: SocketAddr, listener: Rc<Listener>) -> Client {
        Client {
            peer,
            host: format!("/{}", peer.ip()),
            authentication: listener.sasl.clone().map(Authentication::new),
            listener,
            is_somebody: Cell::new(false),
            principal: RefCell::new(Rc::new(Principal::anonymous())),
            by_token: Cell::new(false),
            id: RefCell::new(None),
            software: RefCell::default(),
            telemetry: Cell::default(),
            fetch_tails: RefCell::default(),
            decisions: RefCell::default(),
            usage: RefCell::default(),
            held_until: Cell::default(),
        }
    }

    /// Until when somebody must have got in; `None`: somebody has, or anybody may.
    pub fn authenticates_by(&self) -> Option<Instant> {
        self.authentication.as_ref().filter(|_| !self.is_somebody.get()).map(Authentication::ends_at)
    }

    /// A quota says that it waits for so many ms; zero: it keeps to them.
    pub fn hold(&self, ms: i32) {
        let until = (ms > 0).then(|| now() + Duration::from_millis(ms as u64));
        self.held_until.set(self.held_until.get().filter(|held| *held > now()).max(until));
    }

    pub fn held_until(&self) -> Option<Instant> {
        self.held_until.get()
    }

    /// Once it has been authenticated.
    pub fn set_principal(&self, principal: Principal) {
        self.is_somebody.set(true);
        // Who authenticates again stays who it is, and what is known of it stays right.
        if **self.principal.borrow() != principal {
            self.principal.replace(Rc::new(principal));
            self.usage.take();
        }
    }

    pub fn set_by_token(&self, by_token: bool) {
        self.by_token.set(by_token);
    }

    pub fn is_by_token(&self) -> bool {
        self.by_token.get()
    }

    /// Who it is; nobody in particular before it has been authenticated.
    pub fn principal(&self) -> Rc<Principal> {
        self.principal.borrow().clone()
    }

    pub fn id(&self) -> Option<Str> {
        self.id.borrow().clone()
    }

    pub fn usage(&self, usages: &Usages) -> Rc<Usage> {
        let who = || Who { address: self.peer.ip(), principal: self.principal(), client_id: self.id() };
        self.usage.borrow_mut().get_or_insert_with(|| usages.of(who())).clone()
    }

    /// Name and version; `None`: it asks for versions as those do that do not say (Kafka then forgets what was said before).
    pub fn set_software(&self, software: Option<(&Str, &Str)>) {
        self.software.replace(software.map(|(name, version)| (name.detach(), version.detach())));
    }

    /// What subscriptions to client metrics look at.
    pub fn attributes(&self) -> Attributes {
        let unknown = || (Str::from_static(UNKNOWN), Str::from_static(UNKNOWN));
        let (software_name, software_version) = self.software.borrow().clone().unwrap_or_else(unknown);
        Attributes {
            client_id: self.id.borrow().as_ref().map(Str::detach),
            software_name,
            software_version,
            peer: self.peer,
        }
    }

    pub fn pushes_as(&self, id: Uuid) {
        self.telemetry.set(Some(id));
    }

    /// The client instance that ends with this connection.
    pub fn pushed_as(&self) -> Option<Uuid> {
        self.telemetry.take()
    }

    pub fn set_id(&self, id: Option<Str>) {
        if *self.id.borrow() != id {
            // A slice would hold on to the request that it came with.
            self.id.replace(id.map(|id| id.detach()));
            self.usage.take();
        }
    }
}

#[derive(Clone)]
pub struct RequestContext {
    pub shard: Rc<Shard>,
    pub client: Rc<Client>,
    pub api: ApiKey,
    pub version: i16,
    /// Bytes of the request.
    pub size: usize,
    /// What its answer holds.
    pub memory: AnswerMemory,
    /// Where somebody has a quota.
    pub pace: Option<Rc<Pace>>,
}

impl RequestContext {
    /// For the audit.
    pub fn audited(&self, write: impl FnOnce(Asker<'_>)) {
        let (principal, client_id) = (self.client.principal(), self.client.id());
        write(Asker {
            principal: &principal,
            peer: self.client.peer,
            client_id: client_id.as_deref(),
            api: self.api.name(),
        });
    }
}

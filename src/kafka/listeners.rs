//! The listeners that a shard has open: those of the start, and those that come and go with the broker's configuration.

use std::cell::{Cell, RefCell};
use std::net::TcpListener;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use core_pinning::net::ListenOptions;
use core_pinning::sync::Signal;
use core_pinning::task::Task;
use core_pinning::time::sleep;
use core_pinning::{compute, net};
use corelane_config::{Advertise, TlsSettings};
use corelane_protocol::ErrorCode;
use futures::future::select;

use super::server::Server;
use crate::controller::Refused;
use crate::node::Listener;
use crate::security::tls::TlsContext;
use crate::shard::Shard;

/// When what could not be opened is tried again.
const AGAIN_AFTER: Duration = Duration::from_secs(3);

/// This shard's socket of one listener.
pub struct Bound {
    pub open: Rc<Open>,
    pub socket: net::Listener,
}

/// One listener that is open.
pub struct Open {
    /// For new connections: those that there are keep what they began with.
    listener: RefCell<Rc<Listener>>,
    /// What its TLS was made of.
    tls: RefCell<Option<TlsSettings>>,
    accepting: Cell<Option<Task<()>>>,
}

impl Open {
    pub fn listener(&self) -> Rc<Listener> {
        self.listener.borrow().clone()
    }
}

#[derive(Default)]
pub struct OpenListeners {
    all: RefCell<Vec<Rc<Open>>>,
    changed: Signal,
}

impl OpenListeners {
    /// The configuration may name others now.
    pub fn may_have_changed(&self) {
        self.changed.notify();
    }

    pub fn all(&self) -> Vec<Rc<Open>> {
        self.all.borrow().clone()
    }

    fn named(&self, name: &str) -> Option<Rc<Open>> {
        self.all.borrow().iter().find(|open| open.listener().name == name).cloned()
    }

    /// Accepts no more.
    pub async fn stop(&self) {
        for open in self.all.take() {
            stop_accepting(&open).await;
        }
    }
}

async fn stop_accepting(open: &Open) {
    if let Some(task) = open.accepting.take() {
        task.cancel().await;
    }
}

/// Binds this shard's address of a listener; nothing is accepted yet.
pub fn bind(shard: &Shard, listener: Listener, tls: Option<TlsSettings>) -> Result<Bound, String> {
    let config = shard.config.broker();
    let options = ListenOptions {
        reuse_port: shard.node.advertise == Advertise::Node,
        backlog: config.listen_backlog.max(1) as u32,
        receive_bytes: config.socket_receive_bytes,
        send_bytes: config.socket_send_bytes,
    };
    let address = shard.node.listen_address(&listener, shard.id);
    let socket = net::listen(address, options).map_err(|e| format!("cannot listen on {address}: {e}"))?;
    let open = Open { listener: RefCell::new(Rc::new(listener)), tls: RefCell::new(tls), accepting: Cell::new(None) };
    Ok(Bound { open: Rc::new(open), socket })
}

/// Accepts what comes by it.
pub fn open(server: &Rc<Server>, bound: Bound) {
    let open = bound.open.clone();
    open.accepting.set(Some(server.accepting(bound)));
    server.shard.listeners.all.borrow_mut().push(open);
}

/// Opens and closes listeners as the configuration says.
pub async fn follow(server: Rc<Server>) {
    loop {
        let whole = reconcile(&server).await;
        let again = async {
            match whole {
                true => std::future::pending().await,
                false => sleep(AGAIN_AFTER).await,
            }
        };
        select(pin!(server.shard.listeners.changed.wait()), pin!(again)).await;
    }
}

/// False: something could not be opened.
async fn reconcile(server: &Rc<Server>) -> bool {
    let shard = &server.shard;
    let wanted = shard.config.broker().listeners.clone();
    let is_wanted = |open: &Rc<Open>| wanted.iter().any(|l| l.name == open.listener().name);
    let gone: Vec<Rc<Open>> = shard.listeners.all.borrow_mut().extract_if(.., |open| !is_wanted(open)).collect();
    for open in gone {
        stop_accepting(&open).await;
        // As in Apache Kafka: its connections go with it.
        server.close_those_of(&open.listener().name);
        tracing::info!(listener = open.listener().name, "closed");
    }
    let mut whole = true;
    for listener in wanted {
        let name = listener.name.clone();
        let present = shard.listeners.named(&name);
        if present.as_ref().is_some_and(|open| *open.tls.borrow() == listener.tls) {
            continue;
        }
        let tls = listener.tls.clone();
        let resolved = compute(move || Listener::resolve(&listener)).await;
        let done = resolved.and_then(|listener| match present {
            Some(open) => {
                open.listener.replace(Rc::new(listener));
                open.tls.replace(tls);
                Ok("new connections use the new certificate")
            }
            None => bind(shard, listener, tls).map(|bound| self::open(server, bound)).map(|()| "open"),
        });
        match done {
            Ok(what) => tracing::info!(listener = name, what, "listener"),
            Err(error) => {
                tracing::error!(listener = name, error, "a listener could not be opened");
                whole = false;
            }
        }
    }
    whole
}

/// Whether the listeners that there would be can be opened: their addresses are free, and their certificates fit.
pub async fn try_out(shard: &Rc<Shard>, wanted: Vec<corelane_config::Listener>) -> Result<(), Refused> {
    for listener in wanted {
        let present = shard.listeners.named(&listener.name);
        let known = present.map(|open| (open.listener().tls.clone(), open.tls.borrow().clone()));
        if known.as_ref().is_some_and(|(_, tls)| *tls == listener.tls) {
            continue;
        }
        let present = known.map(|(context, _)| context);
        let tried = compute(move || try_one(&listener, present)).await;
        tried.map_err(|message| Refused::new(ErrorCode::InvalidRequest, message))?;
    }
    Ok(())
}

/// `present`: it is open, with this TLS.
fn try_one(listener: &corelane_config::Listener, present: Option<Option<Arc<TlsContext>>>) -> Result<(), String> {
    let next = Listener::resolve(listener)?;
    match present {
        Some(before) => match (before, next.tls) {
            (Some(before), Some(next)) => {
                before.may_become(&next).map_err(|e| format!("listener {}: {e}", listener.name))
            }
            _ => Ok(()),
        },
        None => {
            let bound = TcpListener::bind(next.listen).map(drop);
            bound.map_err(|e| format!("listener {}: cannot listen on {}: {e}", listener.name, next.listen))
        }
    }
}

//! The Kafka listeners of one shard: accepts, serves each connection in a task, closes the idle ones.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use core_pinning::ShardId;
use core_pinning::budget::BudgetUnits;
use core_pinning::gate::Gate;
use core_pinning::net;
use core_pinning::task::{Queue, Task, spawn};
use core_pinning::time::{now, sleep};

use super::connection::{self, Connection};
use super::fairness;
use super::limits::{Counted, Refused};
use super::listeners::{self, Bound};
use super::open_connections;
use super::request::Client;
use super::share::homes;
use super::telemetry::forget;
use super::transport::Transport;
use crate::node::Listener;
use crate::security::tls::{TlsConn, TlsContext};
use crate::shard::Shard;

/// When there are as many connections as may be, those who come wait, and this is how often a place is looked for.
const FULL_AGAIN_AFTER: Duration = Duration::from_millis(50);
/// How long a TLS handshake may take, from the first byte to the last.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// How often the files of certificates are looked at.
const CERTIFICATES_EVERY: Duration = Duration::from_secs(3);
/// How often idle connections are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(30);

/// Connections of a shard that wait for their end because they came too fast; more are closed at once.
const LEAVING_MAX: usize = 1000;

/// What a TLS connection takes of memory while hands are shaken, and afterwards: its keys, and parts of messages.
const HANDSHAKE_BYTES: usize = 64 << 10;
const CONNECTION_BYTES: usize = 16 << 10;

pub struct Server {
    pub shard: Rc<Shard>,
    /// Connections that came too fast and wait for their end.
    leaving: Cell<usize>,
    gate: Gate,
}

impl Server {
    /// Binds this shard's address of every listener; nothing is accepted before [`Server::run`].
    pub fn listen(shard: &Rc<Shard>) -> Result<(Rc<Server>, Vec<Bound>), String> {
        let settings = shard.config.broker();
        let all = shard.node.listeners.iter().zip(&settings.listeners);
        let bound = all.map(|(listener, of)| listeners::bind(shard, listener.clone(), of.tls.clone()));
        let bound = bound.collect::<Result<_, String>>()?;
        let server = Server { shard: shard.clone(), leaving: Cell::new(0), gate: Gate::default() };
        Ok((Rc::new(server), bound))
    }

    /// Serves until [`Server::stop`].
    pub fn run(self: &Rc<Self>, bound: Vec<Bound>) -> Vec<Task<()>> {
        bound.into_iter().for_each(|bound| listeners::open(self, bound));
        let (sweeping, renewing, following) = (self.clone(), self.clone(), self.clone());
        vec![
            spawn(Queue::Background, "listeners", listeners::follow(following)),
            spawn(Queue::Background, "idle connections", async move { sweeping.sweep().await }),
            spawn(Queue::Background, "certificates", async move { renewing.renew().await }),
        ]
    }

    pub fn accepting(self: &Rc<Self>, bound: Bound) -> Task<()> {
        spawn(Queue::Serve, "accept", self.clone().accept(bound))
    }

    async fn accept(self: Rc<Self>, bound: Bound) {
        let name = bound.open.listener().name.clone();
        loop {
            match bound.socket.accept().await {
                Ok(conn) => {
                    let delay = self.shard.connection_limits.delay(&name, now());
                    if !delay.is_zero() {
                        sleep(delay).await;
                    }
                    let Ok(peer) = conn.peer_addr() else { continue };
                    if let Some((conn, counted)) = self.admit(&name, conn, peer).await {
                        self.serve(conn, peer, counted, &bound.open.listener());
                        open_connections::limit(&self.shard);
                    }
                }
                Err(error) => {
                    // Out of descriptors, mostly: the peers wait in the backlog until one is free.
                    tracing::warn!(%error, "accept failed");
                    sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    /// Waits until there is a place for a connection, as Kafka does; `None`: it may not stay.
    async fn admit(self: &Rc<Self>, by: &str, conn: net::Conn, peer: SocketAddr) -> Option<(net::Conn, Counted)> {
        loop {
            match self.shard.connection_limits.count(by, peer.ip()) {
                Ok(counted) => return Some((conn, counted)),
                Err(Refused::Full) => sleep(FULL_AGAIN_AFTER).await,
                Err(Refused::TooFastOfIp(wait)) => {
                    tracing::debug!(%peer, "its address makes connections too fast");
                    self.close_after(conn, wait);
                    return None;
                }
                Err(Refused::TooManyOfIp) => {
                    tracing::warn!(%peer, "its address has as many connections as it may");
                    return None;
                }
            }
        }
    }

    fn serve(self: &Rc<Self>, conn: net::Conn, peer: SocketAddr, counted: Counted, listener: &Rc<Listener>) {
        let Some(guard) = self.gate.enter() else { return };
        let conn = match listener.tls {
            None => Transport::Plain(conn),
            Some(_) => Transport::Tls(Box::new(TlsConn::new(conn))),
        };
        let (conn, listener) = (Rc::new(conn), listener.clone());
        let connection =
            Rc::new(Connection { conn, listener: listener.clone(), counted, last_active: Cell::new(now()) });
        let id = self.shard.connections.add(connection.clone());
        let server = self.clone();
        let client = Rc::new(Client::new(peer, listener));
        let serving = fairness::Counted::new(self.shard.clone(), client.clone(), async move {
            match server.secure(&connection.conn, &client).await {
                Ok(memory) => {
                    connection::serve(server.shard.clone(), connection, client.clone()).await;
                    drop(memory);
                    homes::disconnected(&server.shard, &client);
                }
                Err(reason) => tracing::info!(%peer, listener = client.listener.name, reason, "TLS handshake failed"),
            }
            forget(&server.shard, &client);
            server.shard.connections.remove(id);
            drop(guard);
        });
        drop(spawn(Queue::Serve, "connection", serving));
    }

    /// Lets a peer that comes too fast wait for its end, so that it does not come again at once.
    fn close_after(self: &Rc<Self>, conn: net::Conn, wait: Duration) {
        if self.leaving.get() >= LEAVING_MAX {
            return;
        }
        self.leaving.set(self.leaving.get() + 1);
        let server = self.clone();
        let leave = async move {
            sleep(wait).await;
            server.leaving.set(server.leaving.get() - 1);
            drop(conn);
        };
        spawn(Queue::Serve, "connection that came too fast", leave).detach();
    }

    /// The TLS handshake, where the listener asks for one: who the client is, and the memory that its connection holds.
    async fn secure(&self, conn: &Transport, client: &Client) -> Result<Option<BudgetUnits>, String> {
        let (Transport::Tls(tls), Some(context)) = (conn, &client.listener.tls) else { return Ok(None) };
        let memory = &self.shard.tls_memory;
        let mut held = memory.try_take(HANDSHAKE_BYTES).ok_or("too many connections for the memory there is")?;
        let shown = tls.handshake(context.config(), HANDSHAKE_MAX).await.map_err(|e| e.to_string())?;
        held.shrink_to(CONNECTION_BYTES);
        // With SASL it is not the certificate that says who somebody is.
        if !client.listener.protocol.is_sasl() {
            let principal = context.principal(shown.as_deref());
            client
                .set_principal(principal.ok_or("no rule of ssl.principal.mapping.rules maps the certificate's name")?);
        }
        Ok(Some(held))
    }

    /// Takes new certificates when their files change.
    async fn renew(self: Rc<Self>) {
        let started = &self.shard.node.listeners;
        let of_all = |c: &Arc<TlsContext>| started.iter().any(|l| l.tls.as_ref().is_some_and(|t| Arc::ptr_eq(t, c)));
        loop {
            sleep(CERTIFICATES_EVERY).await;
            let open = self.shard.listeners.all().into_iter().map(|open| open.listener());
            let with_tls = open.filter_map(|l| Some((l.name.clone(), l.tls.clone()?)));
            // Those of the start are the same in all shards.
            let own = with_tls.filter(|(_, context)| self.shard.id == ShardId(0) || !of_all(context));
            for (name, context) in own.collect::<Vec<_>>() {
                match core_pinning::compute(move || context.reload()).await {
                    Ok(false) => {}
                    Ok(true) => tracing::info!(listener = name, "new connections use the new certificate"),
                    Err(error) => tracing::error!(listener = name, error, "the old certificate stays"),
                }
            }
        }
    }

    async fn sweep(self: Rc<Self>) {
        let Some(idle) = self.shard.config.connections_max_idle() else { return };
        loop {
            sleep(SWEEP_EVERY.min(idle)).await;
            let connections = self.shard.connections.all();
            for connection in connections {
                if now() - connection.last_active.get() > idle {
                    connection.conn.shutdown();
                }
            }
        }
    }

    /// Closes the connections that came by a listener.
    pub fn close_those_of(&self, listener: &str) {
        let connections = self.shard.connections.all();
        connections.iter().filter(|c| c.listener.name == listener).for_each(|c| c.conn.shutdown());
    }

    /// Closes every listener and connection and waits until their tasks have ended.
    pub async fn stop(&self) {
        self.shard.listeners.stop().await;
        let connections = self.shard.connections.all();
        connections.iter().for_each(|c| c.conn.shutdown());
        drop(connections);
        self.gate.close().await;
    }
}

//! The Kafka listener of one shard: accepts, serves each connection in a task, closes the idle ones.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::Duration;

use core_pinning::gate::Gate;
use core_pinning::net::{self, Listener};
use core_pinning::task::{Queue, Task, spawn};
use core_pinning::time::{now, sleep};
use corelane_config::Advertise;
use hashbrown::HashMap;

use super::connection::{self, Connection};
use super::request::Client;
use super::share::partitions::release;
use crate::shard::Shard;

/// When `max.connections` are open, peers wait in the backlog, and this is how often it is looked at.
const FULL_AGAIN_AFTER: Duration = Duration::from_millis(50);
/// How often idle connections are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(30);

pub struct Server {
    shard: Rc<Shard>,
    connections: RefCell<HashMap<u64, Rc<Connection>>>,
    next: Cell<u64>,
    gate: Gate,
}

impl Server {
    /// Binds this shard's address; nothing is accepted before [`Server::run`].
    pub fn listen(shard: &Rc<Shard>) -> io::Result<(Rc<Server>, Listener)> {
        let address = shard.node.listen_address(shard.id);
        let shared = shard.node.advertise == Advertise::Node;
        let listener = net::listen(address, shared, shard.config.broker().listen_backlog.max(1) as u32)?;
        let server =
            Server { shard: shard.clone(), connections: RefCell::default(), next: Cell::new(0), gate: Gate::default() };
        Ok((Rc::new(server), listener))
    }

    /// Serves until [`Server::stop`].
    pub fn run(self: &Rc<Self>, listener: Listener) -> [Task<()>; 2] {
        let (accepting, sweeping) = (self.clone(), self.clone());
        [
            spawn(Queue::Serve, "accept", async move { accepting.accept(listener).await }),
            spawn(Queue::Background, "idle connections", async move { sweeping.sweep().await }),
        ]
    }

    async fn accept(self: Rc<Self>, listener: Listener) {
        loop {
            while self.shard.connection_limits.is_full() {
                sleep(FULL_AGAIN_AFTER).await;
            }
            match listener.accept().await {
                Ok(conn) => self.serve(conn),
                Err(error) => {
                    // Out of descriptors, mostly: the peers wait in the backlog until one is free.
                    tracing::warn!(%error, "accept failed");
                    sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    fn serve(self: &Rc<Self>, conn: net::Conn) {
        let Some(guard) = self.gate.enter() else { return };
        let Ok(peer) = conn.peer_addr() else { return };
        let counted = match self.shard.connection_limits.count(peer.ip()) {
            Ok(counted) => counted,
            Err(refused) => {
                tracing::warn!(%peer, ?refused, "connection refused");
                return;
            }
        };
        let connection = Rc::new(Connection { conn: Rc::new(conn), last_active: Cell::new(now()) });
        let id = self.next.get();
        self.next.set(id + 1);
        self.connections.borrow_mut().insert(id, connection.clone());
        let server = self.clone();
        drop(spawn(Queue::Serve, "connection", async move {
            let client = Rc::new(Client::new(peer));
            connection::serve(server.shard.clone(), connection, client.clone()).await;
            for (who, names) in server.shard.share_sessions.disconnected(&client) {
                release(&server.shard, &who, names);
            }
            server.connections.borrow_mut().remove(&id);
            drop(counted);
            drop(guard);
        }));
    }

    async fn sweep(self: Rc<Self>) {
        let Some(idle) = self.shard.config.connections_max_idle() else { return };
        loop {
            sleep(SWEEP_EVERY.min(idle)).await;
            let connections: Vec<_> = self.connections.borrow().values().cloned().collect();
            for connection in connections {
                if now() - connection.last_active.get() > idle {
                    connection.conn.shutdown();
                }
            }
        }
    }

    /// Closes every connection and waits until their tasks have ended.
    pub async fn stop(&self) {
        let connections: Vec<_> = self.connections.borrow().values().cloned().collect();
        connections.iter().for_each(|c| c.conn.shutdown());
        drop(connections);
        self.gate.close().await;
    }
}

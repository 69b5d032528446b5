//! The connections that a shard has open, and which of a broker's end when it has more than it may (Kafka's
//! `closeExcessConnections`, which each of its threads does for its own).

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use core_pinning::ShardId;
use core_pinning::task::{Queue, spawn};
use core_pinning::time::Instant;
use hashbrown::HashMap;

use super::connection::Connection;
use crate::router::ShardCall;
use crate::shard::Shard;

#[derive(Default)]
pub struct OpenConnections {
    all: RefCell<HashMap<u64, Rc<Connection>>>,
    next: Cell<u64>,
}

impl OpenConnections {
    /// Gives what it is known by from now on.
    pub fn add(&self, connection: Rc<Connection>) -> u64 {
        let id = self.next.get();
        self.next.set(id + 1);
        self.all.borrow_mut().insert(id, connection);
        id
    }

    pub fn remove(&self, id: u64) {
        let removed = self.all.borrow_mut().remove(&id);
        drop(removed);
    }

    pub fn all(&self) -> Vec<Rc<Connection>> {
        self.all.borrow().values().cloned().collect()
    }

    /// So many of those that have been idle longest, but for what came by one listener; and since when.
    fn idlest(&self, most: usize, protected: Option<&str>) -> Vec<(Instant, u64)> {
        let all = self.all.borrow();
        let may_end = all.iter().filter(|(_, c)| !c.counted.gives_way() && Some(c.listener.name.as_str()) != protected);
        let mut idle: Vec<(Instant, u64)> = may_end.map(|(id, c)| (c.last_active.get(), *id)).collect();
        if most < idle.len() {
            idle.select_nth_unstable(most);
            idle.truncate(most);
        }
        idle
    }
}

/// Ends connections of this broker, if it has more than it may now.
pub fn limit(shard: &Rc<Shard>) {
    if shard.connection_limits.excess() > 0 {
        spawn(Queue::Serve, "connections beyond the limit", make_room(shard.clone())).detach();
    }
}

/// Those first that have been idle longest.
async fn make_room(shard: Rc<Shard>) {
    loop {
        let wanted = shard.connection_limits.excess();
        if wanted == 0 {
            return;
        }
        let shards: Vec<ShardId> = shard.of_this_broker().collect();
        let idle = shard.router.call_each(&shard, shards.iter().copied(), Idlest { most: wanted }).await;
        let of_each = shards.into_iter().zip(idle);
        let mut idle: Vec<(Instant, ShardId, u64)> =
            of_each.flat_map(|(of, idle)| idle.into_iter().map(move |(since, id)| (since, of, id))).collect();
        if idle.is_empty() {
            return;
        }
        idle.sort_unstable();
        for (_, of, id) in idle.into_iter().take(wanted) {
            shard.router.call(&shard, of, End { id }).await;
        }
    }
}

#[derive(Clone)]
struct Idlest {
    most: usize,
}

impl ShardCall for Idlest {
    type Reply = Vec<(Instant, u64)>;

    fn run(self, shard: &Rc<Shard>) -> impl Future<Output = Self::Reply> + 'static {
        let protected = shard.connection_limits.protected();
        std::future::ready(shard.connections.idlest(self.most, protected.as_deref()))
    }
}

struct End {
    id: u64,
}

impl ShardCall for End {
    type Reply = ();

    fn run(self, shard: &Rc<Shard>) -> impl Future<Output = ()> + 'static {
        let connection = shard.connections.all.borrow().get(&self.id).cloned();
        if let Some(connection) = connection.filter(|connection| connection.counted.give_way()) {
            tracing::debug!(listener = connection.listener.name, "closed: there are too many connections");
            connection.conn.shutdown();
        }
        std::future::ready(())
    }
}

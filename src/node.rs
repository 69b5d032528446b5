//! Who this process is to its clients: broker ids, addresses, and the cluster it belongs to.

use std::net::SocketAddr;

use core_pinning::ShardId;
use corelane_config::Advertise;
use corelane_storage::model::NodeId;

/// In shard mode the shards of one node have the broker ids `node id * 1000 + shard`.
const SHARDS_PER_NODE: i32 = 1000;

/// What a client connects to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerAddress {
    pub id: i32,
    pub host: String,
    pub port: u16,
    pub rack: Option<String>,
}

#[derive(Clone, Debug)]
pub struct Node {
    pub id: i32,
    pub cluster_id: String,
    pub advertise: Advertise,
    pub shards: usize,
    /// Where the first (in node mode: every) shard listens.
    pub listen: SocketAddr,
    /// The name clients are told; may differ from `listen` (advertised.listeners).
    pub host: String,
    pub port: u16,
    pub rack: Option<String>,
}

impl Node {
    pub fn raft_id(&self) -> NodeId {
        NodeId(self.id as u64)
    }

    /// What the listener of `shard` binds.
    pub fn listen_address(&self, shard: ShardId) -> SocketAddr {
        let mut address = self.listen;
        if self.advertise == Advertise::Shard {
            address.set_port(address.port() + shard.0);
        }
        address
    }

    /// The broker that clients see as the leader of what `shard` owns.
    pub fn broker_id(&self, shard: ShardId) -> i32 {
        match self.advertise {
            Advertise::Node => self.id,
            Advertise::Shard => self.id * SHARDS_PER_NODE + i32::from(shard.0),
        }
    }

    /// Kafka names a live broker as the controller.
    pub fn controller_id(&self) -> i32 {
        self.broker_id(ShardId(0))
    }

    pub fn is_broker(&self, id: i32) -> bool {
        self.shard_of_broker(id).is_some()
    }

    /// The shard that clients mean by broker `id`; in node mode any shard will do.
    pub fn shard_of_broker(&self, id: i32) -> Option<ShardId> {
        (0..self.shards as u16).map(ShardId).find(|shard| self.broker_id(*shard) == id)
    }

    pub fn brokers(&self) -> Vec<BrokerAddress> {
        let shards = if self.advertise == Advertise::Shard { self.shards } else { 1 };
        (0..shards as u16)
            .map(|shard| BrokerAddress {
                id: self.broker_id(ShardId(shard)),
                host: self.host.clone(),
                port: self.port + shard,
                // Shards of one node fail together: a client that spreads over racks shall see one rack.
                rack: match self.advertise {
                    Advertise::Node => self.rack.clone(),
                    Advertise::Shard => Some(self.rack.clone().unwrap_or_else(|| format!("node-{}", self.id))),
                },
            })
            .collect()
    }

    pub fn broker(&self, id: i32) -> Option<BrokerAddress> {
        self.brokers().into_iter().find(|b| b.id == id)
    }
}

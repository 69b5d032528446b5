//! Who this process is to its clients: broker ids, addresses, and the cluster it belongs to.

use std::net::SocketAddr;
use std::sync::Arc;

use core_pinning::ShardId;
use corelane_config::units::HostPort;
use corelane_config::{Advertise, SecurityProtocol};
use corelane_storage::model::NodeId;

use crate::security::sasl::SaslContext;
use crate::security::tls::TlsContext;

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

/// A listener as its clients see it, and where it is bound.
#[derive(Clone, Debug)]
pub struct Listener {
    /// In capitals.
    pub name: String,
    pub protocol: SecurityProtocol,
    /// Where the first (in node mode: every) shard listens.
    pub listen: SocketAddr,
    /// Where its clients are told to connect; `None`: they are told of no broker (advertised.listeners).
    pub advertised: Option<HostPort>,
    /// Where its protocol is encrypted.
    pub tls: Option<Arc<TlsContext>>,
    /// Where its clients authenticate by SASL.
    pub sasl: Option<Arc<SaslContext>>,
}

impl Listener {
    /// Looks names up and reads certificates and keys, so not on a shard.
    pub fn resolve(listener: &corelane_config::Listener) -> Result<Listener, String> {
        let wrong = |e: String| format!("listener {}: {e}", listener.name);
        let listen = listener.listen.resolve().map_err(|e| wrong(format!("{}: {e}", listener.listen)))?;
        let tls = listener.tls.as_ref().map(TlsContext::load).transpose().map_err(wrong)?.map(Arc::new);
        let sasl = listener.sasl.as_ref().map(SaslContext::open).transpose().map_err(wrong)?.map(Arc::new);
        let (name, protocol, advertised) = (listener.name.clone(), listener.protocol, listener.advertised.clone());
        Ok(Listener { name, protocol, listen, advertised, tls, sasl })
    }
}

#[derive(Clone, Debug)]
pub struct Node {
    pub id: i32,
    pub cluster_id: String,
    pub advertise: Advertise,
    pub shards: usize,
    /// What the process was started with, at least one.
    pub listeners: Vec<Listener>,
    pub rack: Option<String>,
}

impl Node {
    pub fn raft_id(&self) -> NodeId {
        NodeId(self.id as u64)
    }

    /// What `shard` binds of a listener.
    pub fn listen_address(&self, listener: &Listener, shard: ShardId) -> SocketAddr {
        let mut address = listener.listen;
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

    /// Every broker there is, whatever listener its clients come by.
    pub fn broker_ids(&self) -> impl Iterator<Item = i32> {
        let shards = if self.advertise == Advertise::Shard { self.shards } else { 1 };
        (0..shards as u16).map(|shard| self.broker_id(ShardId(shard)))
    }

    /// What the clients of a listener are told.
    pub fn brokers(&self, listener: &Listener) -> Vec<BrokerAddress> {
        let Some(advertised) = &listener.advertised else { return Vec::new() };
        let shards = if self.advertise == Advertise::Shard { self.shards } else { 1 };
        (0..shards as u16)
            .map(|shard| BrokerAddress {
                id: self.broker_id(ShardId(shard)),
                host: advertised.host.clone(),
                port: advertised.port + shard,
                rack: self.rack(),
            })
            .collect()
    }

    /// Shards of one node fail together: a client that spreads over racks shall see one rack.
    pub fn rack(&self) -> Option<String> {
        match self.advertise {
            Advertise::Node => self.rack.clone(),
            Advertise::Shard => Some(self.rack.clone().unwrap_or_else(|| format!("node-{}", self.id))),
        }
    }

    pub fn broker(&self, listener: &Listener, id: i32) -> Option<BrokerAddress> {
        self.brokers(listener).into_iter().find(|b| b.id == id)
    }
}

//! One shard of the broker: what one core owns.

mod images;
mod partitions;
mod startup;

use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use core_pinning::ShardId;
use core_pinning::budget::Budget;
use core_pinning::sync::Signal;
use corelane_config::{Advertise, GroupProperties};
use corelane_protocol::ErrorCode;
use corelane_raft::Groups;
use corelane_storage::Store;
use corelane_storage::model::PartitionKey;
use hashbrown::HashMap;

use crate::controller::Controller;
use crate::controller::image::{ClusterImage, owner};
use crate::coordinator::Coordinators;
use crate::kafka::answer_memory::AnswerBudget;
use crate::kafka::fairness::Usages;
use crate::kafka::fetch_session::FetchSessions;
use crate::kafka::limits::ConnectionLimits;
use crate::kafka::listeners::OpenListeners;
use crate::kafka::open_connections::OpenConnections;
use crate::kafka::request_memory::RequestMemory;
use crate::kafka::share::{SharePartitions, ShareSessionHomes, ShareSessions};
use crate::kafka::telemetry::Telemetry;
use crate::node::Node;
use crate::partition::{FetchWaiter, Membership, ProduceContext, ProduceFailure, Taken};
use crate::producer_ids::ProducerIds;
use crate::quota::Quotas;
use crate::router::Router;
use crate::security::audit::Audit;
use crate::settings::Settings;
use crate::space::Space;

pub use self::partitions::PartitionTable;
pub use self::startup::{Event, Start, run};

pub struct Shard {
    pub id: ShardId,
    pub shards: usize,
    pub node: Arc<Node>,
    pub config: Settings,
    pub router: Router,
    pub store: Store,
    pub groups: Groups,
    pub partitions: PartitionTable,
    pub controller: RefCell<Option<Rc<Controller>>>,
    pub coordinators: Coordinators,
    pub fetch_sessions: FetchSessions,
    pub share_sessions: ShareSessions,
    pub share_session_homes: ShareSessionHomes,
    pub share_partitions: SharePartitions,
    pub telemetry: Telemetry,
    /// Fetches of any shard that wait for partitions of this one.
    pub fetch_waits: RefCell<HashMap<u64, Rc<FetchWaiter>>>,
    pub producer_ids: ProducerIds,
    pub space: Space,
    pub audit: Audit,
    pub connection_limits: Arc<ConnectionLimits>,
    pub quotas: Quotas,
    pub usages: Usages,
    /// Bytes of requests that have been received and not answered.
    pub request_memory: RequestMemory,
    pub answer_memory: AnswerBudget,
    pub listeners: OpenListeners,
    pub connections: OpenConnections,
    /// What TLS connections hold.
    pub tls_memory: Budget,
    /// Bytes of frames of those who are nobody yet.
    pub authentication_memory: RequestMemory,
    data_dir: PathBuf,
    image: RefCell<Arc<ClusterImage>>,
    /// Every shard has the first image.
    may_serve: Signal,
    /// What else lies in the data directory has been looked at.
    settled: Cell<bool>,
    next_wait: Cell<u64>,
}

impl Shard {
    pub fn image(&self) -> Arc<ClusterImage> {
        self.image.borrow().clone()
    }

    /// What is in force for a group: its own settings, else the broker's.
    pub fn group_properties(&self, group: &str) -> Rc<GroupProperties> {
        self.config.group(&self.image.borrow(), group)
    }

    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// The broker that clients of this shard's listener are connected to.
    pub fn broker_id(&self) -> i32 {
        self.node.broker_id(self.id)
    }

    /// Every shard of the process.
    pub fn all_shards(&self) -> impl Iterator<Item = ShardId> + use<> {
        (0..self.shards as u16).map(ShardId)
    }

    /// The shards that clients of this shard's listener see as one broker: this one alone, or all.
    pub fn of_this_broker(&self) -> impl Iterator<Item = ShardId> + use<> {
        let (id, mode) = (self.id, self.node.advertise);
        self.all_shards().filter(move |shard| mode == Advertise::Node || *shard == id)
    }

    /// The shard that owns a partition, if clients of this shard's listener see it as part of the broker that they are connected
    /// to; else that broker is not the leader.
    pub fn leading(&self, key: PartitionKey) -> Result<ShardId, ErrorCode> {
        match owner(key, self.shards) {
            other if other != self.id && self.node.advertise == Advertise::Shard => Err(ErrorCode::NotLeaderOrFollower),
            shard => Ok(shard),
        }
    }

    /// Unique over all shards.
    pub fn next_wait_id(&self) -> u64 {
        let next = self.next_wait.get();
        self.next_wait.set(next + self.shards as u64);
        next
    }

    /// Orders a batch in a partition of this shard. `all`: the client asks for every replica (acks=all).
    pub fn produce(
        self: &Rc<Self>,
        key: PartitionKey,
        batch: Bytes,
        all: bool,
        context: ProduceContext,
        membership: Membership,
    ) -> Result<Taken, ProduceFailure> {
        let partition = self.partitions.find(key)?;
        if all && partition.config().min_insync_replicas > 1 {
            return Err(ErrorCode::NotEnoughReplicas.into());
        }
        // What clients may write to the broker's own topics is what keeps it going.
        if !partition.log().config().essential {
            self.space.admit(self, batch.len())?;
        }
        Ok(partition.produce(&batch, context, membership))
    }
}

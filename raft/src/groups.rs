//! The Raft groups of a shard.

use std::rc::Rc;
use std::time::Duration;

use corelane_storage::Log;
use corelane_storage::model::NodeId;

use crate::group::Group;
use crate::registry::{GroupsStats, Registry};
use crate::replica::{OpenError, Replica};
use crate::slot::Slot;

/// Settings of a shard's groups.
#[derive(Clone, Debug)]
pub struct GroupsOptions {
    /// This process.
    pub node_id: NodeId,
    /// Groups of the shard that may have an openraft instance at a time; at least 1. An instance takes 85 to 800 KB.
    pub hot_max: usize,
    /// A group without a proposal for so long gives its instance up.
    pub quiet_after: Duration,
}

impl GroupsOptions {
    /// 1000 instances at a time, each dropped after 10 s of quiet.
    pub fn new(node_id: NodeId) -> GroupsOptions {
        GroupsOptions { node_id, hot_max: 1000, quiet_after: Duration::from_secs(10) }
    }
}

/// Makes what all groups of the process share, which takes 10 ms once: for a thread that is no shard, before there are any.
/// Otherwise the first group pays for it.
pub fn prepare() {
    // openraft's histograms share a table.
    drop(base2histogram::Histogram::<()>::new());
}

/// The Raft groups of one shard. Owned by the shard, like everything of theirs.
pub struct Groups(Rc<Registry>);

impl Groups {
    pub fn new(options: GroupsOptions) -> Groups {
        Groups(Registry::new(GroupsOptions { hot_max: options.hot_max.max(1), ..options }))
    }

    /// Opens the group whose log is `log`. It is cold: nothing runs and nothing is read until its first proposal.
    ///
    /// A log of a single voter is wholly committed, so its high watermark is its end from now on.
    pub fn open(&self, log: Log) -> Result<Group, OpenError> {
        if self.0.stopping.get() {
            return Err(OpenError::Shutdown);
        }
        if self.0.has(log.key()) {
            return Err(OpenError::Open);
        }
        let slot = Slot::new(Replica::load(log, self.0.options.node_id)?, self.0.clone());
        self.0.add(&slot);
        Ok(Group(slot))
    }

    pub fn stats(&self) -> GroupsStats {
        self.0.stats()
    }

    /// Stops every group: no more proposals, those in flight end first, no task is left. The logs stay open.
    pub async fn shutdown(&self) {
        self.0.stopping.set(true);
        let stops = self.0.slots().into_iter().map(Slot::stop);
        futures::future::join_all(stops).await;
    }
}

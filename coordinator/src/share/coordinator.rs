//! The machine itself.

use std::rc::Rc;

use hashbrown::HashMap;

use super::config::ShareConfig;
use super::key::SharePartitionKey;
use super::state::Entry;
use super::upkeep::Upkeep;
use super::writes::WriteLog;

/// The partitions of share groups whose state lies in one partition of `__share_group_state`.
///
/// To start: `replay` every record of the partition in order, then `finish_loading`. After every call write its writes, prune
/// what it says, hand out its completed answers, and call `tick` at `next_deadline` at the latest.
#[derive(Debug)]
pub struct ShareCoordinator {
    pub(super) config: ShareConfig,
    /// Shared with the writes that may have to take a change back.
    pub(super) entries: HashMap<SharePartitionKey, Rc<Entry>>,
    pub(super) writes: WriteLog,
    pub(super) upkeep: Upkeep,
    pub(super) next_token: u64,
}

impl ShareCoordinator {
    pub fn new(config: ShareConfig) -> ShareCoordinator {
        ShareCoordinator {
            config,
            entries: HashMap::new(),
            writes: WriteLog::default(),
            upkeep: Upkeep::default(),
            next_token: 0,
        }
    }
}

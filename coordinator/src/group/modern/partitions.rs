//! Sets of partitions.

use std::collections::{BTreeMap, BTreeSet};

use corelane_protocol::Uuid;

/// Partitions by topic. No empty set is kept.
pub type Partitions = BTreeMap<Uuid, BTreeSet<i32>>;

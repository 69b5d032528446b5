//! Sets of partitions.

use std::collections::{BTreeMap, BTreeSet};

use corelane_protocol::Uuid;

/// Partitions by topic. No empty set is kept.
pub type Partitions = BTreeMap<Uuid, BTreeSet<i32>>;

/// Partitions by topic, each with the member epoch from which on it has belonged to the member. No empty map is kept.
pub(crate) type Owned = BTreeMap<Uuid, BTreeMap<i32, i32>>;

pub(crate) fn has(owned: &Owned, topic: Uuid, partition: i32) -> bool {
    owned.get(&topic).is_some_and(|partitions| partitions.contains_key(&partition))
}

//! What a client may do, as bit fields (KIP-430): everything, where nobody is refused anything.

use corelane_acl::{Operations, ResourceType};

/// Of the cluster.
pub const CLUSTER: i32 = Operations::supported(ResourceType::Cluster).bits();
/// Of a group.
pub const GROUP: i32 = Operations::supported(ResourceType::Group).bits();
/// Not asked for.
pub const UNKNOWN: i32 = i32::MIN;

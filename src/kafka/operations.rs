//! What a client may do, as bit fields (KIP-430): everything, since nobody is refused without an authorizer.

/// Kafka: `AclEntry.supportedOperations` of a topic.
pub const TOPIC: i32 = bits(&[3, 4, 5, 6, 7, 8, 10, 11]);
/// Of the cluster.
pub const CLUSTER: i32 = bits(&[5, 7, 8, 9, 10, 11, 12]);
/// Of a group.
pub const GROUP: i32 = bits(&[3, 6, 8, 10, 11]);
/// Not asked for.
pub const UNKNOWN: i32 = i32::MIN;

const fn bits(operations: &[u32]) -> i32 {
    let (mut bits, mut i) = (0, 0);
    while i < operations.len() {
        bits |= 1 << operations[i];
        i += 1;
    }
    bits
}

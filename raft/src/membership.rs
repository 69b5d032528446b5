//! Who votes in a group, and how that is written into the log.
//!
//! ```text
//! 1 byte   version: 1
//! 1 byte   number of voter sets: 1, or 2 while a change is under way (joint consensus)
//! each:    number of voters u16, node ids u64
//! then     number of learners u16, node ids u64
//! ```
//! Big-endian, each list in rising order. It is the payload of an internal membership batch
//! (`corelane_storage::record::internal`), whose CRC covers it.
#![deny(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeSet;

use bytes::{BufMut, Bytes, BytesMut};
use corelane_storage::model::NodeId;

use crate::type_config::RaftMembership;

const VERSION: u8 = 1;

/// The members of a group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Membership {
    /// One set of voters, or two while a change is under way: then both need a majority.
    pub voters: Vec<BTreeSet<NodeId>>,
    /// Members that replicate but do not vote.
    pub learners: BTreeSet<NodeId>,
}

/// A membership payload that cannot be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum MembershipError {
    #[error("membership of version {0}, written by a newer release")]
    Version(u8),
    #[error("malformed membership")]
    Malformed,
}

impl Membership {
    /// A group whose only member is `node`.
    pub fn single(node: NodeId) -> Membership {
        Membership { voters: vec![BTreeSet::from([node])], learners: BTreeSet::new() }
    }

    /// True if `node` alone decides.
    pub fn is_single(&self, node: NodeId) -> bool {
        *self == Membership::single(node)
    }

    /// The payload of a membership batch.
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.put_u8(VERSION);
        out.put_u8(self.voters.len() as u8);
        for set in self.voters.iter().chain([&self.learners]) {
            out.put_u16(set.len() as u16);
            for node in set {
                out.put_u64(node.0);
            }
        }
        out.freeze()
    }

    /// Reads what [`encode`](Membership::encode) wrote.
    pub fn decode(payload: &[u8]) -> Result<Membership, MembershipError> {
        let mut rest = payload;
        let [version] = take(&mut rest)?;
        if version != VERSION {
            return Err(MembershipError::Version(version));
        }
        let [sets] = take(&mut rest)?;
        if !(1..=2).contains(&sets) {
            return Err(MembershipError::Malformed);
        }
        let voters = (0..sets).map(|_| nodes(&mut rest)).collect::<Result<Vec<_>, _>>()?;
        let learners = nodes(&mut rest)?;
        if !rest.is_empty() || voters.iter().any(BTreeSet::is_empty) {
            return Err(MembershipError::Malformed);
        }
        Ok(Membership { voters, learners })
    }

    pub(crate) fn to_raft(&self) -> RaftMembership {
        let voters = self.voters.iter().map(|set| set.iter().map(|n| n.0).collect()).collect();
        let learners: BTreeSet<u64> = self.learners.iter().map(|n| n.0).collect();
        RaftMembership::new_with_defaults(voters, learners)
    }

    pub(crate) fn from_raft(membership: &RaftMembership) -> Membership {
        let voters =
            membership.get_joint_config().iter().map(|set| set.iter().copied().map(NodeId).collect()).collect();
        Membership { voters, learners: membership.learner_ids().map(NodeId).collect() }
    }
}

fn nodes(rest: &mut &[u8]) -> Result<BTreeSet<NodeId>, MembershipError> {
    let count = u16::from_be_bytes(take(rest)?);
    let mut set = BTreeSet::new();
    for _ in 0..count {
        let node = NodeId(u64::from_be_bytes(take(rest)?));
        if set.last().is_some_and(|last| *last >= node) {
            return Err(MembershipError::Malformed);
        }
        set.insert(node);
    }
    Ok(set)
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], MembershipError> {
    let (head, tail) = rest.split_first_chunk().ok_or(MembershipError::Malformed)?;
    *rest = tail;
    Ok(*head)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids<const N: usize>(ids: [u64; N]) -> BTreeSet<NodeId> {
        ids.into_iter().map(NodeId).collect()
    }

    #[test]
    fn reads_back() {
        for membership in [
            Membership::single(NodeId(7)),
            Membership { voters: vec![ids([1, 2, 3]), ids([2, 3, 4])], learners: ids([u64::MAX]) },
        ] {
            let bytes = membership.encode();
            assert_eq!(Membership::decode(&bytes), Ok(membership.clone()));
            assert_eq!(Membership::from_raft(&membership.to_raft()), membership);
            for end in 0..bytes.len() {
                assert_eq!(Membership::decode(&bytes[..end]), Err(MembershipError::Malformed), "cut at {end}");
            }
            let mut longer = bytes.to_vec();
            longer.push(0);
            assert_eq!(Membership::decode(&longer), Err(MembershipError::Malformed));
        }
    }

    #[test]
    fn layout_does_not_change() {
        let bytes = Membership::single(NodeId(7)).encode();
        assert_eq!(&bytes[..], [1, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0]);
    }

    #[test]
    fn refuses_what_it_does_not_know() {
        assert_eq!(Membership::decode(&[2, 1, 0, 0]), Err(MembershipError::Version(2)));
        assert_eq!(Membership::decode(&[1, 3, 0, 0]), Err(MembershipError::Malformed));
        // Ids out of order, and a voter set without voters.
        assert_eq!(
            Membership::decode(&[1, 1, 0, 2, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0]),
            Err(MembershipError::Malformed)
        );
        assert_eq!(Membership::decode(&[1, 1, 0, 0, 0, 0]), Err(MembershipError::Malformed));
    }
}

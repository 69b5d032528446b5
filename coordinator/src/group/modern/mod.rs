//! What the groups have in common whose assignments the coordinator makes.

pub(crate) mod partitions;
pub(crate) mod topics;

//! What the groups have in common whose assignments the coordinator makes: topics, assignors, sessions of members.

pub(crate) mod assignor;
pub(crate) mod member_timers;
pub(crate) mod partitions;
pub(crate) mod topics;

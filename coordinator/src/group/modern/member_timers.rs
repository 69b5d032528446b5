//! The deadlines of one member.

use crate::timer::Timer;

#[derive(Clone, Debug, Default)]
pub(crate) struct MemberTimers {
    /// The member must be heard of before.
    pub(crate) session: Timer,
    /// The member must have given up what it was asked to before.
    pub(crate) rebalance: Timer,
    /// The member epoch that it is to leave behind until then.
    pub(crate) rebalance_epoch: i32,
    /// The member, which speaks the classic protocol, was told to rejoin and must have done so before.
    pub(crate) join: Timer,
    /// It has joined and must have asked for its assignment before.
    pub(crate) sync: Timer,
}

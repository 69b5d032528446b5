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
}

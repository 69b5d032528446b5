//! Where a group stands.

use corelane_protocol::Str;

/// State of a classic group. Kafka's `Dead` is left out: a group that ended is not in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum GroupState {
    /// No members; may hold offsets, and members that were given an id but have not joined yet.
    Empty,
    /// Members are expected to (re)join; answers to joins wait.
    PreparingRebalance,
    /// The generation is fixed and its leader's assignment is awaited; answers to syncs wait.
    CompletingRebalance,
    /// Every member can have its assignment.
    Stable,
}

impl GroupState {
    pub const ALL: [GroupState; 4] =
        [GroupState::Empty, GroupState::PreparingRebalance, GroupState::CompletingRebalance, GroupState::Stable];

    pub fn name(self) -> &'static str {
        match self {
            GroupState::Empty => "Empty",
            GroupState::PreparingRebalance => "PreparingRebalance",
            GroupState::CompletingRebalance => "CompletingRebalance",
            GroupState::Stable => "Stable",
        }
    }

    pub(crate) fn text(self) -> Str {
        Str::from_static(self.name())
    }

    /// Whether a group may go from `self` to `next`.
    pub(crate) fn leads_to(self, next: GroupState) -> bool {
        use GroupState::*;
        matches!(
            (self, next),
            (Empty | CompletingRebalance | Stable, PreparingRebalance)
                | (PreparingRebalance, CompletingRebalance | Empty)
                | (CompletingRebalance, Stable)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::GroupState::{self, *};

    #[test]
    fn only_the_ways_around_the_rebalance_are_open() {
        let open = [
            (Empty, PreparingRebalance),
            (PreparingRebalance, Empty),
            (PreparingRebalance, CompletingRebalance),
            (CompletingRebalance, PreparingRebalance),
            (CompletingRebalance, Stable),
            (Stable, PreparingRebalance),
        ];
        for from in GroupState::ALL {
            for to in GroupState::ALL {
                assert_eq!(from.leads_to(to), open.contains(&(from, to)), "{from:?} to {to:?}");
            }
        }
    }
}

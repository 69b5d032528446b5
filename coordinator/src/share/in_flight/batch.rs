//! The offsets that one fetch lent, as runs in the same slot.

use super::slot::Slot;

/// Ends at `last`; begins where the one before it ends, or with its batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) last: i64,
    pub(super) slot: Slot,
}

/// Never without a run. The first offset is its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Batch {
    pub(super) last: i64,
    pub(super) runs: Vec<Run>,
}

impl Batch {
    pub(super) fn new(last: i64, slot: Slot) -> Batch {
        Batch { last, runs: vec![Run { last, slot }] }
    }

    /// First and last offset and slot of each run; `first`: the batch's.
    pub(super) fn runs(&self, first: i64) -> impl Iterator<Item = (i64, i64, &Slot)> {
        self.runs.iter().scan(first, |next, run| {
            let begin = std::mem::replace(next, run.last + 1);
            Some((begin, run.last, &run.slot))
        })
    }

    /// As [`runs`](Self::runs), of the offsets `from ..= to` only.
    pub(super) fn within(&self, first: i64, from: i64, to: i64) -> impl Iterator<Item = (i64, i64, &Slot)> {
        let overlapping = self.runs(first).filter(move |(begin, last, _)| *last >= from && *begin <= to);
        overlapping.map(move |(begin, last, slot)| (begin.max(from), last.min(to), slot))
    }

    /// Changes the slots of the offsets `from ..= to`, which may be more than it has. `change` sees first and last offset of each
    /// part of a run that lies in there, in their order.
    pub(super) fn change(&mut self, first: i64, from: i64, to: i64, mut change: impl FnMut(i64, i64, &mut Slot)) {
        let mut changed: Vec<Run> = Vec::with_capacity(self.runs.len() + 2);
        let mut push = |last: i64, slot: Slot| match changed.last_mut() {
            Some(before) if before.slot == slot => before.last = last,
            _ => changed.push(Run { last, slot }),
        };
        let mut begin = first;
        for Run { last, slot } in self.runs.drain(..) {
            let (inner_first, inner_last) = (begin.max(from), last.min(to));
            if inner_first > inner_last {
                push(last, slot);
            } else {
                let mut inner = slot.clone();
                change(inner_first, inner_last, &mut inner);
                if inner_first > begin {
                    push(inner_first - 1, slot.clone());
                }
                push(inner_last, inner);
                if inner_last < last {
                    push(last, slot);
                }
            }
            begin = last + 1;
        }
        self.runs = changed;
    }
}

//! Faults that tests put into disk operations. One plan per thread; without one an operation pays one look at a flag.

use std::{
    cell::{Cell, RefCell},
    path::Path,
};

/// A kind of disk operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskOp {
    Open,
    Read,
    Write,
    Sync,
    Allocate,
    SetLen,
    Rename,
    Remove,
    CreateDir,
    ReadDir,
    Metadata,
}

/// What happens instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The operation does nothing and fails with this errno, such as `libc::EIO`.
    Error(i32),
    /// The kernel takes only this many bytes of the write at first; the rest follows, so the caller notices nothing.
    Short(usize),
    /// Only this many bytes reach the file, then the write fails with the errno.
    Torn(usize, i32),
}

#[derive(Clone, Debug)]
struct Rule {
    op: Option<DiskOp>,
    path_part: String,
    skip: u64,
    times: u64,
    effect: Effect,
}

/// Rules, of which the first that fits an operation applies.
#[derive(Clone, Debug, Default)]
pub struct FaultPlan {
    rules: Vec<Rule>,
}

impl FaultPlan {
    pub fn new() -> FaultPlan {
        FaultPlan::default()
    }

    /// Every operation of this kind on a path that contains `path_part` (all, if empty).
    pub fn every(self, op: DiskOp, path_part: &str, effect: Effect) -> FaultPlan {
        self.nth(op, path_part, 0, u64::MAX, effect)
    }

    /// The next such operation only.
    pub fn once(self, op: DiskOp, path_part: &str, effect: Effect) -> FaultPlan {
        self.nth(op, path_part, 0, 1, effect)
    }

    /// Leaves `skip` such operations alone, then hits `times` of them.
    pub fn nth(mut self, op: DiskOp, path_part: &str, skip: u64, times: u64, effect: Effect) -> FaultPlan {
        self.rules.push(Rule { op: Some(op), path_part: path_part.to_owned(), skip, times, effect });
        self
    }

    /// Every operation of any kind on a path that contains `path_part`.
    pub fn all(mut self, path_part: &str, effect: Effect) -> FaultPlan {
        self.rules.push(Rule { op: None, path_part: path_part.to_owned(), skip: 0, times: u64::MAX, effect });
        self
    }
}

thread_local! {
    static ACTIVE: Cell<bool> = const { Cell::new(false) };
    static PLAN: RefCell<FaultPlan> = const { RefCell::new(FaultPlan { rules: Vec::new() }) };
    static HITS: Cell<u64> = const { Cell::new(0) };
}

/// Replaces this thread's plan.
pub fn set(plan: FaultPlan) {
    ACTIVE.set(!plan.rules.is_empty());
    HITS.set(0);
    PLAN.replace(plan);
}

/// No faults from here on.
pub fn clear() {
    set(FaultPlan::new());
}

/// Operations hit since the plan was set.
pub fn hits() -> u64 {
    HITS.get()
}

#[inline]
pub(crate) fn check(op: DiskOp, path: &Path) -> Option<Effect> {
    if ACTIVE.get() { hit(op, path) } else { None }
}

#[cold]
fn hit(op: DiskOp, path: &Path) -> Option<Effect> {
    let path = path.to_string_lossy();
    PLAN.with_borrow_mut(|plan| {
        for r in &mut plan.rules {
            if r.op.is_some_and(|o| o != op) || !path.contains(&r.path_part) || r.times == 0 {
                continue;
            }
            if r.skip > 0 {
                r.skip -= 1;
                continue;
            }
            r.times -= 1;
            HITS.set(HITS.get() + 1);
            return Some(r.effect);
        }
        None
    })
}

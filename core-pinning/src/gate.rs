//! The life of what is under way: a gate is closed once, and closing waits for everybody inside.

use crate::sync::Event;
use std::{cell::Cell, rc::Rc};

/// Cheap to clone; all clones are one gate.
#[derive(Clone, Default)]
pub struct Gate(Rc<Inner>);

#[derive(Default)]
struct Inner {
    inside: Cell<usize>,
    closed: Cell<bool>,
    changed: Event,
}

impl Gate {
    pub fn new() -> Gate {
        Gate::default()
    }

    /// `None` once the gate is closed.
    pub fn enter(&self) -> Option<GateGuard> {
        if self.0.closed.get() {
            return None;
        }
        self.0.inside.set(self.0.inside.get() + 1);
        Some(GateGuard(self.0.clone()))
    }

    pub fn is_closed(&self) -> bool {
        self.0.closed.get()
    }

    /// Guards not dropped yet.
    pub fn inside(&self) -> usize {
        self.0.inside.get()
    }

    /// Lets nobody in any more and waits until all guards are dropped. May be called by several tasks, and more than once.
    pub async fn close(&self) {
        if !self.0.closed.replace(true) {
            self.0.changed.notify_all();
        }
        self.0.changed.wait_for(|| self.0.inside.get() == 0).await
    }

    /// Waits until somebody closes the gate.
    pub async fn closing(&self) {
        self.0.changed.wait_for(|| self.0.closed.get()).await
    }
}

/// Keeps the gate from finishing its close.
pub struct GateGuard(Rc<Inner>);

impl GateGuard {
    pub fn is_closing(&self) -> bool {
        self.0.closed.get()
    }
}

impl Clone for GateGuard {
    fn clone(&self) -> Self {
        self.0.inside.set(self.0.inside.get() + 1);
        GateGuard(self.0.clone())
    }
}

impl Drop for GateGuard {
    fn drop(&mut self) {
        self.0.inside.set(self.0.inside.get() - 1);
        if self.0.inside.get() == 0 && self.0.closed.get() {
            self.0.changed.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{run_local, task};

    #[test]
    fn close_waits_for_everybody_inside() {
        run_local(async || {
            let gate = Gate::new();
            let (a, b) = (gate.enter().unwrap(), gate.enter().unwrap());
            let g = gate.clone();
            let closing = task::spawn_here("closer", async move { g.close().await });
            let g = gate.clone();
            let told = task::spawn_here("told", async move { g.closing().await });
            task::yield_now().await;
            told.await;
            assert!(gate.enter().is_none() && a.is_closing());
            drop(a);
            task::yield_now().await;
            assert_eq!((gate.inside(), closing.is_finished()), (1, false));
            drop(b);
            closing.await;
            gate.close().await;
        });
    }
}

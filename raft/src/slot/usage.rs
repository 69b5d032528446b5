//! Control operations on a group: they keep its instance from being dropped.

use std::rc::Rc;

use super::{Phase, Slot};
use crate::proposal::ProposeError;
use crate::type_config::Raft;

/// Keeps a slot's instance from being dropped.
pub(crate) struct InUse(Rc<Slot>);

impl InUse {
    pub fn new(slot: &Rc<Slot>) -> InUse {
        slot.users.set(slot.users.get() + 1);
        InUse(slot.clone())
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        let slot = &self.0;
        slot.users.set(slot.users.get() - 1);
        slot.now_idle();
    }
}

/// The right to change the replica; also an [`InUse`].
pub(crate) struct Editing(InUse);

impl Editing {
    pub async fn begin(slot: &Rc<Slot>) -> Editing {
        let in_use = InUse::new(slot);
        slot.changed.wait_for(|| !slot.editing.replace(true)).await;
        Editing(in_use)
    }
}

impl Drop for Editing {
    fn drop(&mut self) {
        let slot = &self.0.0;
        slot.editing.set(false);
        slot.changed.notify_all();
    }
}

impl Slot {
    /// Builds the instance, if there is none.
    pub async fn wake(self: &Rc<Self>) -> Result<(), ProposeError> {
        let _in_use = InUse::new(self);
        loop {
            self.refusal()?;
            let changed = self.changed.listen();
            let cold = match &*self.phase.borrow() {
                Phase::Hot(_) => return Ok(()),
                Phase::Cold => true,
                Phase::Building | Phase::Dropping => false,
            };
            if cold {
                self.start();
            }
            changed.await;
        }
    }

    /// Waits until the slot is neither building nor dropping: the instance, or `None` if the replica is cold. It stays so
    /// until the caller awaits something.
    pub async fn settled(&self) -> Option<Raft> {
        self.changed.wait_for(|| !matches!(*self.phase.borrow(), Phase::Building | Phase::Dropping)).await;
        match &*self.phase.borrow() {
            Phase::Hot(instance) => Some(instance.raft.clone()),
            _ => None,
        }
    }
}

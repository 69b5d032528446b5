//! What ends an instance before its time, and what the group tells those who wait.

use std::rc::Rc;

use super::{Phase, Slot};
use crate::proposal::ProposeError;
use corelane_storage::StorageError;

/// Something went wrong.
pub(super) struct Fault {
    error: ProposeError,
    /// The group is fenced: nothing is built any more.
    fatal: bool,
}

impl Slot {
    /// Why nothing can be proposed now, if so.
    pub fn refusal(&self) -> Result<(), ProposeError> {
        if let Some(fault) = &*self.fault.borrow() {
            return Err(fault.error.clone());
        }
        if self.stopping.get() { Err(ProposeError::Shutdown) } else { Ok(()) }
    }

    /// Why the group is fenced, if it is.
    pub fn fence(&self) -> Option<ProposeError> {
        self.fault.borrow().as_ref().filter(|fault| fault.fatal).map(|fault| fault.error.clone())
    }

    pub fn is_fenced(&self) -> bool {
        self.fence().is_some()
    }

    /// Takes no proposals any more.
    pub fn is_stopping(&self) -> bool {
        self.stopping.get()
    }

    /// Why an instance went away with a proposal unanswered.
    pub fn stop_reason(&self) -> ProposeError {
        self.refusal().err().unwrap_or(ProposeError::Shutdown)
    }

    /// The log refused what it was asked before anything was done. A full or reluctant disk is no reason to fence the
    /// group: all that is in flight fails, openraft's instance (for which every error is the end) goes, and the next one
    /// may fare better.
    pub fn refused(self: &Rc<Self>, error: &StorageError) -> ProposeError {
        let fault = ProposeError::Storage(error.clone());
        self.fail(fault.clone(), !matches!(error, StorageError::DiskFull { .. } | StorageError::Io { .. }));
        fault
    }

    /// Fences the group: everything waiting fails with `fault`, and nothing is proposed until the process starts again.
    pub fn fail_for_good(self: &Rc<Self>, fault: ProposeError) {
        self.fail(fault, true);
    }

    fn fail(self: &Rc<Self>, error: ProposeError, fatal: bool) {
        if self.fault.borrow().as_ref().is_some_and(|fault| fault.fatal || !fatal) {
            return;
        }
        if !fatal && matches!(*self.phase.borrow(), Phase::Cold) {
            return; // there is no instance to be struck: whoever asked has the error
        }
        let partition = self.replica.log.key();
        if fatal {
            tracing::error!(%partition, %error, "Raft group is fenced");
        } else {
            tracing::warn!(%partition, %error, "Raft group takes nothing until this is over");
        }
        self.fault.replace(Some(Fault { error: error.clone(), fatal }));
        let waiting = self.waiting.take();
        for (_, answer) in waiting {
            answer.give(Err(error.clone()));
        }
        // Openraft answers what it still holds by dropping it. Not waited for: this may be one of its own tasks.
        drop(self.drop_instance());
    }

    pub(super) fn has_fault(&self) -> bool {
        self.fault.borrow().is_some()
    }

    /// The instance that a fault struck is gone. The log goes on where it ended, without what was in flight.
    pub(super) fn forget_fault(&self) {
        if self.has_fault() && !self.is_fenced() {
            self.fault.replace(None);
            self.next.set(self.replica.log.bounds().log_end);
        }
    }
}

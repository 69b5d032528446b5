//! Building an instance and dropping it.

use std::future::Future;
use std::rc::{Rc, Weak};
use std::time::Duration;

use core_pinning::task::{self, Queue};
use core_pinning::time;

use super::{Instance, Phase, Slot};
use crate::log_store::LogStore;
use crate::network::NoPeers;
use crate::proposal::{Answer, Produce, ProposeError};
use crate::runtime::TaskPanic;
use crate::runtime::scope::Scope;
use crate::state_machine::StateMachine;
use crate::type_config::Raft;

/// How long the tasks of a fenced group's instance are waited for: a disk that never answers may hold one of them.
const FENCED_TASKS_WAIT: Duration = Duration::from_secs(5);

impl Slot {
    /// Builds an instance for what waits. Cold only.
    pub(super) fn start(self: &Rc<Self>) {
        self.phase.replace(Phase::Building);
        // In the serving queue: openraft's tasks run in the queue of the one that builds them.
        task::spawn(Queue::Serve, "raft-build", self.clone().build()).detach();
    }

    async fn build(self: Rc<Self>) {
        self.registry.room().await;
        // The instance finds a log all of which is committed.
        self.changed.wait_for(|| self.alone.get() == 0).await;
        let group: Weak<Slot> = Rc::downgrade(&self);
        let scope = Scope::new(move |panic: &TaskPanic| {
            if let Some(group) = group.upgrade() {
                group.fail_for_good(ProposeError::Panicked(panic.0.clone()));
            }
        });
        let built = scope.run(self.make()).await;
        match built {
            Ok(Some(raft)) => {
                self.registry.built(&self);
                let instance = Instance { raft, scope };
                self.phase.replace(Phase::Hot(instance.clone()));
                // In order, and without an await: proposals made from now on come after these.
                while let Some((produce, answer)) = self.next_waiting() {
                    if !instance.send(produce, answer) {
                        self.not_sent();
                        break;
                    }
                }
                if self.has_fault() {
                    drop(instance);
                    self.drop_instance().await;
                }
            }
            // What was wrong has been noted, and told to those who waited.
            Ok(None) | Err(_) => {
                self.registry.vacate(&self);
                self.phase.replace(Phase::Cold);
                self.forget_fault();
            }
        }
        self.changed.notify_all();
    }

    pub(super) fn next_waiting(&self) -> Option<(Produce, Answer)> {
        self.waiting.borrow_mut().pop_front()
    }

    /// An instance that runs, or a fault.
    async fn make(self: &Rc<Self>) -> Option<Raft> {
        self.replica.survey();
        if let Err(error) = self.replica.claim_term().await {
            self.refused(&error);
            return None;
        }
        self.claimed.set(true);
        let raft = Raft::build(
            self.replica.node.0,
            self.registry.config.clone(),
            NoPeers,
            LogStore::new(self.clone()),
            StateMachine::new(self.clone()),
        );
        match raft.await {
            Ok(raft) => {
                raft.run();
                Some(raft)
            }
            Err(error) => {
                self.fail_for_good(ProposeError::Inconsistent(error.to_string().into()));
                None
            }
        }
    }

    /// True if there is an instance that nothing needs now.
    pub fn droppable(&self) -> bool {
        matches!(*self.phase.borrow(), Phase::Hot(_)) && (self.is_idle() || self.has_fault())
    }

    /// Drops the instance, if there is one; ready when nothing of it is left. Proposals that come meanwhile get a new one.
    ///
    /// The instance is gone for everybody else from the moment of the call, and goes on going if nobody waits for that.
    pub fn drop_instance(self: &Rc<Self>) -> impl Future<Output = ()> + use<> {
        let dropping = match self.phase.replace(Phase::Dropping) {
            Phase::Hot(instance) => Some(task::spawn(Queue::Serve, "raft-drop", self.clone().take_down(instance))),
            other => {
                self.phase.replace(other);
                None
            }
        };
        async move {
            if let Some(dropping) = dropping {
                dropping.await;
            }
        }
    }

    async fn take_down(self: Rc<Self>, Instance { raft, scope }: Instance) {
        // The error it returns is of a task that ended before; a fault has been noted by then.
        let _ = raft.shutdown().await;
        drop(raft);
        if !self.is_fenced() {
            scope.ended().await;
        } else if time::timeout(FENCED_TASKS_WAIT, scope.ended()).await.is_err() {
            tracing::warn!(partition = %self.replica.log.key(), tasks = scope.live(), "tasks of a fenced group hang");
        }
        self.registry.vacate(&self);
        self.phase.replace(Phase::Cold);
        self.forget_fault();
        self.go_on_alone();
        self.changed.notify_all();
    }

    /// Takes no more proposals, waits for those in flight, and drops the instance.
    pub async fn stop(self: Rc<Self>) {
        self.stopping.set(true);
        loop {
            let changed = self.changed.listen();
            if self.droppable() {
                self.drop_instance().await;
            } else if matches!(*self.phase.borrow(), Phase::Cold) && (self.is_idle() || self.is_fenced()) {
                break;
            } else {
                changed.await;
            }
        }
        self.registry.forget(&self);
    }
}

//! The way from ordinary threads into a shard.

use crate::reactor::{Remote, mail};
use crate::shard::lane;
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

struct Shared<M> {
    queue: Mutex<VecDeque<M>>,
    remote: Arc<Remote>,
}

/// Posts messages to one shard from any thread. Unbounded: what posts here is the control thread and signal handlers,
/// never the data path.
pub struct Inbox<M>(Arc<Shared<M>>);

impl<M> Clone for Inbox<M> {
    fn clone(&self) -> Self {
        Inbox(self.0.clone())
    }
}

impl<M: Send> Inbox<M> {
    /// Never blocks for long. Messages posted after the shard's end are dropped with the pool.
    pub fn post(&self, message: M) {
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner).push_back(message);
        self.0.remote.notify(mail::INBOX);
    }
}

/// The shard's end of its [`Inbox`].
pub struct InboxReceiver<M>(Arc<Shared<M>>);

impl<M> InboxReceiver<M> {
    pub fn try_recv(&self) -> Option<M> {
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    /// Messages in the order they were posted.
    pub async fn recv(&self) -> M {
        let reactor = lane::current().reactor.clone();
        loop {
            let arrived = reactor.mail_event(mail::INBOX).listen();
            if let Some(m) = self.try_recv() {
                return m;
            }
            arrived.await;
        }
    }
}

pub(super) fn pair<M>(remote: Arc<Remote>) -> (Inbox<M>, InboxReceiver<M>) {
    let shared = Arc::new(Shared { queue: Mutex::default(), remote });
    (Inbox(shared.clone()), InboxReceiver(shared))
}

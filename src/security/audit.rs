//! The audit: a line for every refused and every administrative request, in the log under the target `audit`.
//!
//! What clients send stands in quotes and escaped, so that no name can look like a line of its own. Lines of a kind are bounded
//! for each shard: who floods the broker with what it refuses fills no disk, and what is left out is counted.
//!
//! Where somebody wants the topic (`audit.topic.enable`), all of it goes to a queue as well, bounded by its bytes, that
//! `audit_log` writes.

mod event;
mod queue;

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use core_pinning::time::{Instant, now, wall_ms};

use self::event::What;
pub use self::event::{DONE, Event, Seen, missing};
pub use self::queue::EventQueue;
use super::Principal;

/// Lines of one kind that a shard writes at once, and a second later on.
const BURST: u32 = 1000;
const PER_SECOND: u32 = 100;
/// Letters of a name that nobody has vouched for.
const NAME_MAX: usize = 128;
/// Letters of each text in an event for the topic.
const TEXT_MAX: usize = 1000;

/// Who asks, for what.
#[derive(Clone, Copy)]
pub struct Asker<'a> {
    pub principal: &'a Principal,
    pub peer: SocketAddr,
    pub client_id: Option<&'a str>,
    /// Name of the API.
    pub api: &'static str,
}

pub struct Audit {
    refused: Gate,
    administrative: Gate,
    unauthenticated: Gate,
    /// For the topic.
    queue: Option<Rc<EventQueue>>,
}

impl Audit {
    /// `memory`: bytes for the topic, where somebody wants it.
    pub fn new(memory: Option<usize>) -> Audit {
        let queue = memory.map(|bytes| Rc::new(EventQueue::new(bytes)));
        Audit { refused: Gate::new(), administrative: Gate::new(), unauthenticated: Gate::new(), queue }
    }

    /// What is to be written to the topic.
    pub fn queue(&self) -> Option<Rc<EventQueue>> {
        self.queue.clone()
    }

    fn keep(&self, peer: SocketAddr, user: Option<String>, client_id: Option<&str>, what: impl FnOnce() -> What) {
        let Some(queue) = &self.queue else { return };
        let (ip, client_id) = (peer.ip().to_canonical(), client_id.map(shortened));
        queue.push(Event { user, ip, client_id, what: what() }, wall_ms(), peer.port());
    }

    /// A client may not do something. `resource`: its type and its name.
    pub fn refused(&self, asker: Asker<'_>, operation: &str, resource: (&str, &str)) {
        let Asker { principal, peer, client_id, api } = asker;
        self.keep(peer, Some(principal.to_string()), client_id, || {
            let resource = (resource.0.to_owned(), shortened(resource.1));
            What::Refused { api, operation: operation.to_owned(), resource }
        });
        let Some(left_out) = self.refused.pass(now()) else { return };
        let ((kind, name), principal) = (resource, principal.to_string());
        tracing::info!(
            target: "audit",
            ?principal, %peer, ?client_id, api, operation, resource_type = kind, resource = ?name, outcome = "refused",
            left_out_before = left_out
        );
    }

    /// Somebody did not get in. `user`: who he said he was.
    pub fn unauthenticated(&self, peer: SocketAddr, listener: &str, mechanism: &str, user: Option<&str>, reason: &str) {
        // A client that mixes things up may send its password as its name: not more than a name of it.
        let user = user.map(|user| user.chars().take(NAME_MAX).collect::<String>());
        self.keep(peer, user.clone(), None, || {
            let (listener, mechanism) = (listener.to_owned(), mechanism.to_owned());
            What::Unauthenticated { listener, mechanism, reason: shortened(reason) }
        });
        let Some(left_out) = self.unauthenticated.pass(now()) else { return };
        tracing::info!(
            target: "audit",
            %peer, listener, mechanism, ?user, reason, outcome = "unauthenticated", left_out_before = left_out
        );
    }

    /// A client changed something, or failed to.
    pub fn administrative(&self, asker: Asker<'_>, resources: &[String], outcome: &str) {
        let Asker { principal, peer, client_id, api } = asker;
        self.keep(peer, Some(principal.to_string()), client_id, || {
            let resources = resources.iter().map(|name| shortened(name)).collect();
            What::Administrative { api, resources, outcome: outcome.to_owned() }
        });
        let Some(left_out) = self.administrative.pass(now()) else { return };
        let principal = principal.to_string();
        tracing::info!(
            target: "audit",
            ?principal, %peer, ?client_id, api, ?resources, outcome, left_out_before = left_out
        );
    }
}

/// What a client has written, as far as an event has room for it.
fn shortened(text: &str) -> String {
    text.chars().take(TEXT_MAX).collect()
}

/// Lets so many lines through.
struct Gate {
    /// Lines that may pass at `since`.
    tokens: Cell<u32>,
    since: Cell<Instant>,
    /// Lines that did not pass since one did.
    left_out: Cell<u64>,
}

impl Gate {
    fn new() -> Gate {
        Gate { tokens: Cell::new(BURST), since: Cell::new(now()), left_out: Cell::new(0) }
    }

    /// The lines that were left out before this one; `None`: it is left out, too.
    fn pass(&self, now: Instant) -> Option<u64> {
        let period = Duration::from_secs(1) / PER_SECOND;
        let earned = (now - self.since.get()).as_nanos() / period.as_nanos();
        if earned > 0 {
            let earned = u32::try_from(earned).unwrap_or(u32::MAX);
            self.since.set(self.since.get() + period.saturating_mul(earned));
            self.tokens.set(self.tokens.get().saturating_add(earned).min(BURST));
        }
        match self.tokens.get().checked_sub(1) {
            Some(left) => {
                self.tokens.set(left);
                Some(self.left_out.take())
            }
            None => {
                self.left_out.set(self.left_out.get() + 1);
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_bounded_and_counted() {
        let gate = Gate::new();
        let begun = gate.since.get();
        let passed = (0..BURST + 500).filter(|_| gate.pass(begun).is_some()).count();
        assert_eq!(passed, BURST as usize);
        assert_eq!(gate.pass(begun + Duration::from_millis(9)), None);
        assert_eq!(gate.pass(begun + Duration::from_millis(10)), Some(501), "the next one says what it stands for");
        assert_eq!(gate.pass(begun + Duration::from_millis(10)), None);
        let later = begun + Duration::from_secs(3600);
        let passed = (0..BURST + 500).filter(|_| gate.pass(later).is_some()).count();
        assert_eq!(passed, BURST as usize, "an idle hour saves up no more than a burst");
    }
}

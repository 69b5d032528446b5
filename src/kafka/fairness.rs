//! How the core is divided where it does not do for all clients.
//!
//! The connections of one address, principal and client id count as one client. Who has had more than a tenth of the core lately, by
//! many connections or by one, is heavy. Heavy clients together have the core for a moment, then the ring is looked at, and the others
//! of them wait for turns of such moments, one at a time and behind those of all others: so those who ask for little wait for a
//! moment of theirs now and then, and not for all of their connections.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use core_pinning::task::{
    Turn, all_have_run_for_us, has_run_for_us, is_long_running, ran_for, someone_waits_for_a_turn, turn,
};
use core_pinning::time::{Instant, now};
use corelane_protocol::Str;
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;

use super::request::Client;
use crate::security::Principal;
use crate::shard::Shard;

/// One part in so many of the core is what a client may have and not be heavy.
const ALLOWED_PART: u32 = 10;
/// So much it may have at once.
const AT_ONCE: Duration = Duration::from_millis(2);
/// However much it has had, it is no longer heavy after ten times this.
const KEPT: Duration = Duration::from_millis(50);
/// What one turn of a heavy client may last, or what several of them have had in one go when the next begins to wait for its turn.
const HEAVY_TURN_US: u64 = 100;

/// Which connections count as one client.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Who {
    pub address: IpAddr,
    pub principal: Rc<Principal>,
    pub client_id: Option<Str>,
}

/// What a client has had of the core beyond what it may have all the time.
pub struct Usage {
    had: Cell<Duration>,
    as_of: Cell<Instant>,
    /// It was heavy then.
    was_heavy: Cell<bool>,
}

impl Usage {
    fn new() -> Usage {
        Usage { had: Cell::new(Duration::ZERO), as_of: Cell::new(now()), was_heavy: Cell::new(false) }
    }

    fn at(&self, now: Instant) -> Duration {
        self.had.get().saturating_sub(now.saturating_duration_since(self.as_of.get()) / ALLOWED_PART)
    }

    fn add(&self, ran: Duration, now: Instant) {
        self.had.set((self.at(now) + ran).min(KEPT));
        self.as_of.set(now);
        self.was_heavy.set(self.had.get() > AT_ONCE);
    }

    fn is_heavy(&self, now: Instant) -> bool {
        self.at(now) > AT_ONCE
    }

    /// The turn that a connection of its waits for before it takes more. `is_its_turn`: it has waited for one, and for nothing since.
    pub fn turn(&self, is_its_turn: bool) -> Option<Turn> {
        let heavy = self.was_heavy.get() && self.is_heavy(now());
        let waits = match heavy {
            true if is_its_turn => has_run_for_us(HEAVY_TURN_US),
            true => someone_waits_for_a_turn() || all_have_run_for_us(HEAVY_TURN_US),
            false => is_long_running(),
        };
        waits.then(|| turn(heavy))
    }
}

/// The clients of one shard.
#[derive(Default)]
pub struct Usages {
    of: RefCell<HashMap<Who, Weak<Usage>>>,
    /// Those who are gone are forgotten when there are so many.
    tidy_at: Cell<usize>,
}

impl Usages {
    pub fn of(&self, who: Who) -> Rc<Usage> {
        let mut of = self.of.borrow_mut();
        if of.len() > self.tidy_at.get() {
            of.retain(|_, usage| usage.strong_count() > 0);
            self.tidy_at.set(2 * of.len() + 64);
        }
        match of.entry(who) {
            Entry::Occupied(mut known) => known.get().upgrade().unwrap_or_else(|| {
                let usage = Rc::new(Usage::new());
                known.insert(Rc::downgrade(&usage));
                usage
            }),
            Entry::Vacant(new) => {
                let usage = Rc::new(Usage::new());
                new.insert(Rc::downgrade(&usage));
                usage
            }
        }
    }
}

/// A connection as its core polls it: what it takes is counted.
pub struct Counted<F> {
    serving: Pin<Box<F>>,
    client: Rc<Client>,
    shard: Rc<Shard>,
}

impl<F> Counted<F> {
    pub fn new(shard: Rc<Shard>, client: Rc<Client>, serving: F) -> Counted<F> {
        Counted { serving: Box::pin(serving), client, shard }
    }
}

impl<F: Future> Future for Counted<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.get_mut();
        let polled = this.serving.as_mut().poll(context);
        this.client.usage(&this.shard.usages).add(ran_for(), now());
        polled
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use core_pinning::task::{Queue, polled_at, spawn};
    use core_pinning::time::sleep;

    use super::*;

    fn who(client_id: usize) -> Who {
        Who {
            address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            principal: Rc::new(Principal::anonymous()),
            client_id: Some(client_id.to_string().into()),
        }
    }

    #[test]
    fn who_has_more_than_a_tenth_of_the_core_is_heavy_for_as_long_as_that_is_so() {
        let (usage, begun) = (Usage::new(), now());
        let after = |ms| begun + Duration::from_millis(ms);
        for ms in 1..1000 {
            usage.add(Duration::from_micros(100), after(ms));
            assert!(!usage.is_heavy(after(ms)), "a tenth, after {ms} ms");
        }
        for ms in 1000..1100 {
            usage.add(Duration::from_micros(200), after(ms));
        }
        assert!(usage.is_heavy(after(1100)) && !usage.is_heavy(after(1200)));
        usage.add(Duration::from_secs(100), after(1200));
        assert!(usage.is_heavy(after(1600)) && !usage.is_heavy(after(1700)));
    }

    #[test]
    fn however_many_connections_heavy_clients_have_others_wait_for_a_moment_of_theirs() {
        core_pinning::run_local(async || {
            const MOMENT_US: u64 = 60;
            let (usage, moments) = (Rc::new(Usage::new()), Rc::new(Cell::new(0)));
            let (go, stop) = (Rc::new(core_pinning::sync::Event::new()), Rc::new(Cell::new(false)));
            for _ in 0..200 {
                let (usage, moments) = (usage.clone(), moments.clone());
                let (go, stop) = (go.clone(), stop.clone());
                let connection = async move {
                    while !stop.get() {
                        // What wakes all of them at once.
                        go.listen().await;
                        let mut turn_came = 0;
                        while let Some(turn) = usage.turn(turn_came == polled_at()) {
                            turn.await;
                            turn_came = polled_at();
                        }
                        while !has_run_for_us(MOMENT_US) {
                            std::hint::spin_loop();
                        }
                        usage.add(ran_for(), now());
                        moments.set(moments.get() + 1);
                    }
                };
                spawn(Queue::Serve, "connection", connection).detach();
            }
            let other = spawn(Queue::Serve, "another client", async move {
                let mut most = 0;
                for _ in 0..50 {
                    usage.add(KEPT, now());
                    go.notify_all();
                    let before = moments.get();
                    // Its request comes by the ring.
                    sleep(Duration::from_micros(10)).await;
                    most = most.max(moments.get() - before);
                }
                stop.set(true);
                most
            });
            let most = other.await;
            // Two moments end what heavy clients may have in one go, and one has its turn; a few more where the machine stood still.
            assert!(most <= 10, "others waited for {most} of them");
        });
    }

    #[test]
    fn all_connections_of_a_client_count_as_one_until_the_last_is_gone() {
        let usages = Usages::default();
        let (one, other) = (usages.of(who(1)), usages.of(who(2)));
        assert!(Rc::ptr_eq(&one, &usages.of(who(1))) && !Rc::ptr_eq(&one, &other));
        one.add(Duration::from_secs(1), now());
        drop(one);
        assert!(usages.of(who(1)).at(now()).is_zero(), "it begins anew");
        (0..10_000).for_each(|name| drop(usages.of(who(name))));
        assert!(usages.of.borrow().len() < 100, "those who are gone take no memory");
    }
}

//! Whose turn it is: the shards of a pool have threads of their own, but only one runs at a time, by the seed's choice. When
//! none has anything to do, the clock moves to the next thing that happens by itself.

use super::world::World;
use crate::{reactor::Remote, shard::lane};
use std::{
    cell::Cell,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// How long everybody may wait for an ordinary thread before that is taken for a deadlock.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often ordinary threads are looked after.
const LOOK: Duration = Duration::from_millis(1);

#[derive(Default)]
pub(crate) struct Turns {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    seats: Vec<Seat>,
    /// Seats whose threads have not come yet.
    missing: usize,
    running: Option<usize>,
}

struct Seat {
    remote: Arc<Remote>,
    /// When it can go on by itself; `Some(0)`: now.
    next: Option<u64>,
    left: bool,
}

thread_local! {
    static SEAT: Cell<Option<usize>> = const { Cell::new(None) };
}

/// The calling thread runs shard `seat` of a pool.
pub(crate) fn sit_down(seat: usize) {
    SEAT.set(Some(seat));
}

impl Turns {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A pool of these shards is about to run.
    pub fn begin(&self, remotes: &[Arc<Remote>]) {
        let mut state = self.state();
        state.seats = remotes.iter().map(|r| Seat { remote: r.clone(), next: Some(0), left: false }).collect();
        state.missing = remotes.len();
        state.running = None;
    }

    /// Before a shard's first poll.
    pub fn wait(&self, world: &World) {
        let Some(me) = SEAT.get() else { return };
        let mut state = self.state();
        state.missing = state.missing.saturating_sub(1);
        self.until_mine(me, state, world);
    }

    fn until_mine(&self, me: usize, mut state: MutexGuard<'_, State>, world: &World) {
        let mut waited = 0;
        loop {
            if state.missing == 0 && state.running.is_none() {
                state.running = state.choose(world);
                self.changed.notify_all();
            }
            if state.running == Some(me) {
                return;
            }
            if state.running.is_none() && state.missing == 0 {
                waited += 1;
                assert!(LOOK * waited < PATIENCE, "deadlock: no shard has anything to do");
            }
            state = self.changed.wait_timeout(state, LOOK).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// After a poll: perhaps another shard goes on. With `idle` the calling one has nothing to do now.
    pub fn pass_on(&self, world: &World, idle: bool) {
        let Some(me) = SEAT.get() else {
            if idle {
                wait_alone(world);
            }
            return;
        };
        if !idle && !world.schedule().one_in(4) {
            return;
        }
        let next = if idle { lane::with_reactor(|r| r.next_due()).flatten() } else { Some(0) };
        let mut state = self.state();
        if let Some(seat) = state.seats.get_mut(me) {
            seat.next = next;
        }
        state.running = None;
        self.until_mine(me, state, world);
    }

    /// The shard has ended.
    pub fn leave(&self) {
        let Some(me) = SEAT.take() else { return };
        let mut state = self.state();
        if let Some(seat) = state.seats.get_mut(me) {
            seat.left = true;
        }
        state.running = None;
        self.changed.notify_all();
    }
}

impl State {
    fn choose(&self, world: &World) -> Option<usize> {
        let here = || self.seats.iter().enumerate().filter(|(_, s)| !s.left);
        let now = world.now();
        let can = |s: &Seat| s.next.is_some_and(|at| at <= now) || s.remote.has_mail();
        let ready: Vec<usize> = here().filter(|(_, s)| can(s)).map(|(i, _)| i).collect();
        if !ready.is_empty() {
            return Some(world.schedule().pick(&ready));
        }
        let (at, seat) = here().filter_map(|(i, s)| s.next.map(|at| (at, i))).min()?;
        world.advance_to(at);
        Some(seat)
    }
}

/// A shard by itself has nothing to do: on to the next thing that happens.
fn wait_alone(world: &World) {
    let mut waited = 0;
    let (next, remote) = lane::with_reactor(|r| (r.next_due(), r.remote.clone())).expect("a shard has a reactor");
    if let Some(at) = next {
        return world.advance_to(at);
    }
    while !remote.has_mail() {
        assert!(world.implied, "deadlock: {} tasks wait, and nothing will ever happen", lane::current().live_tasks());
        assert!(LOOK * waited < PATIENCE, "deadlock: nothing happens, and no other thread does anything");
        std::thread::park_timeout(LOOK);
        waited += 1;
    }
}

//! What is known of a partition from outside: what was done to it, and what of that was acknowledged.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use bytes::Bytes;
use corelane_storage::model::{LogId, Offset};
use corelane_storage::record::BatchHeader;
use corelane_storage::{EntryKind, VoteRecord};

pub type Entry = (LogId, EntryKind, Bytes);

/// What goes through the journal, in its order. A crash leaves the effects of the first so many.
#[derive(Clone)]
pub enum Change {
    Create(Entry, VoteRecord),
    Append(Entry),
    Truncate(usize),
    Vote(VoteRecord),
    Start(Offset),
    Delete,
}

/// A partition after some changes. Entries that were purged stay in the list.
#[derive(Clone, Default)]
pub struct State {
    pub entries: Vec<Entry>,
    pub vote: Option<VoteRecord>,
    pub log_start: Offset,
}

/// Writes of the journal, for all partitions of a store: a write says that all was durable that had been acknowledged before
/// it began, and two at most are under way.
#[derive(Clone, Default)]
pub struct Proofs {
    begun: Option<Rc<dyn Fn() -> u64>>,
    /// At the last acknowledgement of any partition.
    latest: Rc<Cell<u64>>,
    /// How many changes of this one were acknowledged when so many writes had begun.
    at: Rc<RefCell<Vec<(usize, u64)>>>,
}

impl Proofs {
    pub fn new(begun: impl Fn() -> u64 + 'static) -> Proofs {
        Proofs { begun: Some(Rc::new(begun)), ..Proofs::default() }
    }

    fn take_note(&self, count: usize) {
        if let Some(begun) = &self.begun {
            self.latest.set(begun());
            self.at.borrow_mut().push((count, self.latest.get()));
        }
    }

    /// Changes of which a later write tells.
    fn proved(&self) -> usize {
        let told =
            self.at.borrow().iter().filter(|(_, begun)| begun + 3 <= self.latest.get()).map(|(count, _)| *count).max();
        told.unwrap_or(0)
    }
}

#[derive(Default)]
pub struct Model {
    /// At the last restart; `None`: there was no such partition.
    base: Option<State>,
    changes: Vec<Change>,
    /// How many of the changes were acknowledged.
    acknowledged: Rc<Cell<usize>>,
    /// Which of them the journal can prove, should it be damaged.
    proofs: Proofs,
    /// As things stand now.
    pub now: Option<State>,
    pub applied: usize,
    /// The log start moves by what the log decides (retention), and may have been made durable up to here.
    pub start_limit: Offset,
    /// Batches that end before it may have been compacted.
    pub compacted_to: Offset,
    /// The highest term that anything had.
    pub term: u64,
}

fn apply(state: &mut Option<State>, change: &Change) {
    match (change, state.as_mut()) {
        (Change::Create(first, vote), _) => {
            *state = Some(State { entries: vec![first.clone()], vote: Some(*vote), log_start: Offset(0) });
        }
        (Change::Delete, _) => *state = None,
        (_, None) => unreachable!("only a partition that is there changes"),
        (Change::Append(entry), Some(s)) => s.entries.push(entry.clone()),
        (Change::Truncate(keep), Some(s)) => s.entries.truncate(*keep),
        (Change::Vote(vote), Some(s)) => s.vote = Some(*vote),
        (Change::Start(offset), Some(s)) => s.log_start = s.log_start.max(*offset),
    }
}

impl State {
    pub fn log_end(&self) -> Offset {
        let data = self.entries.iter().rev().find(|(_, kind, _)| *kind == EntryKind::Data);
        data.map_or(Offset(0), |(_, _, batch)| header(batch).next_offset())
    }

    /// The batches that hold offsets from `from` on.
    pub fn batches(&self, from: Offset) -> Vec<Bytes> {
        let data = self.entries.iter().filter(|(_, kind, _)| *kind == EntryKind::Data);
        data.map(|(_, _, b)| b.clone()).filter(|b| header(b).last_offset() >= from).collect()
    }
}

pub fn header(batch: &Bytes) -> BatchHeader {
    BatchHeader::parse(batch).unwrap()
}

/// Tells a model that a change is durable.
pub struct Acknowledge {
    count: usize,
    acknowledged: Rc<Cell<usize>>,
    proofs: Proofs,
}

impl Acknowledge {
    pub fn now(self) {
        assert!(self.count >= self.acknowledged.get(), "acknowledged out of order");
        self.acknowledged.set(self.count);
        self.proofs.take_note(self.count);
    }
}

impl Model {
    /// Something was asked for.
    pub fn change(&mut self, change: Change) -> Acknowledge {
        apply(&mut self.now, &change);
        self.changes.push(change);
        Acknowledge { count: self.changes.len(), acknowledged: self.acknowledged.clone(), proofs: self.proofs.clone() }
    }

    pub fn state(&self) -> &State {
        self.now.as_ref().expect("a partition that is there")
    }

    /// What a process that ended in order leaves.
    pub fn settle(&mut self) {
        self.restart(self.now.clone());
    }

    /// Acknowledgements from now on are those of a store whose journal has begun so many writes.
    pub fn prove_by(&mut self, proofs: &Proofs) {
        self.proofs = Proofs { at: Rc::default(), ..proofs.clone() };
    }

    /// The states that a crash may leave, the latest first.
    pub fn survivors(&self) -> Vec<Option<State>> {
        self.states_from(self.acknowledged.get())
    }

    /// The same where a place in the journal is damaged of which nobody knows that it was durable.
    pub fn survivors_proved(&self) -> Vec<Option<State>> {
        self.states_from(self.proofs.proved())
    }

    /// Any state since the last restart.
    pub fn all_states(&self) -> Vec<Option<State>> {
        self.states_from(0)
    }

    fn states_from(&self, first: usize) -> Vec<Option<State>> {
        let mut state = self.base.clone();
        let mut states = Vec::new();
        for count in 0..=self.changes.len() {
            if count > 0 {
                apply(&mut state, &self.changes[count - 1]);
            }
            if count >= first {
                states.push(state.clone());
            }
        }
        states.reverse();
        states
    }

    /// The log start cannot be beyond this, where these are all that the partition may be.
    pub fn highest_start(&self, states: &[Option<State>]) -> Offset {
        states.iter().flatten().map(|s| s.log_start).fold(self.start_limit, Offset::max)
    }

    /// This is what was found after a restart.
    pub fn restart(&mut self, found: Option<State>) {
        self.base = found.clone();
        self.changes.clear();
        self.acknowledged = Rc::default();
        self.proofs = Proofs::default();
        self.applied = self.applied.min(found.as_ref().map_or(0, |s| s.entries.len()));
        self.start_limit = found.as_ref().map_or(Offset(0), |s| s.log_start);
        self.compacted_to = self.compacted_to.min(found.as_ref().map_or(Offset(0), State::log_end));
        self.now = found;
    }
}

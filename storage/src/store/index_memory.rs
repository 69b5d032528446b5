//! What of the indexes of sealed segments is in memory: within one budget for the shard, what was used longest ago going first.

use std::cell::RefCell;
use std::rc::{Rc, Weak};

use crate::log::LogInner;
use crate::map::HashMap;
use crate::model::{Offset, PartitionKey};
use crate::segment::index::{IndexEntry, IndexPage};

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Name {
    /// The whole index of a segment.
    Whole(PartitionKey, Offset),
    /// The heads of a log's indexes.
    Heads(PartitionKey),
    /// A page: of the segment's index whose head has that checksum.
    Page(PartitionKey, Offset, u32, u16),
}

enum What {
    /// With the log.
    Kept(Weak<LogInner>),
    Page(IndexPage),
}

struct Held {
    what: What,
    bytes: usize,
    used: u64,
}

#[derive(Default)]
struct State {
    held: HashMap<Name, Held>,
    bytes: usize,
    clock: u64,
}

pub(crate) struct Indexes {
    limit: usize,
    state: RefCell<State>,
}

impl Indexes {
    pub(crate) fn new(limit: usize) -> Indexes {
        Indexes { limit, state: RefCell::default() }
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> usize {
        self.state.borrow().bytes
    }

    /// Takes note of a finished segment's index in the log. The log may be borrowed: others are asked only if they are not.
    pub(crate) fn add_whole(&self, log: &Rc<LogInner>, segment: Offset, bytes: usize) {
        self.put(Name::Whole(log.key, segment), What::Kept(Rc::downgrade(log)), bytes);
    }

    /// The index was used.
    pub(crate) fn touch_whole(&self, log: &LogInner, segment: Offset) {
        self.state.borrow_mut().touch(&Name::Whole(log.key, segment));
    }

    /// Takes note of what the heads in the log take now.
    pub(crate) fn add_heads(&self, log: &Rc<LogInner>, bytes: usize) {
        self.put(Name::Heads(log.key), What::Kept(Rc::downgrade(log)), bytes);
    }

    pub(crate) fn touch_heads(&self, log: &LogInner) {
        self.state.borrow_mut().touch(&Name::Heads(log.key));
    }

    pub(crate) fn add_page(&self, log: &LogInner, segment: Offset, head: u32, number: u16, page: IndexPage) {
        let bytes = page.len() * size_of::<IndexEntry>();
        self.put(Name::Page(log.key, segment, head, number), What::Page(page), bytes);
    }

    pub(crate) fn page(&self, log: &LogInner, segment: Offset, head: u32, number: u16) -> Option<IndexPage> {
        match &self.state.borrow_mut().touch(&Name::Page(log.key, segment, head, number))?.what {
            What::Page(page) => Some(page.clone()),
            What::Kept(_) => None,
        }
    }

    fn put(&self, name: Name, what: What, bytes: usize) {
        let state = &mut *self.state.borrow_mut();
        state.clock += 1;
        let bytes = bytes + size_of::<(Name, Held)>();
        state.bytes += bytes;
        if let Some(before) = state.held.insert(name, Held { what, bytes, used: state.clock }) {
            state.bytes -= before.bytes;
        }
        if state.bytes > self.limit {
            state.shrink(self.limit);
        }
    }
}

impl State {
    fn touch(&mut self, name: &Name) -> Option<&Held> {
        self.clock += 1;
        let found = self.held.get_mut(name)?;
        found.used = self.clock;
        Some(found)
    }

    /// Lets go of the older ones down to three quarters of the limit, so that looking for them is rare. What was put last stays.
    fn shrink(&mut self, limit: usize) {
        let mut names: Vec<(u64, Name)> = self.held.iter().map(|(name, held)| (held.used, *name)).collect();
        names.sort_unstable_by_key(|(used, _)| *used);
        names.pop();
        for (_, name) in names {
            if self.bytes <= limit / 4 * 3 {
                break;
            }
            let log = self.held.get(&name).and_then(|held| match &held.what {
                What::Kept(log) => log.upgrade(),
                What::Page(_) => None,
            });
            if log.is_none_or(|log| {
                log.give_index_back(match name {
                    Name::Whole(_, base) => Some(base),
                    _ => None,
                })
            }) && let Some(gone) = self.held.remove(&name)
            {
                self.bytes -= gone.bytes;
            }
        }
    }
}

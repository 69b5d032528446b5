//! The file system of a simulated machine: for every file and directory what is seen, and what a loss of power leaves.
//!
//! - Bytes are durable once a sync of their file that began after their write has ended, or their write through an `O_DSYNC`
//!   handle; a name once the directories that its change touches have been synced. Nothing else makes anything durable: a
//!   file system that keeps more is no worse.
//! - When the power goes each sector of 512 bytes written and not durable is kept or not, whatever the order of the writes.
//!   Changes of a file's size are kept up to some one; names change in the order of their changes, each name by itself.

use super::{disk::FaultCounts, random::Rng};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    ffi::{OsStr, OsString},
    path::{Component, Path, PathBuf},
};

pub(crate) type Ino = u64;
pub(crate) const ROOT: Ino = 0;
const SECTOR: usize = 512;

#[derive(Default)]
struct Node {
    kind: Kind,
    /// Names that are seen.
    links: u32,
    modified_ms: i64,
}

enum Kind {
    File(Content),
    Dir { names: BTreeMap<OsString, Ino>, durable: BTreeMap<OsString, Ino> },
}

impl Default for Kind {
    fn default() -> Kind {
        Kind::File(Content::default())
    }
}

#[derive(Default)]
struct Content {
    seen: Vec<u8>,
    durable: Vec<u8>,
    /// Changes that are not all durable yet, in order.
    changes: VecDeque<Change>,
    /// Space taken beyond the end.
    reserved: usize,
    /// What counts against the capacity.
    charged: u64,
}

struct Change {
    sequence: u64,
    durable: bool,
    what: What,
}

enum What {
    Bytes { at: usize, bytes: Box<[u8]> },
    Len(usize),
}

/// A change of names that is kept or lost as one.
struct NameChange {
    sequence: u64,
    names: Vec<(Ino, OsString, Option<Ino>)>,
    /// Directories it touches that were not synced since.
    unsynced: BTreeSet<Ino>,
}

pub(crate) struct Files {
    nodes: BTreeMap<Ino, Node>,
    next_ino: Ino,
    sequence: u64,
    changes: VecDeque<NameChange>,
    pub capacity: u64,
    used: u64,
    pub now_ms: i64,
}

impl Content {
    fn push(&mut self, sequence: u64, what: What, durable: bool) {
        self.changes.push_back(Change { sequence, durable, what });
        if durable {
            self.apply_durable();
        }
    }

    fn apply_durable(&mut self) {
        while let Some(change) = self.changes.pop_front_if(|c| c.durable) {
            change.what.apply(&mut self.durable, |_| true);
        }
    }

    /// Makes durable what began before `sequence`.
    fn sync(&mut self, sequence: u64) {
        self.changes.iter_mut().filter(|c| c.sequence < sequence).for_each(|c| c.durable = true);
        self.apply_durable();
    }

    /// What a loss of power leaves, which is then what is seen.
    fn cut_power(&mut self, keep: &mut dyn FnMut() -> bool, counts: &mut FaultCounts) {
        // Sizes change in order: all up to some change are kept.
        let mut sizes_kept = true;
        let mut limit = usize::MAX;
        for change in std::mem::take(&mut self.changes) {
            match change.what {
                What::Len(len) => {
                    sizes_kept = change.durable || sizes_kept && keep();
                    if sizes_kept {
                        self.durable.resize(len, 0);
                    } else {
                        limit = limit.min(len);
                    }
                }
                What::Bytes { at, mut bytes } => {
                    let end = (at + bytes.len()).min(limit).min(self.durable.len());
                    if at >= end {
                        continue;
                    }
                    bytes = bytes[..end - at].into();
                    let (mut kept, mut lost) = (0, 0);
                    What::Bytes { at, bytes }.apply(&mut self.durable, |_| {
                        let keep = change.durable || keep();
                        *(if keep { &mut kept } else { &mut lost }) += 1;
                        keep
                    });
                    counts.kept += kept;
                    counts.lost += lost;
                    counts.torn += u64::from(kept > 0 && lost > 0);
                }
            }
        }
        self.seen.clone_from(&self.durable);
        self.reserved = 0;
    }
}

impl What {
    /// Brings the change into `content`, those sectors of it that are to be kept. Bytes beyond the end do not extend it.
    fn apply(self, content: &mut Vec<u8>, mut keep: impl FnMut(usize) -> bool) {
        match self {
            What::Len(len) => content.resize(len, 0),
            What::Bytes { at, bytes } => {
                let mut done = 0;
                while done < bytes.len() {
                    let from = at + done;
                    let upto = ((from / SECTOR + 1) * SECTOR).min(at + bytes.len());
                    if keep(from / SECTOR)
                        && let Some(into) = content.get_mut(from..upto)
                    {
                        into.copy_from_slice(&bytes[done..upto - at]);
                    }
                    done = upto - at;
                }
            }
        }
    }
}

impl Files {
    pub fn new() -> Files {
        let root =
            Node { kind: Kind::Dir { names: BTreeMap::new(), durable: BTreeMap::new() }, links: 1, modified_ms: 0 };
        Files {
            nodes: [(ROOT, root)].into(),
            next_ino: ROOT + 1,
            sequence: 0,
            changes: VecDeque::new(),
            capacity: 1 << 40,
            used: 0,
            now_ms: 0,
        }
    }

    pub fn next_sequence(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }

    /// Bytes taken.
    pub fn used(&self) -> u64 {
        self.used
    }

    /// Every file and directory.
    pub fn all(&self) -> Vec<Ino> {
        self.nodes.keys().copied().collect()
    }

    pub fn is_dir(&self, ino: Ino) -> bool {
        self.nodes.get(&ino).is_some_and(|n| matches!(n.kind, Kind::Dir { .. }))
    }

    pub fn names(&self, dir: Ino) -> Result<&BTreeMap<OsString, Ino>, i32> {
        match self.nodes.get(&dir).map(|n| &n.kind) {
            Some(Kind::Dir { names, .. }) => Ok(names),
            Some(Kind::File(_)) => Err(libc::ENOTDIR),
            None => Err(libc::ENOENT),
        }
    }

    /// The bytes of a file; of a directory, an error.
    pub fn content(&self, ino: Ino) -> Result<&[u8], i32> {
        match self.nodes.get(&ino).map(|n| &n.kind) {
            Some(Kind::File(c)) => Ok(&c.seen),
            Some(Kind::Dir { .. }) => Err(libc::EISDIR),
            None => Err(libc::ENOENT),
        }
    }

    fn file(&mut self, ino: Ino) -> Result<&mut Content, i32> {
        match self.nodes.get_mut(&ino) {
            Some(node) => match &mut node.kind {
                Kind::File(c) => {
                    node.modified_ms = self.now_ms;
                    Ok(c)
                }
                Kind::Dir { .. } => Err(libc::EISDIR),
            },
            None => Err(libc::ENOENT),
        }
    }

    pub fn find(&self, path: &Path) -> Result<Ino, i32> {
        let mut at = ROOT;
        for part in path.components() {
            match part {
                Component::Normal(name) => at = *self.names(at)?.get(name).ok_or(libc::ENOENT)?,
                Component::RootDir | Component::CurDir => {}
                Component::ParentDir | Component::Prefix(_) => return Err(libc::EINVAL),
            }
        }
        Ok(at)
    }

    /// The directory that holds the last name of a path, and that name.
    fn place<'a>(&self, path: &'a Path) -> Result<(Ino, &'a OsStr), i32> {
        let name = path.file_name().ok_or(libc::EINVAL)?;
        let dir = self.find(path.parent().unwrap_or(Path::new("")))?;
        if self.is_dir(dir) { Ok((dir, name)) } else { Err(libc::ENOTDIR) }
    }

    fn change_names(&mut self, names: Vec<(Ino, OsString, Option<Ino>)>) {
        let sequence = self.next_sequence();
        for (dir, name, ino) in &names {
            let before = match self.nodes.get_mut(dir).map(|n| &mut n.kind) {
                Some(Kind::Dir { names, .. }) => match ino {
                    Some(ino) => names.insert(name.clone(), *ino),
                    None => names.remove(name),
                },
                _ => None,
            };
            before.into_iter().for_each(|ino| self.count_links(ino, -1));
            ino.iter().for_each(|ino| self.count_links(*ino, 1));
        }
        let unsynced = names.iter().map(|(dir, ..)| *dir).collect();
        self.changes.push_back(NameChange { sequence, names, unsynced });
    }

    fn count_links(&mut self, ino: Ino, by: i32) {
        if let Some(node) = self.nodes.get_mut(&ino) {
            node.links = node.links.saturating_add_signed(by);
        }
    }

    fn make(&mut self, path: &Path, kind: Kind) -> Result<Ino, i32> {
        let (dir, name) = self.place(path)?;
        if self.names(dir)?.contains_key(name) {
            return Err(libc::EEXIST);
        }
        let ino = self.next_ino;
        self.next_ino += 1;
        self.nodes.insert(ino, Node { kind, links: 0, modified_ms: self.now_ms });
        self.change_names(vec![(dir, name.to_owned(), Some(ino))]);
        Ok(ino)
    }

    pub fn make_file(&mut self, path: &Path) -> Result<Ino, i32> {
        self.make(path, Kind::default())
    }

    pub fn make_dir(&mut self, path: &Path) -> Result<(), i32> {
        self.make(path, Kind::Dir { names: BTreeMap::new(), durable: BTreeMap::new() }).map(drop)
    }

    pub fn rename(&mut self, from: &Path, to: &Path) -> Result<(), i32> {
        let ((from_dir, from_name), (to_dir, to_name)) = (self.place(from)?, self.place(to)?);
        let ino = *self.names(from_dir)?.get(from_name).ok_or(libc::ENOENT)?;
        match self.names(to_dir)?.get(to_name) {
            Some(there) if *there == ino => return Ok(()),
            Some(there) if self.is_dir(*there) != self.is_dir(ino) => {
                return Err(if self.is_dir(*there) { libc::EISDIR } else { libc::ENOTDIR });
            }
            Some(there) if self.is_dir(*there) && !self.names(*there)?.is_empty() => return Err(libc::ENOTEMPTY),
            _ => {}
        }
        self.change_names(vec![(from_dir, from_name.to_owned(), None), (to_dir, to_name.to_owned(), Some(ino))]);
        Ok(())
    }

    pub fn unlink(&mut self, path: &Path, dir: bool) -> Result<(), i32> {
        let (parent, name) = self.place(path)?;
        let ino = *self.names(parent)?.get(name).ok_or(libc::ENOENT)?;
        match (dir, self.names(ino)) {
            (true, Err(_)) => return Err(libc::ENOTDIR),
            (false, Ok(_)) => return Err(libc::EISDIR),
            (true, Ok(names)) if !names.is_empty() => return Err(libc::ENOTEMPTY),
            _ => {}
        }
        self.change_names(vec![(parent, name.to_owned(), None)]);
        Ok(())
    }

    fn charge(&mut self, ino: Ino) {
        let Ok(c) = self.file(ino) else { return };
        let (before, now) = (c.charged, c.seen.len().max(c.reserved) as u64);
        c.charged = now;
        self.used = self.used - before + now;
    }

    /// How many of the bytes of a file up to `end` there is room for, counted from its present end; at most `end`.
    pub fn room_for(&self, ino: Ino, end: usize) -> usize {
        let Some(Kind::File(c)) = self.nodes.get(&ino).map(|n| &n.kind) else { return end };
        let more = (end as u64).saturating_sub(c.charged);
        let free = self.capacity.saturating_sub(self.used);
        if more <= free { end } else { free as usize }
    }

    /// Writes, growing the file if need be.
    pub fn write(&mut self, ino: Ino, at: usize, bytes: &[u8], durable: bool) -> Result<(), i32> {
        let sequence = self.next_sequence();
        let c = self.file(ino)?;
        let end = at + bytes.len();
        if durable {
            // A size is durable only with those before it.
            c.changes.iter_mut().filter(|c| matches!(c.what, What::Len(_))).for_each(|c| c.durable = true);
        }
        if end > c.seen.len() {
            c.seen.resize(end, 0);
            c.push(sequence, What::Len(end), durable);
        }
        c.seen[at..end].copy_from_slice(bytes);
        c.push(sequence, What::Bytes { at, bytes: bytes.into() }, durable);
        self.charge(ino);
        Ok(())
    }

    /// A write that failed: any of its sectors may be there.
    pub fn write_in_part(&mut self, ino: Ino, at: usize, bytes: &[u8], rng: &mut Rng) {
        let Ok(len) = self.content(ino).map(<[u8]>::len) else { return };
        let mut done = 0;
        while done < bytes.len() {
            let n = (SECTOR - (at + done) % SECTOR).min(bytes.len() - done);
            if at + done + n <= len && rng.one_in(2) {
                let _ = self.write(ino, at + done, &bytes[done..done + n], false);
            }
            done += n;
        }
    }

    pub fn set_len(&mut self, ino: Ino, len: u64) -> Result<(), i32> {
        let sequence = self.next_sequence();
        let c = self.file(ino)?;
        c.seen.resize(len as usize, 0);
        c.reserved = 0;
        c.push(sequence, What::Len(len as usize), false);
        self.charge(ino);
        Ok(())
    }

    /// Takes space up to `end`; with `grow` the file's size too.
    pub fn reserve(&mut self, ino: Ino, end: u64, grow: bool) -> Result<(), i32> {
        if self.room_for(ino, end as usize) < end as usize {
            return Err(libc::ENOSPC);
        }
        let sequence = self.next_sequence();
        let c = self.file(ino)?;
        c.reserved = c.reserved.max(end as usize);
        if grow && end as usize > c.seen.len() {
            c.seen.resize(end as usize, 0);
            c.push(sequence, What::Len(end as usize), false);
        }
        self.charge(ino);
        Ok(())
    }

    /// Puts zeroes into what there is of a range.
    pub fn punch(&mut self, ino: Ino, pos: u64, len: u64) -> Result<(), i32> {
        let upto = self.content(ino)?.len().min((pos + len) as usize);
        let zeroes = vec![0; upto.saturating_sub(pos as usize)];
        if zeroes.is_empty() { Ok(()) } else { self.write(ino, pos as usize, &zeroes, false) }
    }

    /// Makes durable what was done to the file, or the names of the directory, before the operation `sequence` began.
    pub fn sync(&mut self, ino: Ino, sequence: u64) {
        if let Ok(c) = self.file(ino) {
            return c.sync(sequence);
        }
        for change in self.changes.iter_mut().filter(|c| c.sequence < sequence) {
            change.unsynced.remove(&ino);
        }
        // A change is kept only with those before it of the same names.
        let mut needed: BTreeSet<(Ino, OsString)> = BTreeSet::new();
        let key = |(dir, name, _): &(Ino, OsString, Option<Ino>)| (*dir, name.clone());
        let mut durable = Vec::new();
        for change in self.changes.iter().rev() {
            let keep = change.unsynced.is_empty() || change.names.iter().any(|n| needed.contains(&key(n)));
            if keep {
                needed.extend(change.names.iter().map(key));
            }
            durable.push(keep);
        }
        for _ in 0..self.changes.len() {
            let Some(change) = self.changes.pop_front() else { break };
            match durable.pop() {
                Some(true) => self.keep_names(change),
                _ => self.changes.push_back(change),
            }
        }
    }

    fn keep_names(&mut self, change: NameChange) {
        for (dir, name, ino) in change.names {
            if let Some(Kind::Dir { durable, .. }) = self.nodes.get_mut(&dir).map(|n| &mut n.kind) {
                match ino {
                    Some(ino) => _ = durable.insert(name, ino),
                    None => _ = durable.remove(&name),
                }
            }
        }
    }

    /// A sync failed: the kernel may think that what it was for is on the disk, and never write it again.
    pub fn forget_unsynced(&mut self, ino: Ino, sequence: u64, rng: &mut Rng) {
        if let Ok(c) = self.file(ino) {
            let gone = |c: &Change| matches!(c.what, What::Bytes { .. }) && !c.durable && c.sequence < sequence;
            c.changes.retain(|c| !gone(c) || rng.one_in(2));
            c.apply_durable();
        }
    }

    /// Frees what has no name, durable or seen, and of which `is_open` is false.
    pub fn collect(&mut self, is_open: impl Fn(Ino) -> bool) {
        let unnamed: Vec<Ino> =
            self.nodes.iter().filter(|(i, n)| n.links == 0 && !is_open(**i)).map(|(i, _)| *i).collect();
        if unnamed.is_empty() {
            return;
        }
        let mut durable = BTreeSet::new();
        for node in self.nodes.values() {
            if let Kind::Dir { durable: names, .. } = &node.kind {
                durable.extend(names.values().copied());
            }
        }
        durable.extend(self.changes.iter().flat_map(|c| c.names.iter().filter_map(|n| n.2)));
        for ino in unnamed {
            if let Some(Node { kind: Kind::File(c), .. }) = self.nodes.get_mut(&ino) {
                // Its space is free at once.
                self.used -= std::mem::take(&mut c.charged);
            }
            if !durable.contains(&ino) {
                self.nodes.remove(&ino);
            }
        }
    }

    /// Keeps any part of what is not durable.
    pub fn cut_power(&mut self, rng: &mut Rng, counts: &mut FaultCounts) {
        const CHANCES: [u32; 5] = [0, 1_000_000, 500_000, 100_000, 900_000];
        let chance = rng.pick(&CHANCES);
        let mut lost: BTreeSet<(Ino, OsString)> = BTreeSet::new();
        for change in std::mem::take(&mut self.changes) {
            let key = |(dir, name, _): &(Ino, OsString, Option<Ino>)| (*dir, name.clone());
            if change.names.iter().any(|n| lost.contains(&key(n))) || !rng.per_million(chance) {
                lost.extend(change.names.iter().map(key));
                counts.lost += 1;
            } else {
                counts.kept += 1;
                self.keep_names(change);
            }
        }
        let chance = rng.pick(&CHANCES);
        for node in self.nodes.values_mut() {
            match &mut node.kind {
                Kind::File(c) => c.cut_power(&mut || rng.per_million(chance), counts),
                Kind::Dir { names, durable } => names.clone_from(durable),
            }
            node.links = 0;
        }
        self.drop_unreachable();
    }

    /// After a loss of power: counts names anew, and frees what has none.
    fn drop_unreachable(&mut self) {
        let (mut reached, mut dirs) = (BTreeSet::from([ROOT]), vec![ROOT]);
        while let Some(dir) = dirs.pop() {
            let names: Vec<Ino> = self.names(dir).map(|n| n.values().copied().collect()).unwrap_or_default();
            for ino in names {
                self.count_links(ino, 1);
                if reached.insert(ino) {
                    dirs.push(ino);
                }
            }
        }
        self.nodes.retain(|ino, _| reached.contains(ino));
        self.count_links(ROOT, 1);
        self.used = 0;
        for ino in reached {
            if let Ok(c) = self.file(ino) {
                c.charged = 0;
            }
            self.charge(ino);
        }
    }

    pub fn stat(&self, ino: Ino, found: &mut libc::statx) {
        let Some(node) = self.nodes.get(&ino) else { return };
        let (mode, len, charged) = match &node.kind {
            Kind::File(c) => (libc::S_IFREG, c.seen.len() as u64, c.charged),
            Kind::Dir { .. } => (libc::S_IFDIR, 4096, 4096),
        };
        found.stx_mode = mode as u16;
        found.stx_size = len;
        found.stx_blocks = charged.div_ceil(512);
        found.stx_mtime.tv_sec = node.modified_ms.div_euclid(1000);
        found.stx_mtime.tv_nsec = node.modified_ms.rem_euclid(1000) as u32 * 1_000_000;
    }

    fn walk(&self, dir: Ino, path: &Path, visit: &mut dyn FnMut(PathBuf, &[u8])) {
        for (name, ino) in self.names(dir).into_iter().flatten() {
            let path = path.join(name);
            match self.content(*ino) {
                Ok(content) => visit(path, content),
                Err(_) => self.walk(*ino, &path, visit),
            }
        }
    }

    /// Every file that has a name.
    pub fn contents(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut found = BTreeMap::new();
        self.walk(ROOT, Path::new("/"), &mut |path, content| _ = found.insert(path, content.to_vec()));
        found
    }

    /// Makes durable all that was done.
    pub fn settle(&mut self) {
        let sequence = self.next_sequence();
        for ino in self.all() {
            self.sync(ino, sequence);
        }
    }

    /// Changes what a file holds, as it is seen and on the disk; false if there is no such file.
    pub fn alter(&mut self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) -> bool {
        let Ok(ino) = self.find(path) else { return false };
        let Ok(c) = self.file(ino) else { return false };
        change(&mut c.seen);
        c.durable.clone_from(&c.seen);
        c.changes.clear();
        self.charge(ino);
        true
    }

    /// Takes a file away behind everybody's back; false if there is no such file.
    pub fn lose(&mut self, path: &Path) -> bool {
        let is_gone = self.unlink(path, false).is_ok();
        self.settle();
        is_gone
    }
}

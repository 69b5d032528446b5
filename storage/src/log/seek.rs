//! Looking up a place in a segment: from memory, or by reading one page of the segment's `.idx` file.
//!
//! What a look-up in a cold segment reads: once per partition the file with the heads of all its indexes (without it, once per
//! segment the head of its own), then one page of 4 KiB, then the batches from the entry found up to the next entry.

use std::rc::Rc;

use core_pinning::{File, OpenOptions};

use super::LogInner;
use crate::error::{Doing, StorageError};
use crate::layout;
use crate::model::Offset;
use crate::recovery::decision::index::{End, Index};
use crate::segment::index::{IndexEntry, IndexPage};
use crate::segment::index_file::{IndexFile, IndexHead, PAGE_BYTES, PageOf};
use crate::segment::index_heads;

/// What is looked for in a segment; offsets less its base offset.
#[derive(Clone, Copy, Debug)]
pub(super) enum Seek {
    Offset(u32),
    /// The first record at or after the timestamp and the log start.
    Time {
        timestamp: i64,
        log_start: u32,
    },
    /// The entry of the Raft log with so many before it in the segment.
    Ordinal(u32),
}

impl Seek {
    /// True of the entries that what is looked for does not lie before.
    fn is_behind(self, e: &IndexEntry) -> bool {
        match self {
            Seek::Offset(delta) => e.offset_delta <= delta,
            Seek::Time { timestamp, log_start } => e.max_timestamp < timestamp || e.offset_delta <= log_start,
            Seek::Ordinal(ordinal) => e.ordinal <= ordinal,
        }
    }
}

/// Where to begin to walk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Floor {
    /// `None`: at the segment's begin.
    pub(super) entry: Option<IndexEntry>,
    /// What is looked for lies before this position, if it is in the segment.
    pub(super) next: u32,
}

impl Floor {
    pub(super) fn position(&self) -> u32 {
        self.entry.map_or(0, |e| e.position)
    }

    /// Bytes that a direct read needs to see all up to `next`.
    pub(super) fn window(&self) -> usize {
        (self.next.saturating_sub(self.position()) + self.position() % core_pinning::BLOCK as u32) as usize
    }
}

/// What is missing.
enum Step {
    Found(Option<Floor>),
    Head,
    Whole,
    /// The segment does not end where the next one begins: the offset after its last one.
    Apart(Offset),
    Page {
        head: Rc<IndexHead>,
        number: u16,
        at: u64,
        next: u32,
    },
}

impl LogInner {
    /// The place in the segment from which what is looked for is reached; `None` if the segment is gone.
    pub(super) async fn seek(self: &Rc<Self>, base: Offset, seek: Seek) -> Result<Option<Floor>, StorageError> {
        loop {
            let generation = self.state.borrow().generation;
            match self.seek_step(base, seek) {
                Step::Found(found) => return Ok(found),
                Step::Head => self.load_head(base).await?,
                Step::Whole => self.load_index(base).await?,
                Step::Apart(next_offset) => self.check_end(base, Index::Usable, next_offset).await?,
                Step::Page { head, number, at, next } => match self.index_page(base, &head, number, at).await? {
                    None if self.state.borrow().generation != generation => {}
                    Some(page) => {
                        let after = page.partition_point(|e| seek.is_behind(e));
                        let entry = after.checked_sub(1).and_then(|n| page.get(n)).copied();
                        return Ok(Some(Floor { entry, next: page.get(after).map_or(next, |e| e.position) }));
                    }
                    None => self.drop_index(base).await?,
                },
            }
        }
    }

    fn seek_step(self: &Rc<Self>, base: Offset, seek: Seek) -> Step {
        let state = self.state.borrow();
        let Some(segment) = state.segment_at(base) else { return Step::Found(None) };
        let (mut upto, mut next) = (segment.size, segment.size);
        if let Some(index) = &segment.index {
            let (entry, after) = index.floor(|e| seek.is_behind(e));
            next = after.unwrap_or(segment.size);
            if entry.is_some() || index.from == 0 {
                self.shared.indexes.touch_whole(self, base);
                return Step::Found(Some(Floor { entry: entry.copied(), next }));
            }
            upto = index.from;
        }
        let Some(head) = &segment.head else { return Step::Head };
        if head.covers.covered < upto {
            return Step::Whole;
        }
        let whole = segment.finished && head.covers.covered == segment.size;
        if whole && state.end_of(base, head.covers.next_offset) == End::Apart {
            return Step::Apart(head.covers.next_offset);
        }
        self.shared.indexes.touch_heads(self);
        match head.find(|e| seek.is_behind(e)) {
            PageOf::Begin(first) => Step::Found(Some(Floor { entry: None, next: first })),
            PageOf::Page { number, at, next: after } => {
                Step::Page { head: head.clone(), number, at, next: after.unwrap_or(next) }
            }
        }
    }

    /// Entries of a page; `None` if it is missing or damaged.
    async fn index_page(
        self: &Rc<Self>,
        base: Offset,
        head: &IndexHead,
        number: u16,
        at: u64,
    ) -> Result<Option<IndexPage>, StorageError> {
        if let Some(page) = self.shared.indexes.page(self, base, head.id, number) {
            return Ok(Some(page));
        }
        let Some(block) = self.index_block(base, at).await? else { return Ok(None) };
        let page = head.decode_block(number, &block).ok();
        if let Some(page) = &page {
            self.shared.indexes.add_page(self, base, head.id, number, page.clone());
        }
        Ok(page)
    }

    async fn index_block(&self, base: Offset, at: u64) -> Result<Option<bytes::Bytes>, StorageError> {
        let path = self.dir.join(layout::index_name(base));
        let file = match File::open(&path, OpenOptions::read_only()).await {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            other => other.doing("open", &path)?,
        };
        let block = file.read_at(at, PAGE_BYTES).await.doing("read", &path)?.freeze();
        self.shared.stats.index_pages.add(block.len());
        Ok(Some(block))
    }

    /// The head of the segment's `.idx` file, and the entries of an index that is all in it.
    pub(super) async fn read_head(&self, base: Offset) -> Result<Option<(IndexHead, Option<IndexPage>)>, StorageError> {
        let block = self.index_block(base, 0).await?;
        Ok(block.and_then(|block| IndexHead::decode(&block).ok()))
    }

    /// Makes sure that the segment's times are known, if it is there.
    pub(crate) async fn load_times(self: &Rc<Self>, base: Offset) -> Result<(), StorageError> {
        let known = self.state.borrow().segment_at(base).is_none_or(|s| s.times.is_some());
        if known { Ok(()) } else { self.load_head(base).await }
    }

    /// Brings the head of the segment's index into memory, or all of an index that has none that is true of it.
    async fn load_head(self: &Rc<Self>, base: Offset) -> Result<(), StorageError> {
        self.load_heads().await?;
        let (missing, generation) = {
            let state = self.state.borrow();
            (state.segment_at(base).is_some_and(|s| s.head.is_none()), state.generation)
        };
        if !missing {
            return Ok(());
        }
        let found = self.read_head(base).await?;
        let taken = {
            let state = &mut *self.state.borrow_mut();
            let segment = state.segments.binary_search_by_key(&base, |s| s.base_offset).ok();
            match (segment.and_then(|at| state.segments.get_mut(at)), found) {
                (Some(segment), Some((head, page)))
                    if state.generation == generation
                        && self.is_of(&head.covers, base, segment.size)
                        && (head.covers.covered == segment.size || !segment.finished) =>
                {
                    if let Some(page) = page {
                        self.shared.indexes.add_page(self, base, head.id, 0, page);
                    }
                    if head.covers.covered == segment.size {
                        segment.times.get_or_insert(head.covers.times);
                    }
                    segment.head = Some(Rc::new(head));
                    true
                }
                _ => false,
            }
        };
        if taken {
            self.count_heads();
            let known = self.state.borrow().segment_at(base).is_none_or(|s| s.times.is_some());
            if known {
                return Ok(());
            }
        }
        self.load_index(base).await
    }

    /// Reads the file with the heads of the sealed segments' indexes, once.
    pub(crate) async fn load_heads(self: &Rc<Self>) -> Result<(), StorageError> {
        let generation = {
            let state = self.state.borrow();
            if state.heads_loaded {
                return Ok(());
            }
            state.generation
        };
        let found = match crate::durable::read(&self.dir.join(layout::INDEXES_FILE)).await? {
            Some(bytes) => {
                self.shared.stats.indexes.add(bytes.len());
                index_heads::decode(&bytes).ok().filter(|(key, _)| *key == self.key)
            }
            None => None,
        };
        {
            let state = &mut *self.state.borrow_mut();
            if state.generation == generation {
                state.heads_loaded = true;
                let last = state.active().base_offset;
                for head in found.into_iter().flat_map(|(_, heads)| heads) {
                    let base = head.covers.base_offset;
                    let Some(segment) = state.segment_at_mut(base) else { continue };
                    // The last one goes on, and its file tells how far it had come.
                    let whole = segment.finished && head.covers.covered == segment.size;
                    if base < last && whole && self.is_of(&head.covers, base, segment.size) {
                        segment.times.get_or_insert(head.covers.times);
                        segment.head.get_or_insert(Rc::new(head));
                    }
                }
            }
        }
        self.count_heads();
        Ok(())
    }

    pub(crate) fn count_heads(self: &Rc<Self>) {
        let bytes = {
            let state = self.state.borrow();
            state.segments.iter().filter_map(|s| s.head.as_ref()).map(|head| head.memory()).sum()
        };
        self.shared.indexes.add_heads(self, bytes);
    }

    /// Writes the `.idx` file of a segment and gives its head.
    pub(super) async fn write_index(self: &Rc<Self>, file: IndexFile) -> Rc<IndexHead> {
        let (head, bytes) = file.encode();
        self.write_shortcut(&self.dir.join(layout::index_name(head.covers.base_offset)), bytes).await;
        Rc::new(head)
    }

    /// Writes the heads of all sealed segments that are known.
    pub(crate) async fn write_heads(self: &Rc<Self>) {
        if let Err(error) = self.load_heads().await {
            tracing::warn!(%error, "the heads of the indexes were not read");
        }
        let _alone = self.compaction.alone_with_indexes().await;
        let bytes = {
            let state = self.state.borrow();
            let last = state.active().base_offset;
            let sealed = state.segments.iter().filter(|s| s.base_offset < last && s.finished);
            index_heads::encode(self.key, sealed.filter_map(|s| s.head.as_deref()))
        };
        self.write_shortcut(&self.dir.join(layout::INDEXES_FILE), bytes).await;
    }

    /// The index of the segment is not true of it: it is made again when it is asked for.
    pub(super) async fn drop_index(self: &Rc<Self>, base: Offset) -> Result<(), StorageError> {
        tracing::warn!(topic = %self.topic, partition = self.key.partition, %base, "the segment's index is made again");
        if let Some(segment) = self.state.borrow_mut().segment_at_mut(base) {
            segment.head = None;
            if segment.finished {
                segment.index = None;
            }
        }
        self.forget_indexes(&[base]).await
    }

    /// Takes the segments' indexes off the disk; the directory is synced with the next checkpoint.
    pub(crate) async fn forget_indexes(self: &Rc<Self>, bases: &[Offset]) -> Result<(), StorageError> {
        let _alone = self.compaction.alone_with_indexes().await;
        index_heads::forget(&self.dir, bases).await?;
        self.state.borrow_mut().dir_unsynced = true;
        Ok(())
    }

    /// Takes an index out of memory: a segment's whole one, or the heads. False while the log is in use.
    pub(crate) fn give_index_back(&self, whole: Option<Offset>) -> bool {
        let Ok(mut state) = self.state.try_borrow_mut() else { return false };
        match whole {
            Some(base) => {
                if let Some(segment) = state.segment_at_mut(base).filter(|s| s.finished) {
                    segment.index = None;
                }
            }
            None => {
                state.segments.iter_mut().for_each(|s| s.head = None);
                state.heads_loaded = false;
            }
        }
        true
    }
}

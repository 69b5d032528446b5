//! Large appends: straight into the segment file, durably, with only a note of it in the journal. Bulk load is written once.
//!
//! ```text
//!              written         from            to     of one run of appended bytes
//! file    |======|===============|===============|
//! blocks      |-------- the write, O_DSYNC ----|        whole blocks, from the first that is not in the file
//! journal                                      |-|      `Placed`: [from, block) is in the file; and the bytes behind it
//! ```
//! A log's durable point moves in log order over both ways, because all of a log reaches the journal in log order: while a run
//! is on its way to the file, whatever else the log has for the journal waits behind it.
//!
//! | the oldest step                                     | then                                                  |
//! |-----------------------------------------------------|-------------------------------------------------------|
//! | a run whose write has ended                         | its note goes to the journal                          |
//! | a run whose write, or one before it, failed         | its bytes go to the journal, write-back tries again   |
//! | a run that is large enough, write-back at work      | waits: no two writes touch a block                    |
//! | a run that is too small, or far ahead of the file   | its bytes go to the journal                           |
//! | a run of a log that the journal does not know yet   | waits: the journal is told first                      |
//! | another record of the log                           | goes to the journal                                   |
//!
//! - No write begins in a block that another in flight holds: a run's last block, if it is not full, is in the journal only, until
//!   the next write (or write-back) writes it whole. What such a write repeats of acknowledged bytes it repeats exactly.
//! - Write-back rests while a run is between its write and its note: it would pad the last durable block with zeros.
//! - The log is not cut while there are steps.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use core_pinning::disk::fs;
use core_pinning::time::{self, Instant};
use core_pinning::{Queue, spawn};
use futures::StreamExt;

use super::state::vote_record;
use super::{LogInner, LogState};
use crate::chunk::{ChunkSlice, align_down};
use crate::error::{Doing, StorageError};
use crate::journal::Done;
use crate::journal::record::{RecordKind, placed_header};
use crate::layout;
use crate::model::Offset;
use crate::point::Point;
use crate::store::shared::Gate;

/// Writes in flight of one log, while few are in flight of all.
const WRITES_OF_A_LOG: usize = 4;
const WRITES_OF_ALL: usize = 16;
/// Bytes that are durable but not in the file, beyond which write-back goes first.
const BEHIND_MAX: u32 = 1 << 20;
/// A file grows by as much as it holds, within these bounds: its size, too, as writes beyond it wait for each other. A thousand
/// partitions with a few batches each must not reserve a disk.
const GROWTH_MIN: u32 = 256 << 10;
const GROWTH_MAX: u32 = 32 << 20;
/// Pause after a failed write.
const PAUSE: Duration = Duration::from_millis(500);

/// What waits in front of the journal. Empty for logs without large appends.
#[derive(Default)]
pub(crate) struct Bypass {
    steps: VecDeque<Step>,
    /// Writes in flight.
    writing: usize,
    next_id: u64,
    /// A write failed: runs with lower numbers go to the journal, and none is written until they have.
    failed_before: u64,
    paused_until: Option<Instant>,
}

enum Step {
    Run(Run),
    Record {
        kind: RecordKind,
        payload: Vec<u8>,
        done: Option<Done>,
    },
    /// Somebody waits for all before it to be in the journal.
    Gate(#[expect(dead_code, reason = "it is there to be dropped")] Rc<Gate>),
}

/// Bytes of one segment that follow each other.
struct Run {
    segment: Offset,
    from: u32,
    to: u32,
    bytes: Vec<ChunkSlice>,
    point: Point,
    done: Vec<Done>,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Collected,
    Writing(u64),
    Ended(u64),
}

/// One write into a segment.
struct Write {
    id: u64,
    segment: Offset,
    pieces: Vec<(u32, ChunkSlice)>,
    /// Grow the file to this size first.
    grow: Option<(u32, u32)>,
    create: bool,
    /// The file's name may not be durable yet.
    name: bool,
}

impl Bypass {
    pub(crate) fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }
}

impl LogInner {
    /// Hands appended bytes to the journal, or to their file.
    pub(super) fn make_durable(
        self: &Rc<Self>,
        state: &mut LogState,
        segment: Offset,
        from: u32,
        bytes: ChunkSlice,
        point: Point,
        done: Option<Done>,
    ) {
        if state.bypass.is_empty() && bytes.len() < self.shared.options.bypass_bytes {
            return self.shared.journal.append_data(self, segment, from, bytes, Some(point), done);
        }
        let to = from + bytes.len() as u32;
        match state.bypass.steps.back_mut() {
            Some(Step::Run(run)) if run.stage == Stage::Collected && run.segment == segment && run.to == from => {
                if !run.bytes.last_mut().is_some_and(|last| last.join(&bytes)) {
                    run.bytes.push(bytes);
                }
                (run.to, run.point) = (to, point);
                run.done.extend(done);
            }
            _ => {
                let (bytes, done) = (vec![bytes], done.into_iter().collect());
                let run = Run { segment, from, to, bytes, point, done, stage: Stage::Collected };
                self.queue(state, Step::Run(run));
            }
        }
        self.advance(state);
    }

    /// Places another record of the log in the journal. All that was appended to the log before is durable when it is.
    pub(crate) fn record(
        self: &Rc<Self>,
        state: &mut LogState,
        kind: RecordKind,
        payload: Vec<u8>,
        done: Option<Done>,
    ) {
        match state.bypass.is_empty() {
            true => self.shared.journal.append_meta(Some(self), kind, payload, done),
            false => state.bypass.steps.push_back(Step::Record { kind, payload, done }),
        }
    }

    /// Lets go of the gate when everything appended so far is in the journal.
    pub(crate) fn pass(&self, gate: Rc<Gate>) {
        let bypass = &mut self.state.borrow_mut().bypass;
        if !bypass.is_empty() {
            bypass.steps.push_back(Step::Gate(gate));
        }
    }

    /// Waits until all of the log is in the journal, and all that it says is in the files is known to be durable.
    pub(super) async fn settled(&self) {
        let idle = || self.state.borrow().bypass.is_empty() && self.marks.unsettled.get() == 0;
        self.shared.write_back.progressed(idle).await
    }

    fn queue(self: &Rc<Self>, state: &mut LogState, step: Step) {
        if state.bypass.is_empty() {
            if !self.marks.known.get() {
                self.tell_of_use(state);
            }
            self.shared.bypassing.borrow_mut().push(self.clone());
        }
        state.bypass.steps.push_back(step);
    }

    /// Does what can be done for the oldest steps, and begins writes.
    pub(crate) fn advance(self: &Rc<Self>, state: &mut LogState) {
        if state.bypass.is_empty() {
            return;
        }
        loop {
            while self.begin_write(state) {}
            let ready = match state.bypass.steps.front() {
                None => break,
                Some(Step::Run(run)) => match run.stage {
                    Stage::Writing(_) => false,
                    Stage::Collected => !self.waits(state, run),
                    Stage::Ended(_) => true,
                },
                Some(Step::Record { .. } | Step::Gate(_)) => true,
            };
            if !ready {
                return;
            }
            match state.bypass.steps.pop_front() {
                Some(Step::Run(run)) => self.finish_run(state, run),
                Some(Step::Record { kind, payload, done }) => {
                    self.shared.journal.append_meta(Some(self), kind, payload, done);
                }
                Some(Step::Gate(_)) | None => {}
            }
        }
        self.shared.bypassing.borrow_mut().retain(|log| !Rc::ptr_eq(log, self));
    }

    /// True if a run is for its file and only has to wait.
    fn waits(&self, state: &LogState, run: &Run) -> bool {
        let bypass = &state.bypass;
        let large = (run.to - run.from) as usize >= self.shared.options.bypass_bytes;
        let troubled = state.write_back_error.is_some()
            || self.shared.write_back.disk_full().is_some()
            || bypass.paused_until.is_some_and(|until| time::now() < until);
        // Write-back does nothing for a log that is going, so its runs cannot wait for it.
        let going = state.fenced.is_some() || state.truncating > 0 || self.shared.journal.failure().is_some();
        // Then nothing can tell the journal of the log, see `tell_of_use`.
        let untold = !self.marks.known.get() && state.vote.is_none();
        // Writes that failed have their runs in front of this one.
        large && !troubled && !going && !untold && state.plan_pieces(run).is_some()
    }

    /// Begins the write of the next run that is due.
    fn begin_write(self: &Rc<Self>, state: &mut LogState) -> bool {
        let bypass = &state.bypass;
        let next = bypass.steps.iter().position(|s| matches!(s, Step::Run(run) if run.stage == Stage::Collected));
        let Some((at, Step::Run(run))) = next.and_then(|at| Some((at, bypass.steps.get(at)?))) else { return false };
        let room = bypass.writing == 0
            || (bypass.writing < WRITES_OF_A_LOG && self.shared.bypass_writes.get() < WRITES_OF_ALL);
        let unsettled = self.marks.unsettled.get() > 0;
        let failing = bypass.failed_before > 0 && unsettled;
        if !room || failing || !self.marks.known.get() || self.marks.busy.get() || !self.waits(state, run) {
            return false;
        }
        let (segment, to) = (run.segment, align_down(run.to));
        // The segment before is finished first, which write-back does when nothing is on its way. For nothing else is its turn
        // waited for, which a checkpoint of many logs makes a long wait: the write brings along what is due.
        let unfinished = state.segments.iter().rev().find(|s| s.base_offset < segment).is_some_and(|s| !s.finished);
        if unfinished && (unsettled || self.has_work(state)) {
            self.shared.write_back.enqueue(self);
            return false;
        }
        let Some(pieces) = state.plan_pieces(run) else { return false };
        let limit = state.config.segment_bytes.max(to);
        let first = state.bypass.writing == 0;
        let Some(target) = state.segment_at_mut(segment) else { return false };
        if !target.named && !first {
            return false;
        }
        let (create, name) = (!target.has_file, !target.named);
        let tail = target.tail_mut();
        tail.issued = to;
        let grow = (to > tail.sized).then(|| {
            let from = align_down(tail.written);
            tail.sized = align_down(to.saturating_add(to.clamp(GROWTH_MIN, GROWTH_MAX)).min(limit)).max(to);
            (from, tail.sized)
        });
        let bypass = &mut state.bypass;
        let id = bypass.next_id;
        bypass.next_id += 1;
        bypass.writing += 1;
        bypass.failed_before = 0;
        if let Some(Step::Run(run)) = bypass.steps.get_mut(at) {
            run.stage = Stage::Writing(id);
        }
        self.marks.unsettled.set(self.marks.unsettled.get() + 1);
        self.shared.bypass_writes.add(1);
        let write = Write { id, segment, pieces, grow, create, name };
        spawn(Queue::Serve, "bypass", self.clone().write_run(write)).detach();
        true
    }

    /// Before the first large append: bytes in the files of a log of which nothing else says that it was created, or used since it
    /// was closed, would be taken for damage. So its vote goes to the journal once more, and the append waits for that. Nothing else
    /// of the log waits in front of the journal, so the vote is still the last one there.
    fn tell_of_use(self: &Rc<Self>, state: &LogState) {
        let Some(vote) = state.vote.filter(|_| !self.marks.telling.replace(true)) else { return };
        let log = self.clone();
        let told: Done = Box::new(move |result| {
            log.marks.known.set(result.is_ok());
            log.advance(&mut log.state.borrow_mut());
        });
        self.shared.journal.append_meta(Some(self), RecordKind::Vote, vote_record(self.key, vote), Some(told));
    }

    async fn write_run(self: Rc<Self>, write: Write) {
        let id = write.id;
        let result = self.write_pieces(write).await;
        self.shared.bypass_writes.sub(1);
        let state = &mut *self.state.borrow_mut();
        let bypass = &mut state.bypass;
        bypass.writing -= 1;
        for step in &mut bypass.steps {
            if let Step::Run(run) = step
                && run.stage == Stage::Writing(id)
            {
                run.stage = Stage::Ended(id);
            }
        }
        if let Err(error) = result {
            tracing::warn!(topic = %self.topic, partition = self.key.partition, %error, "goes to the journal instead");
            bypass.failed_before = bypass.next_id;
            bypass.paused_until = Some(time::now() + PAUSE);
        }
        self.advance(state);
    }

    async fn write_pieces(&self, write: Write) -> Result<(), StorageError> {
        let Write { segment, pieces, grow, create, name, .. } = write;
        if create {
            self.state.borrow_mut().dir_unsynced = true;
        }
        let file = self.shared.files.open_dsync(self.key, segment, &self.dir, create).await?;
        if let Some(segment) = self.state.borrow_mut().segment_at_mut(segment) {
            segment.has_file = true;
        }
        if name {
            fs::sync_dir(&self.dir).await.doing("sync", &self.dir)?;
            let root = layout::partitions_root(&self.shared.options.data_dir);
            fs::sync_dir(&root).await.doing("sync", &root)?;
            if let Some(segment) = self.state.borrow_mut().segment_at_mut(segment) {
                segment.named = true;
            }
        }
        if let Some((from, upto)) = grow {
            match file.allocate(from.into(), (upto - from).into(), false).await {
                // A file system without it: the write makes the blocks.
                Err(error) if error.kind() == std::io::ErrorKind::Unsupported => {}
                other => other.doing("allocate", file.path())?,
            }
            if let Some(segment) = self.state.borrow_mut().segment_at_mut(segment) {
                segment.allocated = segment.allocated.max(upto);
            }
        }
        let stats = &self.shared.stats;
        stats.bypass_bytes.add(pieces.iter().map(|(_, bytes)| bytes.len()).sum());
        let count = pieces.len();
        let writes = pieces.into_iter().map(|(position, bytes)| file.write_at(position.into(), bytes));
        let writes = futures::stream::iter(writes).buffer_unordered(count.max(1));
        let results: Vec<std::io::Result<()>> = writes.collect().await;
        results.into_iter().collect::<std::io::Result<()>>().doing("write", file.path())
    }

    /// Tells the journal of a run, or gives it the run's bytes.
    fn finish_run(self: &Rc<Self>, state: &mut LogState, run: Run) {
        let (segment, from, to) = (run.segment, run.from, run.to);
        let placed = matches!(run.stage, Stage::Ended(id) if id >= state.bypass.failed_before);
        if !placed {
            if run.stage != Stage::Collected {
                self.give_up(state, segment);
            }
            let mut position = from;
            let mut done = Some(run.done);
            for bytes in run.bytes {
                let len = bytes.len() as u32;
                let last = position + len == to;
                let point = last.then_some(run.point);
                let done = done.take_if(|_| last).into_iter().flatten();
                self.shared.journal.append_data(self, segment, position, bytes, point, done);
                position += len;
            }
            return;
        }
        let block = align_down(to);
        let mut payload = placed_header(self.key, segment, from, block);
        let mut position = from;
        for bytes in &run.bytes {
            let skip = block.saturating_sub(position) as usize;
            payload.extend_from_slice(bytes.as_ref().get(skip..).unwrap_or_default());
            position += bytes.len() as u32;
        }
        if let Some(tail) = state.segment_at_mut(segment).and_then(|s| s.tail.as_mut()) {
            tail.noted = block;
        }
        let (log, generation) = (self.clone(), state.generation);
        let settle: Done = Box::new(move |result| log.settle(result.is_ok().then_some((segment, block)), generation));
        let done = std::iter::once(settle).chain(run.done).collect();
        self.shared.journal.append_placed(self, payload, run.point, done);
        self.count_untold((to - from) as usize);
    }

    /// A run is durable, or (`None`) the journal has failed: then the log may be borrowed.
    fn settle(self: &Rc<Self>, placed: Option<(Offset, u32)>, generation: u64) {
        self.marks.unsettled.set(self.marks.unsettled.get() - 1);
        if let Some((segment, upto)) = placed {
            {
                let state = &mut *self.state.borrow_mut();
                if generation == state.generation {
                    self.mark_written(state, segment, upto);
                }
                self.resume_write_back(state);
                self.advance(state);
            }
            self.shared.cache.trim();
        }
        self.shared.write_back.notify_progress();
    }

    /// Write-back goes on when nothing is on its way past it.
    fn resume_write_back(self: &Rc<Self>, state: &LogState) {
        if self.marks.unsettled.get() == 0 && (self.marks.forced.get() || self.has_work(state)) {
            self.shared.write_back.enqueue(self);
        }
    }

    /// A run's write is taken for not made.
    fn give_up(self: &Rc<Self>, state: &mut LogState, segment: Offset) {
        self.marks.unsettled.set(self.marks.unsettled.get() - 1);
        if let Some(tail) = state.segment_at_mut(segment).and_then(|s| s.tail.as_mut()) {
            tail.issued = tail.noted;
        }
        self.resume_write_back(state);
        self.shared.write_back.notify_progress();
    }
}

impl LogState {
    /// What brings the file to the run's last whole block; `None` if memory does not have all of it, or it is too much.
    fn plan_pieces(&self, run: &Run) -> Option<Vec<(u32, ChunkSlice)>> {
        let tail = self.segment_at(run.segment)?.tail.as_ref()?;
        let (mut at, end) = (align_down(tail.written).max(tail.issued), align_down(run.to));
        if at + BEHIND_MAX < run.from {
            return None;
        }
        let mut pieces = Vec::with_capacity(2);
        while at < end {
            let number = tail.chunks.partition_point(|c| align_down(c.start()) <= at).checked_sub(1)?;
            let chunk = tail.chunks.get(number)?;
            let upto = align_down(chunk.end().min(end));
            if upto <= at || (!chunk.prefix_known() && at < chunk.start()) {
                return None;
            }
            pieces.push((at, chunk.file_bytes(at, upto)));
            at = upto;
        }
        (!pieces.is_empty()).then_some(pieces)
    }
}

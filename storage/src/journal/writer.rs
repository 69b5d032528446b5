//! The journal's tasks: one writes what is pending, one keeps the next file ready.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use core_pinning::{AlignedBuf, BLOCK, time};

use super::record::{self, DATA_HEADER_BYTES, RECORD_HEADER_BYTES, RecordKind};
use super::{Body, CurrentFile, FullFile, Inner, Item, NextWrite, Owner, WRITES_IN_FLIGHT, WriteInFlight};
use crate::error::StorageError;

/// Pause before a next file is tried again after the disk was full.
const RETRY: Duration = Duration::from_millis(500);

type Write = Pin<Box<dyn Future<Output = (u64, io::Result<()>)>>>;

fn align_down(position: usize) -> usize {
    position & !(BLOCK - 1)
}

fn align_up(position: usize) -> usize {
    align_down(position + BLOCK - 1)
}

impl Body {
    fn record_size(&self) -> usize {
        RECORD_HEADER_BYTES
            + match self {
                Body::Data { bytes, .. } => DATA_HEADER_BYTES + bytes.len(),
                Body::Meta { payload, .. } => payload.len(),
                Body::Nothing => 0,
            }
    }
}

impl<O: Owner> Inner<O> {
    /// Issues writes and takes note of their ends. Both in one task, so that an append needs one wake-up to reach the disk.
    pub(super) async fn write(self: Rc<Self>) {
        let mut in_flight: Vec<Write> = Vec::with_capacity(WRITES_IN_FLIGHT);
        while !self.closing.get() {
            while let Some(next) = self.next_write() {
                let NextWrite { id, file, buffer, position } = next;
                in_flight.push(Box::pin(async move { (id, file.write_at(position, buffer).await) }));
            }
            let mut ended: [Option<(u64, io::Result<()>)>; WRITES_IN_FLIGHT] = [const { None }; WRITES_IN_FLIGHT];
            {
                let mut wake = pin!(self.writer_wake.wait());
                poll_fn(|cx| {
                    let mut slots = ended.iter_mut();
                    let mut any = false;
                    in_flight.retain_mut(|write| match write.as_mut().poll(cx) {
                        Poll::Ready(result) => {
                            if let Some(slot) = slots.next() {
                                *slot = Some(result);
                            }
                            any = true;
                            false
                        }
                        Poll::Pending => true,
                    });
                    if any || wake.as_mut().poll(cx).is_ready() { Poll::Ready(()) } else { Poll::Pending }
                })
                .await;
            }
            for (id, result) in ended.into_iter().flatten() {
                self.finish_write(id, result);
            }
        }
    }

    /// Encodes the next group of records; `None` while there is nothing to write or nowhere to write it.
    pub(super) fn next_write(&self) -> Option<NextWrite> {
        let mut borrowed = self.state.borrow_mut();
        let state = &mut *borrowed;
        if state.failure.is_some() || state.in_flight.len() >= WRITES_IN_FLIGHT {
            return None;
        }
        let first = &state.pending.front()?.body;
        let limit = self.options.write_bytes;
        // Data is cut to the size of a write; the few other records that are larger get a larger write.
        let first_size = match first {
            Body::Data { .. } => first.record_size().min(limit),
            _ => first.record_size(),
        };
        // The block at the end may be written again only while no other write can hold it.
        let shares_block = state.in_flight.is_empty();
        let start_in = |end: usize| if shares_block { end } else { align_up(end) };
        if start_in(state.current.end) + first_size > self.options.file_bytes {
            let next = CurrentFile::new(state.prepared.take()?);
            let full = std::mem::replace(&mut state.current, next);
            state.full.push_back(FullFile { id: full.id, owners: full.owners });
            self.preparer_wake.notify();
            drop(borrowed);
            self.files_changed();
            borrowed = self.state.borrow_mut();
        }
        let state = &mut *borrowed;
        let current = &mut state.current;
        let start = start_in(current.end);
        let (mut count, mut end) = (0, start);
        for item in &state.pending {
            let size = item.body.record_size();
            if end + size > self.options.file_bytes || end - start + size > limit.max(first_size) {
                break;
            }
            end += size;
            count += 1;
        }
        // A first record too large for one write is cut: all but its last piece come without an acknowledgement.
        if count == 0 {
            end = start + first_size;
        }
        let block_start = align_down(start);
        let mut buffer = AlignedBuf::new(align_up(end) - block_start);
        buffer.set_len(align_up(end) - block_start);
        let out = buffer.as_mut_slice();
        let before = start - block_start;
        // `start` continues the last block, or is at the beginning of one.
        out[..before].copy_from_slice(&current.tail[..before]);
        out[end - block_start..].fill(0);
        let (seed, number) = (current.id.seed(), current.id.number);
        let mut at = before;
        let mut items = Vec::with_capacity(count);
        let first_sequence = state.next_sequence;
        let settled = state.in_flight.front().map_or(first_sequence, |write| write.first_sequence);
        let mut write = |out: &mut [u8], item: &Item<O>, data: RecordKind| {
            let sequence = state.next_sequence;
            state.next_sequence += 1;
            if let Some(owner) = &item.owner
                && owner.placed(number)
            {
                current.owners.push(owner.clone());
            }
            match (&item.body, &item.owner) {
                (Body::Data { segment, position, bytes }, Some(owner)) => {
                    state.pending_bytes -= bytes.len();
                    let header = record::data_header(owner.key(), *segment, *position);
                    record::encode(out, seed, sequence, settled, data, [&header, bytes.as_ref()])
                }
                (Body::Meta { kind, payload }, _) => {
                    state.pending_bytes -= payload.len();
                    record::encode(out, seed, sequence, settled, *kind, [payload, &[]])
                }
                (Body::Nothing | Body::Data { .. }, _) => unreachable!("neither is made"),
            }
        };
        if count == 0 {
            let Some(Item { owner, body: Body::Data { segment, position, bytes }, .. }) = state.pending.front_mut()
            else {
                unreachable!("only data is larger than a write")
            };
            let cut = bytes.split_to(first_size - RECORD_HEADER_BYTES - DATA_HEADER_BYTES);
            let (owner, segment, from) = (owner.clone(), *segment, *position);
            *position += cut.len() as u32;
            let body = Body::Data { segment, position: from, bytes: cut };
            at += write(&mut out[at..], &Item { owner, body, point: None, done: Vec::new() }, RecordKind::DataPart);
        }
        for item in state.pending.drain(..count) {
            at += write(&mut out[at..], &item, RecordKind::Data);
            items.push(item);
        }
        debug_assert_eq!(at, end - block_start);
        state.records += items.len() as u64;
        state.first_pending += count as u64;
        current.end = end;
        current.tail.clear();
        current.tail.extend_from_slice(&out[align_down(end) - block_start..end - block_start]);
        let id = state.next_write;
        state.next_write += 1;
        state.writes += 1;
        state.written_bytes += buffer.len() as u64;
        state.in_flight.push_back(WriteInFlight { id, file: number, first_sequence, done: false, items });
        Some(NextWrite { id, file: current.file.clone(), buffer, position: block_start as u64 })
    }

    pub(super) fn finish_write(&self, id: u64, result: io::Result<()>) {
        if let Err(error) = result {
            let path = self.state.borrow().current.file.path().to_owned();
            return self.fail(&format!("write {}: {error}", path.display()));
        }
        let mut durable = Vec::new();
        let settled = {
            let state = &mut *self.state.borrow_mut();
            if let Some(write) = state.in_flight.iter_mut().find(|w| w.id == id) {
                write.done = true;
            }
            while state.in_flight.front().is_some_and(|w| w.done) {
                durable.extend(state.in_flight.pop_front());
            }
            durable.iter().any(|write: &WriteInFlight<O>| write.file < state.current.id.number)
        };
        for item in durable.into_iter().flat_map(|write| write.items) {
            if let (Some(owner), Some(point)) = (&item.owner, item.point) {
                owner.flushed(point);
            }
            for done in item.done {
                done(Ok(()));
            }
        }
        if settled {
            self.progress.notify_all();
        }
    }

    /// Tells whether the files are too many, and has those look around who free them.
    pub(super) fn files_changed(&self) {
        let over = {
            let state = self.state.borrow();
            state.full.len() + 1 > self.options.files_max && state.failure.is_none()
        };
        (self.options.over)(over);
        self.progress.notify_all();
    }

    pub(super) fn fail(&self, reason: &str) {
        let failure = StorageError::JournalFailed { reason: reason.into() };
        let failed: Vec<Item<O>> = {
            let state = &mut *self.state.borrow_mut();
            if state.failure.is_none() {
                tracing::error!(shard = self.options.shard, reason, "the journal failed: nothing more is accepted");
                state.failure = Some(failure.clone());
            }
            let pending = std::mem::take(&mut state.pending);
            state.first_pending += pending.len() as u64;
            let in_flight = std::mem::take(&mut state.in_flight);
            in_flight.into_iter().flat_map(|w| w.items).chain(pending).collect()
        };
        for done in failed.into_iter().flat_map(|item| item.done) {
            done(Err(failure.clone()));
        }
        self.failed.notify_all();
        self.files_changed();
    }

    /// Keeps one file ready, so that the writer waits neither for a rename nor for zeros.
    pub(super) async fn prepare(self: Rc<Self>) {
        while !self.closing.get() {
            let number = {
                let state = self.state.borrow();
                (state.prepared.is_none() && state.failure.is_none()).then(|| state.current.id.number + 1)
            };
            let Some(number) = number else {
                self.files.trim_spares().await;
                self.preparer_wake.wait().await;
                continue;
            };
            let taken = async {
                let ready = self.files.take(number, false).await?;
                self.options.ledger.begun(number).await?;
                Ok(ready)
            };
            match taken.await {
                Ok(ready) => {
                    let state = &mut *self.state.borrow_mut();
                    state.prepared = Some(ready);
                    state.disk_full = None;
                }
                Err(error @ StorageError::DiskFull { .. }) => {
                    // Records that are pending wait; new ones are refused until there is room.
                    let news = self.state.borrow_mut().disk_full.replace(error.clone()).is_none();
                    if news {
                        tracing::warn!(shard = self.options.shard, %error, "no room for a journal file");
                    }
                    time::sleep(RETRY).await;
                    continue;
                }
                Err(error) => {
                    self.fail(&error.to_string());
                    continue;
                }
            }
            self.writer_wake.notify();
        }
    }
}

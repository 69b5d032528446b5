//! The thread that tells. To put a backtrace into words, the debug information of the whole binary is read: half a second of a core,
//! right after something held one for too long. That is done with what nobody else has a use for, and the detector looks on meanwhile.

use super::detector::StallReport;
use super::symbols::Symbols;
use crate::shard::ShardId;
use crate::topology;
use std::{
    io,
    sync::mpsc::{SyncSender, sync_channel},
    thread,
    time::Duration,
};

/// Reports on their way; who finds no room is counted in the next.
const WAITING: usize = 16;

/// A report whose backtrace is in addresses.
pub(super) struct Captured {
    pub(super) shard: ShardId,
    pub(super) thread: String,
    pub(super) task: &'static str,
    pub(super) running_for: Duration,
    pub(super) frames: Vec<usize>,
    pub(super) not_told: u64,
}

pub(super) struct Teller {
    reports: Option<SyncSender<Captured>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Teller {
    pub(super) fn start(mut tell: impl FnMut(&StallReport) + Send + 'static) -> io::Result<Teller> {
        let (reports, captured) = sync_channel::<Captured>(WAITING);
        let thread = thread::Builder::new().name("stall-teller".into()).spawn(move || {
            topology::unpin_thread();
            let mut symbols = Symbols::default();
            for Captured { shard, thread, task, running_for, frames, not_told } in captured {
                let backtrace = in_words(&mut symbols, &frames);
                tell(&StallReport { shard, thread, task, running_for, backtrace, not_told });
            }
        })?;
        Ok(Teller { reports: Some(reports), thread: Some(thread) })
    }

    /// False if there is no room for it.
    pub(super) fn take(&self, captured: Captured) -> bool {
        self.reports.as_ref().is_some_and(|reports| reports.try_send(captured).is_ok())
    }
}

impl Drop for Teller {
    fn drop(&mut self) {
        self.reports = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// On a thread of its own: one that goes without the processor cannot go back, and `tell` may hold locks that others want.
fn in_words(symbols: &mut Symbols, frames: &[usize]) -> String {
    thread::scope(|scope| {
        let described = thread::Builder::new().name("stall-symbols".into()).spawn_scoped(scope, || {
            topology::idle_priority();
            symbols.describe(frames)
        });
        described.ok().and_then(|thread| thread.join().ok()).unwrap_or_default()
    })
}

//! Looking after the logs that have memory: what is idle is written back and gives it up; when too much is dirty, what has waited
//! longest is written back although it fills no chunk. Files that nobody uses are closed. Where there is neither, there is no timer.

use std::rc::Rc;
use std::time::Duration;

use core_pinning::time;

use super::shared::Shared;
use crate::log::LogInner;

pub(crate) async fn run(shared: Rc<Shared>) {
    let idle = shared.options.idle;
    let turn = (idle / 4).clamp(Duration::from_millis(10), Duration::from_secs(1));
    loop {
        if shared.warm_logs.borrow().is_empty() && shared.files.len() == 0 && !shared.ending.get() {
            core_pinning::buf::trim();
            shared.warm_signal.wait().await;
        }
        if shared.ending.get() {
            return;
        }
        // Ends early when more becomes dirty.
        let _ = time::timeout(turn, shared.warm_signal.wait()).await;
        if shared.dirty.is_pressing() {
            relieve(&shared);
        }
        let now = time::now();
        shared.files.forget_unused(now - 2 * idle);
        let age = |log: &LogInner| now.saturating_duration_since(log.state.borrow().last_append);
        let logs: Vec<Rc<LogInner>> =
            shared.warm_logs.borrow().iter().filter(|log| age(log) >= idle).cloned().collect();
        let mut rested = Vec::new();
        for log in logs {
            if log.state.borrow().dirty() > 0 || !log.state.borrow().is_written_back() {
                shared.write_back.force(&log);
            } else if age(&log) >= 2 * idle && (log.is_deleted() || log.rest().await) {
                rested.push(log);
            }
            core_pinning::yield_if_needed().await;
        }
        if rested.is_empty() {
            continue;
        }
        // Those that have been appended to meanwhile stay on the list.
        rested.iter().filter(|log| log.has_no_memory()).for_each(|log| log.marks.warm.set(false));
        let warm = &mut *shared.warm_logs.borrow_mut();
        warm.retain(|log| log.marks.warm.get());
        warm.shrink_to(2 * warm.len());
        core_pinning::memory::give_back();
    }
}

/// Has half of what is dirty written back, beginning with the logs that have been appended to longest ago.
fn relieve(shared: &Rc<Shared>) {
    let mut logs: Vec<Rc<LogInner>> = shared.warm_logs.borrow().clone();
    logs.sort_by_key(|log| log.state.borrow().last_append);
    let mut enough = shared.dirty.used() / 2;
    for log in logs {
        let dirty = log.state.borrow().dirty();
        if dirty > 0 {
            shared.write_back.force(&log);
            enough = enough.saturating_sub(dirty);
        }
        if enough == 0 {
            break;
        }
    }
}

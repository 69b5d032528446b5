//! What the addresses of a backtrace are called.

use std::collections::HashMap;

use crate::memory;

/// Frames shown: a stall tells by the innermost ones.
const SHOWN: usize = 12;
/// Addresses whose names are remembered.
const REMEMBERED: usize = 4096;

/// Names of addresses, innermost first where functions are inlined. They are remembered, because for a new one the debug information
/// of the whole binary is read: some 150 MiB, which are given back at once.
#[derive(Default)]
pub(super) struct Symbols {
    known: HashMap<usize, Vec<String>>,
}

impl Symbols {
    /// The innermost frames in words, those of the signal left out.
    pub(super) fn describe(&mut self, frames: &[usize]) -> String {
        let before = self.known.len();
        let mut lines: Vec<&str> = Vec::new();
        frames.iter().for_each(|&ip| self.learn(ip));
        for names in frames.iter().filter_map(|ip| self.known.get(ip)) {
            lines.extend(names.iter().map(String::as_str));
            if names.iter().any(|name| name.contains("__restore_rt")) {
                lines.clear();
            }
        }
        // what lies under the executor is the same for every task
        if let Some(end) = lines.iter().position(|l| l.contains("LocalExecutor") && l.contains("run_one_task_queue")) {
            lines.truncate(end);
        }
        lines.truncate(SHOWN);
        let described = lines.iter().enumerate().map(|(i, l)| format!("{i:>3}: {l}\n")).collect();
        if self.known.len() > before {
            backtrace::clear_symbol_cache();
            memory::give_back();
        }
        if self.known.len() > REMEMBERED {
            self.known.clear();
        }
        described
    }

    fn learn(&mut self, ip: usize) {
        self.known.entry(ip).or_insert_with(|| {
            let mut names = Vec::new();
            // the address is that of the return, so look just before it
            backtrace::resolve(ip.wrapping_sub(1) as *mut _, |s| {
                let name = s.name().map_or_else(|| "?".to_owned(), |n| format!("{n:#}"));
                names.push(match (s.filename(), s.lineno()) {
                    (Some(f), Some(l)) => format!("{name} ({}:{l})", f.display()),
                    _ => name,
                });
            });
            names
        });
    }
}

//! Steps of a transaction at which a test ends the process. Only debug builds have them: the product has neither the names nor the
//! look-ups.
//!
//! `TRANSACTION_STEPS` names a folder. Each step that the process comes to is written into its file `passed`, one a line; the file
//! `crash-at`, `N STEP`, has the process abort when it comes to that step for the Nth time from then on. What is a step, and what it is called, say those who call
//! [`Step::reached`]: what is written, and whether it is `ordered` (its place in a log is fixed, it may or may not survive),
//! `durable` (its writer has not heard of it yet) or `told`.

/// The name of what is being written.
#[derive(Clone, Debug, Default)]
pub struct Step(#[cfg(debug_assertions)] Option<std::rc::Rc<str>>);

#[cfg(debug_assertions)]
impl Step {
    /// `name` gives `None` for what is no part of a transaction; it is asked only in a process under test.
    pub fn of(name: impl FnOnce() -> Option<String>) -> Step {
        Step(test::folder().and_then(|_| name()).map(Into::into))
    }

    pub fn reached(&self, moment: &str) {
        if let Some((folder, name)) = test::folder().zip(self.0.as_ref()) {
            test::reached(folder, &format!("{name} {moment}"));
        }
    }
}

#[cfg(not(debug_assertions))]
impl Step {
    #[inline(always)]
    pub fn of(_: impl FnOnce() -> Option<String>) -> Step {
        Step()
    }

    #[inline(always)]
    pub fn reached(&self, _: &str) {}
}

#[cfg(debug_assertions)]
mod test {
    use std::fs::{self, File};
    use std::io::Write;
    use std::path::{Path, PathBuf};
    use std::sync::{Mutex, OnceLock, PoisonError};

    pub fn folder() -> Option<&'static Path> {
        static FOLDER: OnceLock<Option<PathBuf>> = OnceLock::new();
        FOLDER.get_or_init(|| std::env::var_os("TRANSACTION_STEPS").map(PathBuf::from)).as_deref()
    }

    /// One shard at a time: the steps have an order, and after the last one there is none.
    pub fn reached(folder: &Path, step: &str) {
        static TURN: Mutex<()> = Mutex::new(());
        let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        if let Ok(mut passed) = File::options().create(true).append(true).open(folder.join("passed")) {
            let _ = writeln!(passed, "{step}");
        }
        let order = folder.join("crash-at");
        let wanted = fs::read_to_string(&order).unwrap_or_default();
        let Some((times, _)) = wanted.split_once(' ').filter(|(_, wanted)| *wanted == step) else { return };
        match times.parse::<u32>() {
            Ok(times @ 2..) => drop(fs::write(&order, format!("{} {step}", times - 1))),
            _ => std::process::abort(),
        }
    }
}

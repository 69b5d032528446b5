//! A script while it is written, and the chance that decides what comes next: the same for the same seed.

use crate::script::{self, Script};
use corelane_protocol::Random;

pub struct Written {
    random: Random,
    text: String,
}

impl Written {
    /// A script of one section.
    pub fn new(section: &str, seed: u64) -> Written {
        Written { random: Random::new(seed), text: format!("== {section} {seed}\n") }
    }

    pub fn below(&mut self, bound: usize) -> usize {
        self.random.below(bound as u64) as usize
    }

    pub fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    pub fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())]
    }

    pub fn line(&mut self, line: impl AsRef<str>) {
        self.text += line.as_ref();
        self.text.push('\n');
    }

    /// The script as it is read back, and its text.
    pub fn done(self, name: &str) -> (Script, String) {
        let script = script::parse(name, &self.text).unwrap_or_else(|e| panic!("{e}"));
        (script, self.text)
    }
}

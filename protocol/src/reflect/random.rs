//! [`Random`]: the seed of values.

use bytes::Bytes;

/// A seeded source of values: SplitMix64.
#[derive(Clone, Debug)]
pub struct Random {
    state: u64,
    /// How many structs deep the value being drawn is.
    pub(super) depth: u32,
}

impl Random {
    pub fn new(seed: u64) -> Random {
        Random { state: seed, depth: 0 }
    }

    pub fn u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.u64() % bound.max(1)
    }

    pub(super) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub(crate) fn enter(&mut self) {
        self.depth += 1;
    }

    pub(crate) fn leave(&mut self) {
        self.depth -= 1;
    }

    /// Lengths around where prefixes grow and slices start, most of them small.
    fn size(&mut self) -> usize {
        let size = match self.below(12) {
            0 => 0,
            1 => 100 + self.below(100),
            2 => 1000 + self.below(100),
            3 if self.one_in(8) => 20_000,
            _ => self.below(12),
        };
        size as usize
    }

    pub(super) fn bytes(&mut self) -> Bytes {
        let size = self.size();
        (0..size).map(|_| self.u64() as u8).collect()
    }
}

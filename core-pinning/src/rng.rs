//! Randomness on a shard: the operating system's, or in a simulation what follows from the seed.
#![allow(unsafe_code)]

/// Fills `bytes`; fit for ids that must not be guessed.
pub fn fill(bytes: &mut [u8]) {
    #[cfg(sim)]
    if crate::sim::world::with(|w| w.product_random(bytes)).is_some() {
        return;
    }
    let mut done = 0;
    while let Some(rest) = bytes.get_mut(done..).filter(|r| !r.is_empty()) {
        // SAFETY: the pointer and the length describe `rest`.
        let n = unsafe { libc::getrandom(rest.as_mut_ptr().cast(), rest.len(), 0) };
        match usize::try_from(n) {
            Ok(n) => done += n,
            Err(_) => {
                let e = std::io::Error::last_os_error();
                assert!(e.kind() == std::io::ErrorKind::Interrupted, "the kernel gives no random bytes: {e}");
            }
        }
    }
}

/// Random bytes.
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut b = [0; N];
    fill(&mut b);
    b
}

/// Any number.
pub fn u64() -> u64 {
    u64::from_le_bytes(bytes())
}

/// A number below `n`; 0 if `n` is 0.
pub fn below(n: u64) -> u64 {
    scale(u64(), n)
}

/// Brings a random number below `n`, all but evenly.
pub(crate) fn scale(random: u64, n: u64) -> u64 {
    ((u128::from(random) * u128::from(n)) >> 64) as u64
}

#[cfg(test)]
mod tests {
    #[test]
    fn numbers_stay_below_their_bound_and_differ() {
        assert_eq!(super::below(0), 0);
        let seen: std::collections::BTreeSet<u64> = (0..1000).map(|_| super::below(3)).collect();
        assert_eq!(seen, [0, 1, 2].into());
        assert_ne!(super::u64(), super::u64());
    }
}

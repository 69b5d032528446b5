//! "Did you mean": the known name nearest to a mistyped one.

/// The candidate with the fewest edits, if it is near enough to be what was meant.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let length = name.chars().count();
    let allowed = (length / 3).clamp(1, 4);
    // No other can be near, and what is asked may be long.
    let of_that_length = candidates.into_iter().filter(|c| c.chars().count().abs_diff(length) <= allowed);
    let (edits, best) = of_that_length.map(|c| (edits(name, c), c)).min_by_key(|(n, _)| *n)?;
    (edits <= allowed).then_some(best)
}

/// Levenshtein distance where a swap of neighbours costs two.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut next = Vec::with_capacity(row.len());
        next.push(i + 1);
        for ((y, pair), j) in b.iter().zip(row.windows(2)).zip(0usize..) {
            let (diagonal, above) = (pair.first().copied().unwrap_or(0), pair.last().copied().unwrap_or(0));
            let left = next.get(j).copied().unwrap_or(0);
            next.push((diagonal + usize::from(x != *y)).min(above + 1).min(left + 1));
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typo_finds_its_name_and_nonsense_finds_none() {
        let names = ["retention.ms", "retention.bytes", "segment.ms"];
        assert_eq!(nearest("retension.ms", names), Some("retention.ms"));
        assert_eq!(nearest("retention.byte", names), Some("retention.bytes"));
        assert_eq!(nearest("colour", names), None);
        assert_eq!(nearest("", names), None);
        assert_eq!(edits("kitten", "sitting"), 3);
    }
}

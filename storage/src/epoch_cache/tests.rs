use super::*;
use proptest::prelude::*;

fn cache(entries: &[(u64, i64)]) -> EpochCache {
    let mut cache = EpochCache::new();
    for (term, start) in entries {
        assert!(cache.assign(Term(*term), Offset(*start)));
    }
    cache
}

fn end(cache: &EpochCache, asked: u64) -> Option<(u64, i64)> {
    cache.end_offset_for(Term(asked), Offset(100)).map(|(t, o)| (t.0, o.0))
}

#[test]
fn an_epoch_ends_where_the_next_starts() {
    let cache = cache(&[(2, 5), (4, 10), (7, 30)]);
    assert_eq!(end(&cache, 0), Some((0, 5)), "before the first known");
    assert_eq!(end(&cache, 2), Some((2, 10)));
    assert_eq!(end(&cache, 3), Some((2, 10)), "the largest at or below");
    assert_eq!(end(&cache, 6), Some((4, 30)));
    assert_eq!(end(&cache, 7), Some((7, 100)), "the latest ends at the log end");
    assert_eq!(end(&cache, 8), None);
    assert_eq!(end(&EpochCache::new(), 0), None);
    assert_eq!(cache.epoch_for(Offset(4)), None);
    assert_eq!(cache.epoch_for(Offset(29)), Some(Term(4)));
    assert_eq!(cache.epoch_for(Offset(99)), Some(Term(7)));
}

#[test]
fn a_new_term_takes_over_contradicting_entries() {
    let mut cache = cache(&[(2, 5), (4, 10), (7, 30)]);
    assert!(!cache.assign(Term(7), Offset(40)), "known already");
    assert!(cache.assign(Term(8), Offset(10)));
    assert_eq!(cache.entries(), [(Term(2), Offset(5)), (Term(8), Offset(10))]);
    assert!(!cache.assign(Term(9), Offset(-1)));
}

#[test]
fn truncation_and_trimming() {
    let full = cache(&[(2, 5), (4, 10), (7, 30)]);
    let mut c = full.clone();
    c.truncate_end(Offset(31));
    assert_eq!(c, full);
    c.truncate_end(Offset(30));
    assert_eq!(c.latest(), Some((Term(4), Offset(10))));
    let mut c = full.clone();
    c.trim_start(Offset(12));
    assert_eq!(c.entries(), [(Term(4), Offset(12)), (Term(7), Offset(30))]);
    c.trim_start(Offset(3));
    assert_eq!(c.earliest(), Some((Term(4), Offset(12))));
    c.trim_start(Offset(1000));
    assert_eq!(c.entries(), [(Term(7), Offset(1000))]);
}

#[test]
fn damage_is_seen() {
    let mut bytes = Vec::new();
    let cache = cache(&[(2, 5), (4, 10)]);
    cache.encode(&mut bytes);
    assert_eq!(EpochCache::decode(&mut &bytes[..]).as_ref(), Ok(&cache));
    for at in 0..bytes.len() {
        let mut bad = bytes.clone();
        bad[at] ^= 1;
        assert!(EpochCache::decode(&mut &bad[..]).is_err());
        assert_eq!(EpochCache::decode(&mut &bytes[..at]), Err(SealError::Truncated));
    }
    let newer = {
        let mut bytes = Vec::new();
        sealed::seal(EPOCHS, VERSION + 1, &[], &mut bytes);
        bytes
    };
    assert_eq!(EpochCache::decode(&mut &newer[..]), Err(SealError::Version { found: 1, known: 0 }));
}

#[derive(Clone, Debug)]
enum Step {
    /// A new term writes so many records.
    Lead(u64, i64),
    Truncate(i64),
    Trim(i64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1u64..4, 0i64..20).prop_map(|(t, n)| Step::Lead(t, n)),
        1 => (0i64..30).prop_map(Step::Truncate),
        1 => (0i64..30).prop_map(Step::Trim),
    ]
}

proptest! {
    /// The model keeps the term of every record of the log.
    #[test]
    fn the_cache_knows_the_term_of_every_record(steps in prop::collection::vec(step(), 1..40)) {
        let mut cache = EpochCache::new();
        let (mut log, mut start): (Vec<u64>, usize) = (Vec::new(), 0);
        let mut term = 0;
        for step in steps {
            match step {
                Step::Lead(rise, records) => {
                    term += rise;
                    for _ in 0..records {
                        cache.assign(Term(term), Offset(log.len() as i64));
                        log.push(term);
                    }
                }
                Step::Truncate(back) => {
                    log.truncate(log.len().saturating_sub(back as usize).max(start));
                    cache.truncate_end(Offset(log.len() as i64));
                }
                Step::Trim(on) => {
                    start = (start + on as usize).min(log.len());
                    cache.trim_start(Offset(start as i64));
                }
            }
            for (at, term) in log.iter().enumerate().skip(start) {
                prop_assert_eq!(cache.epoch_for(Offset(at as i64)), Some(Term(*term)));
            }
            for asked in log.get(start..).unwrap_or_default() {
                let end = log.iter().position(|t| t > asked).unwrap_or(log.len());
                prop_assert_eq!(cache.end_offset_for(Term(*asked), Offset(log.len() as i64)), Some((Term(*asked), Offset(end as i64))));
            }
            prop_assert!(cache.entries().is_sorted());
            let mut bytes = Vec::new();
            cache.encode(&mut bytes);
            prop_assert_eq!(EpochCache::decode(&mut &bytes[..]), Ok(cache.clone()));
        }
    }

    #[test]
    fn decoding_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..80), framed: bool) {
        let mut sealed = Vec::new();
        sealed::seal(EPOCHS, VERSION, &bytes, &mut sealed);
        let _ = EpochCache::decode(&mut if framed { &sealed[..] } else { &bytes[..] });
    }
}

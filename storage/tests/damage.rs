//! What a start may find, made on the files of a real store: what was acknowledged is there, or it is told what is missing and
//! where, and nothing is changed. Each input stands in the table of `situations`; here are more ways to come to some of them.

mod common;
#[path = "damage/directories.rs"]
mod directories;
#[path = "damage/left.rs"]
mod left;
#[path = "damage/situations.rs"]
mod situations;

use std::fs;
use std::path::Path;

use bytes::Bytes;
use common::*;
use core_pinning::run_local;
use corelane_storage::model::NodeId;
use corelane_storage::{NewDirectory, StorageError, StoreOptions, lock_data_dir};
use left::{End, Left, fenced_by_reading, files_below, find, flip, left, left_of, small, tells};

#[test]
fn a_journal_replayed_twice_changes_nothing() {
    let left = left(End::Crash);
    let journal = left.root.path().join("journal");
    copy_dir(&left.dir().join("journal"), &journal);
    let ledger = fs::read(left.dir().join("ledger/0")).unwrap();
    left.recover().unwrap();
    for ledger_too in [false, true] {
        // As if the crash had come before the journal was given up, and before the ledger said so: then it is replayed again.
        fs::remove_dir_all(left.dir().join("journal")).unwrap();
        copy_dir(&journal, &left.dir().join("journal"));
        if ledger_too {
            fs::write(left.dir().join("ledger/0"), &ledger).unwrap();
        }
        assert_eq!(left.recover().unwrap().bytes > 100_000, ledger_too);
    }
    left.is_whole();
}

#[test]
fn a_segment_of_the_wrong_size_fences() {
    let cut = |path: &Path, len: u64| fs::File::options().write(true).open(path).unwrap().set_len(len).unwrap();
    // The active one, shorter by any count of bytes; and one that is gone.
    for by in [1, 1000, u64::MAX] {
        let left = left(End::Clean);
        let last = left.segments(0).pop().unwrap();
        let len = fs::metadata(&last).unwrap().len();
        match by {
            u64::MAX => fs::remove_file(&last).unwrap(),
            by => cut(&last, len - by),
        }
        left.is_fenced(&[last.file_name().unwrap().to_str().unwrap(), "durable"]);
    }
    // A sealed one: inside a batch, between two batches (nothing in it is damaged then), and gone.
    for how in 0..3 {
        let left = left(End::Clean);
        let segment = left.segments(0).remove(1);
        let bytes = fs::read(&segment).unwrap();
        let last = left.acknowledged[0].iter().rev().find(|b| bytes.windows(b.len()).any(|w| w == &b[..])).unwrap();
        let at = find(&bytes, last);
        match how {
            0 => cut(&segment, at as u64 + 100),
            1 => cut(&segment, at as u64),
            _ => fs::remove_file(&segment).unwrap(),
        }
        left.is_fenced(&[".log", "position"]);
    }
}

#[test]
fn a_segment_that_is_missing_between_two_others_fences_when_the_log_is_opened() {
    for how in 0..4 {
        let left = left(End::Clean);
        let segment = left.segments(0).remove(1);
        fs::remove_file(&segment).unwrap();
        if how > 0 {
            fs::remove_file(segment.with_extension("idx")).unwrap();
        }
        match how {
            // Only the segments' own indexes are left.
            2 => fs::remove_file(left.partition(0).join("indexes")).unwrap(),
            // Or only the file with the heads of all.
            3 => left.segments(0).iter().for_each(|s| fs::remove_file(s.with_extension("idx")).unwrap()),
            _ => {}
        }
        left.start(async |store| {
            let error = store.load_or_create(small(0), first()).await.err().unwrap();
            tells(&error, &["the next one begins", "position"]);
            store.close().await.unwrap();
        });
        left.is_fenced(&["the next one begins"]);
    }
}

#[test]
fn a_half_deleted_topic_is_deleted() {
    let left = left(End::Crash);
    // It had not come so far as to the directory: the metadata says that its topic is no more.
    left.start(async |store| {
        let found = store.unopened().await.unwrap();
        let (key, dir) = found.into_iter().find(|(key, _)| *key == small(1).key).unwrap();
        assert!(matches!(store.put_away(key, dir, true).await, Ok(None)));
        assert!(!left.partition(1).exists());
        std::mem::forget(store);
    });
    // A crash later it is still gone, and may be made again.
    left.start(async |store| {
        assert!(!left.partition(1).exists());
        store.load_or_create(small(1), first()).await.unwrap();
        store.close().await.unwrap();
    });
}

#[test]
fn what_a_large_append_has_put_into_its_file_is_damaged_there_although_the_journal_has_some_of_it() {
    let root = tempfile::tempdir().unwrap();
    let mut first_batch = Bytes::new();
    run_local(async || {
        let live = root.path().join("live");
        drop(lock_data_dir(&live, NodeId(1), "abc", NewDirectory::Allowed).unwrap());
        let store = open_with(StoreOptions { bypass_bytes: 32 << 10, ..options(&live) }).await;
        let w = Writer { log: store.create(small(0), first()).await.unwrap() };
        store.create(small(1), first()).await.unwrap();
        first_batch = w.append_durably(1, 1000, 1).await;
        w.append_durably(1, 35_000, 2).await;
        copy_dir(&live, &root.path().join("data-dir"));
    });
    let left = Left { root, acknowledged: [Vec::new(), Vec::new()], aborted: Vec::new() };
    let segment = left.segments(0).remove(0);
    let at = find(&fs::read(&segment).unwrap(), &first_batch);
    flip(&segment, at + 500);
    let found = left.damage();
    assert!(found.len() == 1 && found[0].path == segment && found[0].position == Some(at as u64), "{found:?}");
    left.start(async |store| {
        let error = match store.load(small(0)).await {
            Ok(log) => fenced_by_reading(&log).await,
            Err(error) => error,
        };
        tells(&error, &[segment.file_name().unwrap().to_str().unwrap(), &format!("position {at}")]);
        store.close().await.unwrap();
    });
}

#[test]
fn a_journal_torn_where_it_was_durable_refuses_the_start() {
    let left = left(End::Crash);
    let journal = left.journals().remove(0);
    let bytes = fs::read(&journal).unwrap();
    // One bit of a record in the middle, and a whole lost sector.
    let at = find(&bytes, &left.acknowledged[0][50][200..]);
    for len in [1, 512] {
        let mut torn = bytes.clone();
        torn[at..at + len].iter_mut().for_each(|b| *b = !*b);
        fs::write(&journal, &torn).unwrap();
        left.is_refused(&["journal/0/", "damaged at position", "ledger/0"]);
    }
    // The header of a file that the ledger names.
    let mut torn = bytes.clone();
    torn[9] ^= 1;
    fs::write(&journal, &torn).unwrap();
    left.is_refused(&["missing"]);
    fs::write(&journal, &bytes).unwrap();
    left.is_whole();
}

#[test]
fn a_missing_journal_refuses_the_start_unless_it_was_closed() {
    let crashed = left(End::Crash);
    let away = crashed.root.path().join("away");
    fs::rename(crashed.dir().join("journal"), &away).unwrap();
    // The directory made again, and not.
    crashed.recover().unwrap_err();
    crashed.is_refused(&["journal/0/00000000000000000001.jnl", "missing", "move journal/0 and ledger/0"]);
    fs::remove_dir_all(crashed.dir().join("journal")).unwrap();
    fs::rename(&away, crashed.dir().join("journal")).unwrap();
    crashed.is_whole();
    // A ledger that cannot be read.
    let damaged = left(End::Crash);
    flip(&damaged.dir().join("ledger/0"), 20);
    damaged.is_refused(&["ledger/0", "damaged"]);
    // After a clean stop there was nothing in it.
    let closed = left(End::Clean);
    fs::remove_dir_all(closed.dir().join("journal")).unwrap();
    closed.is_whole();
}

#[test]
fn a_lost_journal_file_in_the_middle_refuses_the_start() {
    let root = tempfile::tempdir().unwrap();
    let many = |dir: &Path| StoreOptions {
        journal_file_bytes: 256 << 10,
        journal_write_bytes: 32 << 10,
        journal_files_max: 100,
        ..options(dir)
    };
    run_local(async || {
        let store = open_with(many(&root.path().join("live"))).await;
        let w = Writer { log: store.create(small(0), first()).await.unwrap() };
        for n in 0..600 {
            w.append_durably(1, 1500, n).await;
        }
        copy_dir(&root.path().join("live"), &root.path().join("data-dir"));
    });
    let left = Left { root, acknowledged: [Vec::new(), Vec::new()], aborted: Vec::new() };
    let journals = left.journals();
    assert!(journals.len() >= 4, "{journals:?}");
    // Any of them: the first, one in the middle, the last that holds records.
    for lost in [&journals[0], &journals[1], &journals[journals.len() - 2]] {
        let bytes = fs::read(lost).unwrap();
        fs::remove_file(lost).unwrap();
        left.is_refused(&[lost.file_name().unwrap().to_str().unwrap(), "missing"]);
        fs::write(lost, &bytes).unwrap();
        // All of its records, with its header as it was.
        let mut empty = bytes.clone();
        empty[4096..].fill(0);
        fs::write(lost, &empty).unwrap();
        if Some(lost) != journals.get(journals.len() - 2) {
            left.is_refused(&["damaged at position"]);
        }
        fs::write(lost, &bytes).unwrap();
    }
    // The first record of the last one: the others in it tell that it was durable. And a file that has lost its end.
    let last = &journals[journals.len() - 2];
    let bytes = fs::read(last).unwrap();
    flip(last, 4096 + 100);
    left.is_refused(&[last.file_name().unwrap().to_str().unwrap(), "damaged at position 4096"]);
    for len in [bytes.len() - 1, bytes.len() / 2, 5000] {
        fs::write(last, &bytes[..len]).unwrap();
        left.is_refused(&[last.file_name().unwrap().to_str().unwrap(), "missing"]);
    }
    fs::write(last, &bytes).unwrap();
    assert!(left.recover().unwrap().bytes > 600 * 1500);
}

#[test]
fn bytes_that_no_crc_covers_are_compared_with_what_the_log_knows() {
    // Base offset and leader epoch of the last batch of a sealed segment; base offset of the segment's header.
    for (byte, of_header) in [(5, false), (7, false), (13, false), (15, false), (5, true)] {
        let left = left(End::Clean);
        let segment = left.segments(0).remove(1);
        let bytes = fs::read(&segment).unwrap();
        let last = left.acknowledged[0].iter().rev().find(|b| bytes.windows(b.len()).any(|w| w == &b[..])).unwrap();
        flip(&segment, byte + if of_header { 0 } else { find(&bytes, last) });
        assert!(!left.damage().is_empty(), "byte {byte}");
        left.is_fenced(&[segment.file_name().unwrap().to_str().unwrap()]);
    }
}

#[test]
fn a_damaged_state_file_of_a_partition_with_later_records_stays_fenced() {
    let left = left(End::Clean);
    // Used after a clean stop: the journal has no state of it, and the state file does not know what the journal has.
    left.start(async |store| {
        let w = Writer { log: store.load(small(0)).await.unwrap() };
        w.append_durably(1, 800, 1).await;
        std::mem::forget(store);
    });
    let path = left.partition(0).join("state");
    flip(&path, fs::read(&path).unwrap().len() / 2);
    for _ in 0..2 {
        left.start(async |store| {
            assert!(matches!(store.load_or_create(small(0), first()).await, Err(StorageError::Corrupt { .. })));
            store.close().await.unwrap();
        });
        assert!(!left.damage().is_empty());
        assert!(!path.exists(), "what was damaged does not come back as if it were whole");
    }
}

#[test]
fn producers_of_another_time_are_told_by_the_check() {
    let left = left_of(End::Clean, true);
    let files = files_below(&left.partition(0)).into_iter();
    let snapshots: Vec<_> = files.filter(|(path, _)| path.extension().is_some_and(|e| e == "snap")).collect();
    let [(earlier, old), .., (later, new)] = &snapshots[..] else { panic!("{} snapshots", snapshots.len()) };
    // Earlier ones let a batch in that the log has; later ones refuse one that it has not.
    for (path, other, sound) in [(later, old, new), (earlier, new, old)] {
        fs::write(path, other).unwrap();
        assert_eq!(left.check().1, 7, "the exit code");
        let [told] = &left.damage()[..] else { panic!("{:?}", left.damage()) };
        // Behind the frame and the count of entries.
        assert_eq!((&told.path, told.position), (path, Some(14 + 4)), "{told:?}");
        assert!(told.what.contains("producer 77"), "{told:?}");
        fs::write(path, sound).unwrap();
    }
    left.is_whole();
}

//! Each situation that a start may find, made on the files of a real store: what was acknowledged is there, or it is told what is
//! missing and where, and nothing is changed.

mod common;
#[path = "damage/directories.rs"]
mod directories;

use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use common::*;
use core_pinning::{ShardId, run_local};
use corelane_storage::model::{NodeId, Offset};
use corelane_storage::{
    DataDirError, Finding, Log, LogConfig, NewDirectory, ReadError, ReadLimit, RecoveryReport, Severity, StorageError,
    Store, StoreOptions, check_data_dir, lock_data_dir, recover_journals,
};

const SEGMENT: u32 = 40_000;

fn small(partition: u32) -> corelane_storage::PartitionSpec {
    spec_with(partition, LogConfig { segment_bytes: SEGMENT, ..LogConfig::default() })
}

/// A data directory of two partitions as a stop or a crash left it, and what was acknowledged in each.
struct Left {
    root: tempfile::TempDir,
    acknowledged: [Vec<Bytes>; 2],
}

enum End {
    Clean,
    Crash,
    /// A crash after everything had been written back and synced.
    WrittenBack,
}

fn left(end: End) -> Left {
    let root = tempfile::tempdir().unwrap();
    let mut acknowledged = [Vec::new(), Vec::new()];
    run_local(async || {
        let live = root.path().join("live");
        drop(lock_data_dir(&live, NodeId(1), "abc", NewDirectory::Allowed).unwrap());
        let store = open(&live).await;
        for n in 0..2 {
            let w = Writer { log: store.create(small(n), first()).await.unwrap() };
            for i in 0..100 {
                acknowledged[n as usize].push(w.append_durably(1, 1500, i).await);
            }
        }
        match end {
            End::Clean => store.close().await.unwrap(),
            End::Crash => {}
            End::WrittenBack => store.write_back().await.unwrap(),
        }
        copy_dir(&live, &root.path().join("data-dir"));
    });
    Left { root, acknowledged }
}

impl Left {
    fn dir(&self) -> PathBuf {
        self.root.path().join("data-dir")
    }

    fn partition(&self, partition: u32) -> PathBuf {
        let key = small(partition).key;
        let name = format!("t-{partition}.{}", key.topic);
        self.dir().join("data").join(name)
    }

    /// Segments of a partition, oldest first.
    fn segments(&self, partition: u32) -> Vec<PathBuf> {
        let mut files: Vec<_> = fs::read_dir(self.partition(partition)).unwrap().map(|e| e.unwrap().path()).collect();
        files.retain(|p| p.extension().is_some_and(|e| e == "log"));
        files.sort();
        files
    }

    fn journals(&self) -> Vec<PathBuf> {
        let mut files: Vec<_> =
            fs::read_dir(self.dir().join("journal/0")).unwrap().map(|e| e.unwrap().path()).collect();
        files.retain(|p| p.extension().is_some_and(|e| e == "jnl"));
        files.sort();
        files
    }

    fn recover(&self) -> Result<RecoveryReport, StorageError> {
        run_local(async || recover_journals(&self.dir(), ShardId(0), 1).await)
    }

    /// Starts, and gives the store to look at.
    fn start(&self, look: impl AsyncFnOnce(Store)) {
        self.start_with(options(&self.dir()), look);
    }

    fn start_with(&self, options: StoreOptions, look: impl AsyncFnOnce(Store)) {
        self.recover().unwrap();
        run_local(async || look(Store::open(options).await.unwrap().0).await);
    }

    /// What an offline check says is damaged. It changes nothing.
    fn damage(&self) -> Vec<Finding> {
        let before = files_below(&self.dir());
        let mut found = Vec::new();
        let report = check_data_dir(&self.dir(), &mut |finding| found.push(finding)).unwrap();
        assert!(before == files_below(&self.dir()), "a check changes nothing");
        found.retain(|finding| finding.severity == Severity::Damage);
        assert_eq!(report.damaged, found.len() as u64);
        found
    }

    /// Everything acknowledged is there, takes appends, and is there after a stop too.
    fn is_whole(&self) {
        assert_eq!(self.damage(), []);
        self.start(async |store| {
            for (n, expected) in self.acknowledged.iter().enumerate() {
                let w = Writer { log: store.load(small(n as u32)).await.unwrap() };
                assert_same(&read_all(&w.log, Offset(0), 50_000).await, expected);
                w.append_durably(1, 100, 7).await;
            }
            store.close().await.unwrap();
        });
        self.start(async |store| {
            for (n, expected) in self.acknowledged.iter().enumerate() {
                let log = store.load(small(n as u32)).await.unwrap();
                let found = read_all(&log, Offset(0), 50_000).await;
                assert_same(&found[..found.len() - 1], expected);
            }
            store.close().await.unwrap();
        });
    }

    /// Partition 0 does not open, says why, and its files stay; partition 1 goes on.
    fn is_fenced(&self, says: &[&str]) {
        assert!(!self.damage().is_empty());
        let before = files_below(&self.partition(0));
        self.start(async |store| {
            let error = match store.load_or_create(small(0), first()).await {
                Ok(log) => fenced_by_reading(&log).await,
                Err(error) => error,
            };
            tells(&error, says);
            // Not the first time only.
            assert!(matches!(
                store.load_or_create(small(0), first()).await.err(),
                None | Some(StorageError::Corrupt { .. })
            ));
            let w = Writer { log: store.load_or_create(small(1), first()).await.unwrap() };
            assert_same(&read_all(&w.log, Offset(0), 50_000).await, &self.acknowledged[1]);
            w.append_durably(1, 100, 7).await;
            store.close().await.unwrap();
        });
        let after = files_below(&self.partition(0));
        for (path, bytes) in before.iter().filter(|(path, _)| path.extension().is_some_and(|e| e == "log")) {
            let kept = after.iter().find(|(p, _)| p == path).map(|(_, bytes)| bytes);
            assert!(kept == Some(bytes), "{} was changed", path.display());
        }
        // And not the first start only.
        self.start(async |store| {
            let error = match store.load_or_create(small(0), first()).await {
                Ok(log) => fenced_by_reading(&log).await,
                Err(error) => error,
            };
            tells(&error, says);
            store.close().await.unwrap();
        });
    }

    /// The start is refused, says why, and changes nothing.
    fn is_refused(&self, says: &[&str]) {
        if self.dir().join("meta.properties").exists() {
            assert!(!self.damage().is_empty());
        }
        let before = files_below(&self.dir());
        for _ in 0..2 {
            match self.recover() {
                Err(error @ StorageError::JournalLost { shard: 0, .. }) => tells(&error, says),
                other => panic!("{other:?}"),
            }
        }
        let after = files_below(&self.dir());
        assert!(before == after, "files were changed");
    }
}

fn tells(error: &StorageError, says: &[&str]) {
    let text = error.to_string();
    assert!(says.iter().all(|part| text.contains(part)), "{text}: should say {says:?}");
}

/// Reads until the damage is met: then neither reads nor appends are taken any more.
async fn fenced_by_reading(log: &Log) -> StorageError {
    let mut at = log.bounds().log_start;
    let limit = ReadLimit { max_bytes: 10_000, at_least_one: true, upto: Offset::MAX };
    let error = loop {
        match log.read(at, limit).await {
            Ok(read) if read.slices.is_empty() => panic!("no damage up to {at:?}"),
            Ok(read) => at = read.next_offset,
            Err(ReadError::Storage(error)) => break error,
            Err(error) => panic!("{error}"),
        }
    };
    assert!(matches!(error, StorageError::Corrupt { .. }), "{error}");
    let again = log.read(log.bounds().log_start, limit).await;
    assert!(matches!(again, Err(ReadError::Storage(StorageError::Corrupt { .. }))), "reads below the damage too");
    let w = Writer { log: log.clone() };
    let bytes = batch(log.bounds().log_end, 1, 100, 1);
    assert!(matches!(w.push(w.entry(bytes)).await, Err(StorageError::Corrupt { .. })));
    error
}

fn files_below(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let (mut files, mut dirs) = (Vec::new(), vec![dir.to_owned()]);
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).into_iter().flatten() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => dirs.push(path),
                false => files.push((path.clone(), fs::read(&path).unwrap())),
            }
        }
    }
    files.sort();
    files
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

fn find(bytes: &[u8], what: &[u8]) -> usize {
    bytes.windows(what.len()).rposition(|w| w == what).unwrap()
}

#[test]
fn a_torn_tail_is_cut_off() {
    let left = left(End::WrittenBack);
    // Room ahead of the data, and in it the beginning of a batch that was never acknowledged.
    let last = left.segments(0).pop().unwrap();
    let mut bytes = fs::read(&last).unwrap();
    bytes.extend_from_slice(&left.acknowledged[0][3][..700]);
    fs::write(&last, bytes).unwrap();
    left.is_whole();
}

#[test]
fn a_bad_crc_in_the_active_segment_fences() {
    let left = left(End::WrittenBack);
    left.recover().unwrap();
    let last = left.segments(0).pop().unwrap();
    let bytes = fs::read(&last).unwrap();
    let at = find(&bytes, &left.acknowledged[0][99][..]);
    flip(&last, at + 300);
    let found = left.damage();
    assert!(found.len() == 1 && found[0].path == last && found[0].position == Some(at as u64), "{found:?}");
    left.is_fenced(&[last.file_name().unwrap().to_str().unwrap(), &format!("position {at}")]);
}

#[test]
fn a_journal_replayed_twice_changes_nothing() {
    let left = left(End::Crash);
    let journal = left.root.path().join("journal");
    copy_dir(&left.dir().join("journal"), &journal);
    let ledger = fs::read(left.dir().join("ledger/0")).unwrap();
    left.recover().unwrap();
    for ledger_too in [false, true] {
        // As if the crash had come before the journal was given up, and before the ledger said so.
        fs::remove_dir_all(left.dir().join("journal")).unwrap();
        copy_dir(&journal, &left.dir().join("journal"));
        if ledger_too {
            fs::write(left.dir().join("ledger/0"), &ledger).unwrap();
        }
        assert!(left.recover().unwrap().bytes > 100_000);
    }
    left.is_whole();
}

#[test]
fn a_journal_end_overwritten_half_way_is_its_end() {
    let left = left(End::Crash);
    // The next one is ready, and empty.
    let journal = left.journals().remove(0);
    let mut bytes = fs::read(&journal).unwrap();
    // A write that was on its way: the blocks behind the last record are half new, half old.
    let end = find(&bytes, &left.acknowledged[1][99][1000..]) + 500;
    let from = end.next_multiple_of(512);
    for at in (from..from + 64 * 512).step_by(1024) {
        bytes[at..at + 512].fill(0xa5);
    }
    fs::write(&journal, bytes).unwrap();
    left.is_whole();
}

#[test]
fn write_back_without_a_checkpoint_is_repeated() {
    let left = left(End::WrittenBack);
    assert!(left.recover().unwrap().bytes > 100_000);
    left.is_whole();
}

#[test]
fn a_bad_crc_in_a_sealed_segment_fences() {
    let left = left(End::Clean);
    let segment = left.segments(0).remove(1);
    let bytes = fs::read(&segment).unwrap();
    let hit = left.acknowledged[0].iter().find(|b| bytes.windows(b.len()).any(|w| w == &b[..])).unwrap();
    let at = find(&bytes, hit);
    flip(&segment, at + hit.len() - 5);
    let found = left.damage();
    assert!(found.len() == 1 && found[0].path == segment && found[0].position == Some(at as u64), "{found:?}");
    left.is_fenced(&[segment.file_name().unwrap().to_str().unwrap(), &format!("position {at}")]);
}

#[test]
fn a_missing_or_wrong_index_is_made_again() {
    for damaged in [false, true] {
        let left = left(End::Clean);
        for entry in fs::read_dir(left.partition(0)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|e| e == "idx") || path.ends_with("indexes") {
                match damaged {
                    true => flip(&path, 20),
                    false => fs::remove_file(&path).unwrap(),
                }
            }
        }
        left.is_whole();
    }
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
fn of_two_active_segments_the_one_that_is_not_durable_goes() {
    let left = left(End::WrittenBack);
    // Begun for records that were never acknowledged: its first entry is none that the journal knows.
    let begun = left.partition(0).join("00000000000000000100.log");
    fs::copy(&left.segments(0)[0], &begun).unwrap();
    left.is_whole();
}

#[test]
fn a_half_created_partition_is_created() {
    let left = left(End::Crash);
    let dir = left.dir().join(format!("data/t-2.{}", small(2).key.topic));
    fs::create_dir(&dir).unwrap();
    left.start(async |store| {
        let w = Writer { log: store.load_or_create(small(2), first()).await.unwrap() };
        w.append_durably(1, 100, 1).await;
        store.close().await.unwrap();
    });
    left.is_whole();
}

#[test]
fn a_half_deleted_topic_is_deleted() {
    let left = left(End::Crash);
    // Renamed, and some of its files are gone.
    let gone = left.dir().join(format!("data/t-0.{}-delete", small(0).key.topic));
    fs::rename(left.partition(0), &gone).unwrap();
    fs::remove_file(gone.join("00000000000000000000.log")).ok();
    // And another whose deletion had not come so far: the metadata says that its topic is no more.
    left.start(async |store| {
        assert!(!gone.exists());
        let found = store.unopened().await.unwrap();
        let (key, dir) = found.into_iter().find(|(key, _)| *key == small(1).key).unwrap();
        store.delete_left_over(key, Some(dir)).await.unwrap();
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
fn a_recycled_segment_with_bytes_of_another_partition_is_none_of_ours() {
    // Behind the end: cut off.
    let behind = left(End::WrittenBack);
    let last = behind.segments(0).pop().unwrap();
    let bytes = [fs::read(&last).unwrap(), fs::read(&behind.segments(1)[0]).unwrap()].concat();
    fs::write(&last, bytes).unwrap();
    behind.is_whole();
    // Before it: whole batches with right CRCs, and not this partition's.
    let left = left(End::Clean);
    let (ours, theirs) = (left.segments(0), left.segments(1));
    fs::copy(&theirs[1], &ours[1]).unwrap();
    fs::remove_file(ours[1].with_extension("idx")).unwrap();
    fs::remove_file(left.partition(0).join("indexes")).ok();
    left.is_fenced(&[ours[1].file_name().unwrap().to_str().unwrap(), "header"]);
}

#[test]
fn the_last_segment_of_another_partition_is_none_of_ours() {
    // The same batches, the same index: only the header differs, and after a clean stop the state file knows what is in it.
    let left = left(End::Clean);
    let (ours, theirs) = (left.segments(0).pop().unwrap(), left.segments(1).pop().unwrap());
    fs::copy(theirs, &ours).unwrap();
    left.is_fenced(&[ours.file_name().unwrap().to_str().unwrap(), "header"]);
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
    let left = Left { root, acknowledged: [Vec::new(), Vec::new()] };
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
fn a_damaged_segment_that_is_about_to_take_the_place_of_others_fences() {
    for damaged in [false, true] {
        let left = left(End::Clean);
        let segments = left.segments(0);
        let base = |n: usize| segments[n].file_stem().unwrap().to_str().unwrap().to_owned();
        // As a compaction leaves it that was cut short before its last step.
        let swap = left.partition(0).join(format!("{}.{}.swap", base(1), base(2)));
        let bytes = fs::read(&segments[1]).unwrap();
        fs::write(&swap, &bytes).unwrap();
        if !damaged {
            left.is_whole();
            continue;
        }
        let hit = left.acknowledged[0].iter().find(|b| bytes.windows(b.len()).any(|w| w == &b[..])).unwrap();
        let at = find(&bytes, hit);
        flip(&swap, at + 200);
        let found = left.damage();
        assert!(found.len() == 1 && found[0].path == swap && found[0].position == Some(at as u64), "{found:?}");
        left.start(async |store| {
            let log = store.load(small(0)).await.unwrap();
            tells(&fenced_by_reading(&log).await, &[&base(1), &format!("position {at}")]);
            store.close().await.unwrap();
        });
    }
}

#[test]
fn a_clean_mark_with_later_writes_fences() {
    let left = left(End::Clean);
    let state = fs::read(left.partition(0).join("state")).unwrap();
    left.start(async |store| {
        let w = Writer { log: store.load(small(0)).await.unwrap() };
        for n in 0..5 {
            w.append_durably(1, 800, n).await;
        }
        store.close().await.unwrap();
    });
    // The state of the stop before: what came after it is in the segments.
    fs::write(left.partition(0).join("state"), state).unwrap();
    left.is_fenced(&["written to later"]);
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
    let left = Left { root, acknowledged: [Vec::new(), Vec::new()] };
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

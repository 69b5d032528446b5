//! Recovery as one table: every input that a start may meet, what the start does, and what `corelane check` says. Each row is made
//! on a real directory. The prose of it, `src/recovery/situations.md`, is what this table prints.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use corelane_storage::model::{NodeId, Offset};
use corelane_storage::record::BatchHeader;
use corelane_storage::{NewDirectory, lock_data_dir};

use super::common::*;
use super::left::{End, Left, files_below, find, first_in, flip, left, left_of, small};

/// What a start does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    Whole,
    Fenced,
    Refused,
    Denied,
    Created,
    Deleted,
    StaysAside,
}

impl Then {
    fn prose(self) -> &'static str {
        match self {
            Then::Whole => "all that was acknowledged is there, and the partition takes appends",
            Then::Fenced => {
                "the partition answers KAFKA_STORAGE_ERROR and none of its bytes is touched; the other ones go on"
            }
            Then::Refused | Then::Denied => "the start is refused, and changes nothing",
            Then::Created => "the partition is created anew",
            Then::Deleted => "the deletion is finished",
            Then::StaysAside => "nothing",
        }
    }
}

/// The files of one situation.
struct Made {
    left: Left,
    /// What the error must name, besides the reason.
    says: Vec<String>,
    /// Where the check must find something.
    at: Option<(PathBuf, Option<u64>)>,
}

impl Made {
    fn of(left: Left) -> Made {
        Made { left, says: Vec::new(), at: None }
    }

    /// Told with the file, and the byte in it.
    fn at(left: Left, path: &Path, position: Option<u64>) -> Made {
        let name = path.file_name().unwrap().to_str().unwrap();
        // Of a compacted segment that takes the place of others the name that it gets is told.
        let name = name.split('.').next().unwrap().to_owned();
        let place = position.map(|position| format!("position {position}"));
        Made { left, says: [name].into_iter().chain(place).collect(), at: Some((path.to_owned(), position)) }
    }
}

struct Row {
    input: &'static str,
    then: Then,
    /// The words of the row of `recovery::decision` that decides it; an error says them.
    why: &'static str,
    /// `corelane check` exits with.
    exit: u8,
    make: fn() -> Made,
}

const fn row(input: &'static str, then: Then, why: &'static str, exit: u8, make: fn() -> Made) -> Row {
    Row { input, then, why, exit, make }
}

/// A segment of partition 0 with a batch of which one bit is another.
fn flipped(left: Left, segment: PathBuf) -> Made {
    let (at, batch) = first_in(&segment, &left.acknowledged[0]);
    flip(&segment, at + batch.len() - 5);
    Made::at(left, &segment, Some(at as u64))
}

fn of_suffix(left: &Left, suffix: &str) -> Vec<PathBuf> {
    let files = files_below(&left.partition(0)).into_iter().map(|(path, _)| path);
    files.filter(|path| path.to_str().unwrap().ends_with(suffix)).collect()
}

/// One file of partition 0 is damaged.
fn hurt(left: Left, suffix: &str) -> Made {
    let path = of_suffix(&left, suffix).remove(0);
    flip(&path, fs::metadata(&path).unwrap().len() as usize / 2);
    Made { left, says: Vec::new(), at: Some((path, None)) }
}

fn lost(left: Left, suffix: &str) -> Made {
    of_suffix(&left, suffix).iter().for_each(|path| fs::remove_file(path).unwrap());
    Made::of(left)
}

/// A compaction that a crash has cut short before its last step: in the place of the second and the third segment, whose batches it
/// all keeps.
fn swap(left: &Left) -> PathBuf {
    let segments = left.segments(0);
    let base = |n: usize| segments[n].file_stem().unwrap().to_str().unwrap().to_owned();
    let path = left.partition(0).join(format!("{}.{}.swap", base(1), base(3)));
    let [second, third] = [1, 2].map(|n| fs::read(&segments[n]).unwrap());
    let header = BatchHeader::parse(&third).unwrap().size();
    fs::write(&path, [&second[..], &third[header..]].concat()).unwrap();
    path
}

const CLOSED: &str = "closed cleanly, or replayed before: all that the journal held was in the segments before the ledger said so, and what \
     is left of its files was about to go";

fn keep_journal(left: &Left) -> PathBuf {
    let journal = left.root.path().join("journal");
    copy_dir(&left.dir().join("journal"), &journal);
    journal
}

fn put_back(left: &Left, journal: &Path) {
    fs::remove_dir_all(left.dir().join("journal")).unwrap();
    copy_dir(journal, &left.dir().join("journal"));
}

/// Many transactions that were aborted, and the log was closed.
fn with_aborts() -> Left {
    left_of(End::Clean, true)
}

static ROWS: &[Row] = &[
    row(
        "torn tail: behind the end of the active segment the beginning of a batch",
        Then::Whole,
        "what is behind the durable end was never acknowledged",
        0,
        || {
            let left = left(End::WrittenBack);
            let last = left.segments(0).pop().unwrap();
            let bytes = [fs::read(&last).unwrap(), left.acknowledged[0][3][..700].to_vec()].concat();
            fs::write(&last, bytes).unwrap();
            Made::of(left)
        },
    ),
    row("bad CRC in the active segment", Then::Fenced, "it was flushed, and is not what it was", 7, || {
        let left = left(End::WrittenBack);
        left.recover().unwrap();
        let last = left.segments(0).pop().unwrap();
        let at = find(&fs::read(&last).unwrap(), &left.acknowledged[0][99]);
        flip(&last, at + 300);
        Made::at(left, &last, Some(at as u64))
    }),
    row("bad CRC in a sealed segment", Then::Fenced, "it was flushed, and is not what it was", 7, || {
        let left = left(End::Clean);
        let segment = left.segments(0).remove(1);
        flipped(left, segment)
    }),
    row(
        "journal replayed twice",
        Then::Whole,
        "a crash: records up to the end are acknowledged or might have been; behind it none is",
        0,
        || {
            let left = left(End::Crash);
            let (journal, ledger) = (keep_journal(&left), fs::read(left.dir().join("ledger/0")).unwrap());
            left.recover().unwrap();
            put_back(&left, &journal);
            fs::write(left.dir().join("ledger/0"), ledger).unwrap();
            Made::of(left)
        },
    ),
    row("journal of an earlier run there again after a clean stop", Then::Whole, CLOSED, 0, || {
        let mut left = left(End::Crash);
        let journal = keep_journal(&left);
        let mut later = Vec::new();
        left.start(async |store| {
            let w = Writer { log: store.load(small(0)).await.unwrap() };
            for i in 0..50 {
                later.push(w.append_durably(1, 1500, i).await);
            }
            store.close().await.unwrap();
        });
        left.acknowledged[0].extend(later);
        put_back(&left, &journal);
        Made::of(left)
    }),
    row(
        "journal end overwritten half way",
        Then::Whole,
        "records up to the end are acknowledged or might have been; behind it none is",
        0,
        || {
            let left = left(End::Crash);
            let journal = left.journals().remove(0);
            let mut bytes = fs::read(&journal).unwrap();
            let end = find(&bytes, &left.acknowledged[1][99][1000..]) + 500;
            let from = end.next_multiple_of(512);
            (from..from + 64 * 512).step_by(1024).for_each(|at| bytes[at..at + 512].fill(0xa5));
            fs::write(&journal, bytes).unwrap();
            Made::of(left)
        },
    ),
    row("written back, and no checkpoint since", Then::Whole, "the journal has all that was not synced", 0, || {
        Made::of(left(End::WrittenBack))
    }),
    row(
        "journal torn where a later record knows it to have been durable",
        Then::Refused,
        "acknowledged records of any partition of the shard, votes among them, cannot be read",
        7,
        || {
            let left = left(End::Crash);
            let journal = left.journals().remove(0);
            let at = find(&fs::read(&journal).unwrap(), &left.acknowledged[0][50][200..]);
            flip(&journal, at);
            let says = ["journal/0/", "damaged at position"].map(str::to_owned).to_vec();
            Made { left, says, at: Some((journal, None)) }
        },
    ),
    row(
        "journal missing after a crash",
        Then::Refused,
        "the last run did not close: acknowledged records of any partition of the shard were only there",
        7,
        || {
            let left = left(End::Crash);
            let first = left.journals().remove(0);
            fs::remove_dir_all(left.dir().join("journal")).unwrap();
            // The start makes the folders again.
            left.recover().unwrap_err();
            Made { left, says: vec!["missing".into()], at: Some((first, None)) }
        },
    ),
    row("journal missing after a clean stop", Then::Whole, CLOSED, 0, || {
        let left = left(End::Clean);
        fs::remove_dir_all(left.dir().join("journal")).unwrap();
        Made::of(left)
    }),
    row("ledger damaged", Then::Refused, "which journal files and partitions there must be is not known", 7, || {
        let left = left(End::Crash);
        let ledger = left.dir().join("ledger/0");
        flip(&ledger, 20);
        Made { left, says: vec!["ledger/0".into()], at: Some((ledger, None)) }
    }),
    row(
        "state file damaged after a clean stop",
        Then::Fenced,
        "the state file is damaged: vote and log start are not known",
        7,
        || hurt(left(End::Clean), "/state"),
    ),
    row(
        "state file gone",
        Then::Fenced,
        "the partition's state file is gone: its vote and its durable end are not known",
        7,
        || {
            let mut made = lost(left(End::Clean), "/state");
            made.at = Some((made.left.partition(0), None));
            made
        },
    ),
    row(
        "clean mark with later writes: the state of an earlier stop",
        Then::Fenced,
        "the log was closed, and was written to later: the state that belongs to it is lost",
        7,
        || {
            let left = left(End::Clean);
            let path = left.partition(0).join("state");
            let state = fs::read(&path).unwrap();
            left.start(async |store| {
                let w = Writer { log: store.load(small(0)).await.unwrap() };
                for n in 0..5 {
                    w.append_durably(1, 800, n).await;
                }
                store.close().await.unwrap();
            });
            fs::write(path, state).unwrap();
            Made::of(left)
        },
    ),
    row("active segment shorter than it was", Then::Fenced, "what was durable is not there", 7, || {
        let left = left(End::Clean);
        let last = left.segments(0).pop().unwrap();
        let len = fs::metadata(&last).unwrap().len() - 1000;
        fs::File::options().write(true).open(&last).unwrap().set_len(len).unwrap();
        Made { at: Some((last.clone(), Some(len))), ..Made::at(left, &last, None) }
    }),
    row("sealed segment shorter than it was", Then::Fenced, "it was flushed, and is not what it was", 7, || {
        let left = left(End::Clean);
        let segment = left.segments(0).remove(1);
        let (at, _) = first_in(&segment, &left.acknowledged[0]);
        fs::File::options().write(true).open(&segment).unwrap().set_len(at as u64 + 100).unwrap();
        Made::at(left, &segment, Some(at as u64))
    }),
    row(
        "sealed segment gone",
        Then::Fenced,
        "the segment does not end where the next one begins: bytes or segments are missing",
        7,
        || {
            let left = left(End::Clean);
            fs::remove_file(left.segments(0).remove(1)).unwrap();
            Made::of(left)
        },
    ),
    row(
        "two active segments: one begun for what was never acknowledged",
        Then::Whole,
        "what is behind the durable end was never acknowledged",
        0,
        || {
            let left = left(End::WrittenBack);
            fs::copy(&left.segments(0)[0], left.partition(0).join("00000000000000000100.log")).unwrap();
            Made::of(left)
        },
    ),
    row(
        "recycled segment: behind the end old bytes of another partition",
        Then::Whole,
        "what is behind the durable end was never acknowledged",
        0,
        || {
            let left = left(End::WrittenBack);
            let last = left.segments(0).pop().unwrap();
            let bytes = [fs::read(&last).unwrap(), fs::read(&left.segments(1)[0]).unwrap()].concat();
            fs::write(&last, bytes).unwrap();
            Made::of(left)
        },
    ),
    row(
        "foreign header: a sealed segment with the bytes of another partition",
        Then::Fenced,
        "the file, or the block, is another partition's or another segment's",
        7,
        || {
            let left = left(End::Clean);
            let (ours, theirs) = (left.segments(0).remove(1), left.segments(1).remove(1));
            fs::copy(theirs, &ours).unwrap();
            fs::remove_file(ours.with_extension("idx")).unwrap();
            fs::remove_file(left.partition(0).join("indexes")).ok();
            Made::at(left, &ours, Some(0))
        },
    ),
    row(
        "foreign header: the active segment with the bytes of another partition",
        Then::Fenced,
        "the file, or the block, is another partition's or another segment's",
        7,
        || {
            let left = left(End::Clean);
            let (ours, theirs) = (left.segments(0).pop().unwrap(), left.segments(1).pop().unwrap());
            fs::copy(theirs, &ours).unwrap();
            Made::at(left, &ours, Some(0))
        },
    ),
    row("`.idx` and `indexes` gone", Then::Whole, "it is a shortcut, never synced; the log has everything", 0, || {
        let left = lost(left(End::Clean), ".idx").left;
        lost(left, "/indexes")
    }),
    row("`.idx` damaged", Then::Whole, "it is a shortcut, never synced; the log has everything", 8, || {
        hurt(left(End::Clean), ".idx")
    }),
    row("`indexes` damaged", Then::Whole, "it is a shortcut, never synced; the log has everything", 8, || {
        hurt(left(End::Clean), "/indexes")
    }),
    row("`.txnindex` damaged", Then::Whole, "the markers in the log say it too", 8, || {
        hurt(with_aborts(), ".txnindex")
    }),
    row("`.txnindex` gone", Then::Whole, "the markers in the log say it too", 8, || {
        let left = with_aborts();
        let path = of_suffix(&left, ".txnindex").remove(0);
        fs::remove_file(&path).unwrap();
        Made { left, says: Vec::new(), at: Some((path, None)) }
    }),
    row(
        "`.swap`: a compacted segment, and those that it replaces",
        Then::Whole,
        "its name says which segments it replaces, and some of them may be gone already",
        0,
        || {
            let left = left(End::Clean);
            swap(&left);
            Made::of(left)
        },
    ),
    row(
        "`.swap`, and those that it replaces gone but for the first",
        Then::Whole,
        "its name says which segments it replaces, and some of them may be gone already",
        0,
        || {
            let left = left(End::Clean);
            swap(&left);
            let third = left.segments(0).remove(2);
            fs::remove_file(&third).unwrap();
            fs::remove_file(third.with_extension("idx")).unwrap();
            Made::of(left)
        },
    ),
    row("bad CRC in a `.swap`", Then::Fenced, "it was flushed, and is not what it was", 7, || {
        let left = left(End::Clean);
        let path = swap(&left);
        flipped(left, path)
    }),
    row(
        "`.cleaned`: a segment that compaction was writing",
        Then::Whole,
        "compaction was writing it: what it was to replace is all there",
        0,
        || {
            let left = left(End::Clean);
            fs::write(left.segments(0)[1].with_extension("cleaned"), b"the beginning").unwrap();
            Made::of(left)
        },
    ),
    row(
        "`.new`, `.deleted`: files that were being written or removed",
        Then::Whole,
        "on its way out, or not finished: nothing speaks of it",
        0,
        || {
            let left = left(End::Clean);
            fs::write(left.partition(0).join("state.new"), b"half").unwrap();
            fs::write(left.segments(0)[0].with_extension("log.deleted"), b"old").unwrap();
            Made::of(left)
        },
    ),
    row(
        "half-created partition: a directory without files, and no ledger names it",
        Then::Created,
        "a crash came before its creation was durable: nothing was acknowledged",
        0,
        || {
            let left = left(End::Crash);
            fs::create_dir(left.partition(2)).unwrap();
            Made::of(left)
        },
    ),
    row(
        "half-deleted topic: `<...>-delete` with some of the files",
        Then::Deleted,
        "its deletion was acknowledged, and a crash came before all of it was gone",
        0,
        || {
            let left = left(End::Clean);
            let kept = left.root.path().join("kept");
            copy_dir(&left.partition(0), &kept);
            fs::remove_file(kept.join("00000000000000000000.log")).unwrap();
            left.start(async |store| {
                store.load(small(0)).await.unwrap();
                store.delete(small(0).key).await.unwrap();
                std::mem::forget(store);
            });
            // As it was before the last step.
            copy_dir(&kept, &deleting(&left));
            Made::of(left)
        },
    ),
    row(
        "`<...>-stray`: a partition that the metadata did not name",
        Then::StaysAside,
        "no partition in use",
        0,
        || {
            let left = left(End::Clean);
            fs::create_dir(aside(&left)).unwrap();
            Made::of(left)
        },
    ),
    row(
        "disk removed: the directory of a partition gone",
        Then::Fenced,
        "the partition's directory is gone",
        7,
        || {
            let left = left(End::Clean);
            fs::remove_dir_all(left.partition(0)).unwrap();
            Made { at: Some((left.dir().join("data"), None)), ..Made::of(left) }
        },
    ),
    row("disk removed: the files of a partition gone", Then::Fenced, "the partition's files are gone", 7, || {
        let made = lost(left(End::Clean), "");
        Made { at: Some((made.left.partition(0), None)), ..made }
    }),
    row(
        "disk removed: all of the data directory gone, and it must not be made",
        Then::Denied,
        "holds no data, and storage.directory.create=false: its disk may not be mounted",
        4,
        || {
            let left = left(End::Clean);
            fs::remove_dir_all(left.dir()).unwrap();
            fs::create_dir(left.dir()).unwrap();
            Made::of(left)
        },
    ),
    row("data directory from another node", Then::Denied, "belongs to node 2, this is node 1", 0, || {
        let left = left(End::Clean);
        let other = left.root.path().join("other");
        drop(lock_data_dir(&other, NodeId(2), "abc", NewDirectory::Allowed).unwrap());
        fs::copy(other.join("meta.properties"), left.dir().join("meta.properties")).unwrap();
        Made::of(left)
    }),
    row("`meta.properties` damaged", Then::Denied, "is damaged: the CRC does not match", 7, || {
        let left = left(End::Clean);
        let meta = left.dir().join("meta.properties");
        flip(&meta, 40);
        Made { left, says: Vec::new(), at: Some((meta, None)) }
    }),
    row(
        "`meta.properties` gone",
        Then::Denied,
        "data of nobody knows which node: taking it could bring a partition's past back",
        4,
        || {
            let left = left(End::Clean);
            fs::remove_file(left.dir().join("meta.properties")).unwrap();
            Made::of(left)
        },
    ),
];

fn deleting(left: &Left) -> PathBuf {
    left.dir().join(format!("data/t-0.{}-delete", small(0).key.topic))
}

fn aside(left: &Left) -> PathBuf {
    left.dir().join(format!("data/t-2.{}-stray", small(2).key.topic))
}

/// Makes the row's files, checks and starts.
fn walk(row: &Row) {
    let Made { left, says, at } = (row.make)();
    let (found, exit) = left.check();
    assert_eq!(exit, row.exit, "the check's exit code: {found:?}");
    if let Some((path, position)) = at {
        let is_there = found.iter().any(|f| f.path == path && position.is_none_or(|p| f.position == Some(p)));
        assert!(is_there, "the check finds nothing at {position:?} of {}: {found:?}", path.display());
    }
    let says: Vec<&str> = says.iter().map(String::as_str).chain([row.why]).collect();
    match row.then {
        Then::Whole => left.is_whole(),
        Then::Fenced => left.is_fenced(&says),
        Then::Refused => left.is_refused(&says),
        Then::Denied => {
            let before = files_below(&left.dir());
            let denied = lock_data_dir(&left.dir(), NodeId(1), "abc", NewDirectory::Refused).unwrap_err().to_string();
            assert!(denied.contains(row.why), "{denied}");
            let mut after = files_below(&left.dir());
            // Of a directory that is there to be locked.
            after.retain(|(path, _)| !path.ends_with(".lock") || before.iter().any(|(other, _)| other == path));
            assert!(before == after, "files were changed");
        }
        Then::Created => {
            left.start(async |store| {
                let w = Writer { log: store.load_or_create(small(2), first()).await.unwrap() };
                w.append_durably(1, 100, 1).await;
                store.close().await.unwrap();
            });
            left.is_whole();
        }
        Then::Deleted => left.start(async |store| {
            assert!(!deleting(&left).exists());
            let log = store.load(small(1)).await.unwrap();
            assert_same(&read_all(&log, Offset(0), 50_000).await, &left.acknowledged[1]);
            store.close().await.unwrap();
        }),
        Then::StaysAside => {
            left.is_whole();
            assert!(aside(&left).exists());
        }
    }
}

#[test]
fn every_row_of_the_table_is_what_happens() {
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some(row) = ROWS.get(next.fetch_add(1, Ordering::Relaxed)) {
            let walked = std::panic::catch_unwind(|| walk(row));
            assert!(walked.is_ok(), "the row that failed, see above: {}", row.input);
        }
    };
    std::thread::scope(|s| (0..4).for_each(|_| _ = s.spawn(work)));
}

/// What stands in the sources as one string, over however many lines.
fn sources() -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/recovery/decision");
    let texts = fs::read_dir(folder).unwrap().map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap());
    texts.collect::<String>().replace("\\\n", "").split_whitespace().collect::<Vec<_>>().join(" ")
}

/// An error says its reason; where there is none, the reason is at least one that the tables give.
#[test]
fn the_reasons_are_those_of_the_tables() {
    let (sources, silent) = (sources(), [Then::Whole, Then::Created, Then::Deleted, Then::StaysAside]);
    for row in ROWS.iter().filter(|row| silent.contains(&row.then)) {
        assert!(sources.contains(row.why), "{}: no table says: {}", row.input, row.why);
    }
}

#[test]
fn the_prose_is_what_the_table_prints() {
    let mut prose = String::from("| found | a start | because | `corelane check` exits with |\n|---|---|---|---|\n");
    for row in ROWS {
        writeln!(prose, "| {} | {} | {} | {} |", row.input, row.then.prose(), row.why, row.exit).unwrap();
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/recovery/situations.md");
    if fs::read_to_string(&path).unwrap_or_default() != prose {
        let printed = Path::new(env!("CARGO_TARGET_TMPDIR")).join("situations.md");
        fs::write(&printed, prose).unwrap();
        panic!("{} is to be replaced by {}", path.display(), printed.display());
    }
}

//! `corelane dump-log`: segments and the other files of a data directory read from disk, without a broker.

use super::check::severity_name;
use crate::exit::{Exit, Failure};
use crate::output::Output;
use bytes::Bytes;
use clap::Args;
use corelane_storage::record::dump::{self, Fields};
use corelane_storage::record::{BatchHeader, BatchKind, RecordIter};
use corelane_storage::{DescribeError, FileKind, IndexSummary, Met, SegmentWalk, Severity, describe_file};
use serde_json::json;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// Print the batches and records of log segments, and check them.
///
/// Takes segment files, directories of partitions, or a whole data directory. Segments of Apache Kafka can be read too. Every batch is
/// checked: length, CRC, order of offsets; and every entry of the index beside the segment. What is damaged is named with its position,
/// and the exit code is 7, or 8 if a broker makes all of it again from the data, as it does an index. A batch that is missing or cut
/// short at the end of a partition's last segment is no damage after a crash: the journal has the rest.
///
/// Any other file of a data directory may be named too, or all of them asked for with --all: journals, ledgers, states, indexes,
/// snapshots of producers. To check them all, and what they say against each other: `corelane check`.
#[derive(Debug, Args)]
pub struct DumpLogArgs {
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    /// Print the records of each batch: offsets, times, sizes
    #[arg(long, short)]
    records: bool,
    /// Print keys, values and headers too
    #[arg(long, short)]
    data: bool,
    /// Print only what is damaged, and the totals
    #[arg(long, short)]
    quiet: bool,
    /// Begin at the first batch that ends at this offset or later [default: the beginning]
    #[arg(long, value_name = "OFFSET")]
    from: Option<i64>,
    /// Of directories print the other files too
    #[arg(long, short)]
    all: bool,
}

const DECOMPRESSED_MAX: usize = 1 << 30;

#[derive(Default)]
struct Totals {
    /// That are no segments.
    files: u64,
    segments: u64,
    batches: u64,
    internal: u64,
    records: u64,
    bytes: u64,
    damaged: u64,
    /// Damaged, and made again by a broker.
    rebuilt: u64,
}

pub fn run(args: &DumpLogArgs, out: &mut Output) -> Result<(), Failure> {
    let (mut segments, mut others) = (Vec::new(), Vec::new());
    for path in &args.paths {
        find(path, args.all, &mut segments, &mut others)?;
    }
    let mut totals = Totals::default();
    for path in others {
        if !describe(&path, args, &mut totals, out)? && args.paths.contains(&path) {
            segments.push(path);
        }
    }
    if segments.is_empty() && totals.files == 0 {
        return Err(Failure::new(Exit::NotFound, "no segment (*.log) is there"));
    }
    for (i, path) in segments.iter().enumerate() {
        let last = segments.get(i + 1).is_none_or(|next| next.parent() != path.parent());
        let segment = &mut Segment { args, path, last, totals: &mut totals, out, next_offset: None };
        segment.dump()?;
    }
    let t = &totals;
    if out.is_json() {
        out.json(&json!({
            "segments": t.segments, "batches": t.batches, "internal": t.internal, "records": t.records,
            "bytes": t.bytes, "damaged": t.damaged, "rebuilt": t.rebuilt,
        }))?;
    } else {
        out.line(format!(
            "{} segments, {} batches ({} internal), {} records, {} bytes, {} damaged",
            t.segments, t.batches, t.internal, t.records, t.bytes, t.damaged
        ))?;
    }
    Failure::of_damage(totals.damaged, totals.rebuilt)
}

/// Prints a file that is no segment; false if it is nothing that is known.
fn describe(path: &Path, args: &DumpLogArgs, totals: &mut Totals, out: &mut Output) -> Result<bool, Failure> {
    let file = path.display().to_string();
    match describe_file(path) {
        Ok(None) => return Ok(false),
        Ok(Some(lines)) => {
            if !args.quiet && !out.is_json() {
                out.line(&file)?;
            }
            for line in lines.iter().filter(|_| !args.quiet) {
                match out.is_json() {
                    true => out.line(line.json())?,
                    false => out.line(format_args!("  {}", line.human()))?,
                }
            }
        }
        Err(DescribeError::Io(error)) => return Err(Failure::failed(format!("{file}: {error}"))),
        Err(DescribeError::Damaged(what)) => {
            match FileKind::of(path).map(FileKind::damage) {
                Some(Severity::Rebuilt) => totals.rebuilt += 1,
                Some(Severity::Note) => {}
                Some(Severity::Damage) | None => totals.damaged += 1,
            }
            if out.is_json() {
                out.json(&json!({ "file": file, "damage": what }))?;
            } else {
                let mark = out.coloured(31, "DAMAGED");
                out.line(format!("{mark} {file}: {what}"))?;
            }
        }
    }
    totals.files += 1;
    Ok(true)
}

/// Segments at or below a path, ordered by directory and name; with `all` the other files too.
fn find(path: &Path, all: bool, segments: &mut Vec<PathBuf>, others: &mut Vec<PathBuf>) -> Result<(), Failure> {
    let failed = |e: io::Error| {
        let exit = if e.kind() == io::ErrorKind::NotFound { Exit::NotFound } else { Exit::Failed };
        Failure::new(exit, format!("{}: {e}", path.display()))
    };
    if !fs::metadata(path).map_err(failed)?.is_dir() {
        if is_batches(path) {
            segments.push(path.to_owned())
        } else {
            others.push(path.to_owned())
        }
        return Ok(());
    }
    let mut entries: Vec<PathBuf> =
        fs::read_dir(path).map_err(failed)?.map(|e| e.map(|e| e.path())).collect::<io::Result<_>>().map_err(failed)?;
    entries.sort();
    for entry in entries {
        // Links are not followed: a loop of them would never end.
        if entry.to_string_lossy().ends_with("-delete") {
            // A deleted partition on its way out.
        } else if entry.symlink_metadata().is_ok_and(|m| m.is_dir()) {
            find(&entry, all, segments, others)?;
        } else if entry.extension().is_some_and(|e| e == "log") || all && is_batches(&entry) {
            segments.push(entry);
        } else if all {
            others.push(entry);
        }
    }
    Ok(())
}

/// True of segments, those that compaction is about to put in place too, and of snapshots of the metadata.
fn is_batches(path: &Path) -> bool {
    FileKind::of(path).map_or_else(|| path.extension().is_some_and(|e| e == "log"), FileKind::is_batches)
}

struct Segment<'a> {
    args: &'a DumpLogArgs,
    path: &'a Path,
    /// The last one of its partition, which may end inside a batch.
    last: bool,
    totals: &'a mut Totals,
    out: &'a mut Output,
    next_offset: Option<i64>,
}

impl Segment<'_> {
    fn dump(&mut self) -> Result<(), Failure> {
        let failed = |e: io::Error| Failure::failed(format!("{}: {e}", self.path.display()));
        let file = File::open(self.path).map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len();
        self.totals.segments += 1;
        self.totals.bytes += length;
        if !self.args.quiet && !self.out.is_json() {
            self.out.line(format!("{} ({length} bytes)", self.path.display()))?;
        }
        let index = self.index()?;
        let mut walk = SegmentWalk::new(&file, length, index);
        while let Some(met) = walk.meet().map_err(|e| Failure::failed(format!("{}: {e}", self.path.display())))? {
            match met {
                Met::Batch { position, header, kind, bytes, damage } => {
                    self.batch(&header, kind, &bytes, damage.as_deref(), position)?;
                }
                Met::Zeros { position, upto } if upto == length => {
                    self.note(position, &format!("{} bytes of space without data", length - position))?;
                }
                Met::Zeros { position, upto } => self.torn(position, &format!("zeros up to position {upto}"))?,
                Met::CutShort { position, left } => {
                    self.torn(position, &format!("a batch cut short after {left} bytes"))?;
                }
                Met::Bad { position, what } => {
                    self.damage(position, &format!("{what}; the rest of the segment is not looked at"))?;
                }
                // After a crash it may know of what is still in the journal.
                Met::IndexUseless { what } if self.last => self.note(0, &format!("the index is of no use: {what}"))?,
                Met::IndexUseless { what } => self.stale_index(&what)?,
                Met::IndexWrong { position, what } => self.damage(position, &what)?,
            }
        }
        Ok(())
    }

    /// The index beside the segment, if there is one. It is a shortcut: a broker makes a damaged one again.
    fn index(&mut self) -> Result<Option<IndexSummary>, Failure> {
        let Ok(bytes) = fs::read(self.path.with_extension("idx")) else { return Ok(None) };
        match IndexSummary::read(&bytes) {
            Ok(index) => Ok(Some(index)),
            Err(e) => self.stale_index(&e.to_string()).map(|()| None),
        }
    }

    fn stale_index(&mut self, why: &str) -> Result<(), Failure> {
        self.totals.rebuilt += 1;
        self.tell(Severity::Rebuilt, 0, &format!("the index cannot be used and will be made again: {why}"))
    }

    fn batch(
        &mut self,
        header: &BatchHeader,
        kind: BatchKind,
        batch: &Bytes,
        damage: Option<&str>,
        position: u64,
    ) -> Result<(), Failure> {
        self.totals.batches += 1;
        let internal = kind.is_internal();
        self.totals.internal += u64::from(internal);
        if let Some(what) = damage {
            self.damage(position, what)?;
        }
        if !internal {
            self.check_order(header, position)?;
        }
        let wanted = self.args.from.is_none_or(|from| header.last_offset().0 >= from);
        if wanted && !self.args.quiet {
            self.print(&dump::batch(header, batch, position), 0)?;
        }
        if damage.is_some() || internal || kind == BatchKind::SegmentHeader {
            return Ok(());
        }
        let records = match RecordIter::new(batch, DECOMPRESSED_MAX) {
            Ok(records) => records,
            Err(e) => return self.damage(position, &e.to_string()),
        };
        for record in records {
            match record {
                Ok(record) => {
                    self.totals.records += 1;
                    let asked = self.args.records || self.args.data;
                    if asked && wanted && !self.args.quiet {
                        self.print(&dump::record(header, &record, self.args.data), 2)?;
                    }
                }
                Err(e) => return self.damage(position, &e.to_string()),
            }
        }
        Ok(())
    }

    fn check_order(&mut self, header: &BatchHeader, position: u64) -> Result<(), Failure> {
        let (first, last) = (header.base_offset.0, header.last_offset().0);
        let begins: Option<i64> = self.path.file_stem().and_then(|s| s.to_str()?.parse().ok());
        if let Some(begins) = begins.filter(|b| first < *b) {
            self.damage(position, &format!("offset {first} in a segment that begins at {begins}"))?;
        }
        if let Some(next) = self.next_offset.filter(|n| first < *n) {
            self.damage(position, &format!("offset {first} after offset {}", next - 1))?;
        }
        if last < first {
            self.damage(position, &format!("last offset {last} before base offset {first}"))?;
        }
        self.next_offset = Some(last.max(first).saturating_add(1));
        Ok(())
    }

    /// The end of the last segment may be so after a crash.
    fn torn(&mut self, position: u64, what: &str) -> Result<(), Failure> {
        if self.last { self.note(position, what) } else { self.damage(position, what) }
    }

    fn note(&mut self, position: u64, what: &str) -> Result<(), Failure> {
        if self.args.quiet { Ok(()) } else { self.tell(Severity::Note, position, what) }
    }

    fn damage(&mut self, position: u64, what: &str) -> Result<(), Failure> {
        self.totals.damaged += 1;
        self.tell(Severity::Damage, position, what)
    }

    fn tell(&mut self, severity: Severity, position: u64, what: &str) -> Result<(), Failure> {
        let segment = self.path.display();
        if self.out.is_json() {
            let kind = severity_name(severity);
            return self.out.json(&json!({ "segment": segment.to_string(), "position": position, kind: what }));
        }
        match severity {
            Severity::Note => self.out.line(format!("position {position}: {what}")),
            _ => {
                let mark = self.out.coloured(31, "DAMAGED");
                self.out.line(format!("{mark} {segment} position {position}: {what}"))
            }
        }
    }

    fn print(&mut self, fields: &Fields, indent: usize) -> Result<(), Failure> {
        if self.out.is_json() {
            return self.out.line(fields.json());
        }
        self.out.line(format_args!("{:indent$}{}", "", fields.human()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use corelane_storage::model::{Offset, Term};
    use corelane_storage::record::{BatchBuilder, Codec, internal};

    /// A segment that begins with a blank entry and then has batches of 3 records each.
    fn segment(batches: i64) -> Vec<u8> {
        let mut file = internal::blank(Term(1), Offset::ZERO).to_vec();
        for i in 0..batches {
            let mut b = BatchBuilder::new(if i % 2 == 0 { Codec::None } else { Codec::Zstd });
            for n in 0..3 {
                b.push(1000 + n, Some(b"key"), Some(b"value"));
            }
            file.extend_from_slice(&b.build_at(Offset(i * 3), Term(1)).unwrap());
        }
        file
    }

    /// The totals and the exit code of a dump of these files of one partition.
    fn dump(files: &[(&str, &[u8])]) -> (Result<(), Exit>, serde_json::Value) {
        let dir = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            fs::write(dir.path().join(name), bytes).unwrap();
        }
        let args = DumpLogArgs {
            paths: vec![dir.path().to_owned()],
            records: true,
            data: true,
            quiet: false,
            from: None,
            all: false,
        };
        let (mut out, printed) = Output::captured(true);
        let done = run(&args, &mut out).map_err(|f| f.exit);
        out.flush().unwrap();
        let text = String::from_utf8(printed.borrow().clone()).unwrap();
        let lines: Vec<serde_json::Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        (done, lines.last().unwrap().clone())
    }

    const FIRST: &str = "00000000000000000000.log";

    #[test]
    fn a_sound_segment_is_counted() {
        let (done, totals) = dump(&[(FIRST, &segment(4))]);
        assert_eq!(done, Ok(()));
        assert_eq!(
            (&totals["batches"], &totals["internal"], &totals["records"], &totals["damaged"]),
            (&5.into(), &1.into(), &12.into(), &0.into())
        );
    }

    #[test]
    fn space_without_data_and_a_torn_end_are_no_damage() {
        let mut file = segment(2);
        file.resize(file.len() + 70_000, 0);
        assert_eq!(dump(&[(FIRST, &file)]).0, Ok(()));
        let whole = segment(2);
        for cut in [1, 40, 70] {
            let (done, totals) = dump(&[(FIRST, &whole[..whole.len() - cut])]);
            assert_eq!((done, &totals["records"]), (Ok(()), &3.into()), "{cut}");
        }
        let torn = &whole[..whole.len() - 5];
        assert_eq!(dump(&[(FIRST, torn), ("00000000000000000006.log", &[])]).0, Err(Exit::Damaged));
    }

    #[test]
    fn every_flipped_byte_of_a_batch_is_found() {
        let file = segment(2);
        let second = file.len() - 10;
        for at in [second, second - 30] {
            let mut bad = file.clone();
            bad[at] ^= 1;
            let (done, totals) = dump(&[(FIRST, &bad)]);
            assert_eq!((done, &totals["damaged"]), (Err(Exit::Damaged), &1.into()), "{at}");
        }
        let mut hole = file.clone();
        hole.extend_from_slice(&[0; 4096]);
        hole.extend_from_slice(&[7]);
        assert_eq!(dump(&[(FIRST, &hole)]).0, Ok(()));
        assert_eq!(dump(&[(FIRST, &hole), ("00000000000000000006.log", &[])]).0, Err(Exit::Damaged));
        let twice = [segment(2), segment(1)].concat();
        assert_eq!(dump(&[(FIRST, &twice)]).0, Err(Exit::Damaged));
        assert_eq!(dump(&[("00000000000000000009.log", &file)]).0, Err(Exit::Damaged));
    }

    /// Segments and indexes that the storage engine wrote and closed.
    fn engine_writes(dir: &Path, batches: u32) {
        use core_pinning::{ShardId, run_local};
        use corelane_storage::model::{LogId, NodeId, PartitionKey, TopicId};
        use corelane_storage::{
            EntryKind, FirstState, LogConfig, LogEntry, PartitionSpec, Store, StoreOptions, VoteRecord,
            recover_journals,
        };
        run_local(async || {
            let options =
                StoreOptions { journal_file_bytes: 1 << 20, ..StoreOptions::new(dir, ShardId(0), 8 << 20, 4 << 20) };
            recover_journals(dir, ShardId(0), 1).await.unwrap();
            let store = Store::open(options).await.unwrap().0;
            let config = LogConfig { segment_bytes: 64 << 10, ..LogConfig::default() };
            let key = PartitionKey { topic: TopicId([7; 16]), partition: 0 };
            let vote = VoteRecord { term: Term(1), node: NodeId(1), committed: true };
            let first = FirstState { vote, membership: Bytes::from_static(b"members") };
            let log = store.create(PartitionSpec { topic: "t".into(), key, config }, first).await.unwrap();
            for _ in 0..batches {
                let mut b = BatchBuilder::new(Codec::None);
                b.push(1, None, Some(&[7; 1500]));
                let bytes = b.build_at(log.bounds().log_end, Term(1)).unwrap();
                let id = LogId::new(Term(1), log.next_index());
                log.append([LogEntry { id, kind: EntryKind::Data, bytes }], |r| r.unwrap()).unwrap();
                log.set_applied(id.index);
            }
            store.close().await.unwrap();
        });
    }

    #[test]
    fn what_the_engine_writes_is_sound_and_a_wrong_index_is_found() {
        let dir = tempfile::tempdir_in(".").unwrap();
        engine_writes(dir.path(), 200);
        let dump = || {
            let path = dir.path().join("data");
            let args =
                DumpLogArgs { paths: vec![path], records: false, data: false, quiet: false, from: None, all: false };
            let (mut out, printed) = Output::captured(true);
            let done = run(&args, &mut out).map_err(|f| f.exit);
            let text = String::from_utf8(printed.borrow().clone()).unwrap();
            (done, text)
        };
        let (done, text) = dump();
        assert_eq!(done, Ok(()), "{text}");
        let totals: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        assert_eq!(totals["records"], 200, "{text}");
        assert!(totals["segments"].as_u64().unwrap() > 3 && !text.contains("index"), "{text}");
        let mut indexes = Vec::new();
        for partition in fs::read_dir(dir.path().join("data")).unwrap() {
            for file in fs::read_dir(partition.unwrap().path()).unwrap() {
                indexes.extend(Some(file.unwrap().path()).filter(|p| p.extension().is_some_and(|e| e == "idx")));
            }
        }
        indexes.sort();
        let entries = |p: &Path| IndexSummary::read(&fs::read(p).unwrap()).unwrap().entries.len();
        assert!(entries(&indexes[0]) > 5);
        // The second segment gets the index of the first one.
        fs::copy(&indexes[0], &indexes[1]).unwrap();
        let (done, text) = dump();
        assert!(text.contains("it belongs to another segment"), "{text}");
        assert_eq!(done, Err(Exit::Rebuilt));
        let mut bytes = fs::read(&indexes[0]).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&indexes[0], bytes).unwrap();
        assert!(dump().1.contains("will be made again"));
    }

    #[test]
    fn nothing_there_is_not_found() {
        assert_eq!(dump_of("/nowhere/at/all"), Err(Exit::NotFound));
        let empty = tempfile::tempdir().unwrap();
        assert_eq!(dump_of(empty.path().to_str().unwrap()), Err(Exit::NotFound));
    }

    #[test]
    fn every_other_file_of_a_data_directory_is_described() {
        let dir = tempfile::tempdir_in(".").unwrap();
        engine_writes(dir.path(), 200);
        let dump = |all: bool, path: &Path| {
            let args = DumpLogArgs {
                paths: vec![path.to_owned()],
                records: false,
                data: false,
                quiet: false,
                from: None,
                all,
            };
            let (mut out, printed) = Output::captured(false);
            let done = run(&args, &mut out).map_err(|f| f.exit);
            out.flush().unwrap();
            (done, String::from_utf8(printed.borrow().clone()).unwrap())
        };
        let (done, text) = dump(true, dir.path());
        assert_eq!(done, Ok(()), "{text}");
        for part in ["/state", ".idx", "ledger/0", "clean: true", "journalOpen: false", "nextOffset: 200"] {
            assert!(text.contains(part), "{part} in {text}");
        }
        let ledger = dir.path().join("ledger/0");
        assert!(dump(false, &ledger).1.contains("journalOpen: false"));
        let mut bytes = fs::read(&ledger).unwrap();
        bytes[20] ^= 1;
        fs::write(&ledger, bytes).unwrap();
        let (done, text) = dump(false, &ledger);
        assert!(done == Err(Exit::Damaged) && text.contains("DAMAGED"), "{text}");
    }

    fn dump_of(path: &str) -> Result<(), Exit> {
        let args =
            DumpLogArgs { paths: vec![path.into()], records: false, data: false, quiet: true, from: None, all: false };
        run(&args, &mut Output::captured(false).0).map_err(|f| f.exit)
    }
}

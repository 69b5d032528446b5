//! `corelane check`: a data directory looked through, without a broker.

use crate::exit::{Exit, Failure};
use crate::output::Output;
use clap::Args;
use corelane_storage::{DataDirError, Finding, Severity, check_data_dir};
use serde_json::json;
use std::io::ErrorKind;
use std::path::PathBuf;

/// Check a data directory offline, changing nothing.
///
/// Reads every file: ledgers, journals, and of each partition (that of the metadata too) the state, the segments with the CRC of each
/// batch and the order of its offsets, and against the segments the indexes, the aborted transactions, what is kept of producers, and
/// the snapshots of the metadata. What the journals would bring back after a crash is taken into account. Each finding is a line: the file, the byte, and what is wrong.
/// With damage the exit code is 7. It is 8 if nothing is damaged but what a broker makes again from the data: then nothing is lost,
/// and a start mends it, but the disk has not kept what it was given. Refused while a broker runs on the directory.
#[derive(Debug, Args)]
pub struct CheckArgs {
    data_dir: PathBuf,
    /// Print only damage, and the totals
    #[arg(long, short)]
    quiet: bool,
}

pub fn run(args: &CheckArgs, out: &mut Output) -> Result<(), Failure> {
    let mut printed = Ok(());
    let report = check_data_dir(&args.data_dir, &mut |finding| {
        if printed.is_ok() && (finding.severity != Severity::Note || !args.quiet) {
            printed = print(&finding, out);
        }
    });
    printed?;
    let report = report.map_err(|error| {
        let exit = match &error {
            DataDirError::InUse { .. } => Exit::Refused,
            DataDirError::Io { source, .. } if source.kind() == ErrorKind::NotFound => Exit::NotFound,
            _ => Exit::Failed,
        };
        Failure::new(exit, error.to_string())
    })?;
    if out.is_json() {
        let files: serde_json::Map<String, serde_json::Value> =
            report.files.iter().map(|(kind, count)| (kind.name().to_owned(), json!(count))).collect();
        out.json(&json!({
            "files": files, "unknown_files": report.unknown, "partitions": report.partitions, "segments": report.segments, "batches": report.batches, "bytes": report.bytes,
            "journal_records": report.journal_records, "damaged": report.damaged,
            "rebuilt": report.rebuilt, "notes": report.notes,
        }))?;
    } else {
        out.line(format!(
            "{} partitions, {} segments, {} batches, {} bytes, {} journal records, {} damaged, {} to be made again",
            report.partitions,
            report.segments,
            report.batches,
            report.bytes,
            report.journal_records,
            report.damaged,
            report.rebuilt
        ))?;
    }
    Failure::of_damage(report.damaged, report.rebuilt)
}

fn print(finding: &Finding, out: &mut Output) -> Result<(), Failure> {
    let Finding { severity, path, position, what } = finding;
    if out.is_json() {
        let kind = severity_name(*severity);
        return out.json(&json!({ "file": path.display().to_string(), "position": position, kind: what }));
    }
    let mark = match severity {
        Severity::Damage => out.coloured(31, "DAMAGED"),
        Severity::Rebuilt => out.coloured(33, "damaged, will be made again:"),
        Severity::Note => "note".to_owned(),
    };
    let place = position.map(|position| format!(" position {position}")).unwrap_or_default();
    out.line(format!("{mark} {}{place}: {what}", path.display()))
}

/// As JSON names it.
pub fn severity_name(severity: Severity) -> &'static str {
    match severity {
        Severity::Damage => "damage",
        Severity::Rebuilt => "rebuilt",
        Severity::Note => "note",
    }
}

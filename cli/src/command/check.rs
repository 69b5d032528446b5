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
/// batch and the order of its offsets, the indexes against the segments, the producers' snapshots. What the journals would bring back
/// after a crash is taken into account. Each finding is a line: the file, the byte, and what is wrong. With damage the exit code is 7;
/// what a broker makes again by itself is no damage. Refused while a broker runs on the directory.
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
        if printed.is_ok() && (finding.severity == Severity::Damage || !args.quiet) {
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
        out.json(&json!({
            "partitions": report.partitions, "segments": report.segments, "batches": report.batches, "bytes": report.bytes,
            "journal_records": report.journal_records, "damaged": report.damaged, "notes": report.notes,
        }))?;
    } else {
        out.line(format!(
            "{} partitions, {} segments, {} batches, {} bytes, {} journal records, {} damaged",
            report.partitions, report.segments, report.batches, report.bytes, report.journal_records, report.damaged
        ))?;
    }
    match report.damaged {
        0 => Ok(()),
        damaged => Err(Failure::new(Exit::Damaged, format!("damage found ({damaged})"))),
    }
}

fn print(finding: &Finding, out: &mut Output) -> Result<(), Failure> {
    let Finding { severity, path, position, what } = finding;
    let damage = *severity == Severity::Damage;
    if out.is_json() {
        let kind = if damage { "damage" } else { "note" };
        return out.json(&json!({ "file": path.display().to_string(), "position": position, kind: what }));
    }
    let mark = if damage { out.coloured(31, "DAMAGED") } else { "note".to_owned() };
    let place = position.map(|position| format!(" position {position}")).unwrap_or_default();
    out.line(format!("{mark} {}{place}: {what}", path.display()))
}

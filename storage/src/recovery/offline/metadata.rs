//! Snapshots of the metadata, which are in the place of the log before the offset that they end at.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::{Findings, read};
use crate::data_dir::DataDirError;
use crate::log::state::PartitionState;
use crate::model::{METADATA_TOPIC_ID, Offset};
use crate::record::snapshot_batches;

pub(super) fn check_snapshot(path: &Path, findings: &mut Findings<'_>) -> Result<(), DataDirError> {
    if let Err(damage) = snapshot_batches(Bytes::from(read(path)?.unwrap_or_default())) {
        findings.damage(path, Some(damage.position), damage.reason);
    }
    Ok(())
}

/// Compares the newest of the `snapshots`, which a start begins with, with the log, which goes on from there. `end`: of the log,
/// where it is known.
pub(super) fn check_log(
    dir: &Path,
    state: &PartitionState,
    snapshots: &BTreeMap<Offset, PathBuf>,
    end: Option<Offset>,
    findings: &mut Findings<'_>,
) {
    let log_start = state.log_start;
    match snapshots.last_key_value() {
        None if state.key.topic == METADATA_TOPIC_ID && log_start > Offset::ZERO => {
            findings.damage(dir, None, format!("the log begins at offset {log_start}, and its snapshot is gone"));
        }
        Some((at, path)) if *at < log_start => {
            findings.damage(path, None, format!("it ends at offset {at}, the log begins at {log_start}"));
        }
        Some((at, path)) if end.is_some_and(|end| *at > end) => {
            findings.damage(path, None, format!("it ends at offset {at}, which the log does not reach"));
        }
        _ => {}
    }
}

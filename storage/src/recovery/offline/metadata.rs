//! Snapshots of the metadata: runs of batches, in the place of the log before the offset that they end at.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::{Findings, read};
use crate::data_dir::DataDirError;
use crate::log::state::PartitionState;
use crate::model::{METADATA_TOPIC_ID, Offset};
use crate::record::Batches;

pub(super) fn check_snapshot(path: &Path, findings: &mut Findings<'_>) -> Result<(), DataDirError> {
    let bytes = Bytes::from(read(path)?.unwrap_or_default());
    if bytes.is_empty() {
        findings.damage(path, Some(0), "it holds nothing");
    }
    let (mut position, mut next) = (0, Offset::ZERO);
    for batch in Batches::new(bytes) {
        let sound = batch.and_then(|(header, bytes)| header.verify_crc(&bytes).map(|()| header));
        let what = match sound {
            Ok(header) if header.base_offset == next => {
                position += header.size() as u64;
                next = header.next_offset();
                continue;
            }
            Ok(header) => format!("offset {} where {} follows", header.base_offset.0, next.0),
            Err(error) => error.to_string(),
        };
        findings.damage(path, Some(position), what);
        break;
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

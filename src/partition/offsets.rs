//! ListOffsets, OffsetForLeaderEpoch, DeleteRecords on one partition.

use corelane_protocol::ErrorCode;
use corelane_storage::model::{Offset, Term};

use super::{Partition, storage_error};

/// Kafka's special timestamps (`ListOffsetsRequest`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetSpec {
    Latest,
    Earliest,
    /// The record with the largest timestamp (KIP-734).
    MaxTimestamp,
    /// First offset on the local disk (KIP-405); the log start here.
    EarliestLocal,
    /// Last offset in tiered storage (KIP-1005); there is none.
    LatestTiered,
    /// First offset not yet in tiered storage (KIP-1023); there is none.
    EarliestPendingUpload,
    /// First record at or after a time in ms.
    Timestamp(i64),
}

impl OffsetSpec {
    /// The meaning of a timestamp field at a request version; an error where that version does not know it.
    pub fn from_timestamp(timestamp: i64, version: i16) -> Result<OffsetSpec, ErrorCode> {
        let (spec, since) = match timestamp {
            -1 => (OffsetSpec::Latest, 0),
            -2 => (OffsetSpec::Earliest, 0),
            -3 => (OffsetSpec::MaxTimestamp, 7),
            -4 => (OffsetSpec::EarliestLocal, 8),
            -5 => (OffsetSpec::LatestTiered, 9),
            -6 => (OffsetSpec::EarliestPendingUpload, 11),
            ..0 => return Err(ErrorCode::UnsupportedVersion),
            time => (OffsetSpec::Timestamp(time), 0),
        };
        if version < since { Err(ErrorCode::UnsupportedVersion) } else { Ok(spec) }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OffsetAt {
    /// -1: there is none.
    pub offset: i64,
    pub timestamp: i64,
    pub leader_epoch: i32,
}

impl OffsetAt {
    const NONE: OffsetAt = OffsetAt { offset: -1, timestamp: -1, leader_epoch: -1 };
}

impl Partition {
    /// `committed`: as one who reads only what is committed sees the log.
    pub async fn list_offset(
        &self,
        spec: OffsetSpec,
        current_leader_epoch: i32,
        committed: bool,
    ) -> Result<OffsetAt, ErrorCode> {
        if self.is_deleted() {
            return Err(ErrorCode::UnknownTopicOrPartition);
        }
        self.check_epoch(current_leader_epoch)?;
        let bounds = self.bounds();
        let end = if committed { self.log.last_stable_offset() } else { bounds.high_watermark };
        let bound = |offset: Offset, epoch: Option<Term>| OffsetAt {
            offset: offset.0,
            timestamp: -1,
            leader_epoch: epoch.map_or(-1, |t| t.0 as i32),
        };
        let found = match spec {
            OffsetSpec::Latest => return Ok(bound(end, Some(self.leader_epoch()))),
            OffsetSpec::Earliest | OffsetSpec::EarliestLocal => {
                return Ok(bound(bounds.log_start, self.log.term_at(bounds.log_start)));
            }
            OffsetSpec::LatestTiered | OffsetSpec::EarliestPendingUpload => return Ok(OffsetAt::NONE),
            OffsetSpec::MaxTimestamp => self.log.max_timestamp(end).await,
            OffsetSpec::Timestamp(time) => self.log.offset_for_timestamp(time, end).await,
        };
        match found {
            Ok(None) => Ok(OffsetAt::NONE),
            Ok(Some((offset, timestamp, term))) => {
                Ok(OffsetAt { offset: offset.0, timestamp, leader_epoch: term.0 as i32 })
            }
            Err(error) => {
                tracing::error!(topic = %self.topic, partition = self.index, ?spec, %error, "offset look-up failed");
                Err(storage_error(&error))
            }
        }
    }

    /// `(epoch, end offset)` of the largest epoch not after `epoch`; (-1, -1) where there is none (KIP-320).
    pub fn end_offset_for_epoch(&self, epoch: i32) -> (i32, i64) {
        // Only -1 is no epoch; others below 0 are before the first one.
        let end = if epoch == -1 { None } else { self.log.end_offset_for(Term(u64::try_from(epoch).unwrap_or(0))) };
        match end {
            Some((term, end)) => (if epoch < 0 { epoch } else { term.0 as i32 }, end.0),
            None => (-1, -1),
        }
    }

    /// Moves the log start to `offset` (-1: the high watermark), durably; returns the new log start.
    pub async fn delete_records(&self, offset: i64) -> Result<Offset, ErrorCode> {
        if self.is_deleted() {
            return Err(ErrorCode::UnknownTopicOrPartition);
        }
        if !self.config().cleanup_policy.delete {
            return Err(ErrorCode::PolicyViolation);
        }
        let bounds = self.bounds();
        let upto = if offset == -1 { bounds.high_watermark } else { Offset(offset) };
        if upto.0 < 0 || upto > bounds.high_watermark {
            return Err(ErrorCode::OffsetOutOfRange);
        }
        if upto > bounds.log_start {
            self.log.trim(upto).await.map_err(|error| {
                tracing::error!(topic = %self.topic, partition = self.index, %error, "log start could not be moved");
                storage_error(&error)
            })?;
        }
        Ok(self.bounds().log_start)
    }
}

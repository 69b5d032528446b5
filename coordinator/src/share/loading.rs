//! Taking a partition over.

use bytes::Bytes;
use corelane_protocol::records::share::ShareRecordKey;
use corelane_protocol::{DecodeError, Decoder};

use super::coordinator::ShareCoordinator;
use super::outcome::Effects;
use super::persist;
use super::state::StateRecord;
use crate::Now;
use crate::group::Replayed;

impl ShareCoordinator {
    /// Takes over one record of the partition; all of them, in their order, rebuild what was stored. `offset`: the record's.
    pub fn replay(&mut self, offset: i64, key: Bytes, value: Option<Bytes>) -> Result<Replayed, DecodeError> {
        let kind = Decoder::new(key.clone()).i16()?;
        let key = match ShareRecordKey::decode(key) {
            Err(DecodeError::UnknownRecordType(_)) => return Ok(Replayed::Skipped(kind)),
            other => other?,
        };
        if let Some((key, record)) = persist::decode(key, value)? {
            self.apply(&key, &record);
            match record {
                StateRecord::Snapshot(_) => self.upkeep.snapshot_at(key, offset),
                StateRecord::Tombstone => self.upkeep.tombstone_at(&key, offset),
                StateRecord::Update(_) => {}
            }
        }
        Ok(Replayed::Applied)
    }

    /// All records are replayed. Call once, before the first operation.
    pub fn finish_loading(&mut self, now: Now) -> Effects {
        self.reschedule(now);
        Effects::default()
    }
}

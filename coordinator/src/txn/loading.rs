//! Taking a partition over and giving it up.

use bytes::Bytes;
use corelane_protocol::records::transaction::TransactionLogKey;
use corelane_protocol::{DecodeError, Decoder, ErrorCode, Message, Str};

use super::coordinator::TxnCoordinator;
use super::outcome::{Completed, Effects};
use super::transaction::Stored;
use crate::Now;
use crate::group::Replayed;

impl TxnCoordinator {
    /// Takes over one record of the partition; all of them, in their order, rebuild what was stored.
    pub fn replay(&mut self, key: Bytes, value: Option<Bytes>) -> Result<Replayed, DecodeError> {
        let mut decoder = Decoder::new(key);
        match decoder.i16()? {
            0 => {
                let key = TransactionLogKey::decode(&mut decoder, 0)?;
                match value.map(Stored::from_value).transpose()?.flatten() {
                    Some(stored) => self.insert(&key.transactional_id, stored),
                    None => drop(self.transactions.remove(&key.transactional_id)),
                }
                Ok(Replayed::Applied)
            }
            other => Ok(Replayed::Skipped(other)),
        }
    }

    /// All records are replayed: what was decided goes on. Call once, before the first request.
    pub fn finish_loading(&mut self, now: Now) -> Effects {
        let mut out = Effects::default();
        let mut ids: Vec<Str> = self.transactions.keys().cloned().collect();
        ids.sort_unstable();
        for transactional_id in &ids {
            self.now_stands(now, transactional_id, &mut out);
        }
        self.settle(now, &mut out);
        out
    }

    /// The partition goes elsewhere, or its fate is unknown: everyone who waits is told `error` (as a rule `NotCoordinator`).
    /// Writes under way may or may not be in the log; whoever replays it next will see.
    pub fn unload(mut self, error: ErrorCode) -> Vec<Completed> {
        let waiting = self.writes.drain_replies().into_iter();
        waiting.map(|token| Completed { token, answer: Err(error) }).collect()
    }
}

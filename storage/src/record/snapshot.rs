//! The frame of a snapshot of the metadata (KIP-630): a control batch with a `SnapshotHeaderRecord`, the batches with the records,
//! a control batch with a `SnapshotFooterRecord`. Their offsets go on from 0, so that a batch that is gone is missed, and one that
//! has no footer has lost its end.
//!
//! Snapshots of earlier releases have no frame: they begin with records, and how many there must be is not known.

use bytes::Bytes;

use super::body::RecordBody;
use super::builder::BatchBuilder;
use super::header::{BatchHeader, Batches, HEADER_BYTES};
use crate::model::Offset;

/// `ControlRecordType` of Kafka's clients.
const HEADER: u16 = 3;
const FOOTER: u16 = 4;

/// One end of the frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SnapshotMark {
    Header,
    Footer,
}

impl SnapshotMark {
    /// What the control batch `batch` says first; `None` if it is another kind of batch.
    pub fn of(header: &BatchHeader, batch: &[u8]) -> Option<SnapshotMark> {
        let mut records = batch.get(HEADER_BYTES..).filter(|_| header.is_control() && header.count > 0)?;
        SnapshotMark::of_key(RecordBody::read(&mut records).ok()?.key?)
    }

    pub(super) fn of_key(key: &[u8]) -> Option<SnapshotMark> {
        match u16::from_be_bytes(*key.get(2..)?.first_chunk()?) {
            HEADER => Some(SnapshotMark::Header),
            FOOTER => Some(SnapshotMark::Footer),
            _ => None,
        }
    }

    /// Kafka's name of the record.
    pub(super) fn name(self) -> &'static str {
        match self {
            SnapshotMark::Header => "SnapshotHeader",
            SnapshotMark::Footer => "SnapshotFooter",
        }
    }
}

impl BatchBuilder {
    /// The one record of a snapshot's first batch. `last_contained`: when the last record was written that it stands for, ms.
    pub fn push_snapshot_header(&mut self, timestamp: i64, last_contained: i64) {
        // Version 0, the timestamp, no tagged fields.
        let value = [&[0; 2], last_contained.to_be_bytes().as_slice(), &[0]].concat();
        self.push_control(timestamp, HEADER, &value);
    }

    /// The one record of a snapshot's last batch.
    pub fn push_snapshot_footer(&mut self, timestamp: i64) {
        // Version 0, no tagged fields.
        self.push_control(timestamp, FOOTER, &[0; 3]);
    }
}

/// Why a snapshot cannot be used, and from where on.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("position {position}: {reason}")]
pub struct SnapshotDamage {
    pub position: u64,
    pub reason: String,
}

/// The batches with the records of a snapshot that is whole.
pub fn snapshot_batches(bytes: Bytes) -> Result<Vec<(BatchHeader, Bytes)>, SnapshotDamage> {
    if bytes.is_empty() {
        return Err(SnapshotDamage { position: 0, reason: "it holds nothing".to_owned() });
    }
    let (mut position, mut next, mut records) = (0, Offset::ZERO, Vec::new());
    let (mut has_header, mut has_footer) = (false, false);
    for batch in Batches::new(bytes) {
        let damaged = |reason: String| SnapshotDamage { position, reason };
        let (header, batch) = batch.map_err(|error| damaged(error.to_string()))?;
        header.verify_crc(&batch).map_err(|error| damaged(error.to_string()))?;
        if header.base_offset != next {
            return Err(damaged(format!("offset {} where {next} follows", header.base_offset)));
        }
        match SnapshotMark::of(&header, &batch) {
            _ if has_footer => return Err(damaged("it goes on behind its footer".to_owned())),
            Some(SnapshotMark::Header) if position == 0 => has_header = true,
            Some(SnapshotMark::Footer) if has_header => has_footer = true,
            None if !header.is_control() => records.push((header, batch)),
            _ => return Err(damaged("a control batch that does not belong there".to_owned())),
        }
        position += header.size() as u64;
        next = header.next_offset();
    }
    match has_header == has_footer {
        true => Ok(records),
        false => Err(SnapshotDamage { position, reason: "it ends without its footer".to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Term;
    use crate::record::Codec;

    /// A snapshot's batches: the frame, and two batches of two records between.
    fn whole() -> Vec<Bytes> {
        let batch = |fill: &dyn Fn(&mut BatchBuilder), at: i64| {
            let mut builder = BatchBuilder::new(Codec::None);
            fill(&mut builder);
            builder.build_at(Offset(at), Term(2)).unwrap()
        };
        let two = |builder: &mut BatchBuilder| (0..2).for_each(|n| builder.push(n, None, Some(b"record")));
        vec![
            batch(&|builder| builder.push_snapshot_header(7, 5), 0),
            batch(&two, 1),
            batch(&two, 3),
            batch(&|builder| builder.push_snapshot_footer(7), 5),
        ]
    }

    fn read(batches: &[Bytes]) -> Result<Vec<Bytes>, SnapshotDamage> {
        let batches = snapshot_batches(Bytes::from(batches.concat()))?;
        Ok(batches.into_iter().map(|(_, batch)| batch).collect())
    }

    #[test]
    fn a_snapshot_that_lost_whole_batches_is_noticed_wherever_they_were() {
        let whole = whole();
        assert_eq!(read(&whole).unwrap(), whole[1..3]);
        for kept in 1..whole.len() {
            let SnapshotDamage { position, reason } = read(&whole[..kept]).unwrap_err();
            let upto: usize = whole[..kept].iter().map(Bytes::len).sum();
            assert_eq!((position, reason.as_str()), (upto as u64, "it ends without its footer"));
        }
        for gone in 0..3 {
            let mut batches = whole.clone();
            let at: usize = whole[..gone].iter().map(Bytes::len).sum();
            batches.remove(gone);
            let damage = read(&batches).unwrap_err();
            assert!(damage.position == at as u64 && damage.reason.contains("follows"), "{gone}: {damage}");
        }
        assert_eq!(read(&[]).unwrap_err().reason, "it holds nothing");
    }

    #[test]
    fn what_stands_behind_a_snapshots_end_or_in_its_middle_is_noticed() {
        let whole = whole();
        let moved = |n: usize, offset: i64| {
            let mut batch = whole[n].to_vec();
            crate::record::patch_base_offset_and_epoch(&mut batch, Offset(offset), Term(2));
            Bytes::from(batch)
        };
        for last in [moved(3, 6), moved(1, 6)] {
            let damage = read(&[whole.clone(), vec![last]].concat()).unwrap_err();
            assert_eq!(damage.reason, "it goes on behind its footer");
        }
        let twice = [whole[0].clone(), moved(0, 1)];
        assert_eq!(read(&twice).unwrap_err().reason, "a control batch that does not belong there");
        // Behind records of an earlier release, which have no header.
        let mixed = [moved(1, 0), moved(3, 2)];
        assert_eq!(read(&mixed).unwrap_err().reason, "a control batch that does not belong there");
    }

    #[test]
    fn a_snapshot_of_an_earlier_release_has_no_frame() {
        let mut batches = whole()[1..3].to_vec();
        for (batch, at) in batches.iter_mut().zip([0, 2]) {
            let mut bytes = batch.to_vec();
            crate::record::patch_base_offset_and_epoch(&mut bytes, Offset(at), Term(2));
            *batch = bytes.into();
        }
        assert_eq!(read(&batches).unwrap(), batches);
    }
}

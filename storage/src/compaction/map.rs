//! The first reading of a pass: keys and last offsets of the dirty records (Kafka's `Cleaner.buildOffsetMap`).
#![deny(clippy::unwrap_used, clippy::indexing_slicing)]

use std::rc::Rc;

use super::Cleaner;
use super::offset_map::OffsetMap;
use super::plan::Plan;
use super::transactions::{self, Outcomes};
use super::unpack::{Unpacked, Walk};
use crate::error::StorageError;
use crate::log::LogInner;
use crate::model::Offset;
use crate::record::RecordsError;
use crate::recovery::decision::batch::Batch;
use crate::segment::scan::FoundBatch;
use crate::store::background::breathe;

/// Reads dirty segments until the map is full, a transaction has not ended, or they end; `OffsetMap::next` is where the pass
/// ends.
pub(super) async fn build(
    cleaner: &mut Cleaner,
    log: &Rc<LogInner>,
    plan: &Plan,
) -> Result<(OffsetMap, Outcomes), StorageError> {
    let offsets = plan.sources.last().map_or(0, |last| last.end - plan.first_dirty);
    let options = cleaner.options;
    let mut map = OffsetMap::new(u64::try_from(offsets).unwrap_or(0), options.dedupe_bytes, options.load_factor);
    let mut outcomes: Option<Outcomes> = None;
    map.advance(plan.first_dirty);
    'segments: for (at, source) in plan.dirty().enumerate() {
        let file = log.open_segment(source.base, false).await?;
        let mut scan = log.scan(file, 0, source.size).in_background(&log.shared);
        while let Some(batch) = log.scanned_batch(source.base, scan.next().await)? {
            let header = &batch.header;
            cleaner.account(log, batch.bytes.len()).await?;
            breathe().await;
            if header.next_offset() <= plan.first_dirty {
                continue;
            }
            if outcomes.is_none() && header.is_transactional() && !header.is_control() {
                outcomes = Some(transactions::read(cleaner, log, plan.dirty().skip(at), batch.position).await?);
            }
            if outcomes.as_ref().is_some_and(|outcomes| header.base_offset >= outcomes.upto()) {
                break 'segments;
            }
            if header.is_control() {
                continue;
            }
            if !outcomes.as_ref().is_some_and(|outcomes| outcomes.is_aborted(header)) {
                let took = take_in(&mut map, &batch, plan.first_dirty).await;
                let took = took.map_err(|e| log.damaged(Batch::Bad, source.base, batch.position, e))?;
                if !took {
                    break 'segments;
                }
            }
            map.advance(header.next_offset());
        }
        map.advance(source.end);
    }
    Ok((map, outcomes.unwrap_or_default()))
}

/// False if the map was full before the batch's end.
async fn take_in(map: &mut OffsetMap, batch: &FoundBatch, from: Offset) -> Result<bool, RecordsError> {
    let header = &batch.header;
    let mut unpacked = Unpacked::of(header, &batch.bytes)?;
    while !unpacked.step()? {
        breathe().await;
    }
    let (mut walk, mut full) = (Walk::over(header), false);
    while !walk.step(unpacked.bytes(), |record, _| {
        let offset = header.base_offset + i64::from(record.offset_delta);
        full = offset >= from && record.key.is_some_and(|key| !map.put(key, offset));
        !full
    })? {
        breathe().await;
    }
    Ok(!full)
}

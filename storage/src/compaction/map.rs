//! The first reading of a pass: keys and last offsets of the dirty records (Kafka's `Cleaner.buildOffsetMap`).
#![deny(clippy::unwrap_used, clippy::indexing_slicing)]

use std::rc::Rc;

use bytes::Bytes;

use super::filter::RECORDS_BYTES_MAX;
use super::offset_map::OffsetMap;
use super::plan::Plan;
use super::{Cleaner, PIECE_BYTES};
use crate::error::StorageError;
use crate::log::LogInner;
use crate::model::Offset;
use crate::record::{BatchHeader, HEADER_BYTES, RecordBody, RecordsError, codec};

/// Reads dirty segments until the map is full or they end; `OffsetMap::next` is where the pass ends.
pub(super) async fn build(cleaner: &mut Cleaner, log: &Rc<LogInner>, plan: &Plan) -> Result<OffsetMap, StorageError> {
    let offsets = plan.sources.last().map_or(0, |last| last.end - plan.first_dirty);
    let options = cleaner.options;
    let mut map = OffsetMap::new(u64::try_from(offsets).unwrap_or(0), options.dedupe_bytes, options.load_factor);
    map.advance(plan.first_dirty);
    for source in plan.dirty() {
        let file = log.open_segment(source.base, false).await?;
        let mut scan = log.scan(file, 0, source.size).read_ahead(PIECE_BYTES);
        while let Some(batch) = log.scanned(source.base, scan.next().await)? {
            let header = &batch.header;
            cleaner.account(log, batch.bytes.len()).await?;
            core_pinning::yield_if_needed().await;
            if header.next_offset() <= plan.first_dirty || header.is_control() {
                continue;
            }
            if header.is_transactional() {
                return Ok(map);
            }
            let took = take_in(&mut map, header, &batch.bytes, plan.first_dirty);
            let took = took.map_err(|e| log.fence(log.corrupt(source.base, batch.position, e.to_string())))?;
            if !took {
                return Ok(map);
            }
            map.advance(header.next_offset());
        }
        map.advance(source.end);
    }
    Ok(map)
}

/// False if the map was full before the batch's end.
fn take_in(map: &mut OffsetMap, header: &BatchHeader, batch: &Bytes, from: Offset) -> Result<bool, RecordsError> {
    let packed = batch.get(HEADER_BYTES..).unwrap_or_default();
    codec::with_decompressed(header.compression()?, packed, RECORDS_BYTES_MAX, |mut rest| {
        for index in 0..u32::try_from(header.count).unwrap_or(0) {
            let record = RecordBody::read(&mut rest).map_err(|what| RecordsError::Record { index, what })?;
            let offset = header.base_offset + i64::from(record.offset_delta);
            if offset >= from
                && let Some(key) = record.key
                && !map.put(key, offset)
            {
                return Ok(false);
            }
        }
        Ok(true)
    })?
}

//! Reading a coordinator's partition from its beginning to rebuild the machine.

use bytes::Bytes;
use core_pinning::task::yield_if_needed;
use corelane_storage::ReadLimit;
use corelane_storage::record::{BatchHeader, Batches, RecordIter, TransactionMarker};

use crate::partition::Partition;

/// Bytes of log that loading reads at a time.
const LOAD_STEP: usize = 1 << 20;
/// A batch of an internal topic decompresses to no more than this.
const BATCH_MAX: usize = 128 << 20;

/// What lies in a coordinator's partition.
pub enum Found {
    Record { key: Bytes, value: Option<Bytes> },
    Marker(TransactionMarker),
}

/// Hands everything up to the high watermark to `take`, in order, with the header of its batch.
pub async fn replay(
    partition: &Partition,
    mut take: impl FnMut(&BatchHeader, Found) -> Result<(), String>,
) -> Result<(), String> {
    let bounds = partition.bounds();
    let (mut offset, end) = (bounds.log_start, bounds.high_watermark);
    while offset < end {
        let limit = ReadLimit { max_bytes: LOAD_STEP, at_least_one: true, upto: end };
        let read = partition.log().read(offset, limit).await.map_err(|e| e.to_string())?;
        if read.next_offset <= offset {
            return Err(format!("nothing to read at offset {offset}"));
        }
        offset = read.next_offset;
        for batch in read.slices.into_iter().flat_map(Batches::new) {
            let (header, batch) = batch.map_err(|e| e.to_string())?;
            if header.is_control() {
                if let Some(marker) = TransactionMarker::of(&header, &batch) {
                    take(&header, Found::Marker(marker))?;
                }
                continue;
            }
            for record in RecordIter::new(&batch, BATCH_MAX).map_err(|e| e.to_string())? {
                let record = record.map_err(|e| e.to_string())?;
                let Some(key) = record.key else { continue };
                take(&header, Found::Record { key, value: record.value })?;
            }
            yield_if_needed().await;
        }
    }
    Ok(())
}

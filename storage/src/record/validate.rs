//! What a client's batch must be before it is appended, and the rewriting a topic's settings ask for (Kafka's
//! `ProduceRequest.validateRecords`, `UnifiedLog.analyzeAndValidateRecords` and `LogValidator`).
//!
//! In Kafka's order: one batch of format 2; codec allowed; base offset 0; size; CRC; counts, control bit, sequence; then every
//! record is walked, decompressed if need be, for its structure, its key on compacted topics and its timestamp. The
//! walk allocates nothing. A batch is rebuilt if the topic wants another codec, or if its offset deltas are not
//! 0, 1, 2, ... (Kafka repairs those in compressed batches only). Otherwise at most its header changes.
//!
//! Stricter than Kafka 4.3.1, for batches that no client sends: one that claims LogAppendTime is refused on every topic
//! (Kafka takes it on a CreateTime topic if its max timestamp is in the window, and its records then go unchecked).
//! Two of Kafka's UNKNOWN_SERVER_ERRORs have a name: a codec that does not exist is UNSUPPORTED_COMPRESSION_TYPE, and records
//! that do not decompress are INVALID_RECORD. Records that decompress to more than the limit are MESSAGE_TOO_LARGE.

use std::fmt;

use bytes::{Bytes, BytesMut};

use super::body::RecordBody;
use super::codec::{self, Codec, CodecError, Compression};
use super::header::{ATTRIBUTES_AT, BatchError, BatchHeader, HEADER_BYTES};
use crate::model::{Offset, TimestampType};

/// Records listed in an error, at most; their number may be that of a whole batch.
pub const RECORD_ERRORS_MAX: usize = 1000;
const NO_TIMESTAMP: i64 = -1;

/// `compression.type` of a topic.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum CompressionTarget {
    /// As the producer sent it.
    #[default]
    Producer,
    /// A batch with another codec is recompressed; one with this codec stays, whatever its level.
    Codec(Compression),
}

/// The topic's settings, and the time, as a batch is judged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ValidationContext {
    /// Wall clock, ms.
    pub now_ms: i64,
    /// `max.message.bytes`: of the batch as sent, and again if it is rebuilt.
    pub max_message_bytes: usize,
    /// `segment.bytes`: a batch must fit one segment.
    pub segment_bytes: usize,
    /// `message.timestamp.type`.
    pub timestamp_type: TimestampType,
    /// `message.timestamp.before.max.ms`.
    pub timestamp_before_max_ms: i64,
    /// `message.timestamp.after.max.ms`.
    pub timestamp_after_max_ms: i64,
    /// `cleanup.policy` has `compact`: every record needs a key.
    pub compacted: bool,
    pub compression: CompressionTarget,
    /// False below version 7 of Produce.
    pub allow_zstd: bool,
    /// What the records may decompress to. Kafka has no such limit.
    pub max_decompressed_bytes: usize,
}

impl Default for ValidationContext {
    /// Kafka's defaults, at time 0.
    fn default() -> ValidationContext {
        ValidationContext {
            now_ms: 0,
            max_message_bytes: 1_048_588,
            segment_bytes: 1 << 30,
            timestamp_type: TimestampType::CreateTime,
            timestamp_before_max_ms: i64::MAX,
            timestamp_after_max_ms: 3_600_000,
            compacted: false,
            compression: CompressionTarget::Producer,
            allow_zstd: true,
            max_decompressed_bytes: 128 << 20,
        }
    }
}

/// The error codes a batch can be refused with, as numbered in Kafka's `Errors`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(i16)]
pub enum RecordErrorCode {
    CorruptMessage = 2,
    MessageTooLarge = 10,
    RecordListTooLarge = 18,
    InvalidTimestamp = 32,
    UnsupportedCompressionType = 76,
    InvalidRecord = 87,
}

impl RecordErrorCode {
    pub fn kafka_code(self) -> i16 {
        self as i16
    }
}

/// One record's fault, for `record_errors` of the produce response (version 8 and later).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RecordError {
    /// Position in the batch.
    pub index: i32,
    pub message: String,
}

/// Why a batch is refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RecordErrors {
    pub code: RecordErrorCode,
    pub message: String,
    /// The records at fault, at most `RECORD_ERRORS_MAX`; empty if it is the batch.
    pub records: Vec<RecordError>,
}

impl std::error::Error for RecordErrors {}

impl fmt::Display for RecordErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.code, self.message)
    }
}

fn refuse(code: RecordErrorCode, message: impl Into<String>) -> RecordErrors {
    RecordErrors { code, message: message.into(), records: Vec::new() }
}

fn invalid(message: impl Into<String>) -> RecordErrors {
    refuse(RecordErrorCode::InvalidRecord, message)
}

/// A batch that may be appended. `header` is what will stand in front of it, but for base offset and leader epoch: the log
/// sets those.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Validated {
    pub header: BatchHeader,
    /// The offset delta of the first record that has the batch's max timestamp.
    pub max_timestamp_delta: i32,
    /// True if the batch was rebuilt.
    pub rebuilt: bool,
    /// The whole batch; its first 61 bytes may be those of before.
    batch: Bytes,
}

impl Validated {
    /// Bytes of the batch.
    pub fn size(&self) -> usize {
        self.batch.len()
    }

    /// The bytes after the header.
    pub fn records(&self) -> Bytes {
        self.batch.slice(HEADER_BYTES.min(self.batch.len())..)
    }

    /// The batch for [`Log::append`](crate::Log::append), which gives it its offsets. It is what was sent, not copied, unless its
    /// header must change.
    pub fn into_batch(self) -> Bytes {
        let as_sent = |sent: BatchHeader| BatchHeader { leader_epoch: sent.leader_epoch, ..self.header } == sent;
        if BatchHeader::parse(&self.batch).is_ok_and(as_sent) {
            return self.batch;
        }
        let mut batch = self.batch.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]));
        if let Some(head) = batch.first_chunk_mut::<HEADER_BYTES>() {
            self.header.write(head);
        }
        batch.freeze()
    }
}

/// Judges the records field of one partition of a Produce request.
pub fn validate(bytes: &Bytes, ctx: &ValidationContext) -> Result<Validated, RecordErrors> {
    let (header, batch) = only_batch(bytes, ctx)?;
    let source = header.compression().map_err(unknown_codec)?;
    if header.base_offset != Offset::ZERO {
        return Err(invalid(format!("base offset of a produced batch is {}, not 0", header.base_offset)));
    }
    check_size(batch.len(), ctx)?;
    header.verify_crc(&batch).map_err(|e| refuse(RecordErrorCode::CorruptMessage, e.to_string()))?;
    check_header(&header)?;

    let records = batch.get(HEADER_BYTES..).unwrap_or_default();
    let target = match ctx.compression {
        CompressionTarget::Producer => None,
        CompressionTarget::Codec(target) => (target.codec != source).then_some(target),
    };
    let (walk, rebuilt) = codec::with_decompressed(source, records, ctx.max_decompressed_bytes, |raw| {
        let walk = walk(raw, &header, ctx)?;
        let rebuilt = match (walk.in_order, target) {
            (true, None) => None,
            (in_order, target) => {
                // Kafka's level for a codec that the topic does not name.
                let how = target.unwrap_or(source.into());
                Some(if in_order { rebuild(&header, how, raw)? } else { rebuild(&header, how, &renumber(raw)?)? })
            }
        };
        Ok((walk, rebuilt))
    })
    .map_err(|e| unreadable(&e))??;

    let mut validated = Validated {
        header,
        max_timestamp_delta: walk.max_timestamp_delta,
        rebuilt: rebuilt.is_some(),
        batch: rebuilt.unwrap_or(batch),
    };
    if validated.rebuilt {
        check_size(validated.size(), ctx)?;
        let codec = target.map_or(source, |t| t.codec);
        validated.header.attributes = BatchHeader::attributes_for(
            codec,
            TimestampType::CreateTime,
            header.is_transactional(),
            false,
            header.delete_horizon().is_some(),
        );
        validated.header.length = (validated.size() - super::BASE_OFFSET_SPAN) as i32;
    }
    if validated.size() > ctx.segment_bytes {
        let message = format!("batch of {} bytes does not fit a segment of {}", validated.size(), ctx.segment_bytes);
        return Err(refuse(RecordErrorCode::RecordListTooLarge, message));
    }
    stamp(&mut validated, walk.max_timestamp, ctx);
    Ok(validated)
}

/// The one batch of format 2 in `bytes`. A partial batch after it is ignored, as in Kafka.
fn only_batch(bytes: &Bytes, ctx: &ValidationContext) -> Result<(BatchHeader, Bytes), RecordErrors> {
    let none = || invalid("no whole record batch");
    let corrupt = |e: BatchError| refuse(RecordErrorCode::CorruptMessage, e.to_string());
    let header = match BatchHeader::parse(bytes) {
        Ok(header) => header,
        Err(BatchError::Magic(0 | 1)) => return Err(invalid("record format older than 2")),
        Err(e @ (BatchError::Magic(_) | BatchError::Length(_))) => return Err(corrupt(e)),
        Err(BatchError::Truncated { .. }) => return Err(none()),
        Err(e) => return Err(invalid(e.to_string())),
    };
    if bytes.len() < header.size() {
        return Err(none());
    }
    if header.compression() == Ok(Codec::Zstd) && !ctx.allow_zstd {
        let message = "zstd needs version 7 of the produce request";
        return Err(refuse(RecordErrorCode::UnsupportedCompressionType, message));
    }
    let batch = bytes.slice(..header.size());
    let after = bytes.get(header.size()..).unwrap_or_default();
    match BatchHeader::split(after) {
        Err(BatchError::Truncated { .. }) => Ok((header, batch)),
        Ok(_) => Err(invalid("more than one record batch")),
        Err(e) => Err(corrupt(e)),
    }
}

fn unknown_codec(e: BatchError) -> RecordErrors {
    refuse(RecordErrorCode::UnsupportedCompressionType, e.to_string())
}

fn check_size(size: usize, ctx: &ValidationContext) -> Result<(), RecordErrors> {
    if size > ctx.max_message_bytes {
        let message = format!("batch of {size} bytes, the topic takes {}", ctx.max_message_bytes);
        return Err(refuse(RecordErrorCode::MessageTooLarge, message));
    }
    Ok(())
}

fn check_header(header: &BatchHeader) -> Result<(), RecordErrors> {
    if header.count <= 0 || header.last_offset_delta.checked_add(1) != Some(header.count) {
        let (count, last) = (header.count, header.last_offset_delta);
        return Err(invalid(format!("{count} records, last offset delta {last}")));
    }
    if header.is_control() {
        return Err(invalid("clients may not write control batches"));
    }
    if header.has_producer() && header.base_sequence.0 < 0 {
        return Err(invalid(format!("sequence {} of producer {}", header.base_sequence, header.producer_id)));
    }
    Ok(())
}

fn unreadable(e: &CodecError) -> RecordErrors {
    // MESSAGE_TOO_LARGE makes a client send smaller batches; data that does not decompress stays so on a retry.
    let code = match e {
        CodecError::TooLarge(_) => RecordErrorCode::MessageTooLarge,
        _ => RecordErrorCode::InvalidRecord,
    };
    refuse(code, e.to_string())
}

/// What the walk over the records found.
struct Walk {
    max_timestamp: i64,
    max_timestamp_delta: i32,
    /// Offset deltas are 0, 1, 2, ...
    in_order: bool,
}

fn walk(mut records: &[u8], header: &BatchHeader, ctx: &ValidationContext) -> Result<Walk, RecordErrors> {
    let mut walk = Walk { max_timestamp: NO_TIMESTAMP, max_timestamp_delta: 0, in_order: true };
    let mut faults = Faults::default();
    let claims_append_time = header.timestamp_type() == TimestampType::LogAppendTime;
    let check_time = ctx.timestamp_type == TimestampType::CreateTime;
    let earliest = ctx.now_ms.saturating_sub(ctx.timestamp_before_max_ms);
    let latest = ctx.now_ms.saturating_add(ctx.timestamp_after_max_ms);
    for index in 0..header.count {
        let record =
            RecordBody::read(&mut records).map_err(|what| invalid(format!("record {index} of the batch: {what}")))?;
        walk.in_order &= record.offset_delta == index;
        let timestamp = header.base_timestamp.wrapping_add(record.timestamp_delta);
        if ctx.compacted && record.key.is_none() {
            faults.add(index, RecordErrorCode::InvalidRecord, || "no key, on a compacted topic".into());
        } else if claims_append_time {
            faults.add(index, RecordErrorCode::InvalidTimestamp, || "only the broker may set LogAppendTime".into());
        } else if check_time && (timestamp < earliest || timestamp > latest) && timestamp != NO_TIMESTAMP {
            faults.add(index, RecordErrorCode::InvalidTimestamp, || {
                format!("timestamp {timestamp} is not within [{earliest}, {latest}]")
            });
        }
        if timestamp > walk.max_timestamp {
            walk.max_timestamp = timestamp;
            walk.max_timestamp_delta = index;
        }
    }
    if !records.is_empty() {
        return Err(invalid("bytes after the last record of the batch"));
    }
    faults.result()?;
    Ok(walk)
}

/// Records at fault. A timestamp out of range decides the code of the whole batch, as in Kafka.
#[derive(Default)]
struct Faults {
    number: usize,
    timestamps: bool,
    records: Vec<RecordError>,
}

impl Faults {
    #[cold]
    fn add(&mut self, index: i32, code: RecordErrorCode, message: impl FnOnce() -> String) {
        self.number += 1;
        self.timestamps |= code == RecordErrorCode::InvalidTimestamp;
        if self.records.len() < RECORD_ERRORS_MAX {
            self.records.push(RecordError { index, message: message() });
        }
    }

    fn result(self) -> Result<(), RecordErrors> {
        let Some(first) = self.records.first() else { return Ok(()) };
        let code = if self.timestamps { RecordErrorCode::InvalidTimestamp } else { RecordErrorCode::InvalidRecord };
        let message =
            format!("{} records refused, the first is record {}: {}", self.number, first.index, first.message);
        Err(RecordErrors { code, message, records: self.records })
    }
}

/// The same batch around other records; its header is written by the caller.
fn rebuild(header: &BatchHeader, how: Compression, raw: &[u8]) -> Result<Bytes, RecordErrors> {
    let mut head = [0; HEADER_BYTES];
    header.write(&mut head);
    let mut batch = Vec::with_capacity(HEADER_BYTES + raw.len() / 2);
    batch.extend_from_slice(&head);
    codec::compress(how, raw, &mut batch).map_err(|e| unreadable(&e))?;
    if batch.len() > i32::MAX as usize {
        return Err(refuse(RecordErrorCode::MessageTooLarge, "batch of more than 2 GiB"));
    }
    Ok(Bytes::from(batch))
}

/// The same records with offset deltas 0, 1, 2, ...
fn renumber(mut raw: &[u8]) -> Result<Vec<u8>, RecordErrors> {
    let mut out = Vec::with_capacity(raw.len() + raw.len() / 8);
    let mut index = 0;
    while !raw.is_empty() {
        let record = RecordBody::read(&mut raw).map_err(|what| invalid(what.to_string()))?;
        RecordBody { offset_delta: index, ..record }.write(&mut out);
        index += 1;
    }
    Ok(out)
}

/// Sets timestamp type, max timestamp and CRC of the header; the CRC is computed only if something changed.
fn stamp(validated: &mut Validated, max_timestamp: i64, ctx: &ValidationContext) {
    let header = &mut validated.header;
    let before = (header.attributes, header.max_timestamp);
    match ctx.timestamp_type {
        TimestampType::CreateTime => header.max_timestamp = max_timestamp,
        TimestampType::LogAppendTime => {
            header.max_timestamp = ctx.now_ms;
            validated.max_timestamp_delta = 0;
        }
    }
    header.set_timestamp_type(ctx.timestamp_type);
    if validated.rebuilt || before != (header.attributes, header.max_timestamp) {
        let mut head = [0; HEADER_BYTES];
        header.write(&mut head);
        let crc = crc32c::crc32c(head.get(ATTRIBUTES_AT..).unwrap_or_default());
        header.crc = crc32c::crc32c_append(crc, validated.batch.get(HEADER_BYTES..).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests;

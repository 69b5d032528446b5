//! What a client's batch must be before it is appended, and the rewriting a topic's settings ask for (Kafka's
//! `ProduceRequest.validateRecords`, `UnifiedLog.analyzeAndValidateRecords` and `LogValidator`).
//!
//! In Kafka's order: one batch of format 2; codec allowed; base offset 0; size; CRC; counts, control bit, sequence; then every
//! record is walked, decompressed if need be, for its structure, its key on compacted topics and its timestamp. The
//! walk allocates nothing. A batch is rebuilt if the topic wants another codec, or if its offset deltas are not
//! 0, 1, 2, ... (Kafka repairs those in compressed batches only). Otherwise at most its header changes.
//!
//! All that takes time goes in slices ([`Validation::step`]): a shard does other things in between, and no slice of a batch of
//! 1 MiB takes a millisecond.
//!
//! Stricter than Kafka 4.3.1, for batches that no client sends: one that claims LogAppendTime is refused on every topic
//! (Kafka takes it on a CreateTime topic if its max timestamp is in the window, and its records then go unchecked).
//! Two of Kafka's UNKNOWN_SERVER_ERRORs have a name: a codec that does not exist is UNSUPPORTED_COMPRESSION_TYPE, and records
//! that do not decompress are INVALID_RECORD. Records that decompress to more than the limit are MESSAGE_TOO_LARGE: 32 MiB, or
//! 32 times `max.message.bytes` if that is more.

use std::fmt;

use bytes::{Bytes, BytesMut};

use super::body::RecordBody;
use super::codec::{Codec, CodecError, Compression, Compressor, Decompression, SLICE};
use super::first::First;
use super::header::{ATTRIBUTES_AT, BatchError, BatchHeader, HEADER_BYTES, KNOWN_ATTRIBUTES};
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

/// What records may decompress to, where batches may have `max_message_bytes`: far more than any that are not made for it.
pub fn max_decompressed_bytes(max_message_bytes: usize) -> usize {
    max_message_bytes.max(1 << 20).saturating_mul(32)
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
            max_decompressed_bytes: max_decompressed_bytes(1 << 20),
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

/// Bytes whose checksum is computed at a time.
const SUM_BYTES: usize = 1 << 20;
/// Records that are looked at at a time, and bytes of those that are written again.
const WALK_RECORDS: i32 = 8 << 10;
const RENUMBER_BYTES: usize = 256 << 10;

/// Judges the records field of one partition of a Produce request, at once.
pub fn validate(bytes: &Bytes, ctx: &ValidationContext) -> Result<Validated, RecordErrors> {
    let mut validation = Validation::begin(bytes, ctx)?;
    loop {
        if let Some(result) = validation.step() {
            return result;
        }
    }
}

/// The judgement of one batch, step by step.
pub struct Validation {
    ctx: ValidationContext,
    sent: BatchHeader,
    source: Codec,
    target: Option<Compression>,
    stage: Stage,
    walk: Walk,
    raw: Raw,
    /// Becomes the result.
    validated: Validated,
}

enum Stage {
    /// The checksum of what was sent.
    Check(Sum),
    Decompress,
    Walk,
    Renumber {
        at: usize,
        index: i32,
        out: Vec<u8>,
    },
    /// `None` while it takes a slice.
    Compress(Option<Box<Compressor>>),
    /// The checksum of what will be stored.
    Stamp(Sum),
}

/// A checksum of a batch, as far as it has come.
#[derive(Clone, Copy)]
struct Sum {
    at: usize,
    crc: u32,
}

impl Sum {
    /// Goes on by a slice; true at the end of the batch.
    fn add(&mut self, batch: &[u8]) -> bool {
        let end = batch.len().min(self.at + SUM_BYTES);
        self.crc = crc32c::crc32c_append(self.crc, batch.get(self.at..end).unwrap_or_default());
        self.at = end;
        end == batch.len()
    }
}

/// The records, uncompressed.
enum Raw {
    /// In the batch itself.
    Sent,
    Decompressed(Box<Decompression>),
    Renumbered(Vec<u8>),
}

impl Raw {
    fn bytes<'a>(&'a self, batch: &'a Bytes) -> &'a [u8] {
        match self {
            Raw::Sent => batch.get(HEADER_BYTES..).unwrap_or_default(),
            Raw::Decompressed(decompression) => decompression.output.bytes(),
            Raw::Renumbered(records) => records,
        }
    }
}

impl Validation {
    /// Looks at what can be seen without reading the batch.
    pub fn begin(bytes: &Bytes, ctx: &ValidationContext) -> Result<Validation, RecordErrors> {
        let (header, batch) = only_batch(bytes, ctx)?;
        let source = header.compression().map_err(unknown_codec)?;
        if header.base_offset != Offset::ZERO {
            return Err(invalid(format!("base offset of a produced batch is {}, not 0", header.base_offset)));
        }
        check_size(batch.len(), ctx)?;
        let target = match ctx.compression {
            CompressionTarget::Producer => None,
            CompressionTarget::Codec(target) => (target.codec != source).then_some(target),
        };
        let stage = Stage::Check(Sum { at: ATTRIBUTES_AT, crc: 0 });
        let validated = Validated { header, max_timestamp_delta: 0, rebuilt: false, batch };
        Ok(Validation {
            ctx: *ctx,
            sent: header,
            source,
            target,
            stage,
            walk: Walk::begin(),
            raw: Raw::Sent,
            validated,
        })
    }

    /// Bytes of memory that the records take now, uncompressed, or take at least when they are.
    pub fn memory(&self) -> usize {
        match &self.raw {
            Raw::Sent => self.validated.size(),
            Raw::Decompressed(decompression) => decompression.output.filled() + SLICE,
            Raw::Renumbered(records) => 2 * records.len(),
        }
    }

    /// Goes on by one slice; the result when that was the last one.
    pub fn step(&mut self) -> Option<Result<Validated, RecordErrors>> {
        match self.advance() {
            Ok(false) => None,
            Ok(true) => Some(Ok(self.validated.clone())),
            Err(errors) => Some(Err(errors)),
        }
    }

    fn advance(&mut self) -> Result<bool, RecordErrors> {
        let batch = &self.validated.batch;
        match &mut self.stage {
            Stage::Check(sum) => {
                if sum.add(batch) {
                    if sum.crc != self.sent.crc {
                        let error = BatchError::Crc { stored: self.sent.crc, computed: sum.crc };
                        return Err(refuse(RecordErrorCode::CorruptMessage, error.to_string()));
                    }
                    check_header(&self.sent)?;
                    self.stage = self.read()?;
                }
            }
            Stage::Decompress => {
                if let Raw::Decompressed(decompression) = &mut self.raw
                    && decompression.step().map_err(|e| unreadable(&e))?
                {
                    self.stage = Stage::Walk;
                }
            }
            Stage::Walk => {
                if self.walk.step(self.raw.bytes(batch), &self.sent, &self.ctx)? {
                    match (self.walk.in_order, self.target) {
                        (true, None) => return self.finish(),
                        (true, Some(_)) => self.stage = self.rebuild()?,
                        (false, _) => {
                            // An offset delta takes up to five bytes. A larger buffer later would be filled at once.
                            let most = self.raw.bytes(batch).len() + 5 * self.sent.count.max(0) as usize;
                            self.stage = Stage::Renumber { at: 0, index: 0, out: Vec::with_capacity(most) };
                        }
                    }
                }
            }
            Stage::Renumber { at, index, out } => {
                if renumber(self.raw.bytes(batch), at, index, out)? {
                    self.raw = Raw::Renumbered(std::mem::take(out));
                    self.stage = self.rebuild()?;
                }
            }
            Stage::Compress(slot) => {
                let Some(mut compressor) = slot.take() else { unreachable!("it is put back until it is done") };
                if !compressor.step(self.raw.bytes(batch)).map_err(|e| unreadable(&e))? {
                    *slot = Some(compressor);
                    return Ok(false);
                }
                let done = compressor.finish().map_err(|e| unreadable(&e))?;
                if done.len() > i32::MAX as usize {
                    return Err(refuse(RecordErrorCode::MessageTooLarge, "batch of more than 2 GiB"));
                }
                self.rebuilt(Bytes::from(done))?;
                return self.finish();
            }
            Stage::Stamp(sum) => {
                if sum.add(batch) {
                    self.validated.header.crc = sum.crc;
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// What comes after the checksum.
    fn read(&mut self) -> Result<Stage, RecordErrors> {
        let (records, limit) = (self.validated.records(), self.ctx.max_decompressed_bytes);
        if self.source == Codec::None {
            let fits = records.len() <= limit;
            return if fits { Ok(Stage::Walk) } else { Err(unreadable(&CodecError::TooLarge(limit))) };
        }
        let decompression = Decompression::new(self.source, records, limit).map_err(|e| unreadable(&e))?;
        self.raw = Raw::Decompressed(Box::new(decompression));
        Ok(Stage::Decompress)
    }

    /// Begins the same batch around other records; its header is written at the end.
    fn rebuild(&self) -> Result<Stage, RecordErrors> {
        // Kafka's level for a codec that the topic does not name.
        let how = self.target.unwrap_or(self.source.into());
        let raw = self.raw.bytes(&self.validated.batch);
        let mut head = [0; HEADER_BYTES];
        self.sent.write(&mut head);
        // As much as it may become: what is not used is not touched, and a larger buffer later would be filled at once.
        let most = raw.len() + raw.len() / 6 + raw.len().min(SLICE) + 512;
        let mut batch = Vec::with_capacity(HEADER_BYTES + most);
        batch.extend_from_slice(&head);
        let compressor = Compressor::new(how, raw.len(), batch).map_err(|e| unreadable(&e))?;
        Ok(Stage::Compress(Some(Box::new(compressor))))
    }

    fn rebuilt(&mut self, batch: Bytes) -> Result<(), RecordErrors> {
        check_size(batch.len(), &self.ctx)?;
        let codec = self.target.map_or(self.source, |t| t.codec);
        let (transactional, horizon) = (self.sent.is_transactional(), self.sent.delete_horizon().is_some());
        let header = &mut self.validated.header;
        header.attributes =
            BatchHeader::attributes_for(codec, TimestampType::CreateTime, transactional, false, horizon);
        header.length = (batch.len() - super::BASE_OFFSET_SPAN) as i32;
        (self.validated.batch, self.validated.rebuilt) = (batch, true);
        Ok(())
    }

    /// Sets timestamp type and max timestamp of the header; true if its CRC need not be computed again.
    fn finish(&mut self) -> Result<bool, RecordErrors> {
        let (size, segment_bytes) = (self.validated.size(), self.ctx.segment_bytes);
        if size > segment_bytes {
            let message = format!("batch of {size} bytes does not fit a segment of {segment_bytes}");
            return Err(refuse(RecordErrorCode::RecordListTooLarge, message));
        }
        self.validated.max_timestamp_delta = self.walk.max_timestamp_delta;
        let header = &mut self.validated.header;
        let before = (header.attributes, header.max_timestamp);
        match self.ctx.timestamp_type {
            TimestampType::CreateTime => header.max_timestamp = self.walk.max_timestamp,
            TimestampType::LogAppendTime => {
                header.max_timestamp = self.ctx.now_ms;
                self.validated.max_timestamp_delta = 0;
            }
        }
        header.set_timestamp_type(self.ctx.timestamp_type);
        if !self.validated.rebuilt && before == (header.attributes, header.max_timestamp) {
            return Ok(true);
        }
        // Kafka builds the attributes anew, from what it knows of them.
        header.attributes &= KNOWN_ATTRIBUTES;
        let mut head = [0; HEADER_BYTES];
        header.write(&mut head);
        let crc = crc32c::crc32c(head.get(ATTRIBUTES_AT..).unwrap_or_default());
        self.stage = Stage::Stamp(Sum { at: HEADER_BYTES, crc });
        Ok(false)
    }
}

/// The one batch of format 2 in `bytes`. A partial batch after it is ignored, as in Kafka.
fn only_batch(bytes: &Bytes, ctx: &ValidationContext) -> Result<(BatchHeader, Bytes), RecordErrors> {
    let corrupt = |e: BatchError| refuse(RecordErrorCode::CorruptMessage, e.to_string());
    let (header, rest) = match First::of(bytes).map_err(corrupt)? {
        First::Batch { header, rest } => (header, rest),
        First::Older => return Err(invalid("record format older than 2")),
        First::Nothing => return Err(invalid("no whole record batch")),
    };
    if header.compression() == Ok(Codec::Zstd) && !ctx.allow_zstd {
        let message = "zstd needs version 7 of the produce request";
        return Err(refuse(RecordErrorCode::UnsupportedCompressionType, message));
    }
    match First::of(rest).map_err(corrupt)? {
        First::Nothing => Ok((header, bytes.slice(..header.size()))),
        First::Older | First::Batch { .. } => Err(invalid("more than one record batch")),
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

/// The walk over the records: where it stands, what it has found.
struct Walk {
    at: usize,
    index: i32,
    faults: Faults,
    max_timestamp: i64,
    max_timestamp_delta: i32,
    /// Offset deltas are 0, 1, 2, ...
    in_order: bool,
}

impl Walk {
    fn begin() -> Walk {
        let faults = Faults::default();
        Walk { at: 0, index: 0, faults, max_timestamp: NO_TIMESTAMP, max_timestamp_delta: 0, in_order: true }
    }

    /// Goes on by some records; true at the end.
    fn step(&mut self, raw: &[u8], header: &BatchHeader, ctx: &ValidationContext) -> Result<bool, RecordErrors> {
        let claims_append_time = header.timestamp_type() == TimestampType::LogAppendTime;
        let check_time = ctx.timestamp_type == TimestampType::CreateTime;
        let earliest = ctx.now_ms.saturating_sub(ctx.timestamp_before_max_ms);
        let latest = ctx.now_ms.saturating_add(ctx.timestamp_after_max_ms);
        let mut records = raw.get(self.at..).unwrap_or_default();
        let upto = header.count.min(self.index.saturating_add(WALK_RECORDS));
        for index in self.index..upto {
            let record = RecordBody::read(&mut records)
                .map_err(|what| invalid(format!("record {index} of the batch: {what}")))?;
            self.in_order &= record.offset_delta == index;
            // As Kafka reads such a batch, whatever its records say.
            let timestamp = match claims_append_time {
                true => header.max_timestamp,
                false => header.base_timestamp.wrapping_add(record.timestamp_delta),
            };
            if ctx.compacted && record.key.is_none() {
                let message = || "no key, on a compacted topic".into();
                self.faults.add(index, RecordErrorCode::InvalidRecord, message);
            } else if claims_append_time && !check_time {
                let message = || "only the broker may set LogAppendTime".into();
                self.faults.add(index, RecordErrorCode::InvalidTimestamp, message);
            } else if check_time && (timestamp < earliest || timestamp > latest) && timestamp != NO_TIMESTAMP {
                self.faults.add(index, RecordErrorCode::InvalidTimestamp, || {
                    format!("timestamp {timestamp} is not within [{earliest}, {latest}]")
                });
            }
            if timestamp > self.max_timestamp {
                self.max_timestamp = timestamp;
                self.max_timestamp_delta = index;
            }
        }
        (self.index, self.at) = (upto, raw.len() - records.len());
        if upto < header.count {
            return Ok(false);
        }
        if !records.is_empty() {
            return Err(invalid("bytes after the last record of the batch"));
        }
        std::mem::take(&mut self.faults).result()?;
        Ok(true)
    }
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

/// Appends some of the records from `at` on to `out`, with offset deltas 0, 1, 2, ...; true at the end.
fn renumber(raw: &[u8], at: &mut usize, index: &mut i32, out: &mut Vec<u8>) -> Result<bool, RecordErrors> {
    if out.is_empty() {
        out.reserve(raw.len() + raw.len() / 8);
    }
    let mut rest = raw.get(*at..).unwrap_or_default();
    let before = out.len();
    for _ in 0..WALK_RECORDS {
        if rest.is_empty() || out.len() - before > RENUMBER_BYTES {
            break;
        }
        let record = RecordBody::read(&mut rest).map_err(|what| invalid(what.to_string()))?;
        RecordBody { offset_delta: *index, ..record }.write(out);
        *index += 1;
    }
    *at = raw.len() - rest.len();
    Ok(rest.is_empty())
}

#[cfg(test)]
mod tests;

//! Produce: check, order, propose. The batch is ordered when [`Partition::produce`] returns, or has its place behind others
//! that are judged before it, and is safe when its answer is.

use std::rc::Rc;

use bytes::Bytes;
use core_pinning::time::wall_ms;
use corelane_config::TopicConfig;
use corelane_protocol::ErrorCode;
use corelane_raft::{Proposal, ProposeError};
use corelane_storage::StorageError;
use corelane_storage::model::{Offset, ProducerId};
use corelane_storage::producer_state::{Checked, Coming, ProducerError, ProducerTable};
use corelane_storage::record::{
    BatchBuilder, BatchHeader, EndMarker, RecordErrors, Validated, Validation, ValidationContext,
    max_decompressed_bytes,
};

use super::config::{compression_target, timestamp_type};
use super::intake::Taken;
use super::transactions::{Membership, Ticket};
use super::{Partition, Proposed};
use crate::exit;
use crate::step::Step;

/// Who writes, and what that allows.
#[derive(Clone, Copy, Debug)]
pub struct ProduceContext {
    /// Produce request version: decides about zstd (v7).
    pub allow_zstd: bool,
}

/// The topic's settings and the broker's clock as a batch came, and what is known of its transaction.
pub(super) struct Arrival {
    pub(super) config: Rc<TopicConfig>,
    pub(super) now_ms: i64,
    /// Looked at when the batch gets its offsets: until then a marker may end the transaction that it speaks of.
    pub(super) ticket: Option<Ticket>,
}

/// A batch in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    pub base_offset: Offset,
    pub last_offset: Offset,
    /// The broker's clock, where the topic says LogAppendTime; else -1.
    pub append_time_ms: i64,
    pub log_start: Offset,
}

/// Why a batch is not in the log; nothing of it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProduceFailure {
    pub code: ErrorCode,
    pub message: Option<String>,
    /// `(index in the batch, why)`, Produce v8+.
    pub records: Vec<(i32, String)>,
    /// Kafka's log would not have been asked: the transaction coordinator refused the batch.
    pub before_log: bool,
}

impl From<ErrorCode> for ProduceFailure {
    fn from(code: ErrorCode) -> ProduceFailure {
        ProduceFailure { code, message: None, records: Vec::new(), before_log: false }
    }
}

impl From<RecordErrors> for ProduceFailure {
    fn from(errors: RecordErrors) -> ProduceFailure {
        ProduceFailure {
            message: Some(errors.message),
            records: errors.records.into_iter().map(|r| (r.index, r.message)).collect(),
            ..known_code(errors.code.kafka_code()).into()
        }
    }
}

impl From<ProducerError> for ProduceFailure {
    fn from(error: ProducerError) -> ProduceFailure {
        ProduceFailure { message: Some(error.to_string()), ..known_code(error.kafka_code()).into() }
    }
}

fn known_code(code: i16) -> ErrorCode {
    ErrorCode::from_code(code).unwrap_or(ErrorCode::UnknownServerError)
}

impl From<ProposeError> for ProduceFailure {
    fn from(error: ProposeError) -> ProduceFailure {
        match error {
            ProposeError::NotLeader { .. } | ProposeError::Discarded | ProposeError::Shutdown => {
                ErrorCode::NotLeaderOrFollower
            }
            // Nothing was written, and the client may try again.
            ProposeError::Busy | ProposeError::OutOfOrder { .. } => ErrorCode::NotEnoughReplicas,
            // What reached the disk is unknown: only the next start can find out, and loses nothing acknowledged.
            ProposeError::Storage(error @ StorageError::JournalFailed { .. }) => exit::now("journal", error),
            ProposeError::Storage(_) | ProposeError::Inconsistent(_) | ProposeError::Panicked(_) => {
                ErrorCode::KafkaStorageError
            }
        }
        .into()
    }
}

/// A batch that has its place: in the order of the partition, not yet safe.
pub struct Produced {
    pub appended: Appended,
    progress: Progress,
}

enum Progress {
    Proposed(Proposal, Step),
    /// The producer sent it before; its first copy may still be on the way.
    Duplicate(Rc<Partition>),
}

impl Produced {
    /// acks=1: the leader has it, flushed unless the topic asks for write caching.
    pub async fn flushed(self) -> Result<Appended, ProduceFailure> {
        match self.progress {
            Progress::Proposed(proposal, _) => drop(proposal.flushed().await?),
            Progress::Duplicate(partition) => partition.applied(self.appended.last_offset).await?,
        }
        Ok(self.appended)
    }

    /// acks=all: a quorum has flushed it and consumers may see it.
    pub async fn applied(self) -> Result<Appended, ProduceFailure> {
        match self.progress {
            Progress::Proposed(proposal, step) => {
                proposal.applied().await?;
                step.reached("durable");
            }
            Progress::Duplicate(partition) => partition.applied(self.appended.last_offset).await?,
        }
        Ok(self.appended)
    }
}

impl Partition {
    /// Checks a client's batch and gives it the next offsets: at once, or later where that takes long or another batch is before
    /// it. The order of calls is the order of the log.
    pub fn produce(self: &Rc<Self>, batch: &Bytes, context: ProduceContext, membership: Membership) -> Taken {
        if self.is_deleted() {
            return Taken::Now(Box::new(Err(ErrorCode::UnknownTopicOrPartition.into())));
        }
        let arrival = Arrival { config: self.config(), now_ms: wall_ms(), ticket: None };
        let begun = Validation::begin(batch, &self.validation(&arrival.config, arrival.now_ms, context));
        match (membership, BatchHeader::read(batch)) {
            (Membership::Known, _) | (_, Err(_)) => self.take_in(begun, arrival),
            (membership, Ok(header)) => self.wait_at_gate(&header, membership, begun, arrival),
        }
    }

    /// Gives a batch that has been judged the next offsets, if it is good.
    pub(super) fn order(
        self: &Rc<Self>,
        judged: Result<Validated, RecordErrors>,
        arrival: Arrival,
    ) -> Result<Produced, ProduceFailure> {
        let validated = judged?;
        if self.is_deleted() {
            return Err(ErrorCode::UnknownTopicOrPartition.into());
        }
        let Arrival { config, now_ms, ticket } = arrival;
        if let Checked::Duplicate { base, last, timestamp } = self.check_producer(&validated.header, ticket.as_ref())? {
            // Kafka: the timestamp of the first copy, whichever kind the topic has.
            let appended = Appended { append_time_ms: timestamp, ..self.appended(&config, base, last, timestamp) };
            return Ok(Produced { appended, progress: Progress::Duplicate(self.clone()) });
        }
        let base = self.next_offset.get();
        let header = validated.header;
        let last = base + i64::from(header.last_offset_delta);
        let proposal = self.propose(validated.into_batch(), header, None, base, last)?;
        self.settle(&header);
        let name = || header.is_transactional().then(|| format!("batch {}-{}", self.topic, self.index));
        let step = Step::of(name);
        step.reached("ordered");
        let appended = self.appended(&config, base, last, now_ms);
        Ok(Produced { appended, progress: Progress::Proposed(proposal, step) })
    }

    /// Orders a batch of the broker's own: built by it, so not checked.
    pub fn append(&self, batch: BatchBuilder) -> Result<Proposal, ProduceFailure> {
        let base = self.next_offset.get();
        let too_large = |error: String| ProduceFailure { message: Some(error), ..ErrorCode::MessageTooLarge.into() };
        let placed = batch.build_at(base, self.leader_epoch()).map_err(|error| too_large(error.to_string()))?;
        let header = BatchHeader::parse(&placed).map_err(|error| too_large(error.to_string()))?;
        let marker = EndMarker::of(&header, &placed);
        self.propose(placed, header, marker, base, header.last_offset())
    }

    fn check_producer(&self, header: &BatchHeader, ticket: Option<&Ticket>) -> Result<Checked, ProducerError> {
        if !header.has_producer() {
            return Ok(Checked::Fresh);
        }
        let (verification, unsettled) = self.verification(header, ticket);
        self.with_producer(header.producer_id, |table| table.check_verified(header, verification, unsettled))
    }

    /// The log knows its own producers; batches that are not in it yet count too.
    pub(super) fn with_producer<R>(&self, producer: ProducerId, look: impl FnOnce(&ProducerTable) -> R) -> R {
        let log_end = self.bounds().log_end;
        let proposed = self.proposed.borrow();
        let ahead = proposed.iter().filter(|p| p.last >= log_end && !p.proposal.is_failed());
        let ahead = ahead.map(|p| Coming { header: &p.header, base_offset: p.base, marker: p.marker });
        let table = self.log.producers().borrow();
        let behind = table.behind(producer, ahead);
        look(behind.as_ref().unwrap_or(&table))
    }

    fn propose(
        &self,
        batch: Bytes,
        header: BatchHeader,
        marker: Option<EndMarker>,
        base: Offset,
        last: Offset,
    ) -> Result<Proposal, ProduceFailure> {
        let size = batch.len();
        let proposal = self.group.propose(batch, base, last).inspect_err(|error| {
            // A proposal before this one failed: the log goes on where that one would have been.
            if let ProposeError::OutOfOrder { next } = error {
                self.next_offset.set(*next);
            }
        })?;
        self.next_offset.set(last.next());
        self.proposed.borrow_mut().push_back(Proposed { header, marker, base, last, size, proposal: proposal.clone() });
        Ok(proposal)
    }

    fn validation(&self, config: &TopicConfig, now_ms: i64, context: ProduceContext) -> ValidationContext {
        ValidationContext {
            now_ms,
            max_message_bytes: config.max_message_bytes.max(0) as usize,
            max_decompressed_bytes: max_decompressed_bytes(config.max_message_bytes.max(0) as usize),
            segment_bytes: config.segment_bytes.max(0) as usize,
            timestamp_type: timestamp_type(config),
            timestamp_before_max_ms: config.timestamp_before_max_ms,
            timestamp_after_max_ms: config.timestamp_after_max_ms,
            compacted: config.cleanup_policy.compact,
            compression: compression_target(config),
            allow_zstd: context.allow_zstd,
        }
    }

    fn appended(&self, config: &TopicConfig, base: Offset, last: Offset, append_time_ms: i64) -> Appended {
        let stamped = config.timestamp_type == corelane_config::TimestampType::LogAppendTime;
        Appended {
            base_offset: base,
            last_offset: last,
            append_time_ms: if stamped { append_time_ms } else { -1 },
            log_start: self.bounds().log_start,
        }
    }

    /// Waits until consumers may see `offset`.
    async fn applied(&self, offset: Offset) -> Result<(), ProduceFailure> {
        while self.bounds().high_watermark <= offset {
            if self.is_deleted() {
                return Err(ErrorCode::UnknownTopicOrPartition.into());
            }
            self.grown().await;
        }
        Ok(())
    }
}

//! What is seen of the record sets of a Produce request before its partitions are asked.

use bytes::Bytes;
use corelane_protocol::ErrorCode;
use corelane_protocol::messages::ProduceRequest;
use corelane_storage::model::{ProducerEpoch, ProducerId};
use corelane_storage::record::{BatchError, BatchHeader, Codec, First};

use crate::partition::ProduceFailure;

/// Whether a request writes in a transaction. Error: bytes that are no batch of any format, before one that does, are reason
/// enough to refuse all of the request (Kafka: `RequestUtils.hasTransactionalRecords`).
pub fn writes_in_transaction(request: &ProduceRequest) -> Result<bool, ProduceFailure> {
    let sets = request.topic_data.iter().flat_map(|topic| &topic.partition_data).filter_map(|p| p.records.as_ref());
    for records in sets {
        match First::of(records) {
            Ok(First::Batch { header, .. }) if header.is_transactional() => return Ok(true),
            Ok(_) => {}
            Err(error) => return Err(told(ErrorCode::CorruptMessage, &error)),
        }
    }
    Ok(false)
}

/// The one batch that a partition's records have to be. Errors: INVALID_RECORD, CORRUPT_MESSAGE, UNSUPPORTED_COMPRESSION_TYPE
/// (Kafka: `ProduceRequest.validateRecords`).
pub fn only_batch(records: &Bytes, allow_zstd: bool) -> Result<BatchHeader, ProduceFailure> {
    let corrupt = |error: BatchError| told(ErrorCode::CorruptMessage, &error);
    let invalid = |why: &str| Err(told(ErrorCode::InvalidRecord, &why));
    let (header, rest) = match First::of(records).map_err(corrupt)? {
        First::Batch { header, rest } => (header, rest),
        First::Older => return invalid("record format older than 2"),
        First::Nothing => return invalid("no whole record batch"),
    };
    // Kafka has to know the compression only where it may not be zstd.
    match header.compression() {
        Err(error) if !allow_zstd => return Err(told(ErrorCode::UnsupportedCompressionType, &error)),
        Ok(Codec::Zstd) if !allow_zstd => {
            return Err(told(ErrorCode::UnsupportedCompressionType, &"zstd needs version 7 of the produce request"));
        }
        _ => {}
    }
    match First::of(rest).map_err(corrupt)? {
        First::Nothing => Ok(header),
        First::Older | First::Batch { .. } => invalid("more than one record batch"),
    }
}

/// Whose transactions a request writes in: it has to be one producer's.
#[derive(Default)]
pub struct Writers {
    first: Option<(ProducerId, ProducerEpoch)>,
    several: bool,
}

impl Writers {
    pub fn add(&mut self, header: &BatchHeader) {
        if header.is_transactional() && header.has_producer() {
            let writer = (header.producer_id, header.producer_epoch);
            self.several |= *self.first.get_or_insert(writer) != writer;
        }
    }

    /// Why none of the request's batches is written (Kafka: `ReplicaManager.handleProduceAppend`).
    pub fn refusal(&self) -> Option<ProduceFailure> {
        let why = "transactional batches of several producers";
        self.several.then(|| told(ErrorCode::InvalidProducerIdMapping, &why))
    }
}

fn told(code: ErrorCode, why: &impl ToString) -> ProduceFailure {
    ProduceFailure { message: Some(why.to_string()), ..code.into() }
}

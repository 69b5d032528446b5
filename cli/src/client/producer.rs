//! Producing: batches by partition, one request a leader at a time, retried until it is known what became of them.

use super::error::ClientError;
use super::routing::Cluster;
use bytes::Bytes;
use corelane_protocol::messages::{
    InitProducerIdRequest, ProduceRequest, ProduceRequestPartitionProduceData, ProduceRequestTopicProduceData,
    ProduceResponsePartitionProduceResponse,
};
use corelane_protocol::{ErrorCode, Str, Uuid};
use corelane_storage::model::{ProducerEpoch, ProducerId, Sequence};
use corelane_storage::record::{BatchBuilder, Compression};
use std::collections::{BTreeMap, HashMap};

/// Kafka's `acks`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acks {
    None,
    Leader,
    All,
}

impl Acks {
    pub fn code(self) -> i16 {
        match self {
            Acks::None => 0,
            Acks::Leader => 1,
            Acks::All => -1,
        }
    }
}

#[derive(Clone, Debug)]
pub struct ProducerOptions {
    pub topic: String,
    pub acks: Acks,
    pub compression: Compression,
    /// No record twice and none out of order when requests are retried.
    pub idempotent: bool,
}

/// What became of one batch. Offsets are -1 without acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    pub partition: i32,
    pub records: usize,
    pub base_offset: i64,
}

/// A record to be produced. The key decides the partition unless one is given.
pub struct Outgoing<'a> {
    pub timestamp: i64,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    pub headers: &'a [(&'a str, Option<&'a [u8]>)],
}

/// Collects records in one open batch a partition, and sends all of them at once.
pub struct Producer {
    cluster: Cluster,
    options: ProducerOptions,
    topic_id: Uuid,
    partitions: usize,
    /// The identity of an idempotent producer.
    identity: Option<(i64, i16)>,
    sequences: HashMap<i32, i32>,
    open: BTreeMap<i32, BatchBuilder>,
}

struct Sealed {
    records: usize,
    bytes: Bytes,
}

impl Producer {
    pub fn new(mut cluster: Cluster, options: ProducerOptions) -> Result<Producer, ClientError> {
        let topic = cluster.topic_or_create(&options.topic)?;
        let identity = if options.idempotent { Some(init_producer(&mut cluster)?) } else { None };
        Ok(Producer {
            cluster,
            topic_id: topic.id,
            partitions: topic.partitions.len(),
            options,
            identity,
            sequences: HashMap::new(),
            open: BTreeMap::new(),
        })
    }

    pub fn partitions(&self) -> usize {
        self.partitions
    }

    /// Adds a record to the open batch of its partition; returns the batch's uncompressed size.
    pub fn push(&mut self, partition: i32, record: &Outgoing<'_>) -> usize {
        let (options, identity, sequences) = (&self.options, self.identity, &self.sequences);
        let batch = self.open.entry(partition).or_insert_with(|| {
            let batch = BatchBuilder::new(options.compression);
            match identity {
                Some((id, epoch)) => {
                    let base = sequences.get(&partition).copied().unwrap_or(0);
                    batch.producer(ProducerId(id), ProducerEpoch(epoch), Sequence(base))
                }
                None => batch,
            }
        });
        batch.push_with_headers(record.timestamp, record.key, record.value, record.headers);
        batch.size()
    }

    /// Uncompressed bytes of all open batches.
    pub fn pending(&self) -> usize {
        self.open.values().map(BatchBuilder::size).sum()
    }

    /// Sends every open batch and waits for the answers. On an error what is not acknowledged is gone.
    pub fn flush(&mut self) -> Result<Vec<Appended>, ClientError> {
        let mut waiting = BTreeMap::new();
        for (partition, batch) in std::mem::take(&mut self.open) {
            let records = batch.len();
            let bytes = batch.build().map_err(|e| ClientError::Invalid(format!("cannot build a batch: {e}")))?;
            if self.identity.is_some() {
                let next = self.sequences.entry(partition).or_default();
                // Sequences wrap from 2^31 - 1 to 0.
                *next = ((i64::from(*next) + records as i64) & 0x7fff_ffff) as i32;
            }
            waiting.insert(partition, Sealed { records, bytes });
        }
        let mut done = Vec::with_capacity(waiting.len());
        let (options, topic_id) = (&self.options, self.topic_id);
        self.cluster.retry(|cluster| send(cluster, options, topic_id, &mut waiting, &mut done))?;
        Ok(done)
    }
}

/// Asks for a producer id and its epoch.
pub fn init_producer(cluster: &mut Cluster) -> Result<(i64, i16), ClientError> {
    cluster.retry(|c| {
        let request = InitProducerIdRequest {
            transactional_id: None,
            transaction_timeout_ms: i32::MAX,
            producer_id: -1,
            producer_epoch: -1,
            ..Default::default()
        };
        let answer = c.any()?.call(&request)?;
        ClientError::check(|| "producer id".to_owned(), answer.error_code, None)?;
        Ok((answer.producer_id, answer.producer_epoch))
    })
}

/// One request to each leader of what still waits, then all answers.
fn send(
    cluster: &mut Cluster,
    options: &ProducerOptions,
    topic_id: Uuid,
    waiting: &mut BTreeMap<i32, Sealed>,
    done: &mut Vec<Appended>,
) -> Result<(), ClientError> {
    let partitions: Vec<i32> = waiting.keys().copied().collect();
    let leaders = cluster.by_leader(&options.topic, Some(&partitions))?;
    let mut sent = Vec::new();
    for (leader, partitions) in &leaders {
        let data = partitions.iter().filter_map(|p| {
            let records = Some(waiting.get(p)?.bytes.clone());
            Some(ProduceRequestPartitionProduceData { index: *p, records, ..Default::default() })
        });
        let request = request(options, topic_id, data.collect());
        let connection = cluster.node(*leader)?;
        let version = connection.version::<ProduceRequest>()?;
        connection.stay_known()?;
        let correlation = connection.send(&request, version)?;
        sent.push((*leader, version, correlation));
    }
    let mut failed = None;
    for (leader, version, correlation) in sent {
        if options.acks == Acks::None {
            continue;
        }
        let connection = cluster.node(leader)?;
        let body = connection.receive()?;
        let (id, answer) = connection.parse::<ProduceRequest>(body, version)?;
        if id != correlation {
            let what = format!("answer {id} to request {correlation}");
            return Err(ClientError::Broken { address: connection.address().to_owned(), what });
        }
        for p in answer.responses.iter().flat_map(|t| &t.partition_responses) {
            // A duplicate was acknowledged before: the first answer was lost.
            let known = [ErrorCode::None.code(), ErrorCode::DuplicateSequenceNumber.code()];
            if known.contains(&p.error_code) {
                if let Some(batch) = waiting.remove(&p.index) {
                    done.push(Appended { partition: p.index, records: batch.records, base_offset: p.base_offset });
                }
            } else {
                failed = Some(failure(options, p));
            }
        }
    }
    if options.acks == Acks::None {
        let all = std::mem::take(waiting);
        done.extend(all.into_iter().map(|(partition, b)| Appended { partition, records: b.records, base_offset: -1 }));
    }
    match failed {
        Some(e) => Err(e),
        None if waiting.is_empty() => Ok(()),
        None => Err(ClientError::Invalid("the answer to Produce leaves partitions out".to_owned())),
    }
}

fn request(
    options: &ProducerOptions,
    topic_id: Uuid,
    partition_data: Vec<ProduceRequestPartitionProduceData>,
) -> ProduceRequest {
    ProduceRequest {
        acks: options.acks.code(),
        timeout_ms: 30_000,
        topic_data: vec![ProduceRequestTopicProduceData {
            name: Str::from(options.topic.clone()),
            topic_id,
            partition_data,
            ..Default::default()
        }],
        ..Default::default()
    }
}

fn failure(options: &ProducerOptions, p: &ProduceResponsePartitionProduceResponse) -> ClientError {
    let details = p.record_errors.iter().take(3).map(|r| {
        let text = r.batch_index_error_message.as_deref().unwrap_or("refused");
        format!("record {}: {text}", r.batch_index)
    });
    let text: Vec<String> = p.error_message.iter().map(ToString::to_string).chain(details).collect();
    ClientError::Server {
        what: format!("{}-{}", options.topic, p.index),
        code: p.error_code,
        message: (!text.is_empty()).then(|| text.join("; ")),
    }
}

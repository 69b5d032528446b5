//! A raw connection: typed calls where a test is about semantics, bytes where it is about frames.

use bytes::Bytes;
use corelane_protocol::frame;
use corelane_protocol::messages::{
    FetchRequest, FetchRequestFetchPartition, FetchRequestFetchTopic, FetchResponsePartitionData,
    InitProducerIdRequest, ListOffsetsRequest, ListOffsetsRequestListOffsetsPartition,
    ListOffsetsRequestListOffsetsTopic, MetadataRequest, MetadataRequestTopic, MetadataResponse, ProduceRequest,
    ProduceRequestPartitionProduceData, ProduceRequestTopicProduceData, ProduceResponsePartitionProduceResponse,
};
use corelane_protocol::{Decoder, Message, Request, Str};
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use crate::tls::Stream;
use rustls::ClientConfig;

/// No connection, and no answer to any request, takes longer.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The last versions that name topics instead of ids.
const PRODUCE: i16 = 12;
const FETCH: i16 = 12;

/// One TCP connection to one broker.
pub struct Connection {
    stream: Stream,
    correlation_id: i32,
    client_id: Str,
}

fn invalid(why: impl ToString) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.to_string())
}

impl Connection {
    pub fn open(address: &str) -> io::Result<Connection> {
        let first = address.split(',').next().unwrap_or(address);
        let mut last = invalid("no address");
        for address in first.to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, TIMEOUT) {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    stream.set_read_timeout(Some(TIMEOUT))?;
                    stream.set_write_timeout(Some(TIMEOUT))?;
                    let stream = Stream::Plain(stream);
                    return Ok(Connection { stream, correlation_id: 0, client_id: Str::from_static("system-test") });
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// With TLS, to a broker on this machine.
    pub fn open_tls(address: &str, config: &Arc<ClientConfig>) -> io::Result<Connection> {
        let Connection { stream, correlation_id, client_id } = Connection::open(address)?;
        let Stream::Plain(tcp) = stream else { return Err(invalid("not a plain connection")) };
        Ok(Connection { stream: Stream::tls(tcp, config)?, correlation_id, client_id })
    }

    /// The bytes under it.
    pub fn stream(&mut self) -> &mut Stream {
        &mut self.stream
    }

    /// Names itself so from now on.
    pub fn set_client_id(&mut self, id: impl Into<String>) {
        self.client_id = Str::from(id.into());
    }

    pub fn set_read_timeout(&self, limit: Duration) {
        self.stream.tcp().set_read_timeout(Some(limit)).expect("a timeout");
    }

    /// Sends a request and returns its correlation id.
    pub fn send<R: Request>(&mut self, version: i16, request: &R) -> io::Result<i32> {
        self.correlation_id += 1;
        let slices = frame::request(version, self.correlation_id, Some(self.client_id.clone()), request)
            .map_err(|e| invalid(format!("{}: {e}", R::NAME)))?;
        for slice in slices {
            self.stream.write_all(&slice)?;
        }
        self.stream.flush()?;
        Ok(self.correlation_id)
    }

    /// Reads the answer to the request with this correlation id.
    pub fn receive<R: Request>(&mut self, version: i16, correlation_id: i32) -> io::Result<R::Response> {
        let mut d = Decoder::new(self.read_frame()?);
        let header = frame::decode_response_header(&mut d, R::API_KEY, version).map_err(invalid)?;
        if header.correlation_id != correlation_id {
            return Err(invalid(format!("answer {} to request {correlation_id}", header.correlation_id)));
        }
        let response = R::Response::decode(&mut d, version).map_err(|e| invalid(format!("{}: {e}", R::NAME)))?;
        if d.remaining() > 0 {
            return Err(invalid(format!("{} bytes behind the answer to {} v{version}", d.remaining(), R::NAME)));
        }
        Ok(response)
    }

    pub fn try_call<R: Request>(&mut self, version: i16, request: &R) -> io::Result<R::Response> {
        let id = self.send(version, request)?;
        self.receive::<R>(version, id)
    }

    /// A request and its answer; fails the test if there is none.
    #[track_caller]
    pub fn call<R: Request>(&mut self, version: i16, request: &R) -> R::Response {
        self.try_call(version, request).unwrap_or_else(|e| panic!("{} v{version}: {e}", R::NAME))
    }

    /// Closes the way to the broker and leaves the way back open.
    pub fn end_of_requests(&self) {
        self.stream.tcp().shutdown(std::net::Shutdown::Write).expect("shutdown");
    }

    /// Sends bytes as they are.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// One frame without its length.
    pub fn read_frame(&mut self) -> io::Result<Bytes> {
        let mut size = [0; 4];
        self.stream.read_exact(&mut size)?;
        let size = usize::try_from(i32::from_be_bytes(size)).map_err(|_| invalid("negative length of an answer"))?;
        let mut frame = vec![0; size];
        self.stream.read_exact(&mut frame)?;
        Ok(Bytes::from(frame))
    }

    /// What a broker does with a broken request.
    pub fn fate(&mut self) -> Fate {
        match self.read_frame() {
            Ok(frame) => Fate::Answered(frame),
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => Fate::Silent,
            Err(_) => Fate::Closed,
        }
    }

    pub fn metadata(&mut self, topic: &str) -> io::Result<MetadataResponse> {
        let topic = MetadataRequestTopic { name: Some(Str::from(topic.to_owned())), ..Default::default() };
        let request =
            MetadataRequest { topics: Some(vec![topic]), allow_auto_topic_creation: false, ..Default::default() };
        self.try_call(12, &request)
    }

    /// Writes one batch (acks=all) and returns the answer for its partition.
    pub fn produce(
        &mut self,
        topic: &str,
        partition: i32,
        batch: impl Into<Bytes>,
    ) -> io::Result<ProduceResponsePartitionProduceResponse> {
        let request = produce_request(topic, vec![(partition, batch.into())], -1);
        let mut response = self.try_call(PRODUCE, &request)?;
        let topic = response.responses.pop().ok_or_else(|| invalid("an answer without topics"))?;
        topic.partition_responses.into_iter().next().ok_or_else(|| invalid("an answer without partitions"))
    }

    /// Reads from one partition without waiting.
    pub fn fetch(&mut self, topic: &str, partition: i32, offset: i64) -> io::Result<FetchResponsePartitionData> {
        let request = FetchRequest {
            max_wait_ms: 0,
            min_bytes: 0,
            max_bytes: 50 << 20,
            topics: vec![FetchRequestFetchTopic {
                topic: Str::from(topic.to_owned()),
                partitions: vec![FetchRequestFetchPartition {
                    partition,
                    fetch_offset: offset,
                    partition_max_bytes: 8 << 20,
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        };
        let mut response = self.try_call(FETCH, &request)?;
        if response.error_code != 0 {
            return Err(invalid(format!("fetch: error {}", response.error_code)));
        }
        let topic = response.responses.pop().ok_or_else(|| invalid("an answer without topics"))?;
        topic.partitions.into_iter().next().ok_or_else(|| invalid("an answer without partitions"))
    }

    /// Offset for a timestamp (-1 latest, -2 earliest), and the error code.
    pub fn list_offset(&mut self, topic: &str, partition: i32, timestamp: i64) -> io::Result<(i64, i16)> {
        self.offset_for(topic, partition, timestamp, 0)
    }

    /// Latest offset: of what is committed (1), of all (0).
    pub fn latest_offset(&mut self, topic: &str, partition: i32, isolation_level: i8) -> i64 {
        self.offset_for(topic, partition, -1, isolation_level).expect("an answer").0
    }

    fn offset_for(
        &mut self,
        topic: &str,
        partition: i32,
        timestamp: i64,
        isolation_level: i8,
    ) -> io::Result<(i64, i16)> {
        let request = ListOffsetsRequest {
            replica_id: -1,
            isolation_level,
            topics: vec![ListOffsetsRequestListOffsetsTopic {
                name: Str::from(topic.to_owned()),
                partitions: vec![ListOffsetsRequestListOffsetsPartition {
                    partition_index: partition,
                    timestamp,
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        };
        let response = self.try_call(7, &request)?;
        let found = response.topics.first().and_then(|t| t.partitions.first());
        let found = found.ok_or_else(|| invalid("an answer without partitions"))?;
        Ok((found.offset, found.error_code))
    }

    /// A new producer id and epoch for an idempotent producer.
    pub fn init_producer_id(&mut self) -> io::Result<(i64, i16)> {
        let request = InitProducerIdRequest {
            transactional_id: None,
            transaction_timeout_ms: i32::MAX,
            ..InitProducerIdRequest::default()
        };
        let response = self.try_call(4, &request)?;
        if response.error_code != 0 {
            return Err(invalid(format!("InitProducerId: error {}", response.error_code)));
        }
        Ok((response.producer_id, response.producer_epoch))
    }
}

/// What became of a request.
#[derive(Debug)]
pub enum Fate {
    Answered(Bytes),
    Closed,
    Silent,
}

/// A Produce request for one topic.
pub fn produce_request(topic: &str, batches: Vec<(i32, Bytes)>, acks: i16) -> ProduceRequest {
    let partition_data = batches
        .into_iter()
        .map(|(index, records)| ProduceRequestPartitionProduceData {
            index,
            records: Some(records),
            ..ProduceRequestPartitionProduceData::default()
        })
        .collect();
    ProduceRequest {
        acks,
        timeout_ms: 30_000,
        topic_data: vec![ProduceRequestTopicProduceData {
            name: Str::from(topic.to_owned()),
            partition_data,
            ..ProduceRequestTopicProduceData::default()
        }],
        ..ProduceRequest::default()
    }
}

/// Address of the leader of a partition, as Metadata tells it.
pub fn leader(bootstrap: &str, topic: &str, partition: i32) -> io::Result<String> {
    let metadata = Connection::open(bootstrap)?.metadata(topic)?;
    let found = metadata.topics.first().and_then(|t| t.partitions.iter().find(|p| p.partition_index == partition));
    let found = found.ok_or_else(|| invalid(format!("{topic}-{partition} is not known")))?;
    let broker = metadata.brokers.iter().find(|b| b.node_id == found.leader_id);
    let broker = broker.ok_or_else(|| invalid(format!("{topic}-{partition} has no leader")))?;
    Ok(format!("{}:{}", broker.host, broker.port))
}

/// A connection to the leader of a partition.
pub fn to_leader(bootstrap: &str, topic: &str, partition: i32) -> io::Result<Connection> {
    Connection::open(&leader(bootstrap, topic, partition)?)
}

//! Brokers, topics and their leaders.

use super::connection::{Connection, Dial};
use super::error::ClientError;
use corelane_protocol::messages::{
    FindCoordinatorRequest, ListOffsetsRequest, ListOffsetsRequestListOffsetsPartition,
    ListOffsetsRequestListOffsetsTopic, MetadataRequest, MetadataRequestTopic, MetadataResponse,
};
use corelane_protocol::{ErrorCode, Str, Uuid};
use std::collections::{BTreeMap, HashMap};
use std::thread;
use std::time::{Duration, Instant};

/// One partition as Metadata tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    pub index: i32,
    /// `None`: no leader at present.
    pub leader: Option<i32>,
    pub leader_epoch: i32,
    pub replicas: Vec<i32>,
    pub in_sync: Vec<i32>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    pub name: String,
    pub id: Uuid,
    pub is_internal: bool,
    /// Ordered by index.
    pub partitions: Vec<Partition>,
}

/// A cluster, reached through any of its brokers.
pub struct Cluster {
    bootstrap: Vec<String>,
    pub how: Dial,
    /// How long retriable errors are retried.
    pub patience: Duration,
    nodes: BTreeMap<i32, String>,
    open: HashMap<String, Connection>,
    topics: HashMap<String, Topic>,
}

impl Cluster {
    /// `bootstrap`: `HOST:PORT`, or several with commas. At least one must answer.
    pub fn connect(bootstrap: &str, how: Dial) -> Result<Cluster, ClientError> {
        let bootstrap: Vec<String> =
            bootstrap.split(',').map(str::trim).filter(|s| !s.is_empty()).map(str::to_owned).collect();
        let mut cluster = Cluster {
            bootstrap,
            patience: how.timeouts.answer,
            how,
            nodes: BTreeMap::new(),
            open: HashMap::new(),
            topics: HashMap::new(),
        };
        cluster.any()?;
        Ok(cluster)
    }

    /// A connection to any broker.
    pub fn any(&mut self) -> Result<&mut Connection, ClientError> {
        let mut last = ClientError::Invalid("no bootstrap address is given".to_owned());
        let known: Vec<String> = self.bootstrap.iter().chain(self.nodes.values()).cloned().collect();
        for address in known {
            match self.reach(&address) {
                Ok(()) => return self.opened(&address),
                Err(e) => last = e,
            }
        }
        Err(last)
    }

    /// A connection to the broker with this id.
    pub fn node(&mut self, id: i32) -> Result<&mut Connection, ClientError> {
        let address = self.address(id)?;
        self.reach(&address)?;
        self.opened(&address)
    }

    /// A connection of the caller's own to the broker with this id.
    pub fn dial(&self, id: i32) -> Result<Connection, ClientError> {
        Connection::open(&self.address(id)?, &self.how)
    }

    pub fn address(&self, id: i32) -> Result<String, ClientError> {
        let unknown = || ClientError::server(format!("broker {id}"), ErrorCode::BrokerNotAvailable.code());
        self.nodes.get(&id).cloned().ok_or_else(unknown)
    }

    /// Opens the connection unless it is open.
    fn reach(&mut self, address: &str) -> Result<(), ClientError> {
        if !self.open.contains_key(address) {
            let connection = Connection::open(address, &self.how)?;
            self.open.insert(address.to_owned(), connection);
        }
        Ok(())
    }

    fn opened(&mut self, address: &str) -> Result<&mut Connection, ClientError> {
        let gone = || ClientError::Invalid(format!("no connection to {address}"));
        self.open.get_mut(address).ok_or_else(gone)
    }

    /// Forgets connections and topics, so that the next use looks again.
    pub fn forget(&mut self) {
        self.open.clear();
        self.topics.clear();
    }

    pub fn forget_topics(&mut self) {
        self.topics.clear();
    }

    /// The ids of the brokers known from the last Metadata.
    pub fn nodes(&self) -> Vec<i32> {
        self.nodes.keys().copied().collect()
    }

    /// Runs `step` until it succeeds, fails for good, or patience ends. A broker that is gone may come back, or another one may
    /// take its place: commands that find nobody at all have failed in [`Cluster::connect`] before.
    pub fn retry<T>(&mut self, mut step: impl FnMut(&mut Cluster) -> Result<T, ClientError>) -> Result<T, ClientError> {
        let until = Instant::now() + self.patience;
        let mut pause = Duration::from_millis(20);
        loop {
            match step(self) {
                Err(e) if e.is_retriable() && Instant::now() + pause < until => {
                    self.forget();
                    thread::sleep(pause);
                    pause = (pause * 2).min(Duration::from_millis(500));
                }
                done => return done,
            }
        }
    }

    /// Asks for topics (`None`: all) and remembers brokers.
    pub fn metadata(&mut self, topics: Option<&[&str]>, create: bool) -> Result<MetadataResponse, ClientError> {
        let topics = topics.map(|names| {
            let one = |n: &&str| MetadataRequestTopic { name: Some(Str::from((*n).to_owned())), ..Default::default() };
            names.iter().map(one).collect()
        });
        let request = MetadataRequest { topics, allow_auto_topic_creation: create, ..Default::default() };
        let answer = self.any()?.call(&request)?;
        self.nodes = answer.brokers.iter().map(|b| (b.node_id, join(&b.host, b.port))).collect();
        Ok(answer)
    }

    /// A topic that exists; asked for once, until [`Cluster::forget`].
    pub fn topic(&mut self, name: &str) -> Result<Topic, ClientError> {
        if let Some(t) = self.topics.get(name) {
            return Ok(t.clone());
        }
        self.look_up(name, false)
    }

    /// As [`Cluster::topic`], but creates the topic where the broker does so by itself.
    pub fn topic_or_create(&mut self, name: &str) -> Result<Topic, ClientError> {
        // Kafka answers that there is no such topic while it creates it.
        const CREATION: Duration = Duration::from_secs(2);
        let until = Instant::now() + CREATION;
        loop {
            match self.retry(|c| c.look_up(name, true)) {
                Err(ClientError::NoSuchTopic(_)) if Instant::now() < until => thread::sleep(Duration::from_millis(50)),
                other => return other,
            }
        }
    }

    fn look_up(&mut self, name: &str, create: bool) -> Result<Topic, ClientError> {
        let answer = self.metadata(Some(&[name]), create)?;
        let found = answer.topics.iter().find(|t| t.name.as_ref().is_some_and(|n| n == name));
        let found = found.ok_or_else(|| ClientError::NoSuchTopic(name.to_owned()))?;
        if found.error_code == ErrorCode::UnknownTopicOrPartition.code() {
            return Err(ClientError::NoSuchTopic(name.to_owned()));
        }
        ClientError::check(|| format!("topic {name}"), found.error_code, None)?;
        let mut partitions: Vec<Partition> = found
            .partitions
            .iter()
            .map(|p| Partition {
                index: p.partition_index,
                leader: (p.leader_id >= 0).then_some(p.leader_id),
                leader_epoch: p.leader_epoch,
                replicas: p.replica_nodes.clone(),
                in_sync: p.isr_nodes.clone(),
            })
            .collect();
        partitions.sort_by_key(|p| p.index);
        let topic = Topic { name: name.to_owned(), id: found.topic_id, is_internal: found.is_internal, partitions };
        self.topics.insert(name.to_owned(), topic.clone());
        Ok(topic)
    }

    /// The partitions wanted (`None`: all) by the broker that leads them.
    pub fn by_leader(&mut self, name: &str, wanted: Option<&[i32]>) -> Result<BTreeMap<i32, Vec<i32>>, ClientError> {
        let topic = self.topic(name)?;
        if let Some(p) = wanted.and_then(|w| w.iter().find(|p| !topic.partitions.iter().any(|t| t.index == **p))) {
            return Err(ClientError::NoSuchPartition { topic: name.to_owned(), partition: *p });
        }
        let mut leaders: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
        for p in topic.partitions.iter().filter(|p| wanted.is_none_or(|w| w.contains(&p.index))) {
            let none = || ClientError::server(format!("{name}-{}", p.index), ErrorCode::LeaderNotAvailable.code());
            leaders.entry(p.leader.ok_or_else(none)?).or_default().push(p.index);
        }
        Ok(leaders)
    }

    /// The offset and timestamp that each partition has for `timestamp` (-1 latest, -2 earliest, -3 greatest timestamp, or ms);
    /// -1 where there is none.
    pub fn offsets(
        &mut self,
        topic: &str,
        partitions: Option<&[i32]>,
        timestamp: i64,
    ) -> Result<BTreeMap<i32, (i64, i64)>, ClientError> {
        self.retry(|c| {
            let mut found = BTreeMap::new();
            for (leader, partitions) in c.by_leader(topic, partitions)? {
                let ask = |p: &i32| ListOffsetsRequestListOffsetsPartition {
                    partition_index: *p,
                    timestamp,
                    ..Default::default()
                };
                let request = ListOffsetsRequest {
                    replica_id: -1,
                    topics: vec![ListOffsetsRequestListOffsetsTopic {
                        name: Str::from(topic.to_owned()),
                        partitions: partitions.iter().map(ask).collect(),
                        ..Default::default()
                    }],
                    timeout_ms: 10_000,
                    ..Default::default()
                };
                let answer = c.node(leader)?.call(&request)?;
                for p in answer.topics.iter().flat_map(|t| &t.partitions) {
                    ClientError::check(|| format!("offsets of {topic}-{}", p.partition_index), p.error_code, None)?;
                    found.insert(p.partition_index, (p.offset, p.timestamp));
                }
            }
            Ok(found)
        })
    }

    /// The broker that coordinates a group (`key_type` 0).
    pub fn coordinator(&mut self, key: &str, key_type: i8) -> Result<i32, ClientError> {
        self.retry(|c| {
            let broker = c.any()?;
            let key_text = Str::from(key.to_owned());
            let batched = broker.version::<FindCoordinatorRequest>()? >= 4;
            let request = FindCoordinatorRequest {
                key: if batched { Str::EMPTY } else { key_text.clone() },
                key_type,
                coordinator_keys: if batched { vec![key_text] } else { Vec::new() },
                ..Default::default()
            };
            let answer = broker.call(&request)?;
            let what = || format!("coordinator of {key}");
            let (id, host, port) = match answer.coordinators.first() {
                Some(found) => {
                    ClientError::check(what, found.error_code, found.error_message.as_deref())?;
                    (found.node_id, &found.host, found.port)
                }
                None => {
                    ClientError::check(what, answer.error_code, answer.error_message.as_deref())?;
                    (answer.node_id, &answer.host, answer.port)
                }
            };
            c.nodes.insert(id, join(host, port));
            Ok(id)
        })
    }
}

/// An address that connects also when the host is an IPv6 address.
fn join(host: &str, port: i32) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

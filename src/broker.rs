//! `corelane start`: the control thread. Takes the data directory, starts a shard on each core, says when they serve, and
//! stops them in step.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::{Arc, Barrier, mpsc};
use std::time::Instant;

use core_pinning::stall::{Detector, StallOptions};
use core_pinning::{ShardId, ShardPool, ShardPoolOptions, topology};
use corelane_cli::{Banner, Ready, ReadyListener};
use corelane_config::scram_users::ScramUser;
use corelane_config::units::HostPort;
use corelane_config::{Advertise, BrokerConfig};
use corelane_protocol::Uuid;
use corelane_sasl::Mechanism;
use corelane_sasl::scram::Credential;
use corelane_storage::model::NodeId;
use corelane_storage::{DataDir, DataDirError, NewDirectory, data_dir_cluster_id, lock_data_dir};

use crate::controller::scram::NewUser;
use crate::kafka::limits::ConnectionLimits;
use crate::node::{Listener, Node};
use crate::predecessor;
use crate::router::ShardMessage;
use crate::shard::{self, Event, Start};
use crate::signals;

/// Why the broker did not start, or did not end well. `Display` says what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    #[error("{0}")]
    DataDir(#[from] DataDirError),
    #[error("cannot listen on {address}: {source}; {}", advice(source))]
    Listen { address: SocketAddr, source: std::io::Error },
    #[error("cannot start: {0}")]
    Start(String),
    #[error("a shard failed: {0}")]
    Shard(String),
    #[error("the data directory is damaged: {0}")]
    Damaged(String),
}

fn advice(error: &std::io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::AddrInUse => "another broker may be running there (--listen takes another address)",
        ErrorKind::AddrNotAvailable => "no network interface of this machine has that address: see --listen",
        ErrorKind::PermissionDenied => "ports below 1024 may need a privilege: see --listen",
        _ => "see --listen",
    }
}

impl BrokerError {
    /// What is held may be free in a moment: its holder is on its way out.
    fn may_pass(&self) -> bool {
        match self {
            BrokerError::DataDir(DataDirError::InUse { holder, .. }) => !holder.is_some_and(predecessor::lives),
            BrokerError::Listen { address, source } => {
                source.kind() == ErrorKind::AddrInUse && !predecessor::port_is_served(*address)
            }
            BrokerError::DataDir(_) | BrokerError::Start(_) | BrokerError::Shard(_) | BrokerError::Damaged(_) => false,
        }
    }
}

/// Runs until SIGTERM or SIGINT.
pub fn run(config: BrokerConfig, banner: Banner) -> Result<(), BrokerError> {
    let begun = Instant::now();
    let cores = cores(&config)?;
    let cluster_id = data_dir_cluster_id(&config.data_dir)?.unwrap_or_else(new_cluster_id);
    let id = NodeId(config.node_id.max(0) as u64);
    let new = if config.create_data_dir { NewDirectory::Allowed } else { NewDirectory::Refused };
    let lock = || Ok(lock_data_dir(&config.data_dir, id, &cluster_id, new)?);
    let dir = predecessor::outlast(lock, BrokerError::may_pass)?;
    let node = Arc::new(node(&config, cores.len(), cluster_id)?);
    for shard in (0..cores.len() as u16).map(ShardId) {
        predecessor::outlast(|| probe(&node, shard), BrokerError::may_pass)?;
    }
    corelane_raft::prepare();
    let (events, heard) = mpsc::channel();
    signals::watch(events.clone()).map_err(|e| BrokerError::Start(format!("signal handlers: {e}")))?;
    let scram_users = scram_users(&config)?;
    let config = Arc::new(config);
    let start = Start {
        node: node.clone(),
        config: config.clone(),
        data_dir: dir.path().to_owned(),
        in_step: Arc::new(Barrier::new(cores.len())),
        refused: Arc::default(),
        connection_limits: ConnectionLimits::new(&config),
        scram_users,
        events,
    };
    let options =
        ShardPoolOptions { cores: cores.clone(), pin: true, name: "corelane".to_owned(), ..Default::default() };
    let pool = ShardPool::start(options, move |context| shard::run(context, start.clone()))
        .map_err(|e| BrokerError::Start(e.to_string()))?;
    let stalls = Detector::start(StallOptions::default(), |stall| {
        let ms = stall.running_for.as_millis() as u64;
        tracing::warn!(shard = %stall.shard, task = stall.task, ms, backtrace = stall.backtrace, "a task holds its core");
    });
    let _stalls = stalls.map_err(|e| BrokerError::Start(format!("stall detector: {e}")))?;
    let mut progress = Progress { heard, shards: cores.len(), stop_asked: false, topics: 0, partitions: 0 };
    let tell = |message: fn() -> ShardMessage| {
        (0..cores.len() as u16).for_each(|shard| pool.inbox(ShardId(shard)).post(message()));
    };
    progress.all(Step::Serving)?;
    announce(banner, &node, &config, &cores, &progress, begun);
    progress.until_stop()?;
    tracing::info!("stopping");
    tell(|| ShardMessage::Drain);
    progress.all(Step::Drained)?;
    tell(|| ShardMessage::Close);
    progress.all(Step::Closed)?;
    pool.join().map_err(|panic| BrokerError::Shard(panic.to_string()))?;
    drop::<DataDir>(dir);
    tracing::info!("stopped cleanly");
    Ok(())
}

/// Kafka's form of it: a random id, in 22 characters.
fn new_cluster_id() -> String {
    Uuid(rand::random()).to_string()
}

fn cores(config: &BrokerConfig) -> Result<Vec<usize>, BrokerError> {
    let allowed = topology::allowed_cores().map_err(|e| BrokerError::Start(e.to_string()))?;
    let Some(asked) = &config.cores else { return Ok(allowed) };
    match asked.iter().find(|core| !allowed.contains(core)) {
        None => Ok(asked.clone()),
        Some(core) => Err(BrokerError::Start(format!(
            "core {core} is not one this process may run on ({allowed:?}): see --cores and taskset"
        ))),
    }
}

fn node(config: &BrokerConfig, shards: usize, cluster_id: String) -> Result<Node, BrokerError> {
    let listeners = config.listeners.iter().map(Listener::resolve).collect::<Result<_, String>>();
    Ok(Node {
        id: config.node_id,
        cluster_id,
        advertise: config.advertise,
        shards,
        listeners: listeners.map_err(BrokerError::Start)?,
        rack: config.rack.clone(),
    })
}

/// What is known of the users that scram.users.file names, instead of their passwords.
fn scram_users(config: &BrokerConfig) -> Result<Arc<[NewUser]>, BrokerError> {
    let Some(path) = &config.scram_users_file else { return Ok(Arc::default()) };
    let users = corelane_config::scram_users::read(path).map_err(BrokerError::Start)?;
    let of_user = |user: ScramUser| {
        let hashes = user.mechanisms.into_iter().filter_map(|name| match Mechanism::named(name)? {
            Mechanism::Scram(hash) => Some(hash),
            Mechanism::Plain | Mechanism::OAuthBearer => None,
        });
        let credential = move |hash| {
            let salt: [u8; 26] = rand::random();
            let credential = Credential::of_password(hash, user.password.reveal(), salt.to_vec(), user.iterations);
            NewUser { hash, name: user.name.clone(), credential }
        };
        hashes.map(credential).collect::<Vec<_>>()
    };
    Ok(users.into_iter().flat_map(of_user).collect())
}

/// Listeners of node mode share their port, which would let a second broker share it too: so ask for it alone first.
fn probe(node: &Node, shard: ShardId) -> Result<(), BrokerError> {
    if shard.0 > 0 && node.advertise == Advertise::Node {
        return Ok(());
    }
    node.listeners.iter().map(|listener| node.listen_address(listener, shard)).try_for_each(|address| {
        std::net::TcpListener::bind(address).map(drop).map_err(|source| BrokerError::Listen { address, source })
    })
}

/// How the control thread follows the shards, and is told to stop.
struct Progress {
    heard: mpsc::Receiver<Event>,
    shards: usize,
    stop_asked: bool,
    topics: usize,
    partitions: usize,
}

impl Progress {
    /// Waits until every shard has come to `step`.
    fn all(&mut self, step: Step) -> Result<(), BrokerError> {
        let mut missing = self.shards;
        while missing > 0 {
            missing -= usize::from(self.next()? == Some(step));
        }
        Ok(())
    }

    fn until_stop(&mut self) -> Result<(), BrokerError> {
        while !self.stop_asked {
            self.next()?;
        }
        Ok(())
    }

    fn next(&mut self) -> Result<Option<Step>, BrokerError> {
        match self.heard.recv() {
            Ok(Event::Serving { topics, partitions }) => {
                self.topics = topics;
                self.partitions += partitions;
                Ok(Some(Step::Serving))
            }
            Ok(Event::Drained) => Ok(Some(Step::Drained)),
            Ok(Event::Closed) => Ok(Some(Step::Closed)),
            Ok(Event::StopAsked) => {
                self.stop_asked = true;
                Ok(None)
            }
            Ok(Event::Failed(reason)) => Err(BrokerError::Shard(reason)),
            Ok(Event::Damaged(reason)) => Err(BrokerError::Damaged(reason)),
            Err(_) => Err(BrokerError::Shard("all shards ended by themselves".to_owned())),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Serving,
    Drained,
    Closed,
}

fn announce(banner: Banner, node: &Node, config: &BrokerConfig, cores: &[usize], progress: &Progress, begun: Instant) {
    let ports = node.broker_ids().count() as u16;
    let listener = |l: &Listener| ReadyListener {
        name: l.name.clone(),
        protocol: l.protocol,
        listening: (0..ports).map(|shard| node.listen_address(l, ShardId(shard))).collect(),
        advertised: node.brokers(l).into_iter().map(|b| HostPort { host: b.host, port: b.port }).collect(),
    };
    let listeners: Vec<ReadyListener> = node.listeners.iter().map(listener).collect();
    let took = begun.elapsed();
    let listening: Vec<&SocketAddr> = listeners.iter().flat_map(|l| &l.listening).collect();
    tracing::info!(?listening, ?cores, ready_ms = took.as_millis() as u64, partitions = progress.partitions, "ready");
    banner.print(&Ready {
        config,
        listeners: &listeners,
        cores,
        cluster_id: &node.cluster_id,
        topics: progress.topics,
        partitions: progress.partitions,
        took,
    });
}

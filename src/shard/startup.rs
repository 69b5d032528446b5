//! How a shard starts and stops.
//!
//! Start, with all shards in step: find the journals (of whatever shards the last run had), replay them; open the store; shard 0
//! rebuilds the metadata and publishes it, on which every shard opens its partitions; coordinators load; listen.
//! Stop: no new connections, open ones end, groups stop, everything is written back, the store is marked clean.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier, mpsc};

use core_pinning::budget::Budget;
use core_pinning::net::{self, NetOptions};
use core_pinning::sync::Signal;
use core_pinning::task::{Queue, spawn};
use core_pinning::{ShardContext, ShardId};
use corelane_config::Advertise;
use corelane_raft::{Groups, GroupsOptions};
use corelane_storage::{RecoveryReport, Reserve, StorageError, Store, StoreOptions, find_journals};

use super::{PartitionTable, Shard};
use crate::audit_log::AuditLog;
use crate::controller::requests::{CONTROLLER_SHARD, ask};
use crate::controller::scram::{FirstUsers, NewUser};
use crate::controller::tokens::sweep_in_background;
use crate::controller::{Controller, publish};
use crate::coordinator::Coordinators;
use crate::exit;
use crate::kafka::answer_memory::AnswerBudget;
use crate::kafka::fairness::Usages;
use crate::kafka::fetch_session::FetchSessions;
use crate::kafka::limits::ConnectionLimits;
use crate::kafka::listeners::OpenListeners;
use crate::kafka::open_connections::OpenConnections;
use crate::kafka::request_memory::{RequestMemory, RequestParts};
use crate::kafka::server::Server;
use crate::kafka::share::{SharePartitions, ShareSessionHomes, ShareSessions};
use crate::kafka::telemetry::Telemetry;
use crate::node::Node;
use crate::producer_ids::ProducerIds;
use crate::quota::Quotas;
use crate::router::{Router, ShardCall, ShardMessage};
use crate::security::audit::Audit;
use crate::settings::Settings;
use crate::space::{self, Keeper, Space};
use crate::{compaction, retention};

/// What the control thread hears, from shards and from signals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Clients are served; what there is in the image, and how much of it is this shard's.
    Serving { topics: usize, partitions: usize },
    /// No connection is left and none will come.
    Drained,
    /// Everything is written back.
    Closed,
    /// It cannot go on, and with it the process.
    Failed(String),
    /// What it needs of the data directory is damaged or missing.
    Damaged(String),
    /// Somebody wants the process to end.
    StopAsked,
}

/// A failure that is told in words.
impl From<String> for Event {
    fn from(reason: String) -> Event {
        Event::Failed(reason)
    }
}

/// What every shard is started with.
#[derive(Clone)]
pub struct Start {
    pub node: Arc<Node>,
    pub config: Arc<corelane_config::BrokerConfig>,
    pub data_dir: PathBuf,
    /// All shards pass it when they have found their journals, and again between replaying them and opening partitions: a
    /// partition may have moved between shards.
    pub in_step: Arc<Barrier>,
    /// A shard refuses the journals that it has found: none replays its own.
    pub refused: Arc<AtomicBool>,
    /// Of the broker that all shards are; where each is one, it has its own.
    pub connection_limits: Arc<ConnectionLimits>,
    /// Made while the cluster has none.
    pub scram_users: Arc<[NewUser]>,
    pub events: mpsc::Sender<Event>,
}

/// The whole life of a shard.
pub async fn run(context: ShardContext<ShardMessage>, start: Start) {
    let events = start.events.clone();
    if let Err(failure) = serve(context, start).await {
        // The control thread ends the process; if it has gone already there is nobody to tell.
        let _ = events.send(failure);
    }
}

/// All shards have the first image and what it says they own: asked any earlier, one would say of another's partitions that they
/// have no leader.
#[derive(Clone)]
struct MayServe;

impl ShardCall for MayServe {
    type Reply = ();

    fn run(self, shard: &Rc<Shard>) -> impl Future<Output = ()> + 'static {
        shard.may_serve.notify();
        std::future::ready(())
    }
}

/// Runs a step of the start; if the disk is full, once more with the space of the reserve.
async fn with_reserve<T, F: Future<Output = Result<T, StorageError>>>(
    data_dir: &Path,
    step: impl Fn() -> F,
) -> Result<T, StorageError> {
    match step().await {
        Err(error @ StorageError::DiskFull { .. }) => {
            tracing::warn!(%error, "the start takes the space that was held back for a full disk");
            Reserve::give_back_in(data_dir).await?;
            step().await
        }
        other => other,
    }
}

/// Replays the shard's part of the journals. `None`: another shard refuses its own, and tells why.
async fn recover(
    data_dir: &Path,
    (id, shards): (ShardId, usize),
    in_step: &Barrier,
    refused: &AtomicBool,
) -> Result<Option<RecoveryReport>, Event> {
    let failed = |error: StorageError| failure(&error, format!("recovery failed: {error}"));
    let found = with_reserve(data_dir, || find_journals(data_dir, id, shards)).await;
    refused.fetch_or(found.is_err(), Ordering::SeqCst);
    in_step.wait();
    let found = found.map_err(failed)?;
    if refused.load(Ordering::SeqCst) {
        return Ok(None);
    }
    let found = Cell::new(Some(found));
    let replay = || async {
        match found.take() {
            Some(found) => found.replay().await,
            // What was found has been used up by the try before.
            None => find_journals(data_dir, id, shards).await?.replay().await,
        }
    };
    let replayed = with_reserve(data_dir, replay).await;
    in_step.wait();
    replayed.map(Some).map_err(failed)
}

async fn serve(context: ShardContext<ShardMessage>, start: Start) -> Result<(), Event> {
    let Start { node, config, data_dir, in_step, refused, connection_limits, scram_users, events } = start;
    let (id, shards) = (context.id, context.shards);
    let Some(replayed) = recover(&data_dir, (id, shards), &in_step, &refused).await? else { return Ok(()) };
    if replayed.records > 0 {
        tracing::info!(shard = %id, ?replayed, "journal replayed");
    }
    // A limit of connections is a broker's.
    let connection_limits = match node.advertise {
        Advertise::Node => connection_limits,
        Advertise::Shard => ConnectionLimits::new(&config),
    };
    let settings = Settings::new(config, &node, id);
    let (memory, share) = (settings.shard_memory(shards), settings.memory_share(shards));
    if id == ShardId(0) && memory.total() > share {
        let (needed, share) = (memory.total() >> 20, share >> 20);
        tracing::warn!(
            needed,
            share,
            "memory.bytes is too little for requests of socket.request.max.bytes: a core may take more than its share, in MiB"
        );
    }
    net::configure(NetOptions { aside_bytes: memory.aside, ..NetOptions::default() })
        .map_err(|error| Event::Failed(format!("the sockets of shard {id}: {error}")))?;
    let options = StoreOptions::new(&data_dir, id, memory.dirty, memory.cache);
    let opened = with_reserve(&data_dir, || Store::open(options.clone())).await;
    let (store, _) = opened.map_err(|e| failure(&e, format!("the store of shard {id} does not open: {e}")))?;
    let shard = Rc::new(Shard {
        id,
        shards,
        router: Router::new(context.mesh),
        store,
        groups: Groups::new(GroupsOptions::new(node.raft_id())),
        partitions: PartitionTable::default(),
        controller: RefCell::new(None),
        coordinators: Coordinators::default(),
        share_sessions: ShareSessions::default(),
        share_session_homes: ShareSessionHomes::new(settings.broker().share_sessions_max.max(0) as usize),
        share_partitions: SharePartitions::default(),
        telemetry: Telemetry::default(),
        usages: Usages::default(),
        fetch_sessions: FetchSessions::new(id, shards, settings.broker().fetch_sessions_max.max(0) as usize),
        fetch_waits: RefCell::default(),
        producer_ids: ProducerIds::default(),
        space: Space::default(),
        audit: Audit::new(settings.broker().audit.is_some().then_some(memory.audit)),
        connection_limits,
        quotas: Quotas::new(settings.quota_windows()),
        request_memory: RequestMemory::new(memory.requests),
        answer_memory: AnswerBudget::new(memory.answers),
        listeners: OpenListeners::default(),
        connections: OpenConnections::default(),
        tls_memory: Budget::new(memory.tls),
        authentication_memory: RequestMemory::new(RequestParts::of_logins(memory.authentication)),
        data_dir: data_dir.clone(),
        image: RefCell::default(),
        may_serve: Signal::default(),
        settled: Cell::new(false),
        next_wait: Cell::new(u64::from(id.0)),
        config: settings,
        node,
    });
    let routing = {
        let shard = shard.clone();
        spawn(Queue::Serve, "router", async move { Router::serve(shard).await })
    };
    let overflowing = {
        let shard = shard.clone();
        spawn(Queue::Serve, "router overflow", async move { shard.router.drain_overflow().await })
    };
    let failing = {
        let store = shard.store.clone();
        spawn(Queue::Serve, "journal watch", async move { exit::now("journal", store.failed().await) })
    };
    let (server, listeners) = Server::listen(&shard).map_err(Event::Failed)?;
    if id == ShardId(0) {
        let opened = Controller::open(&shard).await;
        let (controller, deleted) = opened.map_err(|error| match error.is_damage() {
            true => Event::Damaged(error.to_string()),
            false => Event::Failed(error.to_string()),
        })?;
        let image = controller.image();
        let topics = image.topics().map(|t| t.id).chain(deleted).collect();
        shard.controller.replace(Some(Rc::new(controller)));
        publish(&shard, image, topics).await;
        if !scram_users.is_empty() {
            first_users(&shard, scram_users).await.map_err(Event::Failed)?;
        }
        shard.router.call_each(&shard, shard.all_shards(), MayServe).await;
    }
    shard.may_serve.wait().await;
    if let Err(error) = shard.store.let_go().await {
        tracing::error!(%error, "the ledger could not be written");
    }
    let keeping = match id == space::KEEPER {
        true => Some(Keeper::open(&shard).await.map_err(|error| format!("free space of {data_dir:?}: {error}"))?),
        false => None,
    };
    let keeping = keeping.map(|keeper| spawn(Queue::Background, "disk space", keeper.run()));
    let serving = server.run(listeners);
    let audit_log = AuditLog::start(&shard);
    let sweeping = (id == CONTROLLER_SHARD).then(|| sweep_in_background(&shard));
    let cleaning = [keeping, sweeping, Some(retention::start(&shard)), compaction::start(&shard)];
    let _ = events.send(Event::Serving { topics: shard.image().topics().count(), partitions: shard.partitions.len() });

    context.inbox.recv().await;
    for task in serving {
        task.cancel().await;
    }
    for task in cleaning.into_iter().flatten() {
        task.cancel().await;
    }
    server.stop().await;
    if let Some(audit_log) = audit_log {
        audit_log.end().await;
    }
    let _ = events.send(Event::Drained);

    // Calls of the other shards are answered until they too have no connection.
    context.inbox.recv().await;
    shard.share_partitions.stop();
    shard.coordinators.stop().await;
    shard.groups.shutdown().await;
    let closed = shard.store.close().await;
    closed.map_err(|error| Event::Failed(format!("shard {id} did not close cleanly: {error}")))?;
    failing.cancel().await;
    routing.cancel().await;
    overflowing.cancel().await;
    let _ = events.send(Event::Closed);
    Ok(())
}

/// Users of a file are for the beginning: what is changed later stays changed.
async fn first_users(shard: &Rc<Shard>, users: Arc<[NewUser]>) -> Result<(), String> {
    match ask(shard, FirstUsers { users }).await {
        Ok(0) => tracing::warn!("the users of scram.users.file are not made: the cluster has users already"),
        Ok(credentials) => tracing::info!(credentials, "made the users of scram.users.file"),
        Err(refused) => return Err(format!("the users of scram.users.file: {}", refused.message)),
    }
    Ok(())
}

/// What the control thread is told of an error that ends the start.
fn failure(error: &StorageError, reason: String) -> Event {
    match error {
        StorageError::Corrupt { .. } | StorageError::JournalLost { .. } => Event::Damaged(reason),
        _ => Event::Failed(reason),
    }
}

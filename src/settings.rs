//! The configuration a shard works with: what the process was started with, and what AlterConfigs has changed since.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use core_pinning::ShardId;
use corelane_acl::Authorizer;
use corelane_config::alter::{
    apply, validate_broker_dynamic, validate_client_metrics_overrides, validate_group_overrides,
    validate_topic_overrides,
};
use corelane_config::describe::{
    describe_broker, describe_broker_defaults, describe_client_metrics, describe_group, describe_topic,
};
use corelane_config::{
    Alteration, BrokerConfig, BrokerProperties, ConfigEntry, ConfigError, GroupProperties, Overrides, Scope,
    TopicConfig,
};
use corelane_coordinator::group::{Assignor, ConsumerGroupConfig, GroupConfig, MigrationPolicy, StreamsSettings};
use corelane_coordinator::share::ShareConfig;
use corelane_coordinator::txn::TxnConfig;
use corelane_protocol::ErrorCode;
use corelane_sasl::TokenKey;
use corelane_storage::CleanerOptions;
use hashbrown::HashMap;

use crate::controller::Refused;
use crate::controller::image::{AUDIT_TOPIC, ClusterImage, ResourceType, TopicImage, is_essential};
use crate::controller::names::check_name;
use crate::kafka::request_memory::RequestParts;
use crate::node::Node;
use crate::quota::Windows;

/// Bytes a second that compaction of one core reads and writes where nothing is set: at the disk's pace those who produce would
/// notice (`scripts/bench-compaction`).
const COMPACTION_RATE: f64 = 50e6;

/// Groups with settings of their own whose properties are kept ready.
const GROUPS_KEPT: usize = 1_000;

pub struct Settings {
    /// With what AlterConfigs has changed.
    broker: RefCell<Arc<BrokerConfig>>,
    /// The broker id of this shard, as AlterConfigs names it.
    name: String,
    /// The static layer and the dynamic ones over it.
    properties: RefCell<Rc<BrokerProperties>>,
    /// What a group has that sets nothing of its own.
    group_defaults: RefCell<Rc<GroupProperties>>,
    /// What groups have that set something, with what they set: share groups ask at each fetch.
    group_properties: RefCell<HashMap<String, OfGroup>>,
    /// `None`: nobody is refused anything.
    authorizer: Option<Authorizer>,
    /// `None`: there are no delegation tokens.
    token_key: Option<TokenKey>,
    /// Changes with the dynamic layers, so that partitions know when to look again.
    version: Cell<u64>,
}

/// What a group sets, and what it has then.
type OfGroup = (Arc<Overrides>, Rc<GroupProperties>);

/// Bytes that one shard may take for each purpose. They add up to its share of `--memory`, unless that is too little for one request
/// of `socket.request.max.bytes`.
#[derive(Clone, Copy, Debug)]
pub struct ShardMemory {
    /// Requests received and not answered.
    pub requests: RequestParts,
    /// What has been received, no task reads yet, and the receive memory has no room for.
    pub aside: usize,
    /// Answers made and not sent.
    pub answers: usize,
    /// Records acknowledged and not yet written back to their segments.
    pub dirty: usize,
    /// Recent batches kept for readers.
    pub cache: usize,
    /// TLS connections, where a listener has them.
    pub tls: usize,
    /// Frames of clients that have not authenticated, where a listener demands it.
    pub authentication: usize,
    /// What waits to be written to the topic of the audit, and what is being written.
    pub audit: usize,
}

impl ShardMemory {
    fn new(share: usize, request_max: usize, has_tls: bool, has_audit: bool) -> ShardMemory {
        // The largest request must fit; what that takes beyond its part the cache goes without.
        let requests = RequestParts::of_share(share, request_max);
        // A connection alone may send as much as the receive memory before it is stopped.
        let aside = (share / 16).max(16 << 20);
        // Without a listener with TLS there is some for one that comes later.
        let tls = if has_tls { share / 8 } else { share / 32 };
        // Of those who are nobody yet, no more: everybody may connect.
        let authentication = share / 32;
        // An event has to fit, and nobody needs more of them than are soon written.
        let audit = if has_audit { (share / 64).clamp(1 << 20, 4 << 20) } else { 0 };
        let (answers, dirty) = (share / 8, share / 4);
        let taken = requests.total() + aside + answers + dirty + tls + authentication + audit;
        let cache = share.saturating_sub(taken).max(share / 32);
        ShardMemory { requests, aside, answers, dirty, cache, tls, authentication, audit }
    }

    pub fn total(&self) -> usize {
        let ShardMemory { requests, aside, answers, dirty, cache, tls, authentication, audit } = *self;
        requests.total() + aside + answers + dirty + cache + tls + authentication + audit
    }
}

impl Settings {
    pub fn new(broker: Arc<BrokerConfig>, node: &Node, shard: ShardId) -> Settings {
        let properties = RefCell::new(Rc::new(broker.properties.clone()));
        let name = node.broker_id(shard).to_string();
        let group_defaults = RefCell::new(Rc::new(GroupProperties::resolve(&Overrides::new(), &broker.properties)));
        let authorizer =
            broker.access.as_ref().map(|a| Authorizer::new(a.super_users.iter().cloned(), a.allow_everyone));
        let token_key = broker.tokens.secret_key.as_ref().map(|secret| TokenKey::new(secret.reveal()));
        Settings {
            broker: RefCell::new(broker),
            name,
            properties,
            group_defaults,
            group_properties: RefCell::default(),
            authorizer,
            token_key,
            version: Cell::new(0),
        }
    }

    /// What is in force now.
    pub fn broker(&self) -> Arc<BrokerConfig> {
        self.broker.borrow().clone()
    }

    pub fn authorizer(&self) -> Option<&Authorizer> {
        self.authorizer.as_ref()
    }

    /// The topic of the audit, where somebody wants it: the broker alone writes it, and nobody takes any of it away.
    pub fn is_audit_log(&self, topic: &str) -> bool {
        topic == AUDIT_TOPIC && self.broker.borrow().audit.is_some()
    }

    /// Kafka: a topic of the broker's own, as Metadata says.
    pub fn is_internal(&self, topic: &str) -> bool {
        is_essential(topic) || self.is_audit_log(topic)
    }

    pub fn token_key(&self) -> Option<&TokenKey> {
        self.token_key.as_ref()
    }

    pub fn properties(&self) -> Rc<BrokerProperties> {
        self.properties.borrow().clone()
    }

    /// What one shard may take of `--memory`.
    pub fn memory_share(&self, shards: usize) -> usize {
        self.broker().memory_bytes as usize / shards.max(1)
    }

    pub fn shard_memory(&self, shards: usize) -> ShardMemory {
        let broker = self.broker();
        let has_tls = broker.listeners.iter().any(|l| l.tls.is_some());
        ShardMemory::new(self.memory_share(shards), self.request_max_bytes(), has_tls, broker.audit.is_some())
    }

    /// What the group coordinators obey.
    pub fn groups(&self) -> GroupConfig {
        let broker = self.broker();
        let (group, offsets) = (&broker.group, &broker.offsets);
        GroupConfig {
            initial_rebalance_delay_ms: i64::from(group.initial_rebalance_delay_ms),
            min_session_timeout_ms: group.min_session_timeout_ms,
            max_session_timeout_ms: group.max_session_timeout_ms,
            max_size: group.max_size.max(1) as usize,
            offsets_retention_ms: offsets.retention_ms,
            offsets_retention_check_interval_ms: offsets.retention_check_interval_ms,
            offset_metadata_max_bytes: offsets.metadata_max_bytes.max(0) as usize,
            consumer: ConsumerGroupConfig {
                max_size: group.consumer_max_size.max(1) as usize,
                assignors: group.consumer_assignors.iter().filter_map(|name| Assignor::named(name)).collect(),
                migration: MigrationPolicy::named(&group.consumer_migration_policy),
            },
            streams: self.streams_group(&self.group_defaults.borrow()),
            ..GroupConfig::default()
        }
    }

    /// What a streams group with these properties obeys.
    pub fn streams_group(&self, group: &GroupProperties) -> StreamsSettings {
        let streams = &group.streams;
        StreamsSettings {
            max_size: self.broker().group.streams_max_size.max(1) as usize,
            session_timeout_ms: streams.session_timeout_ms,
            heartbeat_interval_ms: streams.heartbeat_interval_ms,
            assignment_interval_ms: streams.assignment_interval_ms,
            initial_rebalance_delay_ms: streams.initial_rebalance_delay_ms,
            standby_replicas: streams.standby_replicas,
        }
    }

    /// What the transaction coordinators obey.
    pub fn transactions(&self) -> TxnConfig {
        let settings = &self.broker().transactions;
        TxnConfig {
            max_timeout_ms: settings.max_timeout_ms,
            timeout_check_interval_ms: i64::from(settings.timeout_check_interval_ms),
            id_expiration_ms: i64::from(settings.id_expiration_ms),
            id_expiration_check_interval_ms: i64::from(settings.id_expiration_check_interval_ms),
            ..TxnConfig::default()
        }
    }

    /// What the share coordinators obey.
    pub fn share_states(&self) -> ShareConfig {
        let updates_per_snapshot = self.broker.borrow().share_states.updates_per_snapshot.max(0) as u32;
        ShareConfig { updates_per_snapshot, ..ShareConfig::default() }
    }

    pub fn share_state_write_timeout(&self) -> Duration {
        Duration::from_millis(self.broker.borrow().share_states.write_timeout_ms.max(1) as u64)
    }

    /// What rates of clients are taken over.
    pub fn quota_windows(&self) -> Windows {
        let quotas = &self.broker.borrow().quotas;
        Windows::new(quotas.windows, quotas.window_seconds)
    }

    pub fn controller_quota_windows(&self) -> Windows {
        let quotas = &self.broker.borrow().quotas;
        Windows::new(quotas.controller_windows, quotas.controller_window_seconds)
    }

    /// Bytes of a request's frame.
    pub fn request_max_bytes(&self) -> usize {
        self.broker.borrow().request_max_bytes.max(0) as usize
    }

    /// Bytes of records in one Fetch response.
    pub fn fetch_max_bytes(&self) -> usize {
        self.broker.borrow().fetch_max_bytes.max(0) as usize
    }

    /// `None`: connections may idle for ever.
    pub fn connections_max_idle(&self) -> Option<Duration> {
        u64::try_from(self.broker.borrow().connections_max_idle_ms).ok().map(Duration::from_millis)
    }

    pub fn retention_check_interval(&self) -> Duration {
        Duration::from_millis(self.broker.borrow().retention_check_interval_ms.max(1) as u64)
    }

    /// How one of `shards` shards compacts; `None`: not at all.
    pub fn cleaner(&self, shards: usize) -> Option<CleanerOptions> {
        let cleaner = &self.broker().cleaner;
        let share = shards.max(1);
        cleaner.enabled.then(|| CleanerOptions {
            dedupe_bytes: usize::try_from(cleaner.dedupe_bytes).unwrap_or(0) / share,
            load_factor: f64::from(cleaner.load_ppm) / 1e6,
            bytes_per_second: cleaner.bytes_per_second.map_or(COMPACTION_RATE, |bytes| bytes as f64 / share as f64),
        })
    }

    pub fn cleaner_backoff(&self) -> Duration {
        Duration::from_millis(self.broker.borrow().cleaner.backoff_ms.max(1) as u64)
    }

    /// The dynamic layers of `image`. True if they differ from those before.
    pub fn take_image(&self, image: &ClusterImage) -> bool {
        let overrides =
            |name: &str| image.config(ResourceType::Broker, name).map(|c| (**c).clone()).unwrap_or_default();
        let next = BrokerProperties {
            dynamic_default: overrides(""),
            dynamic_broker: overrides(&self.name),
            ..(*self.properties()).clone()
        };
        let changed = next != *self.properties();
        if changed {
            let typed = self.broker().with_dynamic(&next);
            match typed {
                Ok(broker) => drop(self.broker.replace(Arc::new(broker))),
                // Checked before it was written: this is of a release that knew other values.
                Err(error) => tracing::error!(%error, "what was changed of the broker's configuration does not fit it"),
            }
            self.group_defaults.replace(Rc::new(GroupProperties::resolve(&Overrides::new(), &next)));
            self.group_properties.borrow_mut().clear();
            self.properties.replace(Rc::new(next));
            self.version.set(self.version.get() + 1);
        }
        changed
    }

    /// What is in force for a topic.
    pub fn topic(&self, topic: &TopicImage) -> Result<TopicConfig, ConfigError> {
        TopicConfig::resolve(&topic.configs, &self.properties())
    }

    /// Members of one share group.
    pub fn share_group_max_size(&self) -> usize {
        self.broker.borrow().group.share_max_size.max(1) as usize
    }

    /// What is in force for a group as of `image`.
    pub fn group(&self, image: &ClusterImage, group: &str) -> Rc<GroupProperties> {
        let Some(overrides) = image.config(ResourceType::Group, group) else {
            return self.group_defaults.borrow().clone();
        };
        let mut known = self.group_properties.borrow_mut();
        if let Some((of, properties)) = known.get(group)
            && Arc::ptr_eq(of, overrides)
        {
            return properties.clone();
        }
        if known.len() >= GROUPS_KEPT {
            known.clear();
        }
        let properties = Rc::new(GroupProperties::resolve(overrides, &self.properties()));
        known.insert(group.to_owned(), (overrides.clone(), properties.clone()));
        properties
    }

    pub fn check_new_topic(&self, overrides: &Overrides) -> Result<(), Refused> {
        Ok(validate_topic_overrides(&Overrides::new(), overrides)?)
    }

    /// The overrides of a resource after `changes`, checked.
    pub fn altered(
        &self,
        kind: ResourceType,
        resource: &str,
        present: &Overrides,
        changes: &[Alteration],
    ) -> Result<Overrides, Refused> {
        let next = apply(scope(kind), present, changes, &self.properties())?;
        self.check_overrides(kind, resource, present, &next)?;
        Ok(next)
    }

    /// The listeners that there would be with these overrides of this broker; `None`: nothing that could be in force.
    pub fn listeners_with(&self, overrides: Overrides) -> Option<Vec<corelane_config::Listener>> {
        let next = BrokerProperties { dynamic_broker: overrides, ..(*self.properties()).clone() };
        self.broker().with_dynamic(&next).ok().map(|broker| broker.listeners)
    }

    pub fn check_overrides(
        &self,
        kind: ResourceType,
        resource: &str,
        present: &Overrides,
        next: &Overrides,
    ) -> Result<(), Refused> {
        let nameless = |message: &str| Err(Refused::new(ErrorCode::InvalidRequest, message));
        match kind {
            ResourceType::Topic if resource.is_empty() => return nameless("Default topic resources are not allowed."),
            ResourceType::Group if resource.is_empty() => return nameless("Default group resources are not allowed."),
            ResourceType::ClientMetrics if resource.is_empty() => return nameless("Subscription name can't be empty"),
            ResourceType::Topic => {
                check_name(resource).map_err(|message| Refused::new(ErrorCode::InvalidTopicException, message))?;
                validate_topic_overrides(present, next)?;
            }
            ResourceType::Broker => validate_broker_dynamic(next, !resource.is_empty(), &self.properties())?,
            ResourceType::Group => validate_group_overrides(present, next, &self.properties())?,
            ResourceType::ClientMetrics => validate_client_metrics_overrides(present, next)?,
        }
        Ok(())
    }

    pub fn describe_topic(&self, overrides: &Overrides) -> Result<Vec<ConfigEntry>, Refused> {
        Ok(describe_topic(overrides, &self.properties())?)
    }

    pub fn describe_broker(&self) -> Result<Vec<ConfigEntry>, Refused> {
        Ok(describe_broker(&self.properties())?)
    }

    pub fn describe_broker_defaults(&self) -> Result<Vec<ConfigEntry>, Refused> {
        Ok(describe_broker_defaults(&self.properties())?)
    }

    pub fn describe_group(&self, overrides: &Overrides) -> Result<Vec<ConfigEntry>, Refused> {
        Ok(describe_group(overrides, &self.properties())?)
    }

    pub fn describe_client_metrics(&self, overrides: &Overrides) -> Result<Vec<ConfigEntry>, Refused> {
        Ok(describe_client_metrics(overrides)?)
    }
}

fn scope(kind: ResourceType) -> Scope {
    match kind {
        ResourceType::Topic => Scope::Topic,
        ResourceType::Broker => Scope::Broker,
        ResourceType::Group => Scope::Group,
        ResourceType::ClientMetrics => Scope::ClientMetrics,
    }
}

impl From<ConfigError> for Refused {
    fn from(error: ConfigError) -> Refused {
        let code = ErrorCode::from_code(error.code()).unwrap_or(ErrorCode::InvalidConfig);
        Refused::new(code, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_takes_no_more_than_its_share_where_the_largest_request_fits() {
        let mib = |n: usize| n << 20;
        for (share, request_max) in [(1024, 100), (512, 100), (4096, 1), (16384, 1024), (128, 4)] {
            for has in [false, true] {
                let memory = ShardMemory::new(mib(share), mib(request_max), has, has);
                assert!(memory.total() <= mib(share), "{share} MiB, {request_max} MiB: {memory:?}");
                assert!(
                    memory.requests.giant.reserve >= mib(request_max) && memory.cache >= mib(share) / 32,
                    "{memory:?}"
                );
            }
        }
        let little = ShardMemory::new(mib(64), mib(100), false, false);
        assert!(little.requests.giant.reserve == mib(100) && little.total() > mib(64), "{little:?}");
    }
}

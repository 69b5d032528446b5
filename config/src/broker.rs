//! The typed settings of one broker process.

use crate::error::{ConfigError, LoadError};
use crate::layers::BrokerProperties;
use crate::listeners::{Listener, inter_broker, listeners};
use crate::load::LoadOptions;
use crate::per_ip;
use crate::tls::Password;
use crate::units;
use crate::value::Value;
use std::net::IpAddr;
use std::path::PathBuf;

/// What clients see: the process, or each of its cores, as a Kafka broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advertise {
    Node,
    Shard,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

/// In `shard` mode a broker id is `node id * SHARDS_PER_NODE + shard`.
pub const SHARDS_PER_NODE: i32 = 1000;

/// Everything `corelane start` needs to know, and with [`BrokerConfig::with_dynamic`] what is in force later. What topics and
/// groups have is in [`crate::TopicConfig`] and [`crate::GroupProperties`], resolved from the same properties.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerConfig {
    pub data_dir: PathBuf,
    /// A start may make a new data directory.
    pub create_data_dir: bool,
    /// At least one.
    pub listeners: Vec<Listener>,
    /// Name of the listener that brokers would use among themselves.
    pub inter_broker_listener: String,
    pub advertise: Advertise,
    /// See [`BrokerConfig::exposed`].
    pub allow_unauthenticated: bool,
    pub node_id: i32,
    pub rack: Option<String>,
    /// `None`: every core the process may run on.
    pub cores: Option<Vec<usize>>,
    pub memory_bytes: u64,
    pub auto_create_topics: bool,
    pub delete_topics: bool,
    pub default_partitions: i32,
    pub retention_check_interval_ms: i64,
    pub fetch_max_bytes: i32,
    pub fetch_sessions_max: i32,
    pub share_sessions_max: i32,
    pub request_max_bytes: i32,
    pub describe_partitions_max: i32,
    pub listen_backlog: i32,
    /// Of each connection in the kernel; `None`: as large as the kernel likes.
    pub socket_receive_bytes: Option<u32>,
    pub socket_send_bytes: Option<u32>,
    pub connections_max_idle_ms: i64,
    pub connections_max: i32,
    pub connections_max_per_ip: i32,
    /// Of some addresses.
    pub connections_max_per_ip_overrides: Vec<(IpAddr, i32)>,
    /// Connections a second.
    pub connections_creation_rate: i32,
    /// How long whose authentication failed waits for the end.
    pub failed_authentication_delay_ms: i32,
    /// Users that are made while there are none.
    pub scram_users_file: Option<PathBuf>,
    pub tokens: TokenSettings,
    pub quotas: QuotaSettings,
    /// Bytes of one push of client metrics.
    pub telemetry_max_bytes: i32,
    pub producer_expiration_ms: i32,
    /// Bytes of metadata log that call for a snapshot.
    pub metadata_snapshot_bytes: i64,
    pub offsets: OffsetsSettings,
    pub transactions: TransactionSettings,
    pub share_states: ShareStateSettings,
    pub cleaner: CleanerSettings,
    pub group: GroupSettings,
    pub space: SpaceSettings,
    /// `None`: nobody is refused anything.
    pub access: Option<AccessSettings>,
    /// `None`: the audit is in the log only.
    pub audit: Option<AuditSettings>,
    pub log_format: LogFormat,
    /// A `tracing` filter: a level, or `target=level` directives.
    pub log_level: String,
    /// As Kafka sees it: the static layer.
    pub properties: BrokerProperties,
}

/// Delegation tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenSettings {
    /// `None`: there are none.
    pub secret_key: Option<Password>,
    pub max_lifetime_ms: i64,
    /// How long one lasts before it is renewed.
    pub expiry_ms: i64,
    pub expiry_check_interval_ms: i64,
}

/// Committed offsets and the topic they live in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetsSettings {
    pub metadata_max_bytes: i32,
    pub commit_timeout_ms: i32,
    pub retention_ms: i64,
    pub retention_check_interval_ms: i64,
    pub topic_partitions: i32,
    pub topic_segment_bytes: i32,
}

/// Transactions and the topic they live in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionSettings {
    pub max_timeout_ms: i32,
    pub timeout_check_interval_ms: i32,
    pub id_expiration_ms: i32,
    pub id_expiration_check_interval_ms: i32,
    pub topic_partitions: i32,
    pub topic_segment_bytes: i32,
    pub add_partitions_backoff_ms: i32,
    pub add_partitions_patience_ms: i32,
}

/// The states of share groups and the topic they live in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareStateSettings {
    pub updates_per_snapshot: i32,
    pub write_timeout_ms: i32,
    pub topic_partitions: i32,
    pub topic_segment_bytes: i32,
}

/// Compaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CleanerSettings {
    pub enabled: bool,
    pub backoff_ms: i64,
    /// Memory for keys.
    pub dedupe_bytes: i64,
    /// The part of it that is filled, in millionths.
    pub load_ppm: u32,
    /// `None`: as fast as it goes.
    pub bytes_per_second: Option<u64>,
}

/// Bounds of groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupSettings {
    pub initial_rebalance_delay_ms: i32,
    pub min_session_timeout_ms: i32,
    pub max_session_timeout_ms: i32,
    pub max_size: i32,
    /// Members of one group of the consumer protocol.
    pub consumer_max_size: i32,
    /// Names of assignors, each of which there is.
    pub consumer_assignors: Vec<String>,
    /// Which way a group with members may change its protocol, in any case of letters.
    pub consumer_migration_policy: String,
    /// `group.share.max.size`
    pub share_max_size: i32,
    /// `group.streams.max.size`
    pub streams_max_size: i32,
}

/// What happens when the disk fills. Bytes; `None`: by the size of the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpaceSettings {
    pub min_free_bytes: Option<u64>,
    pub near_full_free_bytes: Option<u64>,
    pub min_retention_ms: i64,
    pub reserve_bytes: Option<u64>,
}

/// What rates are taken over for quotas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuotaSettings {
    /// `quota.window.num`
    pub windows: i32,
    /// `quota.window.size.seconds`
    pub window_seconds: i32,
    /// `controller.quota.window.num`
    pub controller_windows: i32,
    /// `controller.quota.window.size.seconds`
    pub controller_window_seconds: i32,
}

/// Who gets past the access rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessSettings {
    /// `Type:name`
    pub super_users: Vec<String>,
    pub allow_everyone: bool,
}

/// The topic of the audit, as it is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditSettings {
    pub partitions: i32,
    pub retention_bytes: i64,
    pub retention_ms: i64,
    pub segment_bytes: i32,
}

/// The authorizer whose rules there are here.
pub const STANDARD_AUTHORIZER: &str = "org.apache.kafka.metadata.authorizer.StandardAuthorizer";

/// The name of the property that is wrong, and what is wrong with it.
type Wrong = (String, String);

impl BrokerConfig {
    /// Flags over environment over file over defaults.
    pub fn load(options: &LoadOptions) -> Result<BrokerConfig, LoadError> {
        options.load()
    }

    pub(crate) fn from_properties(
        properties: BrokerProperties,
        log_format: Option<String>,
        log_level: Option<String>,
    ) -> Result<BrokerConfig, Wrong> {
        let r = Reader { properties: &properties };
        let listeners = listeners(&properties)?;
        let cores = match r.text("shard.cores")? {
            Some(list) => Some(units::parse_cores(&list).map_err(|e| wrong("shard.cores", e))?),
            None => None,
        };
        let memory_bytes = match r.long("memory.bytes")? {
            Some(n) => n.unsigned_abs(),
            None => default_memory_bytes(cores.as_ref().map(Vec::len)),
        };
        let config = BrokerConfig {
            create_data_dir: r.boolean("storage.directory.create")?,
            data_dir: r.data_dir()?,
            inter_broker_listener: inter_broker(&properties, &listeners)?,
            listeners,
            allow_unauthenticated: r.boolean("listeners.allow.unauthenticated")?,
            advertise: match r.text("listeners.advertise")?.as_deref() {
                Some("shard") => Advertise::Shard,
                _ => Advertise::Node,
            },
            node_id: r.int("node.id")?,
            rack: r.text("broker.rack")?.filter(|s| !s.is_empty()),
            cores,
            memory_bytes,
            auto_create_topics: r.boolean("auto.create.topics.enable")?,
            delete_topics: r.boolean("delete.topic.enable")?,
            default_partitions: r.int("num.partitions")?,
            retention_check_interval_ms: r.need("log.retention.check.interval.ms")?,
            fetch_max_bytes: r.int("fetch.max.bytes")?,
            share_sessions_max: r.int("group.share.max.share.sessions")?,
            fetch_sessions_max: r.int("max.incremental.fetch.session.cache.slots")?,
            request_max_bytes: r.int("socket.request.max.bytes")?,
            describe_partitions_max: r.int("max.request.partition.size.limit")?,
            listen_backlog: r.int("socket.listen.backlog.size")?,
            socket_receive_bytes: r.socket_buffer("socket.receive.buffer.bytes")?,
            socket_send_bytes: r.socket_buffer("socket.send.buffer.bytes")?,
            connections_max_idle_ms: r.need("connections.max.idle.ms")?,
            connections_max: r.int("max.connections")?,
            connections_max_per_ip: r.int("max.connections.per.ip")?,
            connections_max_per_ip_overrides: per_ip::parse(
                &r.text("max.connections.per.ip.overrides")?.unwrap_or_default(),
            )?,
            connections_creation_rate: r.int("max.connection.creation.rate")?,
            failed_authentication_delay_ms: r.int("connection.failed.authentication.delay.ms")?,
            scram_users_file: r.text("scram.users.file")?.filter(|path| !path.is_empty()).map(PathBuf::from),
            tokens: TokenSettings {
                secret_key: r.text("delegation.token.secret.key")?.filter(|key| !key.is_empty()).map(Password::new),
                max_lifetime_ms: r.need("delegation.token.max.lifetime.ms")?,
                expiry_ms: r.need("delegation.token.expiry.time.ms")?,
                expiry_check_interval_ms: r.need("delegation.token.expiry.check.interval.ms")?,
            },
            quotas: QuotaSettings {
                windows: r.int("quota.window.num")?,
                window_seconds: r.int("quota.window.size.seconds")?,
                controller_windows: r.int("controller.quota.window.num")?,
                controller_window_seconds: r.int("controller.quota.window.size.seconds")?,
            },
            telemetry_max_bytes: r.int("telemetry.max.bytes")?,
            producer_expiration_ms: r.int("producer.id.expiration.ms")?,
            metadata_snapshot_bytes: r.need("metadata.log.max.record.bytes.between.snapshots")?,
            offsets: OffsetsSettings {
                metadata_max_bytes: r.int("offset.metadata.max.bytes")?,
                commit_timeout_ms: r.int("offsets.commit.timeout.ms")?,
                retention_ms: r.need("offsets.retention.minutes")?.saturating_mul(60_000),
                retention_check_interval_ms: r.need("offsets.retention.check.interval.ms")?,
                topic_partitions: r.int("offsets.topic.num.partitions")?,
                topic_segment_bytes: r.int("offsets.topic.segment.bytes")?,
            },
            transactions: TransactionSettings {
                max_timeout_ms: r.int("transaction.max.timeout.ms")?,
                timeout_check_interval_ms: r.int("transaction.abort.timed.out.transaction.cleanup.interval.ms")?,
                id_expiration_ms: r.int("transactional.id.expiration.ms")?,
                id_expiration_check_interval_ms: r.int("transaction.remove.expired.transaction.cleanup.interval.ms")?,
                topic_partitions: r.int("transaction.state.log.num.partitions")?,
                topic_segment_bytes: r.int("transaction.state.log.segment.bytes")?,
                add_partitions_backoff_ms: r.int("add.partitions.to.txn.retry.backoff.ms")?,
                add_partitions_patience_ms: r.int("add.partitions.to.txn.retry.backoff.max.ms")?,
            },
            share_states: ShareStateSettings {
                updates_per_snapshot: r.int("share.coordinator.snapshot.update.records.per.snapshot")?,
                write_timeout_ms: r.int("share.coordinator.write.timeout.ms")?,
                topic_partitions: r.int("share.coordinator.state.topic.num.partitions")?,
                topic_segment_bytes: r.int("share.coordinator.state.topic.segment.bytes")?,
            },
            cleaner: CleanerSettings {
                enabled: r.boolean("log.cleaner.enable")?,
                backoff_ms: r.need("log.cleaner.backoff.ms")?,
                dedupe_bytes: r.need("log.cleaner.dedupe.buffer.size")?,
                load_ppm: (r.double("log.cleaner.io.buffer.load.factor")? * 1e6) as u32,
                bytes_per_second: Some(r.double("log.cleaner.io.max.bytes.per.second")?)
                    .filter(|rate| *rate < u64::MAX as f64)
                    .map(|rate| rate.max(1.0) as u64),
            },
            group: GroupSettings {
                initial_rebalance_delay_ms: r.int("group.initial.rebalance.delay.ms")?,
                min_session_timeout_ms: r.int("group.min.session.timeout.ms")?,
                max_session_timeout_ms: r.int("group.max.session.timeout.ms")?,
                max_size: r.int("group.max.size")?,
                consumer_max_size: r.int("group.consumer.max.size")?,
                consumer_assignors: r.assignors("group.consumer.assignors")?,
                consumer_migration_policy: r.text("group.consumer.migration.policy")?.unwrap_or_default(),
                share_max_size: r.int("group.share.max.size")?,
                streams_max_size: r.int("group.streams.max.size")?,
            },
            space: SpaceSettings {
                min_free_bytes: r.long("storage.min.free.bytes")?.map(i64::unsigned_abs),
                near_full_free_bytes: r.long("storage.near.full.free.bytes")?.map(i64::unsigned_abs),
                min_retention_ms: r.need("storage.min.retention.ms")?,
                reserve_bytes: r.long("storage.reserve.bytes")?.map(i64::unsigned_abs),
            },
            access: r.access()?,
            audit: r.audit()?,
            log_format: match log_format.as_deref() {
                None | Some("text") => LogFormat::Text,
                Some("json") => LogFormat::Json,
                Some(other) => return Err(wrong("log_format", format!("{other:?} is not text or json"))),
            },
            log_level: log_level.unwrap_or_else(|| "info".to_owned()),
            properties: BrokerProperties::default(),
        };
        config.check()?;
        Ok(BrokerConfig { properties, ..config })
    }

    /// The same with what AlterConfigs has changed since the start. Fails only on a value that [`crate::alter`] would have
    /// refused.
    pub fn with_dynamic(&self, properties: &BrokerProperties) -> Result<BrokerConfig, ConfigError> {
        let next = BrokerConfig::from_properties(properties.clone(), None, None)
            .map_err(|(name, message)| ConfigError::InvalidConfig(format!("{name}: {message}")))?;
        Ok(BrokerConfig {
            memory_bytes: self.memory_bytes,
            log_format: self.log_format,
            log_level: self.log_level.clone(),
            properties: self.properties.clone(),
            ..next
        })
    }

    /// The first listener that other machines can reach and that asks nobody who they are; none where that is allowed.
    pub fn exposed(&self) -> Option<&Listener> {
        self.listeners.iter().find(|l| !self.allow_unauthenticated && !l.is_local() && !l.authenticates())
    }

    /// What one property alone cannot tell.
    fn check(&self) -> Result<(), Wrong> {
        if self.group.min_session_timeout_ms > self.group.max_session_timeout_ms {
            return Err(wrong("group.min.session.timeout.ms", "must not be above group.max.session.timeout.ms"));
        }
        if self.advertise == Advertise::Shard {
            if self.node_id >= i32::MAX / SHARDS_PER_NODE {
                let most = i32::MAX / SHARDS_PER_NODE - 1;
                return Err(wrong(
                    "node.id",
                    format!("must be at most {most} where every core is a broker of its own"),
                ));
            }
            let cores = self.cores.as_ref().map_or(1, Vec::len);
            for listener in &self.listeners {
                for (name, address) in
                    [("listeners", Some(&listener.listen)), ("advertised.listeners", listener.advertised.as_ref())]
                {
                    if address.is_some_and(|a| usize::from(a.port) + cores > 65536) {
                        return Err(wrong(
                            name,
                            format!("port + {cores} cores goes past 65535: every core has a port of its own"),
                        ));
                    }
                }
            }
        }
        Ok(())
    }
}

/// 1 GiB for each core, but half of what the process may use at most. More would keep more of what consumers have read
/// already.
fn default_memory_bytes(cores: Option<usize>) -> u64 {
    let cores = cores.or_else(|| std::thread::available_parallelism().ok().map(usize::from)).unwrap_or(1);
    (cores as u64).saturating_mul(1 << 30).min(units::machine_memory().unwrap_or(2 << 30) / 2)
}

fn wrong(name: &str, message: impl Into<String>) -> Wrong {
    (name.to_owned(), message.into())
}

struct Reader<'a> {
    properties: &'a BrokerProperties,
}

impl Reader<'_> {
    fn value(&self, name: &str) -> Result<Option<Value>, Wrong> {
        self.properties.value(name).map_err(|e: ConfigError| wrong(name, e.to_string()))
    }

    fn text(&self, name: &str) -> Result<Option<String>, Wrong> {
        Ok(self.value(name)?.map(|v| v.to_string()))
    }

    fn long(&self, name: &str) -> Result<Option<i64>, Wrong> {
        self.properties.integer(name).map_err(|e| wrong(name, e.to_string()))
    }

    fn need(&self, name: &str) -> Result<i64, Wrong> {
        self.long(name)?.ok_or_else(|| wrong(name, "has no value"))
    }

    fn int(&self, name: &str) -> Result<i32, Wrong> {
        i32::try_from(self.need(name)?).map_err(|_| wrong(name, "Not a number of type INT"))
    }

    /// Kafka's definition allows any number, and its sockets none below 1, but -1.
    fn socket_buffer(&self, name: &str) -> Result<Option<u32>, Wrong> {
        match self.int(name)? {
            -1 => Ok(None),
            bytes if bytes > 0 => Ok(Some(bytes.unsigned_abs())),
            bytes => Err(wrong(name, format!("{bytes} is neither a size nor -1"))),
        }
    }

    /// Kafka also takes names of classes, which there are none of here.
    fn assignors(&self, name: &str) -> Result<Vec<String>, Wrong> {
        let names = self.value(name)?.map(|value| value.items().to_vec()).unwrap_or_default();
        match names.iter().find(|name| !["uniform", "range"].contains(&name.as_str())) {
            Some(other) => Err(wrong(name, format!("{other:?} is no assignor: there are uniform and range"))),
            None if names.is_empty() => Err(wrong(name, "at least one assignor is needed")),
            None => Ok(names),
        }
    }

    fn access(&self) -> Result<Option<AccessSettings>, Wrong> {
        let class = "authorizer.class.name";
        match self.text(class)?.as_deref().map(str::trim) {
            None | Some("") => return Ok(None),
            Some(STANDARD_AUTHORIZER) => {}
            Some(other) => {
                return Err(wrong(class, format!("there is no authorizer {other:?} here, only {STANDARD_AUTHORIZER}")));
            }
        }
        let text = self.text("super.users")?.unwrap_or_default();
        let names = text.split(';').map(str::trim).filter(|name| !name.is_empty());
        let super_users: Vec<String> = names.map(str::to_owned).collect();
        if let Some(name) = super_users.iter().find(|name| !name.contains(':')) {
            return Err(wrong("super.users", format!("{name:?} is not of the form Type:name, as in User:admin")));
        }
        Ok(Some(AccessSettings { super_users, allow_everyone: self.boolean("allow.everyone.if.no.acl.found")? }))
    }

    fn audit(&self) -> Result<Option<AuditSettings>, Wrong> {
        if !self.boolean("audit.topic.enable")? {
            return Ok(None);
        }
        Ok(Some(AuditSettings {
            partitions: self.int("audit.topic.num.partitions")?,
            retention_bytes: self.need("audit.topic.retention.bytes")?,
            retention_ms: self.need("audit.topic.retention.ms")?,
            segment_bytes: self.int("audit.topic.segment.bytes")?,
        }))
    }

    fn double(&self, name: &str) -> Result<f64, Wrong> {
        match self.value(name)? {
            Some(Value::Double(d)) => Ok(d),
            _ => Err(wrong(name, "Not a number of type DOUBLE")),
        }
    }

    fn boolean(&self, name: &str) -> Result<bool, Wrong> {
        Ok(self.value(name)? == Some(Value::Boolean(true)))
    }

    fn data_dir(&self) -> Result<PathBuf, Wrong> {
        let value = match self.value("log.dirs")? {
            Some(v) => Some(v),
            None => self.value("log.dir")?,
        };
        match value.as_ref().map(Value::items) {
            Some([one]) => Ok(PathBuf::from(one)),
            _ => Err(wrong("log.dirs", "one data directory is needed (several disks: use a RAID or LVM volume)")),
        }
    }
}

//! `corelane start`: the settings from everywhere, then the broker.

use crate::banner::Banner;
use crate::exit::{Exit, Failure};
use crate::logging;
use crate::output::{Output, Table};
use clap::Args;
use corelane_config::{BrokerConfig, Listener, LoadError, LoadOptions, Scope, SecurityProtocol, Setting, Status};
use serde_json::json;
use std::path::PathBuf;

/// Run the broker.
///
/// Without options it serves on 127.0.0.1:9092 from ./corelane-data. Settings come from flags, over environment variables, over
/// the file given by --config, over the defaults.
///
/// Every option has a name in the file (data_dir, listen, allow_unauthenticated, cores, node_id, advertise, scram_users, memory, log_format, log_level) and in the
/// environment (CORELANE_DATA_DIR and so on). Kafka's broker properties are set by --set, in the [kafka] table of the file, or as
/// CORELANE_KAFKA_LOG_RETENTION_MS and so on. What is unknown, wrong, or not honoured by this version is refused.
#[derive(Debug, Args)]
pub struct StartArgs {
    /// Directory of all data; created if it is missing [default: corelane-data] [env: CORELANE_DATA_DIR] [kafka: log.dirs]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// Address to listen on; an empty host means every interface [default: 127.0.0.1:9092] [env: CORELANE_LISTEN]
    /// [kafka: listeners]
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,
    /// Cores to run on, as numbers and ranges such as 0-3,6 [default: all that the process may use] [env: CORELANE_CORES]
    #[arg(long, value_name = "LIST")]
    cores: Option<String>,
    /// Identity of this node in its cluster [default: 0] [env: CORELANE_NODE_ID] [kafka: node.id]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    node_id: Option<String>,
    /// What clients see: `node`, the process is one Kafka broker; `shard`, every core is a broker of its own, at port + core
    /// number, so that clients connect straight to the core that owns a partition [default: node] [env: CORELANE_ADVERTISE]
    #[arg(long, value_name = "node|shard")]
    advertise: Option<String>,
    /// Memory for buffers and caches, such as 4GiB [default: 1 GiB for each core, half of what the process may use at most] [env: CORELANE_MEMORY]
    #[arg(long, value_name = "SIZE")]
    memory: Option<String>,
    /// Serve other machines on listeners that ask nobody who they are [default: refused] [env: CORELANE_ALLOW_UNAUTHENTICATED]
    /// [kafka: listeners.allow.unauthenticated]
    #[arg(long)]
    allow_unauthenticated: bool,
    /// Make the SCRAM users in a file that has NAME=PASSWORD in each line, while the cluster has none [default: none]
    /// [env: CORELANE_SCRAM_USERS] [kafka: scram.users.file]
    #[arg(long, value_name = "FILE")]
    scram_users: Option<String>,
    /// Read settings from a TOML file [default: none] [env: CORELANE_CONFIG]
    #[arg(long, value_name = "FILE.toml")]
    config: Option<PathBuf>,
    /// Set a Kafka broker property, such as log.retention.ms=3600000; repeatable [default: see --properties]
    #[arg(long, value_name = "NAME=VALUE")]
    set: Vec<String>,
    /// How log lines are written, on standard error [default: text, with --json: json] [env: CORELANE_LOG_FORMAT]
    #[arg(long, value_name = "text|json")]
    log_format: Option<String>,
    /// Least level that is logged: error, warn, info, debug, trace, or directives such as info,corelane_raft=debug
    /// [default: info] [env: CORELANE_LOG_LEVEL]
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
    /// List the broker properties that --set takes, with defaults and what this version does with them, and end
    #[arg(long)]
    properties: bool,
}

impl StartArgs {
    /// With `json`, log lines are JSON too, unless a flag says otherwise.
    fn load_options(&self, json: bool, environment: Vec<(String, String)>) -> LoadOptions {
        let log_format = self.log_format.clone().or_else(|| json.then(|| "json".to_owned()));
        let allowed = self.allow_unauthenticated.then(|| "true".to_owned());
        let flags = [
            ("--allow-unauthenticated", &allowed),
            ("--data-dir", &self.data_dir),
            ("--listen", &self.listen),
            ("--cores", &self.cores),
            ("--node-id", &self.node_id),
            ("--advertise", &self.advertise),
            ("--memory", &self.memory),
            ("--scram-users", &self.scram_users),
            ("--log-format", &log_format),
            ("--log-level", &self.log_level),
        ];
        let flags = flags.into_iter().filter_map(|(name, v)| Some((name.to_owned(), v.clone()?))).collect();
        let from_environment = || environment.iter().find(|(n, _)| n == "CORELANE_CONFIG").map(|(_, v)| v.into());
        let file = self.config.clone().or_else(from_environment);
        LoadOptions { file, environment, flags, set: self.set.clone() }
    }
}

pub fn run(
    args: &StartArgs,
    out: &mut Output,
    start: impl FnOnce(BrokerConfig, Banner) -> Result<(), Failure>,
) -> Result<(), Failure> {
    if args.properties {
        return list_properties(out);
    }
    let lossy = |s: std::ffi::OsString| s.to_string_lossy().into_owned();
    let environment = std::env::vars_os().map(|(k, v)| (lossy(k), lossy(v))).collect();
    let config = BrokerConfig::load(&args.load_options(out.is_json(), environment)).map_err(|e| {
        let exit = match &e {
            LoadError::Unreadable { error, .. } if error.kind() == std::io::ErrorKind::NotFound => Exit::NotFound,
            _ => Exit::Usage,
        };
        Failure::new(exit, e.to_string())
    })?;
    if let Some(listener) = config.exposed() {
        return Err(Failure::new(Exit::Refused, exposed(listener)));
    }
    logging::init(&config)?;
    super::doctor::refuse_unfit(&config)?;
    start(config, Banner { json: out.is_json() })
}

/// What to do about a listener that anybody may use.
fn exposed(listener: &Listener) -> String {
    let how = match listener.protocol {
        SecurityProtocol::Ssl => {
            "set ssl.client.auth=required (`corelane security cert` makes certificates for trying out)"
        }
        _ => {
            "make it SASL_SSL with users (--scram-users), or SSL with certificates of clients (`corelane security --help`)"
        }
    };
    format!(
        "listener {} at {} would let in anybody who reaches this machine: bind it to 127.0.0.1, {how}, or say \
         --allow-unauthenticated",
        listener.name, listener.listen
    )
}

/// Every broker property, the honoured ones first.
fn list_properties(out: &mut Output) -> Result<(), Failure> {
    let mut all: Vec<&Setting> = Scope::Broker.settings().iter().collect();
    all.sort_by_key(|s| (matches!(s.status, Status::Fixed(_)), s.name));
    let mut table = Table::new(&["property", "type", "default", "what it does"]);
    for s in all {
        if out.is_json() {
            out.json(&json!({
                "name": s.name, "type": s.kind.name(), "default": s.default,
                "honoured": !matches!(s.status, Status::Fixed(_)), "documentation": s.documentation(),
            }))?;
            continue;
        }
        let default = s.default.unwrap_or("-").to_owned();
        table.row(vec![s.name.to_owned(), s.kind.name().to_owned(), default, s.documentation()]);
    }
    if table.is_empty() { Ok(()) } else { out.table(&table) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_reach_the_configuration() {
        let args = StartArgs {
            data_dir: Some("d".into()),
            listen: None,
            cores: Some("1".into()),
            node_id: None,
            advertise: Some("shard".into()),
            scram_users: None,
            memory: None,
            config: None,
            set: vec!["num.partitions=4".into()],
            log_format: None,
            log_level: Some("warn".into()),
            allow_unauthenticated: false,
            properties: false,
        };
        let environment = vec![("CORELANE_LISTEN".into(), ":7".into())];
        let config = BrokerConfig::load(&args.load_options(false, environment)).unwrap();
        assert_eq!(config.listeners[0].listen.port, 7);
        assert_eq!((config.default_partitions, config.log_level.as_str()), (4, "warn"));
        assert_eq!(config.cores, Some(vec![1]));
    }
}

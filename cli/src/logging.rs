//! Log lines of a running broker, on standard error.

use crate::exit::Failure;
use crate::loggers;
use corelane_config::{BrokerConfig, LogFormat};
use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

/// Sets up logging for the process; once.
pub fn init(config: &BrokerConfig) -> Result<(), Failure> {
    // What the Raft library reports of every start of a group is for its own developers.
    let level = match config.log_level.contains("openraft") {
        true => config.log_level.clone(),
        false => format!("openraft=warn,{}", config.log_level),
    };
    let filter = EnvFilter::try_new(&level).map_err(|e| {
        Failure::usage(format!(
            "log level {:?}: {e} (allowed: error, warn, info, debug, trace, or target=level directives)",
            config.log_level
        ))
    })?;
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_thread_names(true);
    // The formats are of different types, and so are the handles on their filters.
    let done = match config.log_format {
        LogFormat::Json => {
            let builder = builder.json().flatten_event(true).with_current_span(false).with_filter_reloading();
            let handle = builder.reload_handle();
            loggers::begin(&level, Box::new(move |filter| drop(handle.reload(filter))));
            builder.try_init()
        }
        LogFormat::Text => {
            let builder = builder.with_ansi(std::io::stderr().is_terminal()).with_filter_reloading();
            let handle = builder.reload_handle();
            loggers::begin(&level, Box::new(move |filter| drop(handle.reload(filter))));
            builder.try_init()
        }
    };
    done.map_err(|e| Failure::failed(format!("cannot set up logging: {e}")))
}

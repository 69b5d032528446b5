//! The log levels of a broker as a resource of configs (KIP-412; Kafka: `RuntimeLoggerManager`, `LoggingController`).

use corelane_cli::loggers::{self, Level};
use corelane_protocol::messages::describe_configs_request::DescribeConfigsRequestDescribeConfigsResource;
use corelane_protocol::messages::describe_configs_response::DescribeConfigsResponseDescribeConfigsResourceResult;
use corelane_protocol::messages::incremental_alter_configs_request::IncrementalAlterConfigsRequestAlterConfigsResource;
use corelane_protocol::{ErrorCode, Str};

use crate::controller::Refused;
use crate::shard::Shard;

/// Kafka's resource type.
pub const BROKER_LOGGER: i8 = 8;
/// Kafka's source of a level (`DYNAMIC_BROKER_LOGGER_CONFIG`).
const SOURCE: i8 = 6;

const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

fn invalid(message: String) -> Refused {
    Refused::new(ErrorCode::InvalidRequest, message)
}

/// Whether `broker` is one that can be described here.
pub fn check_described(shard: &Shard, broker: &str) -> Result<(), Refused> {
    let own = shard.broker_id();
    match broker.parse::<i32>() {
        _ if broker.is_empty() => Err(invalid("Broker id must not be empty".to_owned())),
        Ok(id) if id == own => Ok(()),
        Ok(id) => Err(invalid(format!("Unexpected broker id, expected {own} but received {id}"))),
        Err(_) => Err(invalid(format!("Broker id must be an integer, but it is: {broker}"))),
    }
}

/// The loggers that are asked for, or all.
pub fn describe(
    asked: &DescribeConfigsRequestDescribeConfigsResource,
) -> Vec<DescribeConfigsResponseDescribeConfigsResourceResult> {
    let keys = asked.configuration_keys.as_deref().unwrap_or_default();
    let wanted = |logger: &str| keys.is_empty() || keys.iter().any(|key| key.as_str() == logger);
    let shown = loggers::levels().into_iter().filter(|(logger, _)| wanted(logger));
    let entry = |(logger, level): (String, Level)| DescribeConfigsResponseDescribeConfigsResourceResult {
        name: logger.into(),
        value: Some(Str::from_static(level.name())),
        config_source: SOURCE,
        ..Default::default()
    };
    shown.map(entry).collect()
}

/// Changes levels: all that are named, or none. [`corelane_config::alter::check_form`] has nothing to say of them.
pub fn alter(
    shard: &Shard,
    asked: &IncrementalAlterConfigsRequestAlterConfigsResource,
    validate_only: bool,
) -> Result<(), Refused> {
    let configs = &asked.configs;
    let (own, broker) = (shard.broker_id(), asked.resource_name.as_str());
    match broker.parse::<i32>() {
        Ok(id) if id == own => {}
        Ok(id) => return Err(invalid(format!("Unexpected node id. Expected {own}, but received {id}"))),
        Err(_) => return Err(invalid(format!("Node id must be an integer, but it is: {broker}"))),
    }
    let change = |operation: i8, logger: &str, value: Option<&str>| match operation {
        SET => {
            check_exists(logger)?;
            let level = value.and_then(Level::settable).ok_or_else(|| unknown_level(logger, value))?;
            Ok((logger.to_owned(), Some(level)))
        }
        DELETE => {
            check_exists(logger)?;
            match logger {
                loggers::ROOT => Err(invalid("Removing the log level of the root logger is not allowed".to_owned())),
                _ => Ok((logger.to_owned(), None)),
            }
        }
        APPEND => Err(invalid("APPEND operation is not allowed for the BROKER_LOGGER resource".to_owned())),
        SUBTRACT => Err(invalid("SUBTRACT operation is not allowed for the BROKER_LOGGER resource".to_owned())),
        other => {
            let message = format!("Unknown operation type {other} is not allowed for the BROKER_LOGGER resource");
            Err(invalid(message))
        }
    };
    let changes = configs.iter().map(|c| change(c.config_operation, c.name.as_str(), c.value.as_deref()));
    let changes = changes.collect::<Result<Vec<_>, Refused>>()?;
    for (logger, level) in changes.into_iter().filter(|_| !validate_only) {
        tracing::warn!(logger, level = level.map_or("its parent's", Level::name), "the level of a logger changes");
        loggers::set(&logger, level);
    }
    Ok(())
}

fn check_exists(logger: &str) -> Result<(), Refused> {
    match loggers::exists(logger) {
        true => Ok(()),
        false => Err(Refused::new(ErrorCode::InvalidConfig, format!("Logger {logger} does not exist!"))),
    }
}

fn unknown_level(logger: &str, level: Option<&str>) -> Refused {
    let message = format!(
        "Cannot set the log level of {logger} to {} as it is not a supported log level. Valid log levels are DEBUG, ERROR, FATAL, \
         INFO, TRACE, WARN",
        level.unwrap_or_default()
    );
    Refused::new(ErrorCode::InvalidConfig, message)
}

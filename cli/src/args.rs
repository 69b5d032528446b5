//! The arguments: what `--help` says is written here and beside each command.

use crate::bench::BenchArgs;
use crate::client::{Dial, Timeouts};
use crate::command::{
    check::CheckArgs, cluster::ClusterCommand, consume::ConsumeArgs, doctor::DoctorArgs, dump_log::DumpLogArgs,
    group::GroupCommand, produce::ProduceArgs, security::SecurityCommand, start::StartArgs, topic::TopicCommand,
};
use crate::exit::{EXIT_CODES, Failure};
use crate::identity::Identity;
use clap::{Args, Parser, Subcommand};
use std::time::Duration;

/// A Kafka-compatible streaming broker: one reactor per core, durable by default.
#[derive(Debug, Parser)]
#[command(name = "corelane", version, after_help = EXIT_CODES, max_term_width = 110, arg_required_else_help = true)]
pub struct Cli {
    #[command(flatten)]
    pub options: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// What every command takes.
#[derive(Clone, Debug, Args)]
pub struct Global {
    /// Print JSON, one document a line, instead of text for people
    #[arg(long, global = true, help_heading = "Global options")]
    pub json: bool,
    /// Broker to ask first; several with commas
    #[arg(
        long,
        global = true,
        value_name = "HOST:PORT",
        env = "CORELANE_BOOTSTRAP",
        default_value = "127.0.0.1:9092",
        help_heading = "Global options"
    )]
    pub bootstrap: String,
    /// How long to wait for an answer, and to retry what may be retried
    #[arg(
        long,
        global = true,
        value_name = "SECONDS",
        default_value = "30",
        value_parser = seconds,
        help_heading = "Global options"
    )]
    pub timeout: Duration,
    #[command(flatten)]
    pub identity: Identity,
}

impl Global {
    /// How to connect to brokers. Reads the files that flags name.
    pub fn dial(&self) -> Result<Dial, Failure> {
        let timeouts = Timeouts { connect: self.timeout.min(Duration::from_secs(5)), answer: self.timeout };
        Ok(Dial { timeouts, security: self.identity.security()? })
    }
}

// What has no line of its own here is described where its arguments are.
#[derive(Debug, Subcommand)]
pub enum Command {
    Start(Box<StartArgs>),
    /// Create, list, describe, alter and delete topics
    #[command(subcommand)]
    Topic(TopicCommand),
    Produce(Box<ProduceArgs>),
    Consume(Box<ConsumeArgs>),
    /// List, describe, delete and reset consumer groups
    #[command(subcommand)]
    Group(GroupCommand),
    /// Show the cluster
    #[command(subcommand)]
    Cluster(ClusterCommand),
    /// Make certificates for trying out TLS; users of SCRAM, and who may do what (access rules)
    #[command(subcommand)]
    Security(SecurityCommand),
    Bench(Box<BenchArgs>),
    DumpLog(DumpLogArgs),
    Check(CheckArgs),
    Doctor(DoctorArgs),
}

/// Seconds, with a fraction if need be; at least a millisecond.
pub fn seconds(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a number of seconds");
    let n: f64 = text.parse().map_err(|_| wrong())?;
    if (0.001..1e9).contains(&n) { Ok(Duration::from_secs_f64(n)) } else { Err(wrong()) }
}

/// A size in bytes: `64KiB`, `1M`, plain digits.
pub fn size(text: &str) -> Result<usize, String> {
    let n = corelane_config::units::parse_size(text)?;
    usize::try_from(n).map_err(|_| format!("{text:?} is too large"))
}

/// `NAME=VALUE`.
pub fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or_else(|| format!("{text:?} is not NAME=VALUE"))?;
    if name.is_empty() {
        return Err(format!("{text:?} has no name"));
    }
    Ok((name.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    fn parse(args: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(std::iter::once("corelane").chain(args.split_whitespace()))
    }

    #[test]
    fn what_the_manual_says_is_understood() {
        for line in [
            "start",
            "start --data-dir d --listen 0.0.0.0:9092 --cores 0-3 --node-id 1 --advertise shard --memory 4GiB --config c.toml",
            "start --set log.retention.ms=5 --set num.partitions=3 --log-format json --log-level debug",
            "start --properties",
            "topic create t --partitions 3 --config retention.ms=5",
            "topic list --json",
            "topic describe t --bootstrap h:1",
            "topic alter t --set retention.ms=5 --unset segment.ms --partitions 9",
            "topic delete t",
            "produce t --key-separator : --acks all --compression zstd --file f --header a=b",
            "consume t --from beginning -n 5 --format json",
            "consume t u --group g",
            "group list",
            "group describe g",
            "group delete g",
            "group reset g --topic t --to earliest",
            "cluster info",
            "bench produce --topic b --seconds 5 --connections 4",
            "bench consume --topic b",
            "bench latency --rate 20000",
            "security ca folder",
            "security cert alice --ca folder --host localhost --days 9 --replace",
            "security user add alice --user admin --password-file f --tls-ca ca.pem --sasl-mechanism PLAIN",
            "security user add alice --mechanism SCRAM-SHA-256 --iterations 8192 --from f",
            "security user list --command-config client.properties",
            "security user delete alice --tls-cert admin.pem",
            "security acl add --principal User:alice --producer --topic t --resource-pattern-type prefixed",
            "security acl add --principal User:alice --deny --operation read --operation Describe --group g --host 10.0.0.1",
            "security acl list --topic t --resource-pattern-type match",
            "security acl delete --principal User:alice",
            "security acl delete --all",
            "dump-log x.log --records",
            "doctor --data-dir d",
        ] {
            parse(line).unwrap_or_else(|e| panic!("{line}: {e}"));
        }
    }

    /// Options with a value; flags are off without being told.
    #[test]
    fn every_option_is_described_with_its_default() {
        fn look(command: &clap::Command, path: &str) {
            let path = format!("{path} {}", command.get_name());
            let with_value = |a: &&clap::Arg| a.get_action().takes_values() && !a.is_positional();
            for option in command.get_arguments().filter(with_value) {
                let help = option.get_long_help().or(option.get_help()).map(ToString::to_string).unwrap_or_default();
                let shown = !option.get_default_values().is_empty() && !option.is_hide_default_value_set();
                let told = shown || option.is_required_set() || help.contains("[default: ");
                assert!(!help.is_empty() && told, "{path} --{}: {help:?}", option.get_id());
            }
            command.get_subcommands().for_each(|command| look(command, &path));
        }
        look(&Cli::command(), "");
    }

    #[test]
    fn what_is_wrong_is_usage() {
        for line in [
            "",
            "nope",
            "topic",
            "topic create",
            "topic create t --partitions x",
            "topic create t --config x",
            "produce t --acks 2",
            "consume t --format xml",
            "consume",
            "bench",
            "start --cores",
            "consume t --timeout -1",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}

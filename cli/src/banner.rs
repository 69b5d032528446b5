//! What `corelane start` prints when it is ready.

use corelane_config::units::{HostPort, format_size};
use corelane_config::{Advertise, BrokerConfig, SecurityProtocol};
use serde_json::json;
use std::io::Write;
use std::time::Duration;

/// What the banner tells, beyond the configuration.
pub struct Ready<'a> {
    pub config: &'a BrokerConfig,
    /// At least one.
    pub listeners: &'a [ReadyListener],
    pub cores: &'a [usize],
    pub cluster_id: &'a str,
    pub topics: usize,
    pub partitions: usize,
    /// From the start of the process.
    pub took: Duration,
}

/// One listener that is served.
pub struct ReadyListener {
    pub name: String,
    pub protocol: SecurityProtocol,
    /// The addresses listened on: one, or one for every shard.
    pub listening: Vec<std::net::SocketAddr>,
    /// What clients are told: one, or one for every shard, or none.
    pub advertised: Vec<HostPort>,
}

/// How `start` tells that it is ready.
#[derive(Clone, Copy, Debug)]
pub struct Banner {
    /// One JSON document instead of text for people.
    pub(crate) json: bool,
}

impl Banner {
    /// Prints to standard output. A closed one is no reason to stop serving.
    pub fn print(self, ready: &Ready<'_>) {
        let program = std::env::args_os().next().unwrap_or_else(|| "corelane".into());
        let program = quoted(&program.to_string_lossy());
        let text = if self.json { format!("{}\n", document(ready)) } else { text(ready, &program) };
        let mut out = std::io::stdout().lock();
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }
}

fn document(r: &Ready<'_>) -> serde_json::Value {
    fn shown<T: ToString>(items: &[T]) -> Vec<String> {
        items.iter().map(ToString::to_string).collect()
    }
    let listener = |l: &ReadyListener| {
        json!({
            "name": l.name,
            "protocol": l.protocol.name(),
            "listening": shown(&l.listening),
            "advertised": shown(&l.advertised),
        })
    };
    let first = r.listeners.first();
    json!({
        "event": "ready",
        "version": env!("CARGO_PKG_VERSION"),
        "listening": first.map(|l| shown(&l.listening)),
        "advertised": first.map(|l| shown(&l.advertised)),
        "listeners": r.listeners.iter().map(listener).collect::<Vec<_>>(),
        "advertise": match r.config.advertise {
            Advertise::Node => "node",
            Advertise::Shard => "shard",
        },
        "cores": r.cores,
        "data_dir": data_dir(r),
        "memory_bytes": r.config.memory_bytes,
        "cluster_id": r.cluster_id,
        "node_id": r.config.node_id,
        "topics": r.topics,
        "partitions": r.partitions,
        "ready_ms": r.took.as_millis() as u64,
    })
}

fn data_dir(r: &Ready<'_>) -> String {
    std::path::absolute(&r.config.data_dir).unwrap_or_else(|_| r.config.data_dir.clone()).display().to_string()
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "/._-+=:,@%".contains(c);
    if word.chars().all(is_plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

/// `program`: how this process was started, so that the commands it names can be pasted.
fn text(r: &Ready<'_>, program: &str) -> String {
    let list = |items: &mut dyn Iterator<Item = String>| items.collect::<Vec<_>>().join(", ");
    let mode = match r.config.advertise {
        Advertise::Node => "as one broker",
        Advertise::Shard => "as one broker a core",
    };
    // What is tried without further options must be able to connect.
    let open = r.listeners.iter().filter(|l| l.protocol == SecurityProtocol::Plaintext);
    let bootstrap = match open.flat_map(|l| &l.advertised).next().map(ToString::to_string) {
        Some(first) if first != "127.0.0.1:9092" => format!(" --bootstrap {first}"),
        _ => String::new(),
    };
    let kafka: String = r
        .listeners
        .iter()
        .map(|l| {
            // The usual case has nothing to tell apart.
            let name = match l.name.as_str() {
                "PLAINTEXT" if r.listeners.len() == 1 => String::new(),
                name if name == l.protocol.name() => format!("{name}, "),
                name => format!("{name}, {}, ", l.protocol),
            };
            let advertised = list(&mut l.advertised.iter().map(ToString::to_string));
            let listening = list(&mut l.listening.iter().map(ToString::to_string));
            format!("kafka      {advertised}  ({name}{mode}, listening on {listening})\n  ")
        })
        .collect();
    format!(
        "\nCorelane {version} is ready ({took:.2} s)\n  \
         {kafka}cores      {cores}\n  \
         data       {data}\n  \
         memory     {memory}\n  \
         cluster    {cluster}, node {node}, {topics} topics, {partitions} partitions\n\n\
         Try it in another terminal:\n  \
         echo hello | {program} produce greetings{bootstrap}\n  \
         {program} consume greetings --from beginning -n 1{bootstrap}\n\n",
        version = env!("CARGO_PKG_VERSION"),
        took = r.took.as_secs_f64(),
        cores = list(&mut r.cores.iter().map(ToString::to_string)),
        data = data_dir(r),
        memory = format_size(r.config.memory_bytes),
        cluster = r.cluster_id,
        node = r.config.node_id,
        topics = r.topics,
        partitions = r.partitions,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use corelane_config::LoadOptions;

    #[test]
    fn it_tells_where_and_how() {
        let options = LoadOptions { flags: vec![("--listen".into(), "127.0.0.1:9999".into())], ..Default::default() };
        let config = BrokerConfig::load(&options).unwrap();
        let ready = Ready {
            config: &config,
            listeners: &[ReadyListener {
                name: "PLAINTEXT".into(),
                protocol: SecurityProtocol::Plaintext,
                listening: vec!["127.0.0.1:9999".parse().unwrap()],
                advertised: vec!["127.0.0.1:9999".parse().unwrap()],
            }],
            cores: &[0, 1],
            cluster_id: "abc",
            topics: 2,
            partitions: 7,
            took: Duration::from_millis(120),
        };
        let document = document(&ready);
        assert_eq!(document["advertised"], json!(["127.0.0.1:9999"]));
        assert_eq!((&document["event"], &document["advertise"]), (&json!("ready"), &json!("node")));
        assert_eq!((&document["cores"], &document["ready_ms"]), (&json!([0, 1]), &json!(120)));
        let text = text(&ready, &quoted("target/debug/corelane"));
        assert!(text.contains("is ready (0.12 s)"), "{text}");
        let commands = ["produce greetings", "consume greetings --from beginning -n 1"];
        for command in commands.map(|c| format!("target/debug/corelane {c} --bootstrap 127.0.0.1:9999\n")) {
            assert!(text.contains(&command), "{text}");
        }
        assert!(text.contains("cores      0, 1"), "{text}");
    }

    #[test]
    fn odd_paths_can_be_pasted() {
        assert_eq!(quoted("./my tools/corelane"), "'./my tools/corelane'");
        assert_eq!(quoted("it's/corelane"), r"'it'\''s/corelane'");
    }
}

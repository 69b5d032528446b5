//! What `corelane start` prints when it is ready.

use corelane_config::units::{HostPort, format_size};
use corelane_config::{Advertise, BrokerConfig};
use serde_json::json;
use std::io::Write;
use std::time::Duration;

/// What the banner tells, beyond the configuration.
pub struct Ready<'a> {
    pub config: &'a BrokerConfig,
    /// The addresses listened on: one, or one for every shard.
    pub listening: &'a [std::net::SocketAddr],
    /// What clients are told: one, or one for every shard.
    pub advertised: &'a [HostPort],
    pub cores: &'a [usize],
    pub cluster_id: &'a str,
    pub topics: usize,
    pub partitions: usize,
    /// From the start of the process.
    pub took: Duration,
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
        let text = if self.json { format!("{}\n", document(ready)) } else { text(ready) };
        let mut out = std::io::stdout().lock();
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }
}

fn document(r: &Ready<'_>) -> serde_json::Value {
    let shown = |items: &mut dyn Iterator<Item = String>| items.collect::<Vec<_>>();
    json!({
        "event": "ready",
        "version": env!("CARGO_PKG_VERSION"),
        "listening": shown(&mut r.listening.iter().map(ToString::to_string)),
        "advertised": shown(&mut r.advertised.iter().map(ToString::to_string)),
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

fn text(r: &Ready<'_>) -> String {
    let list = |items: &mut dyn Iterator<Item = String>| items.collect::<Vec<_>>().join(", ");
    let mode = match r.config.advertise {
        Advertise::Node => "as one broker",
        Advertise::Shard => "as one broker a core",
    };
    let first = r.advertised.first().map(ToString::to_string).unwrap_or_else(|| r.config.advertised().to_string());
    let bootstrap = if first == "127.0.0.1:9092" { String::new() } else { format!(" --bootstrap {first}") };
    format!(
        "\nCorelane {version} is ready ({took:.2} s)\n  \
         kafka      {advertised}  ({mode}, listening on {listening})\n  \
         cores      {cores}\n  \
         data       {data}\n  \
         memory     {memory}\n  \
         cluster    {cluster}, node {node}, {topics} topics, {partitions} partitions\n\n\
         Try it in another terminal:\n  \
         echo hello | corelane produce greetings{bootstrap}\n  \
         corelane consume greetings --from beginning -n 1{bootstrap}\n\n",
        version = env!("CARGO_PKG_VERSION"),
        took = r.took.as_secs_f64(),
        advertised = list(&mut r.advertised.iter().map(ToString::to_string)),
        listening = list(&mut r.listening.iter().map(ToString::to_string)),
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
            listening: &["127.0.0.1:9999".parse().unwrap()],
            advertised: &["127.0.0.1:9999".parse().unwrap()],
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
        let text = text(&ready);
        assert!(text.contains("is ready (0.12 s)"), "{text}");
        assert!(text.contains("corelane produce greetings --bootstrap 127.0.0.1:9999"), "{text}");
        assert!(text.contains("cores      0, 1"), "{text}");
    }
}

//! Apache Kafka beside the broker under test: run by `benches/kafka.sh`, ended with this process.

use crate::broker::PROPERTIES;
use crate::connection::Connection;
use crate::java::repository;
use crate::{ports, process, scratch, wait};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

/// One core for the JVM, and no waiting for its second compiler: the run is short.
const HEAP: &str = "-Xmx768M -Xms128M -XX:TieredStopAtLevel=1 -Xshare:auto";

pub struct Kafka {
    child: Child,
    folder: PathBuf,
    pub bootstrap: String,
    /// Of a listener for SASL in plain text, where there is one.
    pub sasl: String,
}

impl Kafka {
    /// Starts without waiting. `more`: properties after those that every test broker has.
    pub fn start(more: &[(&str, &str)]) -> Kafka {
        Kafka::launch(ports::free(2), more, None, "")
    }

    /// The same with a listener for SASL, with the classes of its plugins, and with further options of its JVM.
    pub fn start_with_sasl(more: &[(&str, &str)], plugins: Option<&Path>, jvm: &str) -> Kafka {
        let port = ports::free(3);
        let (controller, sasl) = (port + 1, port + 2);
        let listeners = format!(
            "PLAINTEXT://localhost:{port},CONTROLLER://localhost:{controller},SASL_PLAINTEXT://localhost:{sasl}"
        );
        let own = [
            ("listeners", listeners.as_str()),
            ("advertised.listeners", &listeners),
            (
                "listener.security.protocol.map",
                "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT",
            ),
        ];
        Kafka::launch(port, &[&own, more].concat(), plugins, jvm)
    }

    fn launch(port: u16, more: &[(&str, &str)], plugins: Option<&Path>, jvm: &str) -> Kafka {
        let folder = scratch::folder("apache-kafka");
        // a value may have spaces, which the script would end it at
        let line = |(k, v): &(&str, &str)| format!("{k}={}", v.replace(' ', r"\u0020"));
        let properties: Vec<String> = PROPERTIES.iter().chain(more).map(line).collect();
        // the script's own lines come first, and the last of two counts
        let mut command = process::command(repository().join("benches/kafka.sh"));
        command.arg("run").env("KAFKA_RUN", &folder).env("KAFKA_PORT", port.to_string());
        command.env("KAFKA_EXTRA", properties.join(" ")).env("HEAP", format!("{HEAP} {jvm}")).stdin(Stdio::null());
        command.envs(plugins.map(|plugins| ("KAFKA_CLASSPATH", plugins)));
        let child = process::spawn(command).expect("benches/kafka.sh");
        let at = |port: u16| format!("127.0.0.1:{port}");
        Kafka { child, folder, bootstrap: at(port), sasl: at(port + 2) }
    }

    /// Its files, removed with it: `data` is its log directory.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub fn wait_ready(&self) {
        let log = || std::fs::read_to_string(self.folder.join("server.log")).unwrap_or_default();
        let ready = wait::within(Duration::from_secs(180), || {
            let metadata = Connection::open(&self.bootstrap).and_then(|mut c| c.metadata("none")).ok()?;
            (!metadata.brokers.is_empty()).then_some(())
        });
        assert!(ready.is_some(), "Apache Kafka does not start:\n{}", log());
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if !std::thread::panicking() {
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}

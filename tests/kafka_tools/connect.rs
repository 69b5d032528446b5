//! Kafka Connect standalone with its file connectors: lines of one file come out in another, and go on where they were
//! after a restart.

use corelane_tests::broker::{Broker, BrokerOptions, controllable};
use corelane_tests::{java, ports, process, scratch, wait};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

/// A worker takes half a minute to start where it has a part of a core.
const LIMIT: Duration = Duration::from_secs(180);
const CLASS: &str = "org.apache.kafka.connect.cli.ConnectStandalone";

/// A worker, ended by SIGTERM.
struct Worker {
    child: Child,
    folder: PathBuf,
}

impl Worker {
    fn start(folder: &Path, bootstrap: &str) -> Worker {
        let file = |name: &str, text: String| {
            let path = folder.join(name);
            fs::write(&path, text).expect("a file");
            path
        };
        let converter = "org.apache.kafka.connect.storage.StringConverter";
        let at = |name: &str| folder.join(name).display().to_string();
        let worker = file(
            "worker.properties",
            format!(
                "bootstrap.servers={bootstrap}\nkey.converter={converter}\nvalue.converter={converter}\n\
                 offset.storage.file.filename={}\noffset.flush.interval.ms=500\n\
                 task.shutdown.graceful.timeout.ms=60000\noffset.flush.timeout.ms=60000\nlisteners=http://127.0.0.1:{}\n\
                 plugin.discovery=service_load\n",
                at("connect.offsets"),
                ports::free(1)
            ),
        );
        let source = file(
            "source.properties",
            format!(
                "name=file-source\nconnector.class=org.apache.kafka.connect.file.FileStreamSourceConnector\ntasks.max=1\n\
                 file={}\ntopic=connected\n",
                at("in.txt")
            ),
        );
        let sink = file(
            "sink.properties",
            format!(
                "name=file-sink\nconnector.class=org.apache.kafka.connect.file.FileStreamSinkConnector\ntasks.max=1\n\
                 file={}\ntopics=connected\n",
                at("out.txt")
            ),
        );
        let out = fs::File::options().create(true).append(true).open(folder.join("connect.log")).expect("a log");
        let mut command = java::alone(CLASS, folder);
        command.args([worker, source, sink]);
        command.stdin(Stdio::null()).stdout(out.try_clone().expect("a log")).stderr(out);
        Worker { child: process::spawn(command).expect("java"), folder: folder.to_owned() }
    }

    /// Waits until the sink's file holds these lines.
    fn delivers(&self, lines: &[String]) {
        let out = || fs::read_to_string(self.folder.join("out.txt")).unwrap_or_default();
        let arrived = wait::within(LIMIT, || (out().lines().count() >= lines.len()).then_some(()));
        let log = || fs::read_to_string(self.folder.join("connect.log")).unwrap_or_default();
        assert!(arrived.is_some(), "{} of {} lines\n{}", out().lines().count(), lines.len(), log());
        for (at, (found, line)) in out().lines().zip(lines).enumerate() {
            assert_eq!(found, line, "line {at}");
        }
        assert_eq!(out().lines().count(), lines.len());
    }

    fn stop(mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("kill -TERM");
        let ended = wait::within(LIMIT, || self.child.try_wait().expect("the worker"));
        assert!(ended.is_some(), "SIGTERM does not end Kafka Connect");
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn kafka_connect_moves_lines_from_file_to_file() {
    if !controllable() {
        return;
    }
    // Connect makes its topics as a client does: where topics may be made by naming them
    let broker = Broker::start(BrokerOptions::default());
    let folder = scratch::folder("connect");
    // the source counts characters and goes on at that byte
    let lines: Vec<String> = (0..300).map(|n| format!("line {n} of the file")).collect();
    let write = |lines: &[String]| fs::write(folder.join("in.txt"), lines.join("\n") + "\n").expect("a file");
    write(&lines[..200]);
    let worker = Worker::start(&folder, broker.bootstrap());
    worker.delivers(&lines[..200]);
    worker.stop();
    write(&lines);
    let worker = Worker::start(&folder, broker.bootstrap());
    worker.delivers(&lines);
    worker.stop();
}

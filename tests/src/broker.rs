//! A broker under test: the built `corelane` binary, a script that runs some other broker, or just an address.
//!
//! | environment | meaning |
//! |---|---|
//! | `CORELANE_TEST_BOOTSTRAP` | use this running broker; tests that must start and kill one are skipped by name |
//! | `CORELANE_TEST_SCRIPT` | a script with the verbs start, stop, kill9, wipe, pids, bootstrap (benches/kafka.sh) |
//! | `CORELANE_BIN` | the binary (default: release, else this profile's, in the build folder) |
//! | `CORELANE_TEST_ADVERTISE` | node (default) or shard: how the binary advertises itself |

use crate::{ports, process, scratch, wait};
use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

/// How long a broker may take to come up before the test fails. Apache Kafka needs 13 s after a kill.
const START_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(30);
/// So long a line may take into the log.
const LINES: Duration = Duration::from_secs(60);

/// Broker properties that every test broker runs with: no waiting that a test would have to sit out.
pub const PROPERTIES: [(&str, &str); 5] = [
    ("auto.create.topics.enable", "true"),
    ("num.partitions", "4"),
    ("group.initial.rebalance.delay.ms", "0"),
    ("group.min.session.timeout.ms", "500"),
    ("transaction.abort.timed.out.transaction.cleanup.interval.ms", "200"),
];

/// What a broker of a test's own is started with.
#[derive(Clone, Debug)]
pub struct BrokerOptions {
    /// Kafka broker properties, after [`PROPERTIES`].
    pub set: Vec<(String, String)>,
    /// Further arguments of `corelane start`; a script-run broker ignores them.
    pub args: Vec<String>,
    /// `--cores` of the binary.
    pub cores: String,
    /// `node` or `shard`.
    pub advertise: String,
    /// What `--listen` says, of the first of 16 neighbouring ports; `None`: one listener there, in plain text. The first listener
    /// must be that too, at that port.
    pub listen: Option<fn(u16) -> String>,
    /// Variables of its environment; a script-run broker ignores them.
    pub env: Vec<(String, String)>,
    /// Another binary than [`binary`].
    pub binary: Option<PathBuf>,
    /// An existing data directory; `None`: a fresh one.
    pub data_dir: Option<PathBuf>,
}

impl Default for BrokerOptions {
    fn default() -> BrokerOptions {
        BrokerOptions {
            set: Vec::new(),
            args: Vec::new(),
            cores: "0,1".into(),
            advertise: std::env::var("CORELANE_TEST_ADVERTISE").unwrap_or_else(|_| "node".into()),
            listen: None,
            env: Vec::new(),
            binary: None,
            data_dir: None,
        }
    }
}

impl BrokerOptions {
    /// Adds a broker property.
    pub fn set(mut self, key: &str, value: impl ToString) -> BrokerOptions {
        self.set.push((key.into(), value.to_string()));
        self
    }
}

enum Kind {
    Binary { child: Option<Child> },
    Script { path: PathBuf, _turn: Option<Turn> },
    Address,
}

/// A running broker. One that a test started itself is killed when dropped.
pub struct Broker {
    kind: Kind,
    options: BrokerOptions,
    bootstrap: String,
    port: u16,
    folder: PathBuf,
}

/// A script runs one broker at a time: tests with brokers of their own take turns.
struct Turn;

static TAKEN: AtomicBool = AtomicBool::new(false);

impl Turn {
    fn take() -> Turn {
        wait::until("another test's broker to stop", Duration::from_secs(600), || {
            TAKEN.compare_exchange(false, true, SeqCst, SeqCst).ok()
        });
        Turn
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        TAKEN.store(false, SeqCst);
    }
}

/// Where the binary is: `CORELANE_BIN`, else the release build, else the build of this test's own profile.
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("CORELANE_BIN") {
        return PathBuf::from(path);
    }
    let exe = std::env::current_exe().expect("path of the running test");
    let own = exe.ancestors().nth(2).expect("target/<profile>").join("corelane");
    let release = scratch::target_dir().join("release/corelane");
    if release.exists() { release } else { own }
}

/// Whether tests may start, stop and kill brokers, and why not.
pub fn controllable() -> bool {
    std::env::var_os("CORELANE_TEST_BOOTSTRAP").is_none()
}

/// Whether the broker under test is the `corelane` binary (and not the real Apache Kafka, to prove a test on it).
pub fn is_corelane() -> bool {
    controllable() && std::env::var_os("CORELANE_TEST_SCRIPT").is_none()
}

impl Broker {
    /// The broker that all tests of this process share. Tests on it use topics and groups of their own.
    pub fn shared() -> &'static Broker {
        static SHARED: OnceLock<Broker> = OnceLock::new();
        SHARED.get_or_init(|| {
            if let Ok(bootstrap) = std::env::var("CORELANE_TEST_BOOTSTRAP") {
                let broker = Broker {
                    kind: Kind::Address,
                    options: BrokerOptions::default(),
                    port: 0,
                    bootstrap,
                    folder: scratch::folder("shared"),
                };
                broker.wait_ready(START_LIMIT).unwrap_or_else(|why| panic!("{}: {why}", broker.bootstrap));
                return broker;
            }
            match std::env::var_os("CORELANE_TEST_SCRIPT") {
                Some(path) => Broker::by_script(path.into(), BrokerOptions::default(), false),
                None => Broker::by_binary(BrokerOptions::default()),
            }
        })
    }

    /// A broker of the caller's own with an empty data directory, ready to serve.
    pub fn start(options: BrokerOptions) -> Broker {
        assert!(controllable(), "CORELANE_TEST_BOOTSTRAP names a broker that tests cannot restart");
        match std::env::var_os("CORELANE_TEST_SCRIPT") {
            Some(path) => Broker::by_script(path.into(), options, true),
            None => Broker::by_binary(options),
        }
    }

    fn by_binary(options: BrokerOptions) -> Broker {
        let folder = scratch::folder("broker");
        let port = ports::free(16);
        let mut broker = Broker {
            kind: Kind::Binary { child: None },
            bootstrap: format!("127.0.0.1:{port}"),
            options,
            port,
            folder,
        };
        broker.resume();
        broker
    }

    fn by_script(path: PathBuf, options: BrokerOptions, fresh: bool) -> Broker {
        let turn = fresh.then(Turn::take);
        let folder = scratch::folder("broker");
        let mut broker =
            Broker { kind: Kind::Script { path, _turn: turn }, bootstrap: String::new(), options, port: 0, folder };
        if fresh {
            broker.script("wipe");
        }
        broker.bootstrap = broker.script("bootstrap").trim().to_owned();
        broker.resume();
        broker
    }

    fn script(&self, verb: &str) -> String {
        let Kind::Script { path, .. } = &self.kind else { panic!("not run by a script") };
        let extra: Vec<String> = self.properties().iter().map(|(k, v)| format!("{k}={v}")).collect();
        let out = Command::new(path)
            .arg(verb)
            .env("KAFKA_EXTRA", extra.join(" "))
            .stdin(Stdio::null())
            .output()
            .unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        String::from_utf8_lossy(&out.stdout).into_owned()
    }

    /// Each property once; the options of the test replace those of all tests.
    fn properties(&self) -> BTreeMap<String, String> {
        let common = PROPERTIES.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        common.chain(self.options.set.iter().cloned()).collect()
    }

    /// The command line that [`Broker::resume`] runs.
    pub fn start_command(&self) -> Command {
        let mut command = process::command(self.options.binary.clone().unwrap_or_else(binary));
        command.envs(self.options.env.iter().cloned());
        command.arg("start").arg("--data-dir").arg(self.data_dir());
        let listen = self.options.listen.map_or_else(|| self.bootstrap.clone(), |of| of(self.port));
        command.args(["--listen", &listen, "--cores", &self.options.cores, "--node-id", "1"]);
        command.args(["--advertise", &self.options.advertise]);
        for (key, value) in self.properties() {
            command.arg("--set").arg(format!("{key}={value}"));
        }
        command.args(&self.options.args);
        command
    }

    /// Starts the process again on the same data and waits until it serves. Returns how long that took.
    pub fn resume(&mut self) -> Duration {
        let started = Instant::now();
        self.spawn();
        if let Err(why) = self.wait_ready(START_LIMIT) {
            panic!("the broker is not ready after {:?}: {why}\n{}", started.elapsed(), self.log_tail());
        }
        started.elapsed()
    }

    /// Starts the process without waiting for it.
    pub fn spawn(&mut self) {
        if let Kind::Script { .. } = self.kind {
            self.script("start");
            return;
        }
        let log = File::options().create(true).append(true).open(self.log_path()).expect("log file");
        let mut command = self.start_command();
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("log file")).stderr(log);
        let started = process::spawn(command).unwrap_or_else(|e| panic!("setpriv {}: {e}", binary().display()));
        let Kind::Binary { child } = &mut self.kind else { panic!("the address of a broker cannot be started") };
        assert!(child.is_none(), "already running");
        *child = Some(started);
    }

    /// Waits until Metadata names a broker; an error says why it does not.
    pub fn wait_ready(&self, limit: Duration) -> Result<(), String> {
        let mut last = String::from("never asked");
        let ready = wait::within(limit, || {
            if !self.is_alive() {
                last = "the process has ended".into();
                return Some(false);
            }
            match brokers_known(&self.bootstrap) {
                Ok(n) if n > 0 => Some(true),
                Ok(_) => {
                    last = "Metadata names no broker".into();
                    None
                }
                Err(e) => {
                    last = e.to_string();
                    None
                }
            }
        });
        if ready == Some(true) { Ok(()) } else { Err(last) }
    }

    /// `host:port` for clients.
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// First port (0: not known).
    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn data_dir(&self) -> PathBuf {
        self.options.data_dir.clone().unwrap_or_else(|| self.folder.join("data"))
    }

    /// A folder for files of the test; it goes with the broker.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn log_path(&self) -> PathBuf {
        self.folder.join("server.log")
    }

    /// The last lines that the binary has printed, for failure messages.
    pub fn log_tail(&self) -> String {
        let text = fs::read_to_string(self.log_path()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    /// Everything that the binary has printed.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// The same, as soon as a line of it has all of these words: lines are written behind what they tell of.
    #[track_caller]
    pub fn log_with(&self, words: &[&str]) -> String {
        let written = |line: &str| words.iter().all(|word| line.contains(word));
        let log = || Some(self.log()).filter(|log| log.lines().any(written));
        wait::within(LINES, log).unwrap_or_else(|| panic!("no line has {words:?}:\n{}", self.log_tail()))
    }

    /// The server process; `None` if it is only known by address, or not running.
    pub fn pid(&self) -> Option<u32> {
        match &self.kind {
            Kind::Binary { child } => child.as_ref().map(Child::id),
            Kind::Script { .. } => self.script("pids").split_whitespace().next()?.parse().ok(),
            Kind::Address => None,
        }
    }

    /// False when the process is known and has ended.
    pub fn is_alive(&self) -> bool {
        match &self.kind {
            // a zombie still has its folder in /proc, but no memory
            Kind::Binary { child } => child.as_ref().is_some_and(|c| process::status_kib(c.id(), "VmRSS").is_some()),
            Kind::Script { .. } => self.pid().is_some(),
            Kind::Address => true,
        }
    }

    /// Resident memory in bytes.
    pub fn rss_bytes(&self) -> Option<u64> {
        process::status_kib(self.pid()?, "VmRSS").map(|kib| kib << 10)
    }

    /// SIGKILL, and waits for the end of the process.
    pub fn kill(&mut self) {
        match &mut self.kind {
            Kind::Binary { child } => {
                if let Some(mut child) = child.take() {
                    child.kill().expect("kill -9");
                    child.wait().expect("the killed process");
                }
            }
            Kind::Script { .. } => drop(self.script("kill9")),
            Kind::Address => panic!("this broker is not ours to kill"),
        }
    }

    /// SIGTERM, and waits for the end of the process. `None`: a script does not tell.
    pub fn stop(&mut self) -> Option<ExitStatus> {
        match &mut self.kind {
            Kind::Binary { child } => {
                let mut child = child.take().expect("a running broker");
                let pid = Pid::from_child(&child);
                kill_process(pid, Signal::TERM).expect("kill -TERM");
                let status = wait::within(STOP_LIMIT, || child.try_wait().expect("the stopped process"));
                if status.is_none() {
                    child.kill().expect("kill -9");
                    child.wait().expect("the killed process");
                    panic!("SIGTERM did not end the broker in {STOP_LIMIT:?}\n{}", self.log_tail());
                }
                status
            }
            Kind::Script { .. } => {
                self.script("stop");
                None
            }
            Kind::Address => panic!("this broker is not ours to stop"),
        }
    }

    /// Waits for the process to end by itself.
    pub fn wait_exit(&mut self, limit: Duration) -> Option<ExitStatus> {
        let Kind::Binary { child: slot } = &mut self.kind else { return None };
        let status = wait::within(limit, || slot.as_mut()?.try_wait().expect("the process"));
        if status.is_some() {
            *slot = None;
        }
        status
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        match &mut self.kind {
            Kind::Binary { child } => {
                if let Some(mut child) = child.take() {
                    let _ = child.kill();
                    let _ = child.wait();
                }
                if !std::thread::panicking() {
                    let _ = fs::remove_dir_all(&self.folder);
                }
            }
            Kind::Script { .. } | Kind::Address => {}
        }
    }
}

/// Asks for Metadata v1 by hand (no code of the product in the way): how many brokers does it name?
fn brokers_known(bootstrap: &str) -> std::io::Result<u32> {
    // size, api key 3, version 1, correlation id 7, no client id, an empty list of topics
    const ASK: [u8; 18] = [0, 0, 0, 14, 0, 3, 0, 1, 0, 0, 0, 7, 0xff, 0xff, 0, 0, 0, 0];
    let address = bootstrap.split(',').next().unwrap_or(bootstrap);
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(&ASK)?;
    let mut head = [0; 12]; // size, correlation id, number of brokers
    stream.read_exact(&mut head)?;
    let [.., a, b, c, d] = head;
    Ok(u32::from_be_bytes([a, b, c, d]))
}

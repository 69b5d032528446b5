//! Apache Kafka's Java clients and command line tools, in JVMs that are kept (a start costs a second of CPU): one for each call
//! that runs at the same time.
//!
//! The jars are fetched once by `benches/kafka.sh install` (Maven) into `KAFKA_JARS`; the sources in `tests/java` are
//! compiled when they have changed. `tests/java/Host.java` describes the pipe.

use crate::{process, scratch};
use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// Apache Kafka's version, as benches/kafka.sh has it.
const VERSION: &str = "4.3.1";

/// What a main method has left.
#[derive(Debug)]
pub struct Output {
    /// Exit status; 70 when an exception went through.
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Output {
    /// The output, if the call exited with 0; fails the test otherwise.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.status, 0, "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self.stdout
    }
}

/// A running JVM, which takes one call at a time.
struct Pipe {
    _jvm: Child,
    calls: ChildStdin,
    answers: BufReader<ChildStdout>,
}

/// The JVMs of this test process.
pub struct Java {
    jars: PathBuf,
    classes: PathBuf,
    idle: Mutex<Vec<Pipe>>,
}

/// The repository's root.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is in the repository").to_path_buf()
}

/// The folder of the jars; fetches them if they are not there.
fn jars() -> PathBuf {
    let path = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let root = path("KAFKA_JARS").unwrap_or_else(|| {
        let cache = path("CORELANE_CACHE").or_else(|| Some(path("HOME")?.join(".cache/corelane")));
        cache.expect("HOME is set").join("kafka")
    });
    let installed =
        Command::new(repository().join("benches/kafka.sh")).arg("install").status().expect("benches/kafka.sh");
    assert!(installed.success(), "benches/kafka.sh install");
    root.join(VERSION).join("libs")
}

/// The classes of tests/java, for plugins of a broker.
pub fn plugins() -> PathBuf {
    classes(&jars())
}

/// Compiles tests/java. Several test processes may do so at the same time.
fn classes(jars: &Path) -> PathBuf {
    let out = scratch::folder("java-classes");
    let sources = fs::read_dir(repository().join("tests/java")).expect("tests/java").flatten().map(|e| e.path());
    let status = Command::new("javac")
        .args(["-nowarn", "-Xlint:-options", "-cp"])
        .arg(jars.join("*"))
        .arg("-d")
        .arg(&out)
        .args(sources.filter(|p| p.extension().is_some_and(|e| e == "java")))
        .status()
        .expect("javac");
    assert!(status.success(), "javac tests/java");
    out
}

/// A JVM of its own for a class of the jars, for what ends with its process only. `folder` is for its log.
pub fn alone(class: &str, folder: &Path) -> Command {
    let log = folder.join("log4j2.properties");
    let text = "rootLogger.level=ERROR\nrootLogger.appenderRef.o.ref=o\nappender.o.type=Console\nappender.o.name=o\n\
                appender.o.target=SYSTEM_ERR\n";
    fs::write(&log, text).expect("log4j2.properties");
    let mut command = process::command("java");
    command.args(["-Xmx256M", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"]);
    command.arg(format!("-Dlog4j2.configurationFile={}", log.display()));
    command.arg("-cp").arg(jars().join("*")).arg(class);
    command
}

impl Java {
    pub fn shared() -> &'static Java {
        static SHARED: OnceLock<Java> = OnceLock::new();
        SHARED.get_or_init(Java::prepare)
    }

    fn prepare() -> Java {
        let jars = jars();
        let classes = classes(&jars);
        // clients log warnings by the dozen when a test breaks things on purpose
        fs::write(classes.join("log4j2.properties"), "rootLogger.level=OFF\n").expect("log4j2.properties");
        Java { jars, classes, idle: Mutex::default() }
    }

    fn start(&self) -> Pipe {
        let mut path = OsString::from(&self.classes);
        path.push(":");
        path.push(self.jars.join("*"));
        let mut option = OsString::from("-Dlog4j2.configurationFile=");
        option.push(self.classes.join("log4j2.properties"));
        let mut command = process::command("java");
        command.args(["-Xmx768M", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"]).arg(option);
        command.arg("-cp").arg(path).arg("Host");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut jvm = process::spawn(command).expect("java");
        let calls = jvm.stdin.take().expect("stdin of the JVM");
        let answers = BufReader::new(jvm.stdout.take().expect("stdout of the JVM"));
        Pipe { _jvm: jvm, calls, answers }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Pipe>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls `class.main(arguments)` with `input` on stdin.
    pub fn run_with(&self, class: &str, arguments: &[&str], input: &[u8]) -> Output {
        let kept = self.idle().pop();
        let mut pipe = kept.unwrap_or_else(|| self.start());
        let mut call = format!("{} {}\n", arguments.len() + 1, input.len()).into_bytes();
        for text in std::iter::once(&class).chain(arguments) {
            call.extend(format!("{}\n{text}", text.len()).into_bytes());
        }
        call.extend(input);
        pipe.calls.write_all(&call).expect("the JVM reads");
        pipe.calls.flush().expect("the JVM reads");
        let mut head = String::new();
        pipe.answers.read_line(&mut head).expect("the JVM answers");
        let numbers: Vec<i64> = head.split_whitespace().map(|n| n.parse().expect("a number")).collect();
        let &[status, out, err] = numbers.as_slice() else { panic!("the JVM has gone: {head:?}") };
        let mut take = |len: i64| {
            let mut bytes = vec![0; usize::try_from(len).expect("a length")];
            pipe.answers.read_exact(&mut bytes).expect("the JVM answers");
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let (stdout, stderr) = (take(out), take(err));
        self.idle().push(pipe);
        Output { status: i32::try_from(status).expect("a status"), stdout, stderr }
    }

    /// Calls `class.main(arguments)` with nothing on stdin.
    pub fn run(&self, class: &str, arguments: &[&str]) -> Output {
        self.run_with(class, arguments, b"")
    }

    /// What Kafka's DumpLogSegments prints of those of the files that hold something; `option` says how to show the records.
    pub fn dump_log(&self, option: &str, files: &[PathBuf]) -> String {
        let held = files.iter().filter(|path| fs::metadata(path).is_ok_and(|m| m.len() > 0));
        let list = held.map(|path| path.to_string_lossy()).collect::<Vec<_>>().join(",");
        self.run("org.apache.kafka.tools.DumpLogSegments", &[option, "--files", &list]).ok()
    }
}

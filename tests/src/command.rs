//! The `corelane` binary as a command.

use crate::{broker, process};
use std::io::Write;
use std::process::{Command, Stdio};

/// What a command has left.
#[derive(Debug)]
pub struct Output {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Output {
    /// The output, if the exit code is 0; fails the test otherwise.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self.stdout
    }

    /// The one JSON document of the output.
    #[track_caller]
    pub fn json(self) -> serde_json::Value {
        let text = self.ok();
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"))
    }

    /// The exit code must be this one, and standard error must say all of `words`.
    #[track_caller]
    pub fn fails(self, code: i32, words: &[&str]) {
        assert_eq!(self.code, Some(code), "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        for word in words {
            assert!(self.stderr.contains(word), "no '{word}' in:\n{}", self.stderr);
        }
    }
}

/// Runs `corelane arguments` with `input`. `bootstrap` goes by the environment.
pub fn corelane_with(bootstrap: &str, arguments: &[&str], input: &[u8]) -> Output {
    let mut command = process::command(broker::binary());
    command.args(arguments).env("CORELANE_BOOTSTRAP", bootstrap);
    run(command, input)
}

/// Runs a command with `input` to its end.
pub fn run(mut command: Command, input: &[u8]) -> Output {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = process::spawn(command).unwrap_or_else(|e| panic!("setpriv: {e}"));
    let (mut stdin, input) = (child.stdin.take().expect("stdin"), input.to_vec());
    let feeder = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let out = child.wait_with_output().expect("the command");
    feeder.join().expect("feeder");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Output { code: out.status.code(), stdout: text(out.stdout), stderr: text(out.stderr) }
}

pub fn corelane(bootstrap: &str, arguments: &[&str]) -> Output {
    corelane_with(bootstrap, arguments, b"")
}

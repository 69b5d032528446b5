//! kcat, as it comes from the distribution.

use std::io::Write;
use std::process::{Command, Output, Stdio};

/// Runs `kcat -b BOOTSTRAP arguments` with `input` on stdin; returns its stdout and fails the test when it fails.
#[track_caller]
pub fn kcat(bootstrap: &str, arguments: &[&str], input: &[u8]) -> String {
    let out = kcat_output(bootstrap, arguments, input);
    let stderr = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "kcat {arguments:?}: {}\n{stderr}", out.status);
    String::from_utf8(out.stdout).expect("text")
}

/// What it has left, however it ends.
pub fn kcat_output(bootstrap: &str, arguments: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new("kcat")
        .args(["-b", bootstrap])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("kcat is installed");
    let mut stdin = child.stdin.take().expect("stdin");
    let input = input.to_vec();
    let feeder = std::thread::spawn(move || stdin.write_all(&input));
    let out = child.wait_with_output().expect("kcat");
    // Who fails need not have read it.
    let _ = feeder.join().expect("feeder");
    out
}

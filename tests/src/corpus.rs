//! Real input: the source files of the crates that this build was made from, and of Rust's standard library where the
//! toolchain has them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// All `.rs` files, sorted, of `bytes` in all at most (the last one may exceed it). Fails if there are none.
pub fn rust_sources(bytes: u64) -> Vec<PathBuf> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo"))).expect("HOME is set");
    let mut roots = vec![home.join("registry/src")];
    if let Ok(out) = Command::new("rustc").args(["--print", "sysroot"]).output() {
        let sysroot = String::from_utf8_lossy(&out.stdout).trim().to_owned();
        roots.push(Path::new(&sysroot).join("lib/rustlib/src"));
    }
    let mut files = Vec::new();
    for root in roots {
        collect(&root, &mut files);
    }
    files.sort();
    let mut left = bytes;
    let mut taken = Vec::new();
    for (path, size) in files {
        if left == 0 {
            break;
        }
        left = left.saturating_sub(size);
        taken.push(path);
    }
    assert!(!taken.is_empty(), "no Rust sources found: has cargo fetched the crates?");
    taken
}

fn collect(folder: &Path, files: &mut Vec<(PathBuf, u64)>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let (path, Ok(kind)) = (entry.path(), entry.file_type()) else { continue };
        if kind.is_dir() {
            collect(&path, files);
        } else if kind.is_file() && path.extension().is_some_and(|e| e == "rs") {
            // the path is the key, so it must be text that another language reads the same
            if path.to_str().is_some_and(|p| p.is_ascii()) {
                files.push((path, entry.metadata().map_or(0, |m| m.len())));
            }
        }
    }
}

/// The lines of `text` without their newlines; the last one may have none.
pub fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split_inclusive(|b| *b == b'\n').map(|line| line.strip_suffix(b"\n").unwrap_or(line))
}

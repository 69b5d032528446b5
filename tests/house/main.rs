//! The rules of the house, over all tracked files: who may name whom, how long a file may be, what is not written down.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// Crates of the product and what each may depend on. The tests' own crates may depend on anything.
const CRATES: [(&str, &[&str]); 11] = [
    ("acl", &[]),
    ("core-pinning", &[]),
    ("protocol", &[]),
    ("config", &[]),
    ("sasl", &["corelane-protocol"]),
    ("storage", &["core-pinning"]),
    ("raft", &["core-pinning", "corelane-storage"]),
    ("coordinator", &["corelane-protocol"]),
    (
        "cli",
        &["core-pinning", "corelane-acl", "corelane-config", "corelane-protocol", "corelane-sasl", "corelane-storage"],
    ),
    ("fuzz", &["corelane-protocol", "corelane-sasl", "corelane-storage"]),
    ("tests", &["corelane-config", "corelane-protocol", "corelane-sasl"]),
];

/// Modules of the broker (`src/`) from the top down: a module may not name those on the lines above its own. The shard's
/// own struct is the handle that everything on it is given, and the router is how it reaches the others, so both may be
/// named by all.
const LAYERS: [&[&str]; 5] =
    [&["cli"], &["broker"], &["kafka", "admin"], &["coordinator", "controller"], &["partition", "security", "config"]];

/// No file is longer, unless it is generated.
const LINES: usize = 700;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is in the repository").to_path_buf()
}

/// Tracked text files as (path in the repository, text).
fn files() -> Vec<(String, String)> {
    let out = Command::new("git").arg("-C").arg(root()).args(["ls-files", "-z"]).output().expect("git");
    assert!(out.status.success(), "git ls-files");
    let names = String::from_utf8(out.stdout).expect("names in UTF-8");
    let text = |name: &str| Some((name.to_owned(), String::from_utf8(fs::read(root().join(name)).ok()?).ok()?));
    names.split('\0').filter(|n| !n.is_empty()).filter_map(text).collect()
}

/// Lines of Rust with their numbers, without comments (a `//` inside a string cuts a line short, which hides nothing here).
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(n, line)| (n + 1, line.split("//").next().unwrap_or_default()))
}

#[track_caller]
fn none(what: &str, found: Vec<String>) {
    assert!(found.is_empty(), "{what}:\n  {}", found.join("\n  "));
}

#[test]
fn crates_depend_one_way() {
    let mut found = Vec::new();
    for (name, text) in files() {
        let Some(folder) = name.strip_suffix("/Cargo.toml").filter(|f| !f.contains('/')) else { continue };
        let Some((_, allowed)) = CRATES.iter().find(|(c, _)| *c == folder) else {
            // a crate under a folder of tests or benches, or a new one that has to find its place in CRATES
            if folder != "benches" {
                found.push(format!("{folder}: not in the table of crates"));
            }
            continue;
        };
        let mut section = "";
        for line in text.lines() {
            if line.starts_with('[') {
                section = line;
            }
            let key = line.split(['.', ' ', '=']).next().unwrap_or_default();
            let ours = key == "core-pinning" || key.starts_with("corelane-");
            if section == "[dependencies]" && ours && !allowed.contains(&key) {
                found.push(format!("{folder} depends on {key}"));
            }
        }
    }
    none("dependencies go core-pinning <- storage <- raft <- src", found);
}

/// Modules named by a `crate::` path on this line: `crate::a::b`, `crate::{a::b, c}`.
fn named(line: &str) -> BTreeSet<&str> {
    let word = |text: &str| text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
    let mut out = BTreeSet::new();
    for (at, mark) in line.match_indices("crate::") {
        let rest = &line[at + mark.len()..];
        match rest.strip_prefix('{') {
            Some(list) => {
                let mut depth = 0_i32;
                let mut start = true;
                for (i, c) in list.char_indices() {
                    match c {
                        '{' => depth += 1,
                        '}' if depth == 0 => break,
                        '}' => depth -= 1,
                        ',' if depth == 0 => start = true,
                        c if start && depth == 0 && c.is_ascii_alphabetic() => {
                            out.insert(&list[i..i + word(&list[i..])]);
                            start = false;
                        }
                        _ => {}
                    }
                }
            }
            None => {
                out.insert(&rest[..word(rest)]);
            }
        }
    }
    out
}

#[test]
fn modules_of_the_broker_name_only_what_is_below_them() {
    let layer = |module: &str| LAYERS.iter().position(|l| l.contains(&module));
    let mut found = Vec::new();
    for (name, text) in files() {
        let Some(path) = name.strip_prefix("src/").filter(|n| n.ends_with(".rs")) else { continue };
        let module = path.split(['/', '.']).next().unwrap_or_default();
        let Some(own) = layer(module) else { continue };
        for (number, line) in code(&text) {
            for other in named(line).into_iter().filter(|o| layer(o).is_some_and(|l| l < own)) {
                found.push(format!("{name}:{number}: {module} names {other}"));
            }
        }
    }
    none(
        "inside src: cli -> broker -> kafka, admin -> coordinator, controller -> partition -> security, config",
        found,
    );
}

#[test]
fn glommio_and_openraft_stay_in_their_rooms() {
    let rooms = [(concat!("glommio", "::"), "core-pinning/"), (concat!("openraft", "::"), "raft/")];
    let mut found = Vec::new();
    for (name, text) in files().into_iter().filter(|(n, _)| n.ends_with(".rs")) {
        for (word, room) in rooms {
            if !name.starts_with(room) {
                found.extend(code(&text).filter(|(_, l)| l.contains(word)).map(|(n, _)| format!("{name}:{n}: {word}")));
            }
        }
        let (word, room) = (concat!("glommio", "::"), "core-pinning/src/rt/");
        if name.starts_with("core-pinning/src/") && !name.starts_with(room) {
            found.extend(code(&text).filter(|(_, l)| l.contains(word)).map(|(n, _)| format!("{name}:{n}: {word}")));
        }
    }
    none("glommio only under core-pinning/src/rt, openraft only under raft", found);
}

#[test]
fn files_stay_short() {
    let long = files().into_iter().filter(|(name, text)| {
        name.ends_with(".rs") && text.lines().count() > LINES && !text.starts_with("// Generated")
    });
    none(
        "files that have outgrown their room",
        long.map(|(n, t)| format!("{n}: {} lines", t.lines().count())).collect(),
    );
}

#[test]
fn no_machine_and_no_registry_is_named() {
    let words = [
        concat!("/wo", "rk/"),
        concat!("/ro", "ot/"),
        concat!("cra", "tes.io"),
        concat!("maven", ".org"),
        concat!("deb.deb", "ian.org"),
        concat!("py", "pi.org"),
    ];
    let mut found = Vec::new();
    for (name, text) in files().into_iter().filter(|(n, _)| !n.ends_with("Cargo.lock")) {
        for (number, line) in text.lines().enumerate() {
            let home = line
                .split(concat!("/ho", "me/"))
                .nth(1)
                .is_some_and(|r| r.starts_with(|c: char| c.is_ascii_lowercase()));
            if home || words.iter().any(|w| line.contains(w)) {
                found.push(format!("{name}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    none("paths of a machine, hosts of a registry", found);
}

#[test]
fn nothing_is_left_for_later() {
    let words = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("to", "do!("), concat!("unimple", "mented!(")];
    let mut found = Vec::new();
    for (name, text) in files().into_iter().filter(|(n, _)| n.ends_with(".rs") || n.starts_with("scripts/")) {
        for (number, line) in text.lines().enumerate().filter(|(_, l)| words.iter().any(|w| l.contains(w))) {
            found.push(format!("{name}:{}: {}", number + 1, line.trim()));
        }
    }
    none("promises in the code", found);
}

/// Where `unsafe` may be: the crate that talks to the kernel, and the buffers of the storage; with the package whose tests
/// `scripts/sanitize` runs for it.
const UNSAFE: [(&str, &str); 2] = [("core-pinning/", "core-pinning"), ("storage/src/chunk.rs", "corelane-storage")];

#[test]
fn unsafe_code_is_in_its_rooms_and_says_why_it_is_safe() {
    let kinds = ["{", "fn ", "impl ", "impl<", "extern ", "trait "];
    let mut found = Vec::new();
    let mut blocks = 0;
    for (name, text) in files().into_iter().filter(|(n, _)| n.ends_with(".rs")) {
        let lines: Vec<&str> = text.lines().collect();
        for (number, line) in code(&text) {
            let is_unsafe = |rest: &str| kinds.iter().any(|kind| rest.trim_start().starts_with(kind));
            if !line.split("unsafe ").skip(1).any(is_unsafe) {
                continue;
            }
            blocks += 1;
            // the comment and the attributes right above, or the function's own documentation
            let above = lines[..number - 1].iter().rev().map(|l| l.trim_start());
            let mut above = above.take_while(|l| l.starts_with("//") || l.starts_with("#["));
            if !above.any(|l| l.contains("SAFETY:") || l.contains("# Safety")) {
                found.push(format!("{name}:{number}: no SAFETY line: {}", line.trim()));
            }
            if !UNSAFE.iter().any(|(room, _)| name.starts_with(room)) {
                found.push(format!("{name}:{number}: not here: {}", line.trim()));
            }
        }
    }
    assert!(blocks > 20, "only {blocks} found");
    let sanitize = fs::read_to_string(root().join("scripts/sanitize")).expect("scripts/sanitize");
    let runs = |package: &str| sanitize.split([' ', ')', '\n']).any(|word| word == package);
    let unwatched = UNSAFE.iter().filter(|(_, package)| !runs(package));
    found.extend(unwatched.map(|(room, _)| format!("{room}: scripts/sanitize does not run its tests")));
    none("unsafe code", found);
}

//! `corelane doctor`: is this machine fit to run a broker? One line a question, and how to fix what is wrong.

use crate::exit::{Exit, Failure};
use crate::output::Output;
use clap::Args;
use core_pinning::disk::{File, OpenOptions};
use corelane_config::units::{format_size, machine_memory, parse_cores};
use corelane_config::{BrokerConfig, LoadOptions};
use serde_json::json;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Check whether this machine is fit to run a broker, and say how to fix what is not.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Data directory to look at [default: corelane-data] [env: CORELANE_DATA_DIR]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// Cores that would be used [default: all that the process may use] [env: CORELANE_CORES]
    #[arg(long, value_name = "LIST")]
    cores: Option<String>,
    /// Read settings from a TOML file
    #[arg(long, value_name = "FILE.toml")]
    config: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    Ok,
    /// The broker runs, but slower or less safe than it could.
    Warn,
    /// The broker cannot run.
    Fatal,
}

/// The answer to one question.
#[derive(Clone, Debug)]
struct Finding {
    name: &'static str,
    level: Level,
    detail: String,
    /// What to do; empty when all is well.
    fix: String,
}

impl Finding {
    fn ok(name: &'static str, detail: impl Into<String>) -> Finding {
        Finding { name, level: Level::Ok, detail: detail.into(), fix: String::new() }
    }

    fn warn(name: &'static str, detail: impl Into<String>, fix: impl Into<String>) -> Finding {
        Finding { name, level: Level::Warn, detail: detail.into(), fix: fix.into() }
    }

    fn fatal(name: &'static str, detail: impl Into<String>, fix: impl Into<String>) -> Finding {
        Finding { name, level: Level::Fatal, detail: detail.into(), fix: fix.into() }
    }
}

pub fn run(args: &DoctorArgs, out: &mut Output) -> Result<(), Failure> {
    let flags = [("--data-dir", &args.data_dir), ("--cores", &args.cores)];
    let flags = flags.into_iter().filter_map(|(n, v)| Some((n.to_owned(), v.clone()?))).collect();
    let lossy = |s: std::ffi::OsString| s.to_string_lossy().into_owned();
    let environment = std::env::vars_os().map(|(k, v)| (lossy(k), lossy(v))).collect();
    let options = LoadOptions { file: args.config.clone(), environment, flags, set: Vec::new() };
    let config = BrokerConfig::load(&options).map_err(|e| Failure::usage(e.to_string()))?;
    let mut findings = fatal_checks(&config);
    findings.extend(advice(&config));
    let worst = findings.iter().filter(|f| f.level == Level::Fatal).count();
    if out.is_json() {
        for f in &findings {
            let level = match f.level {
                Level::Ok => "ok",
                Level::Warn => "warn",
                Level::Fatal => "fatal",
            };
            out.json(&json!({ "check": f.name, "level": level, "detail": f.detail, "fix": f.fix }))?;
        }
    } else {
        let width = findings.iter().map(|f| f.name.len()).max().unwrap_or(0);
        for f in &findings {
            let mark = match f.level {
                Level::Ok => out.coloured(32, "ok   "),
                Level::Warn => out.coloured(33, "warn "),
                Level::Fatal => out.coloured(31, "FATAL"),
            };
            let fix = if f.fix.is_empty() { String::new() } else { format!(": {}", f.fix) };
            out.line(format!("{mark}  {:width$}  {}{fix}", f.name, f.detail))?;
        }
    }
    if worst == 0 { Ok(()) } else { Err(Failure::failed(format!("a broker cannot run here ({worst} fatal)"))) }
}

/// What `corelane start` looks at before it starts.
pub fn refuse_unfit(config: &BrokerConfig) -> Result<(), Failure> {
    match fatal_checks(config).into_iter().find(|f| f.level == Level::Fatal) {
        None => Ok(()),
        Some(f) => Err(Failure::new(Exit::Failed, format!("{}: {}: {}", f.name, f.detail, f.fix))),
    }
}

fn fatal_checks(config: &BrokerConfig) -> Vec<Finding> {
    let mut all = vec![kernel(&read("/proc/sys/kernel/osrelease")), io_uring_allowed(), cores(config)];
    // Only worth trying where the kernel lets us.
    if all.iter().all(|f| f.level != Level::Fatal) {
        all.push(data_dir(&config.data_dir));
    }
    all
}

fn advice(config: &BrokerConfig) -> Vec<Finding> {
    vec![
        file_system(&config.data_dir),
        limit(
            "open files",
            "Max open files",
            65_536,
            "raise it with `ulimit -n 1048576`, LimitNOFILE= or --ulimit nofile",
        ),
        limit("locked memory", "Max locked memory", 8 << 20, "raise it with `ulimit -l unlimited` or LimitMEMLOCK="),
        clock(),
        memory(config),
        swap(),
    ]
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

fn kernel(release: &str) -> Finding {
    const NAME: &str = "kernel";
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version >= (6, 1) {
        Finding::ok(NAME, release)
    } else if version >= (5, 19) {
        Finding::warn(NAME, release, "6.1 or later has a faster io_uring")
    } else {
        Finding::fatal(NAME, format!("{release} is too old"), "Linux 5.19 or later is needed for multishot io_uring")
    }
}

fn io_uring_allowed() -> Finding {
    const NAME: &str = "io_uring";
    match read("/proc/sys/kernel/io_uring_disabled").as_str() {
        "2" => Finding::fatal(NAME, "switched off for everybody", "run `sysctl kernel.io_uring_disabled=0`"),
        "1" => Finding::warn(
            NAME,
            "allowed only to privileged processes and the group kernel.io_uring_group",
            "run `sysctl kernel.io_uring_disabled=0`",
        ),
        _ => Finding::ok(NAME, "not switched off"),
    }
}

fn cores(config: &BrokerConfig) -> Finding {
    const NAME: &str = "cores";
    let status = read("/proc/self/status");
    let allowed = status.lines().find_map(|l| l.strip_prefix("Cpus_allowed_list:")).map(str::trim);
    let Some(allowed) = allowed.and_then(|l| parse_cores(l).ok()) else {
        return Finding::warn(NAME, "cannot tell which cores this process may use", "is /proc mounted?");
    };
    let list = |c: &[usize]| c.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    match &config.cores {
        Some(wanted) => match wanted.iter().find(|c| !allowed.contains(c)) {
            Some(c) => Finding::fatal(
                NAME,
                format!("core {c} is not one of those this process may use ({})", list(&allowed)),
                "change --cores, or the CPU set of the process (taskset, cgroup)",
            ),
            None => Finding::ok(NAME, format!("shards on {}", list(wanted))),
        },
        None => Finding::ok(NAME, format!("shards on {} (all that this process may use)", list(&allowed))),
    }
}

/// Writes and reads a block as the journal does: io_uring, O_DIRECT, O_DSYNC.
fn data_dir(dir: &Path) -> Finding {
    const NAME: &str = "data directory";
    if let Err(e) = fs::create_dir_all(dir) {
        let detail = format!("cannot create {}: {e}", dir.display());
        return Finding::fatal(NAME, detail, "choose another --data-dir, or give this user the right to write there");
    }
    let probe = dir.join(format!(".doctor-{}", std::process::id()));
    let path = probe.clone();
    let started = std::time::Instant::now();
    // On a thread of its own: a shard that cannot be set up panics.
    let probing = std::thread::spawn(move || core_pinning::run_local(async move || direct_round_trip(&path).await));
    let done = probing.join().unwrap_or_else(|_| Err(io::Error::other("io_uring cannot be set up")));
    let took = started.elapsed();
    // It may never have been created.
    let _ = fs::remove_file(&probe);
    match done {
        Ok(()) => Finding::ok(
            NAME,
            format!(
                "{}: O_DIRECT and O_DSYNC through io_uring work ({:.1} ms)",
                dir.display(),
                took.as_secs_f64() * 1e3
            ),
        ),
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => Finding::fatal(
            NAME,
            format!("cannot write in {}: {e}", dir.display()),
            "give this user the right to write there; in a container, allow io_uring in its seccomp profile",
        ),
        Err(e) if e.kind() == io::ErrorKind::InvalidInput => Finding::fatal(
            NAME,
            format!("{}: the file system refuses O_DIRECT: {e}", dir.display()),
            "put the data directory on ext4 or XFS",
        ),
        Err(e) if e.kind() == io::ErrorKind::StorageFull => {
            Finding::fatal(NAME, format!("{}: {e}", dir.display()), "free some space")
        }
        Err(e) => Finding::fatal(NAME, format!("{}: {e}", dir.display()), "see the reason given"),
    }
}

async fn direct_round_trip(path: &Path) -> io::Result<()> {
    let block = core_pinning::buf::BLOCK;
    let mut data = core_pinning::buf::AlignedBuf::zeroed(block);
    data.as_mut_slice().fill(0xC0);
    let options =
        OpenOptions { read: true, write: true, create: true, direct: true, dsync: true, ..Default::default() };
    let file = File::open(path, options).await?;
    file.write_at(0, data).await?;
    let back = file.read_at(0, block).await?;
    if back.as_slice().len() == block && back.as_slice().iter().all(|b| *b == 0xC0) {
        Ok(())
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidData, "what was read is not what was written"))
    }
}

fn file_system(dir: &Path) -> Finding {
    const NAME: &str = "file system";
    let dir = fs::canonicalize(dir).unwrap_or_else(|_| dir.to_owned());
    let mounts = read("/proc/self/mountinfo");
    let mount = mounts
        .lines()
        .filter_map(|l| {
            let (left, right) = l.split_once(" - ")?;
            Some((PathBuf::from(left.split(' ').nth(4)?), right.split(' ').next()?))
        })
        .filter(|(at, _)| dir.starts_with(at))
        .max_by_key(|(at, _)| at.as_os_str().len());
    match mount {
        Some((at, kind @ ("ext4" | "xfs"))) => Finding::ok(NAME, format!("{kind} at {}", at.display())),
        Some((at, kind @ ("tmpfs" | "ramfs"))) => {
            let detail = format!("{kind} at {} loses everything at a restart", at.display());
            Finding::warn(NAME, detail, "put the data directory on ext4 or XFS")
        }
        Some((at, kind)) => {
            let detail = format!("{kind} at {} is not tested", at.display());
            Finding::warn(NAME, detail, "ext4 and XFS are")
        }
        None => Finding::warn(NAME, "unknown", "is /proc mounted?"),
    }
}

fn limit(name: &'static str, row: &str, wanted: u64, fix: &str) -> Finding {
    let limits = read("/proc/self/limits");
    let soft = limits.lines().find_map(|l| l.strip_prefix(row)?.split_whitespace().next().map(str::to_owned));
    match soft.as_deref() {
        None => Finding::warn(name, "unknown", "is /proc mounted?"),
        Some("unlimited") => Finding::ok(name, "unlimited"),
        Some(n) if n.parse::<u64>().is_ok_and(|n| n >= wanted) => Finding::ok(name, n),
        Some(n) => Finding::warn(name, format!("limited to {n}"), fix),
    }
}

fn clock() -> Finding {
    const NAME: &str = "clock";
    match read("/sys/devices/system/clocksource/clocksource0/current_clocksource").as_str() {
        fast @ ("tsc" | "kvm-clock" | "arch_sys_counter" | "hyperv_clocksource_tsc_page") => Finding::ok(NAME, fast),
        "" => Finding::ok(NAME, "source unknown"),
        slow => Finding::warn(NAME, format!("{slow} is slow to read"), "prefer tsc (kernel parameter clocksource=tsc)"),
    }
}

fn memory(config: &BrokerConfig) -> Finding {
    const NAME: &str = "memory";
    let used = config.memory_bytes;
    match machine_memory() {
        None => Finding::ok(NAME, format!("{} for buffers and caches", format_size(used))),
        Some(all) if used > all / 10 * 9 => Finding::warn(
            NAME,
            format!("{} of {} for buffers and caches", format_size(used), format_size(all)),
            "leave the system a tenth at least: lower --memory",
        ),
        Some(all) => Finding::ok(NAME, format!("{} of {} for buffers and caches", format_size(used), format_size(all))),
    }
}

fn swap() -> Finding {
    const NAME: &str = "swap";
    let swaps = read("/proc/swaps");
    let swappiness = read("/proc/sys/vm/swappiness");
    if swaps.lines().count() > 1 && swappiness.parse::<u32>().is_ok_and(|n| n > 10) {
        let detail = format!("on, with vm.swappiness {swappiness}");
        return Finding::warn(NAME, detail, "run `sysctl vm.swappiness=1`: a swapped broker stalls");
    }
    Finding::ok(NAME, "no danger")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels() {
        assert_eq!(kernel("6.8.0-31-generic").level, Level::Ok);
        assert_eq!(kernel("6.1.0").level, Level::Ok);
        assert_eq!(kernel("5.19.2").level, Level::Warn);
        assert_eq!(kernel("5.4.0-150").level, Level::Fatal);
        assert_eq!(kernel("").level, Level::Fatal);
    }

    #[test]
    fn a_core_that_is_not_ours_is_fatal() {
        let options = LoadOptions { flags: vec![("--cores".into(), "1000".into())], ..Default::default() };
        let config = BrokerConfig::load(&options).unwrap();
        assert_eq!(cores(&config).level, Level::Fatal);
    }
}

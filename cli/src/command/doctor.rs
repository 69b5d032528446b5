//! `corelane doctor`: is this machine fit to run a broker? One line a question, and how to fix what is wrong.

use crate::exit::{Exit, Failure};
use crate::output::Output;
use clap::Args;
use core_pinning::checks::{self, Finding, Severity};
use core_pinning::topology;
use corelane_config::units::{format_size, machine_memory};
use corelane_config::{BrokerConfig, LoadOptions};
use serde_json::json;
use std::fs;
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
    /// Read settings from a TOML file [default: none]
    #[arg(long, value_name = "FILE.toml")]
    config: Option<PathBuf>,
}

pub fn run(args: &DoctorArgs, out: &mut Output) -> Result<(), Failure> {
    let flags = [("--data-dir", &args.data_dir), ("--cores", &args.cores)];
    let flags = flags.into_iter().filter_map(|(n, v)| Some((n.to_owned(), v.clone()?))).collect();
    let lossy = |s: std::ffi::OsString| s.to_string_lossy().into_owned();
    let environment = std::env::vars_os().map(|(k, v)| (lossy(k), lossy(v))).collect();
    let options = LoadOptions { file: args.config.clone(), environment, flags, set: Vec::new() };
    let config = BrokerConfig::load(&options).map_err(|e| Failure::usage(e.to_string()))?;
    let mut findings = fatal_checks(&config);
    findings.extend([checks::discard(&config.data_dir), memory(&config), swap()]);
    let worst = findings.iter().filter(|f| f.severity == Severity::Fatal).count();
    if out.is_json() {
        for f in &findings {
            let level = match f.severity {
                Severity::Ok => "ok",
                Severity::Warn => "warn",
                Severity::Fatal => "fatal",
            };
            out.json(&json!({ "check": f.name, "level": level, "detail": f.detail, "fix": f.fix }))?;
        }
    } else {
        let width = findings.iter().map(|f| f.name.len()).max().unwrap_or(0);
        for f in &findings {
            let mark = match f.severity {
                Severity::Ok => out.coloured(32, "ok   "),
                Severity::Warn => out.coloured(33, "warn "),
                Severity::Fatal => out.coloured(31, "FATAL"),
            };
            let fix = if f.fix.is_empty() { String::new() } else { format!("; fix: {}", f.fix) };
            out.line(format!("{mark}  {:width$}  {}{fix}", f.name, f.detail))?;
        }
    }
    if worst == 0 { Ok(()) } else { Err(Failure::failed(format!("a broker cannot run here ({worst} fatal)"))) }
}

/// What `corelane start` looks at before it starts.
pub fn refuse_unfit(config: &BrokerConfig) -> Result<(), Failure> {
    match fatal_checks(config).into_iter().find(|f| f.severity == Severity::Fatal) {
        None => Ok(()),
        Some(f) => {
            let exit = if f.name == CHOSEN_CORES { Exit::Usage } else { Exit::Failed };
            Err(Failure::new(exit, format!("{}: {}; fix: {}", f.name, f.detail, f.fix)))
        }
    }
}

/// Everything that may be fatal. What a broker would need is tried for real: a ring, pinning, a direct write in the data directory.
fn fatal_checks(config: &BrokerConfig) -> Vec<Finding> {
    let mut all = checks::machine();
    all.extend(chosen_cores(config));
    // Only worth trying where shards can run at all.
    if all.iter().all(|f| f.severity != Severity::Fatal) {
        all.push(data_dir(&config.data_dir));
    }
    all
}

fn finding(name: &'static str, severity: Severity, detail: impl Into<String>, fix: impl Into<String>) -> Finding {
    Finding { name, severity, detail: detail.into(), fix: fix.into() }
}

const CHOSEN_CORES: &str = "chosen cores";

/// `--cores` against the cores that this process may use.
fn chosen_cores(config: &BrokerConfig) -> Option<Finding> {
    let wanted = config.cores.as_ref()?;
    let allowed = topology::allowed_cores().ok()?;
    Some(match wanted.iter().find(|c| !allowed.contains(c)) {
        Some(c) => finding(
            CHOSEN_CORES,
            Severity::Fatal,
            format!("core {c} is not one of those this process may use ({allowed:?})"),
            "change --cores, or the CPU set of the process (taskset, cgroup)",
        ),
        None => finding(CHOSEN_CORES, Severity::Ok, format!("{wanted:?}"), ""),
    })
}

fn data_dir(dir: &Path) -> Finding {
    if let Err(e) = fs::create_dir_all(dir) {
        let detail = format!("cannot create {}: {e}", dir.display());
        let fix = "choose another --data-dir, or give this user the right to write there";
        return finding("data directory", Severity::Fatal, detail, fix);
    }
    checks::direct_io(dir)
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

fn memory(config: &BrokerConfig) -> Finding {
    const NAME: &str = "memory";
    let used = config.memory_bytes;
    match machine_memory() {
        None => finding(NAME, Severity::Ok, format!("{} for buffers and caches", format_size(used)), ""),
        Some(all) => {
            let detail = format!("{} of {} for buffers and caches", format_size(used), format_size(all));
            if used > all / 10 * 9 {
                finding(NAME, Severity::Warn, detail, "leave the system a tenth at least: lower --memory")
            } else {
                finding(NAME, Severity::Ok, detail, "")
            }
        }
    }
}

fn swap() -> Finding {
    const NAME: &str = "swap";
    let swappiness = read("/proc/sys/vm/swappiness");
    if read("/proc/swaps").lines().count() > 1 && swappiness.parse::<u32>().is_ok_and(|n| n > 10) {
        let detail = format!("on, with vm.swappiness {swappiness}");
        return finding(NAME, Severity::Warn, detail, "run `sysctl vm.swappiness=1`: a swapped broker stalls");
    }
    finding(NAME, Severity::Ok, "no danger", "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(flags: &[(&str, &str)]) -> BrokerConfig {
        let flags = flags.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        BrokerConfig::load(&LoadOptions { flags, ..Default::default() }).unwrap()
    }

    #[test]
    fn a_core_that_is_not_ours_is_fatal() {
        assert_eq!(chosen_cores(&config(&[])), None);
        assert_eq!(chosen_cores(&config(&[("--cores", "1000")])).unwrap().severity, Severity::Fatal);
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_fatal() {
        assert_eq!(data_dir(Path::new("/proc/corelane")).severity, Severity::Fatal);
        assert!(refuse_unfit(&config(&[("--data-dir", "/proc/corelane")])).is_err());
    }
}

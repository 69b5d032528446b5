//! What an operator's `doctor` asks about this machine: can shards run here, and well?
#![allow(unsafe_code)]

use crate::{
    buf::{AlignedBuf, BLOCK},
    disk::{File, OpenOptions, fs},
    reactor::ring,
    shard, topology,
};
use io_uring::register::Probe;
use std::{
    ffi::CStr,
    io,
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::Path,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    Ok,
    /// It runs, but slower or with less room than it should.
    Warn,
    /// It cannot run like this.
    Fatal,
}

/// The answer to one question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub name: &'static str,
    pub severity: Severity,
    pub detail: String,
    /// What to do about it; empty if nothing is.
    pub fix: String,
}

impl Finding {
    fn ok(name: &'static str, detail: impl Into<String>) -> Finding {
        Finding { name, severity: Severity::Ok, detail: detail.into(), fix: String::new() }
    }
    fn warn(name: &'static str, detail: impl Into<String>, fix: impl Into<String>) -> Finding {
        Finding { name, severity: Severity::Warn, detail: detail.into(), fix: fix.into() }
    }
    fn fatal(name: &'static str, detail: impl Into<String>, fix: impl Into<String>) -> Finding {
        Finding { name, severity: Severity::Fatal, detail: detail.into(), fix: fix.into() }
    }
}

/// Everything that does not depend on a directory. Not to be called on a shard.
pub fn machine() -> Vec<Finding> {
    vec![kernel(), io_uring(), receive_buffers(), open_files(1 << 16), locked_memory(), clock_source(), cores()]
}

fn release() -> String {
    // SAFETY: an all-zero utsname is valid, uname fills it with strings that end in a zero byte.
    unsafe {
        let mut u: libc::utsname = std::mem::zeroed();
        libc::uname(&mut u);
        CStr::from_ptr(u.release.as_ptr()).to_string_lossy().into_owned()
    }
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|s| s.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}

/// Linux 6.1, better 6.12.
pub fn kernel() -> Finding {
    let (name, release) = ("kernel", release());
    match version(&release) {
        Some(v) if v < (6, 1) => Finding::fatal(name, format!("Linux {release}"), "Linux 6.1 or newer is needed"),
        Some(v) if v < (6, 12) => Finding::warn(
            name,
            format!("Linux {release}"),
            "from Linux 6.12 on receive memory is shared better and the scheduler's slice can be set",
        ),
        Some(_) => Finding::ok(name, format!("Linux {release}")),
        None => Finding::warn(name, format!("unknown release \"{release}\""), "Linux 6.1 or newer is needed"),
    }
}

/// A ring with the flags that shards use, and the operations they need.
pub fn io_uring() -> Finding {
    let name = "io_uring";
    let uring = match ring::build(64, 128) {
        Ok(r) => r,
        Err(e) => {
            let forbidden = matches!(e.raw_os_error(), Some(libc::EPERM | libc::EACCES));
            let fix = if forbidden {
                "set kernel.io_uring_disabled to 0, and let the container's seccomp profile allow io_uring"
            } else {
                "Linux 6.1 or newer with io_uring is needed"
            };
            return Finding::fatal(name, ring::explain(e).to_string(), fix);
        }
    };
    let mut probe = Probe::new();
    if let Err(e) = uring.submitter().register_probe(&mut probe) {
        return Finding::fatal(name, format!("operations cannot be listed: {e}"), "Linux 6.1 or newer is needed");
    }
    let missing: Vec<_> =
        ring::NEEDED.iter().filter(|(code, _)| !probe.is_supported(*code)).map(|(_, name)| *name).collect();
    if missing.is_empty() {
        Finding::ok(name, format!("all {} operations", ring::NEEDED.len()))
    } else {
        Finding::fatal(name, format!("missing: {}", missing.join(", ")), "Linux 6.1 or newer is needed")
    }
}

/// Provided buffer rings, and whether the kernel fills a buffer with several receives.
pub fn receive_buffers() -> Finding {
    let name = "receive buffers";
    let Ok(uring) = ring::build(64, 128) else {
        return Finding::fatal(name, "no io_uring", "see io_uring");
    };
    let options = crate::net::NetOptions { receive_buffers: 1, receive_buffer_bytes: BLOCK, ..Default::default() };
    match crate::net::Area::new(&uring.submitter(), &options) {
        Err(e) => Finding::fatal(name, format!("a ring of buffers is refused: {e}"), "Linux 6.1 or newer is needed"),
        Ok(area) if area.is_incremental() => Finding::ok(name, "shared between receives"),
        Ok(_) => Finding::warn(name, "one receive per buffer", "Linux 6.12 or newer shares them"),
    }
}

/// RLIMIT_NOFILE against `wanted`: partitions take a few descriptors each, connections one.
pub fn open_files(wanted: u64) -> Finding {
    let name = "open files";
    let (soft, hard) = limit(libc::RLIMIT_NOFILE);
    let detail = format!("{} (may be raised to {})", amount(soft), amount(hard));
    if soft >= wanted {
        Finding::ok(name, detail)
    } else {
        let fix = format!("raise the limit to {wanted} or more: ulimit -n, LimitNOFILE=");
        if soft < 1024 { Finding::fatal(name, detail, fix) } else { Finding::warn(name, detail, fix) }
    }
}

/// RLIMIT_MEMLOCK: each shard's rings and eventfds are small, but glommio insists on 512 KiB.
pub fn locked_memory() -> Finding {
    let (name, (soft, _)) = ("locked memory", limit(libc::RLIMIT_MEMLOCK));
    let fix = "raise the limit to 8 MiB or more: ulimit -l, LimitMEMLOCK=";
    match soft {
        s if s < 512 << 10 => Finding::fatal(name, amount(s), fix),
        s if s < 8 << 20 => Finding::warn(name, amount(s), fix),
        s => Finding::ok(name, amount(s)),
    }
}

fn limit(which: libc::__rlimit_resource_t) -> (u64, u64) {
    let mut l = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `l` is a valid rlimit.
    unsafe { libc::getrlimit(which, &mut l) };
    (l.rlim_cur, l.rlim_max)
}

fn amount(n: u64) -> String {
    if n == libc::RLIM_INFINITY { "unlimited".into() } else { n.to_string() }
}

/// Clocks must not be system calls.
pub fn clock_source() -> Finding {
    let name = "clock source";
    match std::fs::read_to_string("/sys/devices/system/clocksource/clocksource0/current_clocksource") {
        Ok(s) if matches!(s.trim(), "tsc" | "kvm-clock" | "arch_sys_counter" | "hyperv_clocksource_tsc_page") => {
            Finding::ok(name, s.trim())
        }
        Ok(s) => Finding::warn(
            name,
            format!("{}: every look at the clock is a system call", s.trim()),
            "boot with clocksource=tsc if the machine's counter is stable",
        ),
        Err(e) => Finding::warn(name, format!("unknown ({e})"), ""),
    }
}

/// Cores this process may use, and whether a thread can be tied to one.
pub fn cores() -> Finding {
    let name = "cores";
    let cores = match topology::allowed_cores() {
        Ok(c) if !c.is_empty() => c,
        Ok(_) => return Finding::fatal(name, "none is allowed", "widen the process' CPU affinity"),
        Err(e) => return Finding::fatal(name, format!("unknown: {e}"), "sched_getaffinity must be allowed"),
    };
    let first = cores[0];
    let pinned = std::thread::spawn(move || topology::pin_thread(&[first])).join();
    let detail = format!("{} ({cores:?})", cores.len());
    match pinned {
        Ok(Ok(())) if cores.len() > 1 => Finding::ok(name, detail),
        Ok(Ok(())) => Finding::warn(name, detail, "one core serves clients and completes disk flushes in turns"),
        _ => Finding::warn(name, format!("{detail}; threads cannot be pinned"), "allow sched_setaffinity"),
    }
}

/// Writes and reads a block past the page cache in `directory`, and names its file system. Not to be called on a shard.
pub fn direct_io(directory: &Path) -> Finding {
    let name = "direct I/O";
    let system = file_system(directory);
    let detail = format!("{} on {system}", directory.display());
    let tried = shard::try_run_local(async || {
        let path = directory.join(format!(".direct-io-check-{}", std::process::id()));
        let result = try_direct(&path).await;
        let _ = fs::remove_file(&path).await;
        result
    });
    match tried.and_then(|r| r) {
        Ok(()) => match &system[..] {
            "ext4" | "xfs" => Finding::ok(name, detail),
            "tmpfs" => Finding::warn(name, detail, "nothing here survives a restart of the machine"),
            _ => Finding::warn(name, detail, "measured and tested on ext4 and xfs only"),
        },
        Err(e) if e.raw_os_error() == Some(libc::EINVAL) => Finding::fatal(
            name,
            format!("{detail}: the file system refuses O_DIRECT"),
            "put the data directory on ext4 or xfs",
        ),
        Err(e) => Finding::fatal(name, format!("{detail}: {e}"), "the directory must be there and be writable"),
    }
}

async fn try_direct(path: &Path) -> io::Result<()> {
    let o = OpenOptions::read_write().create(true).truncate(true).direct(true).dsync(true);
    let f = File::open(path, o).await?;
    let mut block = AlignedBuf::zeroed(BLOCK);
    block.iter_mut().enumerate().for_each(|(i, b)| *b = (i % 251) as u8);
    let want = block.to_vec();
    f.write_at(0, block).await?;
    if f.read_at(0, BLOCK).await?[..] != want[..] {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a block does not read as it was written"));
    }
    Ok(())
}

/// Whether the file system tells its device of every block that it frees: the device does that before what comes after it.
pub fn discard(directory: &Path) -> Finding {
    let name = "discard";
    let device = std::fs::metadata(directory).map(|m| (libc::major(m.dev()), libc::minor(m.dev())));
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    match device {
        Ok(device) if discards(&mounts, device) => Finding::warn(
            name,
            format!(
                "{} is mounted with discard: each file that is removed holds up the writes beside it",
                directory.display()
            ),
            "mount without discard, and free blocks at quiet hours: fstrim.timer",
        ),
        _ => Finding::ok(name, "not with each file that is removed"),
    }
}

fn discards(mountinfo: &str, (major, minor): (u32, u32)) -> bool {
    let device = format!("{major}:{minor}");
    mountinfo.lines().filter(|line| line.split(' ').nth(2) == Some(&device)).any(|line| {
        let options = line.split(' ').nth(5).into_iter().chain(line.rsplit(' ').next());
        options.flat_map(|options| options.split(',')).any(|option| option == "discard")
    })
}

/// Name of the file system that holds `path`, such as `ext4`.
pub fn file_system(path: &Path) -> String {
    let Ok(c) = std::ffi::CString::new(path.as_os_str().as_bytes()) else { return "?".into() };
    // SAFETY: an all-zero statfs is valid, and `c` ends in a zero byte.
    let (r, s) = unsafe {
        let mut s: libc::statfs = std::mem::zeroed();
        (libc::statfs(c.as_ptr(), &mut s), s)
    };
    if r != 0 {
        return "?".into();
    }
    let magic = s.f_type as u64 & 0xffff_ffff;
    match magic {
        0xef53 => "ext4".into(),
        0x5846_5342 => "xfs".into(),
        0x9123_683e => "btrfs".into(),
        0x2fc1_2fc1 => "zfs".into(),
        0x0102_1994 => "tmpfs".into(),
        0x794c_7630 => "overlay".into(),
        0x6969 => "nfs".into(),
        0xf2f5_2010 => "f2fs".into(),
        m => format!("a file system of type {m:#x}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_can_run_shards() {
        for f in machine() {
            assert!(f.severity < Severity::Fatal, "{f:?}");
            assert_eq!(f.severity == Severity::Ok, f.fix.is_empty() || f.severity == Severity::Ok, "{f:?}");
        }
    }

    #[test]
    fn direct_io_is_tried_for_real() {
        let dir = tempfile::tempdir_in(".").unwrap();
        let f = direct_io(dir.path());
        assert!(f.severity < Severity::Fatal, "{f:?}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "the check left something behind");
        assert_eq!(direct_io(&dir.path().join("missing")).severity, Severity::Fatal);
    }

    #[test]
    fn mounts_with_discard_are_found() {
        let mounts = "26 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard,resuid=65534\n\
                      29 26 254:16 / /data rw,noatime shared:5 - xfs /dev/vdb rw,attr2\n\
                      31 26 254:32 / /old rw,discard - btrfs /dev/vdc rw,space_cache=v2\n";
        let found = [(254, 0), (254, 16), (254, 32), (8, 0)].map(|device| discards(mounts, device));
        assert_eq!(found, [true, false, true, false]);
    }

    #[test]
    fn releases_are_read() {
        assert_eq!(version("6.18.44-fc-v657"), Some((6, 18)));
        assert_eq!(version("5.4"), Some((5, 4)));
        assert_eq!(version("unknown"), None);
    }
}

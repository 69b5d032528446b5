//! What a process that was just killed may still hold, and how to tell it from one that lives.
//!
//! The kernel takes the memory and the io_uring of a killed process down in its own time, and only then lets go of the lock
//! on its data directory and of its port. A start right after it waits for that; a second start beside a broker that lives
//! is refused at once.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use corelane_storage::LockHolder;

/// How long what a predecessor held may outlive it.
const PREDECESSOR_WAIT: Duration = Duration::from_secs(5);
const AGAIN_AFTER: Duration = Duration::from_millis(20);

/// Linux: `PF_EXITING` among the flags in `/proc/PID/stat`.
const EXITING: u64 = 4;
/// SIGKILL in the masks of `/proc/PID/status`.
const KILLED: u64 = 1 << 8;
/// `TCP_LISTEN` in `/proc/net/tcp`.
const LISTENING: &str = "0A";

/// Attempts again for a while, as long as `may_pass` holds of the failure.
pub fn outlast<T, E>(mut attempt: impl FnMut() -> Result<T, E>, may_pass: impl Fn(&E) -> bool) -> Result<T, E> {
    let begun = Instant::now();
    loop {
        match attempt() {
            Err(error) if begun.elapsed() < PREDECESSOR_WAIT && may_pass(&error) => {
                std::thread::park_timeout(AGAIN_AFTER)
            }
            other => return other,
        }
    }
}

/// False of a process that is gone, is being taken down, or was killed and does not know it yet.
pub fn lives(holder: LockHolder) -> bool {
    LockHolder::of(holder.pid) == Some(holder) && is_running(&holder.pid.to_string())
}

fn is_running(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // state, parent, group, session, terminal, its group, flags: what follows the name.
    let mut fields = stat.rsplit_once(") ").map_or("", |(_, rest)| rest).split(' ');
    let (state, flags) = (fields.next().unwrap_or_default(), fields.nth(5).and_then(|f| f.parse::<u64>().ok()));
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let mut pending = status.lines().filter_map(|line| line.strip_prefix("SigPnd:").or(line.strip_prefix("ShdPnd:")));
    let killed = pending.any(|mask| u64::from_str_radix(mask.trim(), 16).is_ok_and(|mask| mask & KILLED != 0));
    !matches!(state, "" | "Z" | "X") && flags.is_some_and(|flags| flags & EXITING == 0) && !killed
}

/// Whether a process that lives listens where `address` would. What another user runs cannot be looked into, and is no
/// predecessor of ours either.
pub fn port_is_served(address: SocketAddr) -> bool {
    let own = fs::metadata("/proc/self").map(|m| std::os::unix::fs::MetadataExt::uid(&m)).ok();
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|table| fs::read_to_string(table).unwrap_or_default());
    let sockets: Vec<(u32, String)> =
        tables.iter().flat_map(|t| t.lines()).filter_map(|line| listening_socket(line, address)).collect();
    sockets.iter().any(|(uid, _)| Some(*uid) != own) || sockets.iter().any(|(_, inode)| is_held(inode))
}

/// Owner and inode of the socket in a line of `/proc/net/tcp`, if it listens where `address` would.
fn listening_socket(line: &str, address: SocketAddr) -> Option<(u32, String)> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let [_, local, _, state, _, _, _, uid, _, inode, ..] = fields.as_slice() else { return None };
    let (ip, port) = local.split_once(':')?;
    let wildcard = |ip: &str| ip.bytes().all(|b| b == b'0');
    let meets = address.ip().is_unspecified() || wildcard(ip) || ip == shown(address.ip());
    let here = *state == LISTENING && meets && u16::from_str_radix(port, 16) == Ok(address.port());
    here.then(|| Some((uid.parse().ok()?, (*inode).to_owned())))?
}

/// As `/proc/net/tcp` writes it: 32-bit words of the machine's byte order in hexadecimal.
fn shown(ip: IpAddr) -> String {
    let octets = match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let words = octets.chunks_exact(4).filter_map(|word| Some(u32::from_ne_bytes(word.try_into().ok()?)));
    words.map(|word| format!("{word:08X}")).collect()
}

/// Whether a process that lives has the socket open.
fn is_held(inode: &str) -> bool {
    let name = format!("socket:[{inode}]");
    let entries = |path: &str| fs::read_dir(path).into_iter().flatten().flatten();
    let processes = entries("/proc").filter_map(|e| e.file_name().into_string().ok());
    let mut processes = processes.filter(|pid| pid.bytes().all(|b| b.is_ascii_digit()));
    processes.any(|pid| {
        let mut open = entries(&format!("/proc/{pid}/fd")).filter_map(|fd| fs::read_link(fd.path()).ok());
        open.any(|link| link.as_os_str() == name.as_str()) && is_running(&pid)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::process::Command;

    #[test]
    fn a_process_lives_until_it_is_killed() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let holder = LockHolder::of(child.id()).unwrap();
        assert!(lives(holder));
        assert!(!lives(LockHolder { started: holder.started + 1, ..holder }), "a later process of that pid");
        child.kill().unwrap();
        assert!(!lives(holder), "killed, and not yet waited for");
        child.wait().unwrap();
        assert!(!lives(holder));
    }

    #[test]
    fn a_port_is_served_where_somebody_listens() {
        for address in ["127.0.0.1:0", "0.0.0.0:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(address) else { continue };
            let address = listener.local_addr().unwrap();
            assert!(port_is_served(address), "{address}");
            let any: SocketAddr = format!("0.0.0.0:{}", address.port()).parse().unwrap();
            assert!(port_is_served(any), "{address} is in the way of {any}");
            drop(listener);
            assert!(!port_is_served(address), "{address}");
        }
    }
}

//! Small values with a text form of their own: addresses, sizes, sets of cores.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::str::FromStr;

/// `HOST:PORT`; the host may be a name, an address (IPv6 in brackets), or empty for every interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    pub host: String,
    pub port: u16,
}

impl HostPort {
    /// The address to listen on or to connect to.
    pub fn resolve(&self) -> io::Result<SocketAddr> {
        let host = if self.host.is_empty() { "0.0.0.0" } else { &self.host };
        let missing = || io::Error::new(io::ErrorKind::NotFound, format!("no address for {host}"));
        (host, self.port).to_socket_addrs()?.next().ok_or_else(missing)
    }

    /// Stands for every interface, so no client can connect to it.
    pub fn is_wildcard(&self) -> bool {
        self.host.is_empty() || self.host.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified())
    }
}

impl FromStr for HostPort {
    type Err = String;

    fn from_str(s: &str) -> Result<HostPort, String> {
        let wrong = || format!("{s:?} is not HOST:PORT (for example 127.0.0.1:9092 or [::1]:9092)");
        let (host, port) = s.trim().rsplit_once(':').ok_or_else(wrong)?;
        let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
        if bare.is_none() && host.contains(':') {
            return Err(wrong());
        }
        let host = bare.unwrap_or(host);
        let plain = |c: char| c.is_ascii_alphanumeric() || "-._:%".contains(c);
        if !host.chars().all(plain) {
            return Err(wrong());
        }
        let port = port.parse().map_err(|_| format!("{port:?} is not a port (0 to 65535)"))?;
        Ok(HostPort { host: host.to_owned(), port })
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// A number of bytes: `4GiB`, `512M`, `1.5g` or plain digits. K, M, G and T are powers of 1024 in every spelling.
pub fn parse_size(s: &str) -> Result<u64, String> {
    let wrong = || format!("{s:?} is not a size (for example 512MiB, 4G or 1073741824)");
    let t = s.trim();
    let digits = t.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(t.len());
    let (number, unit) = t.split_at(digits);
    let power = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 1,
        "m" | "mb" | "mib" => 2,
        "g" | "gb" | "gib" => 3,
        "t" | "tb" | "tib" => 4,
        _ => return Err(wrong()),
    };
    let scale = 1024u64.pow(power);
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(scale).filter(|n| i64::try_from(*n).is_ok()).ok_or_else(wrong);
    }
    let bytes = number.parse::<f64>().map_err(|_| wrong())? * scale as f64;
    if bytes < i64::MAX as f64 { Ok(bytes as u64) } else { Err(wrong()) }
}

/// Bytes as people read them: `512 MiB`, `1.5 GiB`.
pub fn format_size(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut unit = "B";
    for next in ["KiB", "MiB", "GiB", "TiB"] {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    if value.fract() < 0.05 || unit == "B" { format!("{value:.0} {unit}") } else { format!("{value:.1} {unit}") }
}

/// Cores as numbers and ranges: `0-3,6`. Ordered, each once, at least one.
pub fn parse_cores(s: &str) -> Result<Vec<usize>, String> {
    const MOST: usize = 1024;
    let wrong = |part: &str| format!("{part:?} is not a core or a range of cores (for example 0-3,6)");
    let mut cores = Vec::new();
    for part in s.split(',').map(str::trim) {
        let (low, high) = part.split_once('-').unwrap_or((part, part));
        let (low, high): (usize, usize) =
            (low.trim().parse().map_err(|_| wrong(part))?, high.trim().parse().map_err(|_| wrong(part))?);
        if low > high || high >= MOST {
            return Err(wrong(part));
        }
        cores.extend(low..=high);
    }
    cores.sort_unstable();
    cores.dedup();
    Ok(cores)
}

/// Memory this process may use: that of the machine, or the limit of its control group where that is lower.
pub fn machine_memory() -> Option<u64> {
    let info = std::fs::read_to_string("/proc/meminfo").ok()?;
    let total: u64 = info.lines().find_map(|l| l.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse().ok())?;
    let limits = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    let limit = limits.iter().filter_map(|p| std::fs::read_to_string(p).ok()?.trim().parse::<u64>().ok()).min();
    Some(limit.unwrap_or(u64::MAX).min(total.saturating_mul(1024)))
}

/// The name of this machine.
pub fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    if name.trim().is_empty() { "localhost".to_owned() } else { name.trim().to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_go_both_ways() {
        for s in ["127.0.0.1:9092", "[::1]:9092", "broker-1.example:0", ":9092"] {
            assert_eq!(s.parse::<HostPort>().unwrap().to_string(), s);
        }
        for s in ["", "9092", "host", "host:70000", "::1:9092", "a b:1", "host:-1"] {
            assert!(s.parse::<HostPort>().is_err(), "{s}");
        }
        assert!(":1".parse::<HostPort>().unwrap().is_wildcard());
        assert!("[::]:1".parse::<HostPort>().unwrap().is_wildcard());
        assert_eq!("127.0.0.1:5".parse::<HostPort>().unwrap().resolve().unwrap(), "127.0.0.1:5".parse().unwrap());
    }

    #[test]
    fn sizes() {
        assert_eq!(parse_size("4GiB"), Ok(4 << 30));
        assert_eq!(parse_size(" 512m "), Ok(512 << 20));
        assert_eq!(parse_size("1.5k"), Ok(1536));
        assert_eq!(parse_size("77"), Ok(77));
        for s in ["", "G", "4Q", "-1", "99999999T", "1.2.3"] {
            assert!(parse_size(s).is_err(), "{s}");
        }
        assert_eq!(format_size(1536), "1.5 KiB");
        assert_eq!(format_size(4 << 30), "4 GiB");
        assert_eq!(format_size(7), "7 B");
    }

    #[test]
    fn sets_of_cores() {
        assert_eq!(parse_cores("0-3,6"), Ok(vec![0, 1, 2, 3, 6]));
        assert_eq!(parse_cores("2, 1,2"), Ok(vec![1, 2]));
        for s in ["", "3-1", "a", "1-", "0-99999999", "1,,2"] {
            assert!(parse_cores(s).is_err(), "{s}");
        }
    }
}

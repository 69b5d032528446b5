//! Where a client may come from: one address, or a network.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A network in its canonical form: no bit is set below its prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Net {
    address: IpAddr,
    prefix: u8,
}

impl Net {
    /// An address (`10.1.2.3`, `fd00::1`) or a network (`10.0.0.0/8`). `None`: no client's address is in it.
    pub fn parse(text: &str) -> Option<Net> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let prefix = match prefix {
            // Rust reads "+8" as a number.
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => digits.parse().ok()?,
            Some(_) => return None,
            None => width(address),
        };
        // What is written as ::ffff:10.0.0.0/104 is a network of IPv4.
        let (address, prefix) = match (address.to_canonical(), address) {
            (IpAddr::V4(v4), IpAddr::V6(_)) => (IpAddr::V4(v4), u8::checked_sub(prefix, 96)?),
            (canonical, _) => (canonical, prefix),
        };
        (prefix <= width(address)).then(|| Net::around(address, prefix))
    }

    /// The network of `prefix` bits (at most the address's own) that `address` lies in.
    pub fn around(address: IpAddr, prefix: u8) -> Net {
        let address = match address {
            IpAddr::V4(v4) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & mask))
            }
            IpAddr::V6(v6) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask))
            }
        };
        Net { address, prefix }
    }

    /// Whether it is of IPv4, and the bits of its prefix.
    pub fn kind(&self) -> (bool, u8) {
        (self.address.is_ipv4(), self.prefix)
    }

    pub fn contains(&self, client: IpAddr) -> bool {
        client.is_ipv4() == self.address.is_ipv4() && Net::around(client, self.prefix) == *self
    }
}

fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_addresses_and_networks() {
        let has = |net: &str, client: &str| Net::parse(net).is_some_and(|n| n.contains(client.parse().unwrap()));
        assert!(has("127.0.0.1", "127.0.0.1") && !has("127.0.0.1", "127.0.0.2"));
        assert!(has("10.0.0.0/8", "10.255.1.2") && !has("10.0.0.0/8", "11.0.0.0"));
        assert!(has("10.1.2.3/8", "10.9.9.9"), "bits below the prefix say nothing");
        assert!(has("0.0.0.0/0", "1.2.3.4") && !has("0.0.0.0/0", "::1"), "all of IPv4, and no more");
        assert!(has("::/0", "fe80::1") && !has("::/0", "1.2.3.4"));
        assert!(has("0:0:0:0:0:0:0:1", "::1") && has("fd00::/8", "fdff::1") && !has("fd00::/8", "fe00::1"));
        assert!(has("::ffff:10.0.0.0/104", "10.3.4.5"));
        for wrong in [
            "",
            "*",
            "localhost",
            "10.0.0.0/33",
            "10.0.0.0/-1",
            "10.0.0.0/+8",
            "10.0.0.0/",
            "::/129",
            "1.2.3",
            "010.0.0.1",
        ] {
            assert_eq!(Net::parse(wrong), None, "{wrong}");
        }
    }
}

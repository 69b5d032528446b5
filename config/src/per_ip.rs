//! `max.connections.per.ip.overrides`: address:count pairs (Kafka: `Csv.parseCsvMap`, the last colon ends the address).

use std::net::IpAddr;

const NAME: &str = "max.connections.per.ip.overrides";

/// The addresses with limits of their own, in the order of the text. The error: the property, and what is wrong with it.
///
/// Kafka looks names up once, when it is told of them; here only addresses are taken, so that no name server decides.
pub(crate) fn parse(text: &str) -> Result<Vec<(IpAddr, i32)>, (String, String)> {
    let wrong = |what: String| Err((NAME.to_owned(), what));
    let mut all: Vec<(IpAddr, i32)> = Vec::new();
    for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
        let Some((host, count)) = pair.rsplit_once(':') else {
            return wrong(format!("{pair:?} is not ADDRESS:COUNT"));
        };
        let Ok(count) = count.trim().parse::<i32>() else {
            return wrong(format!("{pair:?} does not end with a number of connections"));
        };
        let host = host.trim().trim_start_matches('[').trim_end_matches(']');
        let Ok(address) = host.parse::<IpAddr>() else {
            return wrong(format!("{NAME} contains invalid addresses : {host} (names are not looked up)"));
        };
        let address = address.to_canonical();
        match all.iter_mut().find(|(known, _)| *known == address) {
            Some(known) => known.1 = count,
            None => all.push((address, count)),
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_both_kinds_have_counts() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(parse("").unwrap(), []);
        assert_eq!(
            parse("10.0.0.1:5, ::1:7,[::2]:8 ,10.0.0.1:6,::ffff:10.0.0.2:9").unwrap(),
            [(ip("10.0.0.1"), 6), (ip("::1"), 7), (ip("::2"), 8), (ip("10.0.0.2"), 9)]
        );
        for bad in ["10.0.0.1", "10.0.0.1:many", "some.host:5", "10.0.0.256:5"] {
            assert_eq!(parse(bad).unwrap_err().0, NAME, "{bad}");
        }
    }
}

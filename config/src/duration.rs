//! Durations as ISO 8601 writes them, in days and smaller units: `P2DT3H4M5.25S`.

use std::time::Duration;

/// What Java's `Duration.parse` takes of it, without signs: a negative duration means nothing here. `None`: not one, or too long.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let text = text.to_ascii_uppercase();
    let rest = text.strip_prefix('P')?;
    let (days, time) = match rest.split_once('T') {
        Some((days, time)) if !time.is_empty() => (days, time),
        Some(_) => return None,
        None => (rest, ""),
    };
    if days.is_empty() && time.is_empty() {
        return None;
    }
    let mut total = Duration::ZERO;
    if !days.is_empty() {
        total = add(total, days.strip_suffix('D')?, 86_400)?;
    }
    let mut time = time;
    for (unit, seconds) in [('H', 3_600), ('M', 60)] {
        if let Some((number, rest)) = time.split_once(unit) {
            total = add(total, number, seconds)?;
            time = rest;
        }
    }
    if time.is_empty() {
        return Some(total);
    }
    let (whole, part) = time.strip_suffix('S')?.split_once('.').unwrap_or((time.strip_suffix('S')?, ""));
    total = add(total, whole, 1)?;
    if part.len() > 9 || !part.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let nanos: u64 = format!("{part:0<9}").parse().ok()?;
    total.checked_add(Duration::from_nanos(nanos))
}

fn add(total: Duration, number: &str, unit_seconds: u64) -> Option<Duration> {
    if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let seconds = number.parse::<u64>().ok()?.checked_mul(unit_seconds)?;
    total.checked_add(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_java_reads_them() {
        let ms = |text: &str| parse_duration(text).map(|d| d.as_millis());
        assert_eq!(ms("P2DT3H4M5.25S"), Some(((2 * 24 + 3) * 3600 + 4 * 60 + 5) * 1000 + 250));
        assert_eq!(ms("PT0.001s"), Some(1));
        assert_eq!(ms("p1d"), Some(86_400_000));
        assert_eq!(ms("PT90M"), Some(5_400_000));
        for wrong in ["", "P", "PT", "P1", "1D", "P1DT", "PT1M1H", "PT-1S", "-PT1S", "P1Y", "PT1.0000000001S", "PTS"] {
            assert_eq!(ms(wrong), None, "{wrong}");
        }
        assert_eq!(ms("P99999999999999999999D"), None);
    }
}

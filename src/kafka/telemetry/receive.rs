//! What becomes of pushed metrics: a line of the log for each push, with the values, and counters.
//!
//! Kafka hands them to a plugin. Here the logger `corelane.client_metrics` is the receiver, so that a subscription shows its
//! values without one, and nothing of them is kept.

use std::fmt::Write;

use bytes::Bytes;
use core_pinning::metrics::{Counter, counter};
use corelane_protocol::{ErrorCode, Uuid};
use corelane_storage::record::{Codec, codec};

use super::Telemetry;
use super::otlp::{self, Number, Point};
use super::subscriptions::Attributes;

/// Bytes of values in one line; what is over is counted.
const LINE_MAX: usize = 32 << 10;

pub struct Received {
    pushes: Counter,
    points: Counter,
    refused: Counter,
}

impl Default for Received {
    fn default() -> Received {
        Received {
            pushes: counter("corelane_client_metrics_pushes_total", "Pushes of client metrics that were taken", vec![]),
            points: counter("corelane_client_metrics_points_total", "Values in those pushes", vec![]),
            refused: counter("corelane_client_metrics_invalid_total", "Pushes that could not be read", vec![]),
        }
    }
}

/// Reads a push of at most `max` bytes, unpacked, and writes it down. INVALID_RECORD where it cannot be read, as from a plugin of
/// Kafka's that throws.
pub fn receive(
    telemetry: &Telemetry,
    (id, client): (Uuid, &Attributes),
    terminating: bool,
    (compression, packed): (i8, &Bytes),
    max: usize,
) -> Result<(), ErrorCode> {
    let received = &telemetry.received;
    let unpacked = Codec::from_attributes(i16::from(compression)).ok();
    let unpacked = unpacked.and_then(|codec| codec::decompress(codec, packed, max).ok());
    let (mut points, mut shown, mut values) = (0_u64, 0_u64, String::new());
    let read = unpacked.as_deref().map(|data| {
        otlp::points(data, |point| {
            points += 1;
            let before = values.len();
            write(&mut values, &point);
            match values.len() > LINE_MAX {
                true => values.truncate(before),
                false => shown += 1,
            }
        })
    });
    if !matches!(read, Some(Ok(()))) {
        received.refused.inc();
        tracing::warn!(
            target: "corelane::client_metrics",
            client_instance_id = %id,
            client_id = client.client_id.as_deref(),
            bytes = packed.len(),
            "pushed metrics cannot be read"
        );
        return Err(ErrorCode::InvalidRecord);
    }
    received.pushes.inc();
    received.points.add(points);
    tracing::info!(
        target: "corelane::client_metrics",
        client_instance_id = %id,
        client_id = client.client_id.as_deref(),
        software_name = &*client.software_name,
        software_version = &*client.software_version,
        peer = %client.peer,
        terminating,
        points,
        left_out = points - shown,
        values,
        "metrics of a client"
    );
    Ok(())
}

/// `name{label="value"}=1.5`, with a space between two.
fn write(out: &mut String, point: &Point<'_>) {
    let gap = if out.is_empty() { "" } else { " " };
    // A string takes everything.
    let _ = write!(out, "{gap}{}", point.metric);
    let mut open = '{';
    for (label, value) in &point.labels {
        let _ = write!(out, "{open}{label}={value:?}");
        open = ',';
    }
    if open == ',' {
        out.push('}');
    }
    let _ = match point.value {
        Number::Int(n) => write!(out, "={n}"),
        Number::Double(n) => write!(out, "={n}"),
    };
}

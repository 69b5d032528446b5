//! Batches and records in words, for `corelane dump-log`: the names are those of Kafka's DumpLogSegments.

use std::fmt::{self, Write};

use bytes::Bytes;

use super::body::Malformed;
use super::internal::{self, BatchKind, classify};
use super::{BatchHeader, Record, SnapshotMark};

/// A value to print.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Field {
    Null,
    Int(i64),
    Bool(bool),
    Text(String),
    /// Printed as text if it is UTF-8, in hexadecimal otherwise.
    Bytes(Bytes),
    List(Vec<Field>),
}

/// Names and values of one line, in order.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Fields(pub Vec<(&'static str, Field)>);

impl Fields {
    pub(crate) fn int(&mut self, name: &'static str, value: impl Into<i64>) {
        self.0.push((name, Field::Int(value.into())));
    }

    pub(crate) fn flag(&mut self, name: &'static str, value: bool) {
        self.0.push((name, Field::Bool(value)));
    }

    pub(crate) fn text(&mut self, name: &'static str, value: impl Into<String>) {
        self.0.push((name, Field::Text(value.into())));
    }

    /// `name: value name: value`, as Kafka's tool prints.
    pub fn human(&self) -> Human<'_> {
        Human(self)
    }

    /// One JSON object; bytes that are no UTF-8 become `{"hex": "..."}`.
    pub fn json(&self) -> Json<'_> {
        Json(self)
    }
}

/// Describes the whole batch `batch` that stands at `position` (bytes) of its file.
pub fn batch(header: &BatchHeader, batch: &[u8], position: u64) -> Fields {
    let mut fields = Fields::default();
    fields.int("baseOffset", header.base_offset.0);
    fields.int("lastOffset", header.last_offset().0);
    fields.int("count", header.count);
    fields.int("baseSequence", header.base_sequence.0);
    fields.int("lastSequence", header.last_sequence().0);
    fields.int("producerId", header.producer_id.0);
    fields.int("producerEpoch", header.producer_epoch.0);
    fields.int("partitionLeaderEpoch", header.leader_epoch);
    fields.flag("isTransactional", header.is_transactional());
    fields.flag("isControl", header.is_control());
    fields.0.push(("deleteHorizonMs", header.delete_horizon().map_or(Field::Null, Field::Int)));
    fields.int("position", i64::try_from(position).unwrap_or(i64::MAX));
    fields.int(header.timestamp_type().name(), header.max_timestamp);
    fields.int("size", header.size() as i64);
    fields.int("magic", header.magic);
    fields.text("compresscodec", header.compression().map_or("unknown", |c| c.name()));
    fields.int("crc", header.crc);
    fields.flag("isvalid", header.verify_crc(batch).is_ok());
    let kind = classify(header, batch);
    match kind {
        BatchKind::Data | BatchKind::Control => {}
        BatchKind::InternalBlank => fields.text("internal", "blank"),
        BatchKind::InternalMembership => fields.text("internal", "membership"),
        BatchKind::InternalUnknown => fields.text("internal", "unknown"),
        BatchKind::SegmentHeader => fields.text("internal", "segment header"),
    }
    if let (BatchKind::SegmentHeader, Some(segment)) = (kind, internal::parse_segment_header(batch)) {
        fields.int("format", segment.format);
        fields.text("topicId", segment.key.topic.to_string());
        fields.int("partition", segment.key.partition);
        fields.int("baseIndex", i64::try_from(segment.base_index.0).unwrap_or(i64::MAX));
        fields.0.push(("previous", segment.previous.map_or(Field::Null, |p| Field::Text(p.to_string()))));
    }
    fields
}

/// Describes a record of a batch; keys, values and header values only with `data`.
pub fn record(header: &BatchHeader, record: &Record, data: bool) -> Fields {
    let mut fields = Fields::default();
    let size = |bytes: &Option<Bytes>| bytes.as_ref().map_or(-1, |b| b.len() as i64);
    fields.int("offset", record.offset.0);
    fields.int(header.timestamp_type().name(), record.timestamp);
    fields.int("keySize", size(&record.key));
    fields.int("valueSize", size(&record.value));
    fields.int("sequence", record.sequence.0);
    let keys = record.headers.iter().map(|(key, _)| Field::Bytes(key)).collect();
    fields.0.push(("headerKeys", Field::List(keys)));
    if header.is_control() {
        let mark = record.key.as_deref().and_then(SnapshotMark::of_key);
        match (mark, control(record)) {
            (Some(mark), _) => fields.text("control", mark.name()),
            (None, Ok((marker, epoch))) => {
                fields.text("endTxnMarker", marker);
                fields.int("coordinatorEpoch", epoch);
            }
            (None, Err(what)) => fields.text("control", what.to_string()),
        }
    } else if data {
        let bytes = |bytes: &Option<Bytes>| bytes.clone().map_or(Field::Null, Field::Bytes);
        fields.0.push(("key", bytes(&record.key)));
        fields.0.push(("payload", bytes(&record.value)));
        let values = record.headers.iter().map(|(_, value)| bytes(&value)).collect();
        fields.0.push(("headerValues", Field::List(values)));
    }
    fields
}

/// What a transaction marker says, and its coordinator's epoch.
fn control(record: &Record) -> Result<(&'static str, i32), Malformed> {
    let number = |bytes: &Option<Bytes>, at: usize| {
        bytes.as_ref().and_then(|b| b.get(at..at + 2)?.first_chunk::<2>().map(|n| i16::from_be_bytes(*n)))
    };
    let marker = match number(&record.key, 2) {
        Some(0) => "ABORT",
        Some(1) => "COMMIT",
        _ => return Err(Malformed("unknown kind of control record")),
    };
    let epoch = record.value.as_ref().and_then(|v| v.get(2..)?.first_chunk::<4>().map(|n| i32::from_be_bytes(*n)));
    Ok((marker, epoch.ok_or(Malformed("marker cut short"))?))
}

/// See `Fields::human`.
pub struct Human<'a>(&'a Fields);

impl fmt::Display for Human<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (name, value)) in self.0.0.iter().enumerate() {
            write!(f, "{}{name}: ", if i > 0 { " " } else { "" })?;
            human(f, value)?;
        }
        Ok(())
    }
}

fn human(f: &mut fmt::Formatter<'_>, value: &Field) -> fmt::Result {
    match value {
        Field::Null => f.write_str("null"),
        Field::Int(n) => write!(f, "{n}"),
        Field::Bool(b) => write!(f, "{b}"),
        Field::Text(text) => f.write_str(text),
        Field::Bytes(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => f.write_str(text),
            Err(_) => {
                f.write_str("0x")?;
                hex(f, bytes)
            }
        },
        Field::List(list) => {
            f.write_char('[')?;
            for (i, item) in list.iter().enumerate() {
                f.write_str(if i > 0 { "," } else { "" })?;
                human(f, item)?;
            }
            f.write_char(']')
        }
    }
}

/// See `Fields::json`.
pub struct Json<'a>(&'a Fields);

impl fmt::Display for Json<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('{')?;
        for (i, (name, value)) in self.0.0.iter().enumerate() {
            write!(f, "{}\"{name}\":", if i > 0 { "," } else { "" })?;
            json(f, value)?;
        }
        f.write_char('}')
    }
}

fn json(f: &mut fmt::Formatter<'_>, value: &Field) -> fmt::Result {
    match value {
        Field::Null => f.write_str("null"),
        Field::Int(n) => write!(f, "{n}"),
        Field::Bool(b) => write!(f, "{b}"),
        Field::Text(text) => quoted(f, text),
        Field::Bytes(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => quoted(f, text),
            Err(_) => {
                f.write_str("{\"hex\":\"")?;
                hex(f, bytes)?;
                f.write_str("\"}")
            }
        },
        Field::List(list) => {
            f.write_char('[')?;
            for (i, item) in list.iter().enumerate() {
                f.write_str(if i > 0 { "," } else { "" })?;
                json(f, item)?;
            }
            f.write_char(']')
        }
    }
}

fn hex(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|b| write!(f, "{b:02x}"))
}

fn quoted(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    f.write_char('"')?;
    for c in text.chars() {
        match c {
            '"' => f.write_str("\\\"")?,
            '\\' => f.write_str("\\\\")?,
            '\n' => f.write_str("\\n")?,
            c if (c as u32) < 0x20 => write!(f, "\\u{:04x}", c as u32)?,
            c => f.write_char(c)?,
        }
    }
    f.write_char('"')
}

#[cfg(test)]
mod tests {
    use super::super::{BatchBuilder, Codec, RecordIter, TransactionMarker, internal};
    use super::*;
    use crate::model::{Offset, Term};

    #[test]
    fn a_batch_reads_as_kafkas_tool_prints_it() {
        let mut builder = BatchBuilder::new(Codec::None);
        builder.push_with_headers(5, Some(b"k"), Some(b"\xff\x00"), &[("h\n", Some(b"v"))]);
        let bytes = builder.build_at(Offset(7), Term(3)).unwrap();
        let header = BatchHeader::parse(&bytes).unwrap();
        let line = batch(&header, &bytes, 99).human().to_string();
        assert!(line.starts_with("baseOffset: 7 lastOffset: 7 count: 1 baseSequence: -1 lastSequence: -1"), "{line}");
        assert!(line.contains(" position: 99 CreateTime: 5 size: "), "{line}");
        assert!(line.ends_with("isvalid: true"), "{line}");
        let one = RecordIter::new(&bytes, 100).unwrap().next().unwrap().unwrap();
        assert_eq!(
            record(&header, &one, true).json().to_string(),
            r#"{"offset":7,"CreateTime":5,"keySize":1,"valueSize":2,"sequence":-1,"headerKeys":["h\n"],"key":"k","payload":{"hex":"ff00"},"headerValues":["v"]}"#
        );
        assert!(!record(&header, &one, false).human().to_string().contains("payload"));
    }

    #[test]
    fn markers_and_internal_batches_are_named() {
        let mut builder = BatchBuilder::new(Codec::None);
        builder.push_marker(5, TransactionMarker::Commit, 12);
        let bytes = builder.build().unwrap();
        let header = BatchHeader::parse(&bytes).unwrap();
        let one = RecordIter::new(&bytes, 100).unwrap().next().unwrap().unwrap();
        let line = record(&header, &one, true).human().to_string();
        assert!(line.ends_with("endTxnMarker: COMMIT coordinatorEpoch: 12"), "{line}");
        let blank = internal::blank(Term(1), Offset(0));
        let line = batch(&BatchHeader::parse(&blank).unwrap(), &blank, 0).human().to_string();
        assert!(line.ends_with("isvalid: true internal: blank"), "{line}");
    }
}

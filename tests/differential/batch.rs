//! Record batches: written as scripts describe them, and shown as trees.

use bytes::Bytes;
use corelane_protocol::Tree;
use corelane_tests::batch::{self, ProducerIdentity};

const HEADER: usize = 61;

/// Fields, all optional: `count` (1), `key` ("k"; null), `value` ("v"; null), `size` (of a value instead), `ts` (now),
/// `pid` `epoch` `seq` (-1), `zstd` (false). Then, each over what is right: `base`, `length`, `leader_epoch`, `magic`,
/// `crc`, `attributes` (or-ed), `last_delta`, `max_ts`, `records` (their count), and `cut` (bytes off the end).
pub fn build(tree: &Tree, now: i64) -> Result<Bytes, String> {
    let Tree::Struct(fields) = tree else { return Err("batch{..}".into()) };
    let known = "count key value size ts pid epoch seq zstd base length leader_epoch magic crc attributes last_delta max_ts records cut";
    if let Some((name, _)) = fields.iter().find(|(name, _)| !known.split(' ').any(|k| k == name)) {
        return Err(format!("batch{{}} has no '{name}'"));
    }
    let int = |name: &str| if let Some(Tree::Int(value)) = tree.field(name) { Some(*value) } else { None };
    let bytes = |name: &str, default: &str| match tree.field(name) {
        Some(Tree::Null) => None,
        Some(Tree::Text(text)) => Some(text.clone().into_bytes()),
        _ => Some(default.as_bytes().to_vec()),
    };
    let who = ProducerIdentity {
        id: int("pid").unwrap_or(-1),
        epoch: int("epoch").unwrap_or(-1) as i16,
        sequence: int("seq").unwrap_or(-1) as i32,
    };
    let (key, mut value) = (bytes("key", "k"), bytes("value", "v"));
    if let Some(size) = int("size") {
        value = Some(vec![b'x'; size as usize]);
    }
    let records = (0..int("count").unwrap_or(1)).map(|_| (key.as_deref(), value.as_deref()));
    let mut out = batch::build(who, int("ts").unwrap_or(now), records);
    if tree.field("zstd") == Some(&Tree::Bool(true)) {
        out = batch::zstd(&out);
    }
    let mut put = |name: &str, at: usize, width: usize| {
        if let Some(value) = int(name) {
            out[at..at + width].copy_from_slice(&value.to_be_bytes()[8 - width..]);
        }
    };
    put("base", 0, 8);
    put("length", 8, 4);
    put("leader_epoch", 12, 4);
    put("magic", 16, 1);
    put("last_delta", 23, 4);
    put("max_ts", 35, 8);
    put("records", 57, 4);
    if let Some(attributes) = int("attributes") {
        out[21..23].iter_mut().zip((attributes as i16).to_be_bytes()).for_each(|(byte, more)| *byte |= more);
    }
    batch::seal(&mut out);
    if let Some(crc) = int("crc") {
        out[17..21].copy_from_slice(&(crc as u32).to_be_bytes());
    }
    out.truncate(out.len().saturating_sub(int("cut").unwrap_or(0) as usize));
    Ok(out.into())
}

/// The batches of a fetched record set, header by header. What is no whole batch is shown as bytes.
pub fn show(set: &Bytes) -> Tree {
    let mut out = Vec::new();
    let mut rest = set.clone();
    while !rest.is_empty() {
        let length = rest.get(8..12).map_or(0, |b| i64::from(i32::from_be_bytes([b[0], b[1], b[2], b[3]])));
        let end = usize::try_from(length + 12).unwrap_or(0);
        if end < HEADER || end > rest.len() {
            out.push(Tree::Bytes(rest));
            break;
        }
        let one = rest.split_to(end);
        let int = |at: usize, width: usize| {
            let bits = one[at..at + width].iter().fold(0_u64, |n, b| n << 8 | u64::from(*b));
            let unused = 64 - 8 * width;
            Tree::Int((bits << unused) as i64 >> unused)
        };
        let codec = one[22] & 7;
        let payload = one.slice(HEADER..);
        let payload = match codec {
            0 => Tree::Bytes(payload),
            4 => zstd::stream::decode_all(&*payload).map_or(Tree::Bytes(payload), |plain| Tree::Bytes(plain.into())),
            _ => Tree::Text("compressed".into()),
        };
        let fields = [
            ("base_offset", int(0, 8)),
            ("leader_epoch", int(12, 4)),
            ("magic", int(16, 1)),
            ("attributes", int(21, 2)),
            ("last_offset_delta", int(23, 4)),
            ("base_timestamp", int(27, 8)),
            ("max_timestamp", int(35, 8)),
            ("producer_id", int(43, 8)),
            ("producer_epoch", int(51, 2)),
            ("base_sequence", int(53, 4)),
            ("count", int(57, 4)),
            ("payload", payload),
        ];
        out.push(Tree::Struct(fields.map(|(name, value)| (name.to_owned(), value)).into()));
    }
    Tree::List(out)
}

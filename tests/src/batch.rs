//! Record batches built and read by hand, so that no code of the product vouches for itself.

use bytes::Bytes;

const HEADER: usize = 61;

/// The timestamp of records written now. Old ones would make a broker forget their producer: its state expires by them.
pub fn now_ms() -> i64 {
    i64::try_from(std::time::UNIX_EPOCH.elapsed().expect("a clock after 1970").as_millis()).expect("a timestamp")
}

/// Who writes: `-1` everywhere for a producer that is not idempotent.
#[derive(Clone, Copy, Debug)]
pub struct ProducerIdentity {
    pub id: i64,
    pub epoch: i16,
    pub sequence: i32,
}

impl ProducerIdentity {
    pub const NONE: ProducerIdentity = ProducerIdentity { id: -1, epoch: -1, sequence: -1 };
}

/// A record without headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub offset: i64,
    pub timestamp: i64,
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
}

fn put_varint(out: &mut Vec<u8>, value: i64) {
    let mut z = ((value << 1) ^ (value >> 63)) as u64;
    while z >= 0x80 {
        out.push(z as u8 | 0x80);
        z >>= 7;
    }
    out.push(z as u8);
}

fn put_bytes(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        Some(bytes) => {
            put_varint(out, bytes.len() as i64);
            out.extend(bytes);
        }
        None => put_varint(out, -1),
    }
}

/// An uncompressed batch of (key, value) pairs, base offset 0.
pub fn build<'a>(
    who: ProducerIdentity,
    timestamp: i64,
    records: impl IntoIterator<Item = (Option<&'a [u8]>, Option<&'a [u8]>)>,
) -> Vec<u8> {
    let mut out = vec![0; HEADER];
    let mut count = 0_i32;
    for (key, value) in records {
        let mut body = vec![0]; // attributes
        put_varint(&mut body, 0); // timestamp delta
        put_varint(&mut body, i64::from(count));
        put_bytes(&mut body, key);
        put_bytes(&mut body, value);
        put_varint(&mut body, 0); // headers
        put_varint(&mut out, body.len() as i64);
        out.extend(body);
        count += 1;
    }
    let length = i32::try_from(out.len() - 12).expect("a batch below 2 GiB");
    let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
    put(8, &length.to_be_bytes());
    put(12, &(-1_i32).to_be_bytes()); // leader epoch
    put(16, &[2]); // magic
    put(23, &(count - 1).to_be_bytes());
    put(27, &timestamp.to_be_bytes());
    put(35, &timestamp.to_be_bytes());
    put(43, &who.id.to_be_bytes());
    put(51, &who.epoch.to_be_bytes());
    put(53, &who.sequence.to_be_bytes());
    put(57, &count.to_be_bytes());
    seal(&mut out);
    out
}

/// The same batch, compressed with zstd.
pub fn zstd(batch: &[u8]) -> Vec<u8> {
    let mut out = batch[..HEADER].to_vec();
    out.extend(zstd::bulk::compress(&batch[HEADER..], 3).expect("zstd"));
    let length = i32::try_from(out.len() - 12).expect("a batch below 2 GiB");
    out[8..12].copy_from_slice(&length.to_be_bytes());
    out[22] |= 4;
    seal(&mut out);
    out
}

/// A batch with this one's header, whose records are `bytes` zeroes, compressed with zstd.
pub fn bomb(batch: &[u8], bytes: u64) -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(batch[..HEADER].to_vec(), 1).expect("zstd");
    std::io::copy(&mut std::io::Read::take(std::io::repeat(0), bytes), &mut encoder).expect("zeroes");
    let mut out = encoder.finish().expect("zstd");
    let length = i32::try_from(out.len() - 12).expect("a batch below 2 GiB");
    out[8..12].copy_from_slice(&length.to_be_bytes());
    out[22] |= 4;
    seal(&mut out);
    out
}

/// The same records, whose zstd frame says that it needs a window of 2^`log` bytes.
pub fn with_window(batch: &[u8], log: u8) -> Vec<u8> {
    let mut out = batch.to_vec();
    // Behind zstd's magic number and the descriptor of its frame.
    out[HEADER + 5] = (log - 10) << 3;
    seal(&mut out);
    out
}

/// Computes the CRC again, after a test has changed something.
pub fn seal(batch: &mut [u8]) {
    let crc = crc32c::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
}

fn varint(bytes: &[u8], at: &mut usize) -> i64 {
    let (mut z, mut shift) = (0_u64, 0);
    loop {
        let byte = bytes[*at];
        *at += 1;
        z |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return (z >> 1) as i64 ^ -((z & 1) as i64);
        }
        shift += 7;
    }
}

/// Reads the whole uncompressed batches of a fetched record set; checks every CRC. The last batch may be cut.
pub fn read(set: &Bytes) -> Vec<Record> {
    let int = |at: usize| i32::from_be_bytes(set[at..at + 4].try_into().expect("four bytes"));
    let long = |at: usize| i64::from_be_bytes(set[at..at + 8].try_into().expect("eight bytes"));
    let (mut out, mut start) = (Vec::new(), 0);
    while start + HEADER <= set.len() {
        let end = start + 12 + usize::try_from(int(start + 8)).expect("a batch length");
        if end > set.len() {
            break;
        }
        assert_eq!(set[start + 16], 2, "magic");
        assert_eq!(
            int(start + 17) as u32,
            crc32c::crc32c(&set[start + 21..end]),
            "CRC of the batch at {}",
            long(start)
        );
        assert_eq!(set[start + 22] & 0x27, 0, "neither compressed nor control");
        let mut at = start + HEADER;
        for _ in 0..int(start + 57) {
            let length = varint(set, &mut at);
            let stop = at + usize::try_from(length).expect("a record length");
            at += 1; // attributes
            let timestamp = long(start + 27) + varint(set, &mut at);
            let offset = long(start) + varint(set, &mut at);
            let field = |at: &mut usize| {
                let length = usize::try_from(varint(set, at)).ok()?;
                *at += length;
                Some(set.slice(*at - length..*at))
            };
            let key = field(&mut at);
            let value = field(&mut at);
            out.push(Record { offset, timestamp, key, value });
            at = stop;
        }
        start = end;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_built_can_be_read() {
        let built = build(
            ProducerIdentity::NONE,
            77,
            [(Some(&b"k"[..]), Some(&b"v"[..])), (None, None), (None, Some(&b""[..]))],
        );
        let records = read(&Bytes::from(built));
        let fields: Vec<_> =
            records.iter().map(|r| (r.offset, r.timestamp, r.key.as_deref(), r.value.as_deref())).collect();
        assert_eq!(
            fields,
            [(0, 77, Some(&b"k"[..]), Some(&b"v"[..])), (1, 77, None, None), (2, 77, None, Some(&b""[..]))]
        );
    }
}

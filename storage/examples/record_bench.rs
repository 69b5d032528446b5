//! What a batch costs on the produce path, on one core: `cargo run --release -p corelane-storage --example record_bench`

use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::Bytes;
use corelane_storage::model::{Offset, ProducerEpoch, ProducerId, Sequence};
use corelane_storage::producer_state::ProducerTable;
use corelane_storage::record::{
    BatchBuilder, BatchHeader, Codec, Compression, CompressionTarget, RecordIter, Validated, Validation,
    ValidationContext, validate,
};

const NOW: i64 = 1_700_000_000_000;
const SHAPES: [(usize, usize); 3] = [(1, 1024), (64, 1024), (1000, 100)];

/// Nanoseconds a call, the best of seven rounds.
fn time<R>(mut call: impl FnMut() -> R) -> f64 {
    let begin = Instant::now();
    let mut calls = 0u32;
    while begin.elapsed() < Duration::from_millis(30) {
        black_box(call());
        calls += 1;
    }
    let round = || {
        let begin = Instant::now();
        (0..calls).for_each(|_| {
            black_box(call());
        });
        begin.elapsed().as_nanos() as f64 / f64::from(calls)
    };
    std::iter::repeat_with(round).take(7).fold(f64::INFINITY, f64::min)
}

/// Values of which about half is random: compresses about 2:1.
fn batch(codec: Codec, records: usize, size: usize) -> Bytes {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut builder = BatchBuilder::new(codec).producer(ProducerId(1), ProducerEpoch(0), Sequence(0));
    for i in 0..records {
        let value: Vec<u8> = (0..size)
            .map(|at| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                if at / 16 % 2 == 0 { (state >> 56) as u8 } else { b'x' }
            })
            .collect();
        builder.push(NOW + i as i64, Some(&(i as u64).to_be_bytes()), Some(&value));
    }
    builder.build().expect("a batch of a few KiB")
}

/// Microseconds in all, those of the longest slice, and slices of a validation; the best of nine runs each.
fn sliced(bytes: &Bytes, context: &ValidationContext) -> (f64, f64, usize) {
    let mut best = (f64::INFINITY, f64::INFINITY, 0);
    for _ in 0..9 {
        let begun = Instant::now();
        let (mut longest, mut steps, mut before) = (Duration::ZERO, 0, begun);
        let mut validation = Validation::begin(bytes, context).expect("our own batch");
        loop {
            let done = validation.step();
            let now = Instant::now();
            longest = longest.max(now - before);
            (steps, before) = (steps + 1, now);
            if let Some(done) = done {
                black_box(done.expect("our own batch"));
                break;
            }
        }
        let micros = |d: Duration| d.as_nanos() as f64 / 1000.0;
        best = (best.0.min(micros(begun.elapsed())), best.1.min(micros(longest)), steps);
    }
    best
}

/// The batch with its records in one block, as librdkafka's snappy and the largest blocks of lz4 are.
fn in_one_block(codec: Codec, plain: &Bytes) -> Bytes {
    const CRC: std::ops::Range<usize> = 17..21;
    let (head, records) = plain.split_at(61);
    let packed = match codec {
        Codec::Snappy => snap::raw::Encoder::new().compress_vec(records).expect("snappy compresses"),
        _ => {
            let descriptor = [0x60, 0x70];
            let mut frame = 0x184d_2204_u32.to_le_bytes().to_vec();
            frame.extend(descriptor);
            frame.push((twox_hash::XxHash32::oneshot(0, &descriptor) >> 8) as u8);
            for block in records.chunks(4 << 20) {
                let packed = lz4::block::compress(block, None, false).expect("lz4 compresses");
                frame.extend((packed.len() as u32).to_le_bytes());
                frame.extend(packed);
            }
            frame.extend([0; 4]);
            frame
        }
    };
    let header = BatchHeader::parse(plain).expect("our own batch");
    let length = (head.len() - 12 + packed.len()) as i32;
    let mut bytes = [0; 61];
    BatchHeader { attributes: codec.bits(), length, ..header }.write(&mut bytes);
    let mut bytes = [&bytes[..], &packed].concat();
    let crc = crc32c::crc32c(&bytes[CRC.end..]);
    bytes[CRC].copy_from_slice(&crc.to_be_bytes());
    bytes.into()
}

/// 1 MiB of records: what validation and recompression cost, and how long they hold the core at a time.
fn slices() {
    let context = ValidationContext { now_ms: NOW, max_message_bytes: 4 << 20, ..Default::default() };
    println!("batches of 1 MiB of records of 1 KiB, us: in all, the longest slice, slices");
    let plain = batch(Codec::None, 1000, 1024);
    let small = batch(Codec::None, 60_000, 9);
    let (all, longest, steps) = sliced(&small, &context);
    println!("  60,000 small records, check  {all:>8.0}  {longest:>6.0}  {steps:>4}");
    let mut runs = BatchBuilder::new(Codec::None);
    (0..20).for_each(|n| runs.push(NOW, Some(&[n]), Some(&vec![b'x'; 1 << 20])));
    let runs = runs.build().expect("a batch of 20 MiB");
    for (what, plain) in [("1 MiB", &plain), ("20 MiB of runs", &runs)] {
        for codec in [Codec::Snappy, Codec::Lz4] {
            let packed = in_one_block(codec, plain);
            let (all, longest, steps) = sliced(&packed, &context);
            let (name, size) = (codec.name(), packed.len());
            println!("  {name:<7} {what} in one block, check  {all:>8.0}  {longest:>6.0}  {steps:>4}  {size} B");
        }
    }
    let levels: [(Codec, &[i32]); 5] = [
        (Codec::None, &[0]),
        (Codec::Gzip, &[-1, 1, 9]),
        (Codec::Snappy, &[0]),
        (Codec::Lz4, &[9, 1, 8, 12, 17]),
        (Codec::Zstd, &[3, -7, 1, 4, 7, 12, 15, 17, 19, 22]),
    ];
    for (codec, levels) in levels {
        let packed = batch(codec, 1000, 1024);
        let (all, longest, steps) = sliced(&packed, &context);
        println!("  {:<7}      check  {all:>8.0}  {longest:>6.0}  {steps:>4}", codec.name());
        for &level in levels.iter().filter(|_| codec != Codec::None) {
            let compression = CompressionTarget::Codec(Compression { codec, level });
            let context = ValidationContext { compression, ..context };
            let (all, longest, steps) = sliced(&plain, &context);
            let size = validate(&plain, &context).expect("our own batch").size();
            println!("  {:<7} {level:>3}  to it  {all:>8.0}  {longest:>6.0}  {steps:>4}  {size} B", codec.name());
        }
    }
}

fn main() {
    let context = ValidationContext { now_ms: NOW, ..Default::default() };
    println!("uncompressed, ns a batch (ns a record, GB/s)");
    for (records, size) in SHAPES {
        let bytes = batch(Codec::None, records, size);
        let header = BatchHeader::parse(&bytes).expect("our own batch");
        let report = |what: &str, ns: f64| {
            let (each, speed) = (ns / records as f64, bytes.len() as f64 / ns);
            println!("  {records:>4} x {size:>4} B  {what:<22} {ns:>10.1}  ({each:>7.1}, {speed:>6.2})");
        };
        report("parse header", time(|| BatchHeader::parse(black_box(&bytes))));
        report("CRC-32C", time(|| header.verify_crc(black_box(&bytes))));
        report("validate", time(|| validate(black_box(&bytes), &context)));
        report("validate + into_batch", time(|| validate(&bytes, &context).map(Validated::into_batch)));
        let iterate = || RecordIter::new(&bytes, usize::MAX).map(|records| records.flatten().count());
        report("RecordIter", time(iterate));
    }
    println!("compressed, 64 x 1024 B, us a batch");
    for codec in Codec::ALL {
        let bytes = batch(codec, 64, 1024);
        let plain = batch(Codec::None, 64, 1024);
        let target = ValidationContext { compression: CompressionTarget::Codec(codec.into()), ..context };
        let check = time(|| validate(&bytes, &context)) / 1000.0;
        let rebuild = time(|| validate(&plain, &target)) / 1000.0;
        println!("  {:<7} {:>6} B  validate {check:>8.2}  recompress to it {rebuild:>8.2}", codec.name(), bytes.len());
    }
    slices();
    let header = BatchHeader::parse(&batch(Codec::None, 1, 100)).expect("our own batch");
    let mut table = ProducerTable::new();
    for id in 0..10_000 {
        table.update(&BatchHeader { producer_id: ProducerId(id), ..header }, Offset(0));
    }
    let mut id = 0;
    let mut next = header;
    let ns = time(|| {
        id = (id + 7919) % 10_000;
        next.producer_id = ProducerId(id);
        next.base_sequence = table.get(next.producer_id).map_or(Sequence(0), |p| p.last_sequence.next());
        let fresh = table.check(&next);
        table.update(&next, Offset(1));
        fresh
    });
    println!("producer table of 10,000: look, check and update {ns:.1} ns");
}

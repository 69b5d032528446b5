use super::*;
use proptest::prelude::*;

fn sample(len: usize) -> Vec<u8> {
    (0..len).map(|i| if i % 7 < 4 { (i / 97) as u8 } else { (i.wrapping_mul(2_654_435_761) >> 13) as u8 }).collect()
}

#[test]
fn every_codec_reads_back_what_it_wrote() {
    for codec in Codec::ALL {
        for len in [0, 1, 100, 32 << 10, (64 << 10) + 1, 1 << 20] {
            let raw = sample(len);
            let mut packed = b"before".to_vec();
            compress(codec.into(), &raw, &mut packed).unwrap();
            let packed = packed.strip_prefix(b"before").unwrap();
            let packed = Bytes::copy_from_slice(packed);
            assert_eq!(decompress(codec, &packed, len), Ok(raw.clone()), "{codec:?} {len}");
            if len > 0 {
                assert_eq!(decompress(codec, &packed, len - 1), Err(CodecError::TooLarge(len - 1)));
            }
        }
    }
}

#[test]
fn levels_are_taken_and_moved_into_range() {
    let raw = sample(200 << 10);
    for (codec, levels) in [
        (Codec::Gzip, &[-1, 0, 1, 9, 99][..]),
        (Codec::Lz4, &[0, 1, 9, 12, 17, 99]),
        (Codec::Zstd, &[-7, 1, 3, 19, 22]),
    ] {
        let sizes: Vec<usize> = levels
            .iter()
            .map(|&level| {
                let mut packed = Vec::new();
                compress(Compression { codec, level }, &raw, &mut packed).unwrap();
                let packed = Bytes::from(packed);
                assert_eq!(decompress(codec, &packed, raw.len()), Ok(raw.clone()));
                packed.len()
            })
            .collect();
        assert!(sizes.iter().any(|s| *s != sizes[0]), "{codec:?}: levels make no difference: {sizes:?}");
    }
}

/// Why it is not decompressed, and the memory that it took to find out.
fn refused(codec: Codec, packed: Vec<u8>, limit: usize) -> (CodecError, usize) {
    let mut decompression = match Decompression::new(codec, packed.into(), limit) {
        Ok(begun) => begun,
        Err(error) => return (error, 0),
    };
    // Not what an earlier one has left.
    let _kept = std::mem::replace(&mut decompression.output, Output::new(limit));
    let error = loop {
        match decompression.step() {
            Ok(done) => assert!(!done),
            Err(error) => break error,
        }
    };
    (error, decompression.output.memory())
}

#[test]
fn bombs_are_refused_within_the_limit() {
    let limit = 1 << 20;
    for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let mut bomb = Vec::new();
        compress(codec.into(), &vec![0; 64 << 20], &mut bomb).unwrap();
        let (error, memory) = refused(codec, bomb, limit);
        assert_eq!(error, CodecError::TooLarge(limit), "{codec:?}");
        assert!(memory <= limit + (4 << 20), "{codec:?} took {memory} bytes");
    }
}

/// 32 KiB that stand for 1 GiB: a zstd frame of run-length blocks, 128 KiB in 4 bytes.
fn gibibyte_bomb() -> Vec<u8> {
    let mut bomb = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x38];
    for i in 0..8192u32 {
        let block = u32::from(i == 8191) | 1 << 1 | (128 << 10) << 3;
        bomb.extend_from_slice(&block.to_le_bytes()[..3]);
        bomb.push(0);
    }
    bomb
}

#[test]
fn a_gibibyte_in_32_kib_is_refused_within_the_limit() {
    let bomb = gibibyte_bomb();
    assert!(bomb.len() < 33 << 10);
    let limit = 4 << 20;
    let (error, memory) = refused(Codec::Zstd, bomb, limit);
    assert_eq!(error, CodecError::TooLarge(limit));
    assert!(memory <= limit + SLICE_MAX, "{memory} bytes");
}

#[test]
fn snappy_takes_raw_blocks_and_streams_in_a_row() {
    let raw = sample(50_000);
    let block = snap::raw::Encoder::new().compress_vec(&raw).unwrap();
    assert_eq!(decompress(Codec::Snappy, &block.into(), raw.len()), Ok(raw.clone()));
    let mut twice = Vec::new();
    compress(Codec::Snappy.into(), &raw, &mut twice).unwrap();
    compress(Codec::Snappy.into(), &raw, &mut twice).unwrap();
    assert_eq!(decompress(Codec::Snappy, &twice.into(), 100_000).map(|r| r.len()), Ok(100_000));
}

/// One lz4 block in a frame that allows blocks of 4 MiB.
fn large_lz4(raw: &[u8]) -> Vec<u8> {
    let descriptor = [0x60, 0x70];
    let mut frame = 0x184d_2204_u32.to_le_bytes().to_vec();
    frame.extend_from_slice(&descriptor);
    frame.push((twox_hash::XxHash32::oneshot(0, &descriptor) >> 8) as u8);
    let packed = ::lz4::block::compress(raw, None, false).unwrap();
    frame.extend_from_slice(&(packed.len() as u32).to_le_bytes());
    frame.extend_from_slice(&packed);
    frame.extend_from_slice(&[0; 4]);
    frame
}

/// Compressed by their own libraries, of all kinds: long runs, short periods, incompressible, mixed.
fn large_samples() -> Vec<Vec<u8>> {
    let mut random = 1u64;
    let mut next = || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (random >> 40) as u8
    };
    let noise: Vec<u8> = (0..700_000).map(|_| next()).collect();
    let periods = [2, 3, 7, 64, 1000].map(|period| (0..900_000).map(|at| noise[at % period]).collect());
    let mixed = (0..3_000_000).map(|at| if at / 5000 % 3 == 0 { noise[at % noise.len()] } else { (at / 300) as u8 });
    [vec![0; 4 << 20], mixed.collect(), sample(1 << 20), noise].into_iter().chain(periods).collect()
}

#[test]
fn large_blocks_come_out_in_slices() {
    for raw in large_samples() {
        let snappy = snap::raw::Encoder::new().compress_vec(&raw).unwrap();
        for (codec, packed) in [(Codec::Snappy, snappy), (Codec::Lz4, large_lz4(&raw))] {
            let mut decompression = Decompression::new(codec, packed.into(), raw.len()).unwrap();
            loop {
                let before = decompression.output.filled();
                let ended = decompression.step().unwrap();
                assert!(decompression.output.filled() - before <= SLICE);
                if ended {
                    break;
                }
            }
            assert!(decompression.output.bytes() == raw, "{codec:?}");
        }
    }
}

#[test]
fn a_larger_buffer_is_filled_in_slices() {
    let raw = vec![b'x'; 9 << 20];
    // What lz4 does not compress stands in the frame as it is.
    let mut stored = 0x184d_2204_u32.to_le_bytes().to_vec();
    stored.extend([0x60, 0x70]);
    stored.push((twox_hash::XxHash32::oneshot(0, &[0x60, 0x70]) >> 8) as u8);
    for block in raw.chunks(4 << 20) {
        stored.extend((block.len() as u32 | 1 << 31).to_le_bytes());
        stored.extend(block);
    }
    stored.extend([0; 4]);
    let compressed = Codec::ALL.map(|codec| {
        let mut packed = Vec::new();
        compress(codec.into(), &raw, &mut packed).unwrap();
        (codec, packed)
    });
    for (codec, packed) in compressed.into_iter().chain([(Codec::Lz4, stored)]) {
        let mut decompression = Decompression::new(codec, packed.into(), 20 << 20).unwrap();
        let (mut resting, mut most) = (0, 0);
        loop {
            let before = decompression.output.filled();
            let ended = decompression.step().unwrap();
            let came = decompression.output.filled() - before;
            most = most.max(came);
            resting += usize::from(came == 0 && !ended);
            if ended {
                break;
            }
        }
        assert!(most <= SLICE_MAX, "{codec:?}: {most} at once");
        assert!(resting > 10, "{codec:?}: moved in {resting} slices");
        assert!(decompression.output.bytes() == raw, "{codec:?}");
    }
}

#[test]
fn damaged_large_blocks_give_what_their_libraries_give() {
    let raw = sample(600_000);
    let snappy = snap::raw::Encoder::new().compress_vec(&raw).unwrap();
    for (codec, packed) in [(Codec::Snappy, snappy), (Codec::Lz4, large_lz4(&raw))] {
        for at in (0..packed.len()).step_by(packed.len() / 300) {
            let mut bad = packed.clone();
            bad[at] ^= 0x55;
            let theirs = match codec {
                Codec::Snappy => snap::raw::Decoder::new().decompress_vec(&bad).ok(),
                _ => bad.get(11..bad.len() - 4).and_then(|b| ::lz4::block::decompress(b, Some(4 << 20)).ok()),
            };
            let ours = decompress(codec, &bad.clone().into(), 4 << 20);
            if let Some(theirs) = theirs.filter(|_| (11..packed.len() - 4).contains(&at)) {
                assert!(ours == Ok(theirs), "{codec:?} at {at}");
            }
            let cut = Bytes::copy_from_slice(&packed[..at]);
            assert!(decompress(codec, &cut, 4 << 20).is_err(), "{codec:?} cut at {at}");
        }
    }
    let back_before_the_begin = [&[0x80, 0x80, 0x20, 0, b'a', 0x0a, 5, 0][..], &[0; 80_000]].concat();
    assert!(decompress(Codec::Snappy, &back_before_the_begin.into(), 4 << 20).is_err());
}

#[test]
fn lying_sizes_take_no_memory() {
    // A raw snappy block that declares 4 GiB - 1, and an xerial block as long.
    let claims = [0xff, 0xff, 0xff, 0xff, 0x0f, 0];
    assert_eq!(refused(Codec::Snappy, claims.to_vec(), usize::MAX).1, 0);
    let framed = [&b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01\x7f\xff\xff\xff"[..], &claims].concat();
    assert_eq!(refused(Codec::Snappy, framed, usize::MAX).1, 0);
}

#[test]
fn lz4_checks_what_kafka_checks() {
    let mut packed = Vec::new();
    compress(Codec::Lz4.into(), b"hello hello hello hello", &mut packed).unwrap();
    assert_eq!(twox_hash::XxHash32::oneshot(0, &packed[4..6]) >> 8 & 0xff, u32::from(packed[6]));
    for (at, what) in [(0, "no frame"), (4, "unknown frame flags"), (5, "block size"), (6, "header checksum")] {
        let mut bad = packed.clone();
        bad[at] ^= 0x80;
        assert_eq!(decompress(Codec::Lz4, &bad.into(), 100), Err(CodecError::Corrupt(Codec::Lz4, what)));
    }
    // With block and content checksums and a content size, as other clients write them.
    let mut full = packed[..4].to_vec();
    let descriptor = [0x7c, 0x40, 5, 0, 0, 0, 0, 0, 0, 0];
    full.extend_from_slice(&descriptor);
    full.push((twox_hash::XxHash32::oneshot(0, &descriptor) >> 8) as u8);
    full.extend_from_slice(&(5 | 1u32 << 31).to_le_bytes());
    full.extend_from_slice(b"abcde");
    full.extend_from_slice(&twox_hash::XxHash32::oneshot(0, b"abcde").to_le_bytes());
    full.extend_from_slice(&[0; 8]);
    assert_eq!(decompress(Codec::Lz4, &full.into(), 100).as_deref(), Ok(&b"abcde"[..]));
}

proptest! {
    #[test]
    fn nothing_panics_on_random_bytes(codec in 1usize..5, bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = decompress(Codec::ALL[codec], &bytes.into(), 1 << 16);
    }

    #[test]
    fn nothing_panics_on_damaged_data(codec in 1usize..5, cut in 0usize..3000, flips in prop::collection::vec((0usize..3000, 1u8..), 0..4)) {
        let mut packed = Vec::new();
        compress(Codec::ALL[codec].into(), &sample(2500), &mut packed).unwrap();
        for (at, bits) in flips {
            let at = at % packed.len();
            packed[at] ^= bits;
        }
        packed.truncate(packed.len() - cut % packed.len());
        let _ = decompress(Codec::ALL[codec], &packed.into(), 1 << 16);
    }
}

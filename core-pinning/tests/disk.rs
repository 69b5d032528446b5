//! Files through the ring.

use core_pinning::{AlignedBuf, BLOCK, File, OpenOptions, disk::fs, fault, run_local, spawn_here, yield_now};
use fault::{DiskOp, Effect, FaultPlan};
use std::{io, path::PathBuf, rc::Rc};

fn pattern(n: usize, seed: usize) -> Vec<u8> {
    (0..n).map(|i| (i * 31 + seed) as u8).collect()
}

/// A directory on a file system that can do direct I/O.
fn dir() -> tempfile::TempDir {
    tempfile::tempdir_in(std::env::var_os("CARGO_TARGET_TMPDIR").map_or_else(|| PathBuf::from("."), PathBuf::from))
        .unwrap()
}

#[test]
fn what_is_written_is_read() {
    let d = dir();
    run_local(async || {
        let path = d.path().join("a");
        let f = File::open(&path, OpenOptions::read_write().create_new(true)).await.unwrap();
        let bytes = pattern(100_003, 1);
        f.write_at(7, bytes.clone()).await.unwrap();
        f.sync_data().await.unwrap();
        assert_eq!(f.len().await.unwrap(), 100_010);
        assert_eq!(&f.read_at(7, 200_000).await.unwrap()[..], &bytes[..]);
        assert_eq!(&f.read_at(1007, 5).await.unwrap()[..], &bytes[1000..1005]);
        assert!(f.read_at(1 << 30, 10).await.unwrap().is_empty());
        f.set_len(50).await.unwrap();
        assert_eq!(f.len().await.unwrap(), 50);
        let e = File::open(&path, OpenOptions::read_write().create_new(true)).await.unwrap_err();
        assert_eq!(e.kind(), io::ErrorKind::AlreadyExists);
    });
}

#[test]
fn direct_files_want_alignment_and_get_it() {
    let d = dir();
    run_local(async || {
        let path = d.path().join("direct");
        let o = OpenOptions::read_write().create(true).direct(true).dsync(true);
        let f = File::open(&path, o).await.unwrap();
        let mut buf = AlignedBuf::zeroed(3 * BLOCK);
        buf.copy_from_slice(&pattern(3 * BLOCK, 2));
        let buf = Rc::new(buf);
        f.write_at(BLOCK as u64, buf.clone()).await.unwrap();
        assert_eq!(f.read_at(BLOCK as u64, 16 * BLOCK).await.unwrap()[..], buf[..]);
        for (pos, len) in [(1u64, BLOCK), (0, 100)] {
            assert_eq!(f.read_at(pos, len).await.unwrap_err().kind(), io::ErrorKind::InvalidInput);
        }
        let mut odd = AlignedBuf::zeroed(BLOCK);
        odd.truncate(100);
        assert_eq!(f.write_at(0, odd).await.unwrap_err().kind(), io::ErrorKind::InvalidInput);
        f.allocate(0, 1 << 20, false).await.unwrap();
        assert_eq!(f.len().await.unwrap(), 1 << 20);
    });
}

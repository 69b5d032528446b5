//! Files through the ring.
#![allow(unsafe_code)]

use core_pinning::{
    AlignedBuf, BLOCK, File, IoBuf, OpenOptions, Queue,
    disk::fs,
    fault::{self, DiskOp, Effect, FaultPlan},
    reactor_stats, run_local, spawn, spawn_here, time, yield_now,
};
use std::{
    cell::Cell,
    future::Future,
    io,
    pin::pin,
    rc::Rc,
    task::{Context, Waker},
    time::Duration,
};

fn pattern(n: usize, seed: usize) -> Vec<u8> {
    (0..n).map(|i| (i * 31 + seed) as u8).collect()
}

/// A directory on a file system that can do direct I/O.
fn dir() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
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

#[test]
fn the_kernel_taking_less_is_not_noticed() {
    let d = dir();
    run_local(async || {
        for (direct, short) in [(false, 1000), (true, BLOCK), (true, 5000)] {
            let path = d.path().join(format!("short-{direct}-{short}"));
            let f = File::open(&path, OpenOptions::read_write().create(true).direct(direct)).await.unwrap();
            fault::set(FaultPlan::new().once(DiskOp::Write, "short-", Effect::Short(short)));
            let buf = AlignedBuf::copy_from(&pattern(4 * BLOCK, short));
            let r = f.write_at(0, buf).await;
            assert_eq!(fault::hits(), 1);
            fault::clear();
            if direct && short % BLOCK != 0 {
                // the kernel itself refuses such a write
                assert_eq!(r.unwrap_err().kind(), io::ErrorKind::InvalidInput);
                continue;
            }
            r.unwrap();
            assert_eq!(f.read_at(0, 8 * BLOCK).await.unwrap()[..], pattern(4 * BLOCK, short)[..]);
        }
    });
}

#[test]
fn faults_hit_what_they_name() {
    let d = dir();
    run_local(async || {
        let open = async |name: &str| File::open(&d.path().join(name), OpenOptions::read_write().create(true)).await;
        let (a, b) = (open("aa.log").await.unwrap(), open("bb.idx").await.unwrap());
        fault::set(
            FaultPlan::new()
                .nth(DiskOp::Write, ".log", 1, 1, Effect::Error(libc::ENOSPC))
                .every(DiskOp::Sync, "bb", Effect::Error(libc::EIO))
                .once(DiskOp::Write, "bb", Effect::Torn(3, libc::EIO))
                .once(DiskOp::Rename, "aa", Effect::Error(libc::EIO)),
        );
        a.write_at(0, b"one".to_vec()).await.unwrap();
        assert_eq!(a.write_at(3, b"two".to_vec()).await.unwrap_err().kind(), io::ErrorKind::StorageFull);
        a.write_at(3, b"two".to_vec()).await.unwrap();
        assert_eq!(b.write_at(0, b"torn apart".to_vec()).await.unwrap_err().raw_os_error(), Some(libc::EIO));
        a.sync_data().await.unwrap();
        assert!(b.sync_data().await.is_err() && b.sync_all().await.is_err());
        assert!(fs::rename(a.path(), &d.path().join("c")).await.is_err());
        assert_eq!(fault::hits(), 5);
        fault::clear();
        assert_eq!(&b.read_at(0, 100).await.unwrap()[..], b"tor");
        assert_eq!(&a.read_at(0, 100).await.unwrap()[..], b"onetwo");
        fault::set(FaultPlan::new().all("missing", Effect::Error(libc::EIO)));
        assert_eq!(open("missing").await.unwrap_err().raw_os_error(), Some(libc::EIO));
        fault::clear();
    });
}

/// A buffer that says when it is dropped.
struct Watched {
    bytes: AlignedBuf,
    dropped: Rc<Cell<bool>>,
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.dropped.set(true);
    }
}

// SAFETY: the bytes are on the heap and never change.
unsafe impl IoBuf for Watched {
    fn as_ptr(&self) -> *const u8 {
        self.bytes.as_ptr()
    }
    fn len(&self) -> usize {
        self.bytes.len()
    }
}

#[test]
fn a_dropped_write_keeps_its_buffer_until_it_is_done() {
    let d = dir();
    run_local(async || {
        let path = d.path().join("a");
        let f = File::open(&path, OpenOptions::read_write().create(true).direct(true).dsync(true)).await.unwrap();
        let dropped = Rc::new(Cell::new(false));
        let bytes = AlignedBuf::copy_from(&pattern(1 << 20, 5));
        {
            let mut w = pin!(f.write_at(0, Watched { bytes, dropped: dropped.clone() }));
            let mut cx = Context::from_waker(Waker::noop());
            assert!(w.as_mut().poll(&mut cx).is_pending());
        }
        assert!(!dropped.get(), "the buffer went with the future");
        drop(f); // the file stays open as long as the write needs it
        let by = time::now() + Duration::from_secs(60);
        while !dropped.get() {
            assert!(time::now() < by, "the buffer never came back");
            time::sleep(Duration::from_millis(1)).await;
        }
        let f = File::open(&path, OpenOptions::read_only()).await.unwrap();
        assert!(f.read_at(0, 2 << 20).await.unwrap()[..] == pattern(1 << 20, 5)[..]);
    });
}

#[test]
fn a_dropped_open_closes_what_it_opened() {
    let d = dir();
    run_local(async || {
        let path = d.path().join("a");
        let f = File::open(&path, OpenOptions::read_write().create(true)).await.unwrap();
        for _ in 0..10 {
            let mut o = pin!(File::open(&path, OpenOptions::read_only()));
            assert!(o.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        }
        drop(f);
        let open = || {
            let fds = std::fs::read_dir("/proc/self/fd").unwrap();
            fds.filter(|e| std::fs::read_link(e.as_ref().unwrap().path()).is_ok_and(|p| p == path)).count()
        };
        let by = time::now() + Duration::from_secs(60);
        while open() > 0 {
            assert!(time::now() < by, "{} descriptors left", open());
            time::sleep(Duration::from_millis(1)).await;
        }
    });
}

#[test]
fn more_operations_than_the_ring_has_places() {
    let d = dir();
    run_local(async || {
        let f = File::open(&d.path().join("a"), OpenOptions::read_write().create(true)).await.unwrap();
        let tasks: Vec<_> = (0..5000u64)
            .map(|k| {
                let f = f.clone();
                spawn_here("writer", async move { f.write_at(k * 8, k.to_be_bytes().to_vec()).await.unwrap() })
            })
            .collect();
        for t in tasks {
            t.await;
        }
        let all = f.read_at(0, 40_000).await.unwrap();
        assert!(all.chunks(8).enumerate().all(|(k, b)| b == (k as u64).to_be_bytes()));
    });
}

#[test]
fn names() {
    let d = dir();
    run_local(async || {
        let deep = d.path().join("a/b/c");
        fs::create_dir_all(&deep).await.unwrap();
        fs::create_dir_all(&deep).await.unwrap();
        assert_eq!(fs::create_dir(&deep).await.unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        let f = File::open(&deep.join("x"), OpenOptions::read_write().create(true)).await.unwrap();
        f.write_at(0, vec![1; 10]).await.unwrap();
        assert!(fs::create_dir_all(&deep.join("x")).await.is_err());
        fs::rename(&deep.join("x"), &deep.join("y")).await.unwrap();
        fs::create_dir(&deep.join("z")).await.unwrap();
        fs::sync_dir(&deep).await.unwrap();
        let found = fs::read_dir(&deep).await.unwrap();
        let found: Vec<_> = found.iter().map(|e| (e.name.to_str().unwrap(), e.is_dir)).collect();
        assert_eq!(found, [("y", false), ("z", true)]);
        let m = fs::metadata(&deep.join("y")).await.unwrap();
        assert_eq!((m.len, m.is_file, m.is_dir), (10, true, false));
        assert!(m.modified_ms > 1_600_000_000_000);
        assert!(fs::exists(&deep).await.unwrap() && !fs::exists(&deep.join("x")).await.unwrap());
        assert!(fs::remove_dir(&deep).await.is_err());
        fs::remove_file(&deep.join("y")).await.unwrap();
        fs::remove_dir(&deep.join("z")).await.unwrap();
        fs::remove_dir(&deep).await.unwrap();
        assert_eq!(fs::read_dir(&deep).await.unwrap_err().kind(), io::ErrorKind::NotFound);
        let space = fs::free_space(d.path()).await.unwrap();
        assert!(space.available > 0 && space.total >= space.available);
    });
}

#[test]
fn a_shard_that_waits_for_the_disk_sleeps() {
    let d = dir();
    run_local(async || {
        let o = OpenOptions::read_write().create(true).direct(true).dsync(true);
        let f = File::open(&d.path().join("a"), o).await.unwrap();
        let before = reactor_stats();
        for k in 0..50 {
            f.write_at(k * BLOCK as u64, AlignedBuf::zeroed(BLOCK)).await.unwrap();
        }
        let turns = reactor_stats().turns - before.turns;
        assert!(turns < 50 * 10, "{turns} turns for 50 writes");
    });
}

/// Tasks that are always ready, in the queue of the disk's user or another, do not keep its completions from it.
#[test]
fn completions_are_seen_while_tasks_spin() {
    let d = dir();
    run_local(async || {
        let o = OpenOptions::read_write().create(true).direct(true);
        let f = File::open(&d.path().join("a"), o).await.unwrap();
        f.write_at(0, AlignedBuf::zeroed(BLOCK)).await.unwrap();
        // In turns of 20 us: a loaded machine takes the core away.
        let turns = Rc::new(Cell::new(0u64));
        for queue in Queue::ALL {
            let spinners: Vec<_> = (0..4)
                .map(|_| {
                    let turns = turns.clone();
                    spawn(queue, "spinner", async move {
                        loop {
                            let t = time::now();
                            while t.elapsed() < Duration::from_micros(20) {}
                            turns.set(turns.get() + 1);
                            yield_now().await;
                        }
                    })
                })
                .collect();
            let mut took = vec![];
            for _ in 0..30 {
                let before = turns.get();
                f.read_at(0, BLOCK).await.unwrap();
                took.push(turns.get() - before);
            }
            for s in spinners {
                let never: Option<()> = s.cancel().await;
                assert!(never.is_none());
            }
            took.sort();
            println!("{queue:?}: p50 {} turns, longest {}", took[15], took[29]);
            assert!(took[15] < 1000, "{queue:?}: {took:?}");
        }
    });
}

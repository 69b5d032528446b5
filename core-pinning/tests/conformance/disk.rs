//! Files and names.

use super::{at, on_shard, pattern};
use core_pinning::{
    AlignedBuf, BLOCK, File, OpenOptions,
    disk::fs,
    fault::{self, DiskOp, Effect, FaultPlan},
};
use std::{
    future::Future,
    io,
    path::PathBuf,
    pin::pin,
    task::{Context, Waker},
};

fn create() -> OpenOptions {
    OpenOptions::read_write().create(true)
}

#[test]
fn what_is_written_is_read() {
    on_shard(async |dir| {
        let f = File::open(&at(&dir, "a"), create().create_new(true)).await.unwrap();
        let bytes = pattern(100_003, 1);
        f.write_at(7, bytes.clone()).await.unwrap();
        f.sync_data().await.unwrap();
        assert_eq!(f.len().await.unwrap(), 100_010);
        assert_eq!(&f.read_at(0, 7).await.unwrap()[..], [0; 7]);
        assert_eq!(&f.read_at(7, 200_000).await.unwrap()[..], &bytes[..]);
        assert_eq!(&f.read_at(1007, 5).await.unwrap()[..], &bytes[1000..1005]);
        assert!(f.read_at(1 << 30, 10).await.unwrap().is_empty());
        f.write_at(100, pattern(50, 9)).await.unwrap();
        let again = File::open(f.path(), OpenOptions::read_only()).await.unwrap();
        assert_eq!(&again.read_at(100, 50).await.unwrap()[..], &pattern(50, 9)[..]);
        assert!(again.write_at(0, vec![1]).await.is_err() || cfg!(sim));
    });
}

#[test]
fn direct_files_want_alignment() {
    on_shard(async |dir| {
        let f = File::open(&at(&dir, "a"), create().direct(true).dsync(true)).await.unwrap();
        let mut buf = AlignedBuf::zeroed(3 * BLOCK);
        buf.copy_from_slice(&pattern(3 * BLOCK, 2));
        f.write_at(BLOCK as u64, buf).await.unwrap();
        assert_eq!(f.read_at(BLOCK as u64, 16 * BLOCK).await.unwrap()[..], pattern(3 * BLOCK, 2)[..]);
        for (pos, len) in [(1u64, BLOCK), (0, 100)] {
            assert_eq!(f.read_at(pos, len).await.unwrap_err().kind(), io::ErrorKind::InvalidInput);
        }
        let mut odd = AlignedBuf::zeroed(BLOCK);
        odd.truncate(100);
        assert_eq!(f.write_at(0, odd).await.unwrap_err().kind(), io::ErrorKind::InvalidInput);
    });
}

#[test]
fn sizes_change_and_what_is_new_is_zero() {
    on_shard(async |dir| {
        let f = File::open(&at(&dir, "a"), create()).await.unwrap();
        f.write_at(0, vec![7; 10_000]).await.unwrap();
        f.set_len(50).await.unwrap();
        f.set_len(10_000).await.unwrap();
        let read = f.read_at(0, 10_000).await.unwrap();
        assert!(read[..50].iter().all(|b| *b == 7) && read[50..].iter().all(|b| *b == 0));
        f.allocate(0, 1 << 20, false).await.unwrap();
        assert_eq!(f.len().await.unwrap(), 1 << 20);
        f.allocate(1 << 20, 1 << 20, true).await.unwrap();
        assert_eq!(f.len().await.unwrap(), 1 << 20);
        assert!(fs::metadata(f.path()).await.unwrap().allocated >= 1 << 20);
        f.write_at(8192, vec![9; 8192]).await.unwrap();
        f.punch_hole(8192, 4096).await.unwrap();
        let read = f.read_at(8192, 8192).await.unwrap();
        assert!(read[..4096].iter().all(|b| *b == 0) && read[4096..].iter().all(|b| *b == 9));
        let f = File::open(f.path(), create().truncate(true)).await.unwrap();
        assert_eq!(f.len().await.unwrap(), 0);
    });
}

#[test]
fn names_come_go_and_move() {
    on_shard(async |dir| {
        let (a, b, sub) = (at(&dir, "a"), at(&dir, "b"), at(&dir, "x/y/z"));
        fs::create_dir_all(&sub).await.unwrap();
        fs::create_dir_all(&sub).await.unwrap();
        let f = File::open(&a, create()).await.unwrap();
        f.write_at(0, b"one".to_vec()).await.unwrap();
        File::open(&b, create()).await.unwrap().write_at(0, b"other".to_vec()).await.unwrap();
        fs::rename(&a, &b).await.unwrap();
        assert!(!fs::exists(&a).await.unwrap() && !fs::is_there(&a) && fs::is_there(&b));
        assert_eq!(&File::open(&b, create()).await.unwrap().read_at(0, 9).await.unwrap()[..], b"one");
        fs::rename(&b, &sub.join("c")).await.unwrap();
        fs::sync_dir(&sub).await.unwrap();
        let names = async |d| fs::read_dir(d).await.unwrap().into_iter().map(|e| (e.name, e.is_dir, e.len));
        assert_eq!(names(&sub).await.collect::<Vec<_>>(), [("c".into(), false, 3)]);
        assert!(names(&dir).await.all(|(name, is_dir, _)| name == "x" && is_dir));
        // An open file outlives its name.
        fs::remove_file(&sub.join("c")).await.unwrap();
        assert_eq!(&f.read_at(0, 9).await.unwrap()[..], b"one");
        fs::remove_dir(&sub).await.unwrap();
        assert!(fs::read_dir(&sub).await.is_err());
        assert!(fs::free_space(&dir).await.unwrap().available > 0);
    });
}

#[test]
fn errors_are_of_their_kind() {
    on_shard(async |dir| {
        use io::ErrorKind::*;
        let kind = |r: io::Result<()>| r.unwrap_err().kind();
        let a = at(&dir, "a");
        let open = async |path: PathBuf, o| File::open(&path, o).await.map(drop);
        assert_eq!(kind(open(a.clone(), OpenOptions::read_only()).await), NotFound);
        open(a.clone(), create()).await.unwrap();
        assert_eq!(kind(open(a.clone(), create().create_new(true)).await), AlreadyExists);
        assert_eq!(kind(open(at(&dir, "no/a"), create()).await), NotFound);
        assert_eq!(kind(open(at(&dir, "a/b"), create()).await), NotADirectory);
        assert_eq!(kind(fs::create_dir(&a).await), AlreadyExists);
        assert_eq!(kind(fs::create_dir_all(&a).await), NotADirectory);
        assert_eq!(kind(fs::remove_file(&at(&dir, "no")).await), NotFound);
        assert_eq!(kind(fs::remove_dir(&a).await), NotADirectory);
        assert_eq!(kind(fs::rename(&at(&dir, "no"), &a).await), NotFound);
        fs::create_dir_all(&at(&dir, "d/e")).await.unwrap();
        assert_eq!(kind(fs::remove_dir(&at(&dir, "d")).await), DirectoryNotEmpty);
        assert_eq!(kind(fs::rename(&a, &at(&dir, "d")).await), IsADirectory);
        assert_eq!(kind(fs::metadata(&at(&dir, "no")).await.map(drop)), NotFound);
    });
}

#[test]
fn faults_hit_what_they_name() {
    on_shard(async |dir| {
        let f = File::open(&at(&dir, "a.log"), create()).await.unwrap();
        fault::set(
            FaultPlan::new()
                .nth(DiskOp::Write, ".log", 1, 1, Effect::Error(libc::ENOSPC))
                .once(DiskOp::Sync, "a", Effect::Error(libc::EIO))
                .once(DiskOp::Write, "a", Effect::Short(2)),
        );
        f.write_at(0, b"one".to_vec()).await.unwrap();
        assert_eq!(f.write_at(3, b"two".to_vec()).await.unwrap_err().kind(), io::ErrorKind::StorageFull);
        f.write_at(3, b"two".to_vec()).await.unwrap();
        assert_eq!(f.sync_all().await.unwrap_err().raw_os_error(), Some(libc::EIO));
        fault::clear();
        assert_eq!(&f.read_at(0, 9).await.unwrap()[..], b"onetwo");
    });
}

#[test]
fn an_operation_goes_on_when_nobody_waits() {
    on_shard(async |dir| {
        let f = File::open(&at(&dir, "a"), create().direct(true)).await.unwrap();
        {
            let mut write = pin!(f.write_at(0, AlignedBuf::copy_from(&pattern(BLOCK, 3))));
            assert!(write.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        }
        while f.len().await.unwrap() == 0 {
            core_pinning::yield_now().await;
        }
        f.sync_all().await.unwrap();
        assert_eq!(f.read_at(0, BLOCK).await.unwrap()[..], pattern(BLOCK, 3)[..]);
    });
}

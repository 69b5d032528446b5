//! A whole directory is missing, of another node, or in the way.

use std::fs;
use std::path::Path;

use core_pinning::{ShardId, run_local};
use corelane_storage::model::NodeId;
use corelane_storage::{
    DataDirError, NewDirectory, StorageError, Store, StoreOptions, lock_data_dir, recover_journals,
};

use super::common::*;
use super::left::{End, files_below, left, small, tells};

#[test]
fn a_data_directory_of_another_node_is_refused() {
    let left = left(End::Clean);
    fs::remove_file(left.dir().join("meta.properties")).ok();
    // Whose it is, nobody says.
    assert!(matches!(
        lock_data_dir(&left.dir(), NodeId(1), "abc", NewDirectory::Allowed),
        Err(DataDirError::Damaged { .. })
    ));
    let other = left.root.path().join("other");
    drop(lock_data_dir(&other, NodeId(2), "abc", NewDirectory::Allowed).unwrap());
    fs::copy(other.join("meta.properties"), left.dir().join("meta.properties")).unwrap();
    let before = files_below(&left.dir());
    assert!(matches!(
        lock_data_dir(&left.dir(), NodeId(1), "abc", NewDirectory::Allowed),
        Err(DataDirError::OtherNode { found: 2, .. })
    ));
    assert!(matches!(
        lock_data_dir(&left.dir(), NodeId(2), "xyz", NewDirectory::Allowed),
        Err(DataDirError::OtherCluster { .. })
    ));
    assert!(before == files_below(&left.dir()));
}

#[test]
fn what_a_removed_disk_held_is_missed() {
    // One partition's directory; its files; its state file.
    for how in 0..3 {
        for end in [End::Clean, End::Crash, End::WrittenBack] {
            let left = left(end);
            match how {
                0 => fs::remove_dir_all(left.partition(0)).unwrap(),
                1 => fs::read_dir(left.partition(0)).unwrap().for_each(|e| fs::remove_file(e.unwrap().path()).unwrap()),
                _ => fs::remove_file(left.partition(0).join("state")).unwrap_or_default(),
            }
            let state_was_there = how != 2 || left.journals().is_empty();
            let journal_has_all = !left.journals().is_empty();
            if journal_has_all {
                // Everything since the partition's creation is in the journal: it comes back.
                left.is_whole();
            } else if state_was_there {
                left.is_fenced(&["gone"]);
            }
        }
    }
    // All partitions.
    let all = left(End::Clean);
    fs::remove_dir_all(all.dir().join("data")).unwrap();
    all.start(async |store| {
        for n in 0..2 {
            let error = store.load_or_create(small(n), first()).await.err().unwrap();
            tells(&error, &["gone", "t-"]);
            assert!(matches!(store.create(small(n), first()).await, Err(StorageError::Corrupt { .. })));
        }
        // One that never was may be made, and deleting the others is the way out.
        store.load_or_create(small(2), first()).await.unwrap();
        store.delete_left_over(small(0).key, None).await.unwrap();
        store.load_or_create(small(0), first()).await.unwrap();
        store.close().await.unwrap();
    });
}

async fn two_shards(dir: &Path) -> Vec<Store> {
    for n in 0..2 {
        recover_journals(dir, ShardId(n), 2).await.unwrap();
    }
    let mut stores = Vec::new();
    for n in 0..2 {
        let options = StoreOptions { shard: ShardId(n), ..options(dir) };
        stores.push(Store::open(options).await.unwrap().0);
    }
    stores
}

#[test]
fn other_shards_know_of_a_lost_partition_when_their_number_changes() {
    let left = left(End::Clean);
    fs::remove_dir_all(left.partition(0)).unwrap();
    run_local(async || {
        let stores = two_shards(&left.dir()).await;
        // Shard 0 had made it, shard 1 owns it now.
        assert!(matches!(stores[1].load_or_create(small(0), first()).await, Err(StorageError::Corrupt { .. })));
        stores[0].take_over(|_| false).await.unwrap();
    });
    // Ended before the new owner has taken it over: somebody still knows.
    run_local(async || {
        let stores = two_shards(&left.dir()).await;
        assert!(matches!(stores[1].load_or_create(small(0), first()).await, Err(StorageError::Corrupt { .. })));
        stores[1].take_over(|_| true).await.unwrap();
        stores[0].take_over(|_| false).await.unwrap();
        for store in &stores {
            store.let_go().await.unwrap();
        }
        assert!(matches!(stores[1].load_or_create(small(0), first()).await, Err(StorageError::Corrupt { .. })));
        for store in stores {
            store.close().await.unwrap();
        }
        // Back to one.
        recover_journals(&left.dir(), ShardId(0), 1).await.unwrap();
        let store = Store::open(options(&left.dir())).await.unwrap().0;
        assert!(matches!(store.load_or_create(small(0), first()).await, Err(StorageError::Corrupt { .. })));
        assert!(!left.dir().join("ledger/1").exists());
        store.close().await.unwrap();
    });
}

#[test]
fn a_stray_partition_is_moved_aside() {
    let left = left(End::Clean);
    left.start(async |store| {
        store.load(small(1)).await.unwrap();
        let found = store.unopened().await.unwrap();
        assert_eq!(found.len(), 1);
        let (key, dir) = found.into_iter().next().unwrap();
        let aside = store.put_away(key, dir, false).await.unwrap().unwrap();
        assert!(aside.to_str().unwrap().ends_with("-stray") && aside.join("state").exists());
        assert!(store.unopened().await.unwrap().is_empty());
        store.close().await.unwrap();
    });
}

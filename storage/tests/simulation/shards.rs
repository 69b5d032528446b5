//! The shards of a process: a store each, and which partition is whose. As in a broker a partition's home follows from how many
//! shards there are, so that a start with another number finds partitions in journals and ledgers of others.
//!
//! The stores share the disk and nothing else, so all of them run on one simulated shard: who goes next is the seed's choice at
//! every step.

use core_pinning::ShardId;
use core_pinning::sim::Rng;
use corelane_storage::model::PartitionKey;
use corelane_storage::{FoundJournals, StorageError, Store, StoreOptions, find_journals};
use futures::future::try_join_all;

const SHARDS_MAX: u64 = 4;

#[derive(Clone, Copy, Debug)]
pub struct Homes {
    shards: u16,
    /// Of the first partition, before the number of shards is known.
    first: u64,
    /// The stores are told which partitions there are, as a broker's are by its metadata.
    settles: bool,
}

impl Homes {
    /// One shard in every life. Nobody tells it which partitions there are: with one ledger nothing hangs on that.
    pub const ONE: Homes = Homes { shards: 1, first: 0, settles: false };

    /// Those of one life.
    pub fn of_life(rng: &mut Rng, first: u64) -> Homes {
        Homes { shards: rng.between(1, SHARDS_MAX) as u16, first, settles: true }
    }

    pub fn of(&self, partition: usize) -> usize {
        let first = self.first % u64::from(self.shards);
        (first as usize + partition) % usize::from(self.shards)
    }

    /// Finds all journals, then replays them, then opens all stores.
    pub async fn open(&self, options: &StoreOptions) -> Result<Vec<Store>, StorageError> {
        let shards = || (0..self.shards).map(ShardId);
        let finding = shards().map(|shard| find_journals(&options.data_dir, shard, self.shards.into()));
        let found = try_join_all(finding).await?;
        try_join_all(found.into_iter().map(FoundJournals::replay)).await?;
        let opened = shards().map(|shard| Store::open(StoreOptions { shard, ..options.clone() }));
        Ok(try_join_all(opened).await?.into_iter().map(|(store, _)| store).collect())
    }

    /// Tells the stores which partitions there are.
    pub async fn settle(&self, stores: &[Store], exists: impl Fn(usize) -> bool) -> Result<(), StorageError> {
        if !self.settles {
            return Ok(());
        }
        let exists = &exists;
        let is_of =
            move |key: PartitionKey, shard| exists(key.partition as usize) && self.of(key.partition as usize) == shard;
        let taken = stores.iter().enumerate().map(|(shard, store)| store.take_over(move |key| is_of(key, shard)));
        try_join_all(taken).await?;
        try_join_all(stores.iter().map(Store::let_go)).await.map(drop)
    }
}

pub async fn close(stores: &[Store]) -> Result<(), StorageError> {
    try_join_all(stores.iter().map(Store::close)).await.map(drop)
}

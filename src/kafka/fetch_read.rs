//! What one shard is asked for by a fetch, and the call that reads it there.

use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;

use corelane_storage::model::PartitionKey;

use crate::partition::{FetchRead, FetchedRecords};
use crate::router::ShardCall;
use crate::shard::Shard;

/// One partition, and what is wanted of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    pub key: PartitionKey,
    pub read: FetchRead,
}

/// Reads in the order of `asked` until there are `max_bytes`; the first batch comes whatever its size.
pub struct ReadCall {
    pub asked: Arc<[Asked]>,
    pub max_bytes: usize,
}

impl ShardCall for ReadCall {
    type Reply = Vec<FetchedRecords>;

    fn run(self, shard: &Rc<Shard>) -> impl Future<Output = Self::Reply> + 'static {
        let shard = shard.clone();
        async move {
            let mut rest = self.max_bytes;
            let mut any = false;
            let mut fetched = Vec::with_capacity(self.asked.len());
            for Asked { key, mut read } in self.asked.iter().copied() {
                let partition = match shard.partitions.find(key) {
                    Ok(partition) => partition,
                    Err(error) => {
                        fetched.push(FetchedRecords::failed(error));
                        continue;
                    }
                };
                read.max_bytes = read.max_bytes.min(rest);
                read.at_least_one = !any;
                let records = partition.fetch(read).await;
                rest = rest.saturating_sub(records.bytes);
                any |= records.bytes > 0;
                fetched.push(records);
            }
            fetched
        }
    }
}

//! What one shard is asked for by a fetch, and the call that reads it there.

use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;

use corelane_protocol::ErrorCode;
use corelane_storage::model::PartitionKey;
use futures::StreamExt;
use futures::stream::FuturesOrdered;

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
///
/// What has to come from the disk is read from all its partitions at once, as far as `max_bytes` has room for the most that each
/// may give.
pub struct ReadCall {
    pub asked: Arc<[Asked]>,
    pub max_bytes: usize,
}

impl ShardCall for ReadCall {
    type Reply = Vec<FetchedRecords>;

    fn run(self, shard: &Rc<Shard>) -> impl Future<Output = Self::Reply> + 'static {
        let shard = shard.clone();
        async move {
            let mut answer = Answer { rest: self.max_bytes, any: false, fetched: Vec::with_capacity(self.asked.len()) };
            let mut at_disk = FuturesOrdered::new();
            let mut disk = false;
            for Asked { key, mut read } in self.asked.iter().copied() {
                while answer.rest < read.max_bytes && !at_disk.is_empty() {
                    answer.take(at_disk.next().await);
                }
                read.max_bytes = read.max_bytes.min(answer.rest);
                read.at_least_one = !answer.any && at_disk.is_empty();
                let partition = shard.partitions.find(key);
                let in_memory = partition.as_ref().is_ok_and(|p| p.has_in_memory(read.offset));
                let fetch = async move {
                    match partition {
                        Ok(partition) => partition.fetch(read).await,
                        Err(error) => FetchedRecords::failed(error),
                    }
                };
                if in_memory && at_disk.is_empty() {
                    answer.take(Some((0, fetch.await)));
                } else {
                    disk = true;
                    answer.rest -= read.max_bytes;
                    at_disk.push_back(async move { (read.max_bytes, fetch.await) });
                }
            }
            while !at_disk.is_empty() {
                answer.take(at_disk.next().await);
            }
            if disk && !answer.any {
                answer.first_batch(&self.asked, &shard).await;
            }
            answer.fetched
        }
    }
}

struct Answer {
    rest: usize,
    any: bool,
    fetched: Vec<FetchedRecords>,
}

impl Answer {
    /// Takes the next partition's records, for which so many bytes had been set aside.
    fn take(&mut self, read: Option<(usize, FetchedRecords)>) {
        if let Some((set_aside, records)) = read {
            self.rest = (self.rest + set_aside).saturating_sub(records.bytes);
            self.any |= records.bytes > 0;
            self.fetched.push(records);
        }
    }

    /// Nothing fitted: only the first partition was read with leave to give a batch of any size, and it gave none.
    async fn first_batch(&mut self, asked: &[Asked], shard: &Rc<Shard>) {
        for (Asked { key, mut read }, fetched) in asked.iter().copied().zip(&mut self.fetched) {
            let Ok(partition) = shard.partitions.find(key) else { continue };
            if fetched.error == ErrorCode::None && read.offset < fetched.high_watermark {
                read.max_bytes = read.max_bytes.min(self.rest);
                read.at_least_one = true;
                *fetched = partition.fetch(read).await;
            }
            if fetched.bytes > 0 {
                return;
            }
        }
    }
}

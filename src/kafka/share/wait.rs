//! A wait for records on another shard, which ends there when it is dropped here.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use core_pinning::ShardId;
use corelane_storage::model::PartitionKey;

use super::fetch::{Seen, WaitCall};
use super::sessions::Who;
use crate::kafka::fetch_watch::cancel_watch;
use crate::router::CallFuture;
use crate::shard::Shard;

pub struct Wait {
    shard: Rc<Shard>,
    to: ShardId,
    id: u64,
    call: CallFuture<WaitCall>,
    over: bool,
}

impl Wait {
    /// Begins at once.
    pub fn begin(shard: &Rc<Shard>, to: ShardId, who: Who, seen: Vec<(PartitionKey, Seen)>) -> Wait {
        let id = shard.next_wait_id();
        let call = shard.router.call(shard, to, WaitCall { id, who, seen });
        Wait { shard: shard.clone(), to, id, call, over: false }
    }
}

impl Future for Wait {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let ended = Pin::new(&mut self.call).poll(context);
        self.over |= ended.is_ready();
        ended
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        if !self.over {
            cancel_watch(&self.shard, self.to, self.id);
        }
    }
}

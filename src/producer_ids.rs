//! Producer ids: each shard hands out of a block that the controller gave it. A block that is not used up is lost with
//! the process, never used twice.

use std::cell::Cell;
use std::rc::Rc;

use core_pinning::sync::Semaphore;

use crate::controller::Refused;
use crate::controller::requests::{AllocateProducerIds, ask};
use crate::shard::Shard;
use crate::step::Step;

pub struct ProducerIds {
    /// `(next, end)` of the block in use.
    block: Cell<(i64, i64)>,
    refill: Semaphore,
}

impl Default for ProducerIds {
    fn default() -> ProducerIds {
        ProducerIds { block: Cell::new((0, 0)), refill: Semaphore::new(1) }
    }
}

impl ProducerIds {
    pub async fn next(shard: &Rc<Shard>) -> Result<i64, Refused> {
        let ids = &shard.producer_ids;
        let _turn = ids.refill.acquire(1).await;
        let (mut next, mut end) = ids.block.get();
        if next == end {
            let (first, count) = ask(shard, AllocateProducerIds).await?;
            (next, end) = (first, first + count);
            Step::of(|| Some("producer ids".to_owned())).reached("durable");
        }
        ids.block.set((next + 1, end));
        Ok(next)
    }
}

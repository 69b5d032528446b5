//! One partition of `__share_group_state` and its machine: loads it, runs operations on it, prunes it.

use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use core_pinning::task::{Queue, spawn};
use core_pinning::time::timeout;
use corelane_coordinator::Now;
use corelane_coordinator::group::{WaitToken, WriteId};
use corelane_coordinator::share::{
    Answer, Effects, Operation, Prune, Refusal, ShareConfig, ShareCoordinator, SharePartitionKey,
};
use corelane_protocol::{ErrorCode, Uuid};

use super::host::{Host, Machine, Work, time};
use super::replay::{Found, replay};
use crate::partition::Partition;
use crate::settings::Settings;

pub struct ShareStatePartition {
    host: Host<ShareCoordinator>,
    /// Whoever waits for longer than this is told to come again.
    write_timeout: Duration,
}

impl Machine for ShareCoordinator {
    const NAME: &'static str = "share coordinator";
    type Answer = Result<Answer, Refusal>;
    type Errand = Prune;
    type Effects = Effects;

    fn finish_loading(&mut self, now: Now) -> Effects {
        self.finish_loading(now)
    }

    fn write_placed(&mut self, id: WriteId, base: i64) {
        self.write_placed(id, base);
    }

    fn write_completed(&mut self, now: Now, id: WriteId) -> Effects {
        self.write_completed(now, id)
    }

    fn write_failed(&mut self, now: Now, id: WriteId, error: ErrorCode) -> Effects {
        self.write_failed(now, id, error)
    }

    fn next_deadline(&self) -> Option<i64> {
        self.next_deadline()
    }

    fn tick(&mut self, now: Now) -> Effects {
        self.tick(now)
    }

    fn unload(self, _now: Now, error: ErrorCode) -> Vec<(WaitToken, Self::Answer)> {
        self.unload(error).into_iter().map(|c| (c.token, c.answer)).collect()
    }
}

impl From<Effects> for Work<ShareCoordinator> {
    fn from(effects: Effects) -> Self {
        let answers = effects.completed.into_iter().map(|c| (c.token, c.answer)).collect();
        Work { writes: effects.writes, errands: effects.prune.into_iter().collect(), answers }
    }
}

impl ShareStatePartition {
    pub fn start(partition: Rc<Partition>, settings: &Settings) -> Rc<ShareStatePartition> {
        let (config, write_timeout) = (settings.share_states(), settings.share_state_write_timeout());
        let share = Rc::new(ShareStatePartition { host: Host::new(partition), write_timeout });
        let (loading, writing, pruning, timing) = (share.clone(), share.clone(), share.clone(), share.clone());
        share.host.keep(vec![
            spawn(Queue::Replicate, "share state loading", async move { loading.load(config).await }),
            spawn(Queue::Serve, "share state writes", async move { writing.host.follow_writes(|| {}).await }),
            spawn(Queue::Background, "share state pruning", async move { pruning.prune().await }),
            spawn(Queue::Serve, "share state timers", async move { timing.host.keep_time(async || {}).await }),
        ]);
        share
    }

    /// Runs an operation; `exists`: the cluster has the partition that it is about. The machine is changed and its records are
    /// ordered when this returns; the answer may come later.
    pub fn handle(
        &self,
        key: &SharePartitionKey,
        operation: &Operation,
        exists: bool,
    ) -> impl Future<Output = Result<Answer, Refusal>> + use<> {
        let promise = self.host.run(|machine, now| {
            let outcome = machine.handle(now, key, operation, exists);
            (outcome.reply, outcome.effects)
        });
        let limit = self.write_timeout;
        async move {
            match promise? {
                Ok(answer) => answer,
                Err(receiver) => match timeout(limit, receiver).await {
                    Ok(answer) => answer.unwrap_or(Err(ErrorCode::NotCoordinator.into())),
                    // It may still be written, as in Kafka.
                    Err(_) => Err(ErrorCode::CoordinatorNotAvailable.into()),
                },
            }
        }
    }

    pub fn topics_deleted(&self, deleted: &[Uuid]) {
        self.host.advance(|machine| machine.topics_deleted(time(), |id| deleted.contains(&id)));
    }

    async fn prune(&self) {
        loop {
            for Prune(upto) in self.host.take_errands() {
                if let Err(error) = self.host.partition.delete_records(upto).await {
                    // It says so again when there is more to prune.
                    tracing::warn!(partition = self.host.partition.index, upto, ?error, "share states are not pruned");
                }
            }
            self.host.errand().await;
        }
    }

    async fn load(self: Rc<Self>, config: ShareConfig) {
        let mut machine = ShareCoordinator::new(config);
        let take = |header: &corelane_storage::record::BatchHeader, found| match found {
            // A record lies at its batch's first offset or behind it, and what is pruned begins with a batch.
            Found::Record { key, value } => {
                machine.replay(header.base_offset.0, key, value).map(drop).map_err(|e| e.to_string())
            }
            Found::Marker(_) => Ok(()),
        };
        let replayed = replay(&self.host.partition, take).await;
        self.host.loaded(replayed.map(|()| machine));
    }

    pub async fn stop(&self) {
        self.host.stop().await;
    }
}

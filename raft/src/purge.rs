//! Giving up the front of a log, so that retention may delete it.
//!
//! openraft purges what a snapshot covers. Our snapshot is a statement only (see `state_machine`): set how far it
//! reaches, have it taken, and openraft purges up to there by itself. A cold replica just takes note.

use std::rc::Rc;
use std::time::Duration;

use corelane_storage::model::{LogId, RaftIndex};

use crate::proposal::ProposeError;
use crate::slot::{Editing, Slot};
use crate::type_config::raft_log_id;

/// openraft purges within microseconds; it takes longer only while the log waits for the disk.
const PURGE_WAIT: Duration = Duration::from_secs(30);

pub(crate) async fn purge(slot: &Rc<Slot>, upto: RaftIndex) -> Result<Option<LogId>, ProposeError> {
    let replica = &slot.replica;
    let _editing = Editing::begin(slot).await;
    slot.refusal()?;
    let raft = slot.settled().await;
    if raft.is_none() {
        replica.survey();
    }
    let given_up = replica.purged().max(replica.log.purged());
    let target = replica.purgeable(upto).filter(|t| given_up.is_none_or(|id| id.index < *t));
    let Some(target) = target.and_then(|index| replica.id_at(index)) else { return Ok(given_up) };
    let Some(raft) = raft else {
        replica.give_up(target);
        return Ok(Some(target));
    };
    replica.set_purge_to(target);
    let stopped = |_| slot.stop_reason();
    raft.trigger().snapshot().await.map_err(stopped)?;
    let purged = raft_log_id(target);
    let wait = raft.wait(Some(PURGE_WAIT));
    wait.metrics(|m| m.purged.as_ref() >= Some(&purged), "purged").await.map_err(|_| slot.stop_reason())?;
    Ok(Some(target))
}

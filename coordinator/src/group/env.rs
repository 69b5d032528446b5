//! What a group needs besides itself while something happens to it.

use bytes::Bytes;
use corelane_protocol::messages::{JoinGroupResponse, SyncGroupResponse};
use corelane_protocol::{EncodeError, ErrorCode, Str};

use super::GroupConfig;
use super::config::ConsumerSettings;
use super::modern::topics::Catalog;
use super::outcome::{Completed, Effects, Response, WaitToken, Write, WriteId};
use super::reject;
use super::share::ShareSettings;
use super::writes::{OnWritten, PendingWrite, Undo, WriteLog};
use crate::timer::TimerQueue;
use crate::{CoordinatorRecord, Now};

/// Whose timer is due.
#[derive(Clone, Debug)]
pub(crate) struct TimerKey {
    pub(crate) group: Str,
    pub(crate) incarnation: u64,
    pub(crate) kind: TimerKind,
}

#[derive(Clone, Debug)]
pub(crate) enum TimerKind {
    /// The session of a member, or of one that was given an id and has not joined.
    Session(Str),
    /// The end of the time to join.
    Join,
    /// The end of the time to sync.
    Sync,
    /// The end of a member's time to give up partitions.
    Rebalance(Str),
    /// The end of one member's time to join, in a group whose other members need not.
    MemberJoin(Str),
    /// The end of one member's time to sync, likewise.
    MemberSync(Str),
    /// A group's regular expressions are to be resolved.
    Regexes,
}

/// A join that waits for its rebalance, and the version that it is answered in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct JoinWaiter {
    pub(crate) token: WaitToken,
    pub(crate) api_version: i16,
}

/// Settings, clock, timers, writes and effects, lent to one group for one call.
pub(crate) struct Env<'a> {
    pub(crate) now: Now,
    pub(crate) config: &'a GroupConfig,
    pub(crate) consumer_settings: &'a dyn ConsumerSettings,
    pub(crate) share_settings: &'a dyn ShareSettings,
    pub(crate) catalog: &'a mut Catalog,
    pub(crate) timers: &'a mut TimerQueue<TimerKey>,
    pub(crate) writes: &'a mut WriteLog,
    pub(crate) out: &'a mut Effects,
}

impl Env<'_> {
    pub(crate) fn complete(&mut self, token: WaitToken, response: impl Into<Response>) {
        self.out.completed.push(Completed { token, response: response.into() });
    }

    pub(crate) fn complete_join(&mut self, waiter: JoinWaiter, mut response: JoinGroupResponse) {
        reject::fit_join(waiter.api_version, &mut response);
        self.complete(waiter.token, response);
    }

    pub(crate) fn complete_sync(&mut self, token: WaitToken, error: ErrorCode) {
        self.complete(token, reject::sync(error));
    }

    /// An assignment, or with an error none.
    pub(crate) fn complete_assignment(
        &mut self,
        token: WaitToken,
        protocol_type: Option<Str>,
        protocol_name: Option<Str>,
        assignment: Bytes,
        error: ErrorCode,
    ) {
        let error_code = error.code();
        self.complete(
            token,
            SyncGroupResponse { protocol_type, protocol_name, assignment, error_code, ..Default::default() },
        );
    }

    /// Hands `records` out to be written; `on_written` says what becomes of the group then, and `undo` takes back what the
    /// state already shows if they are not.
    pub(crate) fn write(
        &mut self,
        group: &Str,
        records: Result<Vec<CoordinatorRecord>, EncodeError>,
        on_written: OnWritten,
        undo: Vec<Undo>,
    ) -> WriteId {
        self.write_all(vec![group.clone()], records, on_written, undo)
    }

    /// As `write`, for records of several groups.
    pub(crate) fn write_all(
        &mut self,
        groups: Vec<Str>,
        records: Result<Vec<CoordinatorRecord>, EncodeError>,
        on_written: OnWritten,
        undo: Vec<Undo>,
    ) -> WriteId {
        let id = self.writes.push(PendingWrite { on_written, undo, groups, replies: Vec::new() });
        match records {
            Ok(records) => self.out.writes.push(Write { id, records, producer: None }),
            Err(_) => self.writes.fail_later(id),
        }
        id
    }
}

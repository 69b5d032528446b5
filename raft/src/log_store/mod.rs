//! openraft's log: the partition's log.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, Range, RangeBounds, RangeInclusive};
use std::rc::Rc;

use bytes::Bytes;
use corelane_storage::model::{LogId, NodeId, RaftIndex, Term};
use corelane_storage::{EntryKind, LogEntry, StorageError, VoteRecord};
use futures::{Stream, stream};
use openraft::alias::LeaderIdOf;
use openraft::entry::RaftEntry as _;
use openraft::errors::LeaderChanged;
use openraft::storage::{IOFlushed, LeaderBoundedStreamError, LeaderBoundedStreamResult, RaftLogStorage};
use openraft::vote::{RaftLeaderId as _, RaftVote as _};
use openraft::{EntryPayload, LogState, OptionalSend, RaftLogReader};

use crate::membership::Membership;
use crate::proposal::{Produce, Progress, ProposeError, Ticket};
use crate::slot::Slot;
use crate::type_config::{RaftEntry, RaftLogId, RaftVote, TypeConfig, log_id, raft_log_id};

/// Bytes that one read for replication returns at most (but always one entry). openraft itself counts entries only.
const REPLICATION_READ_BYTES: usize = 1 << 20;

/// The log store and log reader of one group's openraft instance.
#[derive(Clone)]
pub(crate) struct LogStore(Rc<Slot>);

impl LogStore {
    pub(crate) fn new(slot: Rc<Slot>) -> LogStore {
        LogStore(slot)
    }

    /// An error for openraft, which ends the instance. The group learns what it was.
    fn failed(&self, error: &StorageError) -> io::Error {
        io::Error::other(self.0.refused(error))
    }

    /// Entries with their ids, and with their membership if they carry one, but without record batches.
    async fn headers(&self, range: Range<RaftIndex>) -> Result<Vec<RaftEntry>, io::Error> {
        let headers = self.0.replica.log.entry_headers(range).await.map_err(|e| self.failed(&e))?;
        let mut entries = Vec::with_capacity(headers.len());
        for header in headers {
            let payload = match header.kind {
                EntryKind::Data => EntryPayload::Normal(Produce { batch: Bytes::new(), ticket: None }),
                EntryKind::Blank => EntryPayload::Blank,
                EntryKind::Membership => self.membership_at(header.id.index).await?,
            };
            entries.push(RaftEntry::new(raft_log_id(header.id), payload));
        }
        Ok(entries)
    }

    async fn membership_at(&self, index: RaftIndex) -> Result<EntryPayload<Produce, u64, ()>, io::Error> {
        let entries = self.0.replica.log.read_entries(index..index.next(), usize::MAX).await;
        let entries = entries.map_err(|e| self.failed(&e))?;
        let entry = entries.into_iter().next().ok_or_else(|| missing(index))?;
        payload_of(entry)
    }

    fn vote(&self) -> Option<RaftVote> {
        let vote = self.0.replica.log.vote()?;
        Some(RaftVote::from_leader_id(LeaderIdOf::<TypeConfig>::new(vote.term.0, vote.node.0), vote.committed))
    }
}

impl RaftLogReader<TypeConfig> for LogStore {
    /// Ids and memberships only: openraft reads entries this way when it starts, to find its place. What is applied goes
    /// through [`entries_stream`](RaftLogReader::entries_stream) and what is replicated through
    /// [`limited_get_log_entries`](RaftLogReader::limited_get_log_entries).
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<RaftEntry>, io::Error> {
        let range = indexes(range);
        // The first entry's id is asked for at every start; it is known, and the log need not be read for it.
        let first = self.0.replica.purged().map_or(RaftIndex(0), |id| id.index.next());
        if range == (first..first.next())
            && let Some(id) = self.0.replica.id_at(first)
        {
            return Ok(vec![RaftEntry::new(raft_log_id(id), EntryPayload::Blank)]);
        }
        self.headers(range).await
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<RaftEntry>, io::Error> {
        let range = RaftIndex(start)..RaftIndex(end);
        let entries = self.0.replica.log.read_entries(range, REPLICATION_READ_BYTES).await;
        let entries = entries.map_err(|e| self.failed(&e))?;
        entries.into_iter().map(|e| Ok(RaftEntry::new(raft_log_id(e.id), payload_of(e)?))).collect()
    }

    async fn leader_bounded_stream<RB>(
        &mut self,
        leader: LeaderIdOf<TypeConfig>,
        range: RB,
    ) -> impl Stream<Item = LeaderBoundedStreamResult<TypeConfig>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let leads = |vote: &RaftVote| vote.is_committed() && *vote.leader_id() == leader;
        let range = indexes(range);
        let items = match self.limited_get_log_entries(range.start.0, range.end.0).await {
            // The vote as it is after the entries were read: they are this leader's as long as it leads.
            Ok(entries) => match self.vote() {
                Some(vote) if leads(&vote) => entries.into_iter().map(Ok).collect(),
                vote => vec![Err(LeaderBoundedStreamError::LeaderChanged(LeaderChanged::new(leader, vote)))],
            },
            Err(error) => vec![Err(LeaderBoundedStreamError::IoError(error))],
        };
        stream::iter(items)
    }

    /// Entries to apply: without their record batches, which nothing needs to move the high watermark.
    async fn entries_stream<RB>(&mut self, range: RB) -> impl Stream<Item = Result<RaftEntry, io::Error>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let items = match self.headers(indexes(range)).await {
            Ok(entries) => entries.into_iter().map(Ok).collect(),
            Err(error) => vec![Err(error)],
        };
        stream::iter(items)
    }

    async fn read_vote(&mut self) -> Result<Option<RaftVote>, io::Error> {
        Ok(self.vote())
    }

    /// The last entry of each term (openraft's documentation says the first, its code expects the last). Known since the
    /// replica was surveyed, before the instance was built.
    async fn get_key_log_ids(&mut self, _range: RangeInclusive<RaftLogId>) -> Result<Vec<RaftLogId>, io::Error> {
        let leaders = self.0.replica.leaders.borrow();
        Ok(leaders.last_of_terms().unwrap_or_default().iter().copied().map(raft_log_id).collect())
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = LogStore;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        let replica = &self.0.replica;
        Ok(LogState {
            last_purged_log_id: replica.purged().map(raft_log_id),
            last_log_id: replica.last().map(raft_log_id),
        })
    }

    async fn get_log_reader(&mut self) -> LogStore {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &RaftVote) -> Result<(), io::Error> {
        let vote = VoteRecord {
            term: Term(vote.leader_id.term),
            node: NodeId(vote.leader_id.voted_for),
            committed: vote.committed,
        };
        self.0.replica.save_vote(vote).await.map_err(|e| self.failed(&e))
    }

    /// Not kept: what is committed is applied without a wait, and a cold replica has applied all it holds.
    async fn save_committed(&mut self, _committed: Option<RaftLogId>) -> Result<(), io::Error> {
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<RaftLogId>, io::Error> {
        Ok(self.0.replica.applied().map(raft_log_id))
    }

    async fn append<I>(&mut self, entries: I, flushed: IOFlushed<TypeConfig>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = RaftEntry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let replica = &self.0.replica;
        let mut tickets: Vec<(Rc<Ticket>, LogId)> = Vec::new();
        let entries = entries.into_iter().map(|entry| {
            let id = log_id(&entry.log_id);
            let (kind, bytes) = match entry.payload {
                EntryPayload::Normal(produce) => {
                    tickets.extend(produce.ticket.map(|ticket| (ticket, id)));
                    (EntryKind::Data, produce.batch)
                }
                EntryPayload::Blank => (EntryKind::Blank, Bytes::new()),
                EntryPayload::Membership(membership) => {
                    (EntryKind::Membership, Membership::from_raft(&membership).encode())
                }
            };
            LogEntry { id, kind, bytes }
        });
        let entries: Vec<LogEntry> = entries.collect();
        let last = replica.last();
        replica.leaders.borrow_mut().extend(entries.iter().map(|entry| entry.id));
        let tickets = Rc::new(tickets);
        let (to_flush, slot) = (tickets.clone(), self.0.clone());
        let durable = move |result: Result<(), StorageError>| match result {
            Ok(()) => {
                for (ticket, id) in to_flush.iter() {
                    ticket.reach(Progress::Flushed, *id);
                }
                flushed.io_completed(Ok(()));
            }
            // The entries are in the log but may not be on disk: nothing can mend that.
            Err(error) => {
                let fault = ProposeError::Storage(error);
                to_flush.iter().for_each(|(ticket, _)| ticket.fail(fault.clone()));
                slot.fail_for_good(fault.clone());
                flushed.io_completed(Err(io::Error::other(fault)));
            }
        };
        if let Err(error) = replica.log.append(entries, durable) {
            replica.leaders.borrow_mut().truncate_after(last);
            return Err(self.failed(&error));
        }
        for (ticket, id) in tickets.iter() {
            ticket.reach(Progress::Appended, *id);
        }
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<RaftLogId>) -> Result<(), io::Error> {
        let last = last.as_ref().map(log_id);
        self.0.replica.log.truncate_after(last).await.map_err(|e| self.failed(&e))?;
        self.0.replica.leaders.borrow_mut().truncate_after(last);
        Ok(())
    }

    /// Retention takes the entries out of the log, in its own time and whole segments.
    async fn purge(&mut self, upto: RaftLogId) -> Result<(), io::Error> {
        self.0.replica.give_up(log_id(&upto));
        Ok(())
    }
}

/// The payload of an entry as it is replicated.
fn payload_of(entry: LogEntry) -> Result<EntryPayload<Produce, u64, ()>, io::Error> {
    Ok(match entry.kind {
        EntryKind::Blank => EntryPayload::Blank,
        EntryKind::Membership => EntryPayload::Membership(Membership::decode(&entry.bytes).map_err(invalid)?.to_raft()),
        EntryKind::Data => EntryPayload::Normal(Produce { batch: entry.bytes, ticket: None }),
    })
}

fn invalid(error: impl std::error::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.to_string())
}

fn missing(index: RaftIndex) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("entry {index} is not in the log"))
}

fn indexes(range: impl RangeBounds<u64>) -> Range<RaftIndex> {
    let start = match range.start_bound() {
        Bound::Included(i) => *i,
        Bound::Excluded(i) => i.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(i) => i.saturating_add(1),
        Bound::Excluded(i) => *i,
        Bound::Unbounded => u64::MAX,
    };
    RaftIndex(start)..RaftIndex(end)
}

#[cfg(test)]
mod tests;

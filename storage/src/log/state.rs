//! What of a log is not in its segments: the `state` file, and the payloads of journal records.
//!
//! ```text
//! applied <= end <= durable,  synced <= durable
//! ```
//! The state describes the log as it ended at `end`: epochs, producers, memberships, the active segment. Bytes before `synced`
//! are in the segment files for certain, those between `synced` and `durable` were in the journal, from where recovery has put
//! them into the files. Opening the log therefore has to look at the batches between min(applied, end, producers' point) and
//! `durable`, and at nothing else; after a clean stop that is nothing at all.
#![deny(clippy::unwrap_used, clippy::indexing_slicing)]

use bytes::Bytes;

use crate::entry::VoteRecord;
use crate::epoch_cache::EpochCache;
use crate::journal::record::put_key;
use crate::model::{LogId, NodeId, Offset, PartitionKey, RaftIndex, Term, TopicId};
use crate::point::Point;
use crate::sealed::{self, Fields, SealError};
use crate::segment::{SegmentStart, Times};
use crate::term_starts::TermStarts;

const MAGIC: [u8; 4] = *b"CLPS";
/// Version 1 knew no files of aborted transactions, version 2 did not say which there are.
const VERSION: u16 = 3;

/// Place of a byte: base offset of its segment, position.
pub(crate) type Place = (Offset, u32);

/// The producer table as of `end`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Producers {
    Empty,
    /// Encoded.
    Inline(Bytes),
    /// In the `.snap` file of the point's offset; the batches since then have to be looked at.
    Snapshot(Point),
    /// Not known: begin with the last `.snap` file.
    Rebuild,
}

/// The segment that `end` is in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ActiveSegment {
    pub(crate) start: SegmentStart,
    pub(crate) times: Times,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct PartitionState {
    pub(crate) key: PartitionKey,
    pub(crate) topic: String,
    /// Everything is in the segment files, which have their exact sizes.
    pub(crate) clean: bool,
    pub(crate) vote: Option<VoteRecord>,
    pub(crate) log_start: Offset,
    pub(crate) purged: Option<LogId>,
    pub(crate) first_segment: Offset,
    pub(crate) end: Point,
    pub(crate) last: Option<LogId>,
    pub(crate) applied: Point,
    pub(crate) applied_id: Option<LogId>,
    pub(crate) synced: Place,
    pub(crate) durable: Place,
    pub(crate) active: ActiveSegment,
    pub(crate) memberships: Vec<(LogId, Bytes)>,
    pub(crate) producers: Producers,
    pub(crate) epochs: EpochCache,
    pub(crate) terms: TermStarts,
    /// The `.txnindex` files count for markers before it.
    pub(crate) aborted_indexed: Offset,
    /// The segments that have one. What is not named may have one, too: it came later.
    pub(crate) aborted_files: Vec<Offset>,
}

impl PartitionState {
    /// Places that the segments reach, at least, when everything is in them.
    pub(crate) fn reached(&self) -> impl Iterator<Item = Place> + use<> {
        let first = self.first_segment;
        [self.applied.place(), self.end.place(), self.synced].into_iter().filter(move |(segment, _)| *segment >= first)
    }

    /// Places that a start may begin to read at: no batch reaches over them.
    pub(crate) fn read_from(&self) -> impl Iterator<Item = Place> + use<> {
        let snapshot = match &self.producers {
            Producers::Snapshot(point) => Some(*point),
            Producers::Empty | Producers::Inline(_) | Producers::Rebuild => None,
        };
        [Some(self.applied), Some(self.end), snapshot].into_iter().flatten().map(|point| point.place())
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let mut p = Vec::with_capacity(320);
        p.extend_from_slice(&self.key.topic.0);
        p.extend_from_slice(&self.key.partition.to_be_bytes());
        p.extend_from_slice(&(self.topic.len() as u16).to_be_bytes());
        p.extend_from_slice(self.topic.as_bytes());
        p.push(u8::from(self.clean));
        put_vote(&mut p, self.vote);
        p.extend_from_slice(&self.log_start.0.to_be_bytes());
        put_log_id(&mut p, self.purged);
        p.extend_from_slice(&self.first_segment.0.to_be_bytes());
        put_point(&mut p, self.end);
        put_log_id(&mut p, self.last);
        put_point(&mut p, self.applied);
        put_log_id(&mut p, self.applied_id);
        put_place(&mut p, self.synced);
        put_place(&mut p, self.durable);
        p.extend_from_slice(&self.active.start.base_index.0.to_be_bytes());
        put_log_id(&mut p, self.active.start.previous);
        p.extend_from_slice(&self.active.start.created_ms.to_be_bytes());
        p.extend_from_slice(&self.active.times.max_timestamp.to_be_bytes());
        p.extend_from_slice(&self.active.times.position.to_be_bytes());
        p.extend_from_slice(&(self.memberships.len() as u16).to_be_bytes());
        for (id, payload) in &self.memberships {
            put_log_id(&mut p, Some(*id));
            p.extend_from_slice(&(payload.len() as u32).to_be_bytes());
            p.extend_from_slice(payload);
        }
        match &self.producers {
            Producers::Empty => p.push(0),
            Producers::Inline(table) => {
                p.push(1);
                p.extend_from_slice(&(table.len() as u32).to_be_bytes());
                p.extend_from_slice(table);
            }
            Producers::Snapshot(point) => {
                p.push(2);
                put_point(&mut p, *point);
            }
            Producers::Rebuild => p.push(3),
        }
        p.extend_from_slice(&self.aborted_indexed.0.to_be_bytes());
        p.extend_from_slice(&(self.aborted_files.len() as u32).to_be_bytes());
        self.aborted_files.iter().for_each(|base| p.extend_from_slice(&base.0.to_be_bytes()));
        self.terms.encode(&mut p);
        self.epochs.encode(&mut p);
        sealed::seal(MAGIC, VERSION, &p, out);
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<PartitionState, SealError> {
        let mut rest = bytes;
        let (version, mut fields) = sealed::open(MAGIC, VERSION, &mut rest)?;
        let f = &mut fields;
        let key = PartitionKey { topic: TopicId(f.array()?), partition: u32::from_be_bytes(f.array()?) };
        let topic_len = u16::from_be_bytes(f.array()?);
        let topic = str::from_utf8(f.bytes(topic_len.into())?).map_err(|_| SealError::Contents)?.to_owned();
        let clean = flag(f)?;
        let vote = get_vote(f)?;
        let log_start = get_offset(f)?;
        let purged = get_log_id(f)?;
        let first_segment = get_offset(f)?;
        let (end, last) = (get_point(f)?, get_log_id(f)?);
        let (applied, applied_id) = (get_point(f)?, get_log_id(f)?);
        let (synced, durable) = (get_place(f)?, get_place(f)?);
        let active = ActiveSegment {
            start: SegmentStart {
                base_index: RaftIndex(u64::from_be_bytes(f.array()?)),
                previous: get_log_id(f)?,
                created_ms: i64::from_be_bytes(f.array()?),
            },
            times: Times { max_timestamp: i64::from_be_bytes(f.array()?), position: u32::from_be_bytes(f.array()?) },
        };
        let mut memberships = Vec::new();
        for _ in 0..u16::from_be_bytes(f.array()?) {
            let id = get_log_id(f)?.ok_or(SealError::Contents)?;
            let len = u32::from_be_bytes(f.array()?);
            memberships.push((id, Bytes::copy_from_slice(f.bytes(len as usize)?)));
        }
        let producers = match f.array()? {
            [0] => Producers::Empty,
            [1] => {
                let len = u32::from_be_bytes(f.array()?);
                Producers::Inline(Bytes::copy_from_slice(f.bytes(len as usize)?))
            }
            [2] => Producers::Snapshot(get_point(f)?),
            [3] => Producers::Rebuild,
            _ => return Err(SealError::Contents),
        };
        let aborted_indexed = if version >= 2 { get_offset(f)? } else { Offset::ZERO };
        let files = if version >= 3 { u32::from_be_bytes(f.array()?) as usize } else { 0 };
        if files > f.room_for(size_of::<i64>()) {
            return Err(SealError::Contents);
        }
        let aborted_files = (0..files).map(|_| get_offset(f)).collect::<Result<_, _>>()?;
        let terms = TermStarts::decode(f)?;
        let epochs = EpochCache::decode(f.rest())?;
        f.end()?;
        if durable < synced || durable < end.place() || end.next_index < applied.next_index {
            return Err(SealError::Contents);
        }
        Ok(PartitionState {
            key,
            topic,
            clean,
            vote,
            log_start,
            purged,
            first_segment,
            end,
            last,
            applied,
            applied_id,
            synced,
            durable,
            active,
            memberships,
            producers,
            epochs,
            terms,
            aborted_indexed,
            aborted_files,
        })
    }
}

/// Payload of a `State` record.
pub(crate) fn state_record(state: &PartitionState) -> Vec<u8> {
    let mut out = Vec::new();
    put_key(&mut out, state.key);
    state.encode(&mut out);
    out
}

/// Payload of a `Vote` record.
pub(crate) fn vote_record(key: PartitionKey, vote: VoteRecord) -> Vec<u8> {
    let mut out = Vec::new();
    put_key(&mut out, key);
    put_vote(&mut out, Some(vote));
    out
}

pub(crate) fn read_vote(rest: &[u8]) -> Result<Option<VoteRecord>, SealError> {
    get_vote(&mut Fields::new(rest))
}

fn flag(f: &mut Fields<'_>) -> Result<bool, SealError> {
    match f.array()? {
        [0] => Ok(false),
        [1] => Ok(true),
        _ => Err(SealError::Contents),
    }
}

fn put_vote(out: &mut Vec<u8>, vote: Option<VoteRecord>) {
    out.push(u8::from(vote.is_some()));
    if let Some(vote) = vote {
        out.extend_from_slice(&vote.term.0.to_be_bytes());
        out.extend_from_slice(&vote.node.0.to_be_bytes());
        out.push(u8::from(vote.committed));
    }
}

fn get_vote(f: &mut Fields<'_>) -> Result<Option<VoteRecord>, SealError> {
    if !flag(f)? {
        return Ok(None);
    }
    let (term, node) = (Term(u64::from_be_bytes(f.array()?)), NodeId(u64::from_be_bytes(f.array()?)));
    Ok(Some(VoteRecord { term, node, committed: flag(f)? }))
}

fn put_log_id(out: &mut Vec<u8>, id: Option<LogId>) {
    out.push(u8::from(id.is_some()));
    if let Some(id) = id {
        out.extend_from_slice(&id.term.0.to_be_bytes());
        out.extend_from_slice(&id.index.0.to_be_bytes());
    }
}

fn get_log_id(f: &mut Fields<'_>) -> Result<Option<LogId>, SealError> {
    if !flag(f)? {
        return Ok(None);
    }
    Ok(Some(LogId { term: Term(u64::from_be_bytes(f.array()?)), index: RaftIndex(u64::from_be_bytes(f.array()?)) }))
}

fn get_offset(f: &mut Fields<'_>) -> Result<Offset, SealError> {
    Offset(i64::from_be_bytes(f.array()?)).known().ok_or(SealError::Contents)
}

fn put_place(out: &mut Vec<u8>, (segment, position): Place) {
    out.extend_from_slice(&segment.0.to_be_bytes());
    out.extend_from_slice(&position.to_be_bytes());
}

fn get_place(f: &mut Fields<'_>) -> Result<Place, SealError> {
    Ok((get_offset(f)?, u32::from_be_bytes(f.array()?)))
}

fn put_point(out: &mut Vec<u8>, point: Point) {
    put_place(out, point.place());
    out.extend_from_slice(&point.next_offset.0.to_be_bytes());
    out.extend_from_slice(&point.next_index.0.to_be_bytes());
}

fn get_point(f: &mut Fields<'_>) -> Result<Point, SealError> {
    let (segment, position) = get_place(f)?;
    Ok(Point { segment, position, next_offset: get_offset(f)?, next_index: RaftIndex(u64::from_be_bytes(f.array()?)) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_read_back_and_notice_damage() {
        let id = |n| LogId { term: Term(n), index: RaftIndex(n * 10) };
        let point = |n: u32| Point {
            segment: Offset(5),
            position: n,
            next_offset: Offset(n.into()),
            next_index: RaftIndex(n.into()),
        };
        let mut epochs = EpochCache::new();
        epochs.assign(Term(3), Offset(5));
        let mut terms = TermStarts::default();
        terms.append(id(4));
        for producers in [
            Producers::Empty,
            Producers::Inline(Bytes::from_static(b"table")),
            Producers::Snapshot(point(3)),
            Producers::Rebuild,
        ] {
            let state = PartitionState {
                key: PartitionKey { topic: TopicId([9; 16]), partition: 2 },
                topic: "topic".into(),
                clean: true,
                vote: Some(VoteRecord { term: Term(4), node: NodeId(1), committed: true }),
                log_start: Offset(7),
                purged: Some(id(2)),
                first_segment: Offset(5),
                end: point(9),
                last: Some(id(4)),
                applied: point(8),
                applied_id: Some(id(3)),
                synced: (Offset(5), 4),
                durable: (Offset(5), 12),
                active: ActiveSegment {
                    start: SegmentStart { base_index: RaftIndex(3), previous: Some(id(2)), created_ms: 77 },
                    times: Times { max_timestamp: 88, position: 3 },
                },
                memberships: vec![(id(1), Bytes::from_static(b"members"))],
                producers,
                epochs: epochs.clone(),
                terms: terms.clone(),
                aborted_indexed: Offset(6),
                aborted_files: vec![Offset(5), Offset(9)],
            };
            let mut bytes = Vec::new();
            state.encode(&mut bytes);
            assert_eq!(PartitionState::decode(&bytes), Ok(state.clone()));
            for at in 0..bytes.len() {
                let mut bad = bytes.clone();
                bad[at] ^= 1;
                assert!(PartitionState::decode(&bad).is_err(), "a flipped bit at {at}");
            }
        }
    }
}

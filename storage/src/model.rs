//! The numbers of a log, each with a type of its own, so that no two can be swapped.
//!
//! *offset* is Kafka's (records), *index* is Raft's (entries), *position* is a byte in a file.

use std::fmt;
use std::ops::{Add, AddAssign, Sub};

/// A record's offset in its partition: 0 is the first; -1 stands for "none" on the wire.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Offset(pub i64);

impl Offset {
    pub const ZERO: Offset = Offset(0);
    /// "No offset" on the wire (-1).
    pub const NONE: Offset = Offset(-1);
    pub const MAX: Offset = Offset(i64::MAX);

    /// The offset after this one.
    pub fn next(self) -> Offset {
        Offset(self.0.saturating_add(1))
    }

    /// `None` for -1 and every other negative number.
    pub fn known(self) -> Option<Offset> {
        (self.0 >= 0).then_some(self)
    }
}

impl Add<i64> for Offset {
    type Output = Offset;
    fn add(self, delta: i64) -> Offset {
        Offset(self.0.saturating_add(delta))
    }
}

impl AddAssign<i64> for Offset {
    fn add_assign(&mut self, delta: i64) {
        *self = *self + delta;
    }
}

impl Sub for Offset {
    type Output = i64;
    fn sub(self, other: Offset) -> i64 {
        self.0.saturating_sub(other.0)
    }
}

/// A Raft term; it is the leader epoch of Kafka's protocol (`i32` there).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Term(pub u64);

impl Term {
    /// As Kafka's `partitionLeaderEpoch`. Terms beyond `i32::MAX` (two thousand million elections) stay at `i32::MAX`.
    pub fn leader_epoch(self) -> i32 {
        i32::try_from(self.0).unwrap_or(i32::MAX)
    }

    /// `None` for -1 and every other negative number.
    pub fn from_leader_epoch(epoch: i32) -> Option<Term> {
        u64::try_from(epoch).ok().map(Term)
    }
}

/// The index of an entry in a partition's Raft log: 0 is the first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct RaftIndex(pub u64);

impl RaftIndex {
    pub fn next(self) -> RaftIndex {
        RaftIndex(self.0.saturating_add(1))
    }
}

impl Add<u64> for RaftIndex {
    type Output = RaftIndex;
    fn add(self, delta: u64) -> RaftIndex {
        RaftIndex(self.0.saturating_add(delta))
    }
}

impl Sub for RaftIndex {
    type Output = u64;
    fn sub(self, other: RaftIndex) -> u64 {
        self.0.saturating_sub(other.0)
    }
}

/// A producer's id; -1, or any other below 0, is a batch without one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProducerId(pub i64);

impl ProducerId {
    pub const NONE: ProducerId = ProducerId(-1);

    pub fn is_some(self) -> bool {
        self > ProducerId::NONE
    }
}

/// A producer's epoch; -1 is a batch without one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProducerEpoch(pub i16);

impl ProducerEpoch {
    pub const NONE: ProducerEpoch = ProducerEpoch(-1);
}

/// A record's sequence number of its producer: 0 to 2^31 - 1, then 0 again; -1 is a batch without one.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sequence(pub i32);

impl Sequence {
    pub const NONE: Sequence = Sequence(-1);

    /// The sequence `delta` records later, wrapping from 2^31 - 1 to 0.
    pub fn plus(self, delta: u32) -> Sequence {
        Sequence(((i64::from(self.0) + i64::from(delta)) & i64::from(i32::MAX)) as i32)
    }

    /// The sequence `delta` records earlier, wrapping from 0 to 2^31 - 1.
    pub fn minus(self, delta: u32) -> Sequence {
        Sequence(((i64::from(self.0) - i64::from(delta)) & i64::from(i32::MAX)) as i32)
    }

    /// The sequence of the next record; 0 after `NONE`.
    pub fn next(self) -> Sequence {
        self.plus(1)
    }
}

/// A topic's id; the partition directories and the metadata know a topic by it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct TopicId(pub [u8; 16]);

/// Kafka's own id of the log that holds the metadata (`Uuid.METADATA_TOPIC_ID`).
pub const METADATA_TOPIC_ID: TopicId = TopicId([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);

/// One replica's or voter's process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct NodeId(pub u64);

/// Where an entry stands in a Raft log. Ordered by term, then index.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct LogId {
    pub term: Term,
    pub index: RaftIndex,
}

impl LogId {
    pub fn new(term: Term, index: RaftIndex) -> LogId {
        LogId { term, index }
    }
}

/// One partition of one topic.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct PartitionKey {
    pub topic: TopicId,
    pub partition: u32,
}

/// Whose clock a batch's timestamps come from (`message.timestamp.type`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum TimestampType {
    #[default]
    CreateTime,
    LogAppendTime,
}

impl TimestampType {
    /// Kafka's name of it, as in `message.timestamp.type`.
    pub fn name(self) -> &'static str {
        match self {
            TimestampType::CreateTime => "CreateTime",
            TimestampType::LogAppendTime => "LogAppendTime",
        }
    }
}

const BASE64_URL: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

impl TopicId {
    pub const ZERO: TopicId = TopicId([0; 16]);

    /// Reads the 22 characters that `Display` writes.
    pub fn from_base64(text: &str) -> Option<TopicId> {
        if text.len() != 22 {
            return None;
        }
        let mut bits: u128 = 0;
        for (i, c) in text.bytes().enumerate() {
            let digit = BASE64_URL.iter().position(|&b| b == c)? as u128;
            // 21 digits of 6 bits, then one of which only the upper 2 bits are used.
            if i < 21 {
                bits = (bits << 6) | digit;
            } else if digit & 0xf == 0 {
                bits = (bits << 2) | (digit >> 4);
            } else {
                return None;
            }
        }
        Some(TopicId(bits.to_be_bytes()))
    }
}

impl fmt::Display for TopicId {
    /// URL-safe base64 without padding, as Kafka's tools print ids.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = u128::from_be_bytes(self.0);
        let mut text = [0u8; 22];
        for (i, c) in text.iter_mut().enumerate() {
            let digit = if i < 21 { (bits >> (122 - 6 * i)) & 63 } else { (bits & 3) << 4 };
            *c = BASE64_URL.get(digit as usize).copied().unwrap_or(b'A');
        }
        f.write_str(std::str::from_utf8(&text).unwrap_or_default())
    }
}

impl fmt::Debug for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for PartitionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

impl fmt::Debug for PartitionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "T{}:{}", self.term, self.index)
    }
}

impl fmt::Debug for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

macro_rules! show_number {
    ($($name:ident),*) => { $(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }
    )* };
}
show_number!(Offset, Term, RaftIndex, ProducerId, ProducerEpoch, Sequence, NodeId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topic_ids_print_like_kafkas() {
        // new Uuid(0x0123456789abcdefL, 0xfedcba9876543210L).toString() in Kafka's Java client.
        let id = TopicId(0x0123456789abcdeffedcba9876543210u128.to_be_bytes());
        assert_eq!(id.to_string(), "ASNFZ4mrze_-3LqYdlQyEA");
        assert_eq!(TopicId::from_base64("ASNFZ4mrze_-3LqYdlQyEA"), Some(id));
        assert_eq!(TopicId::ZERO.to_string(), "AAAAAAAAAAAAAAAAAAAAAA");
        assert_eq!(TopicId::from_base64("ASNFZ4mrze_-3LqYdlQyEB"), None, "bits beyond the 128th");
        assert_eq!(TopicId::from_base64("short"), None);
    }

    #[test]
    fn sequences_wrap_at_two_to_the_31() {
        assert_eq!(Sequence(i32::MAX).next(), Sequence(0));
        assert_eq!(Sequence(i32::MAX - 1).plus(4), Sequence(2));
        assert_eq!(Sequence(2).minus(4), Sequence(i32::MAX - 1));
        assert_eq!(Sequence(7).minus(7), Sequence(0));
    }

    #[test]
    fn log_ids_order_by_term_first() {
        assert!(LogId::new(Term(1), RaftIndex(9)) < LogId::new(Term(2), RaftIndex(0)));
    }

    #[test]
    fn leader_epochs_are_terms() {
        assert_eq!(Term(7).leader_epoch(), 7);
        assert_eq!(Term(u64::MAX).leader_epoch(), i32::MAX);
        assert_eq!(Term::from_leader_epoch(-1), None);
    }
}

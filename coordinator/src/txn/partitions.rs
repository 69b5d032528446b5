//! The partitions of a transaction: AddPartitionsToTxn, and AddOffsetsToTxn, which adds one of `__consumer_offsets`.

use std::collections::{BTreeMap, BTreeSet};

use corelane_protocol::{ErrorCode, Str};

use super::coordinator::TxnCoordinator;
use super::outcome::Outcome;
use super::state::TxnState;
use super::transaction::{Pending, Producer, Transaction};
use crate::Now;

/// Partitions by topic. Names are the cluster's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Partitions(BTreeMap<Str, BTreeSet<i32>>);

impl Partitions {
    pub fn insert(&mut self, topic: &Str, partition: i32) {
        match self.0.get_mut(topic) {
            Some(partitions) => drop(partitions.insert(partition)),
            None => drop(self.0.insert(topic.detach(), BTreeSet::from([partition]))),
        }
    }

    pub fn contains(&self, topic: &str, partition: i32) -> bool {
        self.0.get(topic).is_some_and(|partitions| partitions.contains(&partition))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn topics(&self) -> impl Iterator<Item = (&Str, &BTreeSet<i32>)> {
        self.0.iter()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&Str, i32)> {
        self.0.iter().flat_map(|(topic, partitions)| partitions.iter().map(move |partition| (topic, *partition)))
    }

    pub(super) fn extend(&mut self, other: &Partitions) {
        other.iter().for_each(|(topic, partition)| self.insert(topic, partition));
    }

    fn contains_all(&self, other: &Partitions) -> bool {
        other.iter().all(|(topic, partition)| self.contains(topic, partition))
    }
}

impl FromIterator<(Str, i32)> for Partitions {
    fn from_iter<I: IntoIterator<Item = (Str, i32)>>(all: I) -> Partitions {
        let mut partitions = Partitions::default();
        all.into_iter().for_each(|(topic, partition)| partitions.insert(&topic, partition));
        partitions
    }
}

/// The feature level `transaction.version` that a client works with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TxnVersion(i16);

impl TxnVersion {
    pub const V0: TxnVersion = TxnVersion(0);
    /// KIP-890: the epoch rises with every transaction, and partitions are added by those who are written to.
    pub const V2: TxnVersion = TxnVersion(2);

    pub fn level(self) -> i16 {
        self.0
    }

    pub fn from_level(level: i16) -> TxnVersion {
        TxnVersion(level)
    }

    /// The version in which the state of an id is stored (KIP-890): 1 holds what version 2 needs.
    pub(super) fn value_version(self) -> i16 {
        i16::from(self.0 >= 1)
    }

    pub(super) fn bumps_epochs(self) -> bool {
        self >= TxnVersion::V2
    }
}

impl TxnCoordinator {
    /// Adds partitions to the producer's transaction, which begins with the first. Answered when that is durable; the caller
    /// has looked that they exist.
    pub fn add_partitions(
        &mut self,
        now: Now,
        transactional_id: &str,
        producer: Producer,
        partitions: &Partitions,
        version: TxnVersion,
    ) -> Outcome {
        let found = match self.find(transactional_id) {
            Ok(found) => found,
            Err(error) => return Outcome::now(Err(error)),
        };
        let checked =
            if found.is_busy() { Err(ErrorCode::ConcurrentTransactions) } else { found.check_producer(producer) };
        if let Err(error) = checked {
            return Outcome::now(Err(error));
        }
        let stored = &found.stored;
        if stored.state == TxnState::Ongoing && stored.partitions.contains_all(partitions) {
            return Outcome::now(Ok(producer));
        }
        if !self.stores(version) {
            return Outcome::now(Err(ErrorCode::UnsupportedVersion));
        }
        let next = stored.extended(partitions, version, now.wall_ms);
        self.begin(now, transactional_id, Pending::Change(next), Ok(producer))
    }

    /// Which of these partitions the producer's transaction has. Nothing is changed: a broker asks before it takes records
    /// (KIP-890), and looks again when it appends them.
    pub fn verify_partitions(
        &self,
        transactional_id: &str,
        producer: Producer,
        partitions: &Partitions,
    ) -> Result<Vec<(Str, i32, ErrorCode)>, ErrorCode> {
        let found = self.find(transactional_id)?;
        found.check_producer(producer)?;
        let of = |(topic, partition): (&Str, i32)| {
            let known = found.stored.partitions.contains(topic, partition);
            let error = if known { ErrorCode::None } else { ErrorCode::TransactionAbortable };
            (topic.clone(), partition, error)
        };
        Ok(partitions.iter().map(of).collect())
    }

    fn find(&self, transactional_id: &str) -> Result<&Transaction, ErrorCode> {
        if transactional_id.is_empty() {
            return Err(ErrorCode::InvalidRequest);
        }
        self.transactions.get(transactional_id).ok_or(ErrorCode::InvalidProducerIdMapping)
    }
}

impl Transaction {
    /// Whether the producer is the one of this id, and its transaction not ending.
    fn check_producer(&self, producer: Producer) -> Result<(), ErrorCode> {
        if self.stored.producer.id != producer.id {
            Err(ErrorCode::InvalidProducerIdMapping)
        } else if self.stored.producer.epoch != producer.epoch {
            Err(ErrorCode::ProducerFenced)
        } else if self.stored.state.is_prepared() {
            Err(ErrorCode::ConcurrentTransactions)
        } else {
            Ok(())
        }
    }
}

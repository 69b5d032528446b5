//! Transactions as a partition sees them: the first batch of one waits for the coordinator's word, and a marker ends it.
//!
//! Which partitions a transaction has, and how it ends, is the transaction coordinator's business.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use core_pinning::sync::oneshot;
use core_pinning::task::{Queue, spawn};
use core_pinning::time::wall_ms;
use corelane_protocol::ErrorCode;
use corelane_storage::model::{Offset, ProducerEpoch, ProducerId, Sequence};
use corelane_storage::producer_state::{ProducerInfo, Verification};
use corelane_storage::record::{BatchBuilder, BatchHeader, Codec, TransactionMarker, Validation};
use futures::future::{LocalBoxFuture, Shared};
use hashbrown::HashMap;

use super::produce::{Arrival, Produced};
use super::{Partition, ProduceFailure, Taken};
use crate::step::Step;

/// How a producer's transaction ends, as a coordinator has it written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marker {
    pub producer_id: ProducerId,
    /// The epoch that the marker carries. Transactions version 2 (KIP-890) raises it above that of the transaction's batches.
    pub producer_epoch: ProducerEpoch,
    /// Of the coordinator: the leader epoch of its partition of `__transaction_state`.
    pub coordinator_epoch: i32,
    pub commit: bool,
    /// `transaction.version` of the transaction: 0, 1 or 2. With 2 the epoch must be above the last one seen here, or it is the
    /// same marker again.
    pub transaction_version: i16,
}

/// What the coordinator says of a transaction's batch, when it has said it.
pub type Verdict = Shared<LocalBoxFuture<'static, Result<(), ProduceFailure>>>;

/// How a batch is known to belong to its producer's transaction.
#[derive(Clone)]
pub enum Membership {
    /// The transaction is open here, or it is a batch of none.
    Known,
    /// The coordinator is being asked.
    Asked {
        verdict: Verdict,
        /// The transaction has an epoch of its own (KIP-890, Produce v12+).
        epoch_bump: bool,
    },
    /// As the batch of the same producer before it, which waits here.
    AsBefore,
}

/// The batches of one producer that wait for a verdict, or behind one that does.
#[derive(Default)]
pub(super) struct Gates(RefCell<HashMap<ProducerId, Gate>>);

struct Gate {
    waiting: VecDeque<Gated>,
    /// Of the batch that has left the queue and is not in the log yet.
    passing: Option<Ticket>,
    last: Ticket,
}

struct Gated {
    validation: Validation,
    arrival: Arrival,
    ticket: Ticket,
    outcome: oneshot::Sender<Result<Produced, ProduceFailure>>,
}

/// One question to the coordinator, shared by the batches that wait for its answer.
#[derive(Clone)]
pub(super) struct Ticket {
    epoch: ProducerEpoch,
    verdict: Verdict,
    epoch_bump: bool,
    /// The smallest sequence of those that wait.
    lowest: Rc<Cell<Sequence>>,
    /// False when a marker was written since the question was asked: the answer may be of the transaction that it ended.
    valid: Rc<Cell<bool>>,
}

impl Ticket {
    /// What it proves now that the verdict is good.
    pub(super) fn verification(&self) -> Verification {
        match self.valid.get() {
            true => Verification::Verified { epoch_bump: self.epoch_bump, lowest: self.lowest.get() },
            false => Verification::Missing,
        }
    }
}

impl Partition {
    /// True if the coordinator has to be asked before the batch is produced: nothing is known here of its transaction. If not,
    /// says how it is known.
    pub fn membership(&self, header: &BatchHeader) -> Option<Membership> {
        let (producer, epoch) = (header.producer_id, header.producer_epoch);
        if let Some(gate) = self.gates.0.borrow().get(&producer) {
            let joins = gate.last.epoch == epoch && gate.last.valid.get();
            return joins.then_some(Membership::AsBefore);
        }
        self.with_producer(producer, |table| table.is_ongoing(producer, epoch)).then_some(Membership::Known)
    }

    /// Lets a transaction's batch wait for the verdict, behind those of its producer that already do.
    pub(super) fn wait_at_gate(
        self: &Rc<Self>,
        header: &BatchHeader,
        membership: Membership,
        validation: Validation,
        arrival: Arrival,
    ) -> Taken {
        let mut gates = self.gates.0.borrow_mut();
        let ticket = match membership {
            Membership::Known => None,
            Membership::AsBefore => gates.get(&header.producer_id).map(|gate| gate.last.clone()),
            Membership::Asked { verdict, epoch_bump } => Some(Ticket {
                epoch: header.producer_epoch,
                verdict,
                epoch_bump,
                lowest: Rc::new(Cell::new(header.base_sequence)),
                valid: Rc::new(Cell::new(true)),
            }),
        };
        let Some(ticket) = ticket else {
            drop(gates);
            return self.take_in(validation, arrival);
        };
        if header.base_sequence.0 < ticket.lowest.get().0 {
            ticket.lowest.set(header.base_sequence);
        }
        let (sender, receiver) = oneshot::channel();
        let gated = Gated { validation, arrival, ticket: ticket.clone(), outcome: sender };
        match gates.get_mut(&header.producer_id) {
            Some(gate) => {
                gate.waiting.push_back(gated);
                gate.last = ticket;
            }
            None => {
                gates
                    .insert(header.producer_id, Gate { waiting: VecDeque::from([gated]), passing: None, last: ticket });
                let (partition, producer) = (self.clone(), header.producer_id);
                spawn(Queue::Serve, "verified batches", async move { partition.pass_gate(producer).await }).detach();
            }
        }
        Taken::Later(receiver)
    }

    /// Takes in what waits, in its order; ends when nothing does.
    async fn pass_gate(self: Rc<Self>, producer: ProducerId) {
        loop {
            let next = {
                let mut gates = self.gates.0.borrow_mut();
                let next = gates.get_mut(&producer).and_then(|gate| {
                    let next = gate.waiting.pop_front();
                    gate.passing = next.as_ref().map(|gated| gated.ticket.clone());
                    next
                });
                if next.is_none() {
                    gates.remove(&producer);
                }
                next
            };
            let Some(Gated { validation, mut arrival, ticket, outcome }) = next else { return };
            let result = match ticket.verdict.clone().await {
                Ok(()) => {
                    arrival.ticket = Some(ticket);
                    self.take_in(validation, arrival).ordered().await
                }
                Err(failure) => Err(failure),
            };
            // Whoever asked may be gone: the batch is appended all the same.
            let _ = outcome.send(result);
        }
    }

    /// Writes a marker; returns its offset when it is durable and applied. Also where the producer has no transaction open here:
    /// the marker then only moves its epoch.
    ///
    /// Errors, before which nothing was written: INVALID_PRODUCER_EPOCH (fenced by a later epoch), TRANSACTION_COORDINATOR_FENCED
    /// (a later coordinator has written here), NOT_LEADER_OR_FOLLOWER, UNKNOWN_TOPIC_OR_PARTITION (deleted), and those of a
    /// produce request that may be tried again (NOT_ENOUGH_REPLICAS, KAFKA_STORAGE_ERROR).
    pub async fn write_marker(self: &Rc<Self>, marker: Marker) -> Result<Offset, ErrorCode> {
        if self.is_deleted() {
            return Err(ErrorCode::UnknownTopicOrPartition);
        }
        let Marker { producer_id, producer_epoch, coordinator_epoch, commit, transaction_version } = marker;
        let checked = self.with_producer(producer_id, |table| {
            table.check_marker(producer_id, producer_epoch, coordinator_epoch, transaction_version)
        });
        checked.map_err(|error| ProduceFailure::from(error).code)?;
        let mut batch = BatchBuilder::new(Codec::None).producer(producer_id, producer_epoch, Sequence::NONE);
        let kind = if commit { TransactionMarker::Commit } else { TransactionMarker::Abort };
        batch.push_marker(wall_ms(), kind, coordinator_epoch);
        let offset = self.next_offset.get();
        let proposal = self.append(batch).map_err(|failure| failure.code)?;
        let step = Step::of(|| Some(format!("marker {}-{}", self.topic, self.index)));
        step.reached("ordered");
        if let Some(gate) = self.gates.0.borrow().get(&producer_id) {
            // Where every transaction has its own epoch, those that wait with the marker's are of the next one already.
            let ended = |ticket: &&Ticket| !ticket.epoch_bump || ticket.epoch < producer_epoch;
            let tickets = gate.waiting.iter().map(|gated| &gated.ticket).chain(&gate.passing).chain([&gate.last]);
            tickets.filter(ended).for_each(|ticket| ticket.valid.set(false));
        }
        match proposal.applied().await {
            Ok(_) => {
                step.reached("durable");
                Ok(offset)
            }
            Err(error) => Err(ProduceFailure::from(error).code),
        }
    }

    /// The producers that the log knows, for DescribeProducers.
    pub fn producers(&self) -> Vec<ProducerInfo> {
        self.log.producers().borrow().iter().collect()
    }
}

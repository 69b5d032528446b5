//! Transactions as a partition sees them: the first batch of one waits for the coordinator's word, and a marker ends it.
//!
//! Which partitions a transaction has, and how it ends, is the transaction coordinator's business.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use core_pinning::sync::oneshot;
use core_pinning::task::{Queue, spawn};
use core_pinning::time::wall_ms;
use corelane_protocol::ErrorCode;
use corelane_storage::model::{Offset, ProducerEpoch, ProducerId, Sequence};
use corelane_storage::producer_state::{ProducerInfo, Unsettled, Verification};
use corelane_storage::record::{BatchBuilder, BatchHeader, Codec, RecordErrors, TransactionMarker, Validation};
use futures::future::{LocalBoxFuture, Shared};
use hashbrown::HashMap;

use super::produce::{Arrival, Produced};
use super::{Partition, ProduceFailure, Taken};
use crate::step::Step;

/// Kafka's number of no version (`TransactionVersion.TV_UNKNOWN`): once it has seen that the epoch is not too old, it fails.
const VERSION_UNKNOWN: i16 = -1;

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
    Asked { question: Question, verdict: Verdict },
    /// As the batch of the same producer before it, which waits here.
    AsBefore,
    /// It is fenced by a later epoch: nobody has to be asked.
    Fenced(ProduceFailure),
}

impl Membership {
    /// What is said of the batch before the log looks at it.
    pub async fn verdict(self) -> Result<(), ProduceFailure> {
        match self {
            Membership::Asked { verdict, .. } => verdict.await,
            Membership::Fenced(failure) => Err(failure),
            Membership::Known | Membership::AsBefore => Ok(()),
        }
    }
}

/// What a partition finds out by itself of a batch's membership.
pub enum Found {
    Is(Membership),
    /// The coordinator has to be asked.
    Ask(Question),
}

/// Tells what the coordinator is asked about one transaction from what it is asked about the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question(u64);

/// Of each producer: the batches that wait for a verdict, or behind one that does, and what the coordinator was asked.
#[derive(Default)]
pub(super) struct Gates {
    waiting: RefCell<HashMap<ProducerId, Gate>>,
    asked: RefCell<Questions>,
}

/// Those about transactions that have no batch here yet. A refused one stays: the batches that come behind it are refused too,
/// until it comes again.
#[derive(Default)]
struct Questions {
    last: u64,
    of: HashMap<ProducerId, Asked>,
}

struct Asked {
    question: Question,
    since_ms: i64,
    epoch: ProducerEpoch,
    unsettled: Unsettled,
}

/// Producers of which a partition remembers what was asked. What is over them is forgotten, which only makes it less strict.
const QUESTIONS: usize = 20_000;

impl Questions {
    /// Asks about a batch: the same as before, unless that is settled.
    fn ask(&mut self, header: &BatchHeader, epoch_bump: bool) -> Question {
        let (epoch, sequence) = (header.producer_epoch, header.base_sequence);
        if self.of.len() >= QUESTIONS && !self.of.contains_key(&header.producer_id) {
            self.of.clear();
        }
        let asked = self.of.entry(header.producer_id).or_insert_with(|| {
            self.last += 1;
            let unsettled = Unsettled { epoch_bump, lowest: sequence };
            Asked { question: Question(self.last), since_ms: wall_ms(), epoch, unsettled }
        });
        let lowest = &mut asked.unsettled.lowest;
        if epoch > asked.epoch || (epoch == asked.epoch && sequence.0 < lowest.0) {
            (asked.epoch, *lowest) = (epoch, sequence);
        }
        asked.question
    }

    fn is(&self, producer: ProducerId, question: Question) -> bool {
        self.of.get(&producer).is_some_and(|asked| asked.question == question)
    }

    /// A marker ends the producer's transaction. Where every transaction has its own epoch, what is asked of the marker's is about
    /// the next one already.
    fn ended(&mut self, producer: ProducerId, epoch: ProducerEpoch) {
        if self.of.get(&producer).is_some_and(|asked| !asked.unsettled.epoch_bump || asked.epoch != epoch) {
            self.of.remove(&producer);
        }
    }
}

struct Gate {
    waiting: VecDeque<Gated>,
    last: Ticket,
}

struct Gated {
    /// Kafka's log says what is wrong with a batch after the coordinator has been asked.
    begun: Result<Validation, RecordErrors>,
    arrival: Arrival,
    ticket: Ticket,
    outcome: oneshot::Sender<Result<Produced, ProduceFailure>>,
}

/// One question to the coordinator and its answer, shared by the batches that wait for it.
#[derive(Clone)]
pub(super) struct Ticket {
    epoch: ProducerEpoch,
    question: Question,
    verdict: Verdict,
}

impl Partition {
    /// How a transaction's batch is known to belong to it. If the coordinator has to be asked, that counts as done.
    /// `epoch_bump`: the producer's transactions each have an epoch of their own (KIP-890, Produce v12+).
    pub fn membership(&self, header: &BatchHeader, epoch_bump: bool) -> Found {
        let (producer, epoch) = (header.producer_id, header.producer_epoch);
        let (fenced, ongoing) =
            self.with_producer(producer, |table| (table.check_epoch(header).err(), table.is_ongoing(producer, epoch)));
        if let Some(error) = fenced {
            return Found::Is(Membership::Fenced(ProduceFailure { before_log: true, ..error.into() }));
        }
        let last = self.gates.waiting.borrow().get(&producer).map(|gate| (gate.last.epoch, gate.last.question));
        let question = match (ongoing, last) {
            (true, None) => return Found::Is(Membership::Known),
            (true, Some(_)) => None,
            (false, _) => Some(self.gates.asked.borrow_mut().ask(header, epoch_bump)),
        };
        match (question, last) {
            (Some(question), last) if last != Some((epoch, question)) => Found::Ask(question),
            _ => Found::Is(Membership::AsBefore),
        }
    }

    /// What is known of a batch's verification when it gets its offsets.
    pub(super) fn verification(
        &self,
        header: &BatchHeader,
        ticket: Option<&Ticket>,
    ) -> (Verification, Option<Unsettled>) {
        let asked = self.gates.asked.borrow();
        let verified = ticket.is_some_and(|ticket| asked.is(header.producer_id, ticket.question));
        let unsettled = asked.of.get(&header.producer_id).map(|asked| asked.unsettled);
        (if verified { Verification::Verified } else { Verification::Missing }, unsettled)
    }

    /// A transaction's batch has its offsets.
    pub(super) fn settle(&self, header: &BatchHeader) {
        if header.is_transactional() {
            self.gates.asked.borrow_mut().of.remove(&header.producer_id);
        }
    }

    /// Forgets what is known of producers that have been silent for so long (`producer.id.expiration.ms`).
    pub fn expire_producers(&self, now_ms: i64, expiration_ms: i64) {
        self.log.producers().borrow_mut().expire(now_ms, expiration_ms);
        let young = |asked: &Asked| now_ms.saturating_sub(asked.since_ms) < expiration_ms;
        self.gates.asked.borrow_mut().of.retain(|_, asked| young(asked));
    }

    /// Lets a transaction's batch wait for the verdict, behind those of its producer that already do.
    pub(super) fn wait_at_gate(
        self: &Rc<Self>,
        header: &BatchHeader,
        membership: Membership,
        begun: Result<Validation, RecordErrors>,
        arrival: Arrival,
    ) -> Taken {
        let mut gates = self.gates.waiting.borrow_mut();
        let ticket = match membership {
            Membership::Fenced(failure) => return Taken::Now(Box::new(Err(failure))),
            Membership::Known => None,
            Membership::AsBefore => gates.get(&header.producer_id).map(|gate| gate.last.clone()),
            Membership::Asked { question, verdict } => Some(Ticket { epoch: header.producer_epoch, question, verdict }),
        };
        let Some(ticket) = ticket else {
            drop(gates);
            return self.take_in(begun, arrival);
        };
        let (sender, receiver) = oneshot::channel();
        let gated = Gated { begun, arrival, ticket: ticket.clone(), outcome: sender };
        match gates.get_mut(&header.producer_id) {
            Some(gate) => {
                gate.waiting.push_back(gated);
                gate.last = ticket;
            }
            None => {
                gates.insert(header.producer_id, Gate { waiting: VecDeque::from([gated]), last: ticket });
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
                let mut gates = self.gates.waiting.borrow_mut();
                let next = gates.get_mut(&producer).and_then(|gate| gate.waiting.pop_front());
                if next.is_none() {
                    gates.remove(&producer);
                }
                next
            };
            let Some(Gated { begun, mut arrival, ticket, outcome }) = next else { return };
            let result = match ticket.verdict.clone().await {
                Ok(()) => {
                    arrival.ticket = Some(ticket);
                    self.take_in(begun, arrival).ordered().await
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
    /// Errors, before which nothing was written: INVALID_PRODUCER_EPOCH (fenced by a later epoch), UNKNOWN_SERVER_ERROR (of no
    /// version), TRANSACTION_COORDINATOR_FENCED (a later coordinator has written here), NOT_LEADER_OR_FOLLOWER, UNKNOWN_TOPIC_OR_PARTITION (deleted), and those of a
    /// produce request that may be tried again (NOT_ENOUGH_REPLICAS, KAFKA_STORAGE_ERROR).
    pub async fn write_marker(self: &Rc<Self>, marker: Marker) -> Result<Offset, ErrorCode> {
        if self.is_deleted() {
            return Err(ErrorCode::UnknownTopicOrPartition);
        }
        let Marker { producer_id, producer_epoch, coordinator_epoch, commit, transaction_version } = marker;
        let checked = self.with_producer(producer_id, |table| {
            table.check_marker(producer_id, producer_epoch, coordinator_epoch, transaction_version)
        });
        let refused = checked.map_err(|error| ProduceFailure::from(error).code);
        if transaction_version == VERSION_UNKNOWN && refused != Err(ErrorCode::InvalidProducerEpoch) {
            return Err(ErrorCode::UnknownServerError);
        }
        refused?;
        let mut batch = BatchBuilder::new(Codec::None).producer(producer_id, producer_epoch, Sequence::NONE);
        let kind = if commit { TransactionMarker::Commit } else { TransactionMarker::Abort };
        batch.push_marker(wall_ms(), kind, coordinator_epoch);
        let offset = self.next_offset.get();
        let proposal = self.append(batch).map_err(|failure| failure.code)?;
        let step = Step::of(|| Some(format!("marker {}-{}", self.topic, self.index)));
        step.reached("ordered");
        self.gates.asked.borrow_mut().ended(producer_id, producer_epoch);
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

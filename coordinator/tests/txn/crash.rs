//! Crashes and failed writes anywhere: nothing that was promised is turned round.

use std::collections::BTreeMap;

use corelane_coordinator::group::WaitToken;
use corelane_coordinator::txn::*;

use crate::harness::*;

/// What the client of an id believes, and what it was promised.
#[derive(Default)]
struct Client {
    current: Option<Producer>,
    /// Partitions that were acknowledged for the transaction under way.
    added: Vec<(&'static str, i32)>,
    waiting: Option<(WaitToken, Asked)>,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Asked {
    Init,
    Add((&'static str, i32)),
    End(TxnResult),
}

/// Ends that were acknowledged, and what the markers of each end must have.
struct Promise {
    id: &'static str,
    producer: Producer,
    commit: bool,
    partitions: Vec<(&'static str, i32)>,
}

struct Run {
    harness: Harness,
    clients: BTreeMap<&'static str, Client>,
    promises: Vec<Promise>,
    random: u64,
    version: TxnVersion,
}

const IDS: [&str; 2] = ["a", "b"];
const PARTITIONS: [(&str, i32); 3] = [("t", 0), ("t", 1), ("u", 0)];

impl Run {
    fn below(&mut self, limit: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % limit
    }

    fn step(&mut self) {
        let id = IDS[self.below(2) as usize];
        match self.below(20) {
            0 => self.harness.fail_writes(NotEnoughReplicas),
            1 => {
                let records = self.harness.log.len();
                self.harness.crash_after(records);
                self.harness.answers.clear();
                self.clients.values_mut().for_each(|client| client.waiting = None);
            }
            2 => self.harness.advance(i64::from(TIMEOUT_MS) / 2),
            3..=6 => drop(self.harness.finish_write()),
            7..=9 => drop(self.harness.finish_markers()),
            10 => self.ask(id, Asked::Init),
            11..=15 => {
                let partition = PARTITIONS[self.below(3) as usize];
                self.ask(id, Asked::Add(partition));
            }
            choice => self.ask(id, Asked::End(if choice < 18 { COMMIT } else { ABORT })),
        }
        self.hear();
        self.check_markers();
    }

    fn ask(&mut self, id: &'static str, asked: Asked) {
        let client = self.clients.entry(id).or_default();
        if client.waiting.is_some() || (client.current.is_none() && asked != Asked::Init) {
            return;
        }
        let (producer, version) = (client.current, self.version);
        let reply = self.harness.call(|machine, now| match (asked, producer) {
            (Asked::Add(partition), Some(producer)) => {
                machine.add_partitions(now, id, producer, &partitions(&[partition]), version)
            }
            (Asked::End(result), Some(producer)) => machine.end(now, id, producer, result, version),
            _ => machine.init_producer_id(now, id, TIMEOUT_MS, None),
        });
        match reply {
            Reply::Now(answer) => self.answered(id, asked, answer),
            Reply::Later(token) => {
                self.clients.entry(id).or_default().waiting = Some((token, asked));
            }
        }
    }

    fn hear(&mut self) {
        for id in IDS {
            let client = self.clients.entry(id).or_default();
            let Some((token, asked)) = client.waiting else { continue };
            if let Some(answer) = self.harness.answers.remove(&token) {
                client.waiting = None;
                self.answered(id, asked, answer);
            }
        }
    }

    fn answered(&mut self, id: &'static str, asked: Asked, answer: Answer) {
        let client = self.clients.entry(id).or_default();
        match (asked, answer) {
            (Asked::Init, Ok(producer)) => *client = Client { current: Some(producer), ..Client::default() },
            (Asked::Add(partition), Ok(_)) => client.added.push(partition),
            (Asked::End(result), Ok(next)) => {
                let current = client.current.replace(next).expect("a producer");
                let producer = if self.version == V2 { producer(current.id, current.epoch + 1) } else { current };
                // A repeated end of version 1 may be that of the transaction before; what was added tells.
                if !client.added.is_empty() {
                    let partitions = std::mem::take(&mut client.added);
                    self.promises.push(Promise { id, producer, commit: result == COMMIT, partitions });
                }
            }
            // Only a new producer helps.
            (_, Err(ProducerFenced | InvalidProducerIdMapping)) => *client = Client::default(),
            (_, Err(_)) => {}
        }
    }

    /// One end of a transaction of version 2 has one result, whatever happened in between.
    fn check_markers(&self) {
        if self.version != V2 {
            return;
        }
        let mut results: BTreeMap<(&str, Producer), bool> = BTreeMap::new();
        for markers in &self.harness.sent {
            let key = (markers.transactional_id.as_str(), markers.producer);
            assert_eq!(*results.entry(key).or_insert(markers.commit), markers.commit, "{markers:?}");
        }
    }

    /// Lets everything come to an end; then every promise must have been kept.
    fn finish(&mut self) {
        for _ in 0..4 {
            while self.harness.finish_write() || self.harness.finish_markers() {}
            self.harness.advance(2 * i64::from(TIMEOUT_MS));
        }
        while self.harness.finish_write() || self.harness.finish_markers() {}
        let counts = self.harness.machine.counts();
        assert_eq!((counts.ongoing, counts.ending, counts.writes_under_way), (0, 0, 0));
        for promise in &self.promises {
            let sent = self.harness.sent.iter().find(|markers| {
                markers.transactional_id == promise.id
                    && markers.producer == promise.producer
                    && markers.commit == promise.commit
                    && promise.partitions.iter().all(|(topic, index)| markers.partitions.contains(topic, *index))
            });
            assert!(sent.is_some(), "{} {:?} commit {}", promise.id, promise.producer, promise.commit);
        }
    }
}

#[test]
fn what_was_answered_is_kept_through_failed_writes_and_crashes() {
    let mut kept = 0;
    for seed in 1..=400u64 {
        for version in [V1, V2] {
            let harness = Harness { hold_writes: true, hold_markers: true, ..Harness::default() };
            let random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let mut run = Run { harness, clients: BTreeMap::new(), promises: Vec::new(), random, version };
            for _ in 0..300 {
                run.step();
            }
            run.finish();
            kept += run.promises.len();
        }
    }
    assert!(kept > 1_000, "{kept} transactions came to an end");
}

/// A transaction from its first record to its last: whatever part of the records survives a crash leads to one end, and to the
/// one that was decided from the decision on.
#[test]
fn every_prefix_of_the_records_leads_to_the_end_that_was_decided() {
    for version in [V1, V2] {
        for result in [COMMIT, ABORT] {
            let run = |survivors: Option<usize>| {
                let mut harness = Harness::default();
                let current = harness.init("a").unwrap();
                harness.add("a", current, &[("t", 0)], version).unwrap();
                harness.add("a", current, &[("u", 0)], version).unwrap();
                harness.end("a", current, result, version).unwrap();
                let records = harness.log.len();
                harness.sent.clear();
                if let Some(survivors) = survivors {
                    harness.crash_after(survivors);
                }
                (harness, current, records)
            };
            let records = run(None).2;
            assert_eq!(records, 5, "Empty, Ongoing twice, Prepare, Complete");
            for survivors in 0..=records {
                let (mut harness, current, _) = run(Some(survivors));
                let decided = survivors >= 4;
                let markers = harness.sent.clone();
                assert_eq!(markers.len(), usize::from(survivors == 4), "{survivors} records");
                for marker in &markers {
                    assert_eq!(marker.commit, result == COMMIT);
                    assert_eq!(marker.partitions, partitions(&[("t", 0), ("u", 0)]));
                }
                // The client, which has heard nothing, asks again.
                let again = harness.end("a", current, result, version);
                match survivors {
                    0 => assert_eq!(again, Err(InvalidProducerIdMapping)),
                    _ if decided => assert_eq!(again.map(|next| next.epoch), Ok(i16::from(version == V2))),
                    // Nothing has begun: version 2 may abort that.
                    1 if version == V2 && result == ABORT => assert_eq!(again.map(|next| next.epoch), Ok(1)),
                    1 => assert_eq!(again, Err(InvalidTxnState)),
                    _ => assert!(again.is_ok()),
                }
                let opposite = if result == COMMIT { ABORT } else { COMMIT };
                if decided {
                    assert_eq!(harness.end("a", current, opposite, version), Err(InvalidTxnState));
                }
            }
        }
    }
}

//! Seeded random series of a few transactional producers: what they ask for in any order, now and then with another's id or epoch, and
//! what readers and tools see in between. A series is a script, as in random.rs.

use crate::script::Script;
use crate::written::Written;

/// Transactional ids of a series; each has a group of its own.
const IDS: usize = 2;
const PARTITIONS: usize = 2;
/// Nothing is being ended: what comes next finds the same in both brokers.
const AT_REST: &str =
    r#"until ListTransactions 0 {state_filters=["PrepareCommit", "PrepareAbort"]} :: transaction_states = []"#;

/// A producer as far as it can be known beforehand: the answers decide what its requests really hold.
#[derive(Clone, Copy, Default)]
struct Producer {
    /// Adds its partitions itself (`false`: KIP-890).
    plain: bool,
    sequences: [i64; PARTITIONS],
}

struct Series {
    out: Written,
    seed: u64,
    producers: [Producer; IDS],
    offset: u32,
}

/// `count` requests, the same for the same seed.
pub fn script(seed: u64, count: usize) -> (Script, String) {
    let out = Written::new("transactions", seed);
    let mut series = Series { out, seed, producers: Default::default(), offset: 0 };
    series.out.line(format!(
        r#"CreateTopics 7 {{topics=[{{name="t{seed}", num_partitions={PARTITIONS}, replication_factor=1}}], timeout_ms=10000}}"#
    ));
    series.out.line(r#"until FindCoordinator 3 {key="warm", key_type=1} :: error_code = 0"#);
    series
        .out
        .line(r#"until InitProducerId 4 {transactional_id="warm", transaction_timeout_ms=60000} :: error_code = 0"#);
    for id in 0..IDS {
        series.producers[id].plain = series.out.below(2) == 0;
        series.init(id);
    }
    for _ in 0..count {
        series.step();
    }
    series.out.done(&format!("transactions-{seed}.txt"))
}

impl Series {
    fn name(&self, id: usize) -> String {
        format!("t{}-{id}", self.seed)
    }

    /// A producer's id and epoch as a request has them: its own, as a rule.
    fn identity(&mut self, id: usize) -> (String, String) {
        let owner = if self.out.one_in(20) { 1 - id } else { id };
        let epoch = match self.out.below(16) {
            0 => format!("plus($e{id}, 1)"),
            1 => format!("plus($e{id}, -1)"),
            _ => format!("$e{id}"),
        };
        (format!("$p{owner}"), epoch)
    }

    fn init(&mut self, id: usize) {
        let name = self.name(id);
        let version = self.out.pick(&[4, 5, 2]);
        let line = format!(r#"InitProducerId {version} {{transactional_id="{name}", transaction_timeout_ms=900000}}"#);
        self.out.line(&line);
        self.out.line(AT_REST);
        // It may only have ended what was open.
        self.out.line(line);
        self.keep(id);
    }

    /// What the last answer says of the producer.
    fn keep(&mut self, id: usize) {
        self.out.line(format!("let p{id} = producer_id"));
        self.out.line(format!("let e{id} = producer_epoch"));
        self.producers[id].sequences = [0; PARTITIONS];
    }

    fn step(&mut self) {
        let id = self.out.below(IDS);
        let plain = self.producers[id].plain != self.out.one_in(25);
        match self.out.below(26) {
            0..=1 => self.init(id),
            2..=4 => self.add(id),
            5..=11 => self.produce(id, plain),
            12..=14 => self.offsets(id, plain),
            15..=18 => self.end(id, plain),
            19 => self.take_over(id),
            20 => self.delete_records(),
            _ => self.look(id),
        }
    }

    fn add(&mut self, id: usize) {
        let (name, topic, (producer, epoch)) = (self.name(id), self.seed, self.identity(id));
        let partitions = self.out.pick(&["0", "1", "0, 1", "1, 7"]);
        let line = if self.out.one_in(4) {
            let verify = self.out.one_in(2);
            format!(
                r#"AddPartitionsToTxn 4.. {{transactions=[{{transactional_id="{name}", producer_id={producer}, producer_epoch={epoch}, verify_only={verify}, topics=[{{name="t{topic}", partitions=[{partitions}]}}]}}]}}"#
            )
        } else {
            format!(
                r#"AddPartitionsToTxn ..3 {{v3_and_below_transactional_id="{name}", v3_and_below_producer_id={producer}, v3_and_below_producer_epoch={epoch}, v3_and_below_topics=[{{name="t{topic}", partitions=[{partitions}]}}]}}"#
            )
        };
        self.out.line(line);
    }

    fn produce(&mut self, id: usize, plain: bool) {
        let (name, topic, (producer, epoch)) = (self.name(id), self.seed, self.identity(id));
        let (partition, count) = (self.out.below(PARTITIONS), 1 + self.out.below(3));
        let sequence = &mut self.producers[id].sequences[partition];
        let first = *sequence;
        *sequence += count as i64;
        let first = match self.out.below(12) {
            0 => first + 1,
            1 => 0,
            _ => first,
        };
        let version = if plain { 9 + 2 * self.out.below(2) } else { 12 };
        let attributes = if self.out.one_in(20) { 0 } else { 16 };
        // A later epoch outside a transaction makes Apache Kafka give the transaction's markers up, which then never ends.
        let epoch = if attributes == 0 { producer.replace("$p", "$e") } else { epoch };
        let id = if self.out.one_in(30) { "null".to_owned() } else { format!("\"{name}\"") };
        self.out.line(format!(
            r#"Produce {version} {{transactional_id={id}, acks=-1, timeout_ms=30000, topic_data=[{{name="t{topic}", partition_data=[{{index={partition}, records=batch{{pid={producer}, epoch={epoch}, seq={first}, count={count}, attributes={attributes}}}}}]}}]}}"#
        ));
    }

    fn offsets(&mut self, id: usize, plain: bool) {
        let (name, topic, (producer, epoch)) = (self.name(id), self.seed, self.identity(id));
        if plain {
            self.out.line(format!(
                r#"AddOffsetsToTxn 3 {{transactional_id="{name}", producer_id={producer}, producer_epoch={epoch}, group_id="{name}"}}"#
            ));
        }
        self.offset += 1;
        let (version, offset) = (if plain { 3 } else { 5 }, self.offset);
        self.out.line(format!(
            r#"TxnOffsetCommit {version} {{transactional_id="{name}", group_id="{name}", producer_id={producer}, producer_epoch={epoch}, topics=[{{name="t{topic}", partitions=[{{partition_index=0, committed_offset={offset}}}]}}]}}"#
        ));
    }

    fn end(&mut self, id: usize, plain: bool) {
        let (name, (producer, epoch)) = (self.name(id), self.identity(id));
        let (version, commit) = (if plain { 3 } else { 5 }, !self.out.one_in(3));
        let line = format!(
            r#"EndTxn {version} {{transactional_id="{name}", producer_id={producer}, producer_epoch={epoch}, committed={commit}}}"#
        );
        self.out.line(&line);
        self.out.line(AT_REST);
        if self.out.one_in(4) {
            self.out.line(line);
            self.out.line(AT_REST);
        } else if !plain && !self.out.one_in(8) {
            self.keep(id);
        }
    }

    /// A producer begins again with the id and epoch that it has.
    fn take_over(&mut self, id: usize) {
        let (name, (producer, epoch)) = (self.name(id), self.identity(id));
        self.out.line(format!(
            r#"InitProducerId 4 {{transactional_id="{name}", transaction_timeout_ms=900000, producer_id={producer}, producer_epoch={epoch}}}"#
        ));
        self.out.line(AT_REST);
        self.init(id);
    }

    fn delete_records(&mut self) {
        let (topic, partition) = (self.seed, self.out.below(PARTITIONS));
        let before = if self.out.one_in(3) { -1 } else { self.out.below(40) as i64 };
        self.out.line(format!(
            r#"DeleteRecords 2 {{timeout_ms=30000, topics=[{{name="t{topic}", partitions=[{{partition_index={partition}, offset={before}}}]}}]}}"#
        ));
    }

    fn look(&mut self, id: usize) {
        let (name, topic, partition) = (self.name(id), self.seed, self.out.below(PARTITIONS));
        let (isolation, time, from) = (self.out.below(2), self.out.pick(&[-1, -2]), self.out.pick(&[0, 0, 8, 20]));
        let line = match self.out.below(7) {
            0 => format!(r#"DescribeTransactions 0 {{transactional_ids=["{name}"]}}"#),
            1 => format!(r#"ListTransactions 2 {{transactional_id_pattern="t{topic}-.*"}}"#),
            2 => format!(r#"DescribeProducers 0 {{topics=[{{name="t{topic}", partition_indexes=[0, 1]}}]}}"#),
            3 => format!(
                r#"OffsetFetch 9 {{require_stable=true, groups=[{{group_id="{name}", topics=[{{name="t{topic}", partition_indexes=[0]}}]}}]}}"#
            ),
            4 => format!(
                r#"ListOffsets 7 {{replica_id=-1, isolation_level={isolation}, topics=[{{name="t{topic}", partitions=[{{partition_index={partition}, timestamp={time}}}]}}]}}"#
            ),
            5 => format!(
                r#"OffsetForLeaderEpoch 4 {{replica_id=-1, topics=[{{topic="t{topic}", partitions=[{{partition={partition}, current_leader_epoch=-1, leader_epoch=epoch("t{topic}", {partition}, 0)}}]}}]}}"#
            ),
            _ => format!(
                r#"Fetch 12 {{max_wait_ms=0, min_bytes=1, max_bytes=1000000, isolation_level={isolation}, topics=[{{topic="t{topic}", partitions=[{{partition={partition}, fetch_offset={from}, partition_max_bytes=1000000}}]}}]}}"#
            ),
        };
        self.out.line(line);
    }
}

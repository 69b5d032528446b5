//! Seeded random series of a few members of a share group on one partition: they come and go, fetch, and say of their own records and
//! of others' what they like, locks run out, and what is stored is looked at in between. A series is a script, as in random.rs. Nobody
//! deletes records: Kafka finds that out by a fetch, which it answers with nothing, Corelane before.

use crate::script::Script;
use crate::written::Written;

const MEMBERS: usize = 3;
/// Accept, release, reject, and gaps and renewals, which come less often.
const TYPES: [i64; 10] = [1, 1, 1, 2, 2, 2, 3, 3, 0, 4];
/// Locks that last as long as a series, and ones that end while it waits.
const LONG_LOCK_MS: i64 = 60_000;
const SHORT_LOCK_MS: i64 = 4_000;
const WAIT_MS: i64 = 6_000;
/// Of locks that end while the end of others is being stored, what is stored has the start offset from before. They do not.
const APART_MS: i64 = 500;
/// What the end of a session gives back is free soon after it is answered.
const GIVEN_BACK_MS: i64 = 1_000;
/// A first fetch finds the partition loaded in that time.
const LOAD_MS: i64 = 3_000;

struct Series {
    out: Written,
    seed: u64,
    /// The epoch that a member's session expects; 0: it has none.
    epochs: [i64; MEMBERS],
    /// Records that there are.
    end: usize,
}

/// `count` steps, the same for the same seed.
pub fn script(seed: u64, count: usize) -> (Script, String) {
    let mut series = Series { out: Written::new("share group", seed), seed, epochs: [0; MEMBERS], end: 0 };
    let name = series.name();
    series.out.line(format!(
        r#"CreateTopics 7 {{topics=[{{name="{name}", num_partitions=1, replication_factor=1}}], timeout_ms=10000}}"#
    ));
    for (kind, key) in [(2, "g:AAAAAAAAAAAAAAAAAAAAAQ:0"), (0, "g")] {
        series.out.line(format!(
            r#"until FindCoordinator 6 {{key_type={kind}, coordinator_keys=["{key}"]}} :: coordinators[0].error_code = 0"#
        ));
    }
    let (attempts, most) = (2 + series.out.below(4), series.out.pick(&[100, 100, 2000]));
    series.set("share.delivery.count.limit", attempts);
    series.set("share.partition.max.record.locks", most);
    series.set("share.record.lock.duration.ms", LONG_LOCK_MS);
    series.set("share.auto.offset.reset", "earliest");
    series.produce();
    // The first one has the states of the group made.
    series.join(0);
    series.out.line(format!(
        r#"ShareFetch 2 {{group_id="{name}", member_id="m0", share_session_epoch=0, max_wait_ms={LOAD_MS}, min_bytes=1, max_bytes=1000000, max_records=1, batch_size=1, topics=[{{topic_id=id("{name}"), partitions=[{{partition_index=0}}]}}]}}"#
    ));
    series.epochs[0] = 1;
    for _ in 0..count {
        series.step();
    }
    series.look();
    // Whoever is still there would go when its session runs out, which either broker finds at some time of its own.
    (0..MEMBERS).for_each(|member| series.part(member));
    series.out.done(&format!("shares-{seed}.txt"))
}

impl Series {
    /// Of the topic and of the group.
    fn name(&self) -> String {
        format!("s{}", self.seed)
    }

    fn set(&mut self, property: &str, value: impl std::fmt::Display) {
        let name = self.name();
        self.out.line(format!(
            r#"IncrementalAlterConfigs last {{resources=[{{resource_type=32, resource_name="{name}", configs=[{{name="{property}", config_operation=0, value="{value}"}}]}}]}}"#
        ));
    }

    fn step(&mut self) {
        let member = self.out.below(MEMBERS);
        match self.out.below(63) {
            0..=9 => self.produce(),
            10..=31 => self.fetch(member),
            32..=53 => self.acknowledge(member),
            54..=58 => self.look(),
            59 => self.join(member),
            60 => self.part(member),
            61 => self.close(member),
            _ => self.let_locks_end(),
        }
    }

    fn produce(&mut self) {
        let most = if self.out.one_in(8) { 60 } else { 12 };
        let (name, count) = (self.name(), 1 + self.out.below(most));
        self.end += count;
        self.out.line(format!(
            r#"Produce 9 {{acks=-1, timeout_ms=30000, topic_data=[{{name="{name}", partition_data=[{{index=0, records=batch{{count={count}}}}}]}}]}}"#
        ));
    }

    /// In the group; what a member may fetch does not depend on that.
    fn join(&mut self, member: usize) {
        let name = self.name();
        self.out.line(format!(
            r#"until ShareGroupHeartbeat 1 {{group_id="{name}", member_id="m{member}", member_epoch=0, subscribed_topic_names=["{name}"]}} :: assignment.topic_partitions[0].partitions[0] = 0"#
        ));
    }

    fn part(&mut self, member: usize) {
        let name = self.name();
        self.out.line(format!(
            r#"ShareGroupHeartbeat 1 {{group_id="{name}", member_id="m{member}", member_epoch=-1, subscribed_topic_names=null}}"#
        ));
    }

    /// Ends a member's session: what it has is given back.
    fn close(&mut self, member: usize) {
        let (name, runs) = (self.name(), if self.out.one_in(2) { self.runs(&TYPES) } else { String::new() });
        self.epochs[member] = 0;
        self.out.line(format!(
            r#"ShareAcknowledge 2 {{group_id="{name}", member_id="m{member}", share_session_epoch=-1, topics=[{{topic_id=id("{name}"), partitions=[{{partition_index=0, acknowledgement_batches=[{runs}]}}]}}]}}"#
        ));
        self.wait(GIVEN_BACK_MS);
    }

    /// At the end of the log, where nothing comes.
    fn wait(&mut self, ms: i64) {
        let (name, end) = (self.name(), self.end);
        self.out.line(format!(
            r#"Fetch 12 {{replica_id=-1, max_wait_ms={ms}, min_bytes=1, max_bytes=1000, topics=[{{topic="{name}", partitions=[{{partition=0, fetch_offset={end}, partition_max_bytes=1000}}]}}]}}"#
        ));
    }

    /// What is lent meanwhile is free afterwards, unless somebody says otherwise in time.
    fn let_locks_end(&mut self) {
        self.set("share.record.lock.duration.ms", SHORT_LOCK_MS);
        for _ in 0..1 + self.out.below(3) {
            let member = self.out.below(MEMBERS);
            if self.out.one_in(3) {
                self.acknowledge(member)
            } else {
                self.fetch(member)
            }
            self.wait(APART_MS);
        }
        self.wait(WAIT_MS);
        self.set("share.record.lock.duration.ms", LONG_LOCK_MS);
    }

    /// The epoch that a request names: the right one, as a rule; then the session goes on.
    fn epoch(&mut self, member: usize) -> i64 {
        let epoch = self.epochs[member];
        match self.out.below(25) {
            0 => epoch + 1,
            1 if epoch > 1 => epoch - 1,
            _ => {
                self.epochs[member] += 1;
                epoch
            }
        }
    }

    /// One to three runs of offsets, as a rule in their order.
    fn runs(&mut self, kinds: &[i64]) -> String {
        let mut from = self.out.below(self.end.max(1));
        let mut runs = Vec::new();
        for _ in 0..1 + self.out.below(3) {
            let count = 1 + self.out.below(6);
            let types = if self.out.one_in(3) { count } else { 1 };
            let types: Vec<String> = (0..types).map(|_| self.out.pick(kinds).to_string()).collect();
            let (last, types) = (from + count - 1, types.join(", "));
            runs.push(format!("{{first_offset={from}, last_offset={last}, acknowledge_types=[{types}]}}"));
            from = if self.out.one_in(20) { from.saturating_sub(2) } else { last + 1 + self.out.below(3) };
        }
        runs.join(", ")
    }

    /// What is given back with a fetch may come with the same fetch or with the next one: only what is done with goes along.
    fn fetch(&mut self, member: usize) {
        let name = self.name();
        let opens = self.epochs[member] == 0 || self.out.one_in(30);
        if opens {
            self.epochs[member] = 0;
        }
        // Where nobody has a session any more, the partition is to be loaded again, which takes either broker its time.
        let wait = if self.epochs.iter().all(|epoch| *epoch == 0) { LOAD_MS } else { 0 };
        let runs = if !opens && self.out.one_in(3) { self.runs(&[1, 1, 3, 0]) } else { String::new() };
        let epoch = if opens { 0 } else { self.epoch(member) };
        if opens {
            self.epochs[member] = 1;
        }
        let (version, records, batch) = (1 + self.out.below(2), 1 + self.out.below(15), 1 + self.out.below(15));
        let mode = if version == 2 && self.out.one_in(2) { ", share_acquire_mode=1" } else { "" };
        self.out.line(format!(
            r#"ShareFetch {version} {{group_id="{name}", member_id="m{member}", share_session_epoch={epoch}, max_wait_ms={wait}, min_bytes=1, max_bytes=1000000, max_records={records}, batch_size={batch}{mode}, topics=[{{topic_id=id("{name}"), partitions=[{{partition_index=0, acknowledgement_batches=[{runs}]}}]}}]}}"#
        ));
    }

    fn acknowledge(&mut self, member: usize) {
        if self.epochs[member] == 0 {
            return self.fetch(member);
        }
        let (name, runs, epoch) = (self.name(), self.runs(&TYPES), self.epoch(member));
        let version = 1 + self.out.below(2);
        let renews = if version == 2 && self.out.one_in(3) { ", is_renew_ack=true" } else { "" };
        self.out.line(format!(
            r#"ShareAcknowledge {version} {{group_id="{name}", member_id="m{member}", share_session_epoch={epoch}{renews}, topics=[{{topic_id=id("{name}"), partitions=[{{partition_index=0, acknowledgement_batches=[{runs}]}}]}}]}}"#
        ));
    }

    fn look(&mut self) {
        let name = self.name();
        let line = match self.out.below(2) {
            0 => format!(
                r#"ReadShareGroupState 0 {{group_id="{name}", topics=[{{topic_id=id("{name}"), partitions=[{{partition=0, leader_epoch=-1}}]}}]}}"#
            ),
            _ => format!(
                r#"ReadShareGroupStateSummary 1 {{group_id="{name}", topics=[{{topic_id=id("{name}"), partitions=[{{partition=0, leader_epoch=-1}}]}}]}}"#
            ),
        };
        self.out.line(line);
    }
}

//! kafka-transactions, on transactions of kafka-producer-perf-test.

use crate::both::on_both;
use crate::topics::create;
use corelane_tests::wait;
use std::time::Duration;

const TRANSACTIONS: &str = "org.apache.kafka.tools.TransactionsCommand";
const PERFORMANCE: &str = "org.apache.kafka.tools.ProducerPerformance";

/// Columns that differ by nature: ids and times.
fn columns(text: &str, keep: &[usize]) -> String {
    let line = |line: &str| {
        let words: Vec<&str> = line.split('\t').collect();
        keep.iter().filter_map(|at| words.get(*at).copied()).collect::<Vec<_>>().join(" ")
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn kafka_transactions() {
    on_both(|side| {
        create(side, "transacted", "1");
        let load = ["--topic", "transacted", "--num-records", "200", "--record-size", "10", "--throughput", "-1"];
        let transactional = ["--transactional-id", "tools-txn", "--transaction-duration-ms", "20"];
        side.unseen(PERFORMANCE, &[&load[..], &transactional].concat(), "").ok();
        let transactions = |arguments: &[&str]| side.unseen(TRANSACTIONS, arguments, "");
        // the last commit is answered before its markers are written
        wait::until("the end of the last transaction", Duration::from_secs(30), || {
            transactions(&["list"]).ok().contains("CompleteCommit").then_some(())
        });
        side.note(&columns(&transactions(&["list"]).ok(), &[0, 1, 3]));
        side.note(&columns(&transactions(&["list", "--transactional-id-pattern", "tools-.*"]).ok(), &[0, 1, 3]));
        side.note(&columns(&transactions(&["list", "--transactional-id-pattern", "other"]).ok(), &[0, 1, 3]));
        side.note(&transactions(&["describe", "--transactional-id", "tools-txn"]).ok().split('\t').count().to_string());
        let missing = transactions(&["describe", "--transactional-id", "tools-none"]);
        side.note(&format!("{} {}", missing.status, missing.stderr.lines().next().unwrap_or_default()));
        let producers = transactions(&["describe-producers", "--topic", "transacted", "--partition", "0"]).ok();
        // one producer, whose transactions have ended
        side.note(&columns(&producers, &[5]));
        side.note(&transactions(&["find-hanging", "--broker-id", "1"]).ok());
        side.note(&transactions(&["find-hanging", "--topic", "transacted", "--partition", "0"]).ok());
        let nothing = ["abort", "--topic", "transacted", "--partition", "0", "--start-offset", "0"];
        let refused = transactions(&nothing);
        side.note(&format!("{} {}", refused.status, refused.stderr.lines().next().unwrap_or_default()));
    });
}

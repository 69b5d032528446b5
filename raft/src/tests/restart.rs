use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use super::*;

/// One life of a process: a shard of its own, whose tasks end with it.
fn life(dir: &TempDir, main: impl AsyncFnOnce(Shard)) {
    run_local(async || main(Shard::start_at(dir.path(), options()).await).await);
}

#[test]
fn a_clean_restart_keeps_the_term() {
    let dir = TempDir::new().unwrap();
    for round in 0..3 {
        life(&dir, async |shard| {
            let group = shard.open(0).await;
            assert_eq!(group.leadership().term, Term(1));
            assert_eq!(group.high_watermark(), Offset(round));
            let index = RaftIndex(round as u64 + 1);
            assert_eq!(Producer::new(&group).write().await.unwrap(), LogId::new(Term(1), index));
            shard.close().await;
        });
    }
}

#[test]
fn after_an_unclean_stop_the_term_is_one_up_from_the_start() {
    for hot in [false, true] {
        let dir = TempDir::new().unwrap();
        for round in 0..4 {
            life(&dir, async |shard| {
                let group = shard.open(0).await;
                let term = Term(1 + round);
                assert_eq!(group.leadership().term, term);
                assert_eq!(group.high_watermark(), Offset(2 * round as i64));
                let before = group.log().last_log_id().unwrap().index;
                if hot {
                    group.wake().await.unwrap();
                }
                // openraft's blank entry of a new term comes first, and takes no offset.
                let skip = if round == 0 || !hot { 1 } else { 2 };
                let producer = Producer::new(&group);
                assert_eq!(producer.write().await.unwrap(), LogId::new(term, before + skip));
                assert_eq!((group.leadership().term, group.log().vote().unwrap().term), (term, term));
                assert_eq!(group.high_watermark(), Offset(2 * round as i64 + 1));
                // A drop in the same process keeps it.
                group.0.drop_instance().await;
                assert_eq!(producer.write().await.unwrap(), LogId::new(term, before + skip + 1));
                shard.stop().await;
            });
        }
    }
}

#[test]
fn a_partition_made_after_an_unclean_stop_begins_at_term_1() {
    let dir = TempDir::new().unwrap();
    life(&dir, async |shard| {
        Producer::new(&shard.open(0).await).write().await.unwrap();
        shard.stop().await;
    });
    life(&dir, async |shard| {
        let new = shard.open(1).await;
        assert_eq!(Producer::new(&new).write().await.unwrap(), LogId::new(Term(1), RaftIndex(1)));
        shard.close().await;
    });
}

#[test]
fn a_term_that_was_never_used_is_named_again() {
    let dir = TempDir::new().unwrap();
    life(&dir, async |shard| {
        Producer::new(&shard.open(0).await).write().await.unwrap();
        shard.stop().await;
    });
    for _ in 0..2 {
        life(&dir, async |shard| {
            let group = shard.open(0).await;
            assert_eq!((group.leadership().term, group.log().vote().unwrap().term), (Term(2), Term(1)));
            shard.stop().await;
        });
    }
}

const CHILD_DIR: &str = "CORELANE_RAFT_TEST_DIR";

/// Not a test of its own: what `acknowledged_writes_survive_kill` kills.
#[test]
#[ignore = "run by acknowledged_writes_survive_kill"]
fn child_that_writes_until_killed() {
    let Ok(dir) = std::env::var(CHILD_DIR) else { return };
    run_local(async || {
        let shard = Shard::start_at(Path::new(&dir), options()).await;
        let group = shard.open(0).await;
        let producer = Producer::new(&group);
        let mut window = std::collections::VecDeque::new();
        loop {
            while window.len() < 32 {
                let base = group.next_offset();
                window.push_back((base, producer.propose().unwrap()));
            }
            let (base, proposal) = window.pop_front().unwrap();
            proposal.applied().await.unwrap();
            println!("acknowledged {base}");
        }
    });
}

#[test]
fn acknowledged_writes_survive_kill() {
    let dir = TempDir::new().unwrap();
    let mut acknowledged = 0;
    for round in 0..3u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "tests::restart::child_that_writes_until_killed", "--ignored", "--nocapture"])
            .env(CHILD_DIR, dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let wanted = acknowledged + 2000;
        while acknowledged < wanted {
            let line = lines.next().expect("the child goes on").unwrap();
            if let Some(offset) = line.split("acknowledged ").nth(1) {
                acknowledged = offset.parse::<i64>().unwrap();
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        for line in lines.map_while(Result::ok) {
            // What it printed before it died counts too; the last line may be cut off.
            let offset = line.split("acknowledged ").nth(1).and_then(|o| o.parse::<i64>().ok());
            acknowledged = acknowledged.max(offset.filter(|o| *o < acknowledged + 1000).unwrap_or(0));
        }
        life(&dir, async |shard| {
            let group = shard.open(0).await;
            // The child led in the term before.
            assert_eq!(group.leadership().term, Term(round + 2));
            assert!(group.high_watermark() > Offset(acknowledged), "{acknowledged} was acknowledged");
            check_records(group.log()).await;
            shard.stop().await;
        });
    }
}

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::*;

/// Writers, drops, wakes, purges and retention all at once, over fewer places than groups: every write is acknowledged
/// in its place, and the logs hold what was written.
#[test]
fn whatever_happens_in_between_the_logs_are_whole() {
    for seed in 0..4 {
        println!("seed {seed}");
        let dir = TempDir::new().unwrap();
        run_local(async || {
            let options = GroupsOptions { hot_max: 3, quiet_after: Duration::from_millis(20), ..options() };
            let shard = Shard::start_at(dir.path(), options).await;
            let config = LogConfig { segment_bytes: 32 << 10, retention_bytes: 64 << 10, ..LogConfig::default() };
            let mut groups = vec![];
            for partition in 0..5 {
                groups.push(shard.groups.open(shard.log_with(partition, config.clone()).await).unwrap());
            }
            let writing = Rc::new(Cell::new(groups.len()));
            let mut tasks = vec![];
            for (g, group) in groups.iter().enumerate() {
                tasks.push(task::spawn_here(
                    "writer",
                    write_in_bursts(group.clone(), seed * 100 + g as u64, writing.clone()),
                ));
                tasks.push(task::spawn_here("meddler", meddle(group.clone(), seed * 200 + g as u64, writing.clone())));
            }
            join_all(tasks).await;
            for group in &groups {
                assert_eq!(group.high_watermark(), group.next_offset());
                assert!(group.log().purged() > Some(LogId::new(Term(1), RaftIndex(1))));
                check_records(group.log()).await;
            }
            shard.close().await;
        });
    }
}

async fn write_in_bursts(group: Group, seed: u64, writing: Rc<Cell<usize>>) {
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut index = 0;
    for _ in 0..40 {
        let burst: Vec<_> = (0..rng.random_range(1..60))
            .map(|_| {
                let base = group.next_offset();
                group.propose(batch_of(Term(1), base, rng.random_range(1..500)), base, base).unwrap()
            })
            .collect();
        for proposal in burst {
            index += 1;
            assert_eq!(proposal.applied().await.unwrap(), LogId::new(Term(1), RaftIndex(index)));
        }
        pause(&mut rng).await;
    }
    writing.set(writing.get() - 1);
}

async fn meddle(group: Group, seed: u64, writing: Rc<Cell<usize>>) {
    let mut rng = SmallRng::seed_from_u64(seed);
    while writing.get() > 0 {
        match rng.random_range(0..4) {
            0 if group.0.droppable() => group.0.drop_instance().await,
            1 => group.wake().await.unwrap(),
            2 => {
                let upto = group.log().applied().unwrap().index.0.saturating_sub(rng.random_range(0..50));
                let purged = group.purge(RaftIndex(upto)).await.unwrap();
                assert!(purged.is_none_or(|id| id <= group.log().applied().unwrap()));
            }
            _ => drop(group.log().apply_retention(time::wall_ms()).await.unwrap()),
        }
        pause(&mut rng).await;
    }
}

async fn pause(rng: &mut SmallRng) {
    match rng.random_range(0..4) {
        0 => time::sleep(Duration::from_micros(rng.random_range(1..30_000))).await,
        1 => task::yield_now().await,
        _ => {}
    }
}

//! What a shard promises, tested on whichever runtime this is built for: the real one, or with `--cfg sim` the simulated one.
//! There each test runs with several seeds (`CORELANE_SIM_SEED` for one).

mod disk;
mod mesh;
mod net;
mod tasks;

use std::future::Future;
use std::path::{Path, PathBuf};

/// Runs a test on a shard, with an empty directory.
#[cfg(not(sim))]
fn on_shard<F: Future<Output = ()>>(test: impl Fn(PathBuf) -> F) {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    core_pinning::run_local(async || test(dir.path().to_owned()).await);
}

#[cfg(sim)]
fn on_shard<F: Future<Output = ()>>(test: impl Fn(PathBuf) -> F) {
    use core_pinning::{disk::fs, sim};
    let seeds = match std::env::var(sim::SEED_VARIABLE) {
        Ok(_) => sim::seed_or(0)..sim::seed_or(0) + 1,
        Err(_) => 0..20,
    };
    for seed in seeds {
        println!("seed {seed}");
        let ended = sim::Sim::new(seed).run(async || {
            fs::create_dir(Path::new("/test")).await.unwrap();
            test("/test".into()).await
        });
        assert_eq!(ended, Some(()));
    }
}

fn pattern(n: usize, seed: usize) -> Vec<u8> {
    (0..n).map(|i| (i * 31 + seed) as u8).collect()
}

fn at(dir: &Path, name: &str) -> PathBuf {
    dir.join(name)
}

//! All that follows from one seed.

use std::path::Path;
use std::time::Duration;

use core_pinning::ShardId;
use core_pinning::sim::{FaultCounts, Faults, Rng, Sim};
use corelane_storage::{LogConfig, StoreOptions};

use super::life::{Ending, Life};
use super::model::Model;
use super::shards::Homes;

pub struct Run {
    /// The same for two runs only if they did the same.
    pub trace: u64,
    pub counts: FaultCounts,
}

/// What may go wrong besides crashes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trouble {
    None,
    /// Slow operations, short reads and writes.
    Slow,
    /// Operations that fail.
    Errors,
    /// A disk that fills.
    Full,
    /// Bits of segments read wrong.
    Flips,
}

/// Mostly few, so that much happens to each; now and then so many that they are made durable together.
const PARTITIONS: u64 = 3;
const MANY_PARTITIONS: u64 = 80;

/// What only some seeds are about. By itself: a seed without it tells the story that it told before there was such a thing here.
#[derive(Clone, Copy, Default, Debug)]
pub struct Story {
    pub transacts: bool,
    /// Each start has another number of shards, and partitions move between them.
    pub moves: bool,
}

impl Story {
    pub fn of(seed: u64) -> Story {
        Story { transacts: Rng::new(seed ^ 0x7a45).one_in(2), moves: Rng::new(seed ^ 0x5a4d).one_in(3) }
    }

    /// For each life in turn, where its partitions are.
    pub fn homes(self, seed: u64) -> impl FnMut() -> Homes {
        let mut rng = Rng::new(seed ^ 0x40e5);
        let first = rng.u64();
        move || if self.moves { Homes::of_life(&mut rng, first) } else { Homes::ONE }
    }
}

/// Panics where the store breaks a promise.
pub fn run(seed: u64, verbose: bool) -> Run {
    run_with(seed, Story::of(seed), verbose)
}

pub fn run_with(seed: u64, story: Story, verbose: bool) -> Run {
    let mut homes = story.homes(seed);
    let sim = Sim::new(seed);
    let mut rng = Rng::new(seed ^ 0x5eed);
    if verbose && std::env::var_os("CORELANE_SIM_TELL").is_some() {
        sim.tell();
    }
    let trouble = match rng.below(20) {
        0..11 => Trouble::None,
        11..14 => Trouble::Slow,
        14..16 => Trouble::Errors,
        16..18 => Trouble::Full,
        _ => Trouble::Flips,
    };
    let config = log_config(&mut rng);
    // What was read wrong may have been written again, and is found to be damaged from then on.
    let mut flipped = false;
    let many = rng.one_in(60);
    let partitions = if many { MANY_PARTITIONS } else { PARTITIONS };
    let compacts = trouble != Trouble::Flips && rng.one_in(2);
    let mut models: Vec<Model> = (0..partitions).map(|_| Model::default()).collect();
    for n in 0..rng.between(2, 5) {
        let options = options(&mut rng);
        let clean_disk = n == 0 || trouble == Trouble::None || rng.one_in(3);
        let trouble = if clean_disk { Trouble::None } else { trouble };
        flipped |= trouble == Trouble::Flips;
        let life = Life {
            sim: sim.clone(),
            options,
            homes: homes(),
            config: config.clone(),
            compacts,
            transacts: story.transacts,
            steps: if many { rng.between(100, 500) } else { rng.between(5, 120) },
            faults: faults(trouble, &mut rng),
            trouble,
            flipped,
            verbose,
        };
        // A fifth of the lives ends in order. Crashes come early too, so that recovery meets them.
        let ends = !rng.one_in(5);
        if ends {
            let upto = rng.pick(&[30, 200, 1500]) * if many { 5 } else { 1 };
            sim.lose_after(rng.between(1, upto));
        }
        let capacity = if trouble == Trouble::Full { sim.used() + rng.between(20_000, 2_000_000) } else { 1 << 40 };
        sim.set_capacity(capacity);
        let ending = life.run(&mut models, rng.fork());
        sim.set_faults(Faults::default());
        let power = ending != Ending::Closed && rng.one_in(2) || rng.one_in(4);
        if power {
            sim.cut_power();
        }
        if verbose {
            let power = if power { ", power cut" } else { "" };
            println!("life {n}: {:?}, {trouble:?}, {ending:?}{power}", life.homes);
        }
    }
    // At the end all is well with the disk, and everything is looked at once more.
    sim.set_capacity(1 << 40);
    let last = Life {
        sim: sim.clone(),
        options: options(&mut rng),
        homes: homes(),
        config,
        compacts,
        transacts: story.transacts,
        steps: 0,
        faults: Faults::default(),
        trouble: Trouble::None,
        flipped,
        verbose,
    };
    assert!(last.run(&mut models, rng.fork()) == Ending::Closed || flipped);
    sim.empty_disk();
    Run { trace: sim.trace(), counts: sim.counts() }
}

pub fn log_config(rng: &mut Rng) -> LogConfig {
    LogConfig {
        segment_bytes: rng.between(20_000, 200_000) as u32,
        index_interval_bytes: rng.between(100, 5000) as u32,
        file_delete_delay_ms: rng.pick(&[0, 0, 50]),
        ..LogConfig::default()
    }
}

pub fn options(rng: &mut Rng) -> StoreOptions {
    let file_kib = rng.pick(&[64, 128, 256]);
    StoreOptions {
        journal_file_bytes: file_kib << 10,
        journal_files_max: rng.between(2, 5) as usize,
        bypass_bytes: rng.pick(&[4 << 10, 32 << 10, 32 << 10]),
        journal_write_bytes: rng.pick(&[12 << 10, 24 << 10]),
        chunk_bytes_max: rng.pick(&[16 << 10, 64 << 10]),
        open_files_max: rng.between(1, 4) as usize,
        index_budget: rng.pick(&[0, 1 << 20]),
        idle: Duration::from_millis(rng.between(1, 100)),
        ..StoreOptions::new(Path::new("/"), ShardId(0), rng.pick(&[150_000, 4 << 20]), rng.pick(&[0, 50_000, 2 << 20]))
    }
}

pub fn faults(trouble: Trouble, rng: &mut Rng) -> Faults {
    let often = rng.pick(&[300, 3_000, 30_000]);
    match trouble {
        Trouble::None | Trouble::Full => Faults::default(),
        Trouble::Slow => Faults { short: 200_000, slow: often, ..Faults::default() },
        Trouble::Errors => Faults {
            read_error: often,
            write_error: often,
            sync_error: often,
            name_error: often,
            short: often,
            ..Faults::default()
        },
        Trouble::Flips => Faults { bit_flip: 300_000, flips_in: ".log".into(), ..Faults::default() },
    }
}

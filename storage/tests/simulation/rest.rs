//! Damage at rest: between two runs bytes of files that had been flushed change. Whatever was acknowledged is then read back
//! exactly, or it is told that it is not there: the start is refused, or the partition is fenced. An offline check says so too,
//! with the place that the start names; and what it says the start says, but of what stands before a log's start. What is made
//! from other files is made again. When the damage is undone all is as if it had never been: nothing was thrown away because
//! of it.

use std::path::{Path, PathBuf};

use core_pinning::disk::fs;
use core_pinning::sim::{Faults, Rng, Sim};
use corelane_storage::model::PartitionKey;
use corelane_storage::record::BatchHeader;
use corelane_storage::{Finding, Log, Severity, StorageError, Store, StoreOptions, check_data_dir};

use super::contents::compare;
use super::life::{Ending, Life, fits, short};
use super::model::{Model, State};
use super::seed::{self, Run, Story, Trouble};
use super::{common, image, shards};

/// What was done to a file.
struct Hurt {
    path: PathBuf,
    how: How,
    before: Vec<u8>,
    after: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum How {
    /// One bit is another.
    Flip,
    /// A sector is gone: zeros.
    Sector,
    /// A sector holds what some other place of the disk holds.
    Misplaced,
    /// More than a sector is gone.
    Zeros,
    /// The file has lost its end.
    Cut,
    /// There is no such file any more.
    Gone,
}

const SECTOR: usize = 512;

/// The kinds of files, by how their paths end or where they are; a file is damaged of each kind as often.
const KINDS: [(&str, bool); 12] = [
    (".log", false),
    (".idx", true),
    ("/indexes", true),
    (".snap", true),
    ("/cleaner", true),
    ("/state", false),
    (".jnl", false),
    ("/ledger/", false),
    ("/replayed", false),
    (".txnindex", true),
    (".swap", false),
    // That it is there says all.
    ("/unclean", true),
];
/// Without the last ones a seed tells the story that it told before they were there.
const FIRST_KINDS: usize = 9;

fn is_of(path: &Path, kind: &str) -> bool {
    let path = path.to_string_lossy();
    path.ends_with(kind) || kind.ends_with('/') && path.contains(kind)
}

impl Hurt {
    /// What it holds is in other files too.
    fn is_rebuilt(&self) -> bool {
        KINDS.iter().any(|(kind, rebuilt)| *rebuilt && is_of(&self.path, kind))
    }

    fn is_of(&self, kind: &str) -> bool {
        is_of(&self.path, kind)
    }

    fn is_of_partition(&self, n: usize) -> bool {
        self.path.to_string_lossy().contains(&format!("/data/t-{n}."))
    }

    fn describe(&self) -> String {
        let at = self.before.iter().zip(&self.after).position(|(b, a)| b != a).unwrap_or(self.after.len());
        format!("{:?} of {} at {at} of {}", self.how, self.path.display(), self.before.len())
    }
}

/// Damages some file.
fn hurt(sim: &Sim, rng: &mut Rng, kinds: &[(&'static str, bool)]) -> Option<Hurt> {
    let files = sim.files();
    let of =
        |kind: &str| files.iter().filter(|(path, bytes)| !bytes.is_empty() && is_of(path, kind)).collect::<Vec<_>>();
    let kinds: Vec<&str> = kinds.iter().map(|(kind, _)| *kind).filter(|kind| !of(kind).is_empty()).collect();
    if kinds.is_empty() {
        return None;
    }
    let kind = rng.pick(&kinds);
    let (path, before) = rng.pick(&of(kind));
    // What follows the last byte that is not zero is room.
    let used = before.iter().rposition(|byte| *byte != 0).map_or(1, |last| last + 1);
    let at = rng.below(used as u64) as usize;
    let sector = at / SECTOR * SECTOR..(at / SECTOR * SECTOR + SECTOR).min(before.len());
    let mut after = before.clone();
    let others: Vec<&Vec<u8>> = files.values().filter(|other| other.len() >= SECTOR).collect();
    let how = match rng.below(10) {
        _ if kind == ".txnindex" && rng.one_in(3) => How::Gone,
        0..5 => How::Flip,
        5..7 => How::Sector,
        7 if !others.is_empty() => How::Misplaced,
        7 => How::Flip,
        8 => How::Zeros,
        _ => How::Cut,
    };
    match how {
        How::Flip => after[at] ^= 1 << rng.below(8),
        How::Sector => after[sector].fill(0),
        How::Misplaced => {
            let other = rng.pick(&others);
            let from = rng.below((other.len() / SECTOR) as u64) as usize * SECTOR;
            let len = sector.len();
            after[sector].copy_from_slice(&other[from..from + len]);
        }
        How::Zeros => {
            let end = (at + rng.between(SECTOR as u64, 16 << 10) as usize).min(before.len());
            after[at..end].fill(0);
        }
        How::Cut => after.truncate(at),
        How::Gone => after.clear(),
    }
    let hurt = Hurt { path: path.clone(), how, before: before.clone(), after };
    (hurt.before != hurt.after).then_some(hurt)
}

/// What came of a start on what was damaged.
enum Start {
    Refused(StorageError),
    /// What each partition is fenced for.
    Open(Vec<Option<StorageError>>),
}

struct Damaged<'a> {
    life: &'a Life,
    hurts: &'a [Hurt],
    closes: bool,
}

impl Damaged<'_> {
    fn run(&self, models: &mut [Model]) -> Start {
        self.life.sim.set_faults(Faults::default());
        let started = self.life.sim.run(async || self.start(models).await);
        started.expect("nothing takes the process away").unwrap_or_else(Start::Refused)
    }

    async fn start(&self, models: &mut [Model]) -> Result<Start, StorageError> {
        let homes = self.life.homes;
        let stores = homes.open(&self.life.options).await?;
        let mut fenced = Vec::new();
        for (n, model) in models.iter_mut().enumerate() {
            let looked = self.look(&stores[homes.of(n)], n, model).await;
            if let Err(error) = &looked {
                let told = matches!(error, StorageError::Corrupt { .. } | StorageError::NotFound(_));
                assert!(told, "partition {n}: {error}");
            }
            fenced.push(looked.err());
        }
        homes.settle(&stores, |n| fenced[n].is_some() || models[n].now.is_some()).await?;
        if self.closes {
            shards::close(&stores).await.expect("a fenced partition keeps nobody from closing");
        }
        Ok(Start::Open(fenced))
    }

    fn has_hurt(&self, kind: &str) -> bool {
        self.hurts.iter().any(|hurt| hurt.is_of(kind))
    }

    /// States that the partition may be in.
    fn states(&self, model: &Model) -> Vec<Option<State>> {
        let journals: Vec<&Hurt> = self.hurts.iter().filter(|hurt| hurt.is_of(".jnl")).collect();
        match journals[..] {
            [] => model.survivors(),
            // Of the last writes nobody knows that they were durable.
            [one] if matches!(one.how, How::Flip | How::Cut) => model.survivors_proved(),
            // Nor where those are gone that know it of the ones before.
            _ => model.all_states(),
        }
    }

    async fn look(&self, store: &Store, n: usize, model: &mut Model) -> Result<(), StorageError> {
        let (spec, states) = (self.life.spec(n), self.states(model));
        let mut log: Option<Log> = None;
        if states.iter().all(Option::is_some) {
            log = Some(store.load_or_create(spec, common::first()).await?);
        } else if self.has_hurt(".jnl") || fs::is_there(&store.partition_dir(&spec.topic, spec.key)) {
            // It may be gone. Whatever is left of it is asked for, with a state file or without: a start moves a damaged one aside.
            // And what only a journal knew of that is damaged: a ledger may know that it was created.
            log = match store.load(spec).await {
                Err(StorageError::NotFound(_)) => None,
                loaded => Some(loaded?),
            };
        }
        let found = states.iter().find(|state| match (&log, state) {
            (None, None) => true,
            (Some(log), Some(state)) => fits(log, state),
            _ => false,
        });
        let Some(found) = found else {
            let shown = log.as_ref().map(|l| (l.last_log_id(), l.vote(), l.bounds()));
            let states: Vec<_> = states.iter().map(short).collect();
            panic!("partition {n} is {shown:?}, but may only be one of {states:?}");
        };
        let mut found = found.clone();
        let Some((log, state)) = log.zip(found.as_mut()) else {
            if model.survivors().iter().all(Option::is_some) {
                // That it had been created was in the last writes.
                return Err(StorageError::NotFound(self.life.spec(n).key));
            }
            model.restart(found);
            return Ok(());
        };
        let limit = model.highest_start(&states);
        state.log_start = log.bounds().log_start;
        assert!(state.log_start <= limit, "log start {}, but never more than {limit}", state.log_start);
        if let Err(error) = compare(&log, state, model.compacted_to, false).await {
            assert!(log.fenced().is_some(), "partition {n} is not fenced: {error}");
            return Err(error);
        }
        model.restart(found);
        Ok(())
    }
}

/// What an offline check finds damaged, and what of it a start makes again.
fn check(sim: &Sim) -> (Vec<Finding>, Vec<Finding>) {
    let root = image::write(sim);
    let mut found = Vec::new();
    check_data_dir(root.path(), &mut |finding| found.push(finding)).expect("a data directory");
    found.retain(|finding| finding.severity != Severity::Note);
    found.into_iter().partition(|finding| finding.severity == Severity::Damage)
}

/// Panics where an offline check finds something wrong. What is made again may be damaged after a loss of power (it is never synced),
/// and where it has been damaged before.
fn check_sound(sim: &Sim, may_rebuild: bool) {
    let (damaged, rebuilt) = check(sim);
    assert_eq!(damaged, [], "an offline check of what is not damaged");
    assert!(may_rebuild || rebuilt.is_empty(), "an offline check of what is not damaged: {rebuilt:?}");
}

/// True if the check says that there is no directory of the partition. An empty one is not on the disk that it looks at.
fn says_gone(finding: &Finding, partition: PartitionKey) -> bool {
    finding.path.ends_with("data") && finding.what.contains(&format!(" {partition},"))
}

/// True if the check has found what a start tells, at its place. A file of which nothing can be used, or that is gone, has none.
fn is_found(error: &StorageError, checked: &[Finding]) -> bool {
    let of = |path: &str| checked.iter().filter(|f| f.path.to_string_lossy().contains(path)).collect::<Vec<_>>();
    match error {
        StorageError::Corrupt { partition, segment, position, .. } => {
            let dir = format!("/data/t-{}.{}", partition.partition, partition.topic);
            // Behind the place where it loses its way the check cannot name any.
            let beyond = |f: &Finding| f.position < Some(*position) && f.what.ends_with("the rest is not looked at");
            let is_there = |f: &&Finding| f.position.is_none_or(|p| p == *position) || beyond(f);
            let in_segment = of(&format!("{dir}/{:020}.", segment.0)).into_iter().any(|f| is_there(&f));
            in_segment
                || checked.iter().any(|f| says_gone(f, *partition))
                || of(&dir).iter().any(|f| f.path.ends_with(&dir[1..]) || !of(&format!("{dir}/state")).is_empty())
        }
        StorageError::JournalLost { path, reason, .. } => {
            let place = |p: u64| reason.contains(&format!("damaged at position {p}:"));
            of(path).iter().any(|f| f.position.map_or(!reason.contains("position"), place))
        }
        _ => false,
    }
}

/// True of damage to what stands before the log start: nobody can ask for it.
fn is_of_no_account(finding: &Finding, hurts: &[Hurt], models: &[Model]) -> bool {
    let of = |hurt: &&Hurt| finding.path.ends_with(hurt.path.strip_prefix("/").expect("an absolute path"));
    let Some((hurt, position)) = hurts.iter().find(of).zip(finding.position) else { return false };
    let header = hurt.before.get(position as usize..).map(BatchHeader::parse);
    let starts = models.iter().enumerate().filter(|(n, _)| hurt.is_of_partition(*n));
    let start = starts.filter_map(|(_, model)| Some(model.now.as_ref()?.log_start)).next();
    header.and_then(Result::ok).zip(start).is_some_and(|(header, start)| header.next_offset() <= start)
}

/// Panics where damage is not told, or told where there is none.
pub fn run(seed: u64, verbose: bool) -> Run {
    run_with(seed, &KINDS, Story::of(seed), verbose)
}

/// One shard without transactions, and damage to the first kinds only.
pub fn run_first(seed: u64) -> Run {
    run_with(seed, &KINDS[..FIRST_KINDS], Story::default(), false)
}

fn run_with(seed: u64, kinds: &[(&'static str, bool)], story: Story, verbose: bool) -> Run {
    let mut homes = story.homes(seed);
    let sim = Sim::new(seed);
    let mut rng = Rng::new(seed ^ 0x0ddb_a115);
    if verbose && std::env::var_os("CORELANE_SIM_TELL").is_some() {
        sim.tell();
    }
    let trouble = if rng.one_in(4) { Trouble::Slow } else { Trouble::None };
    let config = seed::log_config(&mut rng);
    let compacts = rng.one_in(2);
    let mut models: Vec<Model> = (0..3).map(|_| Model::default()).collect();
    let mut life = |steps: u64, options: StoreOptions, faults: Faults| Life {
        sim: sim.clone(),
        options,
        homes: homes(),
        config: config.clone(),
        compacts,
        transacts: story.transacts,
        steps,
        faults,
        trouble,
        flipped: false,
        verbose,
    };
    let mut is_lost = false;
    for n in 0..rng.between(1, 3) {
        if !rng.one_in(3) {
            let upto = rng.pick(&[200, 1500, 3000]);
            sim.lose_after(rng.between(1, upto));
        }
        let work = life(rng.between(5, 120), seed::options(&mut rng), seed::faults(trouble, &mut rng));
        let ending = work.run(&mut models, rng.fork());
        sim.set_faults(Faults::default());
        let power = ending != Ending::Closed && rng.one_in(3);
        if power {
            sim.cut_power();
        }
        sim.settle_disk();
        if verbose {
            println!("life {n}: {ending:?}{}", if power { ", power cut" } else { "" });
        }
        check_sound(&sim, power || n > 0);
        let start = life(0, seed::options(&mut rng), Faults::default());
        if damage(&sim, &mut rng, kinds, &mut models, &start) {
            is_lost = true;
            break;
        }
    }
    if !is_lost {
        let steps = rng.between(0, 40);
        let ending = life(steps, seed::options(&mut rng), Faults::default()).run(&mut models, rng.fork());
        assert_eq!(ending, Ending::Closed);
        sim.settle_disk();
        check_sound(&sim, true);
    }
    sim.empty_disk();
    Run { trace: sim.trace(), counts: sim.counts() }
}

/// Damages something, starts, and undoes the damage. True if something is lost for good.
fn damage(sim: &Sim, rng: &mut Rng, kinds: &[(&'static str, bool)], models: &mut [Model], life: &Life) -> bool {
    let mut hurts = Vec::new();
    for _ in 0..rng.pick(&[1, 1, 1, 2, 3]) {
        let Some(one) = hurt(sim, rng, kinds) else { continue };
        if hurts.iter().all(|other: &Hurt| other.path != one.path) {
            match one.how {
                How::Gone => sim.lose_file(&one.path),
                _ => sim.alter(&one.path, |bytes| bytes.clone_from(&one.after)),
            };
            hurts.push(one);
        }
    }
    if hurts.is_empty() {
        return false;
    }
    let (checked, rebuilt) = check(sim);
    let is_seen =
        |hurt: &Hurt| rebuilt.iter().any(|f| f.path.ends_with(hurt.path.strip_prefix("/").expect("an absolute path")));
    if let [one] = &hurts[..]
        && one.is_rebuilt()
        && one.how != How::Gone
        && models.iter().enumerate().all(|(n, m)| !one.is_of_partition(n) || m.survivors().iter().all(Option::is_some))
    {
        assert!(is_seen(one), "the check does not see {}: {rebuilt:?}", one.describe());
    }
    if life.verbose {
        hurts.iter().for_each(|hurt| println!("{}", hurt.describe()));
        checked.iter().chain(&rebuilt).for_each(|finding| println!("check: {finding:?}"));
    }
    let start = Damaged { life, hurts: &hurts, closes: rng.one_in(2) }.run(models);
    sim.settle_disk();
    let told: Vec<&StorageError> = match &start {
        Start::Refused(error) => vec![error],
        Start::Open(fenced) => fenced.iter().flatten().filter(|e| matches!(e, StorageError::Corrupt { .. })).collect(),
    };
    let gone = matches!(&start, Start::Open(fenced) if fenced.iter().flatten().count() > told.len());
    if life.verbose {
        told.iter().for_each(|error| println!("told: {error}"));
    }
    let described = || hurts.iter().map(Hurt::describe).collect::<Vec<_>>();
    for error in &told {
        assert!(is_found(error, &checked), "not so the check: {error} of {:?}, but {checked:?}", described());
    }
    assert!(told.is_empty() || hurts.iter().any(|hurt| !hurt.is_rebuilt()), "made from other files: {told:?}");
    if let Start::Open(fenced) = &start {
        for finding in checked.iter().filter(|finding| !is_of_no_account(finding, &hurts, models)) {
            let is_of = |n: &usize| {
                let dir = format!("/data/t-{n}.");
                finding.path.to_string_lossy().contains(&dir) || says_gone(finding, life.spec(*n).key)
            };
            let n = (0..models.len()).find(is_of);
            let is_told = n.is_some_and(|n| fenced[n].is_some());
            assert!(is_told, "only the check says so: {finding:?} of {:?}", described());
        }
    }
    if let Start::Refused(error) = &start {
        let journals = hurts.iter().any(|hurt| hurt.is_of(".jnl") || hurt.is_of("/ledger/"));
        assert!(journals && matches!(error, StorageError::JournalLost { .. }), "refused: {error} of {:?}", described());
    }
    // Whoever puts the files in order again has everything. Not so where what the journal had could not be put in place.
    let fenced = !told.is_empty() && matches!(start, Start::Open(_));
    let mut is_lost = gone;
    for hurt in &hurts {
        if sim.files().get(&hurt.path) == Some(&hurt.after) {
            sim.alter(&hurt.path, |bytes| bytes.clone_from(&hurt.before));
            is_lost |= fenced && hurt.how == How::Cut && hurt.is_of(".log");
        } else {
            // It is gone, or a start wrote in it. One that is refused writes nothing.
            let refused = matches!(start, Start::Refused(_));
            assert!(!refused || hurt.how == How::Gone, "a refused start wrote in {}", hurt.describe());
            is_lost |= (fenced || refused) && !hurt.is_rebuilt();
        }
    }
    if is_lost
        && !gone
        && let Start::Open(before) = &start
    {
        let Start::Open(after) = (Damaged { life, hurts: &hurts, closes: true }).run(models) else { panic!("refused") };
        let news = before.iter().zip(&after).find(|(before, after)| before.is_none() && after.is_some());
        assert!(news.is_none(), "not fenced before: {news:?}");
    }
    is_lost
}

//! Tasks that hold their core are found, with their name and where they are.

use core_pinning::{
    run_local, spawn_here,
    stall::{Detector, StallOptions, StallReport},
    time,
};
use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

const PLACE: &str = "spin_in_a_function_with_a_telling_name";

#[inline(never)]
fn spin_in_a_function_with_a_telling_name(d: Duration) {
    let t = Instant::now();
    while t.elapsed() < d {
        std::hint::black_box(t);
    }
}

#[test]
fn a_spinning_task_is_reported_with_its_name_and_place() {
    let reports: Arc<Mutex<Vec<StallReport>>> = Arc::default();
    let (r, told) = (reports.clone(), reports.clone());
    let o = StallOptions { report_every: Duration::ZERO, ..Default::default() };
    let detector = Detector::start(o, move |s| r.lock().unwrap().push(s.clone())).unwrap();
    run_local(async || {
        // let the detector park first: it must be woken by the shard
        time::sleep(Duration::from_millis(100)).await;
        // Nobody is blamed for what the machine has taken his core away for, and who is interrupted where a call begins or ends leaves
        // a trace that is cut short: again, until one was let spin and told where.
        let by = Instant::now() + Duration::from_secs(60);
        for round in 0.. {
            spawn_here("well behaved", time::sleep(Duration::from_millis(1))).await;
            spawn_here("spinner", async { spin_in_a_function_with_a_telling_name(Duration::from_millis(60)) }).await;
            let has_told = told.lock().unwrap().iter().any(|r| r.backtrace.contains(PLACE));
            if round >= 2 && has_told || Instant::now() >= by {
                break;
            }
        }
    });
    drop(detector);
    let reports = reports.lock().unwrap();
    let spinner: Vec<_> = reports.iter().filter(|r| r.task == "spinner").collect();
    assert!(!spinner.is_empty(), "nothing was reported");
    assert!(reports.iter().all(|r| r.task != "well behaved"));
    assert!(spinner.iter().all(|r| r.running_for > Duration::from_millis(10)));
    let told = spinner.iter().any(|r| r.backtrace.contains(PLACE));
    assert!(told, "{}", spinner[0]);
}

//! A full disk: a small file system in a file. Needs the right to mount; without it the test says so and does nothing.

use corelane_tests::batch::{ProducerIdentity, build, now_ms, read};
use corelane_tests::broker::{Broker, BrokerOptions, is_corelane};
use corelane_tests::connection::to_leader;
use corelane_tests::librdkafka::{admin, admin_options, block_on, create_topic, unique};
use corelane_tests::{scratch, wait};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);
const SIZE: u64 = 700 << 20;

struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn small_disk(folder: &Path) -> Option<Mounted> {
    let (image, at) = (folder.join("image"), folder.join("disk"));
    File::create(&image).and_then(|f| f.set_len(SIZE)).expect("an image");
    std::fs::create_dir(&at).expect("a folder");
    let made = Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0"]).arg(&image).status();
    let mounted = made.is_ok_and(|s| s.success())
        && Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&at).output().is_ok_and(|o| o.status.success());
    mounted.then_some(Mounted(at))
}

#[test]
fn full_disk_refuses_writes_serves_reads_and_loses_nothing() {
    if !is_corelane() {
        return;
    }
    let folder = scratch::folder("full-disk");
    let Some(disk) = small_disk(&folder) else {
        println!("skipped: a file system cannot be mounted here");
        return;
    };
    let mut broker = Broker::start(BrokerOptions { data_dir: Some(disk.0.join("data")), ..BrokerOptions::default() });
    let (topic, filler) = (unique("full"), unique("filler"));
    create_topic(&broker, &topic, 1, &[]);
    create_topic(&broker, &filler, 1, &[]);
    let value = vec![0x5a; 900_000];
    let write = |broker: &Broker, topic: &str, number: u64| {
        let mut connection = to_leader(broker.bootstrap(), topic, 0).ok()?;
        let key = number.to_be_bytes();
        let batch = build(ProducerIdentity::NONE, now_ms(), [(Some(&key[..]), Some(&value[..]))]);
        connection.produce(topic, 0, batch).ok()
    };
    let (mut acknowledged, mut refused) = (Vec::new(), 0);
    for number in 0..2000 {
        let to = if number % 4 == 0 { &topic } else { &filler };
        match write(&broker, to, number).map(|a| (a.error_code, a.base_offset)) {
            Some((0, offset)) if number % 4 == 0 => acknowledged.push((offset, number)),
            Some((0, _)) => {}
            Some((code, _)) => {
                let error = corelane_protocol::ErrorCode::from_code(code);
                assert!(
                    error.is_some_and(|e| e.retriable()),
                    "a full disk is answered with a retriable error, not {error:?}"
                );
                refused += 1;
            }
            None => refused += 1,
        }
        if refused > 8 {
            break;
        }
    }
    assert!(refused > 8, "700 MiB took {} MB", 2000 * 900_000 / 1_000_000);
    assert!(broker.is_alive(), "a full disk does not end the process\n{}", broker.log_tail());
    let verify = |broker: &Broker| {
        let mut connection = wait::until("the leader", LIMIT, || to_leader(broker.bootstrap(), &topic, 0).ok());
        for (offset, number) in &acknowledged {
            let data = connection.fetch(&topic, 0, *offset).expect("fetch");
            let records = read(&data.records.expect("records").into_bytes());
            let key = records.first().and_then(|r| r.key.clone()).expect("a key");
            assert_eq!(key.as_ref(), number.to_be_bytes(), "the record acknowledged at {offset}");
        }
    };
    verify(&broker);
    // room again
    wait::until("the topic to be deleted", LIMIT, || {
        let deleted = block_on(admin(&broker).delete_topics(&[&filler], &admin_options())).ok()?;
        (deleted == [Ok(filler.clone())]).then_some(())
    });
    let offset = wait::until("writes to be taken again", LIMIT, || {
        write(&broker, &topic, 9999).filter(|a| a.error_code == 0).map(|a| a.base_offset)
    });
    assert!(acknowledged.iter().all(|(o, _)| *o < offset));
    verify(&broker);
    broker.kill();
    broker.resume();
    verify(&broker);
    drop(broker);
}

//! A small file system in a file, mounted for a test. Needs the right to mount.

use crate::{scratch, wait};
use rustix::fs::{FallocateFlags, fallocate, fstatvfs};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// A mounted ext4 of its own; unmounted when dropped.
pub struct SmallDisk(PathBuf);

/// `FS_IOC_SHUTDOWN` without writing anything back: from then on every operation fails with EIO.
const SHUTDOWN: &str =
    r#"open(my $f, "<", $ARGV[0]) or die $!; my $how = pack("L", 2); ioctl($f, 0x8004587d, $how) or die $!"#;

fn mount(image: &Path, at: &Path) -> bool {
    Command::new("mount").args(["-o", "loop"]).arg(image).arg(at).output().is_ok_and(|o| o.status.success())
}

impl SmallDisk {
    /// `None`, with a line that says so, where nothing can be mounted.
    pub fn mount(name: &str, bytes: u64) -> Option<SmallDisk> {
        let folder = scratch::folder(name);
        let (image, at) = (folder.join("image"), folder.join("disk"));
        File::create(&image).and_then(|f| f.set_len(bytes)).expect("an image");
        fs::create_dir(&at).expect("a folder");
        let made = Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0"]).arg(&image).status();
        if !made.is_ok_and(|s| s.success()) || !mount(&image, &at) {
            println!("skipped: a file system cannot be mounted here");
            return None;
        }
        Some(SmallDisk(at))
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Takes all space that is left with a file of this name.
    pub fn fill(&self, name: &str) {
        let mut file = File::options().create(true).append(true).open(self.path(name)).expect("a file");
        for size in [1 << 20, 64 << 10, 4 << 10] {
            let zeros = vec![0; size];
            while file.write_all(&zeros).is_ok() {}
        }
        // What the cache holds has its place by now: a failure here is the full disk's.
        let _ = file.sync_all();
    }

    /// Takes all space but so many bytes with a file of this name.
    pub fn leave(&self, name: &str, bytes: u64) {
        let file = File::create(self.path(name)).expect("a file");
        let free = fstatvfs(&file).map(|disk| disk.f_bavail * disk.f_frsize).expect("free space");
        let taken = free.checked_sub(bytes).expect("so much is free");
        fallocate(&file, FallocateFlags::empty(), 0, taken).expect("space");
    }

    /// The disk fails. False where that cannot be had.
    pub fn die(&self) -> bool {
        let done = Command::new("perl").args(["-e", SHUTDOWN]).arg(&self.0).status().is_ok_and(|s| s.success());
        if !done {
            println!("skipped: a file system cannot be shut down here");
        }
        done
    }

    /// The disk works again, with what it had when it failed.
    pub fn revive(&self) {
        let unmount = || Command::new("umount").arg(&self.0).output().is_ok_and(|o| o.status.success());
        wait::until("the dead disk to be let go", Duration::from_secs(30), || unmount().then_some(()));
        assert!(mount(&self.0.with_file_name("image"), &self.0), "mounted again");
    }

    pub fn remove(&self, name: &str) {
        fs::remove_file(self.path(name)).expect("the file");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
        if let Some(folder) = self.0.parent().filter(|_| !std::thread::panicking()) {
            let _ = fs::remove_file(folder.join("image"));
        }
    }
}

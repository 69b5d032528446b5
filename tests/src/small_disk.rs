//! A small file system in a file, mounted for a test. Needs the right to mount.

use crate::scratch;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A mounted ext4 of its own; unmounted when dropped.
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None`, with a line that says so, where nothing can be mounted.
    pub fn mount(name: &str, bytes: u64) -> Option<SmallDisk> {
        let folder = scratch::folder(name);
        let (image, at) = (folder.join("image"), folder.join("disk"));
        File::create(&image).and_then(|f| f.set_len(bytes)).expect("an image");
        fs::create_dir(&at).expect("a folder");
        let made = Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0"]).arg(&image).status();
        let mount = |at: &Path| Command::new("mount").args(["-o", "loop"]).arg(&image).arg(at).output();
        if !made.is_ok_and(|s| s.success()) || !mount(&at).is_ok_and(|o| o.status.success()) {
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

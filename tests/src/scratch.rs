//! Folders of the tests: below the build folder, so that they are on a real disk and nothing else is touched.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// The build folder (`target/`), found from the running test.
pub fn target_dir() -> PathBuf {
    let exe = std::env::current_exe().expect("path of the running test");
    exe.ancestors().nth(3).expect("target/<profile>/deps/<test>").to_path_buf()
}

/// Root of all scratch folders: `CORELANE_TEST_DIR`, or `target/tmp`.
pub fn root() -> PathBuf {
    std::env::var_os("CORELANE_TEST_DIR").map_or_else(|| target_dir().join("tmp"), PathBuf::from)
}

/// A new empty folder. What test processes that are gone have left is removed first; a failed run can be looked at
/// until the next one.
pub fn folder(name: &str) -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let (root, me) = (root(), std::process::id());
    fs::create_dir_all(&root).expect("scratch root");
    for entry in fs::read_dir(&root).expect("scratch root").flatten() {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|n| n.rsplit_once(".pid-")?.1.split('-').next()?.parse::<u32>().ok());
        if owner.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    let path = root.join(format!("{name}.pid-{me}-{}", NEXT.fetch_add(1, Relaxed)));
    fs::create_dir_all(&path).expect("scratch folder");
    path
}

/// The files below `folder` that end so and lie in a folder whose path contains `within`.
pub fn files(folder: &Path, within: &str, suffix: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for path in fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()) {
        if path.is_dir() {
            found.extend(files(&path, within, suffix));
        } else if path.to_string_lossy().ends_with(suffix) && folder.to_string_lossy().contains(within) {
            found.push(path);
        }
    }
    found
}

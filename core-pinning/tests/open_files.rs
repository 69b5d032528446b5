//! Alone in its process: uses up the table of open files.

use core_pinning::{net, run_local, time};
use std::{net::TcpStream, thread, time::Duration};

/// With a full table of open files, accepting fails slowly and goes on once there is room.
#[test]
fn too_many_open_files_does_not_spin() {
    run_local(async || {
        let l = net::listen("127.0.0.1:0".parse().unwrap(), net::ListenOptions::default()).unwrap();
        let a = l.local_addr().unwrap();
        let waiting =
            thread::spawn(move || (TcpStream::connect(a).unwrap(), TcpStream::connect(a).unwrap())).join().unwrap();
        let mut hog = vec![];
        while let Ok(f) = std::fs::File::open("/dev/null") {
            hog.push(f);
        }
        let t0 = time::now();
        for _ in 0..3 {
            match l.accept().await {
                Err(e) => assert_eq!(e.raw_os_error(), Some(24)),
                Ok(_) => panic!("accepted although the table is full"),
            }
        }
        assert!(t0.elapsed() >= Duration::from_millis(190), "{:?}", t0.elapsed());
        hog.clear();
        let (one, two) = (l.accept().await.unwrap(), l.accept().await.unwrap());
        drop((one, two, waiting));
    });
}

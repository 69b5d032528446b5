//! Connections.

use super::{on_shard, pattern};
use bytes::Bytes;
use core_pinning::{
    net::{Conn, ListenOptions, Listener, connect, listen},
    spawn_here, yield_now,
};
use std::{io, net::SocketAddr};

fn here() -> Listener {
    listen(SocketAddr::from(([127, 0, 0, 1], 0)), ListenOptions::default()).unwrap()
}

async fn pair() -> (Conn, Conn) {
    let listener = here();
    let address = listener.local_addr().unwrap();
    let accepting = spawn_here("accept", async move { listener.accept().await.unwrap() });
    let client = connect(address).await.unwrap();
    (client, accepting.await)
}

async fn read(c: &Conn, bytes: usize) -> Vec<u8> {
    let mut all = Vec::new();
    while all.len() < bytes {
        all.extend_from_slice(&c.recv().await.unwrap().expect("more bytes"));
    }
    all
}

#[test]
fn bytes_arrive_whole_and_in_order() {
    on_shard(async |_| {
        let (client, server) = pair().await;
        assert_eq!(client.peer_addr().unwrap(), server.local_addr().unwrap());
        assert_eq!(client.local_addr().unwrap(), server.peer_addr().unwrap());
        let echo = spawn_here("echo", async move {
            while let Some(b) = server.recv().await.unwrap() {
                server.send_copy(&b);
                server.flushed(10_000).await.unwrap();
            }
        });
        for n in 0..10 {
            let bytes = pattern(1 + n * 7_000, n);
            client.send(Bytes::from(bytes[..n].to_vec()));
            client.send_copy(&bytes[n..]);
            assert!(read(&client, bytes.len()).await == bytes);
        }
        drop(client);
        echo.await;
    });
}

#[test]
fn what_is_put_back_comes_again() {
    on_shard(async |_| {
        let (client, server) = pair().await;
        let sent = pattern(50_000, 3);
        client.send(Bytes::from(sent.clone()));
        let mut got = Vec::new();
        while got.len() < sent.len() {
            let mut piece = server.recv().await.unwrap().expect("more bytes");
            // half of it now, and the rest once something else has run
            let half = piece.len().div_ceil(2);
            got.extend_from_slice(&piece[..half]);
            piece.skip(half);
            server.put_back(piece);
            yield_now().await;
        }
        assert!(got == sent);
    });
}

#[test]
fn who_does_not_read_holds_up_its_peer() {
    on_shard(async |_| {
        let (client, server) = pair().await;
        let all = 32 << 20;
        for n in 0..32 {
            client.send(Bytes::from(pattern(1 << 20, n)));
        }
        for _ in 0..1000 {
            yield_now().await;
        }
        assert!(client.unsent() > 0, "32 MiB went out to somebody who does not read");
        let reading = spawn_here("reads", async move {
            let mut got = 0;
            while got < all {
                got += server.recv().await.unwrap().expect("more bytes").len();
            }
            server
        });
        client.flushed(0).await.unwrap();
        assert_eq!(client.unsent(), 0);
        reading.await;
    });
}

#[test]
fn the_end_is_told() {
    on_shard(async |_| {
        let (client, server) = pair().await;
        client.send_copy(b"last words");
        client.flushed(0).await.unwrap();
        drop(client);
        assert_eq!(read(&server, 10).await, b"last words");
        assert!(matches!(server.recv().await, Ok(None)));
        let (client, server) = pair().await;
        client.shutdown();
        assert!(matches!(client.recv().await, Ok(None)));
        assert!(matches!(server.recv().await, Ok(None)));
        client.send_copy(b"too late");
        assert!(client.flushed(0).await.is_err());
    });
}

#[test]
fn nobody_there_refuses_and_an_address_is_taken_once() {
    on_shard(async |_| {
        let listener = here();
        let address = listener.local_addr().unwrap();
        assert_eq!(listen(address, ListenOptions::default()).err().unwrap().kind(), io::ErrorKind::AddrInUse);
        drop(listener);
        assert_eq!(connect(address).await.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    });
}

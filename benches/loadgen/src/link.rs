//! A connection's bytes: plaintext, or TLS if `secure` was told so. One thread may read while another writes.

use anyhow::{Context, Result};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

/// Ciphertext that is taken from the socket at a time.
const CHUNK: usize = 256 << 10;

static TLS: OnceLock<Arc<ClientConfig>> = OnceLock::new();

/// From now on every connection is TLS, to servers whose certificates are signed by one of the file's.
pub fn secure(ca_file: &str) -> Result<()> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca_file).with_context(|| ca_file.to_owned())? {
        roots.add(certificate?)?;
    }
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    TLS.get_or_init(|| Arc::new(config));
    Ok(())
}

#[derive(Clone)]
pub struct Link(Arc<Ends>);

struct Ends {
    tcp: TcpStream,
    tls: Option<Tls>,
}

struct Tls {
    session: Mutex<ClientConnection>,
    /// Ciphertext that is not decrypted yet.
    received: Mutex<Received>,
}

struct Received {
    bytes: Box<[u8]>,
    from: usize,
    to: usize,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Link {
    pub fn open(addr: &str) -> Result<Link> {
        let to = addr.to_socket_addrs()?.next().with_context(|| format!("no address for {addr}"))?;
        let tcp = TcpStream::connect_timeout(&to, Duration::from_secs(5))?;
        tcp.set_nodelay(true)?;
        let tls = TLS.get().map(|config| {
            let host = addr.rsplit_once(':').map_or(addr, |(host, _)| host).to_owned();
            let mut session = ClientConnection::new(config.clone(), ServerName::try_from(host)?)?;
            while session.is_handshaking() {
                session.complete_io(&mut &tcp)?;
            }
            let received = Received { bytes: vec![0; CHUNK].into(), from: 0, to: 0 };
            anyhow::Ok(Tls { session: Mutex::new(session), received: Mutex::new(received) })
        });
        Ok(Link(Arc::new(Ends { tcp, tls: tls.transpose()? })))
    }

    pub fn close(&self) {
        self.0.tcp.shutdown(Shutdown::Both).ok();
    }
}

impl Tls {
    fn read(&self, mut tcp: &TcpStream, into: &mut [u8]) -> io::Result<usize> {
        let mut received = lock(&self.received);
        loop {
            let mut session = lock(&self.session);
            match session.reader().read(into) {
                Err(e) if e.kind() == ErrorKind::WouldBlock => {}
                done => return done,
            }
            let Received { bytes, from, to } = &mut *received;
            if from < to {
                *from += session.read_tls(&mut &bytes[*from..*to])?;
                session.process_new_packets().map_err(io::Error::other)?;
                while session.wants_write() {
                    session.write_tls(&mut tcp)?;
                }
                continue;
            }
            drop(session);
            (*from, *to) = (0, tcp.read(bytes)?);
            if *to == 0 {
                return Ok(0);
            }
        }
    }

    fn write(&self, mut tcp: &TcpStream, from: &[u8]) -> io::Result<usize> {
        let mut session = lock(&self.session);
        let taken = session.writer().write(from)?;
        while session.wants_write() {
            session.write_tls(&mut tcp)?;
        }
        Ok(taken)
    }
}

impl Read for &Link {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match &self.0.tls {
            None => (&self.0.tcp).read(into),
            Some(tls) => tls.read(&self.0.tcp, into),
        }
    }
}

impl Write for &Link {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        match &self.0.tls {
            None => (&self.0.tcp).write(from),
            Some(tls) => tls.write(&self.0.tcp, from),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

//! Certificates made by `corelane security`, and clients that show or trust them.

use crate::broker::binary;
use crate::process;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, StreamOwned, SupportedProtocolVersion, crypto::ring,
};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A folder with an authority and the certificates that it has signed.
pub struct Authority {
    folder: PathBuf,
}

impl Authority {
    /// One whose certificate, `ca.pem`, is in the folder; what it signs is made elsewhere.
    pub fn of(folder: &Path) -> Authority {
        Authority { folder: folder.to_owned() }
    }

    /// With a certificate of the name `broker` for this machine.
    pub fn make(folder: &Path) -> Authority {
        let authority = Authority::of(folder);
        authority.run(&["ca", &folder.display().to_string()]);
        authority.cert(&["broker", "--host", "localhost", "--host", "127.0.0.1"]);
        authority
    }

    fn run(&self, arguments: &[&str]) {
        let out = process::command(binary()).arg("security").args(arguments).output().expect("corelane security");
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    }

    /// Makes a certificate; the name comes first.
    pub fn cert(&self, arguments: &[&str]) -> PathBuf {
        let folder = self.folder.display().to_string();
        self.run(&[&["cert"], arguments, &["--ca", &folder]].concat());
        self.pem(arguments[0])
    }

    /// The file of a certificate and its key; `ca`: what clients trust.
    pub fn pem(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.pem"))
    }

    /// What a broker is told of its certificate and of those it trusts.
    pub fn properties(&self) -> Vec<(String, String)> {
        let file = |name| self.pem(name).display().to_string();
        let all = [
            ("ssl.keystore.type", "PEM".to_owned()),
            ("ssl.keystore.location", file("broker")),
            ("ssl.truststore.type", "PEM".to_owned()),
            ("ssl.truststore.location", file("ca")),
        ];
        all.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()
    }

    /// Trusts the authority, shows what is in `identity`, and speaks `versions`.
    pub fn client(&self, identity: Option<&Path>, versions: &[&'static SupportedProtocolVersion]) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.pem("ca")).expect("ca.pem")).expect("a root");
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_protocol_versions(versions).expect("versions").with_root_certificates(roots);
        Arc::new(match identity {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let (chain, key) = shown(path);
                builder.with_client_auth_cert(chain, key).expect("an identity")
            }
        })
    }

    /// Shows this certificate, and asks for none.
    pub fn server(&self, name: &str) -> Arc<ServerConfig> {
        let (chain, key) = shown(&self.pem(name));
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().expect("versions").with_no_client_auth();
        Arc::new(builder.with_single_cert(chain, key).expect("an identity"))
    }
}

fn shown(path: &Path) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let chain = CertificateDer::pem_file_iter(path).expect("PEM").collect::<Result<_, _>>().expect("a chain");
    (chain, PrivateKeyDer::from_pem_file(path).expect("a key"))
}

/// A connection's bytes.
pub enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Stream {
    /// Shakes hands with a broker at `localhost`.
    pub fn tls(tcp: TcpStream, config: &Arc<ClientConfig>) -> io::Result<Stream> {
        let name = ServerName::try_from("localhost").expect("a name");
        let mut stream = StreamOwned::new(ClientConnection::new(config.clone(), name).map_err(io::Error::other)?, tcp);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(Stream::Tls(Box::new(stream)))
    }

    pub fn tcp(&self) -> &TcpStream {
        match self {
            Stream::Plain(tcp) => tcp,
            Stream::Tls(tls) => &tls.sock,
        }
    }

    /// The broker's certificate.
    pub fn peer(&self) -> Option<CertificateDer<'static>> {
        match self {
            Stream::Plain(_) => None,
            Stream::Tls(tls) => Some(tls.conn.peer_certificates()?.first()?.clone().into_owned()),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(tcp) => tcp.read(buf),
            Stream::Tls(tls) => tls.read(buf),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(tcp) => tcp.write(buf),
            Stream::Tls(tls) => tls.write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Stream::Plain(tcp) => tcp.flush(),
            Stream::Tls(tls) => tls.flush(),
        }
    }
}

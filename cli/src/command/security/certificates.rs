//! `corelane security ca` and `cert`: what TLS is tried out with.

use crate::exit::{Exit, Failure};
use crate::output::Output;
use clap::Args;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use serde_json::json;
use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use time::{Duration, OffsetDateTime};

/// Make a certificate authority for trying out
///
/// Writes ca.pem, which clients and brokers trust (ssl.truststore.location), and ca.key, which signs: whoever has that can be
/// anybody. Where people rely on it, use the authority of your organisation instead.
#[derive(Debug, Args)]
pub struct CaArgs {
    /// Folder to write into; made if need be
    folder: PathBuf,
    /// How long it is valid
    #[arg(long, default_value_t = 3650, value_parser = clap::value_parser!(u32).range(1..=36500))]
    days: u32,
}

/// Make a certificate for a broker or a client
///
/// Writes NAME.pem beside the authority: the private key and the certificate in one file, as ssl.keystore.location takes it with
/// ssl.keystore.type=PEM. Its distinguished name is CN=NAME, so that a client that shows it is User:CN=NAME. A broker's names the hosts
/// that clients know it by. An existing file is not written over unless told so.
#[derive(Debug, Args)]
pub struct CertArgs {
    /// Common name
    name: String,
    /// Folder of the authority
    #[arg(long, value_name = "FOLDER")]
    ca: PathBuf,
    /// Host name or address of the broker; repeatable [default: none, as a client has]
    #[arg(long)]
    host: Vec<String>,
    /// How long it is valid
    #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=36500))]
    days: u32,
    /// Write over a certificate of the same name: renew it
    #[arg(long)]
    replace: bool,
}

pub fn ca(args: &CaArgs, out: &mut Output) -> Result<(), Failure> {
    fs::create_dir_all(&args.folder).map_err(|e| failed(&args.folder, &e))?;
    let key = KeyPair::generate().map_err(|e| broken(&e))?;
    let certificate = authority(args.days).self_signed(&key).map_err(|e| broken(&e))?;
    let (pem, secret) = (args.folder.join("ca.pem"), args.folder.join("ca.key"));
    write(&secret, &key.serialize_pem(), 0o600, false)?;
    write(&pem, &certificate.pem(), 0o644, false)?;
    tell(out, &[&pem, &secret])
}

pub fn cert(args: &CertArgs, out: &mut Output) -> Result<(), Failure> {
    if args.name.is_empty() || args.name.starts_with('.') || args.name.contains('/') {
        return Err(Failure::usage(format!("{:?} is no name for a certificate and its file", args.name)));
    }
    let secret = args.ca.join("ca.key");
    let text = fs::read_to_string(&secret).map_err(|e| failed(&secret, &e))?;
    let signer =
        KeyPair::from_pem(&text).map_err(|e| Failure::new(Exit::Failed, format!("{}: {e}", secret.display())))?;
    let issuer = Issuer::new(authority(args.days), signer);
    let params = CertificateParams::new(args.host.clone());
    let mut params = params.map_err(|e| Failure::usage(format!("--host: {e}")))?;
    params.distinguished_name.remove(DnType::CommonName);
    params.distinguished_name.push(DnType::CommonName, args.name.as_str());
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    if !args.host.is_empty() {
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
    }
    valid(&mut params, args.days);
    let key = KeyPair::generate().map_err(|e| broken(&e))?;
    let certificate = params.signed_by(&key, &issuer).map_err(|e| broken(&e))?;
    let path = args.ca.join(format!("{}.pem", args.name));
    write(&path, &format!("{}{}", key.serialize_pem(), certificate.pem()), 0o600, args.replace)?;
    tell(out, &[&path])
}

/// The authority's certificate. Its name is always the same, so that its key alone is enough to sign.
fn authority(days: u32) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.remove(DnType::CommonName);
    params.distinguished_name.push(DnType::CommonName, "Corelane trial authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    valid(&mut params, days);
    params
}

fn valid(params: &mut CertificateParams, days: u32) {
    let now = OffsetDateTime::now_utc();
    // Clocks of others may be behind.
    params.not_before = now - Duration::hours(1);
    params.not_after = now + Duration::days(i64::from(days));
}

/// Whole or not at all: a broker may be looking.
fn write(path: &Path, text: &str, mode: u32, replace: bool) -> Result<(), Failure> {
    if !replace && path.exists() {
        return Err(Failure::new(Exit::Refused, format!("{} is there already", path.display())));
    }
    let fresh = path.with_extension("new");
    let written = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&fresh);
    let written = written.and_then(|mut file| file.write_all(text.as_bytes())).and_then(|()| fs::rename(&fresh, path));
    written.map_err(|e| failed(path, &e))
}

fn tell(out: &mut Output, paths: &[&Path]) -> Result<(), Failure> {
    let shown: Vec<String> = paths.iter().map(|p| p.display().to_string()).collect();
    if out.is_json() {
        out.json(&json!({ "written": shown }))
    } else {
        out.line(format!("written: {}", shown.join(", ")))
    }
}

fn failed(path: &Path, error: &std::io::Error) -> Failure {
    let exit = if error.kind() == ErrorKind::NotFound { Exit::NotFound } else { Exit::Failed };
    Failure::new(exit, format!("{}: {error}", path.display()))
}

fn broken(error: &rcgen::Error) -> Failure {
    Failure::new(Exit::Failed, format!("no certificate: {error}"))
}

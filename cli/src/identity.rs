//! The flags by which a command says who it is to a broker, and whom it trusts.

use crate::client::security::Flags;
use crate::client::{Security, properties};
use crate::exit::{Exit, Failure};
use clap::Args;
use corelane_config::Password;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Who a client is to a broker, and whom it trusts.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Secured brokers")]
pub struct Identity {
    /// Properties of Kafka's clients (security.protocol, sasl.*, ssl.* with stores in PEM, PKCS12 or JKS), as Kafka's own tools take
    /// them [default: none]
    #[arg(long, global = true, value_name = "FILE", env = "CORELANE_COMMAND_CONFIG")]
    pub command_config: Option<PathBuf>,
    /// Come as this user, by SASL; the password is in --password-file, or in the environment variable
    /// CORELANE_PASSWORD [default: nobody]
    #[arg(long, global = true, value_name = "NAME", env = "CORELANE_USER")]
    pub user: Option<String>,
    /// File of the user's password [default: none]
    #[arg(long, global = true, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
    /// How the user shows who he is: SCRAM-SHA-512, SCRAM-SHA-256, PLAIN [default: SCRAM-SHA-512]
    #[arg(long, global = true, value_name = "MECHANISM", env = "CORELANE_SASL_MECHANISM")]
    pub sasl_mechanism: Option<String>,
    /// Speak TLS, with a broker whose certificate goes back to one in this file of PEM [default: no TLS]
    #[arg(long, global = true, value_name = "FILE", env = "CORELANE_TLS_CA")]
    pub tls_ca: Option<PathBuf>,
    /// Speak TLS, and show the certificate in this file of PEM, which has its private key, too [default: no TLS]
    #[arg(long, global = true, value_name = "FILE", env = "CORELANE_TLS_CERT")]
    pub tls_cert: Option<PathBuf>,
}

const PASSWORD: &str = "CORELANE_PASSWORD";

impl Identity {
    /// Reads the files that flags name.
    pub fn security(&self) -> Result<Security, Failure> {
        let mut given = BTreeMap::new();
        let mut within = String::new();
        if let Some(path) = &self.command_config {
            within = format!("{}: ", path.display());
            given = properties::parse(&text_of(path)?).map_err(|e| Failure::usage(format!("{within}{e}")))?;
            let unused: Vec<&str> = Security::unused(&given).map(String::as_str).collect();
            if !unused.is_empty() {
                eprintln!("corelane: {within}not used: {}", unused.join(", "));
            }
        }
        if self.user.is_none() && (self.password_file.is_some() || self.sasl_mechanism.is_some()) {
            return Err(Failure::usage("--password-file and --sasl-mechanism need --user"));
        }
        let login = self.user.clone().map(|user| self.password().map(|password| (user, password))).transpose()?;
        let flags = Flags {
            login,
            mechanism: self.sasl_mechanism.clone(),
            ca: self.tls_ca.clone(),
            cert: self.tls_cert.clone(),
        };
        Security::new(&given, &flags).map_err(|e| Failure::usage(format!("{within}{e}")))
    }

    fn password(&self) -> Result<Password, Failure> {
        match (&self.password_file, std::env::var(PASSWORD)) {
            (Some(path), _) => password_in(&text_of(path)?),
            (None, Ok(password)) => Ok(Password::new(password)),
            (None, Err(_)) => {
                Err(Failure::usage(format!("--user needs --password-file, or {PASSWORD} in the environment")))
            }
        }
    }
}

/// A text that ends with its line.
pub fn password_in(text: &str) -> Result<Password, Failure> {
    match text.lines().next() {
        Some(line) if !line.is_empty() && text.trim_end_matches(['\r', '\n']) == line => Ok(Password::new(line)),
        _ => Err(Failure::usage("a password is one line of text")),
    }
}

pub fn text_of(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|e| {
        let exit = if e.kind() == std::io::ErrorKind::NotFound { Exit::NotFound } else { Exit::Failed };
        Failure::new(exit, format!("{}: {e}", path.display()))
    })
}

//! Java's `keytool`: an authority, and stores of keys that it has signed.

use crate::process;
use crate::tls::Authority;
use std::fs;
use std::path::{Path, PathBuf};

/// The password of every store here.
pub const STORE_SECRET: &str = "store-secret";

/// A folder of stores.
pub struct KeyTool {
    folder: PathBuf,
}

impl KeyTool {
    pub fn make(folder: &Path) -> KeyTool {
        let tool = KeyTool { folder: folder.to_owned() };
        tool.run("ca.p12", &["-genkeypair", "-dname", "CN=ca", "-keyalg", "EC", "-ext", "bc:c"]);
        let certificate = tool.file("ca.pem");
        tool.run("ca.p12", &["-exportcert", "-rfc", "-file", &certificate]);
        tool
    }

    pub fn file(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    /// Clients that trust what is signed here.
    pub fn authority(&self) -> Authority {
        Authority::of(&self.folder)
    }

    fn run(&self, store: &str, arguments: &[&str]) {
        let mut command = process::command("keytool");
        command.args(["-J-XX:TieredStopAtLevel=1", "-J-XX:+UseSerialGC", "-noprompt", "-alias", "one"]);
        command.args(["-storepass", STORE_SECRET, "-keystore", store]).args(arguments).current_dir(&self.folder);
        let out = command.output().expect("keytool");
        assert!(out.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&out.stdout));
    }

    /// A store of this type with a new key of `CN=name` and its signed certificate, for `localhost`; the key of a JKS may have
    /// a password of its own.
    pub fn key(&self, store: &str, kind: &str, algorithm: &str, name: &str, key_password: &str) {
        let own = ["-storetype", kind, "-keypass", key_password];
        let subject = format!("CN={name}");
        self.run(store, &[&["-genkeypair", "-dname", &subject, "-keyalg", algorithm], &own[..]].concat());
        let (request, signed) = (format!("{store}.request"), format!("{store}.signed"));
        self.run(store, &[&["-certreq", "-file", &request], &own[..]].concat());
        let names = ["-ext", "san=dns:localhost,ip:127.0.0.1"];
        self.run("ca.p12", &[&["-gencert", "-rfc", "-infile", &request, "-outfile", &signed], &names[..]].concat());
        let read = |name: &str| fs::read(self.file(name)).expect("a certificate");
        fs::write(self.file(&signed), [read(&signed), read("ca.pem")].concat()).expect("a chain");
        self.run(store, &[&["-importcert", "-file", &signed], &own[..]].concat());
    }

    /// A store that trusts the authority.
    pub fn trust(&self, store: &str, kind: &str) {
        self.run(store, &["-importcert", "-file", "ca.pem", "-storetype", kind]);
    }
}

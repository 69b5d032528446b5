//! Seeded random series of clients who say who they are, at the listener that asks: with the right tokens and with all kinds of wrong
//! ones, at every version, out of turn, and again when they are in. A series is a script, as in random.rs. Where one of the two
//! brokers lets go of a client and the other does not (accepted.txt), that client asks nothing more.

use crate::sasl::{USERS, password};
use crate::script::Script;
use crate::value::{Expr, show};
use crate::written::Written;
use corelane_protocol::Tree;
use corelane_sasl::plain;

/// A user of both mechanisms of SCRAM, with another password for each.
const USER: &str = "scram-login";
const SALT: &str = r#"x"3031323334353637""#;
const PLAIN: &str = "PLAIN";
const SCRAM: [(&str, i8, &str); 2] = [("SCRAM-SHA-256", 1, "open"), ("SCRAM-SHA-512", 2, "sesame")];
const NOT_OFFERED: [&str; 7] = ["GSSAPI", "OAUTHBEARER", "SCRAM-SHA-1", "plain", "PLAIN ", "none", ""];
/// Bodies that are no SaslHandshake, and no SaslAuthenticate either.
const BROKEN: [&str; 4] = [r#"x"""#, r#"x"0005504c41""#, r#"x"ffff""#, r#"x"8000000000""#];
/// First messages of SCRAM that are none.
const NO_FIRST: [&str; 11] = [
    "",
    "n",
    "n,,n=scram-login",
    "n,,n=,r=abc",
    "n,,n=scram-login,r=",
    "n,,n=scram=login,r=abc",
    "n,,n=scram-login,r=abc,1=2",
    "n,a=bob,n=scram-login,r=abc",
    "y,,n=scram-login,r=abc",
    "p=tls-unique,,n=scram-login,r=abc",
    "c=biws,r=abc,p=AAAA",
];
const NO_LAST: [&str; 5] = ["", "n,,n=scram-login,r=abc", "c=biws,r=abc,p=AAAA", "c=biws,r=abc", "c=,r=abc,p="];
/// Nobody begins to say again who he is within a second of the last time.
const AGAIN_MS: u32 = 1_200;

/// How a client says who it is.
#[derive(Clone, Copy)]
struct Login {
    mechanism: &'static str,
    user: &'static str,
    password: &'static str,
}

struct Series {
    out: Written,
    /// The client that is there now.
    on: String,
    /// Its tokens come without headers, as its handshake was of version 0.
    bare: bool,
}

/// The conversation is over: with the client's connection, or because it may be.
struct Over;

/// `count` clients, the same for the same seed.
pub fn script(seed: u64, count: usize) -> (Script, String) {
    let mut series = Series { out: Written::new("logins", seed), on: String::new(), bare: false };
    for (mechanism, code, password) in SCRAM {
        series.out.line(format!(
            r#"AlterUserScramCredentials last {{deletions=[], upsertions=[{{name="{USER}", mechanism={code}, iterations=4096, salt={SALT}, salted_password=salted("{mechanism}", "{password}", {SALT}, 4096)}}]}}"#
        ));
    }
    for client in 0..count {
        series.on = format!("sasl c{client}");
        // (Over is how most end)
        let _ = series.client();
    }
    series.out.done(&format!("logins-{seed}.txt"))
}

impl Series {
    fn say(&mut self, what: impl AsRef<str>) {
        self.out.line(format!("{} {}", self.on, what.as_ref()));
    }

    /// What nobody hears any more.
    fn say_in_vain(&mut self) -> Over {
        if self.out.one_in(3) {
            self.say("DescribeCluster ~0 {}");
        }
        Over
    }

    fn client(&mut self) -> Result<(), Over> {
        self.introduce()?;
        let login = self.login();
        self.shake(login.mechanism)?;
        self.prove(login)?;
        self.ask();
        let mut was_again = false;
        while self.out.one_in(2) {
            if was_again {
                self.out.line(format!("pass {AGAIN_MS}"));
            }
            was_again = true;
            self.again(login)?;
            self.ask();
        }
        Ok(())
    }

    fn login(&mut self) -> Login {
        if self.out.one_in(2) {
            let (mechanism, _, password) = self.out.pick(&SCRAM);
            return Login { mechanism, user: USER, password };
        }
        Login { mechanism: PLAIN, user: self.out.pick(&USERS), password: "" }
    }

    /// What may come before a handshake, and what may not.
    fn introduce(&mut self) -> Result<(), Over> {
        let version = self.out.below(5);
        let ask = format!(r#"ApiVersions ~{version} {{client_software_name="a", client_software_version="1"}}"#);
        match self.out.below(14) {
            0 | 1 => self.say(ask),
            2 => {
                self.say(&ask);
                self.say(ask);
                return Err(self.say_in_vain());
            }
            3 => self.say(r#"raw ApiVersions 99 x"00""#),
            4 => self.say(r#"ApiVersions 3.. {client_software_name="", client_software_version="1"}"#),
            5 => {
                let token = self.out.pick(&[r#""GET / HTTP/1.1""#, r#"x"""#, r#"x"0011""#, r#"x"60820206""#]);
                self.say(format!("token {token}"));
                return Err(self.say_in_vain());
            }
            6 => {
                let (api, version) =
                    (self.out.pick(&["SaslAuthenticate", "Metadata", "ListGroups"]), self.out.below(3));
                self.say(format!("{api} ~{version} {{}}"));
                return Err(self.say_in_vain());
            }
            _ => {}
        }
        Ok(())
    }

    fn shake(&mut self, mechanism: &str) -> Result<(), Over> {
        match self.out.below(14) {
            0 => {
                let (version, other) = (self.out.below(2), self.out.pick(&NOT_OFFERED));
                self.say(format!(r#"SaslHandshake {version} {{mechanism="{other}"}}"#));
                return Err(self.say_in_vain());
            }
            1 => {
                let (version, body) = (self.out.below(2), self.out.pick(&BROKEN));
                self.say(format!("raw SaslHandshake {version} {body}"));
                return Err(self.say_in_vain());
            }
            2 => {
                // nobody reads what comes after the request
                let name: String = mechanism.bytes().map(|byte| format!("{byte:02x}")).collect();
                self.bare = false;
                self.say(format!(r#"raw SaslHandshake 1 x"{:04x}{name}00ff""#, mechanism.len()));
            }
            _ => {
                self.bare = self.out.one_in(4);
                let version = u8::from(!self.bare);
                self.say(format!(r#"SaslHandshake {version} {{mechanism="{mechanism}"}}"#));
            }
        }
        Ok(())
    }

    fn token(&mut self, token: &str) {
        match self.bare {
            true => self.say(format!("token {token}")),
            false => {
                let version = self.out.below(3);
                self.say(format!("SaslAuthenticate ~{version} {{auth_bytes={token}}}"));
            }
        }
    }

    fn prove(&mut self, login: Login) -> Result<(), Over> {
        self.interrupt()?;
        match login.mechanism {
            PLAIN => self.plain(login.user),
            _ => self.scram(login),
        }
    }

    /// Something else, where a token is due.
    fn interrupt(&mut self) -> Result<(), Over> {
        if !self.out.one_in(10) {
            return Ok(());
        }
        let version = self.out.below(5);
        match self.out.below(6) {
            0 => {
                self.say(format!(r#"ApiVersions ~{version} {{client_software_name="a", client_software_version="1"}}"#))
            }
            1 => self.say(r#"raw ApiVersions 99 x"00""#),
            2 => self.say(format!(r#"SaslHandshake ~{version} {{mechanism="PLAIN"}}"#)),
            3 => {
                let (version, body) = (self.out.pick(&[0, 1, 2, 3]), self.out.pick(&BROKEN));
                self.say(format!("raw SaslAuthenticate {version} {body}"));
            }
            4 => self.say(format!("DescribeCluster ~{version} {{}}")),
            _ => self.say(format!("ListGroups ~{version} {{}}")),
        }
        Err(Over)
    }

    fn plain(&mut self, user: &str) -> Result<(), Over> {
        let (right, other) = (password(user), self.out.pick(&["nobody", "alice", "bob"]));
        let parts = |parts: &[&str]| parts.join("\0").into_bytes();
        let flipped = self.flipped(plain::token(user, &right));
        let token = match self.out.below(24) {
            0 => plain::token(user, "other-secret"),
            1 => plain::token("nobody", &right),
            2 => plain::token("", &right),
            3 => plain::token(user, ""),
            4 if other != user => parts(&[other, user, &right]),
            5 => parts(&[other, "nobody", &right]),
            6 => parts(&[user, &right]),
            7 => parts(&["", user, &right, ""]),
            8 => Vec::new(),
            9 => (0..self.out.below(40)).map(|_| self.out.below(256) as u8).collect(),
            10 => flipped,
            11 => parts(&["", &user.to_uppercase(), &right]),
            found => {
                let whom = if found % 2 == 0 { user } else { "" };
                self.token(&bytes(parts(&[whom, user, &right])));
                return Ok(());
            }
        };
        self.token(&bytes(token));
        Err(self.say_in_vain())
    }

    /// With another bit somewhere.
    fn flipped(&mut self, mut token: Vec<u8>) -> Vec<u8> {
        let (place, bit) = (self.out.below(token.len()), self.out.below(8));
        token[place] ^= 1 << bit;
        token
    }

    fn scram(&mut self, login: Login) -> Result<(), Over> {
        let Login { mechanism, user, password } = login;
        let first = format!(r#"scram("{mechanism}", "{user}")"#);
        let kind = self.out.below(24);
        match kind {
            0 => {
                let token = format!("{:?}", self.out.pick(&NO_FIRST));
                self.token(&token);
                return Err(self.say_in_vain());
            }
            1 => {
                let stranger = self.out.pick(&["stranger", "alice", "Scram-login", "a,b=c"]);
                self.token(&format!(r#"scram("{mechanism}", "{stranger}")"#));
                return Err(Over);
            }
            2 => {
                let token = self.flipped(format!("n,,n={user},r=rOprNGfwEbeRWgbNEkqO").into_bytes());
                self.token(&bytes(token));
                return Err(Over);
            }
            3 => {
                let extensions = self.out.pick(&["a=b", "tokenauth=false", "tokenauth=true", "x=1,y=2"]);
                self.token(&format!(r#""n,,n={user},r=abc,{extensions}""#));
                return Err(Over);
            }
            // (that he speaks for himself is taken into account in what is signed)
            4 if !self.bare => self.token(&format!(r#""n,a={user},n={user},r=rOprNGfwEbeRWgbNEkqO""#)),
            _ => self.token(&first),
        }
        self.out.line("let c = auth_bytes");
        self.interrupt()?;
        let proof = |password: &str| format!(r#"proof("{mechanism}", "{user}", "{password}", $c)"#);
        let last = match kind {
            4 if !self.bare => {
                self.token(&proof(password));
                return Err(Over);
            }
            5 => proof("other"),
            6 => proof(if password == SCRAM[0].2 { SCRAM[1].2 } else { SCRAM[0].2 }),
            7 => format!("{:?}", self.out.pick(&NO_LAST)),
            8 => format!(r#"concat({}, "=")"#, proof(password)),
            // (not in the last letters: some have bits that stand for nothing, and that Java does not look at)
            9 | 10 => format!("flipped({}, {}, {})", proof(password), 5 + self.out.below(60), 1 << self.out.below(8)),
            11 => first,
            _ => {
                self.token(&proof(password));
                return Ok(());
            }
        };
        self.token(&last);
        Err(self.say_in_vain())
    }

    /// What somebody asks.
    fn ask(&mut self) {
        let version = self.out.below(3);
        match self.out.below(6) {
            0 => self.say(format!(r#"SaslAuthenticate ~{version} {{auth_bytes="abc"}}"#)),
            1 => self.say("Metadata last {topics=[]}"),
            _ => self.say(format!("DescribeCluster ~{version} {{include_cluster_authorized_operations=true}}")),
        }
    }

    /// He says again who he is: the same, by the same mechanism, or his connection ends.
    fn again(&mut self, login: Login) -> Result<(), Over> {
        match self.out.below(14) {
            0 => {
                let (version, other) = (self.out.below(2), self.out.pick(&NOT_OFFERED));
                self.say(format!(r#"SaslHandshake {version} {{mechanism="{other}"}}"#));
                Err(Over)
            }
            1 => {
                let (other, _, _) = self.out.pick(&SCRAM);
                let other = if other == login.mechanism { PLAIN } else { other };
                self.shake(other)?;
                self.token(r#""any""#);
                Err(self.say_in_vain())
            }
            2 if login.mechanism == PLAIN => {
                self.shake(PLAIN)?;
                let other = if login.user == USERS[0] { USERS[1] } else { USERS[0] };
                self.token(&bytes(plain::token(other, &password(other))));
                Err(self.say_in_vain())
            }
            _ => {
                self.shake(login.mechanism)?;
                self.prove(login)
            }
        }
    }
}

/// As scripts write them.
fn bytes(bytes: Vec<u8>) -> String {
    show(&Expr::Literal(Tree::Bytes(bytes.into())))
}

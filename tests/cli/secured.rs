//! Secured brokers: what README says, and `corelane security` against them.

use corelane_tests::broker::{Broker, BrokerOptions, binary, is_corelane};
use corelane_tests::command::{Output, corelane_with, run};
use corelane_tests::connection::Connection;
use corelane_tests::java::repository;
use corelane_tests::tls::Authority;
use corelane_tests::{ports, process, scratch, wait};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

/// The blocks of code of README's part on secured brokers.
fn readme() -> Vec<String> {
    let text = fs::read_to_string(repository().join("README.md")).expect("README.md");
    let part = text.split("### Secured").nth(1).and_then(|rest| rest.split("\n## ").next()).expect("its part");
    let blocks: Vec<String> =
        part.split("```sh\n").skip(1).map(|b| b.split("```").next().expect("an end").to_owned()).collect();
    assert_eq!(blocks.iter().map(|b| b.lines().count()).sum::<usize>(), 5, "five lines");
    blocks
}

/// A shell in which `corelane` is the binary under test, which ends when its shell does.
fn shell(folder: &Path, script: &str) -> std::process::Command {
    let bin = folder.join("bin");
    fs::create_dir_all(&bin).expect("a folder");
    let path = bin.join("corelane");
    let text = format!("#!/bin/sh\nexec setpriv --pdeathsig KILL -- '{}' \"$@\"\n", binary().display());
    fs::write(&path, text).expect("a script");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("a script");
    let mut command = process::command("bash");
    let search = format!("{}:{}", bin.display(), std::env::var("PATH").expect("PATH"));
    command.args(["-euc", script]).current_dir(folder).env("PATH", search);
    command
}

#[test]
fn the_five_lines_of_the_readme_secure_a_broker() {
    if !is_corelane() {
        return;
    }
    let folder = scratch::folder("readme");
    // All that is changed of the lines: a port that nobody else has.
    let port = ports::free(1).to_string();
    let blocks: Vec<String> = readme().iter().map(|block| block.replace("9093", &port)).collect();
    let (server, client) = (&blocks[0], &blocks[1]);
    let log = fs::File::create(folder.join("server.log")).expect("a file");
    let mut command = shell(&folder, server);
    command.stdin(Stdio::null()).stdout(log.try_clone().expect("a file")).stderr(log);
    let mut broker = process::spawn(command).expect("bash");
    let said = || fs::read_to_string(folder.join("server.log")).unwrap_or_default();
    wait::until("the broker to serve", Duration::from_secs(60), || {
        assert!(broker.try_wait().expect("the broker").is_none(), "{}", said());
        said().contains(&format!("localhost:{port}")).then_some(())
    });
    let out = run(shell(&folder, client), b"").ok();
    assert_eq!(out.lines().last(), Some("hello"), "{out}");
    let ask =
        |more: &str| run(shell(&folder, &format!("corelane topic list --bootstrap localhost:{port} {more}")), b"");
    assert!(
        ask("--tls-ca secrets/ca.pem --user alice --password-file <(echo alice-secret)").ok().contains("greetings")
    );
    ask("--tls-ca secrets/ca.pem --user alice --password-file <(echo wrong)").fails(6, &["SASL_AUTHENTICATION_FAILED"]);
    for anonymous in ["", "--tls-ca secrets/ca.pem"] {
        let out = ask(anonymous);
        assert!(out.code != Some(0) && !out.stdout.contains("greetings"), "{anonymous}: {out:?}");
    }
    broker.kill().expect("an end");
    broker.wait().expect("the end");
}

/// How long a client may stay without showing again who he is. It does so when nine tenths of that are over; the last is for machines
/// on which a request takes its time.
const SESSION: Duration = Duration::from_secs(8);

/// A broker whose second listener asks who one is, and lets rules decide; its first is for its readiness.
fn secured(authority: &Authority) -> Broker {
    let mut options = BrokerOptions {
        set: authority.properties(),
        advertise: "node".into(),
        listen: Some(|port| format!("PLAINTEXT://127.0.0.1:{port},SASL_SSL://localhost:{}", port + 8)),
        ..BrokerOptions::default()
    };
    let plain = "org.apache.kafka.common.security.plain.PlainLoginModule required user_root=\"root-secret\";";
    options = options.set("sasl.enabled.mechanisms", "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512");
    options = options.set("listener.name.sasl_ssl.plain.sasl.jaas.config", plain);
    options = options.set("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer");
    Broker::start(
        options.set("super.users", "User:root;User:ANONYMOUS").set("connections.max.reauth.ms", SESSION.as_millis()),
    )
}

struct Client<'a> {
    broker: &'a Broker,
    folder: &'a Path,
    ca: String,
}

impl Client<'_> {
    fn run(&self, flags: &[&str], arguments: &[&str], input: &str) -> Output {
        let bootstrap = format!("localhost:{}", self.broker.port() + 8);
        corelane_with(&bootstrap, &[arguments, &["--tls-ca", &self.ca], flags].concat(), input.as_bytes())
    }

    /// As a user, whose password is his name and `-secret`.
    fn user(&self, name: &str, arguments: &[&str], input: &str) -> Output {
        let path = self.folder.join(format!("{name}.password"));
        // Others may read it now.
        if !path.exists() {
            fs::write(&path, format!("{name}-secret\n")).expect("a file");
        }
        let path = path.display().to_string();
        let mechanism = if name == "root" { "PLAIN" } else { "SCRAM-SHA-512" };
        self.run(&["--user", name, "--password-file", &path, "--sasl-mechanism", mechanism], arguments, input)
    }
}

fn rules(out: Value, key: &str) -> Vec<String> {
    let text = |rule: &Value| {
        let fields = ["principal", "host", "permission", "operation", "resource", "pattern", "name"];
        fields.map(|field| rule[field].as_str().expect("a text").to_owned()).join(" ")
    };
    out[key].as_array().expect("rules").iter().map(text).collect()
}

#[test]
fn users_and_rules_are_made_listed_and_deleted_and_decide() {
    if !is_corelane() {
        return;
    }
    let folder = scratch::folder("secured-cli");
    let authority = Authority::make(&folder);
    let broker = secured(&authority);
    let client = Client { broker: &broker, folder: &folder, ca: authority.pem("ca").display().to_string() };
    let root = |arguments: &[&str], input: &str| client.user("root", arguments, input);
    root(&["topic", "create", "orders", "-p", "1"], "").ok();
    // Users.
    let users = || root(&["security", "user", "list", "--json"], "").json()["users"].clone();
    assert_eq!(users(), json!([]));
    client.user("bob", &["topic", "list"], "").fails(6, &["bob", "SASL_AUTHENTICATION_FAILED"]);
    let added = root(&["security", "user", "add", "bob"], "bob-secret\n").ok();
    assert!(added.contains("bob") && !added.contains("secret"), "{added}");
    root(&["security", "user", "add", "eve", "--mechanism", "scram-sha-256", "--iterations", "8192"], "x").ok();
    let both = [("SCRAM-SHA-256", 4096), ("SCRAM-SHA-512", 4096)]
        .map(|(mechanism, iterations)| json!({ "mechanism": mechanism, "iterations": iterations }));
    let eve = json!([{ "mechanism": "SCRAM-SHA-256", "iterations": 8192 }]);
    assert_eq!(users(), json!([{ "name": "bob", "credentials": both }, { "name": "eve", "credentials": eve }]));
    assert!(root(&["security", "user", "list", "eve"], "").ok().contains("8192"));
    root(&["security", "user", "list", "nobody"], "").fails(4, &["nobody"]);
    root(&["security", "user", "add", "no"], "").fails(2, &["one line"]);
    root(&["security", "user", "delete", "eve"], "").ok();
    root(&["security", "user", "delete", "eve"], "").fails(4, &["eve"]);
    root(&["security", "user", "delete", "eve", "--if-exists"], "").ok();
    // Rules.
    let bob = |arguments: &[&str], input: &str| client.user("bob", arguments, input);
    bob(&["security", "acl", "list"], "").fails(6, &["CLUSTER_AUTHORIZATION_FAILED"]);
    bob(&["produce", "orders"], "one\n").fails(6, &["TOPIC_AUTHORIZATION_FAILED"]);
    let acl = |arguments: &[&str]| root(&[&["security", "acl"], arguments].concat(), "");
    acl(&["add", "--principal", "User:bob", "--producer", "--topic", "orders"]).ok();
    bob(&["produce", "orders"], "one\n").ok();
    bob(&["consume", "orders", "--from", "beginning", "-e"], "").fails(6, &["TOPIC_AUTHORIZATION_FAILED"]);
    let (g, topic) = (["--group", "team-"], ["--topic", "ord"]);
    let more = ["--resource-pattern-type", "prefixed", "--principal", "User:bob", "--consumer"];
    acl(&[&["add"], &more[..], &g, &topic].concat()).ok();
    assert_eq!(bob(&["consume", "orders", "-g", "team-a", "--from", "beginning", "-n", "1"], "").ok(), "one\n");
    let list = |more: &[&str]| rules(acl(&[&["list", "--json"], more].concat()).json(), "rules");
    let on_orders = ["Create", "Describe", "Write"].map(|o| format!("User:bob * Allow {o} Topic Literal orders"));
    let on_ord = ["Describe", "Read"].map(|o| format!("User:bob * Allow {o} Topic Prefixed ord"));
    let sorted = |mut rules: Vec<String>| {
        rules.sort_unstable();
        rules
    };
    assert_eq!(sorted(list(&["--topic", "orders"])), on_orders);
    let matching = sorted(list(&["--topic", "orders", "--resource-pattern-type", "match"]));
    assert_eq!(matching, sorted([&on_orders[..], &on_ord].concat()));
    let of_group = "User:bob * Allow Read Group Prefixed team-";
    assert_eq!(list(&["--group", "team-", "--resource-pattern-type", "any"]), [of_group]);
    assert_eq!(list(&["--principal", "User:bob"]).len(), 6);
    assert_eq!(list(&["--principal", "User:eve"]), [""; 0]);
    assert!(acl(&["list"]).ok().contains("team-"));
    acl(&["add", "--principal", "User:bob", "--deny", "--operation", "write", "--topic", "orders", "--host", "::1"])
        .ok();
    let (words, here) = (["--principal", "User:bob", "--deny", "--operation", "Write"], ["--host", "127.0.0.1"]);
    acl(&[&["add", "--topic", "orders"], &words[..], &here].concat()).ok();
    bob(&["produce", "orders"], "two\n").fails(6, &["AUTHORIZATION_FAILED"]);
    let denied = rules(acl(&["delete", "--deny", "--json"]).json(), "deleted");
    assert_eq!(denied.len(), 2, "{denied:?}");
    bob(&["produce", "orders"], "two\n").ok();
    acl(&["delete"]).fails(2, &["--all"]);
    acl(&["add", "--principal", "bob", "--operation", "read", "--topic", "t"]).fails(2, &["User:alice"]);
    acl(&["add", "--principal", "User:bob", "--operation", "read", "--cluster"]).fails(2, &["Cluster", "Read"]);
    acl(&["add", "--principal", "User:bob", "--topic", "t"]).fails(2, &["--operation"]);
    assert_eq!(rules(acl(&["delete", "--all", "--json"]).json(), "deleted").len(), 6);
    assert!(acl(&["list"]).ok().contains("no rules"));
}

#[test]
fn a_client_keeps_itself_known_and_reads_kafkas_properties() {
    if !is_corelane() {
        return;
    }
    let folder = scratch::folder("client-properties");
    let authority = Authority::make(&folder);
    let broker = secured(&authority);
    let client = Client { broker: &broker, folder: &folder, ca: authority.pem("ca").display().to_string() };
    client.user("root", &["topic", "create", "long", "-p", "2"], "").ok();
    // Longer than anybody may stay without showing again who he is.
    let longer_than_that = (SESSION + Duration::from_secs(1)).as_secs().to_string();
    let bench = |topic: &str, more: &[&str]| {
        let seconds = ["--seconds", &longer_than_that, "--warmup", "0", "--size", "100", "--partitions", "2"];
        let whole = [&["bench", more[0], "--json", "--quiet", "--topic", topic], &seconds[..], &more[1..]].concat();
        let out = client.user("root", &whole, "").json();
        assert!(out["acked"].as_u64() > Some(0), "{out}");
        assert_eq!((&out["errors"], &out["unsent"]), (&json!(0), &json!(0)), "{out}");
    };
    std::thread::scope(|threads| {
        let reader = || client.user("root", &["consume", "long", "--from", "beginning", "-n", "1"], "");
        let reader = threads.spawn(reader);
        // One request at a time, at a rate, without answers, and read at the same time.
        threads.spawn(|| bench("bench-loop", &["produce", "--request", "1KiB", "--batch", "1KiB", "--inflight", "1"]));
        threads.spawn(|| bench("bench-rate", &["produce", "--rate", "200", "--acks", "0"]));
        threads.spawn(|| bench("bench-both", &["latency", "--rate", "200"]));
        let longer = SESSION + Duration::from_secs(1);
        assert!(wait::within(longer, || reader.is_finished().then_some(())).is_none());
        client.user("root", &["produce", "long"], "late\n").ok();
        assert_eq!(reader.join().expect("the reader").ok(), "late\n");
    });
    assert!(!broker.log().contains("its session has ended"), "{}", broker.log());
    let file = |name: &str, text: &str| {
        let path = folder.join(name);
        fs::write(&path, text).expect("a file");
        path.display().to_string()
    };
    let bootstrap = format!("localhost:{}", broker.port() + 8);
    let with = |config: &str| corelane_with(&bootstrap, &["topic", "list", "--command-config", config], b"");
    let text = format!(
        "security.protocol=SASL_SSL\nsasl.mechanism=PLAIN\nssl.truststore.type=PEM\nssl.truststore.location={}\nacks=all\n\
         sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required \\\n  username=\"root\" \\\n  \
         password=\"root-secret\";\n",
        client.ca
    );
    let out = with(&file("client.properties", &text));
    assert!(out.stderr.contains("acks"), "{}", out.stderr);
    assert!(out.ok().contains("long"));
    let wrong = with(&file("wrong.properties", &text.replace("root-secret", "other-secret")));
    assert!(!wrong.stderr.contains("other-secret"), "{}", wrong.stderr);
    wrong.fails(6, &["SASL_AUTHENTICATION_FAILED"]);
    with(&file("mechanism.properties", &text.replace("=PLAIN", "=GSSAPI"))).fails(2, &["sasl.mechanism", "GSSAPI"]);
    with(&folder.join("none").display().to_string()).fails(4, &["none"]);
    let stranger = scratch::folder("client-stranger");
    let ca = Authority::make(&stranger).pem("ca").display().to_string();
    let out = corelane_with(&bootstrap, &["topic", "list", "--tls-ca", &ca], b"");
    out.fails(1, &["no TLS", "invalid peer certificate"]);
}

/// Sessions that end before, or just after, a client may show again who he is, which is a second after he did so last.
#[test]
fn a_client_of_short_sessions_does_not_show_himself_too_often() {
    if !is_corelane() {
        return;
    }
    let folder = scratch::folder("short-sessions");
    let users = folder.join("users");
    fs::write(&users, "root=root-secret\n").expect("a file");
    let options = BrokerOptions {
        advertise: "node".into(),
        listen: Some(|port| format!("PLAINTEXT://127.0.0.1:{port},SASL_PLAINTEXT://127.0.0.1:{}", port + 8)),
        ..BrokerOptions::default()
    };
    let plain = "org.apache.kafka.common.security.plain.PlainLoginModule required user_root=\"root-secret\";";
    let options = options
        .set("sasl.enabled.mechanisms", "PLAIN,SCRAM-SHA-256")
        .set("listener.name.sasl_plaintext.plain.sasl.jaas.config", plain)
        .set("scram.users.file", users.display())
        .set("connections.max.reauth.ms", 1100)
        .set("listener.name.sasl_plaintext.scram-sha-256.connections.max.reauth.ms", 500);
    let broker = Broker::start(options);
    let bootstrap = format!("127.0.0.1:{}", broker.port() + 8);
    let password = folder.join("password");
    fs::write(&password, "root-secret\n").expect("a file");
    fs::set_permissions(&password, fs::Permissions::from_mode(0o600)).expect("a file");
    let password = password.display().to_string();
    for mechanism in ["PLAIN", "SCRAM-SHA-256"] {
        let who = ["--user", "root", "--password-file", &password, "--sasl-mechanism", mechanism];
        let run = ["--rate", "50", "--seconds", "3", "--warmup", "0", "--size", "100", "--partitions", "1"];
        let whole = [&["bench", "produce", "--json", "--quiet", "--topic", "short"], &run[..], &who].concat();
        // Who is held up between two requests finds his session over, which is nobody's fault.
        let mut said = String::new();
        let through = wait::within(Duration::from_secs(60), || {
            let out = corelane_with(&bootstrap, &whole, b"");
            said = format!("{}{}", out.stdout, out.stderr);
            (out.code == Some(0)).then(|| out.json()).filter(|out| out["errors"] == 0 && out["unsent"] == 0)
        });
        assert!(through.is_some(), "{mechanism}: {said}");
    }
    // Whose user is taken away in the middle is told of that, and not of the connection that ends with it.
    let user = ["security", "user", "delete", "root", "--mechanism", "scram-sha-256"];
    let mut attempts = 0;
    let told = wait::until("the refusal", Duration::from_secs(60), || {
        attempts += 1;
        let topic = format!("taken-away-{attempts}");
        let add = [&user[..2], &["add"], &user[3..]].concat();
        corelane_with(broker.bootstrap(), &add, b"root-secret\n").ok();
        let run = ["--rate", "50", "--seconds", "3", "--warmup", "0", "--size", "100", "--partitions", "1"];
        let who = ["--user", "root", "--password-file", &password, "--sasl-mechanism", "SCRAM-SHA-256"];
        let whole = [&["bench", "produce", "--quiet", "--topic", &topic], &run[..], &who].concat();
        std::thread::scope(|threads| {
            let bench = threads.spawn(|| corelane_with(&bootstrap, &whole, b""));
            let mut reader = Connection::open(broker.bootstrap()).expect("a connection");
            let begun = || reader.fetch(&topic, 0, 0).ok().filter(|answer| answer.high_watermark > 0);
            wait::until("its first message", Duration::from_secs(60), begun);
            corelane_with(broker.bootstrap(), &user, b"").ok();
            Some(bench.join().expect("the benchmark")).filter(|out| out.code == Some(6))
        })
    });
    told.fails(6, &["user root: Authentication failed", "SASL_AUTHENTICATION_FAILED"]);
}

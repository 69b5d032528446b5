//! kafka-acls.

use crate::both::on_both;

const ACLS: &str = "org.apache.kafka.tools.AclCommand";

#[test]
fn kafka_acls() {
    on_both(|side| {
        let acls = |arguments: &[&str]| side.tool(ACLS, arguments);
        let sorted = |arguments: &[&str]| {
            let text = side.unseen(ACLS, arguments, "").ok();
            let mut lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
            lines.sort_unstable();
            side.note(&lines.join("\n"));
        };
        sorted(&["--add", "--allow-principal", "User:alice", "--operation", "Read", "--topic", "tools-acl"]);
        sorted(&[
            "--add",
            "--allow-principal",
            "User:bob",
            "--allow-host",
            "10.0.0.1",
            "--producer",
            "--topic",
            "tools-acl",
        ]);
        sorted(&[
            "--add",
            "--allow-principal",
            "User:carol",
            "--consumer",
            "--topic",
            "tools-",
            "--group",
            "tools-",
            "--resource-pattern-type",
            "prefixed",
        ]);
        sorted(&["--add", "--deny-principal", "User:mallory", "--operation", "All", "--group", "*"]);
        sorted(&[
            "--add",
            "--allow-principal",
            "User:dave",
            "--producer",
            "--topic",
            "tools-acl",
            "--transactional-id",
            "tools-txn",
        ]);
        sorted(&["--list"]);
        sorted(&["--list", "--topic", "tools-acl"]);
        sorted(&["--list", "--topic", "tools-acl", "--resource-pattern-type", "match"]);
        sorted(&["--list", "--principal", "User:bob", "--topic", "tools-acl"]);
        assert_ne!(
            acls(&["--add", "--allow-principal", "alice", "--operation", "Read", "--topic", "tools-acl"]).status,
            0
        );
        assert_ne!(
            acls(&["--add", "--allow-principal", "User:alice", "--operation", "Commit", "--topic", "tools-acl"]).status,
            0
        );
        sorted(&[
            "--remove",
            "--force",
            "--allow-principal",
            "User:alice",
            "--operation",
            "Read",
            "--topic",
            "tools-acl",
        ]);
        sorted(&["--remove", "--force", "--topic", "tools-acl"]);
        sorted(&["--list"]);
        for pattern in [&["--topic", "tools-", "--group", "tools-"][..], &["--group", "*"]] {
            let kind = if pattern[1] == "*" { "literal" } else { "prefixed" };
            sorted(&[&["--remove", "--force", "--resource-pattern-type", kind], pattern].concat());
        }
        sorted(&["--remove", "--force", "--transactional-id", "tools-txn"]);
        sorted(&["--list"]);
    });
}

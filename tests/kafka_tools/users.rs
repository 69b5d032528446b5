//! kafka-configs on users who come by SCRAM.

use crate::both::on_both;
use crate::quotas::sorted_values;

const CONFIGS: &str = "kafka.admin.ConfigCommand";

#[test]
fn kafka_configs_of_scram_users() {
    on_both(|side| {
        let of = |user: &str, change: &[&str]| {
            side.tool(CONFIGS, &[&["--entity-type", "users", "--entity-name", user], change].concat())
        };
        let alter = |user: &str, change: &[&str]| of(user, &[&["--alter"], change].concat());
        let describe = |of: &[&str]| {
            let text = side.unseen(CONFIGS, &[&["--entity-type", "users", "--describe"], of].concat(), "").ok();
            let mut lines: Vec<String> = text.lines().map(sorted_values).collect();
            lines.sort_unstable();
            side.note(&lines.join("\n"));
            lines.join("\n")
        };
        let one = |user: &str| describe(&["--entity-name", user]);
        // One mechanism at a time: a user changes once in a request.
        alter("tools-sam", &["--add-config", "SCRAM-SHA-256=[iterations=8192,password=one-secret]"]).ok();
        alter("tools-sam", &["--add-config", "SCRAM-SHA-512=[password=other-secret]"]).ok();
        alter("tools-tom", &["--add-config", "SCRAM-SHA-512=[iterations=4096,password=toms-secret]"]).ok();
        let sam = one("tools-sam");
        assert!(sam.contains("SCRAM-SHA-256=iterations=8192") && !sam.contains("secret"), "{sam}");
        one("tools-tom");
        one("tools-none");
        describe(&[]);
        let twice = "SCRAM-SHA-256=[password=x],SCRAM-SHA-512=[password=y]";
        let mixed = "SCRAM-SHA-256=[password=x],producer_byte_rate=5";
        for refused in [
            "SCRAM-SHA-256=[iterations=4095,password=x]",
            "SCRAM-SHA-256=[iterations=16385,password=x]",
            "SCRAM-SHA-256=[iterations=8192]",
            "SCRAM-SHA-1=[password=x]",
            twice,
            mixed,
        ] {
            assert_ne!(alter("tools-sam", &["--add-config", refused]).status, 0, "{refused}");
        }
        assert_ne!(alter("tools-tom", &["--delete-config", "SCRAM-SHA-256"]).status, 0);
        alter("tools-sam", &["--delete-config", "SCRAM-SHA-256"]).ok();
        one("tools-sam");
        alter("tools-sam", &["--delete-config", "SCRAM-SHA-512"]).ok();
        alter("tools-tom", &["--delete-config", "SCRAM-SHA-512"]).ok();
        one("tools-sam");
    });
}

//! kafka-delegation-tokens, and tools that log in with a token.

use crate::both::{Side, on_both};
use std::cell::RefCell;

const TOKENS: &str = "org.apache.kafka.tools.DelegationTokenCommand";
const TOPICS: &str = "org.apache.kafka.tools.TopicCommand";

/// A tool on one broker, and how its tokens are called in the transcript.
struct Tokens<'a> {
    side: &'a Side,
    /// Ids and HMACs.
    known: RefCell<Vec<[String; 2]>>,
    alice: String,
}

impl Tokens<'_> {
    fn run(&self, class: &str, config: &str, arguments: &[&str]) -> i32 {
        let output = self.side.unseen_by_sasl(class, &[&["--command-config", config], arguments].concat());
        for line in output.stdout.lines() {
            let mut words = line.split_whitespace();
            if let (Some(id), Some(hmac)) = (words.next(), words.next())
                && id.len() == 22
                && hmac.len() == 88
                && !self.known.borrow().iter().any(|[known, _]| known == id)
            {
                self.known.borrow_mut().push([id.to_owned(), hmac.to_owned()]);
            }
        }
        let arguments = arguments.join(" ");
        let shown = [&arguments, &output.stdout, &output.stderr].map(|text| self.masked(text)).join("\n");
        let mut lines: Vec<&str> = shown.lines().collect();
        // Kafka lists tokens in no order
        lines.sort_unstable();
        self.side.note(&lines.join("\n"));
        self.side.note(&format!("-> {}", output.status));
        output.status
    }

    /// Without what is never the same: names of tokens, and minutes.
    fn masked(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (at, [id, hmac]) in self.known.borrow().iter().enumerate() {
            text = text.replace(id, &format!("ID-{at}")).replace(hmac, &format!("HMAC-{at}"));
        }
        let mut out = String::new();
        for word in text.split_inclusive(char::is_whitespace) {
            let is_minute = word.trim().len() == 16 && word.starts_with("20") && word.contains('T');
            out.push_str(if is_minute { "MINUTE " } else { word });
        }
        out
    }

    fn of_alice(&self, arguments: &[&str]) -> i32 {
        self.run(TOKENS, &self.alice, arguments)
    }

    fn hmac(&self, at: usize) -> String {
        self.known.borrow()[at][1].clone()
    }

    fn by_token(&self, at: usize, mechanism: &str) -> String {
        let [id, hmac] = self.known.borrow()[at].clone();
        let text = format!(
            "security.protocol=SASL_PLAINTEXT\nsasl.mechanism={mechanism}\n\
             sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required \
             username=\"{id}\" password=\"{hmac}\" tokenauth=\"true\";\n"
        );
        self.side.file(&format!("token-{at}-{mechanism}.properties"), &text)
    }
}

#[test]
fn kafka_delegation_tokens() {
    on_both(|side| {
        let alice = side.file(
            "alice.properties",
            "security.protocol=SASL_PLAINTEXT\nsasl.mechanism=PLAIN\n\
             sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required \
             username=\"alice\" password=\"secret\";\n",
        );
        let tokens = Tokens { side, known: RefCell::default(), alice };
        let (lifetime, renewal, end) = ("--max-life-time-period", "--renew-time-period", "--expiry-time-period");
        let made = tokens.of_alice(&["--create", lifetime, "-1", "--renewer-principal", "User:bob"]);
        assert_eq!((made, tokens.known.borrow().len()), (0, 1));
        tokens.of_alice(&["--create", lifetime, "3600000", "--owner-principal", "User:bob"]);
        assert_eq!(tokens.known.borrow().len(), 2);
        assert_ne!(tokens.of_alice(&["--create", lifetime, "-1", "--renewer-principal", "Group:g"]), 0);
        tokens.of_alice(&["--describe"]);
        tokens.of_alice(&["--describe", "--owner-principal", "User:alice", "--owner-principal", "User:bob"]);
        tokens.of_alice(&["--describe", "--owner-principal", "User:carol"]);
        let hmac = tokens.hmac(0);
        assert_eq!(tokens.of_alice(&["--renew", "--hmac", &hmac, renewal, "-1"]), 0);
        assert_ne!(tokens.of_alice(&["--renew", "--hmac", &tokens.hmac(1), renewal, "-1"]), 0);
        assert_ne!(tokens.of_alice(&["--renew", "--hmac", "AAAA", renewal, "-1"]), 0);
        let by_token = tokens.by_token(0, "SCRAM-SHA-256");
        assert_eq!(tokens.run(TOPICS, &by_token, &["--list", "--topic", "none"]), 0);
        assert_eq!(tokens.run(TOPICS, &tokens.by_token(1, "SCRAM-SHA-512"), &["--list", "--topic", "none"]), 0);
        assert_ne!(tokens.run(TOKENS, &by_token, &["--create", lifetime, "-1"]), 0);
        assert_eq!(tokens.of_alice(&["--expire", "--hmac", &hmac, end, "7200000"]), 0);
        assert_eq!(tokens.of_alice(&["--expire", "--hmac", &hmac, end, "-1"]), 0);
        assert_ne!(tokens.of_alice(&["--expire", "--hmac", &hmac, end, "-1"]), 0);
        assert_ne!(tokens.run(TOPICS, &by_token, &["--list", "--topic", "none"]), 0);
        tokens.of_alice(&["--describe", "--owner-principal", "User:alice"]);
    });
}

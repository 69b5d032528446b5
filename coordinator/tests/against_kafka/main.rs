//! The same random requests to Apache Kafka and to the machine, answers compared.
//!
//! Needs a running Kafka with `group.initial.rebalance.delay.ms=0`, so it only runs when asked for:
//!
//! ```text
//! KAFKA_BOOTSTRAP=localhost:9092 cargo test -p corelane-coordinator --test against_kafka -- --ignored
//! ```
//!
//! `SEED` and `ROUNDS` choose what is run. Member ids differ on the two sides and are compared by who was given them; where
//! Kafka leaves a choice open (whom it has lead after the leader left), a round ends when the two choose differently.

mod kafka;
mod machine;
mod migration;
mod scenario;

use corelane_protocol::{Request, Str, Uuid};

/// Topics that exist, with their ids on each side.
const TOPICS: [&str; 2] = ["orders", "payments"];

/// One side: takes requests, and gives answers when they come.
trait Side {
    /// Sends a request in a version on behalf of a client. Each client has one connection for requests that may wait, and
    /// there is one for the others.
    fn ask<R: Asked>(&mut self, client: usize, version: i16, request: &R) -> Ticket;

    /// The answer, if it has come; waits for it a while if `wait`.
    fn answer<R: Asked>(&mut self, ticket: &Ticket, wait: bool) -> Option<R::Response>;

    fn topic_id(&self, name: &str) -> Uuid;
}

/// A request that the scenarios make.
trait Asked: Request {
    fn may_wait() -> bool {
        false
    }

    fn handle(&self, machine: &mut machine::Machine, version: i16) -> machine::Handled<Self::Response>;
}

#[derive(Clone, Debug)]
struct Ticket {
    client: usize,
    number: i32,
    version: i16,
    may_wait: bool,
}

fn text(text: &str) -> Str {
    Str::from(text.to_owned())
}

#[test]
#[ignore = "needs Apache Kafka"]
fn answers_are_those_of_apache_kafka() {
    let number =
        |name: &str, otherwise: u64| std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(otherwise);
    let bootstrap = std::env::var("KAFKA_BOOTSTRAP").unwrap_or_else(|_| "localhost:9092".to_owned());
    let mut kafka = kafka::Kafka::connect(&bootstrap);
    let seed = number("SEED", 1);
    for round in seed..seed + number("ROUNDS", 30) {
        scenario::run(&mut kafka, &mut machine::Machine::new(), round);
    }
    migration::check(&mut kafka);
}

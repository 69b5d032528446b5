//! What one check costs with 10,000 rules, laid out in ways that could make it dear. Prints nanoseconds a check; exits with an error
//! over 200 ns when told to (`--enforce`).

use std::hint::black_box;
use std::net::IpAddr;
use std::time::Instant;

use corelane_acl::{Acls, Authorizer, Operation, PatternType, Permission, ResourceType, Rule, RuleId};

const RULES: usize = 10_000;
const CHECKS: usize = 1_000_000;
const LIMIT_NS: f64 = 200.0;

fn acls(rule: impl Fn(usize) -> Rule) -> Acls {
    let mut acls = Acls::default();
    for n in 0..RULES {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&(n as u64).to_be_bytes());
        acls.add(RuleId(id), rule(n)).expect("rules differ");
    }
    acls
}

fn rule(principal: String, pattern_type: PatternType, name: String, host: &str) -> Rule {
    let (operation, permission) = (Operation::Read, Permission::Allow);
    Rule {
        principal,
        resource_type: ResourceType::Topic,
        pattern_type,
        name,
        host: host.to_owned(),
        operation,
        permission,
    }
}

/// Which user asks about which topic, for the nth check.
type Asked<'a> = dyn Fn(usize) -> (usize, String) + 'a;

fn main() {
    let enforce = std::env::args().any(|arg| arg == "--enforce");
    let user = |n: usize| format!("User:service-{n}");
    let literal = |n: usize| rule(user(n % 100), PatternType::Literal, format!("team.{}.topic-{n}", n % 37), "*");
    let one_user = |n: usize| rule(user(0), PatternType::Literal, format!("team.{}.topic-{n}", n % 37), "*");
    let one_topic = |n: usize| rule(user(n), PatternType::Literal, "orders".into(), "*");
    let prefixes = |n: usize| {
        let everybody = if n < 200 { "User:*".into() } else { user(n % 100) };
        // Of every length up to 200, so that many fit one name.
        rule(everybody, PatternType::Prefixed, if n < 200 { "p".repeat(n + 1) } else { format!("p{n}") }, "*")
    };
    let hosts =
        |n: usize| rule(user(0), PatternType::Literal, "orders".into(), &format!("10.{}.{}.0/24", n / 256, n % 256));
    let topics = |n: usize| format!("team.{}.topic-{n}", n % 37);
    let cases: [(&str, Acls, &Asked<'_>); 5] = [
        ("literal names of 100 users", acls(literal), &|n| (n % 100, topics(n % RULES))),
        ("literal names of one user", acls(one_user), &|n| (0, topics(n % RULES))),
        ("one topic for each of 10,000 users", acls(one_topic), &|n| (n % RULES, "orders".into())),
        ("a name with 20 prefixes among 10,000", acls(prefixes), &|n| (n % 100, format!("{}x", "p".repeat(20)))),
        ("10,000 networks for one topic", acls(hosts), &|_| (0, "orders".into())),
    ];
    let authorizer = Authorizer::default();
    let mut slow = false;
    for (name, acls, asked) in cases {
        let questions: Vec<_> = (0..20_000)
            .map(|n| {
                let (of, topic) = asked((n * 7919) % RULES);
                (authorizer.who(&user(of), IpAddr::from([10, 3, 4, 5])), topic)
            })
            .collect();
        let mut best = f64::MAX;
        for _ in 0..5 {
            let begun = Instant::now();
            let mut allowed = 0;
            for n in 0..CHECKS / 5 {
                let (who, topic) = &questions[n % questions.len()];
                allowed += usize::from(authorizer.allows(&acls, who, Operation::Read, ResourceType::Topic, topic));
            }
            black_box(allowed);
            best = best.min(begun.elapsed().as_secs_f64() * 1e9 / (CHECKS / 5) as f64);
        }
        slow |= best > LIMIT_NS;
        println!("{best:7.1} ns a check: {name}");
    }
    assert!(!(enforce && slow), "a check takes more than {LIMIT_NS} ns");
}

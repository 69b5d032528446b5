use super::*;
use crate::{CLUSTER_NAME, RuleId};
use proptest::prelude::*;

/// `principal permission operation type pattern name host`
fn rule(text: &str) -> Rule {
    let mut words = text.split(' ');
    let mut next = || words.next().unwrap();
    fn named<T: Copy + std::fmt::Debug>(all: &[T], name: &str) -> T {
        *all.iter().find(|v| format!("{v:?}") == name).unwrap_or_else(|| panic!("{name}"))
    }
    Rule {
        principal: format!("User:{}", next()),
        permission: named(Permission::ALL, next()),
        operation: named(Operation::ALL, next()),
        resource_type: named(ResourceType::ALL, next()),
        pattern_type: named(PatternType::ALL, next()),
        name: next().to_owned(),
        host: next().to_owned(),
    }
}

fn acls(rules: &[&str]) -> Acls {
    let mut acls = Acls::default();
    for (n, text) in rules.iter().enumerate() {
        acls.add(RuleId([n as u8; 16]), rule(text)).unwrap();
    }
    acls
}

fn who(name: &str) -> Who {
    root().who(&format!("User:{name}"), "10.1.2.3".parse().unwrap())
}

fn root() -> Authorizer {
    Authorizer::new(["User:root".to_owned()], false)
}

fn may(acls: &Acls, name: &str, operation: Operation, topic: &str) -> bool {
    Authorizer::default().allows(acls, &who(name), operation, ResourceType::Topic, topic)
}

use Operation::*;

#[test]
fn a_deny_wins_whatever_allows() {
    let acls = acls(&[
        "a Allow All Topic Literal * *",
        "a Allow Read Topic Literal secret *",
        "* Deny Read Topic Prefixed sec *",
        "a Deny Write Topic Literal orders 10.0.0.0/8",
        "a Deny Write Topic Literal others 11.0.0.0/8",
    ]);
    assert!(may(&acls, "a", Read, "orders") && may(&acls, "a", Write, "secret"));
    assert!(!may(&acls, "a", Read, "secret") && !may(&acls, "a", Read, "sec"));
    assert!(!may(&acls, "a", Write, "orders"), "this client comes from 10.1.2.3");
    assert!(may(&acls, "a", Write, "others"));
    assert!(may(&acls, "a", Describe, "secret"), "a denied read does not deny to describe");
    assert!(!may(&acls, "b", Read, "orders"), "nobody allowed it to");
    assert!(root().allows(&acls, &who("root"), Read, ResourceType::Topic, "secret"), "super users are above the rules");
}

#[test]
fn what_is_allowed_implies_that_it_may_be_described() {
    for operation in [Read, Write, Delete, Alter] {
        let acls = acls(&[&format!("a Allow {operation:?} Topic Literal t *")]);
        assert!(may(&acls, "a", Describe, "t") && !may(&acls, "a", DescribeConfigs, "t"), "{operation:?}");
    }
    let acls = acls(&["a Allow AlterConfigs Topic Literal t *", "b Allow Create Topic Literal t *"]);
    assert!(may(&acls, "a", DescribeConfigs, "t") && !may(&acls, "a", Describe, "t"));
    assert!(!may(&acls, "b", Describe, "t"));
}

#[test]
fn names_that_look_like_patterns_are_names() {
    let acls = acls(&[
        "a Allow Read Topic Prefixed * *",
        "b Allow Read Topic Literal * *",
        "b Deny Read Topic Literal *x *",
        "c Allow Read Group Literal * *",
    ]);
    assert!(may(&acls, "a", Read, "*x") && may(&acls, "a", Read, "*"), "a prefix of one star");
    assert!(!may(&acls, "a", Read, "x"), "is no wildcard");
    assert!(may(&acls, "b", Read, "*y") && !may(&acls, "b", Read, "*x"));
    assert!(!may(&acls, "c", Read, "x"), "another type of resource");
    assert!(!may(&acls, "*", Read, "*x"), "a user called * is not everybody");
}

#[test]
fn without_a_rule_everybody_may_where_that_is_configured() {
    let acls = acls(&["a Allow Read Topic Literal t nowhere", "a Allow Read Topic Prefixed p *"]);
    let open = Authorizer::new([], true);
    let allows = |topic| open.allows(&acls, &who("b"), Write, ResourceType::Topic, topic);
    assert!(allows("other"));
    assert!(!allows("t"), "a rule that nobody falls under is a rule for the topic");
    assert!(!allows("prefix"), "so is one for a prefix of its name");
    assert!(open.allows(&acls, &who("b"), Alter, ResourceType::Cluster, CLUSTER_NAME));
}

#[test]
fn addresses_are_compared_as_addresses() {
    let acls = acls(&["a Allow Read Topic Literal t 0:0:0:0:0:0:0:1", "a Allow Write Topic Literal t 127.0.0.1"]);
    let allows = |address: &str, operation| {
        let who = Authorizer::default().who("User:a", address.parse().unwrap());
        Authorizer::default().allows(&acls, &who, operation, ResourceType::Topic, "t")
    };
    assert!(allows("::1", Read) && !allows("::2", Read));
    assert!(allows("::ffff:127.0.0.1", Write), "a socket of both families shows an IPv4 client so");
}

#[test]
fn some_topic_is_writable_unless_each_allowed_one_is_denied() {
    let some = |rules: &[&str]| Authorizer::default().allows_some(&acls(rules), &who("a"), Write, ResourceType::Topic);
    assert!(!some(&[]) && some(&["a Allow Write Topic Literal t *"]) && some(&["* Allow All Topic Prefixed t *"]));
    assert!(!some(&["a Allow Write Topic Literal t *", "* Deny Write Topic Literal t *"]));
    assert!(some(&["a Allow Write Topic Prefixed t *", "a Deny Write Topic Literal t *"]));
    assert!(!some(&["a Allow Write Topic Prefixed tt *", "a Deny All Topic Prefixed t *"]));
    assert!(some(&["a Allow Write Topic Prefixed t *", "a Deny All Topic Prefixed tt *"]));
    assert!(!some(&["a Allow Write Topic Literal t *", "a Deny Write Topic Literal * *"]));
    assert!(!some(&["a Allow Write Topic Literal t 9.9.9.9"]) && some(&["a Allow Write Topic Literal t 10.0.0.0/8"]));
    assert!(!some(&["a Allow Write Group Literal t *", "b Allow Write Topic Literal t *"]));
    let denied = acls(&["* Deny All Topic Literal * *"]);
    assert!(root().allows_some(&denied, &root().who("User:root", [1, 2, 3, 4].into()), Write, ResourceType::Topic));
}

/// The definition, rule by rule.
fn by_the_book(rules: &[Rule], name: &str, address: IpAddr, operation: Operation, topic: &str, open: bool) -> bool {
    let of_topic = |r: &&Rule| {
        r.resource_type == ResourceType::Topic
            && match r.pattern_type {
                PatternType::Literal => r.name == "*" || r.name == topic,
                PatternType::Prefixed => topic.starts_with(&r.name),
            }
    };
    let applies = |r: &&Rule| {
        (r.principal == format!("User:{name}") || r.principal == "User:*")
            && (r.host == "*"
                || r.host.parse() == Ok(address)
                || (r.host.ends_with("/8") && address.to_string().starts_with("10.")))
    };
    let implied = |r: &Rule| match operation {
        Describe => matches!(r.operation, Read | Write | Delete | Alter | Describe),
        DescribeConfigs => matches!(r.operation, AlterConfigs | DescribeConfigs),
        _ => r.operation == operation,
    };
    let mut applying = rules.iter().filter(of_topic).filter(applies);
    if applying.clone().any(|r| r.permission == Permission::Deny && (r.operation == All || r.operation == operation)) {
        return false;
    }
    if applying.any(|r| r.permission == Permission::Allow && (r.operation == All || implied(r))) {
        return true;
    }
    open && rules.iter().filter(of_topic).count() == 0
}

fn any_rule() -> impl Strategy<Value = Rule> {
    use proptest::sample::select;
    (
        select(vec!["User:a", "User:b", "User:*"]),
        select(vec![ResourceType::Topic, ResourceType::Topic, ResourceType::Group]),
        select(PatternType::ALL.to_vec()),
        "\\*|[ab]{1,3}",
        select(vec!["*", "10.1.1.1", "10.0.0.0/8", "10.9.9.9/8", "nowhere"]),
        select(vec![All, Read, Write, Create, Describe, AlterConfigs, DescribeConfigs]),
        select(Permission::ALL.to_vec()),
    )
        .prop_map(|(principal, resource_type, pattern_type, name, host, operation, permission)| Rule {
            principal: principal.to_owned(),
            resource_type,
            pattern_type,
            name,
            host: host.to_owned(),
            operation,
            permission,
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn rules_that_come_and_go_mean_what_they_say(
        rules in proptest::collection::btree_set(any_rule(), 0..25),
        gone in proptest::collection::vec(any::<proptest::sample::Index>(), 0..15),
        open: bool,
    ) {
        let mut left: Vec<(RuleId, Rule)> =
            rules.into_iter().enumerate().map(|(n, rule)| (RuleId([n as u8; 16]), rule)).collect();
        let mut acls = Acls::default();
        left.iter().for_each(|(id, rule)| acls.add(*id, rule.clone()).unwrap());
        for index in gone {
            if !left.is_empty() {
                let (id, rule) = left.swap_remove(index.index(left.len()));
                prop_assert_eq!(&*acls.remove(id).unwrap(), &rule);
            }
        }
        prop_assert_eq!(acls.len(), left.len());
        let rules: Vec<Rule> = left.into_iter().map(|(_, rule)| rule).collect();
        let authorizer = Authorizer::new([], open);
        for name in ["a", "b", "c"] {
            for address in ["10.1.1.1", "11.1.1.1"] {
                let address: IpAddr = address.parse().unwrap();
                let who = authorizer.who(&format!("User:{name}"), address);
                for topic in ["a", "ab", "aba", "b", "c"] {
                    for operation in [Read, Write, Describe, DescribeConfigs, AlterConfigs] {
                        let book = by_the_book(&rules, name, address, operation, topic, open);
                        let is = authorizer.allows(&acls, &who, operation, ResourceType::Topic, topic);
                        prop_assert_eq!(is, book, "{} {:?} {} {:?}", name, operation, topic, rules);
                    }
                }
            }
        }
    }
}

//! What share groups' members get when a broker dies or a member goes.

use corelane_tests::broker::{Broker, BrokerOptions, controllable};
use corelane_tests::librdkafka::{create_topic, unique};

use crate::share_member::{Member, begin, write};

#[test]
fn what_was_acknowledged_stays_so_through_kills_and_the_rest_comes_again() {
    if !controllable() {
        return;
    }
    let mut broker = Broker::start(BrokerOptions::default());
    let (topic, group) = (unique("queue"), unique("share"));
    create_topic(&broker, &topic, 1, &[]);
    let id = begin(&broker, &topic, &group);
    write(&broker, &topic, 10);
    let mut member = Member::new(&broker, &topic, id, &group);
    assert_eq!(member.lent(), [(0, 9, 1)]);
    assert_eq!(member.fetch(&[(0, 3, 1), (6, 6, 1), (8, 8, 3)], 0), (0, 0, vec![]));
    broker.kill();
    broker.resume();
    let mut member = Member::new(&broker, &topic, id, &group);
    assert_eq!(member.lent(), [(4, 5, 1), (7, 7, 1), (9, 9, 1)], "neither done with nor given up");
    let said = [(4, 5, 1), (7, 7, 2), (9, 9, 1)];
    assert_eq!(member.fetch(&said, 20_000), (0, 0, vec![(7, 7, 2)]), "given back, and counted");
    assert_eq!(member.fetch(&[(7, 7, 1)], 0).1, 0);
    broker.kill();
    broker.resume();
    write(&broker, &topic, 1);
    let mut member = Member::new(&broker, &topic, id, &group);
    assert_eq!(member.lent(), [(10, 10, 1)]);
}

#[test]
fn one_fetch_lends_what_is_on_the_disk_and_what_came_since() {
    if !controllable() {
        return;
    }
    let mut broker = Broker::start(BrokerOptions::default());
    let (topic, group) = (unique("queue"), unique("share"));
    create_topic(&broker, &topic, 1, &[]);
    let id = begin(&broker, &topic, &group);
    write(&broker, &topic, 10);
    broker.stop();
    broker.resume();
    write(&broker, &topic, 3);
    let mut member = Member::new(&broker, &topic, id, &group);
    assert_eq!(member.lent(), [(0, 12, 1)]);
}

#[test]
fn what_a_member_has_is_free_when_its_connection_ends() {
    if !controllable() {
        return;
    }
    let broker = Broker::shared();
    let (topic, group) = (unique("queue"), unique("share"));
    create_topic(broker, &topic, 1, &[]);
    let id = begin(broker, &topic, &group);
    write(broker, &topic, 4);
    let mut gone = Member::new(broker, &topic, id, &group);
    let mut stays = Member::new(broker, &topic, id, &group);
    assert_eq!(gone.lent(), [(0, 3, 1)]);
    assert_eq!(stays.fetch(&[], 100), (0, 0, vec![]), "it is lent");
    assert_eq!(stays.fetch(&[(0, 3, 1)], 0).1, 121, "another has it");
    drop(gone);
    assert_eq!(stays.lent(), [(0, 3, 2)]);
    write(broker, &topic, 2);
    assert_eq!(stays.fetch(&[(0, 3, 1)], 20_000), (0, 0, vec![(4, 5, 1)]));
}

//! A client all of whose brokers have gone.

use corelane_tests::broker::{Broker, BrokerOptions, is_corelane};
use corelane_tests::connection::Connection;
use corelane_tests::java::Java;
use corelane_tests::librdkafka::{LIMIT, create_topic, unique};
use corelane_tests::wait;

#[test]
fn a_client_whose_brokers_are_gone_begins_again() {
    if !is_corelane() {
        return;
    }
    let name = unique("rebootstrap");
    let mut brokers = [(); 2].map(|()| Broker::start(BrokerOptions { cores: "0".into(), ..BrokerOptions::default() }));
    brokers.iter().for_each(|broker| create_topic(broker, &name, 1, &[]));
    let addresses = brokers.each_ref().map(|broker| broker.bootstrap().to_owned());
    let out = std::thread::scope(|threads| {
        let client = threads.spawn(|| Java::shared().run("Rebootstrap", &[&addresses.join(","), &name]));
        let written = |broker: &Broker| {
            let end = Connection::open(broker.bootstrap()).and_then(|mut c| c.list_offset(&name, 0, -1));
            end.is_ok_and(|(offset, _)| offset > 0)
        };
        let known = wait::until("a record", LIMIT, || brokers.iter().position(written));
        brokers[known].kill();
        client.join().expect("the client").ok()
    });
    assert!(out.contains(&format!("ok {name}")), "{out}");
}

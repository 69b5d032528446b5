//! Every config of Kafka's brokers as one of a single listener, or of a mechanism of one: honoured, or refused with a reason, at a start
//! and while the broker runs.

use corelane_config::alter::validate_broker_dynamic;
use corelane_config::{
    BrokerConfig, BrokerProperties, Check, LoadOptions, Overrides, Scope, Setting, Status, Update, Value,
    of_one_listener,
};

/// Why a listener without TLS and SASL does not take what is not fixed.
const NOT_OF_IT: [&str; 7] = [
    "is of the whole broker, and no listener has its own",
    "is not of one mechanism",
    "belongs to a mechanism",
    "GSSAPI is not served",
    "which has no TLS",
    "which has no SASL",
    "whose tokens are believed is said where the broker is started",
];

/// A valid value that is not the default.
fn another(setting: &Setting) -> String {
    let of_it: &[&str] = match setting.check {
        Check::OneOf(all) | Check::OneOfAnyCase(all) | Check::AnyOf(all) => all,
        _ => &[],
    };
    let mut all = of_it.iter().chain(&[
        "another",
        "true",
        "false",
        "5",
        "7",
        "0.2",
        "0.75",
        "500",
        "3000",
        "40000",
        "16777216",
        "1073741824",
    ]);
    let fits = |text: &&&str| Some(**text) != setting.default && Value::parse(setting, text).is_ok();
    all.find(fits).unwrap_or_else(|| panic!("{}: no other value", setting.name)).to_string()
}

/// Each of them with each prefix, and what is said of it.
fn each(mut told: impl FnMut(&str, &str) -> Result<(), String>) -> Vec<String> {
    let mut honoured = Vec::new();
    for setting in Scope::Broker.settings() {
        for mechanism in ["", "gssapi.", "plain.", "oauthbearer."] {
            let name = format!("listener.name.plaintext.{mechanism}{}", setting.name);
            match told(&name, &another(setting)) {
                Ok(()) => honoured.push(name),
                Err(message) => {
                    let is_fixed = matches!(setting.status, Status::Fixed(why) if message.contains(why));
                    assert!(is_fixed || NOT_OF_IT.iter().any(|why| message.contains(why)), "{name}: {message}");
                }
            }
        }
    }
    honoured
}

#[test]
fn every_config_of_one_listener_is_honoured_or_refused_with_a_reason() {
    let bounds = ["max.connection.creation.rate", "max.connections"].map(|of| format!("listener.name.plaintext.{of}"));
    let started = each(|name, value| {
        let options = LoadOptions { set: vec![format!("{name}={value}")], ..Default::default() };
        BrokerConfig::load(&options).map(drop).map_err(|e| e.to_string())
    });
    assert_eq!(started, bounds);
    let fixed: Overrides = [("listeners".to_owned(), "PLAINTEXT://127.0.0.1:1".to_owned())].into();
    let broker = BrokerProperties { fixed, ..Default::default() };
    let changed = each(|name, value| {
        let set: Overrides = [(name.to_owned(), value.to_owned())].into();
        validate_broker_dynamic(&set, true, &broker).map_err(|e| e.to_string())
    });
    assert_eq!(changed, bounds);
    let of_all = each(|name, value| {
        let set: Overrides = [(name.to_owned(), value.to_owned())].into();
        let told = validate_broker_dynamic(&set, false, &broker).map_err(|e| e.to_string());
        match of_one_listener(name) {
            // It has to name a broker.
            Some((_, s)) if s.status == Status::Honoured && s.update != Update::ClusterWide => {
                assert!(told.is_err_and(|message| message.contains("broker id must be specified")), "{name}");
                Err(NOT_OF_IT[0].to_owned())
            }
            Some(_) | None => told.map_err(|m| m.replace("broker id must be specified", NOT_OF_IT[0])),
        }
    });
    assert_eq!(of_all, bounds);
}

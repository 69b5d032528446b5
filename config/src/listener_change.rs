//! What may change of listeners while the broker runs: new ones open, those that no client was told of close, and TLS takes other
//! certificates. The rules are those of Kafka's `DynamicBrokerConfig` and `DynamicListenerConfig`.

use crate::layers::{BrokerProperties, Overrides};
use crate::listeners::{Listener, Wrong, check_use, inter_broker, listeners, wrong};
use crate::of_listener::of_one_listener;
use crate::table::{Setting, Update};

/// A property that says which listeners there are and what they are, so one of a broker that is named.
fn shapes(name: &str) -> bool {
    let of_one = of_one_listener(name).is_some_and(|(_, setting)| setting.update != Update::ClusterWide);
    of_one || matches!(name, "listeners" | "listener.security.protocol.map")
}

/// A property that bounds what comes by listeners, whatever they are.
fn bounds(name: &str) -> bool {
    matches!(name, "max.connections" | "max.connection.creation.rate")
        || of_one_listener(name).is_some_and(|(_, setting)| setting.update == Update::ClusterWide)
}

/// Names that have another place: those of TLS that name no listener, and those of one broker that are set for all.
pub(crate) fn check_places(set: &Overrides, settings: &[&Setting], one_broker: bool) -> Result<(), String> {
    let without_listener = |s: &&&Setting| s.update == Update::PerBroker && s.name.starts_with("ssl.");
    let stray: Vec<&str> = settings.iter().filter(without_listener).map(|s| s.name).collect();
    if !stray.is_empty() {
        let message = "These security configs can be dynamically updated only per-listener using the listener prefix";
        return Err(format!("{message}: [{}]", stray.join(", ")));
    }
    let of_one: Vec<&str> = set.keys().map(String::as_str).filter(|name| shapes(name)).collect();
    if !one_broker && !of_one.is_empty() {
        let message = "Cannot update these configs at default cluster level, broker id must be specified";
        return Err(format!("{message}: [{}]", of_one.join(", ")));
    }
    Ok(())
}

/// Whether the listeners of `after` can take the place of those of `before`.
pub(crate) fn check_change(before: &BrokerProperties, after: &BrokerProperties) -> Result<(), Wrong> {
    let same = |concerns: fn(&str) -> bool| {
        let of = |p: &BrokerProperties| {
            let all = p.layers().into_iter().flatten().filter(|(name, _)| concerns(name));
            all.map(|(name, text)| (name.clone(), text.clone())).collect::<Vec<_>>()
        };
        of(before) == of(after)
    };
    if same(shapes) && same(bounds) {
        return Ok(());
    }
    let (old, new) = (listeners(before)?, listeners(after)?);
    check_bounds(&old, &new)?;
    if same(shapes) {
        return check_use(after, &new);
    }
    if after.value("listeners.advertise").ok().flatten().is_some_and(|v| v.to_string() == "shard") {
        let message =
            "listeners change at a start only where every core is a broker of its own: they are those of all cores";
        return Err(wrong("listeners", message));
    }
    inter_broker(after, &new)?;
    let names = |all: &[Listener]| all.iter().map(|l| l.name.as_str()).collect::<Vec<_>>().join(", ");
    let told: Vec<Listener> = old.iter().filter(|l| l.advertised.is_some()).cloned().collect();
    if told.iter().any(|l| !new.iter().any(|n| n.name == l.name)) {
        let message =
            format!("Advertised listeners '{}' must be a subset of listeners '{}'", names(&told), names(&new));
        return Err(wrong("listeners", message));
    }
    for next in &new {
        if let Some(present) = old.iter().find(|l| l.name == next.name) {
            check_one(present, next)?;
        } else if next.sasl.as_ref().is_some_and(|sasl| sasl.oauth.is_some()) {
            // Its keys are read first, however long that takes.
            let message = format!("listener {} offers OAUTHBEARER, so it is opened at a start only", next.name);
            return Err(wrong("listeners", message));
        } else if !next.is_local() && !next.authenticates() && !allows_unauthenticated(after) {
            let message = format!(
                "listener {} would ask nobody who they are (listeners.allow.unauthenticated) and can be reached from other machines",
                next.name
            );
            return Err(wrong("listeners", message));
        }
    }
    check_use(after, &new)
}

/// A listener that stays open goes on taking connections: none that could only wait, as one may be told at a start.
fn check_bounds(old: &[Listener], new: &[Listener]) -> Result<(), Wrong> {
    let bounds = |l: &Listener| {
        [("max.connections", l.connections_max), ("max.connection.creation.rate", l.connections_creation_rate)]
    };
    for next in new {
        let present = old.iter().find(|l| l.name == next.name);
        if present.is_some_and(|present| bounds(present) != bounds(next))
            && let Some((name, value)) = bounds(next).into_iter().find(|(_, value)| *value <= 0)
        {
            return Err(wrong(name, format!("Invalid {name} {value} of listener {}", next.name)));
        }
    }
    Ok(())
}

fn allows_unauthenticated(properties: &BrokerProperties) -> bool {
    properties.value("listeners.allow.unauthenticated").ok().flatten().is_none_or(|v| v.to_string() == "true")
}

/// A listener that stays open.
fn check_one(present: &Listener, next: &Listener) -> Result<(), Wrong> {
    let name = &present.name;
    if present.protocol != next.protocol {
        let message = format!("Security protocol cannot be updated for existing listener {name}");
        return Err(wrong("listener.security.protocol.map", message));
    }
    if present.listen != next.listen {
        // Kafka takes it and goes on listening at the old address.
        let message = format!(
            "listener {name} is open at {} and stays there: restart the broker, or give the new address a listener of its own",
            present.listen
        );
        return Err(wrong("listeners", message));
    }
    let tls = next.tls.as_ref().zip(present.tls.as_ref()).map(|(next, present)| next.with_stores_of(present));
    let (connections_max, connections_creation_rate) = (present.connections_max, present.connections_creation_rate);
    if (Listener { tls, connections_max, connections_creation_rate, ..next.clone() }) != *present {
        let message = format!(
            "Configs cannot be updated dynamically for existing listener {name}, restart broker or create a new listener for update"
        );
        return Err(wrong("listeners", message));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::alter::validate_broker_dynamic;
    use crate::{BrokerProperties, Overrides};

    fn map(pairs: &[(&str, &str)]) -> Overrides {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn whose_tokens_are_believed_is_said_at_a_start() {
        let mut broker = broker("A://127.0.0.1:1");
        broker.fixed.insert("sasl.oauthbearer.jwks.endpoint.url".to_owned(), "file:///jwks".to_owned());
        let refused = |set: &[(&str, &str)]| validate_broker_dynamic(&map(set), true, &broker).unwrap_err().to_string();
        for name in [
            "listener.name.a.sasl.oauthbearer.jwks.endpoint.url",
            "listener.name.a.oauthbearer.sasl.oauthbearer.expected.issuer",
            "listener.name.a.oauthbearer.sasl.jaas.config",
        ] {
            let message = refused(&[(name, "x")]);
            assert!(message.contains(&format!("Cannot update these configs dynamically: [{name}]")), "{message}");
        }
        let message = refused(&[
            ("listeners", "A://127.0.0.1:1,B://127.0.0.1:2,S://127.0.0.1:3,N://127.0.0.1:4"),
            ("listener.security.protocol.map", "A:PLAINTEXT,B:PLAINTEXT,S:SSL,N:SASL_PLAINTEXT"),
            ("listener.name.n.sasl.enabled.mechanisms", "OAUTHBEARER"),
        ]);
        assert!(message.contains("listener N offers OAUTHBEARER, so it is opened at a start only"), "{message}");
    }

    const MAP: (&str, &str) = ("listener.security.protocol.map", "A:PLAINTEXT,B:PLAINTEXT,S:SSL");
    const PEM: (&str, &str) = ("ssl.keystore.type", "PEM");
    const STORE: (&str, &str) = ("listener.name.s.ssl.keystore.location", "/store");

    fn broker(advertised: &str) -> BrokerProperties {
        let fixed = map(&[
            ("listeners", "A://127.0.0.1:1,B://127.0.0.1:2,S://127.0.0.1:3"),
            ("advertised.listeners", advertised),
            MAP,
            PEM,
            STORE,
        ]);
        BrokerProperties { fixed, ..Default::default() }
    }

    fn check(set: &[(&str, &str)], one_broker: bool) -> Result<(), String> {
        let broker = broker("A://127.0.0.1:1,S://127.0.0.1:3");
        validate_broker_dynamic(&map(set), one_broker, &broker).map_err(|e| e.to_string())
    }

    #[test]
    fn a_listener_comes_and_one_that_nobody_was_told_of_goes() {
        check(&[("listeners", "A://127.0.0.1:1,S://127.0.0.1:3")], true).unwrap();
        let map = ("listener.security.protocol.map", "A:PLAINTEXT,B:PLAINTEXT,S:SSL,N:PLAINTEXT");
        check(&[("listeners", "A://127.0.0.1:1,B://127.0.0.1:2,S://127.0.0.1:3,N://127.0.0.1:4"), map], true).unwrap();
        check(&[("listener.name.s.ssl.keystore.location", "/other")], true).unwrap();
    }

    #[test]
    fn what_may_not_change_is_refused_with_the_reason() {
        let all = "A://127.0.0.1:1,B://127.0.0.1:2,S://127.0.0.1:3";
        for (set, why) in [
            (("listeners", "B://127.0.0.1:2,S://127.0.0.1:3"), "must be equal to or a subset"),
            (("listeners", "A://127.0.0.1:9,S://127.0.0.1:3"), "listener A is open at 127.0.0.1:1"),
            (("listeners", &format!("{all},N://127.0.0.1:4")), "No security protocol defined for listener N"),
            ((MAP.0, "A:SSL,B:PLAINTEXT,S:SSL"), "needs a certificate"),
            ((MAP.0, "A:PLAINTEXT,B:PLAINTEXT,S:PLAINTEXT"), "Security protocol cannot be updated"),
            (
                ("listener.name.s.ssl.enabled.protocols", "TLSv1.3"),
                "Configs cannot be updated dynamically for existing",
            ),
            (("listener.name.nobody.ssl.keystore.location", "/x"), "there is no listener nobody"),
            (("listener.name.a.ssl.keystore.location", "/x"), "listener A is PLAINTEXT, which has no TLS"),
            (("listener.name.s.connections.max.reauth.ms", "5"), "listener S is SSL, which has no SASL"),
            (("listener.name.s.ssl.keystore.password", "x"), "only key password"),
            (("ssl.keystore.location", "/x"), "only per-listener using the listener prefix: [ssl.keystore.location]"),
            (("advertised.listeners", "A://h:1"), "Cannot update these configs dynamically: [advertised.listeners]"),
        ] {
            let message = check(&[set], true).unwrap_err();
            assert!(message.contains(why), "{set:?}: {message}");
        }
        let message = check(&[("listeners", all)], false).unwrap_err();
        assert!(message.ends_with("broker id must be specified: [listeners]"), "{message}");
    }

    #[test]
    fn bounds_of_connections_change_for_one_broker_and_for_all() {
        let (own, rate) = ("listener.name.a.max.connections", "listener.name.s.max.connection.creation.rate");
        for one_broker in [true, false] {
            check(&[(own, "7"), (rate, "5"), ("max.connections", "9")], one_broker).unwrap();
            for (name, value, why) in [
                (own, "0", "Invalid max.connections 0 of listener A"),
                ("max.connections", "0", "Invalid max.connections 0 of listener A"),
                (rate, "0", "Invalid max.connection.creation.rate 0 of listener S"),
                (own, "-1", "Value must be at least 0"),
                (own, "many", "Not a number of type INT"),
                ("listener.name.nobody.max.connections", "7", "there is no listener nobody"),
                ("listener.name.a.max.connections.per.ip", "7", "is of the whole broker"),
                ("listener.name.a.num.network.threads", "7", "every core runs one reactor"),
            ] {
                let message = check(&[(name, value)], one_broker).unwrap_err();
                assert!(message.contains(why), "{name}={value}: {message}");
            }
        }
        // As every core has its own: this opens and closes nothing.
        let mut broker = broker("A://127.0.0.1:1");
        broker.fixed.insert("listeners.advertise".to_owned(), "shard".to_owned());
        validate_broker_dynamic(&map(&[(own, "7")]), true, &broker).unwrap();
    }

    #[test]
    fn what_is_set_for_a_listener_that_has_gone_waits_for_it() {
        let mut broker = broker("A://127.0.0.1:1,S://127.0.0.1:3");
        broker.fixed.insert("listener.name.b.max.connections".to_owned(), "7".to_owned());
        let set = map(&[("listeners", "A://127.0.0.1:1,S://127.0.0.1:3")]);
        validate_broker_dynamic(&set, true, &broker).unwrap();
    }

    #[test]
    fn a_new_listener_for_other_machines_needs_leave_as_at_the_start() {
        let mut broker = broker("A://127.0.0.1:1");
        let set = map(&[
            ("listeners", "A://127.0.0.1:1,B://127.0.0.1:2,S://127.0.0.1:3,N://0.0.0.0:4"),
            ("listener.security.protocol.map", "A:PLAINTEXT,B:PLAINTEXT,S:SSL,N:PLAINTEXT"),
        ]);
        let message = validate_broker_dynamic(&set, true, &broker).unwrap_err().to_string();
        assert!(message.contains("can be reached from other machines"), "{message}");
        broker.fixed.insert("listeners.allow.unauthenticated".to_owned(), "true".to_owned());
        validate_broker_dynamic(&set, true, &broker).unwrap();
        broker.fixed.insert("listeners.advertise".to_owned(), "shard".to_owned());
        let message = validate_broker_dynamic(&set, true, &broker).unwrap_err().to_string();
        assert!(message.contains("every core is a broker of its own"), "{message}");
    }
}

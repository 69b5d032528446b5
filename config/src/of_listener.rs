//! Names of properties of one listener: `listener.name.<listener>.<property>`, or with a mechanism
//! `listener.name.<listener>.<mechanism>.<property>`. They are those that Kafka's `SocketServer`, `ChannelBuilders` and
//! `SaslChannelBuilder` read so; Kafka takes any other and ignores it, here it is refused.

use crate::listeners::PREFIX;
use crate::oauth::OAUTHBEARER;
use crate::sasl::SASL_MECHANISMS;
use crate::table::{Scope, Setting};

/// What a listener has beside TLS and SASL.
const OF_LISTENER: &[&str] = &[
    "connections.max.reauth.ms",
    "max.connection.creation.rate",
    "max.connections",
    "num.network.threads",
    "principal.builder.class",
];
/// SASL that is the whole broker's.
const OF_BROKER: &[&str] = &["sasl.mechanism.controller.protocol", "sasl.mechanism.inter.broker.protocol"];
/// What each mechanism of a listener has of its own, and a listener has not.
const OF_MECHANISM: &[&str] = &[
    "sasl.jaas.config",
    "sasl.login.callback.handler.class",
    "sasl.login.class",
    "sasl.server.callback.handler.class",
];

/// The property that a name of this form sets, and the part of the name that says for which listener; `None`: the name has another
/// form, or there is no such property of listeners.
pub fn of_one_listener(name: &str) -> Option<(&str, &'static Setting)> {
    let (listener, property) = split(name)?;
    let (is_of_it, property) = match of_mechanism(property) {
        Some((mechanism, property)) => (mechanism_has(mechanism, property), property),
        None => (listener_has(property), property),
    };
    Some((listener, Scope::Broker.find(property).filter(|_| is_of_it)?))
}

/// Why a name that begins like one of these sets nothing.
pub(crate) fn refusal(name: &str) -> Option<String> {
    let (_, property) = split(name).unwrap_or_default();
    let (mechanism, property) = of_mechanism(property).map_or((None, property), |(m, p)| (Some(m), p));
    if !name.starts_with(PREFIX) {
        return None;
    }
    let is_known = Scope::Broker.find(property).is_some();
    Some(match mechanism {
        _ if property.starts_with("gssapi.") => "GSSAPI is not served".to_owned(),
        None if OF_MECHANISM.contains(&property) => {
            format!("{property} belongs to a mechanism: {PREFIX}<listener>.<mechanism>.{property}")
        }
        None if is_known => format!("{property} is of the whole broker, and no listener has its own"),
        Some(mechanism) if is_known => format!("{property} is not of one mechanism such as {mechanism}"),
        _ => format!(
            "no such property can be set for one listener ({PREFIX}<listener in lower case>.<property>, or \
             {PREFIX}<listener>.<mechanism in lower case>.<property>)"
        ),
    })
}

fn split(name: &str) -> Option<(&str, &str)> {
    name.strip_prefix(PREFIX)?.split_once('.')
}

/// The mechanism that what follows the listener's name begins with, and the rest.
fn of_mechanism(property: &str) -> Option<(&'static str, &str)> {
    let (mechanism, property) = property.split_once('.')?;
    Some((SASL_MECHANISMS.into_iter().find(|known| known.to_lowercase() == mechanism)?, property))
}

fn listener_has(property: &str) -> bool {
    let elsewhere = OF_BROKER.contains(&property) || OF_MECHANISM.contains(&property);
    OF_LISTENER.contains(&property) || property.starts_with("ssl.") || (property.starts_with("sasl.") && !elsewhere)
}

fn mechanism_has(mechanism: &str, property: &str) -> bool {
    // Its clients and servers read these as a part of their own settings.
    let of_tokens = ["sasl.oauthbearer.", "sasl.login."].iter().any(|begin| property.starts_with(begin));
    OF_MECHANISM.contains(&property)
        || property == "connections.max.reauth.ms"
        || (mechanism == OAUTHBEARER && of_tokens)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_kafka_reads_for_one_listener_is_found() {
        for property in [
            "max.connections",
            "max.connection.creation.rate",
            "num.network.threads",
            "principal.builder.class",
            "connections.max.reauth.ms",
            "ssl.keystore.location",
            "ssl.engine.factory.class",
            "sasl.enabled.mechanisms",
            "sasl.kerberos.service.name",
            "sasl.login.refresh.window.factor",
            "sasl.oauthbearer.expected.issuer",
            "sasl.server.max.receive.size",
        ] {
            let name = format!("listener.name.a-b.{property}");
            assert_eq!(of_one_listener(&name).map(|(l, s)| (l, s.name)), Some(("a-b", property)));
            assert!(refusal(property).is_none());
        }
        for property in [
            "plain.sasl.jaas.config",
            "scram-sha-256.connections.max.reauth.ms",
            "plain.sasl.server.callback.handler.class",
            "oauthbearer.sasl.login.class",
            "oauthbearer.sasl.login.read.timeout.ms",
            "oauthbearer.sasl.oauthbearer.jwks.endpoint.url",
        ] {
            assert!(of_one_listener(&format!("listener.name.a.{property}")).is_some(), "{property}");
        }
    }

    #[test]
    fn what_kafka_would_ignore_is_refused_with_the_reason() {
        for (property, why) in [
            ("max.connections.per.ip", "max.connections.per.ip is of the whole broker"),
            ("connections.max.idle.ms", "of the whole broker"),
            ("socket.request.max.bytes", "of the whole broker"),
            ("sasl.mechanism.inter.broker.protocol", "of the whole broker"),
            ("sasl.jaas.config", "belongs to a mechanism: listener.name.<listener>.<mechanism>.sasl.jaas.config"),
            ("gssapi.sasl.jaas.config", "GSSAPI is not served"),
            ("plain.sasl.oauthbearer.expected.issuer", "is not of one mechanism such as PLAIN"),
            ("PLAIN.sasl.jaas.config", "no such property"),
            ("max.conections", "no such property"),
            ("", "no such property"),
        ] {
            let name = format!("listener.name.a.{property}");
            assert!(of_one_listener(&name).is_none(), "{name}");
            assert!(refusal(&name).unwrap().contains(why), "{name}: {:?}", refusal(&name));
        }
        assert!(refusal("listener.name.").is_some() && of_one_listener("listener.name.").is_none());
    }
}

//! The listeners of a broker: names, security protocols, where they are bound and what clients are told of them.
//! The rules are those of Kafka's `AbstractKafkaConfig` and `KafkaConfig.validateValues`.

use crate::layers::BrokerProperties;
use crate::of_listener::of_one_listener;
use crate::sasl::{SaslSettings, sasl};
use crate::tls::{ClientAuth, TlsSettings, tls};
use crate::units::{self, HostPort};
use crate::value::Value;
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

/// How the peers of a listener are known and what is done to their bytes (Kafka's `SecurityProtocol`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecurityProtocol {
    Plaintext,
    Ssl,
    SaslPlaintext,
    SaslSsl,
}

impl SecurityProtocol {
    const ALL: [SecurityProtocol; 4] = [Self::Plaintext, Self::Ssl, Self::SaslPlaintext, Self::SaslSsl];

    /// Kafka's name of it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plaintext => "PLAINTEXT",
            Self::Ssl => "SSL",
            Self::SaslPlaintext => "SASL_PLAINTEXT",
            Self::SaslSsl => "SASL_SSL",
        }
    }

    fn named(name: &str) -> Option<SecurityProtocol> {
        Self::ALL.into_iter().find(|p| p.name().eq_ignore_ascii_case(name))
    }

    /// Connections begin with a TLS handshake.
    pub fn is_encrypted(self) -> bool {
        matches!(self, Self::Ssl | Self::SaslSsl)
    }

    /// Clients say who they are by SASL before they may ask for anything.
    pub fn is_sasl(self) -> bool {
        matches!(self, Self::SaslPlaintext | Self::SaslSsl)
    }
}

impl fmt::Display for SecurityProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// In capitals, as Kafka normalises it.
    pub name: String,
    pub protocol: SecurityProtocol,
    /// Where the first (in `node` mode: every) shard listens.
    pub listen: HostPort,
    /// Where its clients are told to connect; `None`: `advertised.listeners` leaves it out, and they are told of no broker.
    /// In `shard` mode shard n is at this port + n.
    pub advertised: Option<HostPort>,
    /// Where its protocol is encrypted.
    pub tls: Option<TlsSettings>,
    /// Where its clients authenticate by SASL.
    pub sasl: Option<SaslSettings>,
    /// Connections that may be open by it; where it has no number of its own: as many as the broker may have.
    pub connections_max: i32,
    /// New ones a second, likewise.
    pub connections_creation_rate: i32,
}

impl Listener {
    /// Every client has shown who it is before it may ask for anything.
    pub fn authenticates(&self) -> bool {
        self.protocol.is_sasl() || self.tls.as_ref().is_some_and(|tls| tls.client_auth == ClientAuth::Required)
    }

    /// Only this machine reaches it.
    pub fn is_local(&self) -> bool {
        let host = &self.listen.host;
        host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }

    /// What properties of this listener alone begin with.
    pub fn prefix(&self) -> String {
        format!("{PREFIX}{}.", self.name.to_lowercase())
    }

    /// Why a property of this listener alone would do nothing.
    fn cannot_use(&self, property: &str) -> Option<String> {
        let has = |what: &str| Some(format!("listener {} is {}, which has no {what}", self.name, self.protocol));
        match property {
            _ if property.starts_with("ssl.") && !self.protocol.is_encrypted() => has("TLS"),
            "connections.max.reauth.ms" if !self.protocol.is_sasl() => has("SASL"),
            _ if property.starts_with("sasl.") && !self.protocol.is_sasl() => has("SASL"),
            _ => None,
        }
    }
}

/// What is wrong, and with which property.
pub(crate) type Wrong = (String, String);

pub(crate) fn wrong(name: &str, message: impl Into<String>) -> Wrong {
    (name.to_owned(), message.into())
}

/// What properties of one listener begin with.
pub(crate) const PREFIX: &str = "listener.name.";

/// All listeners, the first one first.
pub(crate) fn listeners(properties: &BrokerProperties) -> Result<Vec<Listener>, Wrong> {
    let protocols = protocols(properties)?;
    let bound = endpoints(properties, "listeners")?.unwrap_or_default();
    let advertised = endpoints(properties, "advertised.listeners")?;
    if bound.is_empty() {
        return Err(wrong("listeners", "at least one listener is needed"));
    }
    distinct_ports(&bound)?;
    let names = |all: &[(String, HostPort)]| all.iter().map(|(n, _)| n.as_str()).collect::<Vec<_>>().join(",");
    for (name, address) in advertised.iter().flatten() {
        if !bound.iter().any(|(n, _)| n == name) {
            let message = format!(
                "advertised.listeners listener names must be equal to or a subset of the ones defined in listeners. Found {}. \
                 The valid options based on the current configuration are {}",
                names(advertised.as_deref().unwrap_or_default()),
                names(&bound)
            );
            return Err(wrong("advertised.listeners", message));
        }
        if address.is_wildcard() {
            let message = "no client can connect to a wildcard address: name a host";
            return Err(wrong("advertised.listeners", message));
        }
    }
    for (name, mechanism) in [("sasl.jaas.config", "plain"), ("sasl.server.callback.handler.class", "oauthbearer")] {
        if properties.fixed.contains_key(name) {
            let message =
                format!("it belongs to a listener and a mechanism: listener.name.<listener>.{mechanism}.{name}");
            return Err(wrong(name, message));
        }
    }
    bound
        .into_iter()
        .map(|(name, listen)| {
            let protocol = *protocols.get(&name).ok_or_else(|| {
                wrong(
                    "listeners",
                    format!("No security protocol defined for listener {name}: see listener.security.protocol.map"),
                )
            })?;
            let advertised = match &advertised {
                Some(all) => all.iter().find(|(n, _)| *n == name).map(|(_, address)| address.clone()),
                None if listen.is_wildcard() => Some(HostPort { host: units::host_name(), port: listen.port }),
                None => Some(listen.clone()),
            };
            let mut listener = Listener {
                name,
                protocol,
                listen,
                advertised,
                tls: None,
                sasl: None,
                connections_max: i32::MAX,
                connections_creation_rate: i32::MAX,
            };
            listener.connections_max = number(properties, &listener, "max.connections")?;
            listener.connections_creation_rate = number(properties, &listener, "max.connection.creation.rate")?;
            if protocol.is_encrypted() {
                listener.tls = Some(tls(properties, &listener)?);
            }
            if protocol.is_sasl() {
                listener.sasl = Some(sasl(properties, &listener)?);
            }
            Ok(listener)
        })
        .collect()
}

/// What is set for one listener alone is for one of these, or for one of the start, which may come back; and does something there.
pub(crate) fn check_use(properties: &BrokerProperties, listeners: &[Listener]) -> Result<(), Wrong> {
    let at_start = properties.fixed.get("listeners").map(String::as_str).unwrap_or_default();
    let at_start = at_start.split(',').filter_map(|item| Some(item.split_once("://")?.0.trim().to_lowercase()));
    let at_start: Vec<String> = at_start.collect();
    for name in properties.layers().into_iter().flat_map(|layer| layer.keys()) {
        let Some((of, setting)) = of_one_listener(name) else { continue };
        match listeners.iter().find(|listener| listener.name.to_lowercase() == of) {
            Some(listener) => {
                if let Some(why) = listener.cannot_use(setting.name) {
                    return Err(wrong(name, format!("{name} would do nothing: {why}")));
                }
            }
            None if at_start.iter().any(|name| name == of) => {}
            None => {
                let names: Vec<&str> = listeners.iter().map(|l| l.name.as_str()).collect();
                return Err(wrong(name, format!("there is no listener {of}: listeners names {}", names.join(","))));
            }
        }
    }
    Ok(())
}

fn number(properties: &BrokerProperties, listener: &Listener, name: &str) -> Result<i32, Wrong> {
    let value = properties.value_of_listener(listener, name);
    match value.map_err(|e| wrong(&properties.place(listener, name), e.to_string()))? {
        Some(Value::Integer(n)) => Ok(i32::try_from(n).unwrap_or(i32::MAX)),
        _ => Ok(i32::MAX),
    }
}

/// The listener that brokers would use among themselves.
pub(crate) fn inter_broker(properties: &BrokerProperties, listeners: &[Listener]) -> Result<String, Wrong> {
    let (name, protocol) = ("inter.broker.listener.name", "security.inter.broker.protocol");
    let given =
        |n: &str| properties.fixed.get(n).map(|text| text.trim().to_uppercase()).filter(|text| !text.is_empty());
    let (chosen, by) = match (given(name), given(protocol)) {
        (Some(_), Some(_)) => return Err(wrong(name, format!("Only one of {name} and {protocol} should be set."))),
        (Some(chosen), None) => (chosen, name),
        (None, Some(chosen)) => (chosen, protocol),
        // Kafka insists on PLAINTEXT, but one node needs none.
        (None, None) => {
            let plaintext = listeners.iter().find(|l| l.name == "PLAINTEXT" && l.advertised.is_some());
            return Ok(plaintext.or(listeners.first()).map(|l| l.name.clone()).unwrap_or_default());
        }
    };
    if let Some(listener) = listeners.iter().find(|l| l.name == chosen && l.advertised.is_some()) {
        return mechanism_of_brokers(properties, listener).map(|()| chosen);
    }
    let all: Vec<&str> = listeners.iter().filter(|l| l.advertised.is_some()).map(|l| l.name.as_str()).collect();
    let message = format!(
        "{by} must be a listener name defined in advertised.listeners. The valid options based on currently configured listeners \
         are {}",
        all.join(",")
    );
    Err(wrong(by, message))
}

/// Brokers say who they are by what their listener offers.
fn mechanism_of_brokers(properties: &BrokerProperties, listener: &Listener) -> Result<(), Wrong> {
    let name = "sasl.mechanism.inter.broker.protocol";
    let (Some(sasl), Some(given)) = (&listener.sasl, properties.fixed.get(name)) else { return Ok(()) };
    if sasl.mechanisms.iter().any(|mechanism| mechanism.name == given) {
        return Ok(());
    }
    let all: Vec<&str> = sasl.mechanisms.iter().map(|mechanism| mechanism.name).collect();
    Err(wrong(name, format!("{given} is not among what listener {} offers: {}", listener.name, all.join(", "))))
}

/// What `listener.security.protocol.map` says.
fn protocols(properties: &BrokerProperties) -> Result<BTreeMap<String, SecurityProtocol>, Wrong> {
    const NAME: &str = "listener.security.protocol.map";
    let text =
        properties.value(NAME).map_err(|e| wrong(NAME, e.to_string()))?.map(|v| v.to_string()).unwrap_or_default();
    let mut all = BTreeMap::new();
    for entry in text.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
        let Some((name, protocol)) = entry.rsplit_once(':') else {
            return Err(wrong(NAME, format!("{entry:?} is not NAME:PROTOCOL")));
        };
        let protocol = protocol.trim();
        let Some(known) = SecurityProtocol::named(protocol) else {
            return Err(wrong(NAME, format!("Invalid security protocol `{protocol}` defined in {NAME}")));
        };
        if all.insert(name.trim().to_uppercase(), known).is_some() {
            return Err(wrong(NAME, format!("listener {} is named twice", name.trim())));
        }
    }
    Ok(all)
}

/// The names and addresses of a list of `NAME://HOST:PORT`.
fn endpoints(properties: &BrokerProperties, property: &str) -> Result<Option<Vec<(String, HostPort)>>, Wrong> {
    let Some(value) = properties.value(property).map_err(|e| wrong(property, e.to_string()))? else { return Ok(None) };
    let mut all: Vec<(String, HostPort)> = Vec::new();
    for item in Value::items(&value) {
        let Some((name, address)) = item.split_once("://") else {
            return Err(wrong(property, format!("{item:?} is not NAME://HOST:PORT")));
        };
        let name = name.trim().to_uppercase();
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)) {
            return Err(wrong(property, format!("{item:?} names no listener")));
        }
        let address = address.parse().map_err(|e: String| wrong(property, e))?;
        if all.iter().any(|(n, _)| *n == name) {
            return Err(wrong(property, format!("Each listener must have a different name, listeners: {value}")));
        }
        all.push((name, address));
    }
    Ok(Some(all))
}

/// Two listeners share a port only where one is bound to an IPv4 address and the other to one of IPv6.
fn distinct_ports(all: &[(String, HostPort)]) -> Result<(), Wrong> {
    for (i, (_, a)) in all.iter().enumerate() {
        for (_, b) in all.iter().skip(i + 1).filter(|(_, b)| b.port == a.port && b.port != 0) {
            let families = (a.host.parse::<IpAddr>(), b.host.parse::<IpAddr>());
            if !matches!(families, (Ok(a), Ok(b)) if a.is_ipv4() != b.is_ipv4()) {
                let message = format!(
                    "Each listener must have a different port unless exactly one listener has an IPv4 address and the other IPv6 \
                     address: {} is given twice",
                    a.port
                );
                return Err(wrong("listeners", message));
            }
        }
    }
    Ok(())
}

/// The listener at this address, with these properties.
#[cfg(test)]
pub(crate) fn one(address: &str, set: &[(&str, &str)]) -> Result<Listener, Wrong> {
    let all = [&[("listeners", address)], set].concat();
    let fixed = all.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    Ok(listeners(&BrokerProperties { fixed, ..Default::default() })?.remove(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(set: &[(&str, &str)]) -> Result<Vec<Listener>, String> {
        let fixed = set.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let properties = BrokerProperties { fixed, ..Default::default() };
        let all = listeners(&properties).map_err(|(_, message)| message)?;
        inter_broker(&properties, &all).map_err(|(_, message)| message)?;
        Ok(all)
    }

    #[test]
    fn listeners_have_names_protocols_and_addresses_of_their_own() {
        let all = load(&[
            ("listeners", "internal://127.0.0.1:1,External://0.0.0.0:2"),
            ("advertised.listeners", "EXTERNAL://broker.example:9"),
            ("listener.security.protocol.map", "INTERNAL:PLAINTEXT,EXTERNAL:PLAINTEXT"),
            ("inter.broker.listener.name", "external"),
        ]);
        let all = all.unwrap();
        let shown: Vec<_> =
            all.iter().map(|l| (l.name.as_str(), l.advertised.as_ref().map(ToString::to_string))).collect();
        assert_eq!(shown, [("INTERNAL", None), ("EXTERNAL", Some("broker.example:9".into()))]);
        let all = load(&[("listeners", "PLAINTEXT://10.0.0.1:1")]).unwrap();
        assert_eq!(all[0].advertised, Some(all[0].listen.clone()));
        // As in Kafka: one port for the two families of addresses.
        let map = ("listener.security.protocol.map", "A:PLAINTEXT,B:PLAINTEXT");
        assert_eq!(load(&[("listeners", "A://127.0.0.1:1,B://[::1]:1"), map]).unwrap().len(), 2);
    }

    #[test]
    fn what_kafka_refuses_is_refused() {
        let map = ("listener.security.protocol.map", "A:PLAINTEXT,B:PLAINTEXT");
        for (set, why) in [
            (vec![("listeners", "A://:1")], "No security protocol defined for listener A"),
            (vec![("listeners", "A://:1,a://:2"), map], "Each listener must have a different name"),
            (vec![("listeners", "A://:1,B://:1"), map], "Each listener must have a different port"),
            (vec![("listeners", "A://:1"), ("advertised.listeners", "B://h:1"), map], "must be equal to or a subset"),
            (
                vec![("listeners", "A://:1"), ("inter.broker.listener.name", "B"), map],
                "must be a listener name defined in",
            ),
            (vec![("listeners", "A://:1"), ("security.inter.broker.protocol", "SSL"), map], "must be a listener name"),
            (
                vec![("listeners", "A://:1"), ("listener.security.protocol.map", "A:TLS")],
                "Invalid security protocol `TLS`",
            ),
            (vec![("listeners", "SASL_SSL://:1")], "needs a certificate"),
        ] {
            let message = load(&set).unwrap_err();
            assert!(message.contains(why), "{set:?}: {message}");
        }
    }
}

//! What clients are asked to push: the resources of type CLIENT_METRICS, read.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use corelane_config::MetricsSubscription;
use corelane_protocol::{Str, Uuid};

use crate::controller::image::{ClusterImage, ResourceType};

/// The most of Kafka's defaults: who matches no subscription is asked for nothing, so often (`ClientMetricsConfigs`).
const INTERVAL_MS: i32 = 300_000;
const EVERY_METRIC: &str = "*";

/// What subscriptions may look at.
#[derive(Clone, Debug)]
pub struct Attributes {
    pub client_id: Option<Str>,
    pub software_name: Str,
    pub software_version: Str,
    pub peer: SocketAddr,
}

impl Attributes {
    fn value(&self, property: &str, id: Uuid) -> Option<String> {
        Some(match property {
            "client_instance_id" => id.to_string(),
            "client_id" => self.client_id.as_ref()?.to_string(),
            "client_software_name" => self.software_name.to_string(),
            "client_software_version" => self.software_version.to_string(),
            "client_source_address" => self.peer.ip().to_canonical().to_string(),
            "client_source_port" => self.peer.port().to_string(),
            _ => return None,
        })
    }

    /// Bytes that it holds.
    pub fn size(&self) -> usize {
        self.client_id.as_ref().map_or(0, |id| id.len()) + self.software_name.len() + self.software_version.len()
    }
}

type Given = Arc<BTreeMap<String, String>>;

#[derive(Default)]
pub struct Subscriptions {
    /// Grows with every change.
    pub version: u64,
    given: Vec<(String, Given)>,
    read: Vec<MetricsSubscription>,
}

/// What one client is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Beginnings of names; none: nothing.
    pub metrics: Vec<String>,
    pub interval_ms: i32,
    /// Tells the client's subscription from others (Kafka: `ClientMetricsManager.computeSubscriptionId`).
    pub subscription_id: i32,
}

impl Subscriptions {
    pub fn take_image(&mut self, image: &ClusterImage) {
        let of_metrics = image.configs().filter(|((kind, _), _)| *kind == ResourceType::ClientMetrics);
        let given: Vec<(String, Given)> =
            of_metrics.map(|((_, name), overrides)| (name.clone(), overrides.clone())).collect();
        if given == self.given {
            return;
        }
        let read = |(name, overrides): &(String, Given)| match MetricsSubscription::resolve(overrides) {
            Ok(subscription) => Some(subscription),
            Err(error) => {
                tracing::error!(name, %error, "a subscription to client metrics does not fit this release");
                None
            }
        };
        self.read = given.iter().filter_map(read).collect();
        self.given = given;
        self.version += 1;
    }

    pub fn wanted(&self, id: Uuid, client: &Attributes) -> Wanted {
        let (mut metrics, mut interval_ms) = (BTreeSet::new(), INTERVAL_MS);
        for subscription in self.read.iter().filter(|s| matches(s, id, client)) {
            metrics.extend(subscription.metrics.iter().cloned());
            interval_ms = interval_ms.min(subscription.interval_ms);
        }
        if metrics.contains(EVERY_METRIC) {
            metrics.retain(|name| name == EVERY_METRIC);
        }
        let metrics: Vec<String> = metrics.into_iter().collect();
        let subscription_id = subscription_id(&metrics, interval_ms, id);
        Wanted { metrics, interval_ms, subscription_id }
    }
}

/// All properties must match; of one that is named twice the last counts.
fn matches(subscription: &MetricsSubscription, id: Uuid, client: &Attributes) -> bool {
    let all: BTreeMap<_, _> = subscription.matches.iter().map(|(property, pattern)| (property, pattern)).collect();
    all.into_iter().all(|(property, pattern)| client.value(property, id).is_some_and(|v| pattern.is_match(&v)))
}

fn subscription_id(metrics: &[String], interval_ms: i32, id: Uuid) -> i32 {
    let crc = crc32c::crc32c(format!("[{}]{interval_ms}", metrics.join(", ")).as_bytes());
    let bits = id.to_u128();
    let folded = (bits >> 64) as u64 ^ bits as u64;
    (crc ^ (folded >> 32) as u32 ^ folded as u32) as i32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::records::MetadataRecord;

    fn image(configs: &[(&str, &str, &str)]) -> ClusterImage {
        let mut image = ClusterImage::default();
        for (resource, name, value) in configs {
            let record = MetadataRecord::Config {
                kind: ResourceType::ClientMetrics,
                resource: (*resource).to_owned(),
                name: (*name).to_owned(),
                value: Some((*value).to_owned()),
            };
            image.apply(&record).unwrap();
        }
        image
    }

    fn client(id: &'static str) -> Attributes {
        Attributes {
            client_id: Some(Str::from_static(id)),
            software_name: Str::from_static("apache-kafka-java"),
            software_version: Str::from_static("4.3.1"),
            peer: "10.0.0.1:5000".parse().unwrap(),
        }
    }

    #[test]
    fn a_client_has_what_its_subscriptions_have_together() {
        let mut subscriptions = Subscriptions::default();
        let id = Uuid::from_u128(7);
        let none = subscriptions.wanted(id, &client("a"));
        assert_eq!((none.metrics.len(), none.interval_ms), (0, INTERVAL_MS));
        let configs = image(&[
            ("one", "metrics", "m.a,m.b"),
            ("one", "match", "client_id=a.*,client_software_version=4\\..*"),
            ("two", "metrics", "m.b,m.c"),
            ("two", "interval.ms", "1000"),
            ("two", "match", "client_source_address=10\\.0\\.0\\.1,client_source_port=5000"),
            ("all", "metrics", "*"),
            ("all", "match", "client_id=x,client_id=all"),
        ]);
        subscriptions.take_image(&configs);
        subscriptions.take_image(&configs);
        assert_eq!(subscriptions.version, 1, "the same again changes nothing");
        let both = subscriptions.wanted(id, &client("abc"));
        assert_eq!((both.metrics, both.interval_ms), (vec!["m.a".into(), "m.b".into(), "m.c".into()], 1000));
        let two = subscriptions.wanted(id, &client("b"));
        assert_eq!(two.metrics, ["m.b", "m.c"]);
        assert_eq!(subscriptions.wanted(id, &client("all")).metrics, ["*"]);
        assert_ne!(both.subscription_id, two.subscription_id);
        assert_ne!(subscriptions.wanted(Uuid::from_u128(8), &client("b")).subscription_id, two.subscription_id);
    }
}

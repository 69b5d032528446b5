//! Features of the cluster (KIP-584): levels that clients and brokers go by, kept in the metadata log.
//!
//! What has no record is at its highest level: a data directory of an earlier release gets what this one can do.

use corelane_protocol::ErrorCode;

use super::image::ClusterImage;
use super::records::MetadataRecord;
use super::{Decision, Refused};
use crate::shard::Shard;

/// A feature, and the levels of it that this release has. Level 0 is without it.
#[derive(Debug, PartialEq, Eq)]
pub struct Feature {
    pub name: &'static str,
    pub min: i16,
    pub max: i16,
}

/// KIP-890: from 1 on the state of transactional ids is stored with what level 2 needs; at 2 each transaction raises its
/// producer's epoch, for clients that know it.
pub const TRANSACTION_VERSION: &str = "transaction.version";

/// KIP-848: with 1 there are groups of the consumer protocol.
pub const GROUP_VERSION: &str = "group.version";

/// A level stands here when something obeys it.
pub const FEATURES: [Feature; 5] = [
    // That of Kafka 4.3, whose messages are served; the metadata log has no other form.
    Feature { name: "metadata.version", min: 30, max: 30 },
    Feature { name: TRANSACTION_VERSION, min: 0, max: 2 },
    Feature { name: GROUP_VERSION, min: 0, max: 1 },
    // KIP-932: there are share groups, and nothing turns them off.
    Feature { name: "share.version", min: 1, max: 1 },
    // KIP-1071: so it is with streams groups.
    Feature { name: "streams.version", min: 1, max: 1 },
];

/// Features of Kafka that nothing obeys here.
const WITHOUT: [&str; 2] = ["kraft.version", "eligible.leader.replicas.version"];

pub fn feature_named(name: &str) -> Option<&'static Feature> {
    FEATURES.iter().find(|feature| feature.name == name)
}

/// Kafka: `FeatureUpdate.UpgradeType`.
const UPGRADE: i8 = 1;
const UNSAFE_DOWNGRADE: i8 = 3;

#[derive(Clone, Debug)]
pub struct FeatureUpdate {
    pub name: String,
    pub level: i16,
    /// Kafka's code of it.
    pub upgrade_type: i8,
}

/// All of them or none.
pub struct UpdateFeatures {
    pub updates: Vec<FeatureUpdate>,
    pub validate_only: bool,
}

impl Decision for UpdateFeatures {
    type Told = ();

    fn plan(self, _: &Shard, image: &ClusterImage) -> Result<(Vec<MetadataRecord>, ()), Refused> {
        let mut records = Vec::new();
        for update in self.updates {
            let current = image.feature(&update.name);
            check(&update, current)?;
            if update.level != current && !self.validate_only {
                records.push(MetadataRecord::Feature { name: update.name, level: update.level });
            }
        }
        Ok((records, ()))
    }
}

/// Kafka: `FeatureControlManager.updateFeature`.
fn check(update: &FeatureUpdate, current: i16) -> Result<(), Refused> {
    let FeatureUpdate { name, level, upgrade_type } = update;
    let refused = |why: String| {
        Err(Refused::new(
            ErrorCode::InvalidUpdateVersion,
            format!("Invalid update version {level} for feature {name}. {why}"),
        ))
    };
    if !(UPGRADE..=UNSAFE_DOWNGRADE).contains(upgrade_type) {
        return refused("The controller does not support the given upgrade type.".to_owned());
    }
    if *level < 0 {
        return refused("A feature version cannot be less than 0.".to_owned());
    }
    match feature_named(name) {
        // Without one of Kafka's features is what everybody can do.
        None if *level == 0 && WITHOUT.contains(&name.as_str()) => {}
        None => return refused("The controller does not support this feature.".to_owned()),
        Some(Feature { min, max, .. }) if !(*min..=*max).contains(level) => {
            return refused(format!("The controller only supports versions {min}-{max}"));
        }
        Some(_) => {}
    }
    match (*upgrade_type == UPGRADE, level.cmp(&current)) {
        (true, std::cmp::Ordering::Less) => {
            refused("A lower version needs an upgrade type of safe or unsafe downgrade.".to_owned())
        }
        (false, std::cmp::Ordering::Greater) => refused("Can't downgrade to a newer version.".to_owned()),
        _ => Ok(()),
    }
}

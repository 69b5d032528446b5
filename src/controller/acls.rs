//! Access rules, as the controller keeps them: checked, made once, taken away (Kafka: `AclControlManager`).

use std::collections::BTreeSet;

use corelane_acl::{Acls, Filter, Rule, RuleId};
use corelane_protocol::ErrorCode;

use super::image::ClusterImage;
use super::records::MetadataRecord;
use super::{AT_ONCE, Decision, Refused};
use crate::shard::Shard;

/// Makes rules. Those that are there stay as they are.
pub struct CreateAcls {
    pub rules: Vec<Rule>,
}

impl Decision for CreateAcls {
    type Told = ();

    fn plan(self, _: &Shard, image: &ClusterImage) -> Result<(Vec<MetadataRecord>, ()), Refused> {
        let new: BTreeSet<Rule> = self.rules.into_iter().filter(|rule| !image.acls().contains(rule)).collect();
        if new.len() > AT_ONCE {
            return Err(Refused::too_large());
        }
        let records = new.into_iter().map(|rule| MetadataRecord::Acl { id: new_id(image.acls()), rule });
        Ok((records.collect(), ()))
    }
}

fn new_id(acls: &Acls) -> RuleId {
    loop {
        let id = RuleId(rand::random());
        if !acls.contains_id(id) {
            return id;
        }
    }
}

/// Takes the rules away that fit any of the filters; gives for each filter those that fit it.
pub struct DeleteAcls {
    pub filters: Vec<Filter>,
}

impl Decision for DeleteAcls {
    type Told = Vec<Vec<Rule>>;

    fn plan(self, _: &Shard, image: &ClusterImage) -> Result<(Vec<MetadataRecord>, Self::Told), Refused> {
        let mut gone = BTreeSet::new();
        let mut found = Vec::with_capacity(self.filters.len());
        for filter in &self.filters {
            let fitting: Vec<_> = image.acls().iter().filter(|(_, rule)| filter.matches(rule)).collect();
            gone.extend(fitting.iter().map(|(id, _)| *id));
            found.push(fitting.into_iter().map(|(_, rule)| (**rule).clone()).collect());
            if gone.len() > AT_ONCE {
                let message = format!("Cannot remove more than {AT_ONCE} acls in a single delete operation.");
                return Err(Refused::new(ErrorCode::InvalidRequest, message));
            }
        }
        let records = gone.into_iter().map(|id| MetadataRecord::RemoveAcl { id });
        Ok((records.collect(), found))
    }
}

//! UpdateFeatures (KIP-584): all of the levels that are asked for, or none.

use std::collections::BTreeMap;

use corelane_protocol::messages::update_features_response::UpdateFeaturesResponseUpdatableFeatureResult;
use corelane_protocol::messages::{UpdateFeaturesRequest, UpdateFeaturesResponse};

use crate::controller::features::{FeatureUpdate, UpdateFeatures};
use crate::controller::requests::ask;
use crate::kafka::request::RequestContext;

/// Last version whose answer names each feature.
const RESULTS_TO: i16 = 1;

pub async fn handle(context: RequestContext, request: UpdateFeaturesRequest) -> UpdateFeaturesResponse {
    // Of a feature that is named twice the last counts.
    let updates: BTreeMap<_, _> =
        request.feature_updates.iter().map(|update| (update.feature.clone(), update)).collect();
    let names: Vec<_> = request.feature_updates.iter().map(|update| update.feature.clone()).collect();
    let updates = updates.into_values().map(|update| FeatureUpdate {
        name: update.feature.to_string(),
        level: update.max_version_level,
        upgrade_type: update.upgrade_type,
    });
    let call = UpdateFeatures { updates: updates.collect(), validate_only: request.validate_only };
    let result = ask(&context.shard, call).await;
    let results = match &result {
        Ok(()) if context.version <= RESULTS_TO => names
            .into_iter()
            .map(|feature| UpdateFeaturesResponseUpdatableFeatureResult { feature, ..Default::default() })
            .collect(),
        _ => Vec::new(),
    };
    let (error_code, error_message) = super::outcome_of(result);
    UpdateFeaturesResponse { error_code, error_message, results, ..Default::default() }
}

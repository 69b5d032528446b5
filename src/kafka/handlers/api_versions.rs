//! ApiVersions (KIP-35, KIP-511, KIP-584): what works here.

use corelane_protocol::messages::api_versions_response::{
    ApiVersionsResponseApiVersion, ApiVersionsResponseFinalizedFeatureKey, ApiVersionsResponseSupportedFeatureKey,
};
use corelane_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};
use corelane_protocol::{ApiKey, ErrorCode, Str};

use super::{Call, SERVED};
use crate::controller::features::{FEATURES, Feature};
use crate::kafka::connection::Answer;
use crate::kafka::request::RequestContext;

pub async fn handle(context: RequestContext, request: ApiVersionsRequest) -> ApiVersionsResponse {
    if context.version >= 3 && !(is_name(&request.client_software_name) && is_name(&request.client_software_version)) {
        return ApiVersionsResponse { error_code: ErrorCode::InvalidRequest.code(), ..Default::default() };
    }
    let image = context.shard.image();
    // Earlier versions cannot say that a feature may be off (KAFKA-17492).
    let shown = |feature: &&Feature| context.version >= 4 || feature.min > 0;
    let finalized = FEATURES.iter().map(|feature| (feature.name, image.feature(feature.name)));
    ApiVersionsResponse {
        api_keys: served(),
        supported_features: FEATURES.iter().filter(shown).map(supported).collect(),
        finalized_features_epoch: image.offset().0,
        finalized_features: finalized.filter(|(_, level)| *level > 0).map(|(name, level)| at(name, level)).collect(),
        ..Default::default()
    }
}

fn supported(feature: &Feature) -> ApiVersionsResponseSupportedFeatureKey {
    ApiVersionsResponseSupportedFeatureKey {
        name: Str::from_static(feature.name),
        min_version: feature.min,
        max_version: feature.max,
        ..Default::default()
    }
}

fn at(feature: &'static str, level: i16) -> ApiVersionsResponseFinalizedFeatureKey {
    ApiVersionsResponseFinalizedFeatureKey {
        name: Str::from_static(feature),
        min_version_level: level,
        max_version_level: level,
        ..Default::default()
    }
}

/// KIP-511: letters and digits, and `-` and `.` between them.
fn is_name(name: &str) -> bool {
    let (edge, inner) = (|c: char| c.is_ascii_alphanumeric(), |c: char| c.is_ascii_alphanumeric() || "-.".contains(c));
    name.starts_with(edge) && name.ends_with(edge) && name.chars().all(inner)
}

/// The client asked with a version of ApiVersions that is newer than ours: error 35 in the oldest body, which every
/// client can read, and what we do serve (KIP-511).
pub fn unsupported_version(call: Call) -> Answer {
    let response = ApiVersionsResponse {
        error_code: ErrorCode::UnsupportedVersion.code(),
        api_keys: served().into_iter().filter(|a| a.api_key == ApiKey::ApiVersions.key()).collect(),
        ..Default::default()
    };
    Call { version: 0, ..call }.answer(&response)
}

fn served() -> Vec<ApiVersionsResponseApiVersion> {
    let mut served: Vec<ApiVersionsResponseApiVersion> = SERVED
        .iter()
        .map(|api| {
            // Produce is advertised from 0 on (KAFKA-18659): librdkafka would turn compression off otherwise.
            let versions = api.advertised_versions();
            ApiVersionsResponseApiVersion {
                api_key: api.key(),
                min_version: *versions.start(),
                max_version: *versions.end(),
                ..Default::default()
            }
        })
        .collect();
    served.sort_by_key(|a| a.api_key);
    served
}

//! ApiVersions (KIP-35, KIP-511, KIP-584): what works here.

use bytes::Bytes;
use corelane_protocol::frame::encode_response;
use corelane_protocol::messages::api_versions_response::{
    ApiVersionsResponseApiVersion, ApiVersionsResponseFinalizedFeatureKey, ApiVersionsResponseSupportedFeatureKey,
};
use corelane_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};
use corelane_protocol::{ApiKey, ErrorCode, Str};

use super::SERVED;
use crate::controller::features::{FEATURES, Feature};
use crate::kafka::request::{Client, RequestContext};
use crate::shard::Shard;

pub async fn handle(context: RequestContext, request: ApiVersionsRequest) -> ApiVersionsResponse {
    answer(&context.shard, &context.client, context.version, &request)
}

/// Also for clients that have not authenticated.
pub fn answer(shard: &Shard, client: &Client, version: i16, request: &ApiVersionsRequest) -> ApiVersionsResponse {
    if version >= 3 && !(is_name(&request.client_software_name) && is_name(&request.client_software_version)) {
        return ApiVersionsResponse { error_code: ErrorCode::InvalidRequest.code(), ..Default::default() };
    }
    let software = (&request.client_software_name, &request.client_software_version);
    client.set_software((version >= 3).then_some(software));
    let image = shard.image();
    // Earlier versions cannot say that a feature may be off (KAFKA-17492).
    let shown = |feature: &&Feature| version >= 4 || feature.min > 0;
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
pub fn unknown(correlation_id: i32) -> Vec<Bytes> {
    let response = ApiVersionsResponse {
        error_code: ErrorCode::UnsupportedVersion.code(),
        api_keys: served().into_iter().filter(|a| a.api_key == ApiKey::ApiVersions.key()).collect(),
        ..Default::default()
    };
    // A few numbers fit a frame.
    encode_response(ApiKey::ApiVersions, 0, correlation_id, &response).unwrap_or_default()
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

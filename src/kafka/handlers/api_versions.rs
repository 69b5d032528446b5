//! ApiVersions (KIP-35, KIP-511, KIP-584): what works here.

use corelane_protocol::messages::api_versions_response::{
    ApiVersionsResponseApiVersion, ApiVersionsResponseFinalizedFeatureKey, ApiVersionsResponseSupportedFeatureKey,
};
use corelane_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};
use corelane_protocol::{ApiKey, ErrorCode, Str};

use super::{Call, SERVED};
use crate::kafka::connection::Answer;
use crate::kafka::request::RequestContext;

pub async fn handle(context: RequestContext, request: ApiVersionsRequest) -> ApiVersionsResponse {
    if context.version >= 3 && !(is_name(&request.client_software_name) && is_name(&request.client_software_version)) {
        return ApiVersionsResponse { error_code: ErrorCode::InvalidRequest.code(), ..Default::default() };
    }
    ApiVersionsResponse {
        api_keys: served(),
        // Earlier versions cannot say that a feature may be off (KAFKA-17492).
        supported_features: if context.version >= 4 { supported() } else { Vec::new() },
        finalized_features_epoch: 0,
        finalized_features: finalized(),
        ..Default::default()
    }
}

/// Features and their levels. Clients that know `transaction.version` 2 (KIP-890) let every transaction raise their epoch, others
/// are served as before. `group.version` 1 says that there are groups of KIP-848, `share.version` 1 that there are share groups
/// (KIP-932), `streams.version` 1 that there are streams groups (KIP-1071).
const FEATURES: [(&str, i16); 4] =
    [("transaction.version", 2), ("group.version", 1), ("share.version", 1), ("streams.version", 1)];

fn supported() -> Vec<ApiVersionsResponseSupportedFeatureKey> {
    let feature = |(name, level)| ApiVersionsResponseSupportedFeatureKey {
        name: Str::from_static(name),
        min_version: 0,
        max_version: level,
        ..Default::default()
    };
    FEATURES.map(feature).into()
}

fn finalized() -> Vec<ApiVersionsResponseFinalizedFeatureKey> {
    let feature = |(name, level)| ApiVersionsResponseFinalizedFeatureKey {
        name: Str::from_static(name),
        min_version_level: level,
        max_version_level: level,
        ..Default::default()
    };
    FEATURES.map(feature).into()
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

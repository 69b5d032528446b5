//! What a broker says it can do.

use crate::connection::Connection;
use corelane_protocol::ApiKey;
use corelane_protocol::messages::ApiVersionsRequest;
use std::ops::RangeInclusive;

/// The advertised APIs that this build knows, with the versions that both know.
pub fn advertised(bootstrap: &str) -> Vec<(ApiKey, RangeInclusive<i16>)> {
    let mut connection = Connection::open(bootstrap).expect("a connection");
    let request = ApiVersionsRequest {
        client_software_name: "system-test".into(),
        client_software_version: "1".into(),
        ..ApiVersionsRequest::default()
    };
    let response = connection.call(3, &request);
    assert_eq!(response.error_code, 0);
    let known = response.api_keys.iter().filter_map(|a| {
        let api = ApiKey::try_from(a.api_key).ok()?;
        let ours = api.valid_versions();
        Some((api, a.min_version.max(*ours.start())..=a.max_version.min(*ours.end())))
    });
    known.collect()
}

//! Requests that need nothing as a whole: anybody may send them, or their handlers ask for each thing they touch.

use corelane_protocol::Request;
use corelane_protocol::messages::{
    ApiVersionsRequest, DescribeTopicPartitionsRequest, FetchRequest, FindCoordinatorRequest,
    GetTelemetrySubscriptionsRequest, MetadataRequest, OffsetFetchRequest, PushTelemetryRequest,
    SaslAuthenticateRequest, SaslHandshakeRequest,
};

use super::{Access, Guarded, Verdict};

macro_rules! pass {
    ($($request:ident),* $(,)?) => {
        $(impl Guarded for $request {
            fn guard(&mut self, _: &Access<'_>) -> Verdict<<Self as Request>::Response> {
                Verdict::Pass
            }
        })*
    };
}

// Anybody.
pass!(
    ApiVersionsRequest,
    GetTelemetrySubscriptionsRequest,
    PushTelemetryRequest,
    SaslAuthenticateRequest,
    SaslHandshakeRequest,
);
// Asked by their handlers.
pass!(DescribeTopicPartitionsRequest, FetchRequest, FindCoordinatorRequest, MetadataRequest, OffsetFetchRequest);

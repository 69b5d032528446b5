//! Requests that need nothing as a whole: anybody may send them, or their handlers ask for each thing they touch.

use corelane_protocol::Request;
use corelane_protocol::messages::{
    ApiVersionsRequest, CreateDelegationTokenRequest, DescribeDelegationTokenRequest, DescribeTopicPartitionsRequest,
    ExpireDelegationTokenRequest, FetchRequest, FindCoordinatorRequest, GetTelemetrySubscriptionsRequest,
    MetadataRequest, OffsetFetchRequest, PushTelemetryRequest, RenewDelegationTokenRequest, SaslAuthenticateRequest,
    SaslHandshakeRequest,
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
    ExpireDelegationTokenRequest,
    GetTelemetrySubscriptionsRequest,
    PushTelemetryRequest,
    RenewDelegationTokenRequest,
    SaslAuthenticateRequest,
    SaslHandshakeRequest,
);
// Asked by their handlers.
pass!(
    CreateDelegationTokenRequest,
    DescribeDelegationTokenRequest,
    DescribeTopicPartitionsRequest,
    FetchRequest,
    FindCoordinatorRequest,
    MetadataRequest,
    OffsetFetchRequest,
);

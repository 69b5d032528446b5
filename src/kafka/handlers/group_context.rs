//! What group requests bring along besides their bodies.

use corelane_coordinator::group::RequestContext as GroupContext;
use corelane_protocol::Str;

use crate::kafka::request::RequestContext;

pub fn group_context(context: &RequestContext) -> GroupContext {
    GroupContext {
        client_id: context.client.id().unwrap_or(Str::EMPTY),
        client_host: context.client.host.clone().into(),
        api_version: context.version,
        random: rand::random(),
    }
}

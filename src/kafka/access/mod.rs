//! What clients may do, where an authorizer is configured (`authorizer.class.name`): the checks of Kafka's `KafkaApis` and
//! `ControllerApis`.
//!
//! Every request passes [`guarded`], so that no API can be served without a decision about it: its [`Guarded`] says what the whole
//! request needs, takes out what the client may not ask for, and amends the answer by it. What depends on how a handler goes
//! about its work is asked by the handler, with [`RequestContext::may`]. Without an authorizer all of this is one look at an
//! option.

mod admin;
mod administrative;
mod decisions;
mod groups;
mod passing;
mod scram;
mod share;
mod topics;
mod transactions;

use std::future::Future;
use std::sync::Arc;

use corelane_acl::{Authorizer, CLUSTER_NAME, Operation, Operations, ResourceType};
use corelane_protocol::{ErrorCode, Request, Str};

pub use self::admin::{cluster_operations, configured};
use self::administrative::Administrative;
pub use self::decisions::Decisions;
pub use self::scram::every_user;
use super::request::RequestContext;
use crate::controller::image::ClusterImage;

/// What becomes of a request.
pub enum Verdict<A> {
    Pass,
    Refuse(A),
    /// Runs what is left of it, then changes the answer.
    Amend(Box<Amendment<A>>),
}

type Amendment<A> = dyn FnOnce(&Access<'_>, &mut A);

impl<A> Verdict<A> {
    fn amend(change: impl FnOnce(&Access<'_>, &mut A) + 'static) -> Verdict<A> {
        Verdict::Amend(Box::new(change))
    }

    fn unless(allowed: bool, refuse: impl FnOnce() -> A) -> Verdict<A> {
        if allowed { Verdict::Pass } else { Verdict::Refuse(refuse()) }
    }
}

pub trait Guarded: Request {
    fn guard(&mut self, access: &Access<'_>) -> Verdict<Self::Response>;

    /// Kafka refuses to read some requests that parse; their senders lose their connections.
    fn is_sound(&self) -> bool {
        true
    }
}

/// Answers a request within what its client may do, and puts on record what changes the cluster.
pub async fn guarded<Q, F, A>(context: RequestContext, request: Q, handle: F) -> Q::Response
where
    Q: Guarded + 'static,
    F: FnOnce(RequestContext, Q) -> A,
    A: Future<Output = Q::Response>,
    Q::Response: 'static,
{
    let administrative = Administrative::begin(Q::API_KEY, &request);
    let ended = administrative.as_ref().map(|_| context.clone());
    let answer = within(context, request, handle).await;
    if let (Some(administrative), Some(context)) = (administrative, ended) {
        administrative.end(&context, &answer);
    }
    answer
}

async fn within<Q, F, A>(context: RequestContext, mut request: Q, handle: F) -> Q::Response
where
    Q: Guarded,
    F: FnOnce(RequestContext, Q) -> A,
    A: Future<Output = Q::Response>,
{
    let verdict = context.access().map_or(Verdict::Pass, |access| request.guard(&access));
    let amend = match verdict {
        Verdict::Pass => return handle(context, request).await,
        Verdict::Refuse(answer) => return answer,
        Verdict::Amend(amend) => amend,
    };
    let mut answer = handle(context.clone(), request).await;
    if let Some(access) = context.access() {
        amend(&access, &mut answer);
    }
    answer
}

/// Asks for one client, by the rules that are in force now.
pub struct Access<'a> {
    context: &'a RequestContext,
    authorizer: &'a Authorizer,
    image: Arc<ClusterImage>,
}

impl RequestContext {
    /// `None`: nobody is refused anything.
    pub fn access(&self) -> Option<Access<'_>> {
        let authorizer = self.shard.config.authorizer()?;
        Some(Access { context: self, authorizer, image: self.shard.image() })
    }

    /// Whether the client may do this. A refusal is put on record.
    pub fn may(&self, operation: Operation, of: ResourceType, name: &str) -> bool {
        let changes = matches!(operation, Operation::Write | Operation::Delete);
        if changes && of == ResourceType::Topic && self.shard.config.is_audit_log(name) {
            self.refuse(operation, of, name);
            return false;
        }
        self.access().is_none_or(|access| access.may(operation, of, name))
    }

    fn refuse(&self, operation: Operation, of: ResourceType, name: &str) {
        let (operation, of) = (format!("{operation:?}"), format!("{of:?}"));
        self.audited(|asker| self.shard.audit.refused(asker, &operation, (&of, name)));
    }

    pub fn may_topic(&self, operation: Operation, name: &str) -> bool {
        self.may(operation, ResourceType::Topic, name)
    }

    /// The same, where it is no attempt to do it: what the client is not shown it did not ask for.
    pub fn may_see(&self, operation: Operation, of: ResourceType, name: &str) -> bool {
        self.access().is_none_or(|access| access.may_see(operation, of, name))
    }

    /// As answers show them (KIP-430).
    pub fn operations(&self, of: ResourceType, name: &str) -> i32 {
        match self.access() {
            Some(access) => access.operations(of, name),
            None => Operations::supported(of).bits(),
        }
    }
}

impl Access<'_> {
    fn allowed(&self, of: ResourceType, name: &str) -> Operations {
        self.context.client.decisions.borrow_mut().operations(
            self.authorizer,
            &self.image,
            &self.context.client,
            of,
            name,
        )
    }

    pub fn version(&self) -> i16 {
        self.context.version
    }

    pub fn image(&self) -> &ClusterImage {
        &self.image
    }

    pub fn may(&self, operation: Operation, of: ResourceType, name: &str) -> bool {
        let allowed = self.allowed(of, name).contains(operation);
        if !allowed {
            self.context.refuse(operation, of, name);
        }
        allowed
    }

    pub fn may_see(&self, operation: Operation, of: ResourceType, name: &str) -> bool {
        self.allowed(of, name).contains(operation)
    }

    pub fn topic(&self, operation: Operation, name: &str) -> bool {
        self.may(operation, ResourceType::Topic, name)
    }

    pub fn group(&self, operation: Operation, id: &str) -> bool {
        self.may(operation, ResourceType::Group, id)
    }

    pub fn transactional_id(&self, operation: Operation, id: &str) -> bool {
        self.may(operation, ResourceType::TransactionalId, id)
    }

    pub fn cluster(&self, operation: Operation) -> bool {
        self.may(operation, ResourceType::Cluster, CLUSTER_NAME)
    }

    /// Whether the client may do it with some topic.
    pub fn some_topic(&self, operation: Operation) -> bool {
        let who = self.context.client.decisions.borrow_mut().who(self.authorizer, &self.context.client);
        self.authorizer.allows_some(self.image.acls(), &who, operation, ResourceType::Topic)
    }

    pub fn operations(&self, of: ResourceType, name: &str) -> i32 {
        self.allowed(of, name).and(Operations::supported(of)).bits()
    }

    /// What of `names` the client may not do it with; each is asked once.
    fn refused<'n>(&self, operation: Operation, names: impl Iterator<Item = &'n Str>) -> Vec<Str> {
        let mut names: Vec<&Str> = names.collect();
        names.sort_unstable();
        names.dedup();
        names.into_iter().filter(|name| !self.topic(operation, name)).cloned().collect()
    }
}

/// An error and the text that Kafka has for it.
fn worded(error: ErrorCode) -> (i16, Option<Str>) {
    (error.code(), Some(Str::from_static(error.message())))
}

//! What was decided for one connection, so that one that goes on with the same topics is not looked up again and again.

use std::rc::Rc;

use corelane_acl::{Authorizer, Operations, ResourceType, Who};
use hashbrown::HashMap;

use crate::controller::image::ClusterImage;
use crate::kafka::request::Client;
use crate::security::Principal;

/// Topics that are remembered for a connection.
const TOPICS: usize = 1024;

#[derive(Default)]
pub struct Decisions {
    principal: Option<Rc<Principal>>,
    who: Option<Rc<Who>>,
    /// Of the rules that the decisions are by.
    version: u64,
    topics: HashMap<Box<str>, Operations>,
}

impl Decisions {
    /// The client as rules know it. Who it is may change: it authenticates again.
    pub fn who(&mut self, authorizer: &Authorizer, client: &Client) -> Rc<Who> {
        let principal = client.principal();
        match &self.who {
            Some(who) if self.principal.as_ref().is_some_and(|known| Rc::ptr_eq(known, &principal)) => who.clone(),
            _ => {
                let who = Rc::new(authorizer.who(&principal.to_string(), client.peer.ip()));
                self.topics.clear();
                (self.principal, self.who) = (Some(principal), Some(who.clone()));
                who
            }
        }
    }

    pub fn operations(
        &mut self,
        authorizer: &Authorizer,
        image: &ClusterImage,
        client: &Client,
        of: ResourceType,
        name: &str,
    ) -> Operations {
        let who = self.who(authorizer, client);
        if of != ResourceType::Topic {
            return authorizer.operations(image.acls(), &who, of, name);
        }
        if self.version != image.acl_version() {
            self.version = image.acl_version();
            self.topics.clear();
        }
        if let Some(known) = self.topics.get(name) {
            return *known;
        }
        if self.topics.len() >= TOPICS {
            self.topics.clear();
        }
        let operations = authorizer.operations(image.acls(), &who, of, name);
        self.topics.insert(name.into(), operations);
        operations
    }
}

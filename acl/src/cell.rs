//! What one principal may do with the resources of one pattern.

use std::net::IpAddr;

use hashbrown::HashMap;

use super::host::Net;
use super::operations::Grant;
use super::rule::{Operation, Permission, WILDCARD};

/// What rules for one principal and one pattern come to. Small, because a check reads it and mostly nothing else.
#[derive(Clone, Debug, Default)]
pub struct Cell {
    /// For clients from anywhere.
    anywhere: Grant,
    held: Box<Held>,
    /// There are rules for some networks.
    has_nets: bool,
}

#[derive(Clone, Debug, Default)]
struct Held {
    anywhere: Rules,
    nets: HashMap<Net, Rules>,
    /// The kinds of networks there are (whether of IPv4, and bits of the prefix), and how many of each.
    kinds: Vec<((bool, u8), usize)>,
}

/// Rules of one cell for one host, and what they come to.
#[derive(Clone, Debug, Default)]
struct Rules {
    grant: Grant,
    rules: Vec<(Operation, Permission)>,
}

impl Rules {
    fn remove(&mut self, rule: (Operation, Permission)) {
        if let Some(at) = self.rules.iter().position(|held| *held == rule) {
            self.rules.swap_remove(at);
        }
        self.grant = Grant::default();
        self.rules.iter().for_each(|(operation, permission)| self.grant.add(Grant::by(*operation, *permission)));
    }

    fn add(&mut self, rule: (Operation, Permission)) {
        self.rules.push(rule);
        self.grant.add(Grant::by(rule.0, rule.1));
    }
}

/// Where a rule applies.
#[derive(Clone, Copy, Debug)]
pub enum Place {
    Anywhere,
    In(Net),
}

impl Place {
    /// `None`: nowhere.
    pub fn of(host: &str) -> Option<Place> {
        if host == WILDCARD { Some(Place::Anywhere) } else { Net::parse(host).map(Place::In) }
    }
}

impl Cell {
    pub fn grant(&self, client: IpAddr) -> Grant {
        let mut grant = self.anywhere;
        if self.has_nets {
            for ((_, prefix), _) in self.held.kinds.iter().filter(|((v4, _), _)| *v4 == client.is_ipv4()) {
                if let Some(rules) = self.held.nets.get(&Net::around(client, *prefix)) {
                    grant.add(rules.grant);
                }
            }
        }
        grant
    }

    pub fn add(&mut self, place: Place, rule: (Operation, Permission)) {
        let Held { anywhere, nets, kinds } = &mut *self.held;
        match place {
            Place::Anywhere => anywhere.add(rule),
            Place::In(net) => {
                let rules = nets.entry(net).or_insert_with(|| {
                    match kinds.iter_mut().find(|(kind, _)| *kind == net.kind()) {
                        Some((_, count)) => *count += 1,
                        None => kinds.push((net.kind(), 1)),
                    }
                    Rules::default()
                });
                rules.add(rule);
            }
        }
        (self.anywhere, self.has_nets) = (anywhere.grant, !nets.is_empty());
    }

    /// Returns whether anything is left.
    pub fn remove(&mut self, place: Place, rule: (Operation, Permission)) -> bool {
        let Held { anywhere, nets, kinds } = &mut *self.held;
        match place {
            Place::Anywhere => anywhere.remove(rule),
            Place::In(net) => {
                if let Some(rules) = nets.get_mut(&net) {
                    rules.remove(rule);
                    if rules.rules.is_empty() {
                        nets.remove(&net);
                        kinds.iter_mut().filter(|(kind, _)| *kind == net.kind()).for_each(|(_, count)| *count -= 1);
                        kinds.retain(|(_, count)| *count > 0);
                    }
                }
            }
        }
        (self.anywhere, self.has_nets) = (anywhere.grant, !nets.is_empty());
        !anywhere.rules.is_empty() || self.has_nets
    }
}

//! Which limit holds for whom (Kafka: `ClientQuotaManager.DefaultQuotaCallback`).

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;

use hashbrown::HashMap;

use crate::controller::image::ClusterImage;
use crate::controller::quotas::{
    CONNECTION_CREATION_RATE, CONSUMER_BYTE_RATE, CONTROLLER_MUTATION_RATE, Name, PRODUCER_BYTE_RATE,
    REQUEST_PERCENTAGE,
};

/// What is limited of users and client ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Bytes of requests a second.
    Produce,
    /// Bytes of answers a second.
    Fetch,
    /// Hundredths of a core.
    Request,
    /// Partitions made and deleted a second.
    Mutation,
}

impl Kind {
    pub const ALL: [Kind; 4] = [Kind::Produce, Kind::Fetch, Kind::Request, Kind::Mutation];

    fn quota(self) -> &'static str {
        match self {
            Kind::Produce => PRODUCER_BYTE_RATE,
            Kind::Fetch => CONSUMER_BYTE_RATE,
            Kind::Request => REQUEST_PERCENTAGE,
            Kind::Mutation => CONTROLLER_MUTATION_RATE,
        }
    }
}

/// Who counts as one: Kafka's metric tags, by their hash. What a client calls itself may be long, and must not be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Payer([u64; 2]);

impl Payer {
    fn new(user: &str, client_id: &str) -> Payer {
        Payer([0_u8, 1].map(|seed| {
            let mut hasher = DefaultHasher::new();
            (seed, user, client_id).hash(&mut hasher);
            hasher.finish()
        }))
    }

    /// One of `count` places, the same on every shard.
    pub fn place(&self, count: usize) -> usize {
        (self.0[0] % count.max(1) as u64) as usize
    }
}

/// Who pays, and how much a second there is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Share {
    pub payer: Payer,
    pub limit: f64,
}

type Entity = (Option<Name>, Option<Name>);

/// The limits of one kind.
#[derive(Debug, Default)]
struct Limits {
    by_entity: HashMap<Entity, f64>,
    /// Some are for users alone, for client ids alone, for both.
    users: bool,
    client_ids: bool,
    pairs: bool,
}

impl Limits {
    fn add(&mut self, entity: Entity, limit: f64) {
        match &entity {
            (Some(_), Some(_)) => self.pairs = true,
            (Some(_), None) => self.users = true,
            _ => self.client_ids = true,
        }
        self.by_entity.insert(entity, limit);
    }

    /// Whose usage counts together with this client's: that of the user, of the client id, or of the pair, whichever is the
    /// most particular one that has a quota.
    fn tags<'a>(&self, user: &'a str, client_id: &'a str) -> (&'a str, &'a str) {
        let (by_client, by_user, by_pair) = (("", client_id), (user, ""), (user, client_id));
        match (self.client_ids, self.users, self.pairs) {
            (_, false, false) => by_client,
            (false, true, false) => by_user,
            (false, false, true) => by_pair,
            _ => {
                let (me, mine) = (Some(Name::Of(user.into())), Some(Name::Of(client_id.into())));
                let all = || Some(Name::Default);
                let has = |user: &Option<Name>, client_id: &Option<Name>| {
                    self.by_entity.contains_key(&(user.clone(), client_id.clone()))
                };
                if has(&me, &mine) || has(&me, &all()) {
                    by_pair
                } else if has(&me, &None) {
                    by_user
                } else if has(&all(), &mine) || has(&all(), &all()) {
                    by_pair
                } else if has(&all(), &None) {
                    by_user
                } else {
                    by_client
                }
            }
        }
    }

    fn limit(&self, (user, client_id): (&str, &str)) -> Option<f64> {
        let named = |name: &str| [Some(Name::Of(name.into())), Some(Name::Default)];
        let none = || vec![None];
        let (users, client_ids) = match (user.is_empty(), client_id.is_empty()) {
            (false, false) => (named(user).to_vec(), named(client_id).to_vec()),
            (false, true) => (named(user).to_vec(), none()),
            (true, false) => (none(), named(client_id).to_vec()),
            (true, true) => return None,
        };
        let pairs = users.iter().flat_map(|user| client_ids.iter().map(move |id| (user.clone(), id.clone())));
        pairs.into_iter().find_map(|entity| self.by_entity.get(&entity).copied())
    }

    fn share(&self, user: &str, client_id: &str) -> Option<Share> {
        if self.by_entity.is_empty() {
            return None;
        }
        let tags = self.tags(user, client_id);
        Some(Share { payer: Payer::new(tags.0, tags.1), limit: self.limit(tags)? })
    }
}

/// How many connections addresses may make a second.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct IpLimits {
    pub by_ip: std::collections::HashMap<IpAddr, f64>,
    pub default: Option<f64>,
}

/// All limits of an image.
#[derive(Debug, Default)]
pub struct Table {
    limits: [Limits; Kind::ALL.len()],
    pub ips: IpLimits,
}

impl Table {
    pub fn new(image: &ClusterImage) -> Table {
        let mut table = Table::default();
        for (entity, quotas) in image.quotas() {
            match &entity.ip {
                None => {
                    for kind in Kind::ALL {
                        if let Some(limit) = quotas.get(kind.quota()) {
                            table.limits[kind as usize].add((entity.user.clone(), entity.client_id.clone()), *limit);
                        }
                    }
                }
                Some(name) => {
                    let limit = quotas.get(CONNECTION_CREATION_RATE).copied();
                    match name {
                        Name::Default => table.ips.default = limit,
                        Name::Of(ip) => {
                            let ip = ip.parse::<IpAddr>().ok().map(|ip| ip.to_canonical());
                            table.ips.by_ip.extend(ip.zip(limit));
                        }
                    }
                }
            }
        }
        table
    }

    /// Nobody has a quota of this kind.
    pub fn is_free(&self, kind: Kind) -> bool {
        self.limits[kind as usize].by_entity.is_empty()
    }

    /// `None`: as much as it likes.
    pub fn share(&self, kind: Kind, user: &str, client_id: &str) -> Option<Share> {
        self.limits[kind as usize].share(user, client_id)
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::controller::quotas::QuotaEntity;
    use crate::controller::records::MetadataRecord;

    fn name(text: Option<&str>) -> Option<Name> {
        text.map(|text| if text == "*" { Name::Default } else { Name::Of(text.into()) })
    }

    pub fn table(quotas: &[(Option<&str>, Option<&str>, f64)]) -> Table {
        let mut image = ClusterImage::default();
        for (user, client_id, value) in quotas {
            let entity = QuotaEntity { user: name(*user), client_id: name(*client_id), ip: None };
            let key = PRODUCER_BYTE_RATE.to_owned();
            image.apply(&MetadataRecord::Quota { entity, key, value: Some(*value) }).unwrap();
        }
        Table::new(&image)
    }

    /// Kafka's order, the most particular first, each with a limit that says which it is.
    const ORDER: [(Option<&str>, Option<&str>, f64); 8] = [
        (Some("u"), Some("c"), 1.0),
        (Some("u"), Some("*"), 2.0),
        (Some("u"), None, 3.0),
        (Some("*"), Some("c"), 4.0),
        (Some("*"), Some("*"), 5.0),
        (Some("*"), None, 6.0),
        (None, Some("c"), 7.0),
        (None, Some("*"), 8.0),
    ];

    #[test]
    fn the_most_particular_quota_holds() {
        for from in 0..ORDER.len() {
            let share = table(&ORDER[from..]).share(Kind::Produce, "u", "c").unwrap();
            assert_eq!(share.limit, ORDER[from].2);
        }
        let all = table(&ORDER);
        assert!(all.share(Kind::Fetch, "u", "c").is_none() && all.is_free(Kind::Fetch));
        assert!(table(&[]).share(Kind::Produce, "u", "c").is_none());
    }

    #[test]
    fn those_count_together_whom_the_quota_means_together() {
        let payer = |table: &Table, user, client| table.share(Kind::Produce, user, client).unwrap().payer;
        let of_user = table(&[(Some("*"), None, 5.0)]);
        assert_eq!(payer(&of_user, "u", "c"), payer(&of_user, "u", "d"));
        assert_ne!(payer(&of_user, "u", "c"), payer(&of_user, "v", "c"));
        let of_client = table(&[(None, Some("*"), 5.0)]);
        assert_eq!(payer(&of_client, "u", "c"), payer(&of_client, "v", "c"));
        assert_ne!(payer(&of_client, "u", "c"), payer(&of_client, "u", "d"));
        assert!(of_client.share(Kind::Produce, "u", "").is_none(), "who has no client id");
        let of_pair = table(&[(Some("*"), Some("*"), 5.0), (Some("v"), None, 9.0)]);
        assert_ne!(payer(&of_pair, "u", "c"), payer(&of_pair, "u", "d"));
        assert_eq!(payer(&of_pair, "v", "c"), payer(&of_pair, "v", "d"));
        assert_eq!(of_pair.share(Kind::Produce, "v", "c").unwrap().limit, 9.0);
    }
}

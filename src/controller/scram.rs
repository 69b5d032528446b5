//! Users of SCRAM, as the controller keeps them (Kafka: `ScramControlManager`, `ScramImage`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use corelane_protocol::ErrorCode;
use corelane_sasl::scram::{Credential, Hash, ITERATIONS_MAX, ITERATIONS_MIN};

use super::image::ClusterImage;
use super::records::MetadataRecord;
use super::{AT_ONCE, Decision, Refused};
use crate::shard::Shard;

/// Who may come by SCRAM.
#[derive(Clone, Debug, Default)]
pub struct ScramUsers {
    sha256: imbl::OrdMap<String, Arc<Credential>>,
    sha512: imbl::OrdMap<String, Arc<Credential>>,
}

impl ScramUsers {
    fn of(&self, hash: Hash) -> &imbl::OrdMap<String, Arc<Credential>> {
        match hash {
            Hash::Sha256 => &self.sha256,
            Hash::Sha512 => &self.sha512,
        }
    }

    fn of_mut(&mut self, hash: Hash) -> &mut imbl::OrdMap<String, Arc<Credential>> {
        match hash {
            Hash::Sha256 => &mut self.sha256,
            Hash::Sha512 => &mut self.sha512,
        }
    }

    pub fn get(&self, hash: Hash, user: &str) -> Option<&Arc<Credential>> {
        self.of(hash).get(user)
    }

    /// Somebody, always the same one while nothing changes.
    pub fn any(&self, hash: Hash) -> Option<&Credential> {
        self.of(hash).get_min().map(|(_, credential)| &**credential)
    }

    /// Everybody, by name.
    pub fn names(&self) -> BTreeSet<&str> {
        self.sha256.keys().chain(self.sha512.keys()).map(String::as_str).collect()
    }

    pub(super) fn set(&mut self, hash: Hash, user: &str, credential: Credential) {
        self.of_mut(hash).insert(user.to_owned(), Arc::new(credential));
    }

    pub(super) fn remove(&mut self, hash: Hash, user: &str) -> Result<(), String> {
        let gone = self.of_mut(hash).remove(user);
        gone.map(drop).ok_or_else(|| format!("no credential of user {user:?} to remove"))
    }

    /// The records that make it out of nothing.
    pub(super) fn to_records(&self) -> impl Iterator<Item = MetadataRecord> + '_ {
        [Hash::Sha256, Hash::Sha512].into_iter().flat_map(|hash| {
            self.of(hash).iter().map(move |(user, credential)| MetadataRecord::ScramUser {
                hash,
                user: user.clone(),
                credential: (**credential).clone(),
            })
        })
    }
}

/// A user that a broker is started with.
pub struct NewUser {
    pub hash: Hash,
    pub name: String,
    pub credential: Credential,
}

/// The users that a broker is started with: made while there are none.
pub struct FirstUsers {
    pub users: Arc<[NewUser]>,
}

impl Decision for FirstUsers {
    /// How many were made.
    type Told = usize;

    fn plan(self, _: &Shard, image: &ClusterImage) -> Result<(Vec<MetadataRecord>, usize), Refused> {
        if !image.scram_users().names().is_empty() {
            return Ok((Vec::new(), 0));
        }
        let record = |user: &NewUser| MetadataRecord::ScramUser {
            hash: user.hash,
            user: user.name.clone(),
            credential: user.credential.clone(),
        };
        Ok((self.users.iter().map(record).collect(), self.users.len()))
    }
}

/// One credential that shall be there.
pub struct Upsertion {
    pub user: String,
    /// Kafka's code.
    pub mechanism: i8,
    pub iterations: i32,
    pub salt: Vec<u8>,
    pub salted_password: Vec<u8>,
}

/// Changes credentials. Each user succeeds or fails by itself, and is changed at most once.
pub struct AlterScramUsers {
    /// Users and Kafka's codes of mechanisms.
    pub deletions: Vec<(String, i8)>,
    pub upsertions: Vec<Upsertion>,
}

impl Decision for AlterScramUsers {
    type Told = BTreeMap<String, Result<(), Refused>>;

    fn plan(self, _: &Shard, image: &ClusterImage) -> Result<(Vec<MetadataRecord>, Self::Told), Refused> {
        let mut planned: BTreeMap<String, Result<Change, Refused>> = BTreeMap::new();
        let mut plan = |user: String, change: Result<Change, Refused>| match planned.get_mut(&user) {
            None => drop(planned.insert(user, change)),
            Some(before) if before.is_ok() => {
                let message = "A user credential cannot be altered twice in the same request";
                *before = Err(Refused::new(ErrorCode::DuplicateResource, message));
            }
            Some(_) => {}
        };
        for (user, mechanism) in self.deletions {
            let change = deletion(image, &user, mechanism);
            plan(user, change);
        }
        for upsertion in self.upsertions {
            plan(upsertion.user.clone(), credential(upsertion));
        }
        if planned.values().filter(|change| change.is_ok()).count() > AT_ONCE {
            return Err(Refused::too_large());
        }
        let mut records = Vec::new();
        let mut make = |change: Change| change.into_record().map(|record| records.push(record));
        let told = planned.into_iter().map(|(user, change)| (user, change.and_then(&mut make))).collect();
        Ok((records, told))
    }
}

/// What is done to one user, who is named once.
enum Change {
    Remove { hash: Hash, user: String },
    Set { hash: Hash, iterations: u32, upsertion: Upsertion },
}

impl Change {
    /// The salted password is looked at last, as in Kafka (`ScramControlManager.finishUpsertion`).
    fn into_record(self) -> Result<MetadataRecord, Refused> {
        match self {
            Change::Remove { hash, user } => Ok(MetadataRecord::RemoveScramUser { hash, user }),
            Change::Set { upsertion, .. } if upsertion.salted_password.is_empty() => {
                Err(Refused::new(ErrorCode::UnknownServerError, ErrorCode::UnknownServerError.message()))
            }
            Change::Set { hash, iterations, upsertion: Upsertion { user, salt, salted_password, .. } } => {
                let credential = Credential::of_salted(hash, &salted_password, salt, iterations);
                Ok(MetadataRecord::ScramUser { hash, user, credential })
            }
        }
    }
}

fn mechanism_of(user: &str, mechanism: i8) -> Result<Hash, Refused> {
    if user.is_empty() {
        return Err(Refused::new(ErrorCode::UnacceptableCredential, "Username must not be empty"));
    }
    let unknown = || Refused::new(ErrorCode::UnsupportedSaslMechanism, "Unknown SCRAM mechanism");
    Hash::from_code(mechanism).ok_or_else(unknown)
}

fn deletion(image: &ClusterImage, user: &str, mechanism: i8) -> Result<Change, Refused> {
    let hash = mechanism_of(user, mechanism)?;
    if image.scram_users().get(hash, user).is_none() {
        let message = "Attempt to delete a user credential that does not exist";
        return Err(Refused::new(ErrorCode::ResourceNotFound, message));
    }
    Ok(Change::Remove { hash, user: user.to_owned() })
}

fn credential(upsertion: Upsertion) -> Result<Change, Refused> {
    let hash = mechanism_of(&upsertion.user, upsertion.mechanism)?;
    let unacceptable = |message: &str| Refused::new(ErrorCode::UnacceptableCredential, message);
    let iterations = match u32::try_from(upsertion.iterations) {
        Ok(n @ ITERATIONS_MIN..=ITERATIONS_MAX) => n,
        Ok(n) if n > ITERATIONS_MAX => return Err(unacceptable("Too many iterations")),
        _ => return Err(unacceptable("Too few iterations")),
    };
    Ok(Change::Set { hash, iterations, upsertion })
}

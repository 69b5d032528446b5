//! Where the share sessions of this broker live, and reaching them from any of its shards.
//!
//! A session lives on the shard whose connection opened it, so that a member with one connection needs no other shard. One shard
//! of the broker knows where all of them are: it is asked when a session begins, ends, or is wanted by another connection.

use std::cell::RefCell;
use std::future::Future;
use std::rc::Rc;

use core_pinning::ShardId;
use core_pinning::task::{Queue, spawn};
use corelane_protocol::{ErrorCode, Str};
use hashbrown::HashMap;

use super::partitions::release;
use super::sessions::{Context, INITIAL_EPOCH, Name, Told, Who};
use crate::kafka::request::Client;
use crate::router::ShardCall;
use crate::shard::Shard;

/// One session, not to be mistaken for the next one of the same member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Home {
    pub shard: ShardId,
    pub serial: u64,
}

/// The sessions of a broker, on the first of its shards.
pub struct ShareSessionHomes {
    slots: usize,
    homes: RefCell<HashMap<Who, Home>>,
}

impl ShareSessionHomes {
    /// `slots`: how many a broker has (`group.share.max.share.sessions`).
    pub fn new(slots: usize) -> ShareSessionHomes {
        ShareSessionHomes { slots, homes: RefCell::default() }
    }

    /// Gives a new session its place, if there is one; the one that it replaces.
    fn claim(&self, who: Who, home: Home) -> (bool, Option<Home>) {
        let mut homes = self.homes.borrow_mut();
        let before = homes.remove(&who);
        let fits = homes.len() < self.slots;
        if fits {
            homes.insert(who, home);
        }
        (fits, before)
    }

    fn find(&self, who: &Who) -> Option<ShardId> {
        self.homes.borrow().get(who).map(|home| home.shard)
    }

    /// Whether no member of a group has a session.
    fn is_left(&self, group: &Str) -> bool {
        self.homes.borrow().keys().all(|who| who.group != *group)
    }

    fn forget(&self, who: &Who, home: Home) {
        let mut homes = self.homes.borrow_mut();
        if homes.get(who) == Some(&home) {
            homes.remove(who);
        }
    }
}

/// The shard that knows of all sessions.
fn register(shard: &Shard) -> ShardId {
    shard.of_this_broker().next().unwrap_or(shard.id)
}

async fn ask<R: Send + 'static>(
    shard: &Rc<Shard>,
    to: ShardId,
    question: impl FnOnce(&Rc<Shard>) -> R + Send + 'static,
) -> R {
    if to == shard.id { question(shard) } else { shard.router.call(shard, to, Question(question)).await }
}

struct Question<F>(F);

impl<R: Send + 'static, F: FnOnce(&Rc<Shard>) -> R + Send + 'static> ShardCall for Question<F> {
    type Reply = R;

    fn run(self, shard: &Rc<Shard>) -> impl Future<Output = R> + 'static {
        std::future::ready((self.0)(shard))
    }
}

/// The shard where a member's session lives. Error: SHARE_SESSION_NOT_FOUND.
async fn home_of(shard: &Rc<Shard>, who: &Who) -> Result<ShardId, ErrorCode> {
    if shard.share_sessions.has(who) {
        return Ok(shard.id);
    }
    let wanted = who.clone();
    let found = ask(shard, register(shard), move |shard| shard.share_session_homes.find(&wanted)).await;
    found.ok_or(ErrorCode::ShareSessionNotFound)
}

/// Takes a ShareFetch; what it is to be answered with, and where the session lives. Errors: INVALID_REQUEST,
/// SHARE_SESSION_NOT_FOUND, INVALID_SHARE_SESSION_EPOCH, SHARE_SESSION_LIMIT_REACHED.
pub async fn fetch(
    shard: &Rc<Shard>,
    client: &Rc<Client>,
    who: &Who,
    epoch: i32,
    (wanted, forgotten): (Vec<Name>, Vec<Name>),
    acknowledges: bool,
) -> Result<(Context, ShardId), ErrorCode> {
    if epoch == INITIAL_EPOCH {
        if acknowledges {
            return Err(ErrorCode::InvalidRequest);
        }
        return Ok((Context::Opened(open(shard, client, who, wanted).await?), shard.id));
    }
    let home = home_of(shard, who).await?;
    let asker = who.clone();
    let taken = ask(shard, home, move |shard| shard.share_sessions.fetch(&asker, epoch, wanted, &forgotten)).await;
    Ok((taken?, home))
}

/// Opens a session in place of the one that the member may have.
async fn open(shard: &Rc<Shard>, client: &Rc<Client>, who: &Who, wanted: Vec<Name>) -> Result<Vec<Name>, ErrorCode> {
    // It is there before it is told of, so that whoever replaces it finds it.
    let (serial, names) = shard.share_sessions.open(who, client, wanted);
    let (claimer, home) = (who.clone(), Home { shard: shard.id, serial });
    let claim = move |shard: &Rc<Shard>| shard.share_session_homes.claim(claimer, home);
    let (fits, before) = ask(shard, register(shard), claim).await;
    if let Some(before) = before {
        let who = who.clone();
        ask(shard, before.shard, move |shard| drop(shard.share_sessions.end(&who, Some(before.serial)))).await;
    }
    if !fits {
        drop(shard.share_sessions.end(who, Some(serial)));
        return Err(ErrorCode::ShareSessionLimitReached);
    }
    Ok(names)
}

/// Takes a ShareAcknowledge; where the session lives. Errors: SHARE_SESSION_NOT_FOUND, INVALID_SHARE_SESSION_EPOCH.
pub async fn acknowledge(shard: &Rc<Shard>, who: &Who, epoch: i32) -> Result<ShardId, ErrorCode> {
    if epoch == INITIAL_EPOCH {
        return Err(ErrorCode::InvalidShareSessionEpoch);
    }
    let home = home_of(shard, who).await?;
    let asker = who.clone();
    ask(shard, home, move |shard| shard.share_sessions.acknowledge(&asker, epoch)).await?;
    Ok(home)
}

/// Which of these the member must be told of.
pub async fn news(shard: &Rc<Shard>, home: ShardId, who: &Who, told: Vec<Told>) -> Vec<bool> {
    let who = who.clone();
    ask(shard, home, move |shard| told.iter().map(|told| shard.share_sessions.is_news(&who, told)).collect()).await
}

/// Ends a session: what the member was lent is free for others.
pub async fn end(shard: &Rc<Shard>, home: ShardId, who: &Who) {
    let asker = who.clone();
    let ended = ask(shard, home, move |shard| shard.share_sessions.end(&asker, None)).await;
    if let Some((serial, names)) = ended {
        ended_at(shard, who, Home { shard: home, serial }, names);
    }
}

/// Ends the sessions of a connection that is gone.
pub fn disconnected(shard: &Rc<Shard>, client: &Rc<Client>) {
    for (who, serial, names) in shard.share_sessions.disconnected(client) {
        ended_at(shard, &who, Home { shard: shard.id, serial }, names);
    }
}

fn ended_at(shard: &Rc<Shard>, who: &Who, home: Home, names: Vec<Name>) {
    let (shard, who) = (shard.clone(), who.clone());
    spawn(Queue::Serve, "end of a share session", async move {
        let gone = who.clone();
        ask(&shard, register(&shard), move |shard| shard.share_session_homes.forget(&gone, home)).await;
        release(&shard, &who, names).await;
        let group = who.group.clone();
        if ask(&shard, register(&shard), move |shard| shard.share_session_homes.is_left(&group)).await {
            for to in shard.of_this_broker() {
                let group = who.group.clone();
                ask(&shard, to, move |shard| shard.share_partitions.group_left(&group)).await;
            }
        }
    })
    .detach();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who(member: &'static str) -> Who {
        Who { group: Str::from("g"), member: Str::from(member) }
    }

    #[test]
    fn a_broker_has_only_so_many_sessions_and_knows_the_newest_of_each_member() {
        let homes = ShareSessionHomes::new(2);
        let home = |shard, serial| Home { shard: ShardId(shard), serial };
        assert_eq!(homes.claim(who("a"), home(0, 1)), (true, None));
        assert_eq!(homes.claim(who("b"), home(1, 1)), (true, None));
        assert_eq!(homes.claim(who("c"), home(1, 2)), (false, None));
        assert_eq!(homes.claim(who("a"), home(1, 3)), (true, Some(home(0, 1))), "it takes its own place");
        homes.forget(&who("a"), home(0, 1));
        assert_eq!(homes.find(&who("a")), Some(ShardId(1)), "the end of an older one is no news");
        homes.forget(&who("a"), home(1, 3));
        assert_eq!(homes.find(&who("a")), None);
        assert!(!homes.is_left(&Str::from("g")), "b is there");
        homes.forget(&who("b"), home(1, 1));
        assert!(homes.is_left(&Str::from("g")));
        assert_eq!(homes.claim(who("c"), home(1, 4)), (true, None));
    }
}

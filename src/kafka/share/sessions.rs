//! Share sessions: which partitions a member of a share group fetches from this broker.
//!
//! A session lives on the shard whose connection opened it, and no longer than that connection: when it is gone, what the member
//! was lent is free for others. Kafka: `ShareSessionCache`.

use std::cell::RefCell;
use std::rc::Rc;

use corelane_protocol::{ErrorCode, Str, Uuid};
use hashbrown::HashMap;

use crate::kafka::request::Client;

const INITIAL_EPOCH: i32 = 0;
const FINAL_EPOCH: i32 = -1;

/// A partition as a member names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name {
    pub topic: Uuid,
    pub partition: i32,
}

/// Who a session belongs to: a group's member.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Who {
    pub group: Str,
    pub member: Str,
}

struct Session {
    epoch: i32,
    client: *const Client,
    partitions: Vec<Kept>,
}

#[derive(Clone, Copy)]
struct Kept {
    name: Name,
    /// The member must be told of it even if there is nothing to tell.
    news: bool,
}

/// What a ShareFetch is to be answered with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Context {
    /// The session begins: everything that was asked for.
    Opened(Vec<Name>),
    /// What changed in these.
    Incremental(Vec<Name>),
    /// The session ends with this request: nothing is fetched.
    Final,
}

pub struct ShareSessions {
    slots: usize,
    sessions: RefCell<HashMap<Who, Session>>,
}

impl ShareSessions {
    /// `slots`: of the whole process (`group.share.max.share.sessions`); each shard has its share.
    pub fn new(shards: usize, slots: usize) -> ShareSessions {
        ShareSessions { slots: slots.div_ceil(shards.max(1)), sessions: RefCell::default() }
    }

    /// Takes a ShareFetch. Errors: INVALID_REQUEST, SHARE_SESSION_NOT_FOUND, INVALID_SHARE_SESSION_EPOCH,
    /// SHARE_SESSION_LIMIT_REACHED.
    pub fn fetch(
        &self,
        who: &Who,
        client: &Rc<Client>,
        epoch: i32,
        (wanted, forgotten): (Vec<Name>, Vec<Name>),
        acknowledges: bool,
    ) -> Result<Context, ErrorCode> {
        let mut sessions = self.sessions.borrow_mut();
        match epoch {
            FINAL_EPOCH => match sessions.contains_key(who) {
                true => Ok(Context::Final),
                false => Err(ErrorCode::ShareSessionNotFound),
            },
            INITIAL_EPOCH if acknowledges => Err(ErrorCode::InvalidRequest),
            INITIAL_EPOCH => {
                sessions.remove(who);
                if sessions.len() >= self.slots {
                    return Err(ErrorCode::ShareSessionLimitReached);
                }
                let mut partitions: Vec<Kept> = Vec::with_capacity(wanted.len());
                for name in wanted {
                    if partitions.iter().all(|kept| kept.name != name) {
                        partitions.push(Kept { name, news: false });
                    }
                }
                let names = partitions.iter().map(|kept| kept.name).collect();
                let session = Session { epoch: next_epoch(INITIAL_EPOCH), client: Rc::as_ptr(client), partitions };
                sessions.insert(who.clone(), session);
                Ok(Context::Opened(names))
            }
            _ => {
                let session = sessions.get_mut(who).ok_or(ErrorCode::ShareSessionNotFound)?;
                if session.epoch != epoch {
                    return Err(ErrorCode::InvalidShareSessionEpoch);
                }
                for name in wanted {
                    if session.partitions.iter().all(|kept| kept.name != name) {
                        session.partitions.push(Kept { name, news: true });
                    }
                }
                session.partitions.retain(|kept| !forgotten.contains(&kept.name));
                session.epoch = next_epoch(epoch);
                Ok(Context::Incremental(session.partitions.iter().map(|kept| kept.name).collect()))
            }
        }
    }

    /// Takes a ShareAcknowledge. Errors: SHARE_SESSION_NOT_FOUND, INVALID_SHARE_SESSION_EPOCH.
    pub fn acknowledge(&self, who: &Who, epoch: i32) -> Result<(), ErrorCode> {
        if epoch == INITIAL_EPOCH {
            return Err(ErrorCode::InvalidShareSessionEpoch);
        }
        let mut sessions = self.sessions.borrow_mut();
        let session = sessions.get_mut(who).ok_or(ErrorCode::ShareSessionNotFound)?;
        if epoch != FINAL_EPOCH {
            if session.epoch != epoch {
                return Err(ErrorCode::InvalidShareSessionEpoch);
            }
            session.epoch = next_epoch(epoch);
        }
        Ok(())
    }

    /// Whether the member must be told of a partition, of which there are records or an error. What has records goes last.
    pub fn is_news(&self, who: &Who, name: Name, records: bool, failed: bool) -> bool {
        let mut sessions = self.sessions.borrow_mut();
        let Some(session) = sessions.get_mut(who) else { return true };
        let Some(place) = session.partitions.iter().position(|kept| kept.name == name) else { return true };
        let mut kept = session.partitions.remove(place);
        let news = records || failed || kept.news;
        kept.news = failed;
        session.partitions.insert(if records { session.partitions.len() } else { place }, kept);
        news
    }

    /// Ends a session; its partitions.
    pub fn end(&self, who: &Who) -> Option<Vec<Name>> {
        let session = self.sessions.borrow_mut().remove(who)?;
        Some(session.partitions.into_iter().map(|kept| kept.name).collect())
    }

    /// Ends the sessions of a connection that is gone.
    pub fn disconnected(&self, client: &Rc<Client>) -> Vec<(Who, Vec<Name>)> {
        let gone = self
            .sessions
            .borrow_mut()
            .extract_if(|_, session| session.client == Rc::as_ptr(client))
            .collect::<Vec<_>>();
        let names = |session: Session| session.partitions.into_iter().map(|kept| kept.name).collect();
        gone.into_iter().map(|(who, session)| (who, names(session))).collect()
    }
}

pub fn is_final(epoch: i32) -> bool {
    epoch == FINAL_EPOCH
}

fn next_epoch(epoch: i32) -> i32 {
    if epoch == i32::MAX { 1 } else { epoch + 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client() -> Rc<Client> {
        Rc::new(Client::new(([127, 0, 0, 1], 1).into()))
    }

    fn who(member: &'static str) -> Who {
        Who { group: Str::from("g"), member: Str::from(member) }
    }

    fn name(partition: i32) -> Name {
        Name { topic: Uuid::ONE, partition }
    }

    #[test]
    fn a_session_follows_its_epochs() {
        let (sessions, client, m) = (ShareSessions::new(1, 10), client(), who("m"));
        let fetch = |epoch, wanted: &[Name], forgotten: &[Name]| {
            sessions.fetch(&m, &client, epoch, (wanted.to_vec(), forgotten.to_vec()), false)
        };
        assert_eq!(fetch(1, &[], &[]), Err(ErrorCode::ShareSessionNotFound));
        assert_eq!(fetch(-1, &[], &[]), Err(ErrorCode::ShareSessionNotFound));
        let named = [name(0), name(1), name(0)];
        assert_eq!(fetch(0, &named, &[]), Ok(Context::Opened(vec![name(0), name(1)])));
        assert_eq!(fetch(2, &[], &[]), Err(ErrorCode::InvalidShareSessionEpoch));
        assert_eq!(fetch(1, &[name(2)], &[name(0)]), Ok(Context::Incremental(vec![name(1), name(2)])));
        assert_eq!(sessions.acknowledge(&m, 1), Err(ErrorCode::InvalidShareSessionEpoch));
        assert_eq!(sessions.acknowledge(&m, 0), Err(ErrorCode::InvalidShareSessionEpoch));
        assert_eq!(sessions.acknowledge(&m, 2), Ok(()));
        assert_eq!(fetch(3, &[], &[]), Ok(Context::Incremental(vec![name(1), name(2)])));
        assert_eq!(sessions.acknowledge(&m, -1), Ok(()));
        assert_eq!(fetch(-1, &[], &[]), Ok(Context::Final));
        assert_eq!(sessions.end(&m), Some(vec![name(1), name(2)]));
        assert_eq!(sessions.acknowledge(&m, -1), Err(ErrorCode::ShareSessionNotFound));
        let early = sessions.fetch(&m, &client, 0, (vec![name(0)], vec![]), true);
        assert_eq!(early, Err(ErrorCode::InvalidRequest), "there is nothing to acknowledge yet");
    }

    #[test]
    fn there_are_only_so_many_and_they_end_with_their_connection() {
        let (sessions, one, other) = (ShareSessions::new(2, 3), client(), client());
        let open = |member, client| sessions.fetch(&who(member), client, 0, (vec![name(0)], vec![]), false);
        assert!(open("a", &one).is_ok() && open("b", &other).is_ok());
        assert_eq!(open("c", &one), Err(ErrorCode::ShareSessionLimitReached));
        assert!(open("a", &one).is_ok(), "it takes its own place");
        assert_eq!(sessions.disconnected(&one), [(who("a"), vec![name(0)])]);
        assert!(open("c", &one).is_ok());
    }

    #[test]
    fn what_has_nothing_new_is_not_told_again() {
        let (sessions, client, m) = (ShareSessions::new(1, 1), client(), who("m"));
        sessions.fetch(&m, &client, 0, (vec![name(0)], vec![]), false).expect("a session");
        assert!(!sessions.is_news(&m, name(0), false, false));
        sessions.fetch(&m, &client, 1, (vec![name(1)], vec![]), false).expect("a session");
        assert!(sessions.is_news(&m, name(1), false, false), "it is new itself");
        assert!(!sessions.is_news(&m, name(1), false, false));
        assert!(sessions.is_news(&m, name(1), false, true));
        assert!(sessions.is_news(&m, name(1), false, false), "the error is over");
        assert!(sessions.is_news(&m, name(0), true, false));
        assert_eq!(sessions.end(&m), Some(vec![name(1), name(0)]), "what had records goes last");
    }
}

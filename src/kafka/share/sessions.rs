//! Share sessions: which partitions a member of a share group fetches from this broker.
//!
//! A session lives on the shard whose connection opened it (`homes` finds it from others), and no longer than that connection: when
//! it is gone, what the member was lent is free for others. Kafka: `ShareSessionCache`.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use corelane_protocol::{ErrorCode, Str, Uuid};
use hashbrown::HashMap;

use crate::kafka::request::Client;

pub const INITIAL_EPOCH: i32 = 0;
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
    serial: u64,
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

/// What is to be told of a partition.
#[derive(Clone, Copy, Debug)]
pub struct Told {
    pub name: Name,
    pub records: bool,
    pub failed: bool,
}

/// The sessions that were opened on this shard.
#[derive(Default)]
pub struct ShareSessions {
    sessions: RefCell<HashMap<Who, Session>>,
    next: Cell<u64>,
}

impl ShareSessions {
    pub fn has(&self, who: &Who) -> bool {
        self.sessions.borrow().contains_key(who)
    }

    /// Opens a session in place of one that the member may have here: its serial number, and its partitions, each once.
    pub fn open(&self, who: &Who, client: &Rc<Client>, wanted: Vec<Name>) -> (u64, Vec<Name>) {
        let serial = self.next.get();
        self.next.set(serial + 1);
        let mut partitions: Vec<Kept> = Vec::with_capacity(wanted.len());
        for name in wanted {
            if partitions.iter().all(|kept| kept.name != name) {
                partitions.push(Kept { name, news: false });
            }
        }
        let names = partitions.iter().map(|kept| kept.name).collect();
        let session = Session { epoch: next_epoch(INITIAL_EPOCH), serial, client: Rc::as_ptr(client), partitions };
        self.sessions.borrow_mut().insert(who.clone(), session);
        (serial, names)
    }

    /// Takes a ShareFetch that opens no session. Errors: SHARE_SESSION_NOT_FOUND, INVALID_SHARE_SESSION_EPOCH.
    pub fn fetch(&self, who: &Who, epoch: i32, wanted: Vec<Name>, forgotten: &[Name]) -> Result<Context, ErrorCode> {
        let mut sessions = self.sessions.borrow_mut();
        let session = sessions.get_mut(who).ok_or(ErrorCode::ShareSessionNotFound)?;
        if epoch == FINAL_EPOCH {
            return Ok(Context::Final);
        }
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

    /// Takes a ShareAcknowledge. Errors: SHARE_SESSION_NOT_FOUND, INVALID_SHARE_SESSION_EPOCH.
    pub fn acknowledge(&self, who: &Who, epoch: i32) -> Result<(), ErrorCode> {
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
    pub fn is_news(&self, who: &Who, told: &Told) -> bool {
        let Told { name, records, failed } = *told;
        let mut sessions = self.sessions.borrow_mut();
        let Some(session) = sessions.get_mut(who) else { return true };
        let Some(place) = session.partitions.iter().position(|kept| kept.name == name) else { return true };
        let mut kept = session.partitions.remove(place);
        let news = records || failed || kept.news;
        kept.news = failed;
        session.partitions.insert(if records { session.partitions.len() } else { place }, kept);
        news
    }

    /// Ends a session, if it is the one of this serial number (`None`: any); its serial number and its partitions.
    pub fn end(&self, who: &Who, serial: Option<u64>) -> Option<(u64, Vec<Name>)> {
        let mut sessions = self.sessions.borrow_mut();
        let known = sessions.get(who)?.serial;
        if serial.is_some_and(|serial| serial != known) {
            return None;
        }
        let session = sessions.remove(who)?;
        Some((known, session.partitions.into_iter().map(|kept| kept.name).collect()))
    }

    /// Ends the sessions of a connection that is gone.
    pub fn disconnected(&self, client: &Rc<Client>) -> Vec<(Who, u64, Vec<Name>)> {
        let gone = self
            .sessions
            .borrow_mut()
            .extract_if(|_, session| session.client == Rc::as_ptr(client))
            .collect::<Vec<_>>();
        let names = |partitions: Vec<Kept>| partitions.into_iter().map(|kept| kept.name).collect();
        gone.into_iter().map(|(who, session)| (who, session.serial, names(session.partitions))).collect()
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
    use crate::node::Listener;
    use corelane_config::SecurityProtocol;

    fn client() -> Rc<Client> {
        let address: std::net::SocketAddr = ([127, 0, 0, 1], 1).into();
        let listener = Listener {
            name: "PLAINTEXT".into(),
            protocol: SecurityProtocol::Plaintext,
            listen: address,
            advertised: None,
            tls: None,
            sasl: None,
        };
        Rc::new(Client::new(address, Rc::new(listener)))
    }

    fn who(member: &'static str) -> Who {
        Who { group: Str::from("g"), member: Str::from(member) }
    }

    fn name(partition: i32) -> Name {
        Name { topic: Uuid::ONE, partition }
    }

    #[test]
    fn a_session_follows_its_epochs() {
        let (sessions, client, m) = (ShareSessions::default(), client(), who("m"));
        let fetch = |epoch, wanted: &[Name], forgotten: &[Name]| sessions.fetch(&m, epoch, wanted.to_vec(), forgotten);
        assert_eq!(fetch(1, &[], &[]), Err(ErrorCode::ShareSessionNotFound));
        assert_eq!(fetch(-1, &[], &[]), Err(ErrorCode::ShareSessionNotFound));
        let (serial, names) = sessions.open(&m, &client, vec![name(0), name(1), name(0)]);
        assert_eq!(names, [name(0), name(1)]);
        assert_eq!(fetch(2, &[], &[]), Err(ErrorCode::InvalidShareSessionEpoch));
        assert_eq!(fetch(1, &[name(2)], &[name(0)]), Ok(Context::Incremental(vec![name(1), name(2)])));
        assert_eq!(sessions.acknowledge(&m, 1), Err(ErrorCode::InvalidShareSessionEpoch));
        assert_eq!(sessions.acknowledge(&m, 2), Ok(()));
        assert_eq!(fetch(3, &[], &[]), Ok(Context::Incremental(vec![name(1), name(2)])));
        assert_eq!(sessions.acknowledge(&m, -1), Ok(()));
        assert_eq!(fetch(-1, &[], &[]), Ok(Context::Final));
        assert_eq!(sessions.end(&m, Some(serial + 1)), None, "another one");
        assert_eq!(sessions.end(&m, None), Some((serial, vec![name(1), name(2)])));
        assert_eq!(sessions.acknowledge(&m, -1), Err(ErrorCode::ShareSessionNotFound));
    }

    #[test]
    fn a_connection_takes_its_sessions_with_it() {
        let (sessions, one, other) = (ShareSessions::default(), client(), client());
        let open = |member, client| sessions.open(&who(member), client, vec![name(0)]).0;
        let (a, _) = (open("a", &one), open("b", &other));
        assert_eq!(sessions.disconnected(&one), [(who("a"), a, vec![name(0)])]);
        assert!(!sessions.has(&who("a")) && sessions.has(&who("b")));
    }

    #[test]
    fn what_has_nothing_new_is_not_told_again() {
        let (sessions, client, m) = (ShareSessions::default(), client(), who("m"));
        sessions.open(&m, &client, vec![name(0)]);
        let is_news = |name, records, failed| sessions.is_news(&m, &Told { name, records, failed });
        assert!(!is_news(name(0), false, false));
        sessions.fetch(&m, 1, vec![name(1)], &[]).expect("a session");
        assert!(is_news(name(1), false, false), "it is new itself");
        assert!(!is_news(name(1), false, false));
        assert!(is_news(name(1), false, true));
        assert!(is_news(name(1), false, false), "the error is over");
        assert!(is_news(name(0), true, false));
        let left = sessions.end(&m, None).map(|(_, names)| names);
        assert_eq!(left, Some(vec![name(1), name(0)]), "what had records goes last");
    }
}

//! Incremental fetch sessions (KIP-227): what a consumer asked for before, so that it need not repeat it, and what it was
//! told, so that we need not.
//!
//! A session lives on the shard whose connection opened it; its id says which. A client whose next connection lands on
//! another shard is told FETCH_SESSION_ID_NOT_FOUND and opens a new one, as after a restart.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use core_pinning::ShardId;
use core_pinning::time::Instant;
use corelane_protocol::messages::FetchRequest;
use corelane_protocol::messages::fetch_request::FetchRequestFetchPartition;
use corelane_protocol::{ErrorCode, Str, Uuid};
use hashbrown::HashMap;

/// A session that was not used for this long may be dropped for another, and one that is older than this for a larger one
/// (Kafka: `MIN_INCREMENTAL_FETCH_SESSION_EVICTION_MS`, `FetchSessionCacheShard`).
const EVICTABLE_AFTER: Duration = Duration::from_secs(120);
/// Partitions that the sessions of a shard remember together. Whoever asks for more has no session, and is served all the same.
const PARTITIONS_MAX: usize = 100_000;
const INITIAL_EPOCH: i32 = 0;
const FINAL_EPOCH: i32 = -1;

/// A topic as the client named it: by id from v13 on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TopicName {
    pub name: Str,
    pub id: Uuid,
}

/// What the client wants of one partition, and what it knows.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub topic: TopicName,
    pub partition: i32,
    pub fetch_offset: i64,
    pub max_bytes: i32,
    pub current_leader_epoch: i32,
    pub last_fetched_epoch: i32,
    /// What the last answer said; -1: the client must be told.
    pub told_high_watermark: i64,
    pub told_log_start: i64,
}

impl Wanted {
    fn new(topic: TopicName, asked: &FetchRequestFetchPartition) -> Wanted {
        let mut wanted = Wanted {
            topic,
            partition: asked.partition,
            fetch_offset: 0,
            max_bytes: 0,
            current_leader_epoch: -1,
            last_fetched_epoch: -1,
            told_high_watermark: -1,
            told_log_start: -1,
        };
        wanted.update(asked);
        wanted
    }

    fn update(&mut self, asked: &FetchRequestFetchPartition) {
        self.fetch_offset = asked.fetch_offset;
        self.max_bytes = asked.partition_max_bytes;
        self.current_leader_epoch = asked.current_leader_epoch;
        self.last_fetched_epoch = asked.last_fetched_epoch;
    }
}

pub struct Session {
    pub id: i32,
    /// Requests with topic ids; a session does not change that.
    by_id: bool,
    epoch: Cell<i32>,
    opened: Instant,
    last_used: Cell<Instant>,
    /// In the order in which they are served: those that got bytes go to the end.
    pub partitions: RefCell<Vec<Wanted>>,
}

/// How a request is to be answered.
pub enum Context {
    /// Everything that is asked for, once.
    Full { wanted: Vec<Wanted> },
    /// The first answer of a session: everything, and its id.
    Opened { session: Rc<Session> },
    /// What changed.
    Incremental { session: Rc<Session> },
}

pub struct FetchSessions {
    shard: ShardId,
    shards: usize,
    slots: usize,
    next: Cell<i32>,
    sessions: RefCell<HashMap<i32, Rc<Session>>>,
}

impl FetchSessions {
    /// `slots`: of the whole process (`max.incremental.fetch.session.cache.slots`); each shard has its share.
    pub fn new(shard: ShardId, shards: usize, slots: usize) -> FetchSessions {
        FetchSessions { shard, shards, slots: slots.div_ceil(shards), next: Cell::new(0), sessions: RefCell::default() }
    }

    pub fn context(&self, request: &FetchRequest, by_id: bool, now: Instant) -> Result<Context, ErrorCode> {
        match (request.session_id, request.session_epoch) {
            (id, INITIAL_EPOCH | FINAL_EPOCH) => {
                self.sessions.borrow_mut().remove(&id);
                let wanted = all_asked(request);
                if request.session_epoch == FINAL_EPOCH {
                    return Ok(Context::Full { wanted });
                }
                match self.open(by_id, wanted, now) {
                    Ok(session) => Ok(Context::Opened { session }),
                    Err(wanted) => Ok(Context::Full { wanted }),
                }
            }
            (id, epoch) => {
                let session = self.sessions.borrow().get(&id).cloned().ok_or(ErrorCode::FetchSessionIdNotFound)?;
                if session.epoch.get() != epoch {
                    return Err(ErrorCode::InvalidFetchSessionEpoch);
                }
                if session.by_id != by_id {
                    return Err(ErrorCode::FetchSessionTopicIdError);
                }
                let known = session.partitions.borrow().len();
                update(&mut session.partitions.borrow_mut(), request);
                let grown = session.partitions.borrow().len() > known;
                if grown && remembered(&self.sessions.borrow()) > PARTITIONS_MAX {
                    self.sessions.borrow_mut().remove(&id);
                    return Err(ErrorCode::FetchSessionIdNotFound);
                }
                if session.partitions.borrow().is_empty() {
                    // Nothing is left to watch: Kafka closes it.
                    self.sessions.borrow_mut().remove(&id);
                    return Ok(Context::Full { wanted: Vec::new() });
                }
                session.epoch.set(next_epoch(epoch));
                session.last_used.set(now);
                Ok(Context::Incremental { session })
            }
        }
    }

    pub fn close(&self, id: i32) {
        self.sessions.borrow_mut().remove(&id);
    }

    /// Gives the partitions back where there is no room for a session.
    fn open(&self, by_id: bool, mut wanted: Vec<Wanted>, now: Instant) -> Result<Rc<Session>, Vec<Wanted>> {
        let mut sessions = self.sessions.borrow_mut();
        if remembered(&sessions) + wanted.len() > PARTITIONS_MAX {
            return Err(wanted);
        }
        if sessions.len() >= self.slots {
            let Some(evicted) = evictable(&sessions, wanted.len(), now) else { return Err(wanted) };
            sessions.remove(&evicted);
        }
        let id = loop {
            let turn = self.next.get() % (i32::MAX / self.shards as i32 - 1) + 1;
            self.next.set(turn);
            let id = turn * self.shards as i32 + i32::from(self.shard.0);
            if !sessions.contains_key(&id) {
                break id;
            }
        };
        detach(&mut wanted);
        let session = Rc::new(Session {
            id,
            by_id,
            epoch: Cell::new(next_epoch(INITIAL_EPOCH)),
            opened: now,
            last_used: Cell::new(now),
            partitions: RefCell::new(wanted),
        });
        sessions.insert(id, session.clone());
        Ok(session)
    }
}

/// The session that makes room for one of `size` partitions: one that nobody uses, or else the smallest, if it is smaller
/// and has been in use for a while.
fn evictable(sessions: &HashMap<i32, Rc<Session>>, size: usize, now: Instant) -> Option<i32> {
    let oldest = sessions.values().min_by_key(|s| s.last_used.get())?;
    if now - oldest.last_used.get() > EVICTABLE_AFTER {
        return Some(oldest.id);
    }
    let settled = sessions.values().filter(|s| s.last_used.get() - s.opened > EVICTABLE_AFTER);
    let smallest = settled.map(|s| (s.partitions.borrow().len(), s.id)).min()?;
    (smallest.0 < size).then_some(smallest.1)
}

fn remembered(sessions: &HashMap<i32, Rc<Session>>) -> usize {
    sessions.values().map(|session| session.partitions.borrow().len()).sum()
}

/// Names in memory of their own: slices would hold on to the request that they came with.
fn detach(partitions: &mut [Wanted]) {
    for partitions in partitions.chunk_by_mut(|a, b| a.topic == b.topic) {
        let Some(name) = partitions.first().map(|wanted| wanted.topic.name.detach()) else { continue };
        partitions.iter_mut().for_each(|wanted| wanted.topic.name = name.clone());
    }
}

fn next_epoch(epoch: i32) -> i32 {
    if epoch == i32::MAX { 1 } else { epoch + 1 }
}

/// A partition that is asked for twice is there once, as it was asked for last.
fn all_asked(request: &FetchRequest) -> Vec<Wanted> {
    let mut wanted = Vec::new();
    ask(&mut wanted, request);
    wanted
}

fn ask(partitions: &mut Vec<Wanted>, request: &FetchRequest) {
    if request.topics.is_empty() {
        return;
    }
    let mut places: HashMap<(TopicName, i32), usize> =
        partitions.iter().enumerate().map(|(i, w)| ((w.topic.clone(), w.partition), i)).collect();
    for asked in &request.topics {
        let topic = TopicName { name: asked.topic.clone(), id: asked.topic_id };
        for partition in &asked.partitions {
            match places.get(&(topic.clone(), partition.partition)).and_then(|i| partitions.get_mut(*i)) {
                Some(wanted) => wanted.update(partition),
                None => {
                    places.insert((topic.clone(), partition.partition), partitions.len());
                    partitions.push(Wanted::new(topic.clone(), partition));
                }
            }
        }
    }
}

fn update(partitions: &mut Vec<Wanted>, request: &FetchRequest) {
    let known = partitions.len();
    ask(partitions, request);
    detach(partitions.get_mut(known..).unwrap_or_default());
    if request.forgotten_topics_data.is_empty() {
        return;
    }
    let forgotten: hashbrown::HashSet<(TopicName, i32)> = request
        .forgotten_topics_data
        .iter()
        .flat_map(|t| {
            let topic = TopicName { name: t.topic.clone(), id: t.topic_id };
            t.partitions.iter().map(move |p| (topic.clone(), *p))
        })
        .collect();
    partitions.retain(|w| !forgotten.contains(&(w.topic.clone(), w.partition)));
}

#[cfg(test)]
mod tests {
    use corelane_protocol::messages::fetch_request::FetchRequestFetchTopic;

    use super::*;

    struct Cache {
        sessions: FetchSessions,
        now: Instant,
    }

    impl Cache {
        fn new(slots: usize) -> Cache {
            Cache { sessions: FetchSessions::new(ShardId(0), 1, slots), now: Instant::now() }
        }

        fn after(&mut self, seconds: u64) -> &mut Cache {
            self.now += Duration::from_secs(seconds);
            self
        }

        /// The id of a session for `partitions` partitions, if one is opened.
        fn open(&self, partitions: i32) -> Option<i32> {
            match self.sessions.context(&request(0, INITIAL_EPOCH, partitions), false, self.now) {
                Ok(Context::Opened { session }) => Some(session.id),
                Ok(Context::Full { .. }) => None,
                _ => panic!("a first request is always answered"),
            }
        }

        /// Fetches with a session for the `turn`th time; whether it is there.
        fn fetch(&self, session: i32, turn: i32) -> bool {
            self.sessions.context(&request(session, turn, 0), false, self.now).is_ok()
        }
    }

    fn request(session_id: i32, session_epoch: i32, partitions: i32) -> FetchRequest {
        let partitions = (0..partitions)
            .map(|partition| FetchRequestFetchPartition { partition, ..Default::default() })
            .collect::<Vec<_>>();
        let topic = FetchRequestFetchTopic { topic: Str::from_static("t"), partitions, ..Default::default() };
        let topics = if topic.partitions.is_empty() { Vec::new() } else { vec![topic] };
        FetchRequest { session_id, session_epoch, topics, ..Default::default() }
    }

    #[test]
    fn sessions_remember_a_bounded_number_of_partitions_together() {
        let cache = Cache::new(10);
        let most = PARTITIONS_MAX as i32;
        assert_eq!(cache.open(most + 1), None);
        let first = cache.open(most - 1).expect("room");
        assert_eq!(cache.open(2), None);
        let second = cache.open(1).expect("room");
        assert!(cache.sessions.context(&request(second, 1, 2), false, cache.now).is_err(), "it grows too large");
        assert!(cache.fetch(first, 1) && !cache.fetch(second, 1));
        assert!(cache.open(1).is_some(), "it has gone");
    }

    #[test]
    fn names_of_a_session_hold_on_to_no_request() {
        let cache = Cache::new(10);
        let frame = bytes::Bytes::from(vec![b't'; 1000]);
        let mut asked = request(0, INITIAL_EPOCH, 3);
        asked.topics[0].topic = Str::from_utf8(frame.slice(..5)).expect("text");
        let Ok(Context::Opened { session }) = cache.sessions.context(&asked, false, cache.now) else {
            panic!("there is room")
        };
        drop(asked);
        assert_eq!(session.partitions.borrow()[2].topic.name.as_str(), "ttttt");
        assert!(frame.is_unique(), "nothing else holds it");
    }

    #[test]
    fn a_full_cache_gives_up_what_nobody_uses() {
        let mut cache = Cache::new(2);
        let (first, second) = (cache.open(5).expect("room"), cache.open(5).expect("room"));
        assert_eq!(cache.after(100).open(1), None, "both are in use");
        assert!(cache.fetch(second, 1));
        assert!(cache.after(21).open(1).is_some(), "the first was not used for 121 s");
        assert!(!cache.fetch(first, 1));
        assert!(cache.fetch(second, 2));
    }

    #[test]
    fn a_full_cache_gives_up_a_smaller_session_for_a_larger_one_but_not_a_young_one() {
        let mut cache = Cache::new(2);
        let (small, large) = (cache.open(2).expect("room"), cache.open(9).expect("room"));
        assert_eq!(cache.open(5), None, "the small one is young");
        cache.after(70);
        assert!(cache.fetch(small, 1) && cache.fetch(large, 1));
        cache.after(70);
        assert!(cache.fetch(small, 2) && cache.fetch(large, 2));
        assert_eq!(cache.open(2), None, "not larger");
        assert!(cache.open(3).is_some());
        assert!(!cache.fetch(small, 3));
        assert!(cache.fetch(large, 3));
    }
}

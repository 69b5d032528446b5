//! One client connection: requests in, answers out in the order of the requests.
//!
//! A produce request lets the connection go on as soon as its batches are ordered (their answer comes when they are
//! safe); every other request is finished before the next one starts, as in Kafka, which reads no further meanwhile.

use std::cell::Cell;
use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;

use bytes::Bytes;
use core_pinning::budget::BudgetUnits;
use core_pinning::time::{Instant, now, sleep_until};
use futures::stream::{FuturesOrdered, StreamExt};
use futures::{FutureExt, select_biased};

use super::answer_memory::{AnswerMemory, Outbox, Unsent};
use super::authentication::{self, Authentication};
use super::frame::{Frame, FrameError, FrameReader};
use super::handlers;
use super::limits::Counted;
use super::request::Client;
use super::transport::Transport;
use crate::node::Listener;
use crate::shard::Shard;

/// Requests of one connection that may wait for their answers.
const PIPELINE_MAX: usize = 64;

/// How a request ends.
pub enum Answer {
    /// Frame to send: its slices, length prefix included.
    Send(Vec<Bytes>),
    /// acks=0: the client expects nothing.
    Nothing,
    /// The client broke the protocol, or asked with acks=0 for what failed: it learns by losing its connection.
    Close(&'static str),
    /// The same, after a last word.
    Last(Vec<Bytes>, &'static str),
}

impl Answer {
    pub fn size(&self) -> usize {
        match self {
            Answer::Send(slices) | Answer::Last(slices, _) => slices.iter().map(Bytes::len).sum(),
            Answer::Nothing | Answer::Close(_) => 0,
        }
    }
}

pub type PendingAnswer = Pin<Box<dyn Future<Output = Answer>>>;

pub struct Accepted {
    pub answer: PendingAnswer,
    /// The next request may start before this one is answered.
    pub overlaps: bool,
}

pub struct Connection {
    pub conn: Rc<Transport>,
    /// What it came by.
    pub listener: Rc<Listener>,
    pub counted: Counted,
    pub last_active: Cell<Instant>,
}

/// Serves until the peer goes, breaks the protocol, or the shard stops.
pub async fn serve(shard: Rc<Shard>, connection: Rc<Connection>, client: Rc<Client>) {
    let max = shard.config.request_max_bytes();
    let mut reader = FrameReader::new(connection.conn.clone(), max, shard.request_memory.clone());
    let mut nobody = client.authenticates_by().is_some();
    if let Some(max) = client.authentication.as_ref().map(Authentication::max_receive_bytes) {
        reader.limit(max, shard.authentication_memory.clone());
    }
    let mut answers = FuturesOrdered::new();
    let answering = |answer: PendingAnswer, memory: Vec<BudgetUnits>, holds: AnswerMemory, last: bool| async move {
        let answer = answer.await;
        drop(memory);
        (answer, holds, last)
    };
    let mut exclusive = false;
    let mut outbox = Outbox::new(connection.conn.clone(), &shard.answer_memory);
    let reason = loop {
        if nobody && client.authenticates_by().is_none() {
            nobody = false;
            reader.limit(max, shard.request_memory.clone());
        }
        let usage = client.usage(&shard.usages);
        let may_read = !exclusive && answers.len() < PIPELINE_MAX;
        let frame = async {
            if !may_read {
                reader.put_back();
                std::future::pending::<()>().await;
            }
            // What has begun to come is taken, so that nobody holds memory for it meanwhile.
            if let Some(until) = client.held_until().filter(|until| *until > now() && reader.is_between_frames()) {
                reader.put_back();
                sleep_until(until).await;
            }
            reader.next(&usage).await
        };
        // Who is nobody has fetched nothing.
        let lapse_at = if nobody { client.authenticates_by() } else { client.fetch_tails.borrow().lapse_at() };
        let lapse = async {
            match lapse_at {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let event = select_biased! {
            answer = answers.select_next_some() => Event::Answer(answer),
            sent = outbox.emptied().fuse() => Event::Sent(sent),
            frame = frame.fuse() => Event::Frame(frame),
            () = lapse.fuse() => Event::Lapse,
        };
        match event {
            Event::Answer((answer, memory, last)) => {
                exclusive &= !last;
                let mut sending = pin!(send(&mut outbox, answer, memory));
                let sent = match futures::poll!(sending.as_mut()) {
                    Poll::Ready(sent) => sent,
                    Poll::Pending => {
                        reader.put_back();
                        sending.await
                    }
                };
                if let Err(reason) = sent {
                    break reason;
                }
            }
            Event::Sent(Ok(())) => outbox.settle(),
            Event::Sent(Err(why)) => break why.into(),
            Event::Frame(Ok(frame)) => {
                connection.last_active.set(now());
                let Frame { bytes, mut memory } = frame;
                let holds = shard.answer_memory.answer();
                let accepted = authentication::intercept(&shard, &client, &bytes)
                    .unwrap_or_else(|| handlers::accept(&shard, &client, bytes, holds.clone(), &mut memory));
                exclusive = !accepted.overlaps;
                let last = exclusive;
                answers.push_back(answering(accepted.answer, memory, holds, last));
            }
            Event::Frame(Err(FrameError::Closed)) if answers.is_empty() => break Closed::ByPeer,
            // The peer sent all it had to say and may still listen: what it asked is answered before the end.
            Event::Frame(Err(FrameError::Closed)) => exclusive = true,
            Event::Lapse if nobody => break Closed::Because("it takes too long to authenticate".to_owned()),
            Event::Lapse => drop(client.fetch_tails.take()),
            Event::Frame(Err(FrameError::Size { .. })) if nobody => {
                let refused = authentication::too_large(&shard, &client);
                exclusive = true;
                answers.push_back(answering(refused.answer, Vec::new(), shard.answer_memory.answer(), true));
            }
            Event::Frame(Err(error)) => break Closed::Because(error.to_string()),
        }
        if answers.is_empty() && exclusive {
            break Closed::ByPeer;
        }
    };
    match reason {
        // It may have closed its half only, and still read.
        Closed::ByPeer => {
            connection.conn.close();
            let _ = outbox.sent(0).await;
        }
        Closed::Because(reason) => {
            let (principal, client_id) = (client.principal().to_string(), client.id());
            tracing::info!(peer = %client.peer, principal, client_id = client_id.as_deref(), reason, "connection closed");
        }
    }
}

enum Event {
    Answer((Answer, AnswerMemory, bool)),
    /// All answers so far have been sent, or will not be.
    Sent(Result<(), Unsent>),
    Frame(Result<Frame, FrameError>),
    /// No fetch has come for a while.
    Lapse,
}

enum Closed {
    ByPeer,
    Because(String),
}

impl From<Unsent> for Closed {
    fn from(why: Unsent) -> Closed {
        match why {
            Unsent::Gone => Closed::ByPeer,
            Unsent::Unread => {
                Closed::Because("it does not read its answers, and others wait for their memory".to_owned())
            }
        }
    }
}

async fn send(outbox: &mut Outbox, answer: Answer, memory: AnswerMemory) -> Result<(), Closed> {
    match answer {
        Answer::Nothing => Ok(()),
        Answer::Close(reason) => {
            // What was answered before still goes out.
            let _ = outbox.sent(0).await;
            Err(Closed::Because(reason.to_owned()))
        }
        Answer::Last(slices, reason) => {
            outbox.send(slices, memory).await?;
            let _ = outbox.sent(0).await;
            Err(Closed::Because(reason.to_owned()))
        }
        Answer::Send(slices) => Ok(outbox.send(slices, memory).await?),
    }
}

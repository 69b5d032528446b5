//! openraft's channels: the shard's own, under openraft's traits.

use std::cell::Ref;
use std::fmt;
use std::future::Future;
use std::ops::Deref;
use std::pin::Pin;
use std::task::{Context, Poll};

use core_pinning::sync::{mpsc, oneshot, watch};
use openraft_rt::watch::{RecvError, SendError as NoReceiver};
use openraft_rt::{
    Mpsc, MpscReceiver, MpscSender, MpscWeakSender, Oneshot, OneshotSender, OptionalSend, OptionalSync, SendError,
    TryRecvError, Watch, WatchReceiver, WatchSender,
};

pub(crate) struct LocalMpsc;
pub(crate) struct Sender<T>(mpsc::Sender<T>);
pub(crate) struct WeakSender<T>(mpsc::WeakSender<T>);
pub(crate) struct Receiver<T>(mpsc::Receiver<T>);

impl Mpsc for LocalMpsc {
    type Sender<T: OptionalSend> = Sender<T>;
    type Receiver<T: OptionalSend> = Receiver<T>;
    type WeakSender<T: OptionalSend> = WeakSender<T>;

    fn channel<T: OptionalSend>(buffer: usize) -> (Sender<T>, Receiver<T>) {
        let (sender, receiver) = mpsc::channel(buffer);
        (Sender(sender), Receiver(receiver))
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Sender(self.0.clone())
    }
}

impl<T: OptionalSend> MpscSender<LocalMpsc, T> for Sender<T> {
    /// Done at its first poll when there is room and nobody waits: proposing relies on it.
    async fn send(&self, message: T) -> Result<(), SendError<T>> {
        self.0.send(message).await.map_err(SendError)
    }

    fn downgrade(&self) -> WeakSender<T> {
        WeakSender(self.0.downgrade())
    }
}

impl<T> Clone for WeakSender<T> {
    fn clone(&self) -> Self {
        WeakSender(self.0.clone())
    }
}

impl<T: OptionalSend> MpscWeakSender<LocalMpsc, T> for WeakSender<T> {
    fn upgrade(&self) -> Option<Sender<T>> {
        self.0.upgrade().map(Sender)
    }
}

impl<T: OptionalSend> MpscReceiver<T> for Receiver<T> {
    fn recv(&mut self) -> impl Future<Output = Option<T>> {
        self.0.recv()
    }

    fn try_recv(&mut self) -> Result<T, TryRecvError> {
        self.0.try_recv().map_err(|e| match e {
            mpsc::TryRecvError::Empty => TryRecvError::Empty,
            mpsc::TryRecvError::Closed => TryRecvError::Disconnected,
        })
    }
}

pub(crate) struct LocalOneshot;
pub(crate) struct OneSender<T>(oneshot::Sender<T>);
pub(crate) struct OneReceiver<T>(oneshot::Receiver<T>);

/// The sender went away without sending.
#[derive(Debug)]
pub(crate) struct Closed;

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sender dropped")
    }
}

impl std::error::Error for Closed {}

impl Oneshot for LocalOneshot {
    type Sender<T: OptionalSend> = OneSender<T>;
    type Receiver<T: OptionalSend> = OneReceiver<T>;
    type ReceiverError = Closed;

    fn channel<T: OptionalSend>() -> (OneSender<T>, OneReceiver<T>) {
        let (sender, receiver) = oneshot::channel();
        (OneSender(sender), OneReceiver(receiver))
    }
}

impl<T: OptionalSend> OneshotSender<T> for OneSender<T> {
    fn send(self, value: T) -> Result<(), T> {
        self.0.send(value)
    }
}

impl<T> Future for OneReceiver<T> {
    type Output = Result<T, Closed>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx).map_err(|_| Closed)
    }
}

pub(crate) struct LocalWatch;
pub(crate) struct WatchTx<T>(watch::Sender<T>);
pub(crate) struct WatchRx<T>(watch::Receiver<T>);

/// The watched value. It must not live across an await: the sender could not change the value meanwhile.
pub(crate) struct Watched<'a, T>(Ref<'a, T>);

impl<T> Deref for Watched<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl Watch for LocalWatch {
    type Sender<T: OptionalSend + OptionalSync> = WatchTx<T>;
    type Receiver<T: OptionalSend + OptionalSync> = WatchRx<T>;
    type Ref<'a, T: OptionalSend + 'a> = Watched<'a, T>;

    fn channel<T: OptionalSend + OptionalSync>(init: T) -> (WatchTx<T>, WatchRx<T>) {
        let (sender, receiver) = watch::channel(init);
        (WatchTx(sender), WatchRx(receiver))
    }
}

impl<T> Clone for WatchTx<T> {
    fn clone(&self) -> Self {
        WatchTx(self.0.clone())
    }
}

impl<T: OptionalSend + OptionalSync> WatchSender<LocalWatch, T> for WatchTx<T> {
    fn send(&self, value: T) -> Result<(), NoReceiver<T>> {
        self.0.send(value).map_err(NoReceiver)
    }

    fn send_if_modified<F>(&self, modify: F) -> bool
    where
        F: FnOnce(&mut T) -> bool,
    {
        self.0.send_if_modified(modify)
    }

    fn borrow_watched(&self) -> Watched<'_, T> {
        Watched(self.0.borrow())
    }

    fn subscribe(&self) -> WatchRx<T> {
        WatchRx(self.0.subscribe())
    }
}

impl<T> Clone for WatchRx<T> {
    fn clone(&self) -> Self {
        WatchRx(self.0.clone())
    }
}

impl<T: OptionalSend + OptionalSync> WatchReceiver<LocalWatch, T> for WatchRx<T> {
    async fn changed(&mut self) -> Result<(), RecvError> {
        self.0.changed().await.map_err(|_| RecvError(()))
    }

    fn borrow_watched(&self) -> Watched<'_, T> {
        Watched(self.0.borrow())
    }

    fn borrow_and_update(&mut self) -> Watched<'_, T> {
        Watched(self.0.borrow_and_update())
    }
}

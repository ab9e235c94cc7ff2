//! What the hub has to tell one consumer.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::slot::Slot;

/// A partition comes or goes.
pub(super) enum News {
    /// To be read.
    Assigned(Arc<Slot>),
    /// To be given up when it is finished.
    Revoking(Arc<Slot>),
    /// Gone.
    Lost(Arc<Slot>),
}

/// News for one consumer, in order. Holds at most two for each partition, however long nobody looks.
#[derive(Default)]
pub(super) struct Inbox {
    news: Mutex<VecDeque<News>>,
    failure: Mutex<Option<String>>,
    notify: Notify,
    closed: AtomicBool,
    settled: AtomicBool,
    settling: Notify,
}

impl std::fmt::Debug for Inbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inbox").finish_non_exhaustive()
    }
}

impl Inbox {
    pub(super) fn assigned(&self, slot: Arc<Slot>) {
        self.push(News::Assigned(slot));
    }

    /// Nobody has to give up what nobody has heard of.
    pub(super) fn revoking(&self, slot: Arc<Slot>) {
        if self.forget(&slot) {
            slot.release();
        } else {
            self.push(News::Revoking(slot));
        }
    }

    pub(super) fn lost(&self, slot: Arc<Slot>) {
        if !self.forget(&slot) {
            self.push(News::Lost(slot));
        }
    }

    /// Removes what was not read yet about `slot`; true if that was its assignment.
    fn forget(&self, slot: &Arc<Slot>) -> bool {
        let mut news = lock(&self.news);
        let unheard = news.iter().any(|news| matches!(news, News::Assigned(told) if Arc::ptr_eq(told, slot)));
        news.retain(|news| {
            let (News::Assigned(told) | News::Revoking(told) | News::Lost(told)) = news;
            !Arc::ptr_eq(told, slot)
        });
        unheard
    }

    fn push(&self, news: News) {
        lock(&self.news).push_back(news);
        self.wake();
    }

    pub(super) fn pop(&self) -> Option<News> {
        lock(&self.news).pop_front()
    }

    /// Nothing more will come.
    pub(super) fn fail(&self, reason: &str) {
        lock(&self.failure).get_or_insert_with(|| reason.to_owned());
        self.wake();
        self.settle();
    }

    pub(super) fn failure(&self) -> Option<String> {
        lock(&self.failure).clone()
    }

    pub(super) fn wake(&self) {
        self.notify.notify_one();
    }

    /// Waits for news or records. One that came before is not missed.
    pub(super) async fn woken(&self) {
        self.notify.notified().await;
    }

    /// The consumer reads and commits no more.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// What the consumer left behind is taken care of.
    pub(super) fn settle(&self) {
        self.settled.store(true, Ordering::Release);
        self.settling.notify_one();
    }

    pub(super) async fn settled(&self) {
        while !self.settled.load(Ordering::Acquire) {
            self.settling.notified().await;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

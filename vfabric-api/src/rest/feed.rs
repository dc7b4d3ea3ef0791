//! A growing list, as server-sent events (WHATWG HTML, section 9.2).
//!
//! **Model.** A feed begins after a number (`?after=`, or `Last-Event-ID` when a client reconnects) and sends every later
//! item that its caller may see, in order, none twice. A *bookmark* reports the position of the feed when nothing was sent
//! for a while; an *end* says why the feed is over. [`super::watch`] feeds changes, [`super::events`] feeds events.
//!
//! **Invariants.** The rights of the caller are looked up again for each batch: if a role is withdrawn, or a token is
//! revoked or expires, the feed ends. Memory is bounded: a client that does not read holds one batch and falls behind in
//! the list.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::http::HeaderMap;
use axum::response::sse::{Event, Sse};
use fabric_identity::Peer;
use futures::{Stream, StreamExt as _};
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Service;
use super::access::Door;
use super::guard::{bearer, permit};
use super::server::Stopping;
use crate::access::{Caller, Level, Needs};
use crate::error::{ApiError, ErrorCode};
use crate::ident::Name;

/// A bookmark is sent after this long without an item.
const BOOKMARK: Duration = Duration::from_secs(10);
/// Feeds at once, of all lists.
const FEEDS: usize = 4096;

/// The data that feeds need.
#[derive(Clone)]
pub(super) struct Feeds {
    pub(super) service: Service,
    door: Door,
    places: Arc<Semaphore>,
}

impl Feeds {
    pub(super) fn new(service: Service, door: Door) -> Self {
        let places = Arc::new(Semaphore::new(FEEDS));
        Self { service, door, places }
    }

    /// A place among the feeds.
    ///
    /// # Errors
    /// `Unavailable` if all are taken.
    pub(super) fn place(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        let full = |_| {
            let most = format!("{FEEDS} clients are watching already, which is the limit");
            ApiError::new(ErrorCode::Unavailable, most)
        };
        Arc::clone(&self.places).try_acquire_owned().map_err(full)
    }
}

/// The caller of a feed, and its vDC.
pub(super) struct Subscriber {
    token: Option<String>,
    peer: Option<Peer>,
    pub(super) vdc: Option<Name>,
}

impl Subscriber {
    pub(super) fn new(headers: &HeaderMap, peer: Option<Extension<Peer>>, vdc: Option<Name>) -> Self {
        Self {
            token: bearer(headers).map(str::to_owned),
            peer: peer.map(|Extension(peer)| peer),
            vdc,
        }
    }

    /// What this caller may do now.
    ///
    /// # Errors
    /// Its token or certificate is no longer valid, or it may no longer watch this vDC.
    pub(super) async fn caller(&self, feeds: &Feeds) -> Result<Caller, ApiError> {
        let identified = feeds.door.identify(self.token.as_deref(), self.peer.as_ref()).await;
        let caller = identified.map_err(|why| ApiError::new(ErrorCode::Unauthenticated, why))?;
        may_watch(&caller, self.vdc.as_ref())?;
        Ok(caller)
    }
}

/// Whether a caller may watch a vDC; without one, each item decides.
pub(super) fn may_watch(caller: &Caller, vdc: Option<&Name>) -> Result<(), ApiError> {
    vdc.map_or(Ok(()), |vdc| permit(caller, Needs::Vdc(Level::View), Some(vdc)))
}

/// The number after which a reconnecting client continues.
///
/// # Errors
/// `Malformed` if it is not a number.
pub(super) fn last_event_id(headers: &HeaderMap) -> Result<Option<u64>, ApiError> {
    let Some(value) = headers.get("last-event-id") else {
        return Ok(None);
    };
    let text = value.to_str().unwrap_or_default();
    let wrong = |_| {
        ApiError::field(
            ErrorCode::Malformed,
            "Last-Event-ID",
            text,
            "the number of the last event",
        )
    };
    text.parse().map(Some).map_err(wrong)
}

/// A part of a list: the items that the caller may see, the oldest first, and the number of the last item that was
/// read.
pub(super) struct Batch<T> {
    pub(super) items: Vec<T>,
    pub(super) upto: u64,
}

/// A growing list.
pub(super) trait Source: Send + Sync + 'static {
    /// The type of its items.
    type Item: Serialize + Send;
    /// The name of its events.
    const EVENT: &'static str;
    /// The name of the number in a bookmark.
    const NUMBER: &'static str;

    /// Returns when the list has items after this number.
    fn grown(&self, feeds: &Feeds, after: u64) -> impl Future<Output = ()> + Send;

    /// The next items after this number that the subscriber may see.
    fn batch(
        &self,
        feeds: &Feeds,
        subscriber: &Subscriber,
        after: u64,
    ) -> impl Future<Output = Result<Batch<Self::Item>, ApiError>> + Send;

    /// An item's number.
    fn number(item: &Self::Item) -> u64;
}

/// One feed.
pub(super) struct Feed<S: Source> {
    pub(super) feeds: Feeds,
    pub(super) subscriber: Subscriber,
    pub(super) source: S,
    /// The number of the last item that was read.
    pub(super) after: u64,
    pub(super) _place: OwnedSemaphorePermit,
}

/// A feed under way.
struct Running<S: Source> {
    feed: Feed<S>,
    /// Events to send, the next one last.
    batch: Vec<S::Item>,
    is_over: bool,
}

impl<S: Source> Feed<S> {
    /// Sends until the feed ends or the server stops. The server cannot wait for the end of a feed, because feeds do
    /// not end on their own.
    pub(super) fn start(
        self,
        stopping: Option<Extension<Stopping>>,
    ) -> Sse<impl Stream<Item = Result<Event, Infallible>> + use<S>> {
        let running = Running {
            feed: self,
            batch: Vec::new(),
            is_over: false,
        };
        let events = futures::stream::unfold(running, |running| async move {
            let (event, running) = running.next().await?;
            Some((Ok(event), running))
        });
        Sse::new(events.take_until(async move {
            match stopping {
                Some(Extension(stopping)) => stopping.stopped().await,
                None => std::future::pending().await,
            }
        }))
    }
}

impl<S: Source> Running<S> {
    /// The next event; none when the feed is over.
    async fn next(mut self) -> Option<(Event, Self)> {
        if self.is_over {
            return None;
        }
        let event = self.advance().await.unwrap_or_else(|error| {
            self.is_over = true;
            Event::default().event("end").data(json(&error))
        });
        Some((event, self))
    }

    async fn advance(&mut self) -> Result<Event, ApiError> {
        let until = tokio::time::Instant::now() + BOOKMARK;
        loop {
            if let Some(item) = self.batch.pop() {
                let event = Event::default().event(S::EVENT).id(S::number(&item).to_string());
                return Ok(event.data(json(&item)));
            }
            let Feed {
                feeds,
                subscriber,
                source,
                after,
                _place: _,
            } = &mut self.feed;
            let is_late = tokio::time::Instant::now() >= until;
            if is_late
                || tokio::time::timeout_at(until, source.grown(feeds, *after))
                    .await
                    .is_err()
            {
                // The list may grow all the time with items that this caller must not see.
                subscriber.caller(feeds).await?;
                let event = Event::default().event("bookmark").id(after.to_string());
                return Ok(event.data(format!("{{\"{}\":{after}}}", S::NUMBER)));
            }
            let batch = source.batch(feeds, subscriber, *after).await?;
            *after = batch.upto;
            self.batch = batch.items;
            self.batch.reverse();
        }
    }
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

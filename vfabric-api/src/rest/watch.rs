//! Changes as they happen: server-sent events (WHATWG HTML, section 9.2), one for each revision.
//!
//! **Model.** A watch begins after a revision (`?after=`, or `Last-Event-ID` when a client reconnects) and gets every
//! later one that concerns what the caller may see, in order, none twice. A *bookmark* reports the position of the watch when
//! nothing was sent for a while; an *end* says why the watch is over.
//!
//! **Invariants.** The rights of the caller are looked up again for each batch: if a role is withdrawn, or a token is
//! revoked or expires, the watch ends. Memory is bounded: a client that does not read holds one batch and falls behind in
//! the log of the store; if it falls behind the whole log, the watch ends.
//!
//! **Cost.** Revisions are read from the store once for all watches that are up to date.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::{Event, Sse};
use fabric_identity::Peer;
use futures::{Stream, StreamExt as _};
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::access::Door;
use super::extract::Query;
use super::guard::{bearer, caller, permit};
use super::server::Stopping;
use super::{Service, visible};
use crate::access::{Caller, Level, Needs};
use crate::error::{ApiError, ErrorCode};
use crate::history::Revision;
use crate::ident::Name;
use crate::kind::Kind;
use crate::labels::Selector;

/// Revisions that are looked at together.
const BATCH: usize = 256;
/// How long nothing comes before a bookmark does.
const BOOKMARK: Duration = Duration::from_secs(10);
/// Watches at once.
const WATCHES: usize = 4096;

/// What a watch works with.
#[derive(Clone)]
pub(super) struct Watching {
    pub(super) service: Service,
    door: Door,
    places: Arc<Semaphore>,
}

impl Watching {
    pub(super) fn new(service: Service, door: Door) -> Self {
        let places = Arc::new(Semaphore::new(WATCHES));
        Self { service, door, places }
    }

    /// A place among those that watch.
    ///
    /// # Errors
    /// `Unavailable` if all are taken.
    pub(super) fn place(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        let full = |_| {
            ApiError::new(
                ErrorCode::Unavailable,
                format!("there are {WATCHES} watches, the most there can be"),
            )
        };
        Arc::clone(&self.places).try_acquire_owned().map_err(full)
    }

    /// Who watches a vDC, or everything, now.
    ///
    /// # Errors
    /// Nobody is proven any more, or may not watch it.
    pub(super) async fn caller(
        &self,
        token: Option<&str>,
        peer: Option<&Peer>,
        vdc: Option<&Name>,
    ) -> Result<Caller, ApiError> {
        let identified = self.door.identify(token, peer).await;
        let caller = identified.map_err(|why| ApiError::new(ErrorCode::Unauthenticated, why))?;
        may_watch(&caller, vdc)?;
        Ok(caller)
    }
}

/// Events until the server stops: a watch has no end of its own that the server could wait for.
pub(super) fn until_stopped<T>(
    events: impl Stream<Item = T>,
    stopping: Option<Extension<Stopping>>,
) -> impl Stream<Item = T> {
    events.take_until(async move {
        match stopping {
            Some(Extension(stopping)) => stopping.stopped().await,
            None => std::future::pending().await,
        }
    })
}

/// `?after=&vdc=&labels=` of a watch.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct WatchQuery {
    /// The revision after which it begins; now when left out. `Last-Event-ID` takes precedence.
    after: Option<u64>,
    /// Only changes that concern this vDC.
    vdc: Option<Name>,
    /// Only changes of objects whose labels meet all of these, before or after the change.
    #[serde(default)]
    labels: String,
}

/// One watch.
struct Watch {
    watching: Watching,
    token: Option<String>,
    peer: Option<Peer>,
    vdc: Option<Name>,
    selector: Selector,
    after: u64,
    /// To be sent, the next one last.
    batch: Vec<Revision>,
    is_over: bool,
    _place: OwnedSemaphorePermit,
}

pub(super) fn id_of(headers: &HeaderMap) -> Result<Option<u64>, ApiError> {
    let Some(value) = headers.get("last-event-id") else {
        return Ok(None);
    };
    let text = value.to_str().unwrap_or_default();
    let wrong = |_| ApiError::field(ErrorCode::Malformed, "Last-Event-ID", text, "the number of a revision");
    text.parse().map(Some).map_err(wrong)
}

/// Changes as they happen, as server-sent events: `revision` (its data is a revision, as in the history), `bookmark`, `end`.
/// 410 if the log no longer has all revisions after `after`: list, then watch from the revision that the list shows.
#[utoipa::path(get, path = "/v1/watch", tag = "history",
    params(WatchQuery, ("Last-Event-ID" = Option<u64>, Header, description = "The last event that the client got")),
    responses((status = 200, body = Revision, content_type = "text/event-stream"),
        (status = "default", body = ApiError)))]
async fn watch(
    State(watching): State<Watching>,
    peer: Option<Extension<Peer>>,
    stopping: Option<Extension<Stopping>>,
    headers: HeaderMap,
    Query(query): Query<WatchQuery>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>> + use<>>, ApiError> {
    may_watch(&*caller()?, query.vdc.as_ref())?;
    // Labels are the same for all kinds.
    let selector = Selector::parse(Kind::Vdc, &query.labels, "")?;
    let place = watching.place()?;
    let after = match id_of(&headers)?.or(query.after) {
        Some(after) => after,
        None => watching.service.revision_now(),
    };
    // Whether the log reaches so far back.
    watching.service.changes(after, 1).await?;
    let watch = Watch {
        watching,
        token: bearer(&headers).map(str::to_owned),
        peer: peer.map(|Extension(peer)| peer),
        vdc: query.vdc,
        selector,
        after,
        batch: Vec::new(),
        is_over: false,
        _place: place,
    };
    let events = futures::stream::unfold(watch, |watch| async move {
        let (event, watch) = watch.next().await?;
        Some((Ok(event), watch))
    });
    Ok(Sse::new(until_stopped(events, stopping)))
}

pub(super) fn may_watch(caller: &Caller, vdc: Option<&Name>) -> Result<(), ApiError> {
    vdc.map_or(Ok(()), |vdc| permit(caller, Needs::Vdc(Level::View), Some(vdc)))
}

impl Watch {
    /// The next event; none when the watch is over.
    async fn next(mut self) -> Option<(Event, Self)> {
        if self.is_over {
            return None;
        }
        match self.advance().await {
            Ok(event) => Some((event, self)),
            Err(error) => {
                self.is_over = true;
                let data = serde_json::to_string(&error).unwrap_or_default();
                Some((Event::default().event("end").data(data), self))
            }
        }
    }

    async fn advance(&mut self) -> Result<Event, ApiError> {
        let until = tokio::time::Instant::now() + BOOKMARK;
        loop {
            if let Some(revision) = self.batch.pop() {
                let data = serde_json::to_string(&revision).unwrap_or_default();
                let event = Event::default().event("revision").id(revision.revision.to_string());
                return Ok(event.data(data));
            }
            let service = &self.watching.service;
            let is_late = tokio::time::Instant::now() >= until;
            if is_late
                || tokio::time::timeout_at(until, service.changed(self.after))
                    .await
                    .is_err()
            {
                // Also while others change something all the time.
                self.caller().await?;
                let event = Event::default().event("bookmark").id(self.after.to_string());
                return Ok(event.data(format!("{{\"revision\":{}}}", self.after)));
            }
            let changes = self.watching.service.changes(self.after, BATCH).await?;
            self.after = changes.upto;
            let caller = self.caller().await?;
            let seen = changes
                .items
                .iter()
                .filter_map(|r| visible::revision_of(&caller, self.vdc.as_ref(), &self.selector, r));
            self.batch = seen.collect();
            self.batch.reverse();
        }
    }

    /// Who watches, now.
    async fn caller(&self) -> Result<Caller, ApiError> {
        let (token, peer) = (self.token.as_deref(), self.peer.as_ref());
        self.watching.caller(token, peer, self.vdc.as_ref()).await
    }
}

pub(super) fn router() -> OpenApiRouter<Watching> {
    OpenApiRouter::new().routes(routes!(watch))
}

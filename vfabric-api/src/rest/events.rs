//! Events: those that are kept, and those to come, as server-sent events (WHATWG HTML, section 9.2).
//!
//! Users of a vDC see the events of that vDC; those of the fabric need a role of the fabric. As with changes
//! ([`super::watch`]), what a caller may see is looked up again for each batch.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::{Event as Sent, Sse};
use axum::{Extension, Json};
use fabric_identity::Peer;
use futures::Stream;
use serde::Deserialize;
use tokio::sync::OwnedSemaphorePermit;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::PAGE_LIMIT;
use super::extract::Query;
use super::guard::{bearer, caller};
use super::server::Stopping;
use super::watch::{Watching, id_of, may_watch, until_stopped};
use crate::access::Caller;
use crate::error::{ApiError, ErrorCode};
use crate::event::{Event, Events};
use crate::ident::Name;

/// Events per page when the caller does not say.
const EVENTS: usize = 100;
/// Events that are looked at together.
const BATCH: usize = 256;
/// How long nothing comes before a bookmark does.
const BOOKMARK: Duration = Duration::from_secs(10);

/// `?after=&limit=&vdc=` of events.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct EventsQuery {
    /// Only events after this number, the `upto` of the previous response. The last ones when left out.
    after: Option<u64>,
    /// Most events to return (1 to 1000); 100 when left out.
    limit: Option<usize>,
    /// Only those of this vDC.
    vdc: Option<Name>,
}

/// `?after=&vdc=` of a watch.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct EventWatchQuery {
    /// The event after which it begins; now when left out. `Last-Event-ID` takes precedence.
    after: Option<u64>,
    /// Only changes that concern this vDC.
    vdc: Option<Name>,
}

/// Whether a caller asks for events of a vDC, or of the fabric, and may see them.
fn sees(caller: &Caller, only: Option<&Name>, vdc: Option<&Name>) -> bool {
    match vdc {
        Some(vdc) => only.is_none_or(|only| only == vdc) && caller.grants.vdc(vdc).is_some(),
        None => only.is_none() && caller.grants.fabric().is_some(),
    }
}

/// Recent events without a transaction, the oldest first. They are kept in memory, so a restart of the controller deletes them.
#[utoipa::path(get, path = "/v1/events", tag = "history", operation_id = "list_events", params(EventsQuery),
    responses((status = 200, body = Events), (status = "default", body = ApiError)))]
async fn list(State(watching): State<Watching>, Query(query): Query<EventsQuery>) -> Result<Json<Events>, ApiError> {
    let limit = query.limit.unwrap_or(EVENTS);
    if !(1..=PAGE_LIMIT).contains(&limit) {
        let expected = format!("a number from 1 to {PAGE_LIMIT}");
        return Err(ApiError::field(ErrorCode::Malformed, "limit", limit, expected));
    }
    let caller = caller()?;
    may_watch(&caller, query.vdc.as_ref())?;
    let sees = |vdc: Option<&Name>| sees(&caller, query.vdc.as_ref(), vdc);
    Ok(Json(watching.service.events(query.after, limit, &sees)))
}

/// One watch.
struct EventWatch {
    watching: Watching,
    token: Option<String>,
    peer: Option<Peer>,
    vdc: Option<Name>,
    after: u64,
    /// To be sent, the next one last.
    batch: Vec<Event>,
    is_over: bool,
    _place: OwnedSemaphorePermit,
}

/// Events as they happen, as server-sent events: `event`, `bookmark`, `end`.
#[utoipa::path(get, path = "/v1/events/watch", tag = "history", operation_id = "watch_events",
    params(EventWatchQuery, ("Last-Event-ID" = Option<u64>, Header, description = "The last event that the client got")),
    responses((status = 200, body = Event, content_type = "text/event-stream"),
        (status = "default", body = ApiError)))]
async fn watch(
    State(watching): State<Watching>,
    peer: Option<Extension<Peer>>,
    stopping: Option<Extension<Stopping>>,
    headers: HeaderMap,
    Query(query): Query<EventWatchQuery>,
) -> Result<Sse<impl Stream<Item = Result<Sent, Infallible>> + use<>>, ApiError> {
    may_watch(&*caller()?, query.vdc.as_ref())?;
    let place = watching.place()?;
    let after = id_of(&headers)?.or(query.after);
    let after = after.unwrap_or_else(|| watching.service.event_now());
    let watch = EventWatch {
        token: bearer(&headers).map(str::to_owned),
        peer: peer.map(|Extension(peer)| peer),
        vdc: query.vdc,
        after,
        batch: Vec::new(),
        is_over: false,
        _place: place,
        watching,
    };
    let events = futures::stream::unfold(watch, |watch| async move {
        let (event, watch) = watch.next().await?;
        Some((Ok(event), watch))
    });
    Ok(Sse::new(until_stopped(events, stopping)))
}

impl EventWatch {
    /// The next event; none when the watch is over.
    async fn next(mut self) -> Option<(Sent, Self)> {
        if self.is_over {
            return None;
        }
        match self.advance().await {
            Ok(event) => Some((event, self)),
            Err(error) => {
                self.is_over = true;
                let data = serde_json::to_string(&error).unwrap_or_default();
                Some((Sent::default().event("end").data(data), self))
            }
        }
    }

    async fn advance(&mut self) -> Result<Sent, ApiError> {
        let until = tokio::time::Instant::now() + BOOKMARK;
        loop {
            if let Some(event) = self.batch.pop() {
                let data = serde_json::to_string(&event).unwrap_or_default();
                return Ok(Sent::default().event("event").id(event.number.to_string()).data(data));
            }
            let service = &self.watching.service;
            let is_late = tokio::time::Instant::now() >= until;
            let nothing = is_late
                || tokio::time::timeout_at(until, service.happened(self.after))
                    .await
                    .is_err();
            let caller = self
                .watching
                .caller(self.token.as_deref(), self.peer.as_ref(), self.vdc.as_ref())
                .await?;
            if nothing {
                let event = Sent::default().event("bookmark").id(self.after.to_string());
                return Ok(event.data(format!("{{\"number\":{}}}", self.after)));
            }
            let sees = |vdc: Option<&Name>| sees(&caller, self.vdc.as_ref(), vdc);
            let events = self.watching.service.events(Some(self.after), BATCH, &sees);
            self.after = events.upto;
            self.batch = events.items;
            self.batch.reverse();
        }
    }
}

pub(super) fn router() -> OpenApiRouter<Watching> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(watch))
}

//! Events: the stored ones, and future ones as a [feed](super::feed).
//!
//! Users of a vDC see the events of that vDC; those of the fabric need a role of the fabric.

use std::convert::Infallible;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::{Event as Sent, Sse};
use axum::{Extension, Json};
use fabric_identity::Peer;
use futures::Stream;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::PAGE_LIMIT;
use super::extract::Query;
use super::feed::{Batch, Feed, Feeds, Source, Subscriber, last_event_id, may_watch};
use super::guard::caller;
use super::server::Stopping;
use crate::access::Caller;
use crate::error::{ApiError, ErrorCode};
use crate::event::{Event, Events};
use crate::ident::Name;

/// Events per page when the caller does not say.
const EVENTS: usize = 100;
/// Events that are examined together.
const BATCH: usize = 256;

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
async fn list(State(feeds): State<Feeds>, Query(query): Query<EventsQuery>) -> Result<Json<Events>, ApiError> {
    let limit = query.limit.unwrap_or(EVENTS);
    if !(1..=PAGE_LIMIT).contains(&limit) {
        let expected = format!("a number from 1 to {PAGE_LIMIT}");
        return Err(ApiError::field(ErrorCode::Malformed, "limit", limit, expected));
    }
    let caller = caller()?;
    may_watch(&caller, query.vdc.as_ref())?;
    let sees = |vdc: Option<&Name>| sees(&caller, query.vdc.as_ref(), vdc);
    Ok(Json(feeds.service.events(query.after, limit, &sees)))
}

/// Events that a caller may see.
struct Happened;

impl Source for Happened {
    type Item = Event;
    const EVENT: &'static str = "event";
    const NUMBER: &'static str = "number";

    async fn grown(&self, feeds: &Feeds, after: u64) {
        feeds.service.happened(after).await;
    }

    async fn batch(&self, feeds: &Feeds, subscriber: &Subscriber, after: u64) -> Result<Batch<Event>, ApiError> {
        let caller = subscriber.caller(feeds).await?;
        let sees = |vdc: Option<&Name>| sees(&caller, subscriber.vdc.as_ref(), vdc);
        let Events { items, upto } = feeds.service.events(Some(after), BATCH, &sees);
        Ok(Batch { items, upto })
    }

    fn number(item: &Event) -> u64 {
        item.number
    }
}

/// Events as they happen, as server-sent events: `event`, `bookmark`, `end`.
#[utoipa::path(get, path = "/v1/events/watch", tag = "history", operation_id = "watch_events",
    params(EventWatchQuery, ("Last-Event-ID" = Option<u64>, Header, description = "The last event that the client got")),
    responses((status = 200, body = Event, content_type = "text/event-stream"),
        (status = "default", body = ApiError)))]
async fn watch(
    State(feeds): State<Feeds>,
    peer: Option<Extension<Peer>>,
    stopping: Option<Extension<Stopping>>,
    headers: HeaderMap,
    Query(query): Query<EventWatchQuery>,
) -> Result<Sse<impl Stream<Item = Result<Sent, Infallible>> + use<>>, ApiError> {
    may_watch(&*caller()?, query.vdc.as_ref())?;
    let place = feeds.place()?;
    let after = last_event_id(&headers)?.or(query.after);
    let feed = Feed {
        subscriber: Subscriber::new(&headers, peer, query.vdc),
        source: Happened,
        after: after.unwrap_or_else(|| feeds.service.event_now()),
        _place: place,
        feeds,
    };
    Ok(feed.start(stopping))
}

pub(super) fn router() -> OpenApiRouter<Feeds> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(watch))
}

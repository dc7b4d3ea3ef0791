//! Changes as they happen: a [feed](super::feed) with one event for each revision.
//!
//! **Cost.** Revisions are read from the store once for all watches that are up to date. A client that does not read falls
//! behind in the log of the store; if it falls behind the whole log, the watch ends.

use std::convert::Infallible;

use axum::Extension;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::{Event, Sse};
use fabric_identity::Peer;
use futures::Stream;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::extract::Query;
use super::feed::{Batch, Feed, Feeds, Source, Subscriber, last_event_id, may_watch};
use super::guard::caller;
use super::server::Stopping;
use super::visible;
use crate::error::ApiError;
use crate::history::Revision;
use crate::ident::Name;
use crate::kind::Kind;
use crate::labels::Selector;

/// Revisions that are examined together.
const BATCH: usize = 256;

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

/// Changes of objects with these labels.
struct Changes(Selector);

impl Source for Changes {
    type Item = Revision;
    const EVENT: &'static str = "revision";
    const NUMBER: &'static str = "revision";

    async fn grown(&self, feeds: &Feeds, after: u64) {
        feeds.service.changed(after).await;
    }

    async fn batch(&self, feeds: &Feeds, subscriber: &Subscriber, after: u64) -> Result<Batch<Revision>, ApiError> {
        let changes = feeds.service.changes(after, BATCH).await?;
        let caller = subscriber.caller(feeds).await?;
        let vdc = subscriber.vdc.as_ref();
        let seen = changes.items.iter();
        Ok(Batch {
            items: seen
                .filter_map(|r| visible::revision_of(&caller, vdc, &self.0, r))
                .collect(),
            upto: changes.upto,
        })
    }

    fn number(item: &Revision) -> u64 {
        item.revision
    }
}

/// Changes as they happen, as server-sent events: `revision` (its data is a revision, as in the history), `bookmark`, `end`.
/// 410 if the log no longer has all revisions after `after`: list, then watch from the revision that the list shows.
#[utoipa::path(get, path = "/v1/watch", tag = "history",
    params(WatchQuery, ("Last-Event-ID" = Option<u64>, Header, description = "The last event that the client got")),
    responses((status = 200, body = Revision, content_type = "text/event-stream"),
        (status = "default", body = ApiError)))]
async fn watch(
    State(feeds): State<Feeds>,
    peer: Option<Extension<Peer>>,
    stopping: Option<Extension<Stopping>>,
    headers: HeaderMap,
    Query(query): Query<WatchQuery>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>> + use<>>, ApiError> {
    may_watch(&*caller()?, query.vdc.as_ref())?;
    // Labels are the same for all kinds.
    let selector = Selector::parse(Kind::Vdc, &query.labels, "")?;
    let place = feeds.place()?;
    let after = match last_event_id(&headers)?.or(query.after) {
        Some(after) => after,
        None => feeds.service.revision_now(),
    };
    // Checks that the log reaches that far back.
    feeds.service.changes(after, 1).await?;
    let feed = Feed {
        feeds,
        subscriber: Subscriber::new(&headers, peer, query.vdc),
        source: Changes(selector),
        after,
        _place: place,
    };
    Ok(feed.start(stopping))
}

pub(super) fn router() -> OpenApiRouter<Feeds> {
    OpenApiRouter::new().routes(routes!(watch))
}

//! Handlers of the past: history, differences, rollback.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::extract::{Path, Query};
use super::guard::caller;
use super::objects::finish;
use super::{Mutation, PAGE_LIMIT, Service, visible};
use crate::error::{ApiError, ErrorCode};
use crate::history::{Diff, History, Revision};
use crate::ident::{Name, OwnerName};
use crate::service::{Outcome, Rollback};

/// Revisions per page when the caller does not say.
const REVISIONS: usize = 50;

/// `?limit=&before=&vdc=` of the history.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Paging {
    /// Most revisions to return (1 to 1000); 50 when left out.
    limit: Option<usize>,
    /// Only revisions before this one, the `next` of the previous page.
    before: Option<u64>,
    /// Only changes in this vDC. A page may have fewer revisions than requested and still not be the last.
    vdc: Option<Name>,
}

/// `?from=&to=` of a comparison.
#[derive(Debug, Clone, Copy, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Range {
    /// The earlier revision.
    from: u64,
    /// The later revision.
    to: u64,
}

/// `?vdc=&dry_run=&wait=&reason=&owner=&force=` of a rollback.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct RollbackQuery {
    /// If set, only this vDC and the objects in it.
    vdc: Option<Name>,
    /// Plan only: the response says what would change; nothing is changed.
    #[serde(default)]
    dry_run: bool,
    /// Seconds (fractions allowed) to wait until every device has applied it.
    wait: Option<f64>,
    /// Why, for the history (at most 500 octets).
    #[serde(default)]
    reason: String,
    /// Owner of the objects that change.
    owner: Option<OwnerName>,
    /// Also changes objects of other owners.
    #[serde(default)]
    force: bool,
}

/// What changed, when, by whom and why; the newest first.
#[utoipa::path(get, path = "/v1/history", tag = "history", params(Paging),
    responses((status = 200, body = History), (status = "default", body = ApiError)))]
async fn list(State(service): State<Service>, Query(paging): Query<Paging>) -> Result<Json<History>, ApiError> {
    let limit = paging.limit.unwrap_or(REVISIONS);
    if !(1..=PAGE_LIMIT).contains(&limit) {
        let expected = format!("a number from 1 to {PAGE_LIMIT}");
        return Err(ApiError::field(ErrorCode::Malformed, "limit", limit, expected));
    }
    visible::history(&service, &*caller()?, paging.vdc.as_ref(), paging.before, limit)
        .await
        .map(Json)
}

/// One revision.
#[utoipa::path(get, path = "/v1/history/{revision}", tag = "history", params(("revision" = u64, Path)),
    responses((status = 200, body = Revision), (status = "default", body = ApiError)))]
async fn get(State(service): State<Service>, Path(revision): Path<u64>) -> Result<Json<Revision>, ApiError> {
    visible::revision(&service, &*caller()?, revision).await.map(Json)
}

/// How the intent of two revisions differs.
#[utoipa::path(get, path = "/v1/diff", tag = "history", params(Range),
    responses((status = 200, body = Diff), (status = "default", body = ApiError)))]
async fn diff(State(service): State<Service>, Query(range): Query<Range>) -> Result<Json<Diff>, ApiError> {
    let diff = service.diff(range.from, range.to).await?;
    Ok(Json(visible::diff(&*caller()?, diff)))
}

/// Restores the intent of an older revision, as a new transaction. Numbers that the controller allocates may differ;
/// the inventory stays as it is.
#[utoipa::path(post, path = "/v1/history/{revision}/rollback", tag = "history",
    params(("revision" = u64, Path), RollbackQuery),
    responses((status = 200, body = Outcome), (status = "default", body = ApiError)))]
async fn rollback(
    State(service): State<Service>,
    Path(to): Path<u64>,
    Query(query): Query<RollbackQuery>,
) -> Result<Json<Outcome>, ApiError> {
    let RollbackQuery {
        vdc,
        dry_run,
        wait,
        reason,
        owner,
        force,
    } = query;
    visible::may_roll_back(&*caller()?, vdc.as_ref())?;
    let mutation = Mutation {
        wait,
        dry_run,
        reason,
        owner,
        force,
        cascade: false,
    };
    let rollback = Rollback {
        to,
        vdc,
        dry_run,
        origin: mutation.origin()?,
    };
    let committed = service.rollback(rollback).await?;
    Ok(Json(finish(&service, committed, &mutation).await))
}

pub(super) fn router() -> OpenApiRouter<Service> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(get))
        .routes(routes!(rollback))
        .routes(routes!(diff))
}

//! Handlers of whole intent files and of the fabric's state.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use serde::Deserialize;
use utoipa::IntoParams;

use super::extract::{Body, Path, Query};
use super::guard::caller;
use super::objects::finish;
use super::{MAX_OBJECTS, Mutation, Service, visible};
use crate::error::{ApiError, ErrorCode};
use crate::ident::{Name, OwnerName};
use crate::intent::Intent;
use crate::kind::{Key, Kind};
use crate::service::{ApplyOptions, Outcome};
use crate::status::{DeviceEntity, Drops, FabricStatus, HostStatus, LinkStatus, ObjectEntity, SwitchStatus, TableUse};

/// `?prune=&keep_vdcs=&dry_run=&wait=&reason=&owner=&force=&cascade=` of `apply`.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ApplyQuery {
    /// Delete the owner's objects in the named vDCs that the file does not name; without an owner, those without one.
    #[serde(default)]
    prune: bool,
    /// The named vDCs exist and stay as they are: only the objects in them are applied.
    #[serde(default)]
    keep_vdcs: bool,
    /// Plan only: the response says what would change; nothing is changed.
    #[serde(default)]
    dry_run: bool,
    /// Seconds (fractions allowed) to wait until every device has applied it.
    wait: Option<f64>,
    /// Why, for the history (at most 500 octets).
    #[serde(default)]
    reason: String,
    /// The new owner of the objects, such as a file or a tool.
    owner: Option<OwnerName>,
    /// Also changes objects of other owners.
    #[serde(default)]
    force: bool,
    /// Also deletes attachments that use hosts or access ports which their vDC loses.
    #[serde(default)]
    cascade: bool,
}

/// Applies many objects (at most 100,000) as one transaction: all of it or nothing.
#[utoipa::path(post, path = "/v1/apply", tag = "intent", params(ApplyQuery), request_body = Intent,
    responses((status = 200, body = Outcome), (status = "default", body = ApiError)))]
pub(super) async fn apply(
    State(service): State<Service>,
    Query(query): Query<ApplyQuery>,
    Body(intent): Body<Intent>,
) -> Result<Json<Outcome>, ApiError> {
    visible::may_apply(&*caller()?, &intent)?;
    let ApplyQuery {
        prune,
        keep_vdcs,
        dry_run,
        wait,
        reason,
        owner,
        force,
        cascade,
    } = query;
    if intent.len() > MAX_OBJECTS {
        let expected = format!("at most {MAX_OBJECTS} objects, including the vDCs and the objects to delete");
        return Err(ApiError::field(ErrorCode::Invalid, "vdcs", intent.len(), expected));
    }
    let mutation = Mutation {
        wait,
        dry_run,
        reason,
        owner,
        force,
        cascade,
    };
    let options = ApplyOptions {
        prune,
        keep_vdcs,
        dry_run,
        origin: mutation.origin()?,
    };
    let committed = service.apply(intent, options).await?;
    Ok(Json(finish(&service, committed, &mutation).await))
}

#[utoipa::path(get, path = "/v1/fabric", tag = "fabric", responses((status = 200, body = FabricStatus)))]
pub(super) async fn fabric(State(service): State<Service>) -> Json<FabricStatus> {
    Json(service.fabric().await)
}

#[utoipa::path(get, path = "/v1/switches", tag = "fabric", responses((status = 200, body = Vec<SwitchStatus>)))]
pub(super) async fn switches(State(service): State<Service>) -> Json<Vec<SwitchStatus>> {
    Json(service.switches().await)
}

#[utoipa::path(get, path = "/v1/hosts", tag = "fabric", responses((status = 200, body = Vec<HostStatus>)))]
pub(super) async fn hosts(State(service): State<Service>) -> Json<Vec<HostStatus>> {
    Json(service.hosts().await)
}

#[utoipa::path(get, path = "/v1/links", tag = "fabric", responses((status = 200, body = Vec<LinkStatus>)))]
pub(super) async fn links(State(service): State<Service>) -> Json<Vec<LinkStatus>> {
    Json(service.links().await)
}

#[utoipa::path(get, path = "/v1/drops", tag = "fabric",
    responses((status = 200, body = Drops)))]
pub(super) async fn drops(State(service): State<Service>) -> Json<Drops> {
    Json(service.drops().await)
}

/// `?switch=` of tables.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct TablesQuery {
    /// Only tables of this switch.
    switch: Option<Name>,
}

/// How full the tables of switches are.
#[utoipa::path(get, path = "/v1/tables", tag = "fabric", params(TablesQuery),
    responses((status = 200, body = Vec<TableUse>), (status = "default", body = ApiError)))]
pub(super) async fn tables(
    State(service): State<Service>,
    Query(query): Query<TablesQuery>,
) -> Result<Json<Vec<TableUse>>, ApiError> {
    service.tables(query.switch.as_ref()).await.map(Json)
}

#[utoipa::path(get, path = "/v1/devices/{name}/entities", tag = "fabric", params(("name" = Name, Path)),
    responses((status = 200, body = Vec<DeviceEntity>), (status = "default", body = ApiError)))]
pub(super) async fn entities(
    State(service): State<Service>,
    Path(name): Path<Name>,
) -> Result<Json<Vec<DeviceEntity>>, ApiError> {
    service.entities(&name).await.map(Json)
}

/// `?vdc=&kind=&name=` of an object.
#[derive(Debug, Clone, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ObjectQuery {
    /// Its vDC.
    vdc: Name,
    /// Its kind.
    kind: Kind,
    /// Its name; for a vDC, the vDC's name.
    name: Name,
}

/// The entities that an object asks devices for.
#[utoipa::path(get, path = "/v1/entities", tag = "fabric", params(ObjectQuery),
    responses((status = 200, body = Vec<ObjectEntity>), (status = "default", body = ApiError)))]
pub(super) async fn entities_of(
    State(service): State<Service>,
    Query(object): Query<ObjectQuery>,
) -> Result<Json<Vec<ObjectEntity>>, ApiError> {
    let key = Key::new(object.vdc, object.kind, object.name);
    service.entities_of(&key).await.map(Json)
}

/// For a monitoring system (OpenMetrics 1.0). It is not part of the API, and so not in the document.
pub(super) async fn metrics(State(service): State<Service>) -> impl IntoResponse {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(CONTENT_TYPE, kind)], service.metrics().await)
}

/// `ok` and what is not as it should be, one a line; or why changes cannot be taken, with status 503. Needs no token.
pub(super) async fn health(State(service): State<Service>) -> impl IntoResponse {
    match service.health().await {
        Ok(notes) => {
            let lines = std::iter::once("ok".to_owned()).chain(notes);
            (StatusCode::OK, lines.map(|line| line + "\n").collect())
        }
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}

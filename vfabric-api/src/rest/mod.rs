//! The REST API: turns HTTP requests into calls of a [`FabricService`].
//!
//! | path | verbs |
//! | --- | --- |
//! | `/v1/vdcs`, `/v1/vdcs/{vdc}` | list, create, get, replace, delete |
//! | `/v1/vdcs/{vdc}/networks`, `…/{name}` | the same |
//! | `/v1/vdcs/{vdc}/routers`, `…/{name}` | the same |
//! | `/v1/vdcs/{vdc}/attachments`, `…/{name}` | the same |
//! | `/v1/inventory` | get, replace: switches, links and hosts |
//! | `/v1/inventory/fabric` | replace |
//! | `/v1/inventory/switches/{name}`, `/v1/inventory/hosts/{name}` | get, put, delete |
//! | `/v1/inventory/provisioning`, `/v1/inventory/switches/{name}/provisioning` | how switches came into service |
//! | `…/{name}/drain`, `…/undrain`, `…/gone` | post |
//! | `/v1/inventory/hosts/{name}/enrolment-token` | post: a token with which the host's agent enrols |
//! | `/v1/inventory/switches/{name}/enrolment-token` | post: a token with which a switch without an IDevID enrols |
//! | `/v1/inventory/switches/{name}/reboot` | post: drains and restarts it |
//! | `/v1/inventory/switches/{name}/install` | post: installs software, drains and restarts it |
//! | `/v1/inventory/switches/{name}/replace`, `…/retire` | post: another machine becomes it; it leaves the fabric |
//! | `/v1/inventory/links`, `/v1/inventory/links/{switch}/{port}` | create, delete |
//! | `/v1/apply` | a whole intent file as one transaction |
//! | `/v1/history`, `…/{revision}`, `/v1/diff?from=&to=` | what changed, when, by whom and why |
//! | `/v1/history/{revision}/rollback` | post: restores the intent of that revision |
//! | `/v1/watch` | changes as they happen |
//! | `/v1/events`, `/v1/events/watch` | events without a transaction, past ones and as they happen |
//! | `/v1/fabric`, `/v1/switches`, `/v1/hosts`, `/v1/links`, `/v1/drops` | state |
//! | `/v1/entities?vdc=&kind=&name=` | the entities that an object asks devices for |
//! | `/v1/backup` | post: a copy of the store |
//! | `/v1/images`, `/v1/images/{name}` | images for switches: list; put, delete |
//! | `/v1/tables` | how full the tables of switches are |
//! | `/v1/devices/{name}/entities` | what a device should hold, and whether it holds it |
//! | `/v1/users`, `/v1/users/{name}` | users of the fabric: list, create, get, replace, delete |
//! | `…/{name}/tokens`, `…/{name}/tokens/{id}` | make, revoke |
//! | `/v1/vdcs/{vdc}/users`, … | the same for users of a vDC |
//! | `/v1/whoami` | who the caller is, and its roles |
//! | `/v1/audit`, `/v1/vdcs/{vdc}/audit` | calls that changed something or were refused |
//! | `/metrics` | the same in numbers, as OpenMetrics text |
//! | `/v1/openapi.json` | this, for machines |
//!
//! Every path except the document itself and `/v1/health` needs a caller with a role ([`crate::access`]; `operation.rs` has the
//! table of roles). Bodies are limited to [`MAX_BODY_BYTES`]. A mutation may carry `?wait=SECONDS`: the response is then sent
//! once every device has applied the change, or when time runs out; `applied` says which. With
//! `?dry_run=true` nothing changes, and the response is the plan; `?reason=` is kept in the history. `?owner=` names the owner of
//! the objects; those of another owner can be changed only with `?force=true`. A mutation with an `Idempotency-Key` may
//! be repeated ([`repeat`]). Lists take `?labels=` and `?fields=` ([`crate::labels`]).

mod access;
mod backup;
mod bodies;
mod document;
mod erased;
mod events;
mod extract;
mod fabric;
mod feed;
mod guard;
mod history;
mod images;
mod inventory;
mod objects;
mod operation;
mod problem;
mod repeat;
#[cfg(test)]
mod repeat_tests;
mod server;
mod visible;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use serde::Deserialize;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{IntoParams, Modify, OpenApi};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub use access::Access;
pub use guard::Rate;
pub use problem::require_host;
pub use server::{LIMITS, serve};

use crate::error::{ApiError, ErrorCode};
use crate::ident::OwnerName;
use crate::service::{FabricService, Origin};
use erased::ErasedService;
use feed::Feeds;

/// Largest request body: an intent file of about 100,000 attachments.
pub const MAX_BODY_BYTES: usize = 64 << 20;

/// Objects of one intent file, including the vDCs and the objects to delete. The writer checks all of them in one turn,
/// and other callers wait meanwhile.
pub const MAX_OBJECTS: usize = 100_000;

/// Longest time a mutation may wait to be applied.
pub const MAX_WAIT: Duration = Duration::from_secs(60);

/// Longest reason of a change, in octets.
const MAX_REASON: usize = 500;

/// Objects per page by default, and at most.
pub const PAGE_LIMIT: usize = 1000;

type Service = Arc<dyn ErasedService>;

/// `?wait=&dry_run=&reason=&owner=&force=` of mutations.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Mutation {
    /// Seconds (fractions allowed) to wait until every device has applied the change.
    wait: Option<f64>,
    /// Plan only: the response says what would change; nothing is changed.
    #[serde(default)]
    dry_run: bool,
    /// Why, for the history (at most 500 octets).
    #[serde(default)]
    reason: String,
    /// The new owner of the objects, such as a file or a tool.
    owner: Option<OwnerName>,
    /// Also changes objects of other owners.
    #[serde(default)]
    force: bool,
    /// Of a vDC: also deletes attachments that use hosts or access ports which it loses.
    #[serde(skip)]
    #[param(ignore)]
    cascade: bool,
}

impl Mutation {
    fn origin(&self) -> Result<Origin, ApiError> {
        if self.reason.len() > MAX_REASON {
            let expected = format!("at most {MAX_REASON} octets");
            return Err(ApiError::field(
                ErrorCode::Malformed,
                "reason",
                self.reason.len(),
                expected,
            ));
        }
        if let Some(wait) = self.wait.filter(|wait| wait.is_nan() || *wait < 0.0) {
            return Err(ApiError::field(
                ErrorCode::Invalid,
                "wait",
                wait,
                "a number of seconds, 0 or more",
            ));
        }
        let caller = guard::caller()?;
        Ok(Origin {
            author: caller.name.clone(),
            reason: self.reason.clone(),
            owner: self.owner.clone(),
            force: self.force,
            cascade: self.cascade,
            is_tenant: caller.is_tenant(),
            repeatable: repeat::repeatable(),
        })
    }
}

/// How long a mutation waits for devices.
fn patience(seconds: Option<f64>) -> Option<Duration> {
    let seconds = seconds.filter(|w| *w > 0.0)?;
    Some(Duration::try_from_secs_f64(seconds).unwrap_or(MAX_WAIT).min(MAX_WAIT))
}

#[derive(OpenApi)]
#[openapi(
    info(title = "vfabric", description = "Virtual data centres on a P4 fabric."),
    modifiers(&BearerToken),
    security(("bearer" = []))
)]
struct Document;

struct BearerToken;

impl Modify for BearerToken {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let scheme = SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build());
        document
            .components
            .get_or_insert_default()
            .add_security_scheme("bearer", scheme);
    }
}

fn open_router() -> OpenApiRouter<Service> {
    OpenApiRouter::with_openapi(Document::openapi())
        .merge(objects::router())
        .merge(inventory::router())
        .merge(history::router())
        .merge(backup::router())
        .merge(images::router())
        .routes(routes!(fabric::apply))
        .routes(routes!(fabric::fabric))
        .routes(routes!(fabric::switches))
        .routes(routes!(fabric::hosts))
        .routes(routes!(fabric::links))
        .routes(routes!(fabric::drops))
        .routes(routes!(fabric::tables))
        .routes(routes!(fabric::entities_of))
        .routes(routes!(fabric::entities))
}

/// The OpenAPI 3.1 document of the API.
pub fn openapi() -> serde_json::Value {
    let mut document = open_router().into_openapi();
    document.merge(access::router().into_openapi());
    document.merge(watch::router().into_openapi());
    document.merge(events::router().into_openapi());
    // It consists of maps with strings as keys, so it can always be written.
    let mut document = serde_json::to_value(document).unwrap_or_default();
    document::complete(&mut document);
    document
}

/// The router over a service, guarded by `door`.
pub fn router<S: FabricService>(service: Arc<S>, door: Arc<dyn Access>, rate: Rate) -> Router {
    let document = Arc::new(openapi());
    let router = Router::from(open_router());
    let service: Service = service;
    let open = Router::new()
        .route("/v1/health", axum::routing::get(fabric::health))
        .with_state(Arc::clone(&service))
        .route(
            "/v1/openapi.json",
            axum::routing::get(move || async move { axum::Json(document.as_ref().clone()) }),
        );
    router
        .route("/metrics", axum::routing::get(fabric::metrics))
        .with_state(Arc::clone(&service))
        .merge(Router::from(watch::router().merge(events::router())).with_state(Feeds::new(service, Arc::clone(&door))))
        .merge(Router::from(access::router()).with_state(Arc::clone(&door)))
        .fallback(problem::no_such_path)
        .method_not_allowed_fallback(problem::no_such_method)
        .layer(axum::middleware::from_fn_with_state(
            Arc::new(guard::Guard::new(door, rate)),
            guard::guard,
        ))
        .merge(open)
        .layer(axum::middleware::from_fn(require_host))
        .layer(axum::middleware::from_fn(problem::request_id))
}

#[cfg(test)]
mod tests;

//! Handlers of tenant objects: list, create, get, replace, delete.
//!
//! All four kinds use the same functions; the macro only adds the paths, the types and the place in the OpenAPI
//! document of each kind.

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::extract::{Body, IfMatch, MergePatch, Path, Query};
use super::guard::caller;
use super::{Mutation, PAGE_LIMIT, Service, patience, repeat, visible};
use crate::error::{ApiError, ErrorCode};
use crate::ident::Name;
use crate::kind::{self, Key, Kind, Spec, View};
use crate::labels::Selector;
use crate::service::{Change, Committed, Outcome, Page, Transaction};

/// `?limit=&after=&labels=&fields=` of listings.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Paging {
    /// Most objects to return (1 to 1000).
    limit: Option<usize>,
    /// Start after this name, the `next` of the previous page.
    after: Option<String>,
    /// Only objects whose labels meet all of these, such as `tier=web,env!=test,zone in (a,b),!old`.
    #[serde(default)]
    labels: String,
    /// Only objects whose fields meet all of these, such as `host=host1,network in (red,blue)`: `name`, `owner`; for routers
    /// and attachments `network`; for attachments `host`, `switch`.
    #[serde(default)]
    fields: String,
}

/// Media type of the answer to a dry run, where the answer to the call itself would be an object.
const PLAN: &str = "application/vnd.vfabric.plan+json";

/// Commits one change, and waits if requested; for a dry run, only plans it.
pub(super) async fn commit(service: &Service, change: Change, mutation: &Mutation) -> Result<Outcome, ApiError> {
    commit_if(service, change, None, mutation).await
}

/// As [`commit`], but only if the object is at the expected revision.
async fn commit_if(
    service: &Service,
    change: Change,
    expect: Option<(Key, u64)>,
    mutation: &Mutation,
) -> Result<Outcome, ApiError> {
    let transaction = Transaction {
        dry_run: mutation.dry_run,
        expect,
        ..Transaction::one(change, mutation.origin()?)
    };
    let committed = service.commit(transaction).await?;
    Ok(finish(service, committed, mutation).await)
}

/// An object, with its revision as `ETag`.
fn shown(status: StatusCode, view: &View) -> Response {
    let tag = format!("\"{}\"", view.revision());
    (status, [(header::ETAG, tag)], Json(view)).into_response()
}

/// The object of a call that created or changed it. If the call was carried out before and the object has changed since,
/// it is shown as it was then.
async fn changed(service: &Service, key: &Key, status: StatusCode, outcome: Outcome) -> Result<Response, ApiError> {
    let now = service.get(key).await;
    let Some(then) = outcome.committed.replay.and_then(|replay| replay.object) else {
        return Ok(shown(status, &now?));
    };
    let then = View::read(key.kind, then).map_err(|error| {
        let detail = format!("the stored answer cannot be read: {error}");
        ApiError::new(ErrorCode::Internal, detail)
    })?;
    let is_same = |now: &View| now.revision() == then.revision();
    let view = now.ok().filter(is_same).unwrap_or(then);
    Ok(shown(status, &view))
}

/// Waits for devices if requested.
pub(super) async fn finish(service: &Service, committed: Committed, mutation: &Mutation) -> Outcome {
    if committed.replay.is_some() {
        repeat::note_replay();
    }
    let applied = match patience(mutation.wait.filter(|_| !mutation.dry_run)) {
        Some(timeout) => Some(service.wait_applied(committed.revision, timeout).await),
        None => None,
    };
    Outcome { committed, applied }
}

fn planned(outcome: &Outcome) -> Response {
    ([(header::CONTENT_TYPE, PLAN)], Json(outcome)).into_response()
}

async fn list(service: &Service, kind: Kind, vdc: Option<&Name>, paging: Paging) -> Result<Json<Page<View>>, ApiError> {
    let limit = paging.limit.unwrap_or(PAGE_LIMIT);
    if !(1..=PAGE_LIMIT).contains(&limit) {
        let expected = format!("a number from 1 to {PAGE_LIMIT}");
        return Err(ApiError::field(ErrorCode::Malformed, "limit", limit, expected));
    }
    let after = paging.after.as_deref();
    let selector = Selector::parse(kind, &paging.labels, &paging.fields)?;
    match vdc {
        Some(_) => service.list(kind, vdc, &selector, after, limit).await.map(Json),
        None => visible::vdcs(service, &*caller()?, &selector, after, limit)
            .await
            .map(Json),
    }
}

async fn create(service: &Service, vdc: Name, spec: Spec, mutation: Mutation) -> Result<Response, ApiError> {
    let key = Key::new(vdc.clone(), spec.kind(), spec.name().clone());
    let outcome = commit(service, Change::Create(vdc, spec), &mutation).await?;
    if mutation.dry_run {
        return Ok(planned(&outcome));
    }
    let status = if outcome.committed.created.is_empty() {
        StatusCode::OK
    } else {
        StatusCode::CREATED
    };
    changed(service, &key, status, outcome).await
}

async fn get(service: &Service, key: Key) -> Result<Response, ApiError> {
    Ok(shown(StatusCode::OK, &service.get(&key).await?))
}

async fn replace(
    service: &Service,
    key: Key,
    spec: Spec,
    if_match: IfMatch,
    mutation: Mutation,
) -> Result<Response, ApiError> {
    if *spec.name() != key.name {
        let expected = format!("`{}`, the name in the path", key.name);
        return Err(ApiError::field(ErrorCode::Invalid, "name", spec.name(), expected));
    }
    change(service, Change::Replace(key.vdc.clone(), spec), key, if_match, mutation).await
}

async fn patch(
    service: &Service,
    key: Key,
    patch: MergePatch,
    if_match: IfMatch,
    mutation: Mutation,
) -> Result<Response, ApiError> {
    change(service, Change::Patch(key.clone(), patch.0), key, if_match, mutation).await
}

/// Changes an existing object.
async fn change(
    service: &Service,
    change: Change,
    key: Key,
    if_match: IfMatch,
    mutation: Mutation,
) -> Result<Response, ApiError> {
    let expect = if_match.0.map(|revision| (key.clone(), revision));
    let outcome = commit_if(service, change, expect, &mutation).await?;
    if mutation.dry_run {
        return Ok(planned(&outcome));
    }
    changed(service, &key, StatusCode::OK, outcome).await
}

async fn delete(service: &Service, key: Key, if_match: IfMatch, mutation: Mutation) -> Result<Json<Outcome>, ApiError> {
    let expect = if_match.0.map(|revision| (key.clone(), revision));
    commit_if(service, Change::Delete(key), expect, &mutation)
        .await
        .map(Json)
}

/// The six handlers of a kind that lives inside a vDC. They differ only in types, paths and their text in the OpenAPI
/// document.
macro_rules! kind_in_vdc {
    ($module:ident, $kind:ident, $spec:ty, $view:ty, $tag:literal, $collection:literal, $object:literal) => {
        mod $module {
            use super::*;

            #[utoipa::path(get, path = $collection, tag = $tag, operation_id = concat!("list_", $tag),
                params(("vdc" = Name, Path), Paging),
                responses((status = 200, body = Page<$view>), (status = "default", body = ApiError)))]
            async fn list_all(
                State(service): State<Service>,
                Path(vdc): Path<Name>,
                Query(paging): Query<Paging>,
            ) -> Result<Json<Page<View>>, ApiError> {
                list(&service, Kind::$kind, Some(&vdc), paging).await
            }

            #[utoipa::path(post, path = $collection, tag = $tag, operation_id = concat!("create_", $tag),
                params(("vdc" = Name, Path), Mutation), request_body = $spec,
                responses((status = 201, body = $view), (status = 200, description = "An object with this content already existed; for a dry run, the plan",
                        content(($view = "application/json"), (Outcome = "application/vnd.vfabric.plan+json"))),
                    (status = "default", body = ApiError)))]
            async fn create_one(
                State(service): State<Service>,
                Path(vdc): Path<Name>,
                Query(mutation): Query<Mutation>,
                Body(spec): Body<$spec>,
            ) -> Result<Response, ApiError> {
                create(&service, vdc, Spec::$kind(spec), mutation).await
            }

            #[utoipa::path(get, path = $object, tag = $tag, operation_id = concat!("get_", $tag),
                params(("vdc" = Name, Path), ("name" = Name, Path)),
                responses((status = 200, body = $view), (status = "default", body = ApiError)))]
            async fn get_one(
                State(service): State<Service>,
                Path((vdc, name)): Path<(Name, Name)>,
            ) -> Result<Response, ApiError> {
                get(&service, Key::new(vdc, Kind::$kind, name)).await
            }

            #[utoipa::path(put, path = $object, tag = $tag, operation_id = concat!("replace_", $tag),
                params(("vdc" = Name, Path), ("name" = Name, Path),
            ("If-Match" = Option<String>, Header, description = "`ETag` of the object as the caller saw it, or *"), Mutation), request_body = $spec,
                responses((status = 200, description = "The object; for a dry run, the plan",
                    content(($view = "application/json"), (Outcome = "application/vnd.vfabric.plan+json"))), (status = "default", body = ApiError)))]
            async fn replace_one(
                State(service): State<Service>,
                Path((vdc, name)): Path<(Name, Name)>,
                if_match: IfMatch,
                Query(mutation): Query<Mutation>,
                Body(spec): Body<$spec>,
            ) -> Result<Response, ApiError> {
                replace(&service, Key::new(vdc, Kind::$kind, name), Spec::$kind(spec), if_match, mutation).await
            }

            #[utoipa::path(patch, path = $object, tag = $tag, operation_id = concat!("patch_", $tag),
                params(("vdc" = Name, Path), ("name" = Name, Path),
            ("If-Match" = Option<String>, Header, description = "`ETag` of the object as the caller saw it, or *"), Mutation),
                request_body(content = serde_json::Value, content_type = "application/merge-patch+json"),
                responses((status = 200, description = "The object; for a dry run, the plan",
                    content(($view = "application/json"), (Outcome = "application/vnd.vfabric.plan+json"))),
                    (status = "default", body = ApiError)))]
            async fn patch_one(
                State(service): State<Service>,
                Path((vdc, name)): Path<(Name, Name)>,
                if_match: IfMatch,
                Query(mutation): Query<Mutation>,
                body: MergePatch,
            ) -> Result<Response, ApiError> {
                patch(&service, Key::new(vdc, Kind::$kind, name), body, if_match, mutation).await
            }

            #[utoipa::path(delete, path = $object, tag = $tag, operation_id = concat!("delete_", $tag),
                params(("vdc" = Name, Path), ("name" = Name, Path),
            ("If-Match" = Option<String>, Header, description = "`ETag` of the object as the caller saw it, or *"), Mutation),
                responses((status = 200, body = Outcome), (status = "default", body = ApiError)))]
            async fn delete_one(
                State(service): State<Service>,
                Path((vdc, name)): Path<(Name, Name)>,
                if_match: IfMatch,
                Query(mutation): Query<Mutation>,
            ) -> Result<Json<Outcome>, ApiError> {
                delete(&service, Key::new(vdc, Kind::$kind, name), if_match, mutation).await
            }

            pub(super) fn router() -> OpenApiRouter<Service> {
                OpenApiRouter::new()
                    .routes(routes!(list_all, create_one))
                    .routes(routes!(get_one, replace_one, patch_one, delete_one))
            }
        }
    };
}

/// Makes the handlers of each kind that lives inside a vDC, and their routes.
macro_rules! kinds_in_vdc {
    ($($module:ident, $kind:ident, $spec:ty, $view:ty, $tag:literal, $collection:literal, $object:literal;)*) => {
        $(kind_in_vdc!($module, $kind, $spec, $view, $tag, $collection, $object);)*

        pub(super) fn router() -> OpenApiRouter<Service> {
            vdcs::router()$(.merge($module::router()))*
        }
    };
}

#[rustfmt::skip]
kinds_in_vdc! {
    networks, Network, kind::NetworkSpec, kind::Network,
        "networks", "/v1/vdcs/{vdc}/networks", "/v1/vdcs/{vdc}/networks/{name}";
    routers, Router, kind::RouterSpec, kind::Router,
        "routers", "/v1/vdcs/{vdc}/routers", "/v1/vdcs/{vdc}/routers/{name}";
    attachments, Attachment, kind::AttachmentSpec, kind::Attachment,
        "attachments", "/v1/vdcs/{vdc}/attachments", "/v1/vdcs/{vdc}/attachments/{name}";
}

mod vdcs {
    use super::*;
    use crate::ident::OwnerName;
    use crate::kind::{Vdc, VdcSpec};

    /// `?wait=&dry_run=&reason=&owner=&force=&cascade=` of changes of a vDC.
    #[derive(Debug, Clone, Default, Deserialize, IntoParams)]
    #[serde(deny_unknown_fields)]
    #[into_params(parameter_in = Query)]
    struct VdcMutation {
        /// Seconds (fractions allowed) to wait until every device has applied the change.
        wait: Option<f64>,
        /// Plan only: the response says what would change; nothing is changed.
        #[serde(default)]
        dry_run: bool,
        /// Why, for the history (at most 500 octets).
        #[serde(default)]
        reason: String,
        /// The new owner of the vDC, such as a file or a tool.
        owner: Option<OwnerName>,
        /// Also changes a vDC of another owner.
        #[serde(default)]
        force: bool,
        /// Also deletes attachments that use hosts or access ports which the vDC loses. Without it, that is refused.
        #[serde(default)]
        cascade: bool,
    }

    impl From<VdcMutation> for Mutation {
        fn from(asked: VdcMutation) -> Self {
            Self {
                wait: asked.wait,
                dry_run: asked.dry_run,
                reason: asked.reason,
                owner: asked.owner,
                force: asked.force,
                cascade: asked.cascade,
            }
        }
    }

    #[utoipa::path(get, path = "/v1/vdcs", tag = "vdcs", operation_id = "list_vdcs", params(Paging),
        responses((status = 200, body = Page<Vdc>), (status = "default", body = ApiError)))]
    async fn list_all(
        State(service): State<Service>,
        Query(paging): Query<Paging>,
    ) -> Result<Json<Page<View>>, ApiError> {
        list(&service, Kind::Vdc, None, paging).await
    }

    #[utoipa::path(post, path = "/v1/vdcs", tag = "vdcs", operation_id = "create_vdcs", params(Mutation),
        request_body = VdcSpec,
        responses((status = 201, body = Vdc), (status = 200, description = "An object with this content already existed; for a dry run, the plan",
                        content((Vdc = "application/json"), (Outcome = "application/vnd.vfabric.plan+json"))),
            (status = "default", body = ApiError)))]
    async fn create_one(
        State(service): State<Service>,
        Query(mutation): Query<Mutation>,
        Body(spec): Body<VdcSpec>,
    ) -> Result<Response, ApiError> {
        create(&service, spec.name.clone(), Spec::Vdc(spec), mutation).await
    }

    #[utoipa::path(get, path = "/v1/vdcs/{vdc}", tag = "vdcs", operation_id = "get_vdcs",
        params(("vdc" = Name, Path)),
        responses((status = 200, body = Vdc), (status = "default", body = ApiError)))]
    async fn get_one(State(service): State<Service>, Path(vdc): Path<Name>) -> Result<Response, ApiError> {
        get(&service, Key::vdc(vdc)).await
    }

    #[utoipa::path(put, path = "/v1/vdcs/{vdc}", tag = "vdcs", operation_id = "replace_vdcs",
        params(("vdc" = Name, Path), 
            ("If-Match" = Option<String>, Header, description = "`ETag` of the object as the caller saw it, or *"), VdcMutation), request_body = VdcSpec,
        responses((status = 200, description = "The object; for a dry run, the plan",
                    content((Vdc = "application/json"), (Outcome = "application/vnd.vfabric.plan+json"))), (status = "default", body = ApiError)))]
    async fn replace_one(
        State(service): State<Service>,
        Path(vdc): Path<Name>,
        if_match: IfMatch,
        Query(mutation): Query<VdcMutation>,
        Body(spec): Body<VdcSpec>,
    ) -> Result<Response, ApiError> {
        replace(&service, Key::vdc(vdc), Spec::Vdc(spec), if_match, mutation.into()).await
    }

    #[utoipa::path(patch, path = "/v1/vdcs/{vdc}", tag = "vdcs", operation_id = "patch_vdcs",
                params(("vdc" = Name, Path), 
            ("If-Match" = Option<String>, Header, description = "`ETag` of the object as the caller saw it, or *"), VdcMutation),
                request_body(content = serde_json::Value, content_type = "application/merge-patch+json"),
                responses((status = 200, description = "The object; for a dry run, the plan",
                    content((Vdc = "application/json"), (Outcome = "application/vnd.vfabric.plan+json"))),
                    (status = "default", body = ApiError)))]
    async fn patch_one(
        State(service): State<Service>,
        Path(vdc): Path<Name>,
        if_match: IfMatch,
        Query(mutation): Query<VdcMutation>,
        body: MergePatch,
    ) -> Result<Response, ApiError> {
        patch(&service, Key::vdc(vdc), body, if_match, mutation.into()).await
    }

    #[utoipa::path(delete, path = "/v1/vdcs/{vdc}", tag = "vdcs", operation_id = "delete_vdcs",
        params(("vdc" = Name, Path), 
            ("If-Match" = Option<String>, Header, description = "`ETag` of the object as the caller saw it, or *"), Mutation),
        responses((status = 200, body = Outcome), (status = "default", body = ApiError)))]
    async fn delete_one(
        State(service): State<Service>,
        Path(vdc): Path<Name>,
        if_match: IfMatch,
        Query(mutation): Query<Mutation>,
    ) -> Result<Json<Outcome>, ApiError> {
        delete(&service, Key::vdc(vdc), if_match, mutation).await
    }

    pub(super) fn router() -> OpenApiRouter<Service> {
        OpenApiRouter::new()
            .routes(routes!(list_all, create_one))
            .routes(routes!(get_one, replace_one, patch_one, delete_one))
    }
}

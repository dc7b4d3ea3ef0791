//! The router's interface to callers, and the handlers of users, tokens and the audit log.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use fabric_identity::Peer;
use futures::future::BoxFuture;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::PAGE_LIMIT;
use super::extract::{Body, Path, Query};
use super::guard::caller;
use crate::access::{AuditPage, AuditRecord, Binding, Caller, NewToken, TokenSpec, User, UserKey, UserSpec, WhoAmI};
use crate::error::{ApiError, ErrorCode};
use crate::ident::Name;

/// Records per page of the audit log when the caller does not say.
const RECORDS: usize = 100;

/// Users, proofs and the audit log, as the REST router sees them.
pub trait Access: Send + Sync + 'static {
    /// Identifies the caller: by the bearer token if there is one, else by the certificate of the connection.
    ///
    /// # Errors
    /// Why the caller is not proven, as a text without secrets.
    fn identify<'a>(&'a self, token: Option<&'a str>, peer: Option<&'a Peer>) -> BoxFuture<'a, Result<Caller, String>>;

    /// Users of the fabric, or of one vDC, by name.
    fn users(&self, vdc: Option<&Name>) -> Vec<User>;

    /// One user.
    fn user(&self, key: &UserKey) -> Option<User>;

    /// Creates (`new`) or replaces a user; its tokens stay.
    fn put_user(&self, vdc: Option<Name>, spec: UserSpec, new: bool) -> BoxFuture<'_, Result<User, ApiError>>;

    /// Deletes a user and its tokens.
    fn delete_user(&self, key: UserKey) -> BoxFuture<'_, Result<(), ApiError>>;

    /// Makes a token.
    fn make_token(&self, key: UserKey, spec: TokenSpec) -> BoxFuture<'_, Result<NewToken, ApiError>>;

    /// Revokes a token.
    fn revoke_token(&self, key: UserKey, id: String) -> BoxFuture<'_, Result<(), ApiError>>;

    /// Whether the audit log can be written.
    ///
    /// # Errors
    /// Why not.
    fn can_record(&self) -> Result<(), String>;

    /// Writes a record into the audit log; it is written when this returns.
    fn record(&self, record: AuditRecord) -> BoxFuture<'_, ()>;

    /// The last records below `before`, at most `limit`, the newest first; of one vDC if one is given.
    fn audit(&self, vdc: Option<&Name>, before: Option<u64>, limit: usize) -> AuditPage;
}

/// Users and their proofs, behind a pointer.
pub(super) type Door = Arc<dyn Access>;

/// `{vdc}` and `{name}` of a path; a user of the fabric has no vDC.
#[derive(Debug, Deserialize)]
struct Place {
    #[serde(default)]
    vdc: Option<Name>,
    name: Name,
}

impl From<Place> for UserKey {
    fn from(Place { vdc, name }: Place) -> Self {
        Self { vdc, name }
    }
}

/// `{vdc}` of a path, where there is one.
#[derive(Debug, Deserialize)]
struct Scope {
    #[serde(default)]
    vdc: Option<Name>,
}

/// A token's place.
#[derive(Debug, Deserialize)]
struct TokenPlace {
    #[serde(default)]
    vdc: Option<Name>,
    name: Name,
    id: String,
}

/// Adds the vDC to the roles of a user of a vDC; a role of another vDC is refused.
fn own_roles(vdc: Option<&Name>, spec: &mut UserSpec) -> Result<(), ApiError> {
    let Some(vdc) = vdc else { return Ok(()) };
    for (i, Binding { role, vdc: of }) in spec.roles.iter_mut().enumerate() {
        if role.is_of_fabric() {
            let expected = format!("a role of vDC `{vdc}`");
            return Err(ApiError::field(
                ErrorCode::Invalid,
                format!("roles[{i}].role"),
                role,
                expected,
            ));
        }
        match of {
            Some(of) if of != vdc => {
                let expected = format!("`{vdc}`, to which the user belongs");
                return Err(ApiError::field(
                    ErrorCode::Invalid,
                    format!("roles[{i}].vdc"),
                    of,
                    expected,
                ));
            }
            of => *of = Some(vdc.clone()),
        }
    }
    Ok(())
}

async fn put(door: &Door, vdc: Option<Name>, mut spec: UserSpec, new: bool) -> Result<User, ApiError> {
    own_roles(vdc.as_ref(), &mut spec)?;
    door.put_user(vdc, spec, new).await
}

async fn replace(door: &Door, place: Place, spec: UserSpec) -> Result<Json<User>, ApiError> {
    if spec.name != place.name {
        let expected = format!("`{}`, the name in the path", place.name);
        return Err(ApiError::field(ErrorCode::Invalid, "name", spec.name, expected));
    }
    put(door, place.vdc, spec, false).await.map(Json)
}

fn found(door: &Door, place: Place) -> Result<Json<User>, ApiError> {
    let key = place.into();
    let user = door.user(&key);
    user.map(Json)
        .ok_or_else(|| ApiError::not_found(format_args!("user `{key}`")))
}

/// The handlers of users of the fabric, or of a vDC: they differ in their paths.
macro_rules! users_of {
    ($module:ident, $tag:literal, [$($of:tt)*], $collection:literal, $object:literal, $tokens:literal, $token:literal) => {
        mod $module {
            use super::*;

            #[utoipa::path(get, path = $collection, tag = "users", operation_id = concat!("list_", $tag),
                params($($of)*), responses((status = 200, body = Vec<User>), (status = "default", body = ApiError)))]
            async fn list_all(State(door): State<Door>, Path(scope): Path<Scope>) -> Json<Vec<User>> {
                Json(door.users(scope.vdc.as_ref()))
            }

            #[utoipa::path(post, path = $collection, tag = "users", operation_id = concat!("create_", $tag),
                params($($of)*), request_body = UserSpec,
                responses((status = 201, body = User), (status = "default", body = ApiError)))]
            async fn create_one(
                State(door): State<Door>,
                Path(scope): Path<Scope>,
                Body(spec): Body<UserSpec>,
            ) -> Result<(StatusCode, Json<User>), ApiError> {
                let user = put(&door, scope.vdc, spec, true).await?;
                Ok((StatusCode::CREATED, Json(user)))
            }

            #[utoipa::path(get, path = $object, tag = "users", operation_id = concat!("get_", $tag),
                params($($of)* ("name" = Name, Path)),
                responses((status = 200, body = User), (status = "default", body = ApiError)))]
            async fn get_one(State(door): State<Door>, Path(place): Path<Place>) -> Result<Json<User>, ApiError> {
                found(&door, place)
            }

            #[utoipa::path(put, path = $object, tag = "users", operation_id = concat!("replace_", $tag),
                params($($of)* ("name" = Name, Path)), request_body = UserSpec,
                responses((status = 200, body = User), (status = "default", body = ApiError)))]
            async fn replace_one(
                State(door): State<Door>,
                Path(place): Path<Place>,
                Body(spec): Body<UserSpec>,
            ) -> Result<Json<User>, ApiError> {
                replace(&door, place, spec).await
            }

            #[utoipa::path(delete, path = $object, tag = "users", operation_id = concat!("delete_", $tag),
                params($($of)* ("name" = Name, Path)),
                responses((status = 204), (status = "default", body = ApiError)))]
            async fn delete_one(State(door): State<Door>, Path(place): Path<Place>) -> Result<StatusCode, ApiError> {
                door.delete_user(place.into()).await.map(|()| StatusCode::NO_CONTENT)
            }

            #[utoipa::path(post, path = $tokens, tag = "users", operation_id = concat!("create_token_of_", $tag),
                params($($of)* ("name" = Name, Path)), request_body = TokenSpec,
                responses((status = 201, body = NewToken), (status = "default", body = ApiError)))]
            async fn make_one(
                State(door): State<Door>,
                Path(place): Path<Place>,
                Body(spec): Body<TokenSpec>,
            ) -> Result<(StatusCode, Json<NewToken>), ApiError> {
                let token = door.make_token(place.into(), spec).await?;
                Ok((StatusCode::CREATED, Json(token)))
            }

            #[utoipa::path(delete, path = $token, tag = "users", operation_id = concat!("revoke_token_of_", $tag),
                params($($of)* ("name" = Name, Path), ("id" = String, Path)),
                responses((status = 204), (status = "default", body = ApiError)))]
            async fn revoke_one(
                State(door): State<Door>,
                Path(place): Path<TokenPlace>,
            ) -> Result<StatusCode, ApiError> {
                let TokenPlace { vdc, name, id } = place;
                door.revoke_token(UserKey { vdc, name }, id).await.map(|()| StatusCode::NO_CONTENT)
            }

            pub(super) fn router() -> OpenApiRouter<Door> {
                OpenApiRouter::new()
                    .routes(routes!(list_all, create_one))
                    .routes(routes!(get_one, replace_one, delete_one))
                    .routes(routes!(make_one))
                    .routes(routes!(revoke_one))
            }
        }
    };
}

#[rustfmt::skip]
users_of!(of_fabric, "users", [], "/v1/users", "/v1/users/{name}",
    "/v1/users/{name}/tokens", "/v1/users/{name}/tokens/{id}");
#[rustfmt::skip]
users_of!(of_vdc, "vdc_users", [("vdc" = Name, Path),], "/v1/vdcs/{vdc}/users", "/v1/vdcs/{vdc}/users/{name}",
    "/v1/vdcs/{vdc}/users/{name}/tokens", "/v1/vdcs/{vdc}/users/{name}/tokens/{id}");

/// Who the caller is, and what it may do.
#[utoipa::path(get, path = "/v1/whoami", tag = "users",
    responses((status = 200, body = WhoAmI), (status = "default", body = ApiError)))]
async fn whoami() -> Result<Json<WhoAmI>, ApiError> {
    let caller = caller()?;
    Ok(Json(WhoAmI {
        user: caller.name.clone(),
        proof: caller.proof.clone(),
        roles: caller.roles.clone(),
        expires_ms: caller.expires_ms,
    }))
}

/// `?limit=&before=` of the audit log.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Paging {
    /// Most records to return (1 to 1000); 100 when left out.
    limit: Option<usize>,
    /// Only records before this one, the `next` of the previous page.
    before: Option<u64>,
}

fn records(door: &Door, vdc: Option<&Name>, paging: &Paging) -> Result<Json<AuditPage>, ApiError> {
    let limit = paging.limit.unwrap_or(RECORDS);
    if !(1..=PAGE_LIMIT).contains(&limit) {
        let expected = format!("a number from 1 to {PAGE_LIMIT}");
        return Err(ApiError::field(ErrorCode::Malformed, "limit", limit, expected));
    }
    Ok(Json(door.audit(vdc, paging.before, limit)))
}

/// Calls that changed something or were refused, the newest first.
#[utoipa::path(get, path = "/v1/audit", tag = "users", params(Paging),
    responses((status = 200, body = AuditPage), (status = "default", body = ApiError)))]
async fn audit(State(door): State<Door>, Query(paging): Query<Paging>) -> Result<Json<AuditPage>, ApiError> {
    records(&door, None, &paging)
}

/// The same for calls that name one vDC.
#[utoipa::path(get, path = "/v1/vdcs/{vdc}/audit", tag = "users", params(("vdc" = Name, Path), Paging),
    responses((status = 200, body = AuditPage), (status = "default", body = ApiError)))]
async fn audit_of_vdc(
    State(door): State<Door>,
    Path(vdc): Path<Name>,
    Query(paging): Query<Paging>,
) -> Result<Json<AuditPage>, ApiError> {
    records(&door, Some(&vdc), &paging)
}

pub(super) fn router() -> OpenApiRouter<Door> {
    of_fabric::router()
        .merge(of_vdc::router())
        .routes(routes!(whoami))
        .routes(routes!(audit))
        .routes(routes!(audit_of_vdc))
}

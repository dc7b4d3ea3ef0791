//! Handlers of the inventory.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::extract::{Body, Path, Query};
use super::{Mutation, Service};
use crate::enrolment::{EnrolmentTokenSpec, HostToken, SwitchToken};
use crate::error::{ApiError, ErrorCode};
use crate::ident::{Name, PortId};
use crate::inventory::{HostItem, Inventory, InventoryChange, Item, ItemKey, SwitchItem};
use crate::lifecycle::{Lifecycle, ReplaceSpec, RetireSpec};
use crate::machine::{Install, InstallSpec, Reboot, RebootSpec};
use crate::provisioning::Provisioning;
use crate::service::{Change, Outcome};
use crate::topology::{Fabric, Host, Link, Switch, Topology};

/// `?cascade=&dry_run=&wait=&reason=` of removals.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct RemoveOptions {
    /// Also remove what uses it: links of a switch, hosts under a leaf, attachments there.
    #[serde(default)]
    cascade: bool,
    /// Plan only: the response says what would change; nothing is changed.
    #[serde(default)]
    dry_run: bool,
    /// Seconds (fractions allowed) to wait until every device has applied it.
    wait: Option<f64>,
    /// Why, for the history (at most 500 octets).
    #[serde(default)]
    reason: String,
}

impl RemoveOptions {
    fn remove(self, key: ItemKey) -> (InventoryChange, Mutation) {
        let Self {
            cascade,
            dry_run,
            wait,
            reason,
        } = self;
        let mutation = Mutation {
            wait,
            dry_run,
            reason,
            owner: None,
            force: false,
            cascade: false,
        };
        (InventoryChange::Remove { key, cascade }, mutation)
    }
}

async fn commit(service: &Service, change: InventoryChange, mutation: Mutation) -> Result<Json<Outcome>, ApiError> {
    let outcome = super::objects::commit(service, Change::Inventory(change), &mutation).await?;
    Ok(Json(outcome))
}

fn same_name(path: &Name, body: &Name) -> Result<(), ApiError> {
    if path == body {
        return Ok(());
    }
    let expected = format!("`{path}`, the name in the path");
    Err(ApiError::field(ErrorCode::Invalid, "name", body, expected))
}

/// The whole inventory: every switch, link and host with its identity and its state.
#[utoipa::path(get, path = "/v1/inventory", tag = "inventory", responses((status = 200, body = Inventory)))]
async fn get_inventory(State(service): State<Service>) -> Json<Inventory> {
    Json(service.inventory().await)
}

/// Changes the inventory to match a topology file; with `dry_run`, shows the differences.
#[utoipa::path(put, path = "/v1/inventory", tag = "inventory", params(Mutation), request_body = Topology,
    responses((status = 200, body = Outcome), (status = "default", body = ApiError)))]
async fn put_inventory(
    State(service): State<Service>,
    Query(options): Query<Mutation>,
    Body(topology): Body<Topology>,
) -> Result<Json<Outcome>, ApiError> {
    commit(&service, InventoryChange::Import(Box::new(topology)), options).await
}

/// Changes the settings of the fabric as a whole.
#[utoipa::path(put, path = "/v1/inventory/fabric", tag = "inventory", params(Mutation), request_body = Fabric,
    responses((status = 200, body = Outcome), (status = "default", body = ApiError)))]
async fn put_fabric(
    State(service): State<Service>,
    Query(options): Query<Mutation>,
    Body(fabric): Body<Fabric>,
) -> Result<Json<Outcome>, ApiError> {
    commit(&service, InventoryChange::Put(Item::Fabric(fabric)), options).await
}

/// How each switch came into service, or how far it is.
#[utoipa::path(get, path = "/v1/inventory/provisioning", tag = "inventory", responses((status = 200, body = Vec<Provisioning>)))]
async fn provisioning(State(service): State<Service>) -> Json<Vec<Provisioning>> {
    Json(service.provisioning().await)
}

/// How a switch came into service, or how far it is.
#[utoipa::path(get, path = "/v1/inventory/switches/{name}/provisioning", tag = "inventory", params(("name" = Name, Path)),
    responses((status = 200, body = Provisioning), (status = "default", body = ApiError)))]
async fn provisioning_of(
    State(service): State<Service>,
    Path(name): Path<Name>,
) -> Result<Json<Provisioning>, ApiError> {
    let all = service.provisioning().await;
    let found = all.into_iter().find(|line| line.switch == name);
    let found = found.ok_or_else(|| ApiError::not_found(ItemKey::Switch(name)))?;
    Ok(Json(found))
}

/// Makes a token with which the agent of this host gets its certificate, once. It ends the token that was made before.
#[utoipa::path(post, path = "/v1/inventory/hosts/{name}/enrolment-token", tag = "inventory", params(("name" = Name, Path)),
    request_body = EnrolmentTokenSpec, responses((status = 201, body = HostToken), (status = "default", body = ApiError)))]
async fn make_host_token(
    State(service): State<Service>,
    Path(name): Path<Name>,
    Body(spec): Body<EnrolmentTokenSpec>,
) -> Result<(StatusCode, Json<HostToken>), ApiError> {
    // A wrong body is refused as such, also where no host can enrol.
    spec.lifetime_s()?;
    let token = service.make_host_token(&name, spec).await?;
    Ok((StatusCode::CREATED, Json(token)))
}

/// Makes a token with which this switch, if it has no IDevID, gets its certificate, once. The token that was made
/// before ends.
#[utoipa::path(post, path = "/v1/inventory/switches/{name}/enrolment-token", tag = "inventory", params(("name" = Name, Path)),
    request_body = EnrolmentTokenSpec, responses((status = 201, body = SwitchToken), (status = "default", body = ApiError)))]
async fn make_switch_token(
    State(service): State<Service>,
    Path(name): Path<Name>,
    Body(spec): Body<EnrolmentTokenSpec>,
) -> Result<(StatusCode, Json<SwitchToken>), ApiError> {
    spec.lifetime_s()?;
    let token = service.make_switch_token(&name, spec).await?;
    Ok((StatusCode::CREATED, Json(token)))
}

/// Restarts a switch (gNOI System). Unless `now` is set, it is drained first and stays drained.
#[utoipa::path(post, path = "/v1/inventory/switches/{name}/reboot", tag = "inventory", params(("name" = Name, Path)),
    request_body = RebootSpec, responses((status = 202, body = Reboot), (status = "default", body = ApiError)))]
async fn reboot(
    State(service): State<Service>,
    Path(name): Path<Name>,
    Body(spec): Body<RebootSpec>,
) -> Result<(StatusCode, Json<Reboot>), ApiError> {
    spec.wait()?;
    let drain = Mutation {
        reason: spec.reason.clone(),
        ..Mutation::default()
    };
    let origin = drain.origin()?;
    let reboot = service.reboot(&name, spec, origin).await?;
    Ok((StatusCode::ACCEPTED, Json(reboot)))
}

/// Installs an uploaded image on a switch (gNOI OS), then drains and restarts it. An event reports the
/// result.
#[utoipa::path(post, path = "/v1/inventory/switches/{name}/install", tag = "inventory", params(("name" = Name, Path)),
    request_body = InstallSpec, responses((status = 202, body = Install), (status = "default", body = ApiError)))]
async fn install(
    State(service): State<Service>,
    Path(name): Path<Name>,
    Body(spec): Body<InstallSpec>,
) -> Result<(StatusCode, Json<Install>), ApiError> {
    spec.reboot.wait()?;
    let drain = Mutation {
        reason: spec.reboot.reason.clone(),
        ..Mutation::default()
    };
    let install = service.install(&name, spec, drain.origin()?).await?;
    Ok((StatusCode::ACCEPTED, Json(install)))
}

/// Makes another machine this switch (RMA): drains it, revokes the identity of the old machine, and lets the new one enrol, which comes into
/// service without a further call. With `dry_run`, says what would be done.
#[utoipa::path(post, path = "/v1/inventory/switches/{name}/replace", tag = "inventory", params(("name" = Name, Path)),
    request_body = ReplaceSpec, responses((status = 200, body = Lifecycle), (status = "default", body = ApiError)))]
async fn replace_machine(
    State(service): State<Service>,
    Path(name): Path<Name>,
    Body(spec): Body<ReplaceSpec>,
) -> Result<Json<Lifecycle>, ApiError> {
    spec.check()?;
    let change = Mutation {
        reason: spec.reason.clone(),
        ..Mutation::default()
    };
    Ok(Json(service.replace_machine(&name, spec, change.origin()?).await?))
}

/// Takes a switch out of the fabric for good: drains it, removes its links and itself, and revokes its identity. With `dry_run`, says what
/// would be done.
#[utoipa::path(post, path = "/v1/inventory/switches/{name}/retire", tag = "inventory", params(("name" = Name, Path)),
    request_body = RetireSpec, responses((status = 200, body = Lifecycle), (status = "default", body = ApiError)))]
async fn retire(
    State(service): State<Service>,
    Path(name): Path<Name>,
    Body(spec): Body<RetireSpec>,
) -> Result<Json<Lifecycle>, ApiError> {
    spec.drain().wait()?;
    let change = Mutation {
        reason: spec.reason.clone(),
        ..Mutation::default()
    };
    Ok(Json(service.retire(&name, spec, change.origin()?).await?))
}

/// Cables two switches.
#[utoipa::path(post, path = "/v1/inventory/links", tag = "inventory", params(Mutation), request_body = Link,
    responses((status = 200, body = Outcome), (status = "default", body = ApiError)))]
async fn create_link(
    State(service): State<Service>,
    Query(options): Query<Mutation>,
    Body(link): Body<Link>,
) -> Result<Json<Outcome>, ApiError> {
    commit(&service, InventoryChange::Put(Item::Link(link)), options).await
}

/// Removes the link at a port.
#[utoipa::path(delete, path = "/v1/inventory/links/{switch}/{port}", tag = "inventory",
    params(("switch" = Name, Path), ("port" = PortId, Path), Mutation),
    responses((status = 200, body = Outcome), (status = "default", body = ApiError)))]
async fn delete_link(
    State(service): State<Service>,
    Path((switch, port)): Path<(Name, PortId)>,
    Query(options): Query<Mutation>,
) -> Result<Json<Outcome>, ApiError> {
    let links = service.inventory().await.links;
    let at = |l: &&crate::inventory::LinkItem| {
        [&l.spec.a, &l.spec.b]
            .into_iter()
            .any(|end| end.switch == switch && end.port == port)
    };
    let link = links.iter().find(at);
    let link = link.ok_or_else(|| ApiError::not_found(format_args!("a link at port {port} of `{switch}`")))?;
    let key = ItemKey::link(&link.spec);
    commit(&service, InventoryChange::Remove { key, cascade: false }, options).await
}

/// The handlers of a kind of device.
macro_rules! device {
    ($module:ident, $kind:ident, $spec:ty, $item:ty, $tag:literal, $path:literal, $drain:literal, $undrain:literal,
        $gone:literal) => {
        mod $module {
            use super::*;

            /// One device with its identity and its state.
            #[utoipa::path(get, path = $path, tag = "inventory", operation_id = concat!("get_inventory_", $tag),
                                params(("name" = Name, Path)),
                                responses((status = 200, body = $item), (status = "default", body = ApiError)))]
            async fn get_one(State(service): State<Service>, Path(name): Path<Name>) -> Result<Json<$item>, ApiError> {
                let all = service.inventory().await.$module;
                let found = all.into_iter().find(|item| item.spec.name == name);
                found
                    .map(Json)
                    .ok_or_else(|| ApiError::not_found(ItemKey::$kind(name)))
            }

            /// Adds a device, or changes it.
            #[utoipa::path(put, path = $path, tag = "inventory", operation_id = concat!("put_inventory_", $tag),
                                params(("name" = Name, Path), Mutation), request_body = $spec,
                                responses((status = 200, body = Outcome), (status = "default", body = ApiError)))]
            async fn put_one(
                State(service): State<Service>,
                Path(name): Path<Name>,
                Query(options): Query<Mutation>,
                Body(spec): Body<$spec>,
            ) -> Result<Json<Outcome>, ApiError> {
                same_name(&name, &spec.name)?;
                commit(&service, InventoryChange::Put(Item::$kind(spec)), options).await
            }

            /// Removes a device that nothing uses; with `cascade`, also the objects that use it.
            #[utoipa::path(delete, path = $path, tag = "inventory", operation_id = concat!("delete_inventory_", $tag),
                                params(("name" = Name, Path), RemoveOptions),
                                responses((status = 200, body = Outcome), (status = "default", body = ApiError)))]
            async fn delete_one(
                State(service): State<Service>,
                Path(name): Path<Name>,
                Query(options): Query<RemoveOptions>,
            ) -> Result<Json<Outcome>, ApiError> {
                let (change, options) = options.remove(ItemKey::$kind(name));
                commit(&service, change, options).await
            }

            /// Paths avoid it while there are others; it gets no new attachments.
            #[utoipa::path(post, path = $drain, tag = "inventory", operation_id = concat!("drain_", $tag),
                                params(("name" = Name, Path), Mutation),
                                responses((status = 200, body = Outcome), (status = "default", body = ApiError)))]
            async fn drain(
                State(service): State<Service>,
                Path(name): Path<Name>,
                Query(options): Query<Mutation>,
            ) -> Result<Json<Outcome>, ApiError> {
                commit(&service, InventoryChange::Drain(ItemKey::$kind(name)), options).await
            }

            /// Puts it back into service.
            #[utoipa::path(post, path = $undrain, tag = "inventory", operation_id = concat!("undrain_", $tag),
                                params(("name" = Name, Path), Mutation),
                                responses((status = 200, body = Outcome), (status = "default", body = ApiError)))]
            async fn undrain(
                State(service): State<Service>,
                Path(name): Path<Name>,
                Query(options): Query<Mutation>,
            ) -> Result<Json<Outcome>, ApiError> {
                commit(&service, InventoryChange::Undrain(ItemKey::$kind(name)), options).await
            }

            /// Declares it dead: its neighbours shut it out, then its numbers are free.
            #[utoipa::path(post, path = $gone, tag = "inventory", operation_id = concat!("gone_", $tag),
                                params(("name" = Name, Path), Mutation),
                                responses((status = 200, body = Outcome), (status = "default", body = ApiError)))]
            async fn gone(
                State(service): State<Service>,
                Path(name): Path<Name>,
                Query(options): Query<Mutation>,
            ) -> Result<Json<Outcome>, ApiError> {
                commit(&service, InventoryChange::Gone(ItemKey::$kind(name)), options).await
            }

            pub(super) fn router() -> OpenApiRouter<Service> {
                OpenApiRouter::new()
                    .routes(routes!(get_one, put_one, delete_one))
                    .routes(routes!(drain))
                    .routes(routes!(undrain))
                    .routes(routes!(gone))
            }
        }
    };
}

device!(
    switches,
    Switch,
    Switch,
    SwitchItem,
    "switch",
    "/v1/inventory/switches/{name}",
    "/v1/inventory/switches/{name}/drain",
    "/v1/inventory/switches/{name}/undrain",
    "/v1/inventory/switches/{name}/gone"
);
device!(
    hosts,
    Host,
    Host,
    HostItem,
    "host",
    "/v1/inventory/hosts/{name}",
    "/v1/inventory/hosts/{name}/drain",
    "/v1/inventory/hosts/{name}/undrain",
    "/v1/inventory/hosts/{name}/gone"
);

pub(super) fn router() -> OpenApiRouter<Service> {
    OpenApiRouter::new()
        .routes(routes!(get_inventory, put_inventory))
        .routes(routes!(put_fabric))
        .routes(routes!(provisioning))
        .routes(routes!(provisioning_of))
        .routes(routes!(make_host_token))
        .routes(routes!(make_switch_token))
        .routes(routes!(reboot))
        .routes(routes!(install))
        .routes(routes!(replace_machine))
        .routes(routes!(retire))
        .routes(routes!(create_link))
        .routes(routes!(delete_link))
        .merge(switches::router())
        .merge(hosts::router())
}

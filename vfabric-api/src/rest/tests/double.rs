//! A service and its access control in memory, and calls to them.

use std::sync::Mutex;

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use fabric_identity::Peer;
use futures::future::BoxFuture;
use tower::ServiceExt;

use crate::access::{
    AuditPage, AuditRecord, Binding, Caller, Grants, NewToken, Role, TokenSpec, User, UserKey, UserSpec,
};
use crate::enrolment::{EnrolmentTokenSpec, HostToken, SwitchToken};
use crate::error::{ApiError, ErrorCode};
use crate::event::{Event, EventReason, Events};
use crate::history::{Changes, Diff, History, Revision};
use crate::ident::Name;
use crate::intent::Intent;
use crate::lifecycle::{Lifecycle, ReplaceSpec, RetireSpec};
use crate::machine::{Install, InstallSpec, Reboot, RebootSpec};
use crate::provisioning::Provisioning;
use crate::rest::*;
use crate::service::{ApplyOptions, Change, Committed, Key, Kind, Origin, Page, Repeatable, Rollback, Transaction};
use crate::status::*;

pub(in crate::rest) const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// Remembers created vDCs, and its responses to calls with a key; refuses everything else.
#[derive(Default)]
pub(in crate::rest) struct Memory(Mutex<Vec<Vdc>>, Mutex<Vec<(Repeatable, Committed)>>);

impl FabricService for Memory {
    async fn commit(&self, transaction: Transaction) -> Result<Committed, ApiError> {
        let repeatable = transaction.origin.repeatable;
        let mut answered = self.1.lock().unwrap();
        let known = answered
            .iter()
            .find(|(known, _)| Some(known.key) == repeatable.map(|r| r.key));
        match known {
            Some((known, committed)) if Some(*known) == repeatable => return Ok(committed.clone()),
            Some(_) => return Err(ApiError::new(ErrorCode::Invalid, "another call with this key")),
            None => {}
        }
        let mut committed = Committed {
            revision: 7,
            ..Committed::default()
        };
        for (_, change) in transaction.changes {
            let Change::Create(name, crate::service::Spec::Vdc(spec)) = change else {
                return Err(ApiError::new(ErrorCode::InUse, "in use"));
            };
            self.0.lock().unwrap().push(Vdc {
                spec,
                networks: 0,
                routers: 0,
                attachments: 0,
                owner: None,
                revision: 7,
            });
            committed.created.push(Key::vdc(name));
        }
        let again = Committed {
            replay: Some(Default::default()),
            ..committed.clone()
        };
        answered.extend(repeatable.map(|repeatable| (repeatable, again)));
        Ok(committed)
    }
    async fn apply(&self, _: Intent, _: ApplyOptions) -> Result<Committed, ApiError> {
        Err(ApiError::field(
            ErrorCode::Invalid,
            "vdcs[0].networks[0].mtu",
            99,
            "at least 1280",
        ))
    }
    async fn rollback(&self, rollback: Rollback) -> Result<Committed, ApiError> {
        Err(ApiError::field(ErrorCode::Gone, "to", rollback.to, "at least 7"))
    }
    async fn history(&self, _: Option<u64>, _: usize) -> Result<History, ApiError> {
        Ok(History::default())
    }
    async fn revision(&self, revision: u64) -> Result<Revision, ApiError> {
        Err(ApiError::not_found(revision))
    }
    async fn diff(&self, from: u64, to: u64) -> Result<Diff, ApiError> {
        Ok(Diff {
            from,
            to,
            ..Diff::default()
        })
    }
    async fn changes(&self, after: u64, _: usize) -> Result<Changes, ApiError> {
        if after == 1 {
            return Err(ApiError::field(ErrorCode::Gone, "after", after, "at least 2"));
        }
        let labels = |value: &str| match value {
            "" => Default::default(),
            value => [("tier".parse().unwrap(), value.parse().unwrap())].into(),
        };
        let revision = |number: u64| {
            let vdc = ["acme", "other"][number as usize % 2];
            let created = vec![Key::vdc(vdc.parse().unwrap())];
            Arc::new(Revision {
                revision: number,
                time_ms: 1,
                origin: Default::default(),
                objects: crate::history::Objects {
                    labels: [(
                        created[0].clone(),
                        [labels(""), labels(if number < 7 { "a" } else { "b" })],
                    )]
                    .into(),
                    created,
                    ..Default::default()
                },
                inventory: vec!["host h1".into()],
            })
        };
        Ok(Changes {
            items: (after + 1..=7).map(revision).collect(),
            upto: 7,
        })
    }
    fn revision_now(&self) -> u64 {
        7
    }
    async fn changed(&self, after: u64) {
        if after >= 7 {
            std::future::pending::<()>().await;
        }
    }
    async fn get(&self, key: &Key) -> Result<View, ApiError> {
        let found = self.0.lock().unwrap().iter().find(|v| v.spec.name == key.name).cloned();
        found.map(View::Vdc).ok_or_else(|| ApiError::not_found(key))
    }
    async fn list(
        &self,
        _: Kind,
        _: Option<&Name>,
        _: &crate::labels::Selector,
        _: Option<&str>,
        limit: usize,
    ) -> Result<Page<View>, ApiError> {
        let items = self
            .0
            .lock()
            .unwrap()
            .iter()
            .take(limit)
            .cloned()
            .map(View::Vdc)
            .collect();
        Ok(Page { items, next: None })
    }
    async fn wait_applied(&self, revision: u64, _: Duration) -> Applied {
        Applied {
            revision,
            progress: Progress::Applied,
            devices: 0,
            applied: 0,
            waiting: Vec::new(),
        }
    }
    async fn fabric(&self) -> FabricStatus {
        let none = Count { ok: 0, total: 0 };
        FabricStatus {
            name: "lab".parse().unwrap(),
            revision: 7,
            switches: none,
            hosts: none,
            links: none,
            vdcs: 0,
            networks: 0,
            routers: 0,
            attachments: 0,
            vnis_in_quarantine: 0,
            store_fault: None,
            set_aside: Vec::new(),
            warnings: Vec::new(),
        }
    }
    async fn inventory(&self) -> crate::inventory::Inventory {
        let topology = crate::topology::Topology::from_yaml(
            r#"
fabric: { name: lab }
switches:
  - { name: leaf1, role: leaf, device_id: 2, loopback_ipv4: 10.255.0.2, loopback_ipv6: "fd00:255::2", p4runtime: "192.0.2.2:9559" }
"#,
        );
        let topology = topology.unwrap();
        let items = topology.switches.iter().map(|spec| crate::inventory::SwitchItem {
            spec: spec.clone(),
            uid: 1,
            vtep_id: Some(1),
            state: crate::inventory::ItemState::InService,
            waiting: Vec::new(),
            machine: None,
        });
        crate::inventory::Inventory {
            switches: items.collect(),
            fabric: topology.fabric,
            links: Vec::new(),
            hosts: Vec::new(),
            set_aside: Vec::new(),
        }
    }
    async fn provisioning(&self) -> Vec<Provisioning> {
        Vec::new()
    }
    async fn switches(&self) -> Vec<SwitchStatus> {
        Vec::new()
    }
    async fn hosts(&self) -> Vec<HostStatus> {
        Vec::new()
    }
    async fn make_host_token(&self, host: &Name, _: EnrolmentTokenSpec) -> Result<HostToken, ApiError> {
        Err(ApiError::not_found(format_args!("host `{host}`")))
    }
    async fn make_switch_token(&self, switch: &Name, _: EnrolmentTokenSpec) -> Result<SwitchToken, ApiError> {
        Err(ApiError::not_found(format_args!("switch `{switch}`")))
    }
    async fn reboot(&self, switch: &Name, _: RebootSpec, _: Origin) -> Result<Reboot, ApiError> {
        Err(ApiError::not_found(format_args!("switch `{switch}`")))
    }
    async fn install(&self, switch: &Name, _: InstallSpec, _: Origin) -> Result<Install, ApiError> {
        Err(ApiError::not_found(format_args!("switch `{switch}`")))
    }
    async fn replace_machine(&self, switch: &Name, _: ReplaceSpec, _: Origin) -> Result<Lifecycle, ApiError> {
        Err(ApiError::not_found(format_args!("switch `{switch}`")))
    }
    async fn retire(&self, switch: &Name, _: RetireSpec, _: Origin) -> Result<Lifecycle, ApiError> {
        Err(ApiError::not_found(format_args!("switch `{switch}`")))
    }
    async fn links(&self) -> Vec<LinkStatus> {
        Vec::new()
    }
    async fn drops(&self) -> Drops {
        Drops::default()
    }
    async fn health(&self) -> Result<Vec<String>, String> {
        Ok(Vec::new())
    }
    async fn metrics(&self) -> String {
        "# EOF\n".into()
    }
    fn events(&self, after: Option<u64>, limit: usize, sees: &(dyn Fn(Option<&Name>) -> bool + Sync)) -> Events {
        let event = |number: u64| Event {
            number,
            time_ms: 1,
            first_ms: 1,
            count: 1,
            reason: EventReason::Waiting,
            warning: false,
            vdc: ["acme", "other", ""][number as usize % 3].parse().ok(),
            object: None,
            device: None,
            detail: String::new(),
        };
        let all = (after.unwrap_or_default() + 1..=9).map(event);
        Events {
            items: all.filter(|event| sees(event.vdc.as_ref())).take(limit).collect(),
            upto: 9,
        }
    }
    fn event_now(&self) -> u64 {
        9
    }
    async fn happened(&self, after: u64) {
        if after >= 9 {
            std::future::pending::<()>().await;
        }
    }
    async fn backup(&self) -> Result<crate::service::Backup, ApiError> {
        Err(ApiError::new(ErrorCode::Unavailable, "there is no file"))
    }
    async fn tables(&self, _: Option<&Name>) -> Result<Vec<TableUse>, ApiError> {
        Ok(Vec::new())
    }
    async fn entities_of(&self, key: &Key) -> Result<Vec<ObjectEntity>, ApiError> {
        Err(ApiError::not_found(key))
    }
    async fn entities(&self, device: &Name) -> Result<Vec<DeviceEntity>, ApiError> {
        if device.as_str() == "leaf1" {
            return Err(ApiError::new(ErrorCode::Unavailable, "leaf1 is not connected"));
        }
        Err(ApiError::not_found(format_args!("device `{device}`")))
    }
}

/// Knows the administrator's token, and a token for each role: `fabric-viewer`, and those of vDC `acme`.
#[derive(Default)]
pub(in crate::rest) struct Door {
    pub(super) records: Mutex<Vec<AuditRecord>>,
    pub(super) fault: Mutex<Option<String>>,
}

impl Access for Door {
    fn identify<'a>(&'a self, token: Option<&'a str>, _: Option<&'a Peer>) -> BoxFuture<'a, Result<Caller, String>> {
        let role = match token.unwrap_or_default() {
            TOKEN => Some(Role::FabricAdmin),
            name => serde_json::from_value(name.into()).ok(),
        };
        let caller = role.map(|role: Role| {
            let vdc = (!role.is_of_fabric()).then(|| "acme".parse().unwrap());
            let roles = vec![Binding { role, vdc }];
            Caller {
                name: format!("user-{role}"),
                proof: "token 1".into(),
                grants: Grants::of(&roles),
                roles,
                expires_ms: None,
            }
        });
        Box::pin(std::future::ready(caller.ok_or_else(|| "no valid bearer token".into())))
    }
    fn users(&self, _: Option<&Name>) -> Vec<User> {
        Vec::new()
    }
    fn user(&self, _: &UserKey) -> Option<User> {
        None
    }
    fn put_user(&self, vdc: Option<Name>, spec: UserSpec, _: bool) -> BoxFuture<'_, Result<User, ApiError>> {
        let is_own = |b: &Binding| vdc.is_none() || b.vdc == vdc;
        assert!(
            spec.roles.iter().all(is_own),
            "a role of another vDC came through: {spec:?}"
        );
        let tokens = Vec::new();
        Box::pin(std::future::ready(Ok(User { spec, tokens })))
    }
    fn delete_user(&self, key: UserKey) -> BoxFuture<'_, Result<(), ApiError>> {
        Box::pin(std::future::ready(Err(ApiError::not_found(key))))
    }
    fn make_token(&self, key: UserKey, _: TokenSpec) -> BoxFuture<'_, Result<NewToken, ApiError>> {
        Box::pin(std::future::ready(Err(ApiError::not_found(key))))
    }
    fn revoke_token(&self, key: UserKey, _: String) -> BoxFuture<'_, Result<(), ApiError>> {
        Box::pin(std::future::ready(Err(ApiError::not_found(key))))
    }
    fn can_record(&self) -> Result<(), String> {
        self.fault.lock().unwrap().clone().map_or(Ok(()), Err)
    }
    fn record(&self, record: AuditRecord) -> BoxFuture<'_, ()> {
        self.records.lock().unwrap().push(record);
        Box::pin(std::future::ready(()))
    }
    fn audit(&self, _: Option<&Name>, _: Option<u64>, _: usize) -> AuditPage {
        AuditPage::default()
    }
}

/// The result of a call.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) kind: String,
    pub(super) request_id: String,
    pub(super) body: serde_json::Value,
}

pub(super) async fn ask(method: &str, path: &str, token: &str, body: &str) -> Answer {
    let router = router(Arc::new(Memory::default()), Arc::new(Door::default()), Rate::default());
    ask_of(&router, method, path, token, body).await
}

pub(super) async fn ask_of(router: &axum::Router, method: &str, path: &str, token: &str, body: &str) -> Answer {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::AUTHORIZATION, format!("Bearer {token}"))
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::HOST, "localhost")
        .header("x-request-id", "test-1")
        .body(Body::from(body.to_owned()))
        .unwrap();
    let response = router.clone().oneshot(request).await.unwrap();
    let header = |name: &str| {
        response
            .headers()
            .get(name)
            .map(|v| v.to_str().unwrap().to_owned())
            .unwrap_or_default()
    };
    let (status, kind, request_id) = (response.status(), header("content-type"), header("x-request-id"));
    let bytes = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
    Answer {
        status,
        kind,
        request_id,
        body: serde_json::from_slice(&bytes).unwrap_or_default(),
    }
}

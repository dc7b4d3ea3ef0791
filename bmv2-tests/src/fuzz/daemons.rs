//! Fuzz targets of the daemons: what arrives over REST, as YAML, on the VTEP stream, by gNMI, LLDP and netlink.

use std::sync::{Arc, OnceLock};

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use fabric_controller::controller::Controller;
use fabric_controller::render::FabricRender;
use fabric_controller::store::MemoryStore;
use fabric_controller::topology::lldp::{Probe, Prober};
use gnmi_proto::gnmi;
use gnmi_proto::gnmi::g_nmi_server::GNmi as _;
use p4_switch::gnmi::memory::MemoryInterfaces;
use p4_switch::gnmi::path;
use p4_switch::gnmi::service::Service;
use p4_switch::gnmi::tree::{Counters, Interface};
use prost::Message;
use tower::ServiceExt as _;
use vfabric_api::access::{AuditPage, AuditRecord, Caller, Grants, NewToken, TokenSpec, User, UserKey, UserSpec};
use vfabric_api::error::{ApiError, ErrorCode};
use vfabric_api::ident::{Mac, Name};
use vfabric_api::intent::Intent;
use vfabric_api::rest::{Access, Rate, router};
use vfabric_api::topology::Topology;
use vtep_proto::{HostEntity, HostKey, v1};

use super::Target;

/// The targets.
pub(super) const TARGETS: [Target; 6] = [
    Target {
        name: "rest",
        about: "any request gets a response, and a refusal has a code; first line: method and path, the rest is the \
            body",
        seeds: requests,
        body: rest,
    },
    Target {
        name: "yaml",
        about: "any document is an intent, a topology or one line of error; what was read is the same after it is \
            written and read again",
        seeds: documents,
        body: yaml,
    },
    Target {
        name: "vtep",
        about: "any object of the stream is refused, or is the same after it is encoded and decoded",
        seeds: objects,
        body: vtep,
    },
    Target {
        name: "gnmi",
        about: "any Get or Set gets a reply, and a refused Set changes nothing",
        seeds: sets,
        body: gnmi,
    },
    Target {
        name: "lldp",
        about: "no frame other than a probe is taken for a probe",
        seeds: probes,
        body: lldp,
    },
    Target {
        name: "netlink",
        about: "any message from the kernel can be read",
        seeds: datagrams,
        body: netlink,
    },
];

const TOPOLOGY: &str = include_str!("../../../fabricctl/lab/topology.yaml");
const INTENT: &str = include_str!("../../../fabricctl/lab/intent.yaml");

/// A runtime for the calls of a target. Several threads, because some calls block in place.
fn runtime() -> Result<&'static tokio::runtime::Runtime, String> {
    static RUNTIME: OnceLock<Result<tokio::runtime::Runtime, String>> = OnceLock::new();
    let new = || {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let built = builder.worker_threads(1).enable_all().build();
        built.map_err(|e| e.to_string())
    };
    RUNTIME.get_or_init(new).as_ref().map_err(Clone::clone)
}

/// Allows every caller everything, and has no users.
struct Open;

fn nobody() -> ApiError {
    ApiError::new(ErrorCode::NotFound, "there are no users")
}

impl Access for Open {
    fn identify<'a>(
        &'a self,
        _: Option<&'a str>,
        _: Option<&'a fabric_identity::Peer>,
    ) -> futures::future::BoxFuture<'a, Result<Caller, String>> {
        let caller = Caller {
            name: "fuzz".into(),
            proof: "none".into(),
            roles: Vec::new(),
            grants: Grants::all(),
            expires_ms: None,
        };
        Box::pin(std::future::ready(Ok(caller)))
    }

    fn users(&self, _: Option<&Name>) -> Vec<User> {
        Vec::new()
    }

    fn user(&self, _: &UserKey) -> Option<User> {
        None
    }

    fn put_user(
        &self,
        _: Option<Name>,
        _: UserSpec,
        _: bool,
    ) -> futures::future::BoxFuture<'_, Result<User, ApiError>> {
        Box::pin(std::future::ready(Err(nobody())))
    }

    fn delete_user(&self, _: UserKey) -> futures::future::BoxFuture<'_, Result<(), ApiError>> {
        Box::pin(std::future::ready(Err(nobody())))
    }

    fn make_token(&self, _: UserKey, _: TokenSpec) -> futures::future::BoxFuture<'_, Result<NewToken, ApiError>> {
        Box::pin(std::future::ready(Err(nobody())))
    }

    fn revoke_token(&self, _: UserKey, _: String) -> futures::future::BoxFuture<'_, Result<(), ApiError>> {
        Box::pin(std::future::ready(Err(nobody())))
    }

    fn can_record(&self) -> Result<(), String> {
        Ok(())
    }

    fn record(&self, _: AuditRecord) -> futures::future::BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }

    fn audit(&self, _: Option<&Name>, _: Option<u64>, _: usize) -> AuditPage {
        AuditPage::default()
    }
}

fn requests() -> Vec<Vec<u8>> {
    let link = r#"{"a":{"switch":"leaf1","port":7},"b":{"switch":"spine1","port":7}}"#;
    let network =
        r#"{"name":"web","subnets":[{"cidr":"10.0.0.0/24","gateway":"10.0.0.1"}],"mtu":1500,"labels":{"a":"b"}}"#;
    let attachment = r#"{"name":"a","network":"web","mac":"02:00:00:00:00:01","ips":["10.0.0.2"],"place":{"host":{"host":"host1","netns":"a","interface":"eth0"}}}"#;
    let apply = r#"{"vdcs":[{"name":"blue","networks":[{"name":"web","vni":5000,"subnets":[{"cidr":"fd00::/64"}]}],"routers":[{"name":"r","networks":["web"],"routes":[]}],"attachments":[{"name":"m","network":"web","place":{"port":{"switch":"leaf1","port":9,"vlan":7}}}],"remove":[{"kind":"network","name":"old"}]}]}"#;
    let user = r#"{"name":"alice","roles":[{"role":"vdc-editor","vdc":"blue"}]}"#;
    [
        ("POST /v1/vdcs", r#"{"name":"blue","description":"x","hosts":["host1"],"limits":{"networks":3}}"#),
        ("PUT /v1/vdcs/blue", r#"{"name":"blue","vnis":[{"first":5000,"last":5009}]}"#),
        ("PATCH /v1/vdcs/blue", r#"{"description":null}"#),
        ("POST /v1/vdcs/blue/networks", network),
        ("POST /v1/vdcs/blue/attachments?dry_run=true&reason=why&owner=file:a&force=true", attachment),
        ("POST /v1/apply?prune=true", apply),
        ("POST /v1/inventory/links", link),
        ("PUT /v1/inventory/hosts/host1", r#"{"name":"host1","uplink":{"switch":"leaf1","port":5},"mac":"02:00:00:00:01:01","vtep_ipv4":"10.255.1.1","vtep_ipv6":"fd00:255:1::1"}"#),
        ("POST /v1/inventory/hosts/host1/drain", ""),
        ("POST /v1/history/1/rollback?vdc=blue", ""),
        ("GET /v1/vdcs?limit=2&after=a&labels=a%3Db&fields=spec.name", ""),
        ("GET /v1/diff?from=0&to=1", ""),
        ("GET /v1/devices/leaf1/entities", ""),
        ("POST /v1/users", user),
        ("POST /v1/users/alice/tokens", r#"{"days":3}"#),
    ]
    .map(|(head, body)| format!("{head}\n{body}").into_bytes())
    .into()
}

/// A request to a controller with an empty intent and no devices.
fn rest(data: &[u8]) -> Result<(), String> {
    let (head, body) = data.split_at(data.iter().position(|o| *o == b'\n').unwrap_or(data.len()));
    let body = body.get(1..).unwrap_or_default().to_vec();
    let Ok(head) = std::str::from_utf8(head) else {
        return Ok(());
    };
    let (method, path) = head.split_once(' ').unwrap_or(("POST", head));
    // No device ever applies anything, so a wait would last for its full time.
    if path.contains("wait") {
        return Ok(());
    }
    let request = Request::builder().method(method).uri(path).header(header::HOST, "fuzz");
    let request = request.header(header::AUTHORIZATION, "Bearer fuzz");
    // HTTP itself refuses some requests; these do not get this far.
    let Ok(request) = request.body(Body::from(body)) else {
        return Ok(());
    };
    runtime()?.block_on(async {
        let topology = Topology::from_yaml(TOPOLOGY).map_err(|e| e.to_string())?;
        let controller = Controller::load(topology, MemoryStore::default(), Arc::new(FabricRender)).await;
        let controller = controller.map_err(|e| e.to_string())?;
        let router = router(controller, Arc::new(Open), Rate::default());
        let answer = router.oneshot(request).await.map_err(|e| e.to_string())?;
        let status = answer.status();
        if status == StatusCode::INTERNAL_SERVER_ERROR {
            return Err(format!("{head}: {status}"));
        }
        if status.is_client_error() || status.is_server_error() {
            let body = axum::body::to_bytes(answer.into_body(), usize::MAX).await;
            let body = body.map_err(|e| e.to_string())?;
            // The response to HEAD has no body (RFC 9110, section 9.3.2).
            let problem: Result<serde_json::Value, _> = serde_json::from_slice(&body);
            let has_code = problem.as_ref().is_ok_and(|p| p["code"].is_string());
            if !has_code && method != "HEAD" {
                return Err(format!("{head}: {status} without a code: {}", body.escape_ascii()));
            }
        }
        Ok(())
    })
}

fn documents() -> Vec<Vec<u8>> {
    let all = [
        "a: &a [1, 2]\nb: *a\n",
        "vdcs: []\n",
        "- x\n- {y: 'z', n: !!int 3}\n",
        TOPOLOGY,
        INTENT,
    ];
    all.map(|text| text.as_bytes().to_vec()).into()
}

fn yaml(data: &[u8]) -> Result<(), String> {
    let text = String::from_utf8_lossy(data);
    let one_line = |error: &dyn std::fmt::Display| {
        let said = error.to_string();
        match said.lines().count() {
            1 => Ok(()),
            _ => Err(format!("an error of several lines: {said}")),
        }
    };
    match vfabric_api::yaml::read::<Intent>(&text) {
        Err(error) => one_line(&error)?,
        Ok(intent) => {
            let written = serde_saphyr::to_string(&intent).map_err(|e| e.to_string())?;
            let again: Intent = vfabric_api::yaml::read(&written).map_err(|e| format!("{e}: {written}"))?;
            if again != intent {
                return Err(format!("{intent:?} is read back as {again:?}"));
            }
        }
    }
    if let Ok(topology) = Topology::from_yaml(&text) {
        let written = serde_saphyr::to_string(&topology).map_err(|e| e.to_string())?;
        let again = Topology::from_yaml(&written).map_err(|e| format!("{e}: {written}"))?;
        if again != topology {
            return Err(format!("{topology:?} is read back as {again:?}"));
        }
    }
    Ok(())
}

fn objects() -> Vec<Vec<u8>> {
    use v1::host_object::Object;
    let objects = [
        Object::Network(v1::Network::default()),
        Object::Fdb(v1::FdbEntry::default()),
        Object::Neighbour(v1::Neighbour::default()),
        Object::Attachment(v1::Attachment {
            id: "blue/web1".into(),
            vni: 5000,
            netns: "web1".into(),
            interface: "eth0".into(),
            mac: vec![2, 0, 0, 0, 0, 1],
            ..v1::Attachment::default()
        }),
    ];
    let objects: Vec<v1::HostObject> = objects.map(|object| v1::HostObject { object: Some(object) }).into();
    let mut seeds: Vec<Vec<u8>> = objects.iter().map(Message::encode_to_vec).collect();
    let update = v1::Update {
        sequence: 1,
        epoch: 7,
        upserts: objects,
        ..v1::Update::default()
    };
    let message = v1::controller_message::Message::Update(update);
    let message = v1::ControllerMessage { message: Some(message) };
    seeds.push(message.encode_to_vec());
    let hello = v1::Hello {
        host: "host1".into(),
        uplink_mac: vec![2, 0, 0, 0, 1, 1],
        ..v1::Hello::default()
    };
    let message = v1::agent_message::Message::Hello(hello);
    seeds.push(v1::AgentMessage { message: Some(message) }.encode_to_vec());
    seeds
}

fn vtep(data: &[u8]) -> Result<(), String> {
    if let Ok(key) = v1::ObjectKey::decode(data)
        && let Ok(key) = HostKey::try_from(&key)
        && HostKey::try_from(&v1::ObjectKey::from(&key)).as_ref() != Ok(&key)
    {
        return Err(format!("{key:?} is read back differently"));
    }
    let mut objects: Vec<v1::HostObject> = v1::HostObject::decode(data).into_iter().collect();
    if let Ok(message) = v1::ControllerMessage::decode(data)
        && let Some(v1::controller_message::Message::Update(update)) = message.message
    {
        objects.extend(update.upserts);
    }
    if let Ok(message) = v1::AgentMessage::decode(data)
        && let Some(v1::agent_message::Message::ReadReply(reply)) = message.message
    {
        objects.extend(reply.objects.into_iter().filter_map(|held| held.object));
    }
    for object in objects {
        match HostEntity::try_from(&object) {
            // The report of the refusal can still name the object.
            Err(_) => drop(vtep_proto::invalid_key(&object)),
            Ok(entity) => {
                let again = HostEntity::try_from(&v1::HostObject::from(&entity));
                if again.as_ref() != Ok(&entity) {
                    return Err(format!("{entity:?} is read back as {again:?}"));
                }
            }
        }
    }
    Ok(())
}

fn interface(name: &str, id: u32) -> Interface {
    Interface {
        name: name.into(),
        id,
        ifindex: id,
        enabled: true,
        shut: false,
        is_up: true,
        mtu: 9216,
        mac: [2, 0, 0, 0, 0, 1],
        speed_bps: Some(10_000_000_000),
        ethernet: Default::default(),
        description: String::new(),
        counters: Counters::default(),
    }
}

/// The path of a leaf of an interface's configuration.
fn config(leaf: &str) -> gnmi::Path {
    let elems = [
        path::Elem::new("interfaces"),
        path::Elem::keyed("interface", "name", "p1"),
        path::Elem::new("config"),
        path::Elem::new(leaf),
    ];
    path::to_wire(&elems)
}

/// The first octet says which request follows: 0 is `Get`, all others are `Set`.
fn sets() -> Vec<Vec<u8>> {
    use gnmi::typed_value::Value;
    let update = |leaf: &str, value: Value| gnmi::Update {
        path: Some(config(leaf)),
        val: Some(gnmi::TypedValue { value: Some(value) }),
        ..gnmi::Update::default()
    };
    let set = gnmi::SetRequest {
        delete: vec![config("description")],
        replace: vec![update("enabled", Value::BoolVal(false))],
        update: vec![
            update("mtu", Value::UintVal(1500)),
            update("description", Value::StringVal("x".into())),
            update("enabled", Value::JsonIetfVal(b"true".to_vec())),
        ],
        ..gnmi::SetRequest::default()
    };
    let get = gnmi::GetRequest {
        path: vec![config("mtu")],
        ..gnmi::GetRequest::default()
    };
    let tree = br#"{"openconfig-interfaces:interface":[{"name":"p1","config":{"name":"p1","mtu":1500,"openconfig-p4rt:id":3}}]}"#;
    let tree = gnmi::SetRequest {
        update: vec![gnmi::Update {
            path: Some(path::to_wire(&[path::Elem::new("interfaces")])),
            val: Some(gnmi::TypedValue {
                value: Some(Value::JsonIetfVal(tree.to_vec())),
            }),
            ..gnmi::Update::default()
        }],
        ..gnmi::SetRequest::default()
    };
    let with = |kind: u8, octets: Vec<u8>| [vec![kind], octets].concat();
    vec![
        with(0, get.encode_to_vec()),
        with(1, set.encode_to_vec()),
        with(1, tree.encode_to_vec()),
    ]
}

fn gnmi(data: &[u8]) -> Result<(), String> {
    let (kind, data) = data.split_first().unwrap_or((&0, &[][..]));
    let source = MemoryInterfaces::new("leaf", [interface("p1", 1), interface("p2", 2)]);
    let service = Service::new(Arc::new(source.with_spare([interface("p3", 3)])));
    runtime()?.block_on(async {
        if *kind == 0 {
            if let Ok(request) = gnmi::GetRequest::decode(data) {
                // A reply or a refusal: both are right.
                drop(service.get(tonic::Request::new(request)).await);
            }
            return Ok(());
        }
        let Ok(request) = gnmi::SetRequest::decode(data) else {
            return Ok(());
        };
        let configured = || async {
            let request = gnmi::GetRequest {
                r#type: gnmi::get_request::DataType::Config.into(),
                ..gnmi::GetRequest::default()
            };
            let answer = service.get(tonic::Request::new(request)).await;
            let answer = answer.map_err(|status| status.to_string())?.into_inner();
            Ok::<_, String>(answer.notification.into_iter().map(|n| n.update).collect::<Vec<_>>())
        };
        let before = configured().await?;
        // In a separate task, because it may block in place.
        let set = service.clone();
        let result = tokio::spawn(async move { set.set(tonic::Request::new(request)).await }).await;
        let result = result.map_err(|e| e.to_string())?;
        let after = configured().await?;
        match result {
            Err(status) if before != after => Err(format!("{status}, and {before:?} became {after:?}")),
            _ => Ok(()),
        }
    })
}

const SECRET: [u8; 32] = [7; 32];

fn probe() -> Probe {
    Probe {
        switch: "leaf1".into(),
        port: vfabric_api::ident::PortId::try_from(3u16).unwrap_or_else(|_| unreachable!("a port")),
        sequence: 9,
    }
}

fn probes() -> Vec<Vec<u8>> {
    let frame = Prober::new(&SECRET).frame(&probe(), Mac([2, 0xfa, 0xb0, 0, 0, 3]));
    let foreign = Prober::new(&[8; 32]).frame(&probe(), Mac([2, 0xfa, 0xb0, 0, 0, 3]));
    vec![frame, foreign, Vec::new()]
}

/// All but the MAC addresses is signed, so only the probe itself can be read.
fn lldp(data: &[u8]) -> Result<(), String> {
    match Prober::new(&SECRET).read(data) {
        Some(read) if read != probe() => Err(format!("{read:?} was never sent")),
        _ => Ok(()),
    }
}

fn datagrams() -> Vec<Vec<u8>> {
    // RTM_NEWLINK (16) of a link `ab` in a multipart answer, an acknowledgement, and the end (3).
    let message = |kind: u16, flags: u16, payload: &[u8]| {
        let length = u32::try_from(16 + payload.len()).unwrap_or_default();
        let mut all = length.to_ne_bytes().to_vec();
        all.extend(kind.to_ne_bytes());
        all.extend(flags.to_ne_bytes());
        all.extend([1, 0, 0, 0, 0, 0, 0, 0]);
        all.extend(payload);
        all
    };
    let mut link = vec![0; 16];
    link.extend([7, 0, 3, 0, b'a', b'b', 0, 0]);
    let mut refused = (-22i32).to_ne_bytes().to_vec();
    refused.extend(message(16, 5, &[])[..16].iter());
    refused.extend([9, 0, 1, 0, b'N', b'o', b'!', 0, 0, 0, 0, 0]);
    // A list of one element of a set: NFTA_SET_ELEM_LIST_ELEMENTS, element, key, value.
    let element = [
        24, 0, 3, 0x80, 20, 0, 1, 0x80, 16, 0, 1, 0x80, 10, 0, 1, 0, 7, 7, 7, 7, 7, 7, 0, 0,
    ];
    vec![
        [message(16, 2, &link), message(3, 2, &[0; 4])].concat(),
        message(2, 0x300, &refused),
        element.to_vec(),
    ]
}

fn netlink(data: &[u8]) -> Result<(), String> {
    vtep_agent::datapath::kernel::read_any(data);
    Ok(())
}

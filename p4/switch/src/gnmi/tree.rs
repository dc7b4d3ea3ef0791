//! The data tree: OpenConfig interfaces (with ethernet and p4rt augmentations) and system, as leaves of plain values
//! (gNMI specification, section 2.2.3).
//!
//! Leaves are generated per interface, so a query about one interface costs one interface.

use std::sync::{Arc, LazyLock};
use std::time::{SystemTime, UNIX_EPOCH};

use gnmi_proto::gnmi;
use serde_json::{Map, Value as Json, json};
use tokio::sync::broadcast;
use tonic::Status;

use super::ethernet::{Ethernet, Fec, Settings, speed_identity};
use super::path::{Elem, Path, covers};

/// Frame counters of an interface since it was attached.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Bytes received.
    pub in_octets: u64,
    /// Frames received.
    pub in_pkts: u64,
    /// Received frames that were dropped before the pipeline.
    pub in_discards: u64,
    /// Received frames with errors.
    pub in_errors: u64,
    /// Bytes sent.
    pub out_octets: u64,
    /// Frames sent.
    pub out_pkts: u64,
    /// Frames dropped in front of a full port.
    pub out_discards: u64,
    /// Frames that could not be sent.
    pub out_errors: u64,
}

/// One switch port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Unique name.
    pub name: String,
    /// P4Runtime port number (openconfig-p4rt `id`).
    pub id: u32,
    /// Kernel interface index; 0 if the port has none.
    pub ifindex: u32,
    /// Whether the port is administratively up now, no matter who set it so.
    pub enabled: bool,
    /// Whether a `Set` shut it down: the configured administrative state.
    pub shut: bool,
    /// Operational state.
    pub is_up: bool,
    /// Largest frame payload in bytes.
    pub mtu: u16,
    /// Hardware address.
    pub mac: [u8; 6],
    /// Bits per second, if the port knows.
    pub speed_bps: Option<u64>,
    /// Negotiation and forward error correction.
    pub ethernet: Ethernet,
    /// Description.
    pub description: String,
    /// Frame counters.
    pub counters: Counters,
}

/// Counters of the pipeline as a whole, in frames since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PipelineState {
    /// P4Runtime device id.
    pub node_id: u64,
    /// Packet-ins and digests that were handed to the P4Runtime server.
    pub punted: u64,
    /// Packet-ins and digests that did not reach a controller: it reads too slowly, or there is none.
    pub punts_lost: u64,
    /// Frames that were lost because there was no program, or no port with the number that it chose.
    pub dropped: u64,
}

/// The ports and the name of the switch, as gNMI needs them.
pub trait Interfaces: Send + Sync + 'static {
    /// All ports.
    fn list(&self) -> Vec<Interface>;
    /// One port.
    fn get(&self, name: &str) -> Option<Interface>;
    /// Sets the administrative state.
    ///
    /// # Errors
    /// The error of the port's owner (the kernel).
    fn set_enabled(&self, name: &str, enabled: bool) -> Result<(), Status>;
    /// Sets the MTU in bytes.
    ///
    /// # Errors
    /// The error of the port's owner (the kernel).
    fn set_mtu(&self, name: &str, mtu: u16) -> Result<(), Status>;
    /// Sets the description.
    ///
    /// # Errors
    /// There is no such port.
    fn set_description(&self, name: &str, description: &str) -> Result<(), Status>;
    /// Changes how a port works on the wire. A setting that is `None` stays as the device has it.
    ///
    /// # Errors
    /// There is no such port, or its device cannot do it; the message names leaf and port. In that case the device is unchanged.
    fn set_ethernet(&self, name: &str, settings: Settings) -> Result<(), Status>;
    /// Checks that a port may be added on this device under this number. The caller has checked that no other port has
    /// the name or number.
    ///
    /// # Errors
    /// Why not.
    fn check_new(&self, name: &str, id: u32) -> Result<(), Status>;
    /// Adds a port; returns its interface.
    ///
    /// # Errors
    /// Its device does not exist or cannot be opened.
    fn add(&self, name: &str, id: u32) -> Result<Interface, Status>;
    /// Removes a port; its device stays as it is.
    ///
    /// # Errors
    /// There is no such port.
    fn remove(&self, name: &str) -> Result<(), Status>;
    /// Counters of the pipeline.
    fn pipeline(&self) -> PipelineState;
    /// The switch's name.
    fn hostname(&self) -> String;
    /// Renames the switch.
    ///
    /// # Errors
    /// If the name cannot be stored.
    fn set_hostname(&self, hostname: &str) -> Result<(), Status>;
    /// Notifies of every change except those of counters: the interface, or `None` for the system.
    fn changes(&self) -> broadcast::Receiver<Option<Arc<str>>>;
}

/// A leaf's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Text and enumerations.
    Text(String),
    /// Numbers.
    Number(u64),
    /// Numbers that RFC 7951 writes as text in JSON (64 bits).
    Number64(u64),
    /// Truth values.
    Bool(bool),
}

impl Value {
    /// As RFC 7951 JSON.
    pub fn to_json(&self) -> Json {
        match self {
            Self::Text(text) => json!(text),
            Self::Number(number) => json!(number),
            Self::Number64(number) => json!(number.to_string()),
            Self::Bool(value) => json!(value),
        }
    }

    /// As a scalar of encoding `PROTO`.
    pub fn to_proto(&self) -> gnmi::TypedValue {
        use gnmi::typed_value::Value as Wire;
        let value = match self {
            Self::Text(text) => Wire::StringVal(text.clone()),
            Self::Number(number) | Self::Number64(number) => Wire::UintVal(*number),
            Self::Bool(value) => Wire::BoolVal(*value),
        };
        gnmi::TypedValue { value: Some(value) }
    }
}

/// A path and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    /// From the root.
    pub path: Path,
    /// The value.
    pub value: Value,
    /// Whether it is configuration (as opposed to state).
    pub is_config: bool,
    /// Whether it changes all the time, so that a subscription has to sample it.
    pub is_counter: bool,
}

/// All leaves that a pattern covers.
pub fn select(source: &dyn Interfaces, pattern: &[Elem]) -> Vec<Leaf> {
    let mut leaves = system(&source.hostname());
    leaves.extend(pipeline(source.pipeline()));
    let named = match pattern {
        [root, ..] if root.name.ends_with("components") || root.name.ends_with("system") => {
            leaves.retain(|leaf| covers(pattern, &leaf.path));
            return leaves;
        }
        [root, interface, ..] if !root.name.contains("...") => {
            interface.keys.get("name").filter(|name| name.as_str() != "*")
        }
        _ => None,
    };
    match named {
        Some(name) => leaves.extend(source.get(name).iter().flat_map(interface)),
        None => leaves.extend(source.list().iter().flat_map(interface)),
    }
    leaves.retain(|leaf| covers(pattern, &leaf.path));
    leaves
}

/// Whether a pattern names something that exists in the model, whether or not an instance exists.
pub fn is_known(pattern: &[Elem]) -> bool {
    let name = pattern
        .get(1)
        .and_then(|elem| elem.keys.get("name"))
        .map_or("*", String::as_str);
    let example = Interface {
        name: name.to_owned(),
        id: 0,
        ifindex: 0,
        enabled: true,
        shut: false,
        is_up: true,
        mtu: 0,
        mac: [0; 6],
        speed_bps: Some(0),
        ethernet: Ethernet {
            config: Settings {
                speed_bps: Some(0),
                auto_negotiate: Some(true),
                fec: Some(Fec::Auto),
            },
            auto_negotiate: Some(true),
            fec: Some(Fec::Auto),
        },
        description: String::new(),
        counters: Counters::default(),
    };
    let fixed = system("").into_iter().chain(pipeline(PipelineState::default()));
    let mut leaves = fixed.chain(interface(&example));
    leaves.any(|leaf| covers(pattern, &leaf.path))
}

/// When the process began, in nanoseconds since 1970 (openconfig-system, `boot-time`).
static BOOT_TIME: LazyLock<u64> = LazyLock::new(|| {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
});

/// Records this moment as the start of the process; only the first call counts.
pub fn booted() {
    LazyLock::force(&BOOT_TIME);
}

fn system(hostname: &str) -> Vec<Leaf> {
    let leaf = |container: &str| Leaf {
        path: vec![Elem::new("system"), Elem::new(container), Elem::new("hostname")],
        value: Value::Text(hostname.to_owned()),
        is_config: container == "config",
        is_counter: false,
    };
    let boot_time = Leaf {
        path: ["system", "state", "boot-time"].map(Elem::new).to_vec(),
        value: Value::Number64(*BOOT_TIME),
        is_config: false,
        is_counter: false,
    };
    vec![leaf("config"), leaf("state"), boot_time]
}

/// Name of the packet engine's component.
const COMPONENT: &str = "pipeline";

/// The packet engine as a component (openconfig-platform, openconfig-platform-pipeline-counters).
fn pipeline(state: PipelineState) -> Vec<Leaf> {
    let leaf = |below: &[&str], value: Value| {
        let base = [Elem::new("components"), Elem::keyed("component", "name", COMPONENT)];
        Leaf {
            path: base
                .into_iter()
                .chain(below.iter().map(|name| Elem::new(name)))
                .collect(),
            value,
            is_config: below.contains(&"config"),
            is_counter: below.contains(&"pipeline-counters"),
        }
    };
    let name = || Value::Text(COMPONENT.to_owned());
    let counter = |kind: &str, name: &str, value: u64| {
        let below = ["integrated-circuit", "pipeline-counters", kind, "state", name];
        leaf(&below, Value::Number64(value))
    };
    vec![
        leaf(&["name"], name()),
        leaf(&["config", "name"], name()),
        leaf(&["state", "name"], name()),
        leaf(
            &["state", "type"],
            Value::Text("openconfig-platform-types:INTEGRATED_CIRCUIT".to_owned()),
        ),
        leaf(
            &["integrated-circuit", "config", "node-id"],
            Value::Number64(state.node_id),
        ),
        leaf(
            &["integrated-circuit", "state", "node-id"],
            Value::Number64(state.node_id),
        ),
        counter("control-plane-traffic", "queued-aggregate", state.punted),
        counter("control-plane-traffic", "dropped-aggregate", state.punts_lost),
        counter("drop", "packet-processing-aggregate", state.dropped),
    ]
}

/// Leaves of one interface.
pub fn interface(port: &Interface) -> Vec<Leaf> {
    let base = [Elem::new("interfaces"), Elem::keyed("interface", "name", &port.name)];
    let mut leaves = Vec::with_capacity(32);
    let mut add = |below: &[&str], value: Value| {
        let path: Path = base
            .iter()
            .cloned()
            .chain(below.iter().map(|name| Elem::new(name)))
            .collect();
        let is_config = below.contains(&"config");
        let is_counter = below.contains(&"counters");
        leaves.push(Leaf {
            path,
            value,
            is_config,
            is_counter,
        });
    };
    let text = |text: &str| Value::Text(text.to_owned());
    let status = |up: bool| text(if up { "UP" } else { "DOWN" });
    add(&["name"], text(&port.name));
    for container in ["config", "state"] {
        add(&[container, "name"], text(&port.name));
        add(&[container, "type"], text("iana-if-type:ethernetCsmacd"));
        let enabled = if container == "config" {
            !port.shut
        } else {
            port.enabled
        };
        add(&[container, "enabled"], Value::Bool(enabled));
        add(&[container, "mtu"], Value::Number(port.mtu.into()));
        add(&[container, "id"], Value::Number(port.id.into()));
        add(&[container, "description"], text(&port.description));
    }
    add(&["state", "ifindex"], Value::Number(port.ifindex.into()));
    add(&["state", "admin-status"], status(port.enabled));
    add(&["state", "oper-status"], status(port.is_up));
    let counters = &port.counters;
    for (name, value) in [
        ("in-octets", counters.in_octets),
        ("in-pkts", counters.in_pkts),
        ("in-discards", counters.in_discards),
        ("in-errors", counters.in_errors),
        ("out-octets", counters.out_octets),
        ("out-pkts", counters.out_pkts),
        ("out-discards", counters.out_discards),
        ("out-errors", counters.out_errors),
    ] {
        add(&["state", "counters", name], Value::Number64(value));
    }
    let mac = port.mac.map(|byte| format!("{byte:02x}")).join(":");
    add(&["ethernet", "state", "mac-address"], Value::Text(mac.clone()));
    add(&["ethernet", "state", "hw-mac-address"], Value::Text(mac));
    let identity = |name: &str| text(&format!("openconfig-if-ethernet:{name}"));
    let (wire, config) = (&port.ethernet, &port.ethernet.config);
    add(
        &["ethernet", "state", "port-speed"],
        identity(speed_identity(port.speed_bps)),
    );
    // A leaf that was not set does not exist.
    if let Some(speed) = config.speed_bps {
        add(
            &["ethernet", "config", "port-speed"],
            identity(speed_identity(Some(speed))),
        );
    }
    for (container, auto_negotiate, fec) in [
        ("config", config.auto_negotiate, config.fec),
        ("state", wire.auto_negotiate, wire.fec),
    ] {
        if let Some(on) = auto_negotiate {
            add(&["ethernet", container, "auto-negotiate"], Value::Bool(on));
        }
        if let Some(fec) = fec {
            add(&["ethernet", container, "fec-mode"], identity(fec.identity()));
        }
    }
    leaves
}

/// Leaves below `root` as one RFC 7951 document; a leaf itself is its bare value.
pub fn to_json(root: &[Elem], leaves: &[Leaf]) -> Json {
    let mut document = Json::Object(Map::new());
    for leaf in leaves {
        let Some(below) = leaf.path.get(root.len()..) else {
            continue;
        };
        if below.is_empty() {
            return leaf.value.to_json();
        }
        insert(&mut document, below, leaf.value.to_json());
    }
    document
}

fn module(name: &str) -> Option<&'static str> {
    match name {
        "interfaces" => Some("openconfig-interfaces"),
        "system" => Some("openconfig-system"),
        "ethernet" => Some("openconfig-if-ethernet"),
        "id" | "node-id" => Some("openconfig-p4rt"),
        "components" => Some("openconfig-platform"),
        "pipeline-counters" => Some("openconfig-platform-pipeline-counters"),
        _ => None,
    }
}

fn insert(document: &mut Json, path: &[Elem], value: Json) {
    let Some((first, rest)) = path.split_first() else {
        return;
    };
    let Json::Object(object) = document else { return };
    let name = module(&first.name).map_or(first.name.clone(), |module| format!("{module}:{}", first.name));
    if rest.is_empty() {
        object.insert(name, value);
        return;
    }
    let child = object.entry(name);
    if first.keys.is_empty() {
        insert(child.or_insert_with(|| json!({})), rest, value);
        return;
    }
    let Json::Array(list) = child.or_insert_with(|| json!([])) else {
        return;
    };
    let is_entry = |entry: &Json| {
        first
            .keys
            .iter()
            .all(|(key, wanted)| entry.get(key) == Some(&json!(wanted)))
    };
    let place = list.iter().position(is_entry).unwrap_or_else(|| {
        list.push(json!(first.keys));
        list.len() - 1
    });
    insert(&mut list[place], rest, value);
}

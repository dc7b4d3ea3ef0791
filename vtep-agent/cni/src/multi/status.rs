//! The result for a pod's networks, in the form in which the client library of the working group writes it into the
//! annotation `k8s.v1.cni.cncf.io/network-status` (NPWG 5).
//!
//! There is no pod object to write to, so each pod has a file with the text of the annotation. Beside it is the id of
//! the container that it belongs to, so that a late DEL of an older container does not touch it.

use std::fs::{self, File};
use std::io::{self, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::journal::{Attachment, PodRef, Sandbox};
use crate::error::{self, Error};

/// Most octets of a file that describes a device.
const MAX_DEVICE_INFO: u64 = 64 << 10;

/// Name servers.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Dns {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    nameservers: Vec<String>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    domain: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    search: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    options: Vec<String>,
}

/// The status of one interface. Keys and their order are those of the library.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct NetworkStatus {
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    interface: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ips: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    mac: String,
    #[serde(skip_serializing_if = "is_zero")]
    mtu: u64,
    #[serde(skip_serializing_if = "is_false")]
    default: bool,
    dns: Dns,
    #[serde(rename = "device-info", skip_serializing_if = "Option::is_none")]
    device_info: Option<Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    gateway: Vec<String>,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's signature
fn is_false(b: &bool) -> bool {
    !*b
}

/// The parts of a result that are needed for the status.
#[derive(Deserialize, Default)]
struct Parts {
    #[serde(default)]
    interfaces: Vec<Interface>,
    #[serde(default)]
    ips: Vec<Ip>,
    #[serde(default)]
    routes: Vec<ResultRoute>,
    #[serde(default)]
    dns: Dns,
}

#[derive(Deserialize)]
struct Interface {
    #[serde(default)]
    name: String,
    #[serde(default)]
    mac: String,
    #[serde(default)]
    mtu: u64,
    #[serde(default)]
    sandbox: String,
}

#[derive(Deserialize)]
struct Ip {
    address: IpNet,
    #[serde(default)]
    interface: Option<i64>,
    #[serde(default)]
    gateway: Option<IpAddr>,
}

#[derive(Deserialize)]
struct ResultRoute {
    dst: IpNet,
    #[serde(default)]
    gw: Option<IpAddr>,
}

/// The description of a device, if a plugin has written one.
fn device_info(path: &Path) -> Result<Option<Value>, Error> {
    let wrong = |why: &str| Error::new(error::DELEGATE, format!("device info {}: {why}", path.display()));
    match fs::metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Ok(m) if m.is_file() && m.len() <= MAX_DEVICE_INFO => {}
        _ => return Err(wrong("expected a file of at most 64 KiB")),
    }
    let text = fs::read(path).map_err(|e| wrong(&e.kind().to_string()))?;
    let value: Value = serde_json::from_slice(&text).map_err(|e| wrong(&e.to_string()))?;
    let kind = value.get("type").and_then(Value::as_str).unwrap_or_default();
    if !matches!(kind, "pci" | "vhost-user" | "memif" | "vdpa") {
        return Err(wrong(&format!(
            "type: `{kind}`: expected pci, vhost-user, memif or vdpa"
        )));
    }
    if !value.get(kind).is_some_and(Value::is_object) {
        return Err(wrong(&format!("{kind}: expected an object")));
    }
    Ok(Some(value))
}

/// The statuses of one attachment: one for each interface in the container, at least one.
///
/// # Errors
/// When the result or the description of the device is wrong.
fn of(attachment: &Attachment) -> Result<Vec<NetworkStatus>, Error> {
    let wrong = |e: serde_json::Error| {
        let message = format!("network {}: result: {e}", attachment.network);
        Error::new(error::DELEGATE, message)
    };
    let parts = attachment.result.as_deref().map(serde_json::from_str::<Parts>);
    let parts = parts.transpose().map_err(wrong)?.unwrap_or_default();
    let device_info = attachment
        .device_info
        .as_deref()
        .map(device_info)
        .transpose()?
        .flatten();
    let defaults = parts.routes.iter().filter(|r| r.dst.prefix_len() == 0);
    let gateway = defaults.filter_map(|r| r.gw).map(|gw| gw.to_string()).collect();
    let blank = NetworkStatus {
        name: attachment.network.clone(),
        dns: parts.dns,
        device_info,
        gateway,
        ..NetworkStatus::default()
    };
    let address = |ip: &Ip| ip.address.addr().to_string();
    if parts.interfaces.len() <= 1 {
        // All addresses are the interface's, whatever index they have.
        let mut status = blank;
        status.default = attachment.default;
        status.ips = parts.ips.iter().map(address).collect();
        if let Some(interface) = parts.interfaces.iter().find(|i| !i.sandbox.is_empty()) {
            (status.interface, status.mac, status.mtu) = (interface.name.clone(), interface.mac.clone(), interface.mtu);
        } else {
            // A plugin that returns no interface has made the requested one (NPWG 5.1.1).
            status.interface = attachment.interface.clone();
        }
        return Ok(vec![status]);
    }
    // The first interface with a gateway is the default one, else the first in the container.
    let inside: Vec<usize> = (0..parts.interfaces.len())
        .filter(|i| !parts.interfaces[*i].sandbox.is_empty())
        .collect();
    let index = |ip: &Ip| ip.interface.and_then(|i| usize::try_from(i).ok());
    let with_gateway = parts
        .ips
        .iter()
        .find(|ip| ip.gateway.is_some() && ip.interface.is_some());
    let default = with_gateway.map_or(inside.first().copied(), index);
    let status = |(place, i): (usize, &usize)| {
        let interface = &parts.interfaces[*i];
        // Addresses without an index go to the last one.
        let is_last = place + 1 == inside.len();
        let own = |ip: &&Ip| index(ip) == Some(*i) || (ip.interface.is_none() && is_last);
        NetworkStatus {
            interface: interface.name.clone(),
            mac: interface.mac.clone(),
            mtu: interface.mtu,
            default: attachment.default && default == Some(*i),
            ips: parts.ips.iter().filter(own).map(address).collect(),
            ..blank.clone()
        }
    };
    Ok(inside.iter().enumerate().map(status).collect())
}

/// The text of the annotation: documents with four spaces of indentation, commas between, in brackets.
///
/// # Errors
/// As for [`write()`].
pub fn text(attachments: &[Attachment]) -> Result<String, Error> {
    let mut documents = Vec::new();
    for status in attachments.iter().map(of) {
        for status in status? {
            let mut text = Vec::new();
            let style = serde_json::ser::PrettyFormatter::with_indent(b"    ");
            let mut writer = serde_json::Serializer::with_formatter(&mut text, style);
            let wrong = |e: serde_json::Error| Error::io(e.to_string());
            status.serialize(&mut writer).map_err(wrong)?;
            documents.push(String::from_utf8(text).map_err(|e| Error::io(e.to_string()))?);
        }
    }
    Ok(format!("[{}]", documents.join(",")))
}

/// The file of a pod's status.
pub fn path(folder: &Path, pod: &PodRef) -> PathBuf {
    // No name of a namespace has an underscore.
    folder.join(format!("{}_{}.json", pod.namespace, pod.name))
}

/// Makes others that write or remove files in the folder wait. Hold it only for quick work.
fn locked(folder: &Path) -> io::Result<Flock<File>> {
    fs::create_dir_all(folder)?;
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(folder.join(".lock"))?;
    Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, e)| e.into())
}

/// Writes a pod's status. Returns its text.
///
/// # Errors
/// When a result or a description of a device is wrong, or the file cannot be written.
pub fn write(folder: &Path, sandbox: &Sandbox) -> Result<String, Error> {
    let text = text(&sandbox.attachments)?;
    let path = path(folder, &sandbox.pod);
    let write = || -> io::Result<()> {
        let _lock = locked(folder)?;
        for (extension, text) in [("owner", &sandbox.slot.container), ("json", &text)] {
            let new = path.with_extension("new");
            File::create(&new)?.write_all(text.as_bytes())?;
            fs::rename(&new, path.with_extension(extension))?;
        }
        Ok(())
    };
    write().map_err(|e| Error::io(format!("statusDir: {}: {}", path.display(), e.kind())))?;
    Ok(text)
}

/// Removes a pod's status, unless it belongs to another container.
///
/// # Errors
/// When the file cannot be removed.
pub fn remove(folder: &Path, sandbox: &Sandbox) -> Result<(), Error> {
    let path = path(folder, &sandbox.pod);
    let remove = || -> io::Result<()> {
        let _lock = locked(folder)?;
        let owner = fs::read_to_string(path.with_extension("owner")).ok();
        if owner.as_ref() != Some(&sandbox.slot.container) {
            return Ok(());
        }
        for extension in ["json", "owner"] {
            match fs::remove_file(path.with_extension(extension)) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
        }
        Ok(())
    };
    remove().map_err(|e| Error::io(format!("statusDir: {}: {}", path.display(), e.kind())))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::journal::{self, tests::sandbox};
    use super::*;

    fn attachment(network: &str, default: bool, result: &Value) -> Attachment {
        Attachment {
            network: network.into(),
            default,
            result: Some(result.to_string()),
            ..journal::tests::attachment("n", "net1")
        }
    }

    #[test]
    fn the_text_is_the_librarys() {
        let eth0 = json!({ "interfaces": [{ "name": "cni0" }, { "name": "eth0", "mac": "02:00:00:00:00:01", "mtu": 1450,
            "sandbox": "/n" }], "ips": [{ "address": "10.0.0.5/24", "interface": 1, "gateway": "10.0.0.1" }],
            "routes": [{ "dst": "0.0.0.0/0", "gw": "10.0.0.1" }], "dns": { "nameservers": ["10.0.0.53"] } });
        let net1 = json!({ "interfaces": [{ "name": "net1", "mac": "02:00:00:00:00:02", "sandbox": "/n" }],
            "ips": [{ "address": "fd00::5/64", "interface": 0 }] });
        let shown = text(&[attachment("tenants", true, &eth0), attachment("blue/a", false, &net1)]).unwrap();
        let expected = r#"[{
    "name": "tenants",
    "interface": "eth0",
    "ips": [
        "10.0.0.5"
    ],
    "mac": "02:00:00:00:00:01",
    "mtu": 1450,
    "default": true,
    "dns": {
        "nameservers": [
            "10.0.0.53"
        ]
    },
    "gateway": [
        "10.0.0.1"
    ]
},{
    "name": "blue/a",
    "interface": "net1",
    "ips": [
        "fd00::5"
    ],
    "mac": "02:00:00:00:00:02",
    "dns": {}
}]"#;
        assert_eq!(shown, expected);
    }

    #[test]
    fn a_plugin_may_make_several_interfaces_or_say_nothing() {
        let two = json!({ "interfaces": [{ "name": "a", "sandbox": "/n" }, { "name": "host" }, { "name": "b", "sandbox": "/n" }],
            "ips": [{ "address": "10.0.0.1/24", "interface": 0 }, { "address": "10.0.1.1/24", "interface": 2,
            "gateway": "10.0.1.254" }, { "address": "10.0.2.1/24" }] });
        let all = of(&attachment("x", true, &two)).unwrap();
        let shown: Vec<_> = all
            .iter()
            .map(|s| (s.interface.as_str(), s.default, s.ips.join(" ")))
            .collect();
        assert_eq!(
            shown,
            [
                ("a", false, "10.0.0.1".to_owned()),
                ("b", true, "10.0.1.1 10.0.2.1".to_owned())
            ]
        );
        let [nothing] = of(&attachment("x", false, &json!({}))).unwrap().try_into().unwrap();
        assert_eq!((nothing.interface.as_str(), nothing.ips.len()), ("net1", 0));
        assert!(of(&attachment("x", false, &json!({ "ips": [{ "address": "x" }] }))).is_err());
    }

    #[test]
    fn devices_are_described_by_their_plugins() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("info");
        let mut attachment = attachment("x", false, &json!({}));
        attachment.device_info = Some(file.clone());
        assert_eq!(of(&attachment).unwrap()[0].device_info, None);
        let memif =
            json!({ "type": "memif", "version": "1.1.0", "memif": { "role": "slave", "path": "/s", "mode": "ip" } });
        fs::write(&file, memif.to_string()).unwrap();
        assert_eq!(of(&attachment).unwrap()[0].device_info.as_ref(), Some(&memif));
        for wrong in ["{", r#"{"type":"usb"}"#, r#"{"type":"pci"}"#] {
            fs::write(&file, wrong).unwrap();
            assert!(of(&attachment).unwrap_err().message.contains("device info"), "{wrong}");
        }
    }

    #[test]
    fn a_status_belongs_to_the_youngest_container() {
        let folder = tempfile::tempdir().unwrap();
        let (old, young) = (sandbox("old"), sandbox("young"));
        write(folder.path(), &old).unwrap();
        let text = write(folder.path(), &young).unwrap();
        let file = path(folder.path(), &young.pod);
        remove(folder.path(), &old).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), text);
        remove(folder.path(), &young).unwrap();
        remove(folder.path(), &young).unwrap();
        assert!(!file.exists());
    }
}

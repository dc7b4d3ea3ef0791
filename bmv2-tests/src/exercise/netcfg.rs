//! `netcfg.json` of ONOS: the network configuration that a controller is given.
//!
//! The file says where a controller finds each switch (`managementAddress`), what is behind the ports of the edge, and
//! sometimes how switches are linked; programs and entries come from the controller. So switches start without a program,
//! serve P4Runtime under the address, port and device id of the file, and wait, unless the caller names a program.
//!
//! - A device has its name in the file, from the last colon on: `device:leaf1` is `leaf1`.
//! - Addresses: all switches run in one namespace. An IPv4 address of the file is put on its loopback interface; host
//!   names stand for 127.0.0.1, 127.0.0.2 and so on, in the order of the devices' names, so that two switches with the same
//!   port on different hosts do not collide.
//! - A host is linked where its first location says. The interface of that port (`ports`) gives the prefix length of its
//!   addresses and its default route.
//! - A host in a VLAN (`MAC/VLAN`) has an interface that tags its frames, if the kernel supports that. `--check` does
//!   not ping it.
//! - It is enough that the file has one direction of a link. What the file leaves open stays unlinked, and a message says so.
//! - Other classes than `basic` and `interfaces`, and other subjects, are for applications of the controller, and are
//!   ignored.
//!
//! Names and units of fields are those of `BasicDeviceConfig`, `BasicHostConfig`, `BasicLinkConfig` and
//! `InterfaceConfig` of ONOS, version 2.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};

use anyhow::{Context, Result, bail};
use ipnet::IpNet;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::topology::{End, Host, Link, Server, Switch, Topology};

/// Port of packets to and from the controller, as Stratum's class for Mininet starts its switches.
const CPU_PORT: u16 = 255;
/// Longest name of a network interface (`IFNAMSIZ` without its zero, linux/if.h).
const LONGEST_INTERFACE: usize = 15;
/// Fields of every `basic` that say how something is drawn, and by whom it may be used.
const DRAWN: &[&str] = &[
    "name",
    "locType",
    "latitude",
    "longitude",
    "gridX",
    "gridY",
    "uiType",
    "rackAddress",
    "owner",
    "roles",
];
/// Fields of a device's `basic` that only the controller reads.
const OF_DEVICE: &[&str] = &[
    "type",
    "pipeconf",
    "manufacturer",
    "hwVersion",
    "swVersion",
    "serial",
    "purgeOnDisconnection",
    "deviceKeyId",
];
/// Fields of a host's `basic` that only the controller reads.
const OF_HOST: &[&str] = &["outerTpid"];
/// Fields of a link's `basic` that only the controller reads.
const OF_LINK: &[&str] = &[
    "type",
    "metric",
    "availability",
    "flapping",
    "durable",
    "bidirectional",
    "metered",
    "tier",
    "meteredUsage",
];

#[derive(Debug, Deserialize)]
struct File {
    devices: BTreeMap<String, Value>,
    #[serde(default)]
    ports: BTreeMap<String, Port>,
    #[serde(default)]
    hosts: BTreeMap<String, Subject<HostFields>>,
    #[serde(default)]
    links: BTreeMap<String, Subject<LinkFields>>,
}

/// What a file says of one thing; only the class `basic` is read.
#[derive(Debug, Deserialize)]
struct Subject<T> {
    basic: Option<T>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct DeviceFields {
    #[serde(default = "yes")]
    allowed: bool,
    management_address: Option<String>,
    driver: Option<String>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct HostFields {
    #[serde(default = "yes")]
    allowed: bool,
    name: Option<String>,
    #[serde(default)]
    ips: Vec<IpAddr>,
    #[serde(default)]
    locations: Vec<String>,
    #[serde(default)]
    aux_locations: Vec<String>,
    #[serde(default)]
    inner_vlan: Value,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct LinkFields {
    #[serde(default = "yes")]
    allowed: bool,
    /// Nanoseconds.
    latency: Option<u64>,
    /// Seconds.
    delay: Option<f64>,
    /// Percent.
    loss: Option<f64>,
    /// Mbit/s.
    bandwidth: Option<f64>,
    jitter: Option<f64>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

#[derive(Debug, Deserialize)]
struct Port {
    #[serde(default)]
    interfaces: Vec<Interface>,
}

#[derive(Debug, Deserialize)]
struct Interface {
    #[serde(default)]
    ips: Vec<IpNet>,
}

fn yes() -> bool {
    true
}

/// Whether a text has the outline of such a file.
pub(super) fn is_one(text: &str) -> bool {
    serde_json::from_str::<Map<String, Value>>(text).is_ok_and(|file| file.contains_key("devices"))
}

/// Reads a file.
///
/// # Errors
/// It says something that ONOS or we do not understand; the error names the place.
pub(super) fn parse(text: &str) -> Result<Topology> {
    let file: File = serde_json::from_str(text)?;
    let mut made = Made::default();
    made.devices(&file)?;
    for (key, link) in &file.links {
        made.link(key, link.basic.as_ref())
            .with_context(|| format!("links.{key}"))?;
    }
    for (key, host) in &file.hosts {
        let Some(fields) = &host.basic else {
            made.ignored
                .push(format!("hosts.{key} has no `basic`, so there is no such host"));
            continue;
        };
        let place = || format!("hosts.{key}");
        made.host(key, fields, &file.ports).with_context(place)?;
    }
    for key in file.ports.keys() {
        made.port(key).with_context(|| format!("ports.{key}"))?;
    }
    if made.links.is_empty() {
        made.ignored
            .push("the file links nothing; --link connects hosts and ports".to_owned());
    }
    Topology {
        hosts: made.hosts,
        switches: made.switches,
        links: made.links,
        programs_are_loaded: true,
        programs_are_needed: false,
        ignored: made.ignored,
    }
    .checked()
}

/// Checks that every field is known.
///
/// # Errors
/// A field is not known; the error names it.
fn known(rest: &Map<String, Value>, fields: &[&str]) -> Result<()> {
    for name in rest.keys() {
        if !DRAWN.contains(&name.as_str()) && !fields.contains(&name.as_str()) {
            bail!("basic.{name}: unknown field");
        }
    }
    Ok(())
}

/// What was read so far.
#[derive(Default)]
struct Made {
    /// Names of switches, by device.
    names: BTreeMap<String, String>,
    hosts: BTreeMap<String, Host>,
    switches: BTreeMap<String, Switch>,
    links: Vec<Link>,
    /// Devices and links that the file does not allow.
    forbidden: BTreeSet<String>,
    ignored: Vec<String>,
}

impl Made {
    fn devices(&mut self, file: &File) -> Result<()> {
        let mut servers: BTreeMap<SocketAddrV4, String> = BTreeMap::new();
        let mut addresses = Addresses::default();
        for (device, classes) in &file.devices {
            let place = || format!("devices.{device}.basic");
            let Some(basic) = classes.get("basic") else {
                bail!("devices.{device}: `basic` with a managementAddress is expected");
            };
            let fields: DeviceFields = serde_json::from_value(basic.clone()).with_context(place)?;
            known(&fields.rest, OF_DEVICE).with_context(|| format!("devices.{device}"))?;
            if !fields.allowed {
                self.forbidden.insert(device.clone());
                continue;
            }
            let address = fields.management_address.as_deref().unwrap_or_default();
            let server = addresses
                .server(address)
                .with_context(|| format!("{}.managementAddress {address:?}", place()))?;
            if let Some(other) = servers.insert(server.address, device.clone()) {
                bail!("{}.managementAddress {address:?}: {other} has it already", place());
            }
            let name = device.rsplit(':').next().unwrap_or_default().to_owned();
            if name.is_empty() || name.contains(['/', ',']) {
                bail!("devices.{device}: a name without `/` is expected behind the last colon");
            }
            let is_bmv2 = fields.driver.as_deref().is_some_and(|driver| driver.contains("bmv2"));
            let switch = Switch {
                cpu_port: is_bmv2.then_some(CPU_PORT),
                server: Some(server),
                ..Switch::default()
            };
            if self.switches.insert(name.clone(), switch).is_some() {
                bail!("devices.{device}: another device is called {name}, too");
            }
            self.names.insert(device.clone(), name);
        }
        Ok(())
    }

    /// A port by its connect point, such as `device:leaf1/3` or `device:leaf1/[leaf1-eth3](3)`; none if its device is not
    /// allowed.
    fn place(&self, point: &str) -> Result<Option<End>> {
        let (device, port) = connect_point(point).with_context(|| format!("{point:?}: expected DEVICE/PORT"))?;
        if self.forbidden.contains(device) {
            return Ok(None);
        }
        let name = self.names.get(device);
        let name = name.with_context(|| format!("{point:?}: no device is called {device}"))?;
        let interface = super::network::Network::port(name, port);
        if interface.len() > LONGEST_INTERFACE {
            bail!("{point:?}: the interface {interface} would have more than {LONGEST_INTERFACE} letters");
        }
        Ok(Some(End::Port(name.clone(), port)))
    }

    fn link(&mut self, key: &str, fields: Option<&LinkFields>) -> Result<()> {
        let (a, b) = ends(key).context("expected two ports joined by `-`, as in device:a/1-device:b/2")?;
        let none = LinkFields {
            allowed: true,
            ..LinkFields::default()
        };
        let fields = fields.unwrap_or(&none);
        known(&fields.rest, OF_LINK)?;
        let (Some(a), Some(b)) = (self.place(a)?, self.place(b)?) else {
            return Ok(());
        };
        if !fields.allowed {
            return Ok(());
        }
        let back = [b.clone(), a.clone()];
        if self.links.iter().any(|link| link.ends == back) {
            return Ok(());
        }
        if fields.jitter.is_some_and(|jitter| jitter > 0.0) {
            self.ignored
                .push(format!("links.{key}.basic.jitter has no effect: delays are constant"));
        }
        let delay_us = match (fields.latency, fields.delay) {
            (Some(ns), _) => ns / 1000,
            (None, Some(seconds)) if (0.0..=60.0).contains(&seconds) => (seconds * 1e6).round() as u64,
            (None, Some(seconds)) => bail!("basic.delay {seconds}: expected seconds, 60 at most"),
            (None, None) => 0,
        };
        let loss_percent = fields.loss.unwrap_or(0.0);
        if !(0.0..=100.0).contains(&loss_percent) {
            bail!("basic.loss {loss_percent}: expected a percentage");
        }
        if let Some(mbit) = fields.bandwidth.filter(|mbit| *mbit <= 0.0) {
            bail!("basic.bandwidth {mbit}: expected Mbit/s");
        }
        self.links.push(Link {
            ends: [a, b],
            delay_us,
            loss_percent,
            mbit: fields.bandwidth,
        });
        Ok(())
    }

    fn host(&mut self, key: &str, fields: &HostFields, ports: &BTreeMap<String, Port>) -> Result<()> {
        known(&fields.rest, OF_HOST)?;
        if !fields.allowed {
            return Ok(());
        }
        let (mac, vlan) = key.split_once('/').unwrap_or((key, "None"));
        let octets: Vec<_> = mac.split(':').map(|octet| u8::from_str_radix(octet, 16)).collect();
        if octets.len() != 6 || octets.iter().any(Result::is_err) {
            bail!("expected a MAC address, `/` and a VLAN or None");
        }
        if !fields.inner_vlan.is_null() {
            bail!("basic.innerVlan: hosts with two tags are not supported");
        }
        let vlan: Option<u16> = match vlan {
            "None" | "-1" => None,
            number => {
                let number = number.parse().ok().filter(|id| (1..4095).contains(id));
                Some(number.with_context(|| format!("VLAN {vlan}: expected a number below 4095 or None"))?)
            }
        };
        let interface = vlan.map_or("eth0".to_owned(), |id| format!("eth0.{id}"));
        let named = fields.name.clone().filter(|name| !name.is_empty() && name != "-");
        let name = named.unwrap_or_else(|| format!("h{}", mac.replace(':', "").to_ascii_lowercase()));
        if name.contains(['/', ',']) {
            bail!("basic.name {name:?}: a name without `/` and `,` is expected");
        }
        let mut host = Host {
            ip: None,
            mac: Some(mac.to_ascii_lowercase()),
            commands: Vec::new(),
            ipv6: Vec::new(),
        };
        let all = fields.locations.iter().chain(&fields.aux_locations);
        let also = all.clone().skip(1).cloned().collect::<Vec<_>>().join(", ");
        if !also.is_empty() {
            let what = format!("hosts.{key}: {name} has one interface, so it is not at {also}");
            self.ignored.push(what);
        }
        let location = all.clone().next();
        let networks: Vec<IpNet> = location
            .and_then(|at| ports.get(at))
            .map(|port| port.interfaces.iter().flat_map(|i| i.ips.clone()).collect())
            .unwrap_or_default();
        if let Some(id) = vlan {
            host.commands.extend([
                format!("ip link add link eth0 name {interface} type vlan id {id}"),
                format!("ip link set {interface} up"),
                format!(
                    "sysctl -qw net.ipv6.conf.{}.disable_ipv6=0",
                    interface.replace('.', "/")
                ),
            ]);
        }
        for ip in &fields.ips {
            self.address(key, *ip, &networks, &interface, &mut host);
        }
        let end = match location {
            Some(at) => self.place(at).context("basic.locations")?,
            None => {
                let what = format!(
                    "hosts.{key}: {name} has no location, so it has no link; --link {name},SWITCH/PORT adds one"
                );
                self.ignored.push(what);
                None
            }
        };
        if self.switches.contains_key(&name) || self.hosts.insert(name.clone(), host).is_some() {
            bail!("basic.name {name:?} is another's name, too");
        }
        self.links.extend(end.map(|end| Link::plain([End::Host(name), end])));
        Ok(())
    }

    /// Gives a host an address, and the default route of the first interface in its network.
    fn address(&mut self, key: &str, ip: IpAddr, networks: &[IpNet], device: &str, host: &mut Host) {
        let interface = networks.iter().find(|network| network.contains(&ip));
        let length = interface.map_or(if ip.is_ipv4() { 24 } else { 64 }, IpNet::prefix_len);
        if interface.is_none() {
            self.ignored.push(format!(
                "hosts.{key}.basic.ips: no interface of its port has a network with {ip}, so /{length} is assumed"
            ));
        }
        let address = format!("{ip}/{length}");
        match ip {
            IpAddr::V4(_) if device == "eth0" && host.ip.is_none() => host.ip = Some(address),
            IpAddr::V6(_) if device == "eth0" => host.ipv6.push(address),
            _ => host.commands.push(format!("ip addr add {address} dev {device}")),
        }
        if let Some(gateway) = interface.map(IpNet::addr).filter(|gateway| *gateway != ip) {
            let route = format!("ip route replace default via {gateway} dev {device}");
            if !host.commands.contains(&route) {
                host.commands.push(route);
            }
        }
    }

    /// Reports a port that has interfaces but nothing behind it.
    fn port(&mut self, key: &str) -> Result<()> {
        let Some(end) = self.place(key)? else { return Ok(()) };
        if !self.links.iter().any(|link| link.ends.contains(&end)) {
            let what = format!("ports.{key}: the file does not say what is behind it, so the switch starts without it");
            self.ignored.push(what);
        }
        Ok(())
    }
}

/// Device and number of a port.
fn connect_point(text: &str) -> Option<(&str, u16)> {
    let (device, port) = text.rsplit_once('/')?;
    // Stratum's names of ports.
    let number = match port.strip_suffix(')') {
        Some(named) => named.rsplit_once('(')?.1,
        None => port,
    };
    let is_number = number.bytes().all(|b| b.is_ascii_digit());
    let number = number.parse().ok().filter(|n| *n > 0 && is_number)?;
    (!device.is_empty()).then_some((device, number))
}

/// The two ports of a link. Names of devices may contain dashes, too.
fn ends(key: &str) -> Option<(&str, &str)> {
    let dashes = key.match_indices('-').map(|(at, _)| at);
    let mut cuts = dashes.filter_map(|at| Some((key.get(..at)?, key.get(at + 1..)?)));
    cuts.find(|(a, b)| connect_point(a).is_some() && connect_point(b).is_some())
}

/// Loopback addresses of host names.
#[derive(Default)]
struct Addresses(Vec<String>);

impl Addresses {
    /// Where a switch serves: `grpc://HOST:PORT?device_id=N`.
    fn server(&mut self, address: &str) -> Result<Server> {
        let wrong = "expected grpc://HOST:PORT?device_id=N";
        let rest = address.strip_prefix("grpc://").context(wrong)?;
        let (authority, query) = rest.split_once('?').context(wrong)?;
        let (host, port) = authority.rsplit_once(':').context(wrong)?;
        let device_id = query.split('&').find_map(|pair| pair.strip_prefix("device_id="));
        let device_id = device_id.and_then(|id| id.parse().ok()).context(wrong)?;
        let port = port.parse().ok().filter(|port| *port > 0).context(wrong)?;
        let ip = match host.parse::<Ipv4Addr>() {
            Ok(ip) if ip.is_unspecified() || ip.is_multicast() || ip.is_broadcast() => {
                bail!("a switch cannot serve at {ip}")
            }
            Ok(ip) => ip,
            Err(_) if host.is_empty() || host.contains([':', '/']) => bail!("{wrong}, HOST a name or an IPv4 address"),
            Err(_) => self.name(host)?,
        };
        Ok(Server {
            address: SocketAddrV4::new(ip, port),
            device_id,
        })
    }

    fn name(&mut self, host: &str) -> Result<Ipv4Addr> {
        let known = self.0.iter().position(|name| name == host);
        let at = known.unwrap_or_else(|| {
            self.0.push(host.to_owned());
            self.0.len() - 1
        });
        let last = u8::try_from(at + 1).ok().filter(|n| *n < 255);
        Ok(Ipv4Addr::new(127, 0, 0, last.context("more than 254 names of hosts")?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pair of leaves with what `more` adds.
    fn with(more: &str) -> Result<Topology> {
        let device = |name: &str, port: u16| {
            format!(
                r#""device:{name}": {{"basic": {{"managementAddress": "grpc://mininet:{port}?device_id=1", "driver": "stratum-bmv2",
                "pipeconf": "org.example", "gridX": 1}}, "segmentrouting": {{"isEdgeRouter": true}}}}"#
            )
        };
        parse(&format!(
            r#"{{"devices": {{{}, {}}}, "apps": {{}} {more}}}"#,
            device("leaf-1", 50001),
            device("leaf-2", 50002)
        ))
    }

    fn port(switch: &str, port: u16) -> End {
        End::Port(switch.to_owned(), port)
    }

    #[test]
    fn devices_serve_under_the_addresses_of_the_file() {
        let topology = with("").unwrap();
        let of = |name: &str| topology.switches[name].server.clone().unwrap();
        assert_eq!(of("leaf-1").address, "127.0.0.1:50001".parse().unwrap());
        assert_eq!((of("leaf-2").address.port(), of("leaf-2").device_id), (50002, 1));
        assert_eq!(topology.switches["leaf-1"].cpu_port, Some(255));
        assert!(!topology.programs_are_needed);

        let mut addresses = Addresses::default();
        let mut at = |text: &str| addresses.server(text).map(|server| server.address.to_string());
        assert_eq!(at("grpc://one:9559?device_id=1").unwrap(), "127.0.0.1:9559");
        assert_eq!(at("grpc://two:9559?x=1&device_id=7").unwrap(), "127.0.0.2:9559");
        assert_eq!(at("grpc://one:9560?device_id=1").unwrap(), "127.0.0.1:9560");
        assert_eq!(at("grpc://10.0.0.1:9559?device_id=1").unwrap(), "10.0.0.1:9559");
        for wrong in [
            "",
            "grpcs://a:1?device_id=1",
            "grpc://a?device_id=1",
            "grpc://a:1",
            "grpc://a:1?device_id=x",
            "grpc://a:0?device_id=1",
            "grpc://[::1]:5?device_id=1",
            "grpc://0.0.0.0:5?device_id=1",
        ] {
            assert!(at(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn links_and_hosts_are_where_the_file_has_them() {
        let topology = with(
            r#", "links": {"device:leaf-1/1-device:leaf-2/[leaf-2-eth2](2)": {"basic": {"latency": 250000, "bandwidth": 100, "loss": 1}},
                "device:leaf-2/2-device:leaf-1/1": {}, "device:leaf-1/9-device:leaf-2/9": {"basic": {"allowed": false}}},
            "ports": {"device:leaf-1/3": {"interfaces": [{"name": "i", "ips": ["10.0.1.254/23", "2001:db8::ff/64"], "vlan-untagged": 7}]},
                "device:leaf-2/5": {"interfaces": []}},
            "hosts": {"00:00:00:00:00:1A/None": {"basic": {"name": "h1", "ips": ["10.0.0.1", "2001:db8::1"],
                "locations": ["device:leaf-1/3", "device:leaf-2/3"]}},
                "00:00:00:00:00:20/-1": {"basic": {"ips": ["10.0.9.1"], "locations": ["device:leaf-2/4"]}},
                "00:00:00:00:00:30/None": {"basic": {"name": "h3", "gridX": 3}}}"#,
        )
        .unwrap();
        let ends: Vec<_> = topology.links.iter().map(|link| link.ends.clone()).collect();
        assert_eq!(
            ends,
            [
                [port("leaf-1", 1), port("leaf-2", 2)],
                [End::Host("h1".into()), port("leaf-1", 3)],
                [End::Host("h000000000020".into()), port("leaf-2", 4)],
            ]
        );
        let first = &topology.links[0];
        assert_eq!(
            (first.delay_us, first.mbit, first.loss_percent),
            (250, Some(100.0), 1.0)
        );
        let host = &topology.hosts["h1"];
        assert_eq!(host.ip.as_deref(), Some("10.0.0.1/23"));
        assert_eq!(host.mac.as_deref(), Some("00:00:00:00:00:1a"));
        assert_eq!(host.ipv6, ["2001:db8::1/64"]);
        assert_eq!(
            host.commands,
            [
                "ip route replace default via 10.0.1.254 dev eth0",
                "ip route replace default via 2001:db8::ff dev eth0"
            ]
        );
        assert_eq!(topology.hosts["h000000000020"].ip.as_deref(), Some("10.0.9.1/24"));
        let tagged = r#", "hosts": {"00:00:00:00:00:1C/100": {"basic": {"name": "h", "ips": ["10.0.0.3"], "locations": ["device:leaf-1/3"]}}}"#;
        let host = with(tagged).unwrap().hosts["h"].clone();
        assert_eq!(
            (host.ip, host.commands.first(), host.commands.last()),
            (
                None,
                Some(&"ip link add link eth0 name eth0.100 type vlan id 100".to_owned()),
                Some(&"ip addr add 10.0.0.3/24 dev eth0.100".to_owned())
            )
        );
        for said in [
            "h1 has one interface, so it is not at device:leaf-2/3",
            "so /24 is assumed",
            "h3 has no location, so it has no link",
            "ports.device:leaf-2/5: the file does not say what is behind it",
        ] {
            assert!(
                topology.ignored.iter().any(|i| i.contains(said)),
                "{said}: {:?}",
                topology.ignored
            );
        }
        let nothing = with("").unwrap().ignored;
        assert_eq!(nothing, ["the file links nothing; --link connects hosts and ports"]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let host = |key: &str, basic: &str| format!(r#", "hosts": {{"{key}": {{"basic": {basic}}}}}"#);
        for (more, expected) in [
            (host("00:00:00:00:00:20/4095", "{}"), "VLAN 4095: expected a number"),
            (
                host("00:00:00:00:00:20/None", r#"{"innerVlan": "5"}"#),
                "basic.innerVlan: hosts with two tags",
            ),
            (host("h1/None", "{}"), "hosts.h1/None: expected a MAC address"),
            (
                host("00:00:00:00:00:20/None", r#"{"locations": ["device:leaf-9/1"]}"#),
                "no device is called device:leaf-9",
            ),
            (
                host("00:00:00:00:00:20/None", r#"{"place": 1}"#),
                "basic.place: unknown field",
            ),
            (
                host("00:00:00:00:00:20/None", r#"{"name": "leaf-1"}"#),
                "another's name",
            ),
            (
                r#", "links": {"device:leaf-1/1": {}}"#.into(),
                "links.device:leaf-1/1: expected two ports",
            ),
            (
                r#", "links": {"device:leaf-1/1-device:leaf-2/2": {"basic": {"loss": 200}}}"#.into(),
                "basic.loss 200",
            ),
            (
                r#", "links": {"device:leaf-1/1-device:leaf-2/1": {}, "device:leaf-1/1-device:leaf-2/2": {}}"#.into(),
                "leaf-1-p1 is an end of",
            ),
        ] {
            let error = format!("{:#}", with(&more).unwrap_err());
            assert!(error.contains(expected), "{more}: {error}");
        }
        let device = |basic: &str| parse(&format!(r#"{{"devices": {{"device:a": {{"basic": {basic}}}}}}}"#));
        for (basic, expected) in [
            ("{}", "devices.device:a.basic.managementAddress \"\": expected grpc://"),
            (
                r#"{"managementAddress": "grpc://a:1?device_id=1", "x": 1}"#,
                "basic.x: unknown field",
            ),
        ] {
            let error = format!("{:#}", device(basic).unwrap_err());
            assert!(error.contains(expected), "{basic}: {error}");
        }
        let long = r#"{"devices": {"device:leaf-of-rack-7": {"basic": {"managementAddress": "grpc://a:1?device_id=1"}}},
            "ports": {"device:leaf-of-rack-7/3": {}}}"#;
        assert!(format!("{:#}", parse(long).unwrap_err()).contains("more than 15 letters"));
        let twice = r#"{"devices": {"device:a": {"basic": {"managementAddress": "grpc://a:1?device_id=1"}},
            "device:b": {"basic": {"managementAddress": "grpc://a:1?device_id=2"}}}}"#;
        assert!(format!("{:#}", parse(twice).unwrap_err()).contains("device:a has it already"));
    }
}

//! `p4app.json` of p4-utils, in its present form and in the older one (`program` instead of `p4_src`).
//!
//! p4-utils derives most of a network, and the same is derived here, so that command files and controllers written for it
//! fit. Ports of a switch count from 1 in the natural order of links (`s2` before `s10`), each from its first end to its
//! second as the file has them. A switch's number is its place in the natural order of switches, from 1. Addresses of hosts
//! follow `assignment_strategy`, with the MAC address 00:00 and the octets of the IP address. Hosts know each other's and
//! their gateway's MAC addresses, unless `default` says otherwise. Every switch has its program from the start.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::topology::{End, Host, Link, Switch, Topology, latency, number};

/// Fields of the file without effect, and the reason.
const OF_FILE: Ignored = &[
    ("pcap_dump", "--pcap records each port's packets"),
    ("tasks_file", "tasks of hosts are not started; --run starts a command"),
    ("exec_scripts", "scripts are not started; --run starts a command"),
    ("controller_module", "it is not started; --run starts a command"),
    ("host_node", PYTHON),
    ("switch_node", PYTHON),
    ("router_node", PYTHON),
    ("compiler_module", PYTHON),
    ("client_module", PYTHON),
    ("mininet_module", PYTHON),
    ("topo_module", PYTHON),
    ("topodb_module", PYTHON),
    ("compiler", "programs are compiled by this project's compiler"),
    ("options", "programs are compiled by this project's compiler"),
    ("switch", "--switch names another switch"),
    ("cli", SAME),
    ("switch_cli", SAME),
    ("enable_log", SAME),
];
/// Fields of a host without effect.
const OF_HOST: Ignored = &[
    ("host_node", PYTHON),
    ("scheduler", "tasks of hosts are not started"),
    ("socket_path", SAME),
    ("log_enabled", SAME),
    ("log_dir", SAME),
];
/// Fields of a switch without effect.
const OF_SWITCH: Ignored = &[
    ("switch_node", PYTHON),
    ("sw_bin", "--switch names another switch"),
    ("thrift_port", "Thrift ports count from 9090"),
    ("grpc_port", "P4Runtime ports count from 50051"),
    ("pcap_dump", "--pcap records each port's packets"),
    ("pcap_dir", SAME),
    ("log_enabled", SAME),
    ("log_dir", SAME),
];
/// Fields of a link without effect.
const OF_LINK: Ignored = &[
    ("intfName1", "interfaces have their usual names"),
    ("intfName2", "interfaces have their usual names"),
    ("max_queue_size", "queues have their usual length"),
    ("weight", SAME),
];

/// Names of fields, and why they have no effect; for [`SAME`] nothing is reported.
type Ignored = &'static [(&'static str, &'static str)];
const PYTHON: &str = "p4-utils and Mininet are not run";
/// The field asks for the usual behaviour, or nothing depends on it.
const SAME: &str = "";

#[derive(Debug, Deserialize)]
struct File {
    #[serde(alias = "program")]
    p4_src: Option<PathBuf>,
    topology: Parts,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Parts {
    assignment_strategy: Option<String>,
    #[serde(default)]
    default: Defaults,
    /// In older files; newer ones have these in `default`.
    auto_arp_tables: Option<bool>,
    auto_gw_arp: Option<bool>,
    hosts: BTreeMap<String, HostFields>,
    switches: BTreeMap<String, SwitchFields>,
    #[serde(default)]
    routers: BTreeMap<String, Value>,
    links: Vec<LinkFile>,
}

#[derive(Debug, Deserialize)]
struct Defaults {
    #[serde(default = "yes")]
    auto_arp_tables: bool,
    #[serde(default = "yes")]
    auto_gw_arp: bool,
    #[serde(flatten)]
    link: Map<String, Value>,
}

impl Default for Defaults {
    fn default() -> Self {
        Self {
            auto_arp_tables: true,
            auto_gw_arp: true,
            link: Map::new(),
        }
    }
}

fn yes() -> bool {
    true
}

#[derive(Debug, Deserialize)]
struct HostFields {
    ip: Option<String>,
    mac: Option<String>,
    #[serde(rename = "defaultRoute")]
    default_route: Option<String>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

#[derive(Debug, Deserialize)]
struct SwitchFields {
    #[serde(alias = "program")]
    p4_src: Option<PathBuf>,
    cli_input: Option<PathBuf>,
    #[serde(default)]
    cpu_port: bool,
    #[serde(default, deserialize_with = "number")]
    priority_queues_num: Option<u16>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// Two ends, and fields where there are some.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum LinkFile {
    Plain(String, String),
    With(String, String, Map<String, Value>),
}

/// The fields of a link, with those of `default`.
#[derive(Debug, Deserialize)]
struct LinkFields {
    port1: Option<u16>,
    port2: Option<u16>,
    bw: Option<f64>,
    #[serde(default)]
    delay: Value,
    #[serde(default)]
    loss: f64,
    addr1: Option<String>,
    addr2: Option<String>,
    #[serde(default)]
    params1: Params,
    #[serde(default)]
    params2: Params,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Params {
    ip: Option<String>,
}

/// The link with the host, if it has one, as its first end.
struct Cable {
    ends: [String; 2],
    fields: LinkFields,
}

/// Whether a text looks like such a file.
pub(super) fn is_one(text: &str) -> bool {
    serde_json::from_str::<Map<String, Value>>(text).is_ok_and(|file| file.contains_key("topology"))
}

/// Reads a file.
///
/// # Errors
/// Something in it is not known to p4-utils or not supported here; the error names the place.
pub(super) fn parse(text: &str) -> Result<Topology> {
    let file: File = serde_json::from_str(text)?;
    let parts = &file.topology;
    if let Some(name) = parts.routers.keys().next() {
        bail!("topology.routers.{name}: routers are not supported");
    }
    let mut ignored = Vec::new();
    note("", &file.rest, OF_FILE, &mut ignored)?;
    let cables = cables(parts, &mut ignored)?;
    let mut hosts = BTreeMap::new();
    for (name, fields) in &parts.hosts {
        note(&format!("topology.hosts.{name}."), &fields.rest, OF_HOST, &mut ignored)?;
        let host = Host {
            ip: fields.ip.clone(),
            mac: fields.mac.clone(),
            commands: Vec::new(),
            ipv6: Vec::new(),
        };
        hosts.insert(name.clone(), host);
    }
    let mut switches = BTreeMap::new();
    for (name, fields) in &parts.switches {
        let place = format!("topology.switches.{name}.");
        note(&place, &fields.rest, OF_SWITCH, &mut ignored)?;
        if fields.cpu_port {
            bail!("{place}cpu_port: p4-utils' bridge for packets to a controller is not supported; use P4Runtime");
        }
        let switch = Switch {
            cli_input: fields.cli_input.clone(),
            program: fields.p4_src.clone().or_else(|| file.p4_src.clone()),
            priority_queues: fields.priority_queues_num,
            ..Switch::default()
        };
        switches.insert(name.clone(), switch);
    }
    let gateways = addresses(parts, &cables, &mut hosts)?;
    neighbours(parts, &gateways, &mut hosts);
    let links = links(&cables, &parts.hosts)?;
    Topology {
        hosts,
        switches,
        links,
        programs_are_loaded: true,
        programs_are_needed: true,
        ignored,
    }
    .checked()
}

/// Notes fields without effect.
///
/// # Errors
/// A field is not known.
fn note(place: &str, fields: &Map<String, Value>, known: Ignored, ignored: &mut Vec<String>) -> Result<()> {
    for (name, value) in fields {
        let found = known.iter().find(|(field, _)| field == name);
        let (_, why) = found.with_context(|| format!("{place}{name}: unknown field"))?;
        if !why.is_empty() && !matches!(value, Value::Null | Value::Bool(false)) {
            ignored.push(format!("{place}{name} has no effect: {why}"));
        }
    }
    Ok(())
}

/// Letters and numbers of a name in natural order: `s2` before `s10`.
fn natural(name: &str) -> (String, u64, String) {
    let digits = name.len() - name.trim_end_matches(|c: char| c.is_ascii_digit()).len();
    let (stem, number) = name.split_at(name.len() - digits);
    (stem.to_owned(), number.parse().unwrap_or(0), name.to_owned())
}

/// The links in the order in which ports are counted.
fn cables(parts: &Parts, ignored: &mut Vec<String>) -> Result<Vec<Cable>> {
    let mut cables = Vec::new();
    for (i, link) in parts.links.iter().enumerate() {
        let place = format!("topology.links[{i}]");
        let mut all = parts.default.link.clone();
        let (a, b) = match link {
            LinkFile::Plain(a, b) => (a, b),
            LinkFile::With(a, b, fields) => {
                all.extend(fields.clone());
                (a, b)
            }
        };
        let fields = serde_json::from_value(Value::Object(all)).with_context(|| place.clone())?;
        let mut cable = Cable {
            ends: [a.clone(), b.clone()],
            fields,
        };
        note(&format!("{place}."), &cable.fields.rest, OF_LINK, ignored)?;
        let is_host = |name: &String| parts.hosts.contains_key(name);
        for end in &cable.ends {
            if !is_host(end) && !parts.switches.contains_key(end) {
                bail!("{place}: no host and no switch is called {end}");
            }
        }
        match (is_host(a), is_host(b)) {
            (true, true) => bail!("{place}: two hosts are linked"),
            (true, false) => {}
            (false, true) => cable.turn(),
            (false, false) => {}
        }
        cables.push(((natural(a), natural(b)), cable));
    }
    // A link goes from its first end to its second, as the file has them.
    cables.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(cables.into_iter().map(|(_, cable)| cable).collect())
}

impl Cable {
    fn turn(&mut self) {
        self.ends.swap(0, 1);
        let fields = &mut self.fields;
        std::mem::swap(&mut fields.port1, &mut fields.port2);
        std::mem::swap(&mut fields.addr1, &mut fields.addr2);
        std::mem::swap(&mut fields.params1, &mut fields.params2);
    }
}

/// Gives each host its addresses and its default route; returns the gateways and their MAC addresses, by host.
fn addresses(
    parts: &Parts,
    cables: &[Cable],
    hosts: &mut BTreeMap<String, Host>,
) -> Result<BTreeMap<String, (String, String)>> {
    let mut gateways = BTreeMap::new();
    let mut numbers: Vec<&String> = parts.switches.keys().collect();
    numbers.sort_by_key(|name| natural(name));
    let mut pool = Pool::new(parts.assignment_strategy.as_deref(), cables, hosts)?;
    // Names with a number come first, so that no other host takes their numbers.
    let (named, others): (Vec<_>, Vec<_>) = cables.iter().partition(|c| own_number(&c.ends[0]).is_some());
    for cable in named.into_iter().chain(others) {
        let [name, switch] = &cable.ends;
        let Some(host) = hosts.get_mut(name) else { continue };
        let number = numbers.iter().position(|s| *s == switch).map_or(0, |n| n + 1);
        let fields = &cable.fields;
        host.mac = fields.addr1.clone().or(host.mac.take());
        host.ip = fields.params1.ip.clone().or(host.ip.take());
        if let Some((ip, length, gateway)) = pool
            .take(name, number)
            .with_context(|| format!("topology.hosts.{name}"))?
        {
            host.ip = Some(format!("{ip}/{length}"));
            host.mac = Some(mac(0, ip));
            if let Some(gateway) = gateway {
                host.commands
                    .push(format!("ip route add default via {gateway} dev eth0"));
                gateways.insert(name.clone(), (gateway.to_string(), mac(1, ip)));
            }
        }
        let route = parts.hosts.get(name).and_then(|h| h.default_route.as_deref());
        if let (None, Some(route)) = (gateways.get(name), route) {
            host.commands.push(format!("ip route add default {route} dev eth0"));
        }
    }
    Ok(gateways)
}

/// The number of a host that is called `h` and a number.
fn own_number(name: &str) -> Option<u16> {
    name.strip_prefix('h')?.parse().ok()
}

/// 00, a number, and the octets of an IP address.
fn mac(number: u8, ip: Ipv4Addr) -> String {
    let [a, b, c, d] = ip.octets();
    format!("00:{number:02x}:{a:02x}:{b:02x}:{c:02x}:{d:02x}")
}

/// Addresses by strategy. A host whose name is `h` and a number has this number in its address; others get the next that is
/// free.
struct Pool {
    strategy: Option<Strategy>,
    taken: BTreeSet<Ipv4Addr>,
}

#[derive(Clone, Copy)]
enum Strategy {
    /// All hosts in 10.0.0.0/16.
    L2,
    /// The hosts of a switch in 10.SWITCH.0/24, with gateway .254.
    Mixed,
    /// Each host in a network 10.SWITCH.HOST.0/24 of its own, as .2 with gateway .1.
    L3,
}

/// An address, its prefix length, and the gateway.
type Assigned = (Ipv4Addr, u8, Option<Ipv4Addr>);

impl Pool {
    fn new(strategy: Option<&str>, cables: &[Cable], hosts: &BTreeMap<String, Host>) -> Result<Self> {
        let strategy = match strategy {
            None | Some("manual") => None,
            Some("l2") => Some(Strategy::L2),
            Some("mixed") => Some(Strategy::Mixed),
            Some("l3") => Some(Strategy::L3),
            Some(other) => bail!("topology.assignment_strategy `{other}`: expected l2, mixed, l3 or manual"),
        };
        let mut linked = BTreeSet::new();
        for name in cables.iter().map(|c| &c.ends[0]).filter(|n| hosts.contains_key(*n)) {
            if !linked.insert(name) {
                bail!("topology.hosts.{name}: a host has one link");
            }
        }
        Ok(Self {
            strategy,
            taken: BTreeSet::new(),
        })
    }

    /// Addresses of a host at a switch; none without a strategy.
    fn take(&mut self, name: &str, switch: usize) -> Result<Option<Assigned>> {
        let Some(strategy) = self.strategy else {
            return Ok(None);
        };
        let switch = u8::try_from(switch)
            .ok()
            .filter(|n| *n < 254)
            .context("more than 253 switches")?;
        let at = |n: u16| -> Option<Assigned> {
            let [high, low] = n.to_be_bytes();
            Some(match strategy {
                Strategy::L2 => (Ipv4Addr::new(10, 0, high, low), 16, None),
                _ if high > 0 || low == 0 || low > 253 => return None,
                Strategy::Mixed => (
                    Ipv4Addr::new(10, 0, switch, low),
                    24,
                    Some(Ipv4Addr::new(10, 0, switch, 254)),
                ),
                Strategy::L3 => (
                    Ipv4Addr::new(10, switch, low, 2),
                    24,
                    Some(Ipv4Addr::new(10, switch, low, 1)),
                ),
            })
        };
        let found = match own_number(name) {
            Some(n) => at(n).filter(|a| !self.taken.contains(&a.0)),
            None => (1..u16::MAX).map_while(at).find(|a| !self.taken.contains(&a.0)),
        };
        let found = found.context("its strategy has no free address for it")?;
        self.taken.insert(found.0);
        Ok(Some(found))
    }
}

/// Adds the MAC addresses that hosts know: those of hosts in the same network, and of gateways.
fn neighbours(parts: &Parts, gateways: &BTreeMap<String, (String, String)>, hosts: &mut BTreeMap<String, Host>) {
    let add = |ip: &str, mac: &str| format!("ip neigh replace {ip} lladdr {mac} dev eth0");
    let known: Vec<(String, ipnet::IpNet, String)> = hosts
        .iter()
        .filter_map(|(name, host)| Some((name.clone(), host.ip.as_ref()?.parse().ok()?, host.mac.clone()?)))
        .collect();
    let knows_hosts = parts.auto_arp_tables.unwrap_or(parts.default.auto_arp_tables);
    let knows_gateway = parts.auto_gw_arp.unwrap_or(parts.default.auto_gw_arp);
    for (name, own, _) in &known {
        let Some(host) = hosts.get_mut(name) else { continue };
        if let (true, Some((ip, mac))) = (knows_gateway, gateways.get(name)) {
            host.commands.push(add(ip, mac));
        }
        let near = known
            .iter()
            .filter(|(other, ip, _)| other != name && ip.trunc() == own.trunc());
        if knows_hosts {
            host.commands
                .extend(near.map(|(_, ip, mac)| add(&ip.addr().to_string(), mac)));
        }
    }
}

/// The links with their ports.
fn links(cables: &[Cable], hosts: &BTreeMap<String, HostFields>) -> Result<Vec<Link>> {
    let mut taken = BTreeSet::new();
    for cable in cables {
        let ports = [cable.fields.port1, cable.fields.port2];
        let named = cable.ends.iter().zip(ports);
        taken.extend(named.filter_map(|(name, port)| Some((name.clone(), port?))));
    }
    let mut end = |name: &String, named: Option<u16>| -> Result<End> {
        if hosts.contains_key(name) {
            return Ok(End::Host(name.clone()));
        }
        let free = || (1..=u16::MAX).find(|port| !taken.contains(&(name.clone(), *port)));
        let port = named
            .or_else(free)
            .with_context(|| format!("{name} has no free port"))?;
        taken.insert((name.clone(), port));
        Ok(End::Port(name.clone(), port))
    };
    let mut links = Vec::new();
    for Cable { ends: [a, b], fields } in cables {
        let place = || format!("topology.links: {a} and {b}");
        if !(0.0..=100.0).contains(&fields.loss) {
            bail!("{}: loss {}: expected a percentage", place(), fields.loss);
        }
        if fields.bw.is_some_and(|bw| bw <= 0.0) {
            bail!("{}: bw: expected Mbit/s", place());
        }
        links.push(Link {
            ends: [end(a, fields.port1)?, end(b, fields.port2)?],
            delay_us: latency(&fields.delay).with_context(place)?,
            loss_percent: fields.loss,
            mbit: fields.bw,
        });
    }
    Ok(links)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(topology: &str) -> Result<Topology> {
        parse(&format!(r#"{{"p4_src": "a.p4", "topology": {topology}}}"#))
    }

    fn of(strategy: &str, hosts: &str, links: &str) -> Topology {
        let switches = r#"{"s10": {}, "s2": {"p4_src": "b.p4", "priority_queues_num": "8"}}"#;
        let topology = with(&format!(
            r#"{{"assignment_strategy": "{strategy}", "hosts": {hosts}, "switches": {switches}, "links": {links}}}"#
        ));
        topology.unwrap()
    }

    #[test]
    fn ports_count_in_the_natural_order_of_links() {
        let links = r#"[["s10", "s2", {"delay": 3, "loss": 0.5}], ["s2", "h2", {"port1": 1, "bw": 5}], ["h1", "s2"], ["h3", "s10"]]"#;
        let topology = of("l2", r#"{"h1": {}, "h2": {}, "h3": {}}"#, links);
        let port = |switch: &str, port| End::Port(switch.to_owned(), port);
        let ends: Vec<_> = topology.links.iter().map(|l| l.ends.clone()).collect();
        let host = |name: &str| End::Host(name.to_owned());
        assert_eq!(
            ends,
            [
                [host("h1"), port("s2", 2)],
                [host("h3"), port("s10", 1)],
                [host("h2"), port("s2", 1)],
                [port("s10", 2), port("s2", 3)],
            ]
        );
        assert_eq!(
            (topology.links[3].delay_us, topology.links[3].loss_percent),
            (3000, 0.5)
        );
        assert_eq!(topology.links[2].mbit, Some(5.0));
        assert_eq!(topology.switches["s2"].priority_queues, Some(8));
        assert_eq!(topology.switches["s10"].program, Some("a.p4".into()));
    }

    #[test]
    fn addresses_follow_the_strategy() {
        let links = r#"[["srv", "s10"], ["h1", "s10"], ["h300", "s2"]]"#;
        let hosts = r#"{"h1": {}, "srv": {}, "h300": {}}"#;
        let address = |topology: &Topology, host: &str| {
            let host = &topology.hosts[host];
            (host.ip.clone().unwrap(), host.mac.clone().unwrap())
        };
        let pair = |ip: &str, mac: &str| (ip.to_owned(), mac.to_owned());
        let l2 = of("l2", hosts, links);
        assert_eq!(address(&l2, "h1"), pair("10.0.0.1/16", "00:00:0a:00:00:01"));
        assert_eq!(address(&l2, "srv"), pair("10.0.0.2/16", "00:00:0a:00:00:02"));
        assert_eq!(address(&l2, "h300"), pair("10.0.1.44/16", "00:00:0a:00:01:2c"));
        assert!(
            l2.hosts["h1"]
                .commands
                .contains(&"ip neigh replace 10.0.1.44 lladdr 00:00:0a:00:01:2c dev eth0".into())
        );

        let links = links.replace("h300", "h3");
        let hosts = hosts.replace("h300", "h3");
        // s2 is the first switch, s10 the second.
        let mixed = of("mixed", &hosts, &links);
        assert_eq!(address(&mixed, "h3"), pair("10.0.1.3/24", "00:00:0a:00:01:03"));
        assert_eq!(address(&mixed, "srv"), pair("10.0.2.2/24", "00:00:0a:00:02:02"));
        assert_eq!(
            mixed.hosts["h3"].commands,
            [
                "ip route add default via 10.0.1.254 dev eth0",
                "ip neigh replace 10.0.1.254 lladdr 00:01:0a:00:01:03 dev eth0"
            ]
        );
        let silent = with(
            r#"{"assignment_strategy": "l2", "auto_arp_tables": false, "hosts": {"h1": {}, "h2": {}}, "switches": {"s1": {}}, "links": [["h1", "s1"], ["h2", "s1"]]}"#,
        );
        assert!(silent.unwrap().hosts["h1"].commands.is_empty());
        let l3 = of("l3", &hosts, &links);
        assert_eq!(address(&l3, "h1"), pair("10.2.1.2/24", "00:00:0a:02:01:02"));
        assert_eq!(address(&l3, "srv"), pair("10.2.2.2/24", "00:00:0a:02:02:02"));
        assert_eq!(
            l3.hosts["srv"].commands[0],
            "ip route add default via 10.2.2.1 dev eth0"
        );
        let manual = of(
            "manual",
            r#"{"h1": {"ip": "10.9.0.1/24", "defaultRoute": "via 10.9.0.9"}}"#,
            r#"[["h1", "s2", {"addr1": "00:00:00:00:00:09"}]]"#,
        );
        assert_eq!(address(&manual, "h1"), pair("10.9.0.1/24", "00:00:00:00:00:09"));
        assert_eq!(
            manual.hosts["h1"].commands,
            ["ip route add default via 10.9.0.9 dev eth0"]
        );
    }

    #[test]
    fn fields_without_effect_are_reported_and_unknown_ones_are_errors() {
        let rest = r#""topology": {"hosts": {}, "switches": {}, "links": []}"#;
        let said = parse(&format!(
            r#"{{"cli": true, "tasks_file": "t.txt", "exec_scripts": null, {rest}}}"#
        ));
        assert_eq!(
            said.unwrap().ignored,
            ["tasks_file has no effect: tasks of hosts are not started; --run starts a command"]
        );
        assert!(
            parse(&format!(r#"{{"p4": "a.p4", {rest}}}"#))
                .unwrap_err()
                .to_string()
                .contains("p4: unknown field")
        );
        for (topology, expected) in [
            (r#"{"hosts": {}, "switches": {}, "links": [], "nodes": {}}"#, "nodes"),
            (
                r#"{"hosts": {}, "switches": {}, "routers": {"r1": {}}, "links": []}"#,
                "routers.r1",
            ),
            (
                r#"{"hosts": {}, "switches": {"s1": {"cpu_port": true}}, "links": []}"#,
                "switches.s1.cpu_port",
            ),
            (
                r#"{"hosts": {}, "switches": {"s1": {}}, "links": [["s1", "s9"]]}"#,
                "links[0]: no host and no switch is called s9",
            ),
            (
                r#"{"hosts": {"h1": {}}, "switches": {"s1": {}}, "links": [["h1", "s1"], ["s1", "h1"]]}"#,
                "h1: a host has one link",
            ),
            (
                r#"{"hosts": {"h1": {}}, "switches": {"s1": {}}, "links": [["h1", "s1", {"loss": 101}]]}"#,
                "loss 101",
            ),
            (
                r#"{"hosts": {"h1": {}}, "switches": {"s1": {}}, "links": [["h1", "s1", {"speed": 1}]]}"#,
                "links[0].speed",
            ),
            (
                r#"{"assignment_strategy": "l4", "hosts": {}, "switches": {}, "links": []}"#,
                "assignment_strategy `l4`",
            ),
            (
                r#"{"assignment_strategy": "l3", "hosts": {"h300": {}}, "switches": {"s1": {}}, "links": [["h300", "s1"]]}"#,
                "hosts.h300",
            ),
        ] {
            let error = format!("{:#}", with(topology).unwrap_err());
            assert!(error.contains(expected), "{topology}: {error}");
        }
    }
}

//! DHCPv6 with real clients in network namespaces: ISC's client with the options that SONiC sends, and ISC's relay. Needs root and
//! Debian's packages of these.

#[allow(unreachable_pub)]
mod common;

use std::fs;
use std::process::Stdio;

use common::{Given, Net, Netns, Process, until};
use serde_json::Value;

const IPV6: &str = r#"
ipv6:
  address: 2001:db8:1::1
  subnets:
    - subnet: 2001:db8:1::/64
      pool: { first: 2001:db8:1::100, last: 2001:db8:1::10f }
    - subnet: 2001:db8:2::/64
      pool: { first: 2001:db8:2::100, last: 2001:db8:2::10f }
  dns: [2001:db8::53]
  bootz: "bootz://[2001:db8:1::5]:15006"
"#;

const TOPOLOGY: &str = r#"
fabric: { name: lab }
switches:
  - { name: leaf1, role: leaf, device_id: 1, loopback_ipv4: 10.255.0.1, loopback_ipv6: "fd00:255::1", p4runtime: "[2001:db8:1::11]:9559", mac: "02:aa:00:00:00:01", software: nos-1.0 }
  - { name: leaf2, role: leaf, device_id: 2, loopback_ipv4: 10.255.0.2, loopback_ipv6: "fd00:255::2", p4runtime: "192.0.2.12:9559", mac: "02:aa:00:00:00:02", software: nos-1.0 }
"#;

/// As SONiC's ZTP service writes it for its client.
const SONIC: &str = r#"
option dhcp6.provision-url code 239 = text;
option dhcp6.sztp-redirect code 136 = string;
option dhcp6.user-class code 15 = string;
send dhcp6.user-class 00:09:53:4f:4e:69:43:2d:5a:54:50;
also request dhcp6.bootfile-url, dhcp6.provision-url, dhcp6.sztp-redirect;
"#;

fn network() -> Net {
    let net = Net::new();
    net.server.ip("addr add 2001:db8:1::1/64 dev mgmt0 nodad");
    let settings = fs::read_to_string(net.path("provision.yaml")).unwrap();
    net.write("provision.yaml", &format!("{settings}{IPV6}"));
    net.write("topology.yaml", TOPOLOGY);
    // A socket cannot send from an address that may still be somebody else's.
    settled(&net.server, "mgmt0");
    net
}

/// Waits until the link-local address may be used.
fn settled(machine: &Netns, interface: &str) {
    until("the link-local address is settled", || {
        let addresses = machine.run("ip", &["-6", "addr", "show", "dev", interface, "scope", "link"]);
        (addresses.contains("fe80::") && !addresses.contains("tentative")).then_some(())
    });
}

/// Starts ISC's client. The script leaves what it was given in a file.
fn dhclient(net: &Net, machine: &Netns, name: &str, more: &[&str]) -> (Process, String) {
    settled(machine, "eth0");
    let (script, given) = net.script(
        &format!("{name}-script"),
        "$reason",
        "BOUND6|RENEW6|REBIND6|INFORM6",
        "test -z \"$new_ip6_address\" || ip -6 addr replace $new_ip6_address/64 dev eth0 nodad",
    );
    net.write(&format!("{name}.conf"), SONIC);
    let leases = net.path(&format!("{name}.leases"));
    if !leases.exists() {
        fs::write(&leases, "").unwrap();
    }
    let file = |ending: &str| net.text(&format!("{name}.{ending}"));
    let (conf, leases, pid) = (file("conf"), file("leases"), file("pid"));
    let fixed = ["-6", "-d", "-cf", &conf, "-lf", &leases, "-pf", &pid, "-sf", &script];
    let log = fs::File::create(net.path(&format!("{name}.log"))).unwrap();
    let mut command = machine.command("dhclient", &[&fixed[..], more, &["eth0"]].concat());
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
    (Process(child.expect("dhclient (isc-dhcp-client)")), given)
}

fn given(path: &str) -> Given {
    until("dhclient was answered", || fs::read_to_string(path).ok().map(Given))
}

#[test]
fn sonic_gets_its_address_and_its_file_over_ipv6_and_gives_the_address_back() {
    let mut net = network();
    let machine = net.machine("leaf1", "02:aa:00:00:00:01");
    net.serve();
    let (client, path) = dhclient(&net, &machine, "leaf1", &[]);
    let got = given(&path);
    assert_eq!(got.get("new_ip6_address"), "2001:db8:1::11", "{got:?}");
    let url = got.get("new_dhcp6_bootfile_url").trim_matches('"').to_owned();
    assert_eq!(url, "http://[2001:db8:1::1]/ztp/leaf1/ztp.json", "{got:?}");
    assert_eq!(got.get("new_dhcp6_name_servers"), "2001:db8::53", "{got:?}");
    // The client prints what it does not know in hexadecimal: a length of two octets, then the address.
    let uri = "bootz://[2001:db8:1::5]:15006";
    let octets = (uri.len() as u16).to_be_bytes().into_iter().chain(uri.bytes());
    let octets: Vec<String> = octets.map(|b| format!("{b:x}")).collect();
    assert_eq!(got.get("new_dhcp6_sztp_redirect"), octets.join(":"), "{got:?}");
    // It is known by the address that it was given, and its file leads it on over IPv6.
    let text = machine.run("curl", &["-6gsSf", "-m", "30", &url]);
    let file: Value = serde_json::from_str(&text).unwrap();
    let image = &file["ztp"]["01-firmware"]["install"]["url"];
    assert_eq!(image, "http://[2001:db8:1::1]/images/nos-1.0.bin", "{text}");
    assert_eq!(net.steps("leaf1"), ["discovered", "leased", "script_fetched"]);

    // The lease survives the server, whose identifier stays.
    drop(client);
    net.kill();
    net.serve();
    let leases = |net: &Net| net.status()["leases"].to_string();
    assert!(leases(&net).contains("2001:db8:1::11"), "{}", leases(&net));
    let (_release, _) = dhclient(&net, &machine, "leaf1", &["-r"]);
    until("the address was released", || {
        net.steps("leaf1").iter().any(|s| s == "released").then_some(())
    });
    assert!(!leases(&net).contains("2001:db8:1::11"), "{}", leases(&net));
}

#[test]
fn a_client_without_need_of_an_address_gets_options_and_a_stranger_nothing() {
    let mut net = network();
    let machine = net.machine("leaf1", "02:aa:00:00:00:01");
    let stranger = net.machine("box", "02:dd:00:00:00:07");
    net.serve();
    let (_client, path) = dhclient(&net, &machine, "leaf1", &["-S"]);
    let got = given(&path);
    assert!(
        got.get("new_dhcp6_bootfile_url").contains("/ztp/leaf1/ztp.json"),
        "{got:?}"
    );
    assert_eq!(got.get("new_ip6_address"), "");

    let (_stranger, nothing) = dhclient(&net, &stranger, "box", &[]);
    let shown = || {
        let status = net.status();
        let all = status["strangers"].as_array()?;
        all.iter().find(|s| s["mac"] == "02:dd:00:00:00:07").cloned()
    };
    let shown = until("the stranger is shown", shown);
    assert_eq!(shown["subnet"], "2001:db8:1::/64");
    assert_eq!(shown["details"]["user class"], "SONiC-ZTP", "{shown}");
    assert!(!fs::exists(&nothing).unwrap());
    // It waits; when the window is open it gets an address, and nothing to boot.
    net.operate(&["enrol", "--for", "10m", "--machines", "1"]);
    let got = given(&nothing);
    assert_eq!(got.get("new_ip6_address"), "2001:db8:1::100");
    assert_eq!(got.get("new_dhcp6_bootfile_url"), "");
}

#[test]
fn a_switch_behind_a_relay_gets_an_address_of_its_own_subnet() {
    let mut net = network();
    let (router, far) = net.behind_router("02:aa:00:00:00:02");
    router.ip("addr add 2001:db8:1::fe/64 dev eth0 nodad");
    router.ip("addr add 2001:db8:2::1/64 dev eth1 nodad");
    router.run("sysctl", &["-qw", "net.ipv6.conf.all.forwarding=1"]);
    net.server.ip("-6 route add 2001:db8:2::/64 via 2001:db8:1::fe");
    net.serve();
    for interface in ["eth0", "eth1"] {
        settled(&router, interface);
    }
    let pid = net.text("relay.pid");
    let args = ["-6", "-d", "-pf", &pid, "-l", "eth1", "-u", "2001:db8:1::1%eth0"];
    let log = fs::File::create(net.path("relay.log")).unwrap();
    let relay = router
        .command("dhcrelay", &args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn();
    let _relay = Process(relay.expect("dhcrelay (isc-dhcp-relay)"));
    let (_client, path) = dhclient(&net, &far, "leaf2", &[]);
    let got = given(&path);
    assert_eq!(got.get("new_ip6_address"), "2001:db8:2::100", "{got:?}");
    assert!(
        got.get("new_dhcp6_bootfile_url").contains("/ztp/leaf2/ztp.json"),
        "{got:?}"
    );
    let status = net.status();
    let detail = status["switches"]["leaf2"]["steps"][0]["detail"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(
        detail.contains("2001:db8:2::/64 through relay 2001:db8:2::1"),
        "{detail}"
    );
}

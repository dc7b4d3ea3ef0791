//! Real clients against the server, in network namespaces: busybox's and ISC's DHCP clients with the options that ONIE
//! and SONiC send, ISC's relay, dnsmasq and Kea beside it, curl and tftp. Needs root and Debian's packages of these.

#[allow(unreachable_pub)]
mod common;

use std::fs;
use std::process::Stdio;

use common::{Mount, Net, Netns, Process, image, until};
use serde_json::Value;

const ONIE: &[&str] = &[
    "-V",
    "onie_vendor:x86_64-acme_s1-r0",
    // onie_dhcp_user_class
    "-x",
    "77:6f6e69655f646863705f757365725f636c617373",
    // Enterprise 42623: machine, architecture, revision.
    "-x",
    "125:0000a67f130307616d655f73312d0406783836",
    "-O",
    "67",
    "-O",
    "72",
    "-O",
    "114",
    "-O",
    "150",
    "-O",
    "42",
];

/// As ONIE fetches, with its headers.
fn onie_get(machine: &Netns, url: &str, to: &str, more: &[&str]) -> String {
    let headers = [
        "-A",
        "onie/1.0",
        "-H",
        "ONIE-SERIAL-NUMBER: AF39",
        "-H",
        "ONIE-ETH-ADDR: 02:aa:00:00:00:01",
        "-H",
        "ONIE-VENDOR-ID: 4413",
        "-H",
        "ONIE-MACHINE: acme_s1",
        "-H",
        "ONIE-MACHINE-REV: 0",
        "-H",
        "ONIE-ARCH: x86_64",
        "-H",
        "ONIE-SECURITY-KEY: d3b07384d113edec49eaa6238ad5ff00",
        "-H",
        "ONIE-OPERATION: os-install",
    ];
    let fixed = ["-sS", "-m", "30", "-o", to, "-w", "%{http_code}"];
    machine.run("curl", &[&fixed[..], &headers, more, &[url]].concat())
}

#[test]
fn onie_goes_from_discover_to_a_whole_image_and_its_lease_survives_the_server() {
    let mut net = Net::new();
    net.serve();
    let leaf = net.machine("leaf1", "02:aa:00:00:00:01");
    let given = net.udhcpc(&leaf, 20, ONIE).expect("a lease");
    assert_eq!(
        (given.get("ip"), given.get("mask"), given.get("router")),
        ("192.0.2.11", "24", "192.0.2.254")
    );
    assert_eq!(
        (given.get("serverid"), given.get("siaddr"), given.get("lease")),
        ("192.0.2.1", "192.0.2.1", "3600")
    );
    assert_eq!(
        (given.get("hostname"), given.get("dns"), given.get("ntpsrv")),
        ("leaf1", "192.0.2.53", "192.0.2.123")
    );
    assert_eq!((given.get("bootfile"), given.get("tftp")), ("nos-1.0.bin", "192.0.2.1"));
    // Busybox shows options that it has no name for in hexadecimal.
    let text = |hex: &str| -> String {
        let octets = (0..hex.len() / 2).map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap() as char);
        octets.collect()
    };
    let url = text(given.get("opt114"));
    assert_eq!(url, "http://192.0.2.1/images/nos-1.0.bin");
    let vendor = text(given.get("opt125"));
    assert!(
        vendor.starts_with("\0\0\u{a6}\u{7f}") && vendor.ends_with(&url),
        "{vendor:?}"
    );

    // A transfer that broke off in the middle is resumed.
    let file = net.text("fetched");
    assert_eq!(onie_get(&leaf, &url, &file, &["-r", "0-9999"]), "206");
    assert_eq!(fs::metadata(&file).unwrap().len(), 10_000);
    assert_eq!(onie_get(&leaf, &url, &file, &["-C", "-"]), "206");
    assert!(fs::read(&file).unwrap() == image(), "the parts make the image");
    assert_eq!(onie_get(&leaf, &url, &net.text("head"), &["-I"]), "200");
    // What ONIE tries without any option.
    let file = net.text("waterfall");
    assert_eq!(
        onie_get(&leaf, "http://192.0.2.1/onie-installer-x86_64-acme_s1-r0", &file, &[]),
        "200"
    );
    assert!(fs::read(&file).unwrap() == image());
    assert_eq!(
        onie_get(&leaf, "http://192.0.2.1/onie-updater-x86_64", &net.text("none"), &[]),
        "404"
    );
    assert_eq!(
        net.steps("leaf1"),
        ["discovered", "leased", "image_fetched", "image_fetched", "no_file"]
    );

    // Killed, not stopped: what was acknowledged is on the disk.
    net.kill();
    net.serve();
    let status = net.status();
    assert_eq!(status["leases"][0]["address"], "192.0.2.11");
    assert_eq!(status["leases"][0]["holder"], "switch leaf1");
    let again = net.udhcpc(&leaf, 20, &["-r", "192.0.2.11"]).expect("a lease");
    assert_eq!(again.get("ip"), "192.0.2.11");
    assert!(
        net.operate(&["status"]).contains("192.0.2.11      switch leaf1"),
        "{}",
        net.operate(&["status"])
    );
}

#[test]
fn sonic_gets_its_ztp_json_by_its_serial_number_alone() {
    let mut net = Net::new();
    net.serve();
    // The inventory has no MAC address of leaf2.
    let leaf = net.machine("leaf2", "02:cc:00:00:00:02");
    let (given, _client) = net.dhclient(
        &leaf,
        r#"
        timeout 60; retry 1; initial-interval 1;
        option ztp-script code 239 = text;
        send user-class "SONiC-ZTP";
        send vendor-class-identifier "acme:s1";
        send dhcp-client-identifier "SONiC##acme-s1##AF40";
        request subnet-mask, routers, domain-name-servers, host-name, domain-name, bootfile-name, ztp-script, ntp-servers;
        "#,
    );
    assert_eq!(
        (given.get("new_host_name"), given.get("new_domain_name")),
        ("leaf2", "fabric.example")
    );
    let address = given.get("new_ip_address");
    assert!(address.starts_with("192.0.2.10"), "one of the pool: {address}");
    let url = given.get("new_bootfile_name");
    assert_eq!(url, "http://192.0.2.1/ztp/leaf2/ztp.json");
    let fetch = |url: &str| {
        leaf.run(
            "curl",
            &[
                "-sSf",
                "--connect-timeout",
                "30",
                "-H",
                "SERIAL-NUMBER: AF40",
                "-H",
                "PRODUCT-NAME: acme-s1",
                url,
            ],
        )
    };
    let ztp: Value = serde_json::from_str(&fetch(url)).unwrap();
    assert_eq!(
        ztp["ztp"]["01-firmware"]["install"]["url"],
        "http://192.0.2.1/images/nos-1.0.bin"
    );
    let script = fetch(ztp["ztp"]["02-first-boot"]["plugin"]["url"].as_str().unwrap());
    assert!(script.starts_with("#!/bin/sh\n") && script.contains("hostname leaf2\n"));
    assert_eq!(
        net.steps("leaf2"),
        ["discovered", "leased", "script_fetched", "script_fetched"]
    );
    // The preview shows exactly what is served, whether the running server makes it or the files alone.
    assert_eq!(net.operate(&["render", "leaf2", "first-boot.sh"]), script);
    let topology = net.text("topology.yaml");
    assert_eq!(
        net.operate(&["render", "--inventory", &topology, "leaf2", "first-boot.sh"]),
        script
    );
    // Another switch's files are not for it.
    let other = leaf.run(
        "curl",
        &[
            "-s",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
            "http://192.0.2.1/ztp/leaf1/ztp.json",
        ],
    );
    assert_eq!(other, "404");
}

#[test]
fn a_switch_behind_a_relay_gets_an_address_of_its_own_subnet() {
    let mut net = Net::new();
    let (router, far) = net.behind_router("02:aa:00:00:00:01");
    net.serve();
    let relay = router
        .command(
            "dhcrelay",
            &["-4", "-d", "-a", "-id", "eth1", "-iu", "eth0", "192.0.2.1"],
        )
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("dhcrelay (isc-dhcp-relay)");
    let _relay = common::Process(relay);
    let (given, _client) = net.dhclient(
        &far,
        r#"
        timeout 60; retry 1; initial-interval 1;
        send vendor-class-identifier "cumulus-linux x86_64";
        option cumulus-script code 239 = text;
        request subnet-mask, routers, host-name, cumulus-script;
        "#,
    );
    let address = given.get("new_ip_address");
    assert!(address.starts_with("198.51.100.10"), "{address}");
    assert_eq!(
        given.get("new_cumulus_script"),
        "http://192.0.2.1/ztp/leaf1/first-boot.sh"
    );
    assert_eq!(given.get("new_dhcp_server_identifier"), "192.0.2.1");
    far.ip("route add default via 198.51.100.1");
    let script = far.run(
        "curl",
        &["-sSf", "-H", "CUMULUS-SERIAL: AF39", given.get("new_cumulus_script")],
    );
    assert!(script.contains("CUMULUS-AUTOPROVISIONING"));
    let step = net.status()["switches"]["leaf1"]["steps"][0]["detail"].to_string();
    assert!(step.contains("through relay 198.51.100.1"), "{step}");
}

#[test]
fn beside_the_operators_server_only_our_own_are_answered() {
    let mut net = Net::new();
    net.serve();
    let theirs = net.machine("theirs", "02:bb:00:00:00:02");
    theirs.ip("addr add 192.0.2.2/24 dev eth0");
    let (leases, lines) = (net.text("dnsmasq.leases"), net.text("dnsmasq.conf"));
    let topology = net.text("topology.yaml");
    let generated = common::run(
        env!("CARGO_BIN_EXE_fabric-provision"),
        &["dnsmasq", "--inventory", &topology],
    );
    net.write("dnsmasq.conf", &generated);
    let dnsmasq = theirs
        .command(
            "dnsmasq",
            &[
                "--keep-in-foreground",
                &format!("--conf-file={lines}"),
                "--port=0",
                "--user=root",
                "--pid-file",
                "--interface=eth0",
                "--bind-interfaces",
                "--dhcp-authoritative",
                "--dhcp-range=192.0.2.200,192.0.2.210,1h",
                &format!("--dhcp-leasefile={leases}"),
            ],
        )
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("dnsmasq (dnsmasq-base)");
    let _dnsmasq = common::Process(dnsmasq);
    let laptop = net.machine("laptop", "02:dd:00:00:00:01");
    let given = net.udhcpc(&laptop, 30, &[]).expect("a lease");
    assert_eq!(given.get("serverid"), "192.0.2.2");
    let leaf = net.machine("leaf1", "02:aa:00:00:00:01");
    let given = net.udhcpc(&leaf, 30, ONIE).expect("a lease");
    assert_eq!((given.get("serverid"), given.get("ip")), ("192.0.2.1", "192.0.2.11"));
    let status = net.status();
    assert_eq!(status["leases"].as_array().unwrap().len(), 1);
    // The laptop is shown, for it might have been a switch.
    assert_eq!(status["strangers"][0]["mac"], "02:dd:00:00:00:01");
    assert!(status["counters"]["dhcp_for_other_server"].as_u64().unwrap() >= 1);
}

/// Kea with the generated classes; the configuration is checked by Kea itself first.
fn kea(net: &Net, machine: &Netns, six: bool) -> Process {
    let topology = net.text("topology.yaml");
    let (program, name, protocol) = match six {
        false => ("kea-dhcp4", "classes4.json", &[][..]),
        true => ("kea-dhcp6", "classes6.json", &["--ipv6"][..]),
    };
    let args = [&["kea", "--inventory", topology.as_str()][..], protocol].concat();
    net.write(name, &common::run(env!("CARGO_BIN_EXE_fabric-provision"), &args));
    let (subnet, pool, server) = match six {
        false => ("192.0.2.0/24", "192.0.2.200 - 192.0.2.210", "Dhcp4"),
        true => ("2001:db8:1::/64", "2001:db8:1::200 - 2001:db8:1::210", "Dhcp6"),
    };
    // Where Debian's package keeps the server's DUID, only its service may write.
    let server_id = match six {
        false => "",
        true => r#""server-id": { "type": "LLT", "persist": false },"#,
    };
    let settings = format!(
        r#"{{ "{server}": {{
  {server_id}
  "interfaces-config": {{ "interfaces": ["eth0"] }},
  "lease-database": {{ "type": "memfile", "persist": false }},
  "client-classes": <?include "{classes}"?>,
  "{kind}": [{{ "subnet": "{subnet}", "interface": "eth0", "pools": [{{ "pool": "{pool}" }}] }}]
}} }}
"#,
        classes = net.text(name),
        kind = if six { "subnet6" } else { "subnet4" },
    );
    let file = format!("{name}.conf");
    net.write(&file, &settings);
    machine.run(program, &["-t", &net.text(&file)]);
    let mut command = machine.command(program, &["-c", &net.text(&file)]);
    // Kea needs a folder for its process id, and no lock that it would share with other
    // servers of this machine.
    command
        .env("KEA_PIDFILE_DIR", net.dir.path())
        .env("KEA_LOCKFILE_DIR", "none");
    let log = fs::File::create(net.path(&format!("{name}.log"))).unwrap();
    let child = command
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn();
    Process(child.expect("Debian packages kea-dhcp4-server and kea-dhcp6-server"))
}

#[test]
fn the_operators_kea_leaves_our_switches_to_us() {
    let mut net = Net::new();
    net.serve();
    let theirs = net.machine("theirs", "02:bb:00:00:00:02");
    theirs.ip("addr add 192.0.2.2/24 dev eth0");
    let _kea = kea(&net, &theirs, false);
    let laptop = net.machine("laptop", "02:dd:00:00:00:01");
    let given = net.udhcpc(&laptop, 60, &[]).expect("a lease");
    assert_eq!(given.get("serverid"), "192.0.2.2");
    let leaf = net.machine("leaf1", "02:aa:00:00:00:01");
    let given = net.udhcpc(&leaf, 30, ONIE).expect("a lease");
    assert_eq!((given.get("serverid"), given.get("ip")), ("192.0.2.1", "192.0.2.11"));
    // Known by its serial number alone, as SONiC says it.
    let sonic = net.machine("leaf2", "02:cc:00:00:00:02");
    let (given, _client) = net.dhclient(
        &sonic,
        "send dhcp-client-identifier \"SONiC##x86_64-acme_s1-r0##AF40\"; send user-class \"SONiC-ZTP\";",
    );
    assert_eq!(given.get("new_dhcp_server_identifier"), "192.0.2.1");
    let log = fs::read_to_string(net.path("classes4.json.log")).unwrap();
    assert!(
        !log.contains("192.0.2.11") && !log.contains("02:aa:00:00:00:01"),
        "{log}"
    );
}

#[test]
fn keas_dhcpv6_server_accepts_the_generated_classes() {
    let mut net = Net::new();
    let theirs = net.machine("theirs", "02:bb:00:00:00:02");
    theirs.ip("addr add 2001:db8:1::2/64 dev eth0 nodad");
    let mut kea = kea(&net, &theirs, true);
    until("Kea serves", || {
        let log = fs::read_to_string(net.path("classes6.json.log")).unwrap();
        assert!(kea.0.try_wait().unwrap().is_none(), "{log}");
        log.contains("DHCP6_STARTED").then_some(())
    });
}

#[test]
fn files_are_served_over_https_to_those_who_trust_the_fabrics_authority() {
    let mut net = Net::new();
    let authority = fabric_identity::testing::Authority::new();
    let address = |params: &mut rcgen::CertificateParams| {
        let own = rcgen::SanType::IpAddress([192, 0, 2, 1].into());
        params.subject_alt_names.push(own);
    };
    let own = authority.issue_with(&["spiffe://test/provision"], address);
    net.write("ca.pem", &authority.pem);
    net.write("https.pem", &own.cert);
    net.write("https.key", &own.key);
    common::run("chown", &[common::USER, &net.text("https.key")]);
    let settings = fs::read_to_string(net.path("provision.yaml")).unwrap();
    let https = "https: { port: 8443, tls_ca: ca.pem, tls_cert: https.pem, tls_key: https.key }\n";
    net.write("provision.yaml", &format!("{settings}{https}"));
    net.serve();
    let leaf = net.machine("leaf1", "02:aa:00:00:00:01");
    net.udhcpc(&leaf, 20, ONIE).expect("a lease");
    let url = "https://192.0.2.1:8443/images/nos-1.0.bin";
    let (ca, file) = (net.text("ca.pem"), net.text("fetched"));
    leaf.run("curl", &["-sSf", "--cacert", &ca, "-o", &file, url]);
    assert!(fs::read(&file).unwrap() == image());
    // A client that does not trust the authority gets nothing. Plain HTTP works as
    // before.
    let refused = leaf.command("curl", &["-sS", "-o", &file, url]).output().unwrap();
    assert_eq!(
        refused.status.code(),
        Some(60),
        "curl's word for a certificate that it does not trust"
    );
    leaf.run("curl", &["-sSf", "-o", &file, "http://192.0.2.1/images/nos-1.0.bin"]);
}

#[test]
fn strangers_wait_outside_until_an_operator_opens_the_window() {
    let mut net = Net::new();
    net.serve();
    let box1 = net.machine("box", "02:dd:00:00:00:07");
    assert!(net.udhcpc(&box1, 2, ONIE).is_none());
    let stranger = &net.status()["strangers"][0];
    assert_eq!(stranger["details"]["model"], "x86_64-acme_s1-r0");
    let log = net.log();
    let lines = log.lines().filter(|l| l.contains("02:dd:00:00:00:07")).count();
    assert_eq!(lines, 1, "once in the log: {log}");
    assert!(
        net.operate(&["enrol", "--for", "60s", "--machines", "1"])
            .starts_with("open until ")
    );
    let given = net.udhcpc(&box1, 20, ONIE).expect("a lease");
    assert!(given.get("ip").starts_with("192.0.2.10"), "{}", given.get("ip"));
    assert_eq!(given.get("opt114"), "", "an address, and nothing to boot");
    net.operate(&["enrol", "--close"]);
    let box2 = net.machine("box2", "02:dd:00:00:00:08");
    assert!(net.udhcpc(&box2, 2, ONIE).is_none());
    // The inventory names it now: the file is followed.
    let topology = fs::read_to_string(net.path("topology.yaml")).unwrap();
    let leaf3 = topology.lines().find(|l| l.contains("leaf1")).unwrap();
    let leaf3 = leaf3
        .replace("leaf1", "leaf3")
        .replace("device_id: 1", "device_id: 3")
        .replace(".11:", ".13:");
    let leaf3 = leaf3
        .replace("10.255.0.1", "10.255.0.3")
        .replace("255::1", "255::3")
        .replace("AF39", "AF43");
    let leaf3 = leaf3.replace("02:aa:00:00:00:01", "02:dd:00:00:00:08");
    net.write("topology.yaml", &format!("{topology}{leaf3}\n"));
    until("the inventory is read", || {
        net.status()["inventory"]
            .as_str()
            .unwrap()
            .starts_with("3 switches")
            .then_some(())
    });
    assert_eq!(net.udhcpc(&box2, 20, ONIE).expect("a lease").get("ip"), "192.0.2.13");
}

#[test]
fn the_server_has_no_rights_and_shows_nothing_to_others() {
    let mut net = Net::new();
    net.serve();
    let status = fs::read_to_string(format!("/proc/{}/status", net.pid())).unwrap();
    let field = |name: &str| {
        let line = status.lines().find(|l| l.starts_with(name)).unwrap();
        line.split_once(':').unwrap().1.trim().to_owned()
    };
    assert!(
        !field("Uid").split_whitespace().any(|uid| uid == "0"),
        "{}",
        field("Uid")
    );
    assert!(
        !field("Gid").split_whitespace().any(|gid| gid == "0"),
        "{}",
        field("Gid")
    );
    assert_eq!((field("CapEff"), field("CapPrm")), ("0".repeat(16), "0".repeat(16)));
    assert_eq!((field("NoNewPrivs").as_str(), field("Groups").as_str()), ("1", ""));
    let mode = |path: &str| {
        use std::os::unix::fs::PermissionsExt as _;
        fs::metadata(net.path(path)).unwrap().permissions().mode() & 0o777
    };
    assert_eq!((mode("state"), mode("state/leases") & 0o77), (0o700, 0));
    // A second server in the same directory says so.
    let (settings, topology) = (net.text("provision.yaml"), net.text("topology.yaml"));
    let text = fs::read_to_string(&settings).unwrap();
    net.write("second.yaml", &text.replace("tftp: true", "http_port: 8080"));
    let second = net
        .server
        .command(
            env!("CARGO_BIN_EXE_fabric-provision"),
            &[
                "serve",
                "--settings",
                &net.text("second.yaml"),
                "--inventory",
                &topology,
            ],
        )
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&second.stderr);
    assert!(
        !second.status.success() && said.contains("another server runs"),
        "{said}"
    );
}

#[test]
fn a_full_disk_gives_no_lease_and_says_so() {
    let mut net = Net::new();
    let _disk = Mount::small(&net.path("state"), "64k");
    net.serve();
    let filler = net.path("state/filler");
    // Written as root: this file system reserves no space for root.
    let _ = fs::write(&filler, vec![0; 256 << 10]);
    let leaf = net.machine("leaf1", "02:aa:00:00:00:01");
    // The last page of the file may have had room: a lease that reached the disk is real.
    let mut refused = false;
    for _ in 0..60 {
        if net.udhcpc(&leaf, 2, ONIE).is_none() {
            refused = true;
            break;
        }
    }
    assert!(refused, "{}", net.operate(&["status"]));
    let troubles = net.status()["troubles"].to_string();
    assert!(troubles.contains("leases cannot be written"), "{troubles}");
    fs::remove_file(&filler).unwrap();
    assert_eq!(net.udhcpc(&leaf, 20, ONIE).expect("a lease").get("ip"), "192.0.2.11");
}

#[test]
fn tftp_serves_whole_files_read_only() {
    let mut net = Net::new();
    net.serve();
    let leaf = net.machine("leaf1", "02:aa:00:00:00:01");
    net.udhcpc(&leaf, 20, ONIE).expect("a lease");
    let get = |file: &str, to: &str| {
        let command = format!("get {file} {}", net.text(to));
        let args: Vec<&str> = ["192.0.2.1", "-m", "binary", "-c"]
            .into_iter()
            .chain(command.split(' '))
            .collect();
        let _ = leaf
            .command("tftp", &args)
            .output()
            .expect("tftp (Debian package tftp-hpa)");
        fs::read(net.path(to)).unwrap_or_default()
    };
    // Its size is a multiple of the block size, so an empty block follows.
    assert!(get("nos-1.0.bin", "a") == image());
    // In the order in which ONIE tries its folders.
    assert!(get("02-aa-00-00-00-01/onie-installer-x86_64-acme_s1-r0", "b") == image());
    assert!(get("../../etc/passwd", "c").is_empty() && get("SHA256SUMS", "d").is_empty());
    // curl negotiates a block size.
    let file = net.text("e");
    let curl = leaf
        .command(
            "curl",
            &[
                "-sS",
                "-o",
                &file,
                "--tftp-blksize",
                "1400",
                "tftp://192.0.2.1/nos-1.0.bin",
            ],
        )
        .output()
        .unwrap();
    if curl.status.success() {
        assert!(fs::read(&file).unwrap() == image());
    } else {
        let said = String::from_utf8_lossy(&curl.stderr).into_owned();
        panic!("curl over TFTP: {said}");
    }
    let status = net.status();
    let steps = status["switches"]["leaf1"]["steps"].as_array().unwrap();
    let fetched = steps.iter().filter(|s| s["what"] == "image_fetched");
    let times: u64 = fetched.map(|s| s["times"].as_u64().unwrap()).sum();
    assert_eq!(times, 3, "{steps:?}");
}

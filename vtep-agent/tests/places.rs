//! Namespaces into which workloads' interfaces may go. Needs root, `ip`, `mount`, `mkfifo` and `mknod`.

#[allow(unreachable_pub, dead_code)]
mod common;

use std::fs;
use std::process::Command;

use common::{Lab, Netns, ip, run, unique};
use vtep_agent::datapath::Scope;
use vtep_agent::datapath::kernel::{FloodLimit, Kernel, Overlay};
use vtep_agent::watch::Watch;
use vtep_proto::v1::ErrorCode;
use vtep_proto::{HostEntity, HostKey, UnderlayFamily};

const NET: u32 = 10_000;

/// A file in the directory of namespaces, deleted when the value is dropped.
struct Planted(String);

impl Planted {
    fn new(make: impl FnOnce(&str)) -> Self {
        let name = unique("p");
        make(&format!("/run/netns/{name}"));
        Self(name)
    }
}

impl Drop for Planted {
    fn drop(&mut self) {
        let path = format!("/run/netns/{}", self.0);
        let _ = Command::new("umount").arg(&path).output();
        let _ = fs::remove_file(&path);
        let _ = fs::remove_dir(&path);
    }
}

fn bind(source: &str) -> impl FnOnce(&str) {
    move |path| {
        fs::write(path, "").unwrap();
        run("mount", &["--bind", source, path]);
    }
}

fn at(lab: &Lab, name: &str, netns: &str, interface: &str) -> HostEntity {
    let HostEntity::Attachment(mut a) = lab.attachment(0, NET, name) else {
        unreachable!()
    };
    a.id = name.to_owned();
    a.netns = netns.to_owned();
    a.interface = interface.to_owned();
    HostEntity::Attachment(a)
}

fn code(lab: &Lab, id: &str) -> Option<ErrorCode> {
    lab.error(0, &HostKey::Attachment(id.into())).map(|e| e.code)
}

#[test]
fn only_a_network_namespace_that_is_not_the_hosts_is_a_place() {
    let mut lab = Lab::new(UnderlayFamily::Ipv4);
    // `ip` opens every file in the directory, and would wait for the other end of a FIFO: one
    // is open.
    let mut end = None;
    let fifo = Planted::new(|p| {
        run("mkfifo", &[p]);
        end = fs::File::options().read(true).write(true).open(p).ok();
    });
    let planted = [
        ("a FIFO", fifo),
        ("a device", Planted::new(|p| run("mknod", &[p, "c", "5", "0"]))),
        ("a directory", Planted::new(|p| fs::create_dir(p).unwrap())),
        (
            "a symbolic link",
            Planted::new(|p| std::os::unix::fs::symlink("/proc/self/ns/net", p).unwrap()),
        ),
        ("a namespace of another type", Planted::new(bind("/proc/self/ns/uts"))),
    ];
    let plain = Planted::new(|p| fs::write(p, "").unwrap());
    let mut cases: Vec<(&str, String)> = planted.iter().map(|(words, p)| (*words, p.0.clone())).collect();
    cases.push(("host's own", lab.host(0).to_owned()));
    cases.push(("host's bridges", lab.overlay(0).to_owned()));
    let before = (common::links(lab.host(0)), routes(lab.host(0)));

    // All in one update, together with a valid one: none delays another.
    let mut all = vec![lab.network(0, NET)];
    all.extend(
        (0..)
            .zip(&cases)
            .map(|(i, (_, netns))| at(&lab, &format!("red/{i}"), netns, "bad0")),
    );
    all.push(at(&lab, "red/plain", &plain.0, "bad0"));
    all.push(at(&lab, "blue/good", lab.workload(0), "eth0"));
    lab.update(0, all, &[]);

    for (i, (words, _)) in cases.iter().enumerate() {
        let error = lab.error(0, &HostKey::Attachment(format!("red/{i}"))).unwrap();
        assert_eq!(error.code, ErrorCode::PlaceRefused, "{error}");
        assert!(error.message.contains(words), "{error} does not say `{words}`");
    }
    let error = lab.error(0, &HostKey::Attachment("red/plain".into())).unwrap();
    assert!(error.message.contains("a plain file"), "{error}");
    assert_eq!(code(&lab, "blue/good"), None);
    assert_eq!((common::links(lab.host(0)), routes(lab.host(0))), before);
    drop(planted);
    drop(end);
}

fn routes(netns: &str) -> String {
    let out = Command::new("ip").args(["-n", netns, "route"]).output().unwrap();
    String::from_utf8(out.stdout).unwrap()
}

#[test]
fn a_namespace_belongs_to_one_vdc_unless_both_agree() {
    let mut lab = Lab::new(UnderlayFamily::Ipv4);
    let (netns, network) = (lab.workload(0).to_owned(), lab.network(0, NET));
    let share = |mut entity: HostEntity| {
        if let HostEntity::Attachment(a) = &mut entity {
            a.shared_netns = true;
        }
        entity
    };
    let first = at(&lab, "red/a", &netns, "eth0");
    lab.update(0, vec![network, first.clone()], &[]);
    let second = at(&lab, "blue/a", &netns, "eth1");
    lab.update(0, vec![second.clone()], &[]);
    assert_eq!(
        (code(&lab, "red/a"), code(&lab, "blue/a")),
        (None, Some(ErrorCode::PlaceRefused))
    );
    assert!(!common::links(&netns).iter().any(|l| l.contains("eth1")));

    // One attachment alone cannot allow sharing. After a restart, the order of arrival is kept.
    lab.update(0, vec![share(second.clone())], &[]);
    assert_eq!(code(&lab, "blue/a"), Some(ErrorCode::PlaceRefused));
    lab.restart(0);
    assert_eq!(
        (code(&lab, "red/a"), code(&lab, "blue/a")),
        (None, Some(ErrorCode::PlaceRefused))
    );
    lab.update(0, vec![share(first.clone())], &[]);
    assert_eq!((code(&lab, "red/a"), code(&lab, "blue/a")), (None, None));

    // It no longer allows sharing, so the later one leaves. When the first is removed, the later one comes back.
    lab.update(0, vec![first.clone()], &[]);
    assert_eq!(
        (code(&lab, "red/a"), code(&lab, "blue/a")),
        (None, Some(ErrorCode::PlaceRefused))
    );
    assert!(!common::links(&netns).iter().any(|l| l.contains("eth1")));
    lab.update(0, vec![], &[first.key()]);
    assert_eq!(code(&lab, "blue/a"), None);
    assert!(lab.check(0, &Scope::All).is_empty());
}

#[test]
fn a_second_name_of_a_namespace_does_not_hide_whose_it_is() {
    let mut lab = Lab::new(UnderlayFamily::Ipv4);
    let netns = lab.workload(0).to_owned();
    let alias = Planted::new(bind(&format!("/run/netns/{netns}")));
    let first = at(&lab, "red/a", &netns, "eth0");
    let (network, second) = (lab.network(0, NET), at(&lab, "blue/a", &alias.0, "eth1"));
    lab.update(0, vec![network, first.clone(), second], &[]);
    assert_eq!(
        (code(&lab, "red/a"), code(&lab, "blue/a")),
        (None, Some(ErrorCode::PlaceRefused))
    );
    lab.update(0, vec![], &[first.key()]);
    lab.engine(0, |e| e.retry(|_| true).unwrap());
    assert_eq!(code(&lab, "blue/a"), None);
}

#[test]
fn a_route_of_the_workloads_own_stays() {
    let mut lab = Lab::new(UnderlayFamily::Ipv4);
    let netns = lab.workload(0).to_owned();
    ip(&[
        "-n", &netns, "link", "add", "own0", "type", "veth", "peer", "name", "own1",
    ]);
    ip(&["-n", &netns, "addr", "add", "172.16.0.2/24", "dev", "own0"]);
    ip(&["-n", &netns, "link", "set", "own0", "up"]);
    ip(&["-n", &netns, "link", "set", "own1", "up"]);
    ip(&["-n", &netns, "route", "add", "default", "via", "172.16.0.1"]);
    let (network, attachment) = (lab.network(0, NET), at(&lab, "blue/a", &netns, "eth0"));
    let key = attachment.key();
    lab.update(0, vec![network, attachment], &[]);
    assert_eq!(lab.error(0, &key), None);
    // Another attachment of the workload has a default route, too.
    let mut second = at(&lab, "blue/b", &netns, "eth1");
    if let HostEntity::Attachment(a) = &mut second {
        a.mac = common::mac(3);
        a.addresses = ["10.0.0.3/24".parse().unwrap(), "fd00::3/64".parse().unwrap()].into();
    }
    lab.update(0, vec![second.clone()], &[]);
    assert_eq!(lab.error(0, &second.key()), None);
    assert!(lab.check(0, &Scope::All).is_empty());
    let own = "default via 172.16.0.1 dev own0";
    assert!(routes(&netns).starts_with(own), "{}", routes(&netns));
    lab.update(0, vec![], &[key, second.key()]);
    assert!(routes(&netns).contains(own), "{}", routes(&netns));
}

#[test]
fn links_of_an_earlier_version_leave_the_hosts_namespace() {
    let mut lab = Lab::new(UnderlayFamily::Ipv4);
    lab.two_workloads(NET);
    let (host, overlay) = (lab.host(0).to_owned(), lab.overlay(0).to_owned());
    let port = vtep_agent::object::port_name("blue/a");
    let group = format!("{}", 0x7666_6162);
    // The old layout: everything in the host's namespace.
    lab.stop(0);
    ip(&["-n", &overlay, "link", "set", &port, "netns", &host]);
    // By hand: the kernel deletes the links of a namespace some time after its name is gone, and a second VXLAN device of
    // the VNI is refused until then.
    ip(&["-n", &overlay, "link", "del", "vfx10000"]);
    ip(&["netns", "del", &overlay]);
    ip(&[
        "-n", &host, "link", "add", "vfb10000", "group", &group, "type", "bridge",
    ]);
    ip(&[
        "-n",
        &host,
        "link",
        "add",
        "vfx10000",
        "group",
        &group,
        "type",
        "vxlan",
        "id",
        "10000",
        "dstport",
        "4789",
        "local",
        "192.0.2.1",
    ]);
    ip(&["-n", &host, "link", "set", &port, "group", &group, "master", "vfb10000"]);
    let inside = common::links(lab.workload(0));
    let news = lab.restart(0);
    assert!(news.failed.is_empty(), "{news:?}");
    assert_eq!(lab.links_of_host(0), 2, "{:?}", common::links(&host));
    assert_eq!(common::links(lab.workload(0)).len(), inside.len());
    let repaired = lab.check(0, &Scope::All);
    assert!(repaired.is_empty(), "{repaired:?}");
    lab.udp_round_trip(0, "10.0.0.1".parse().unwrap(), 1, "10.0.0.2".parse().unwrap(), 100);
}

#[test]
fn the_namespace_of_the_bridges_is_kept_as_it_must_be() {
    let mut lab = Lab::new(UnderlayFamily::Ipv4);
    lab.two_workloads(NET);
    let overlay = lab.overlay(0).to_owned();
    let set = "net.ipv4.conf.all.forwarding=1";
    run("ip", &["netns", "exec", &overlay, "sysctl", "-qw", set]);
    let news = lab.check(0, &Scope::All);
    assert!(
        news.repaired
            .iter()
            .any(|r| r.contains("ipv4/conf/all/forwarding was 1")),
        "{news:?}"
    );
    // Its name is removed. It is still in use, and gets its name again.
    ip(&["netns", "del", &overlay]);
    let news = lab.check(0, &Scope::All);
    assert!(
        news.repaired.iter().any(|r| r.contains("name of network namespace")),
        "{news:?}"
    );
    assert!(lab.check(0, &Scope::All).is_empty());
    assert!(lab.links(0).iter().any(|l| l.contains("vfb10000")));
    // Somebody changes the filters.
    let (bridge, inet) = (overlay.as_str(), lab.host(0));
    let hands = [
        (bridge, "delete table bridge vfabric"),
        (bridge, "flush chain bridge vfabric guarded"),
        (bridge, "flush set bridge vfabric ports"),
        (bridge, "delete table netdev vfabric"),
        (bridge, "flush chain netdev vfabric check"),
        (inet, "delete table inet vfabric"),
        (inet, "flush chain inet vfabric errors"),
        (inet, "flush set inet vfabric vteps4"),
    ];
    for (netns, hand) in hands {
        let words = ["netns", "exec", netns, "nft"].into_iter().chain(hand.split(' '));
        run("ip", &words.collect::<Vec<_>>());
        let news = lab.check(0, &Scope::All);
        assert!(
            news.repaired.iter().any(|r| r.contains("packet filter")),
            "{hand}: {news:?}"
        );
        let again = lab.check(0, &Scope::All);
        assert!(again.is_empty(), "{hand}: {again:?}");
    }
    lab.udp_round_trip(0, "10.0.0.1".parse().unwrap(), 1, "10.0.0.2".parse().unwrap(), 100);
}

#[test]
fn two_agents_do_not_share_a_namespace() {
    let lab = Lab::new(UnderlayFamily::Ipv4);
    let error = Overlay::keep(lab.overlay(0)).err().unwrap();
    assert!(error.to_string().contains("in use by another agent"), "{error}");
    let name = unique("h");
    let other = Netns::new(&name);
    let run = common::inside(other.name(), move || Overlay::keep(&name).err().unwrap().to_string());
    assert!(run.join().unwrap().contains("in which the agent runs"));
}

#[test]
fn a_purge_leaves_nothing_behind() {
    let mut lab = Lab::new(UnderlayFamily::Ipv4);
    lab.two_workloads(NET);
    lab.stop(0);
    let overlay = lab.overlay(0).to_owned();
    let purge = {
        let overlay = overlay.clone();
        move || {
            let overlay = Overlay::keep(&overlay).unwrap();
            let kernel = Kernel::open(overlay, FloodLimit::default(), Watch::default()).unwrap();
            kernel.purge().unwrap();
        }
    };
    common::inside(lab.host(0), purge).join().unwrap();
    assert!(!vtep_agent::netns::path(&overlay).exists());
    assert_eq!(lab.links_of_host(0), 2);
    assert!(!common::links(lab.workload(0)).iter().any(|l| l.contains("eth0")));
    let tables = Command::new("ip")
        .args(["netns", "exec", lab.host(0), "nft", "list", "tables"])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(tables.stdout).unwrap(), "");
}

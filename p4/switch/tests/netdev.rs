//! gNMI's interfaces on kernel devices: a veth pair in a network namespace of its own. Needs root.

use std::process::Command;

use p4_switch::gnmi::netdev::NetdevInterfaces;
use p4_switch::gnmi::tree::Interfaces as _;

fn ip(arguments: &str) {
    let status = Command::new("ip")
        .args(arguments.split(' '))
        .status()
        .expect("iproute2 is installed");
    assert!(status.success(), "ip {arguments}");
}

/// Runs `test` on a thread that lives in a new network namespace.
fn in_namespace(test: impl Future<Output = ()> + Send + 'static) {
    let thread = std::thread::spawn(move || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("root may make namespaces");
        // Threads that the runtime starts inherit the namespace.
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .worker_threads(2)
            .build()
            .unwrap();
        runtime.block_on(async { tokio::spawn(test).await.unwrap() });
    });
    thread.join().unwrap();
}

#[test]
fn link_changes_are_noticed_and_settings_reach_the_kernel() {
    in_namespace(async {
        ip("link add port1 type veth peer name peer1");
        ip("link set port1 up");
        ip("link set peer1 up");
        let interfaces = NetdevInterfaces::start("s1", [(1, "port1".to_owned()), (2, "missing".to_owned())])
            .await
            .unwrap();
        let a = interfaces.get("port1").unwrap();
        assert!(a.enabled && a.is_up && a.ifindex > 0 && a.mtu == 1500);
        assert!(!interfaces.get("missing").unwrap().is_up);

        let mut changes = interfaces.changes();
        ip("link set peer1 down");
        while interfaces.get("port1").unwrap().is_up {
            changes.recv().await.unwrap();
        }
        interfaces.set_mtu("port1", 9000).unwrap();
        interfaces.set_enabled("port1", false).unwrap();
        let a = interfaces.get("port1").unwrap();
        assert_eq!((a.mtu, a.enabled), (9000, false));
        assert!(interfaces.set_mtu("missing", 9000).is_err());

        ip("link add missing type veth peer name peer2");
        while interfaces.get("missing").unwrap().ifindex == 0 {
            changes.recv().await.unwrap();
        }
        ip("link del missing");
        while interfaces.get("missing").unwrap().ifindex != 0 {
            changes.recv().await.unwrap();
        }
    });
}

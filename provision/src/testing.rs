//! A fabric for tests of enrolment: an owner that listens, a Bootz server, and a manufacturer; over real sockets and TLS.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;
use fabric_bootz::BootzError;
use fabric_bootz::client::Client;
use fabric_bootz::data::SwitchConfig;
use fabric_bootz::enrol::book::Book;
use fabric_bootz::enrol::serve::{Desk as Owner, Found, Roster};
use fabric_bootz::testing::{Made, Signer, World, signer};
use fabric_identity::testing::Authority;
use fabric_identity::{ClientCertificates, Listener};
use tokio::net::{TcpListener, TcpSocket};
use tokio_util::sync::{CancellationToken, DropGuard};
use vfabric_api::topology::Topology;

use crate::board::{Board, What, now};
use crate::bootz::owner::Remote;
use crate::bootz::serve::{Desk, LIMITS, serve};
use crate::directory::Directory;

const TOPOLOGY: &str = r#"
fabric: { name: test }
switches:
  - { name: leaf1, role: leaf, device_id: 1, loopback_ipv4: 10.255.0.1, loopback_ipv6: "fd00:255::1", p4runtime: "192.0.2.11:9559", serial: AF40, model: x86_64-acme_s1-r0 }
  - { name: leaf2, role: leaf, device_id: 2, loopback_ipv4: 10.255.0.2, loopback_ipv6: "fd00:255::2", p4runtime: "192.0.2.12:9559", serial: AF41 }
"#;

/// The inventory as the controller would have it.
#[derive(Default)]
pub struct Switches(Mutex<HashMap<String, Found>>);

#[allow(clippy::unwrap_used)] // For tests, which should end here.
impl Roster for Switches {
    fn by_serial(&self, serial: &str) -> Option<Found> {
        self.0.lock().unwrap().get(serial).cloned()
    }
}

#[allow(clippy::unwrap_used)] // For tests, which should end here.
impl Switches {
    /// Adds a switch, or changes it.
    pub fn put(&self, uid: u64, name: &str, serial: &str, listen: &str, is_retired: bool) {
        let found = Found {
            uid,
            config: SwitchConfig {
                hostname: name.into(),
                device_id: uid,
                listen: listen.parse().unwrap(),
            },
            model: Some("x86_64-acme_s1-r0".into()),
            software: Some("nos-1.0".into()),
            is_retired,
        };
        self.0.lock().unwrap().insert(serial.into(), found);
    }

    /// Forgets all.
    pub fn clear(&self) {
        self.0.lock().unwrap().clear();
    }
}

/// A fabric with switches `leaf1` (serial number AF40) and `leaf2` (AF41).
pub struct Fabric {
    dir: tempfile::TempDir,
    /// The manufacturer, and the owner's keys.
    pub world: World,
    /// Of the fabric.
    pub authority: Authority,
    /// The authority that signs switches' certificates.
    pub enrolling: Signer,
    /// The controller's inventory.
    pub switches: Arc<Switches>,
    /// The Bootz server's board.
    pub board: Arc<Board>,
    /// `HOST:PORT` of the Bootz server.
    pub bootz: String,
    /// `HOST:PORT` of the owner.
    pub owner: String,
    /// `HOST:PORT` at which the owner takes unary calls.
    pub unary: String,
    door: Mutex<Option<TcpListener>>,
    /// The port of an owner that does not listen yet: bound, so that nobody else gets it.
    waiting: Mutex<Option<TcpSocket>>,
    _stop: DropGuard,
}

#[allow(clippy::unwrap_used, clippy::panic)] // For tests, which should end here.
impl Fabric {
    /// All of it.
    pub async fn new() -> Self {
        let fabric = Self::without_owner().await;
        fabric.own().await;
        fabric
    }

    /// With an owner that cannot be reached before [`Self::own`].
    pub async fn without_owner() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let world = World::new(dir.path());
        let authority = Authority::new();
        std::fs::write(dir.path().join("ca.pem"), &authority.pem).unwrap();
        let switches = Arc::new(Switches::default());
        switches.put(1, "leaf1", "AF40", "192.0.2.11:9559", false);
        switches.put(2, "leaf2", "AF41", "192.0.2.12:9559", false);
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let owner = socket.local_addr().unwrap().to_string();
        let door = TcpListener::bind("127.0.0.1:0").await.unwrap();

        let board = Arc::<Board>::default();
        let topology = Topology::from_yaml(TOPOLOGY).unwrap();
        let credentials = authority.credentials("provision");
        let desk = Arc::new(Desk {
            directory: Arc::new(ArcSwap::from_pointee(Directory::new(topology))),
            board: Arc::clone(&board),
            owner: Arc::new(Remote::new(Arc::clone(&credentials), owner.clone()).unwrap()),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let bootz = listener.local_addr().unwrap().to_string();
        let clients = ClientCertificates::Welcome;
        let incoming = Listener::tls(listener, "Bootz", LIMITS, &credentials, clients)
            .unwrap()
            .incoming();
        let stop = CancellationToken::new();
        tokio::spawn(serve(incoming, desk, stop.clone()));
        Self {
            dir,
            world,
            authority,
            enrolling: signer("enrolment"),
            switches,
            board,
            bootz,
            owner,
            unary: door.local_addr().unwrap().to_string(),
            door: Mutex::new(Some(door)),
            waiting: Mutex::new(Some(socket)),
            _stop: stop.drop_guard(),
        }
    }

    /// The owner begins to listen.
    pub async fn own(&self) {
        self.own_with(&self.path("bindings.redb")).await;
    }

    /// As [`Self::own`], with the bindings in this file.
    pub async fn own_with(&self, bindings: &Path) {
        let socket = self.waiting.lock().unwrap().take().unwrap();
        let listener = socket.listen(64).unwrap();
        let book = Book::open(bindings).unwrap();
        let roster = Arc::clone(&self.switches) as Arc<dyn Roster>;
        let credentials = self.authority.credentials("controller");
        let keys = self.world.keys(&self.enrolling);
        let desk = Owner::new(roster, book, keys, credentials, self.path("ca.pem"));
        let door = self.door.lock().unwrap().take().unwrap();
        let unary = fabric_bootz::enrol::unary::serve(Arc::clone(&desk), door, std::future::pending());
        tokio::spawn(unary);
        tokio::spawn(fabric_bootz::enrol::serve::serve(
            desk,
            listener,
            std::future::pending(),
        ));
    }

    /// A path in the directory of the fabric.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A device that was delivered with a voucher.
    pub fn deliver(&self, made: &Made, serial: &str, name: &str) -> PathBuf {
        let dir = self.path(name);
        self.world.deliver(made, &dir);
        self.world.lay_down(serial, &self.world.voucher_text(serial, ""));
        dir
    }

    /// Asks for a device that must be refused. Returns the text of the refusal.
    pub async fn refused(&self, dir: &Path) -> String {
        let client = Client::open(dir).unwrap();
        let refused = client.bootstrap(&self.bootz, None).await.unwrap_err();
        assert!(client.enrolled().unwrap().is_none(), "it keeps nothing");
        match refused {
            BootzError::Refused(status) => status.message().to_owned(),
            other => panic!("{other}"),
        }
    }

    /// The steps of a switch.
    pub fn steps(&self, switch: &str) -> Vec<What> {
        let name: vfabric_api::ident::Name = switch.parse().unwrap();
        let status = self.board.status(now());
        status
            .switches
            .get(&name)
            .map(|line| line.steps.iter().map(|s| s.what).collect())
            .unwrap_or_default()
    }
}

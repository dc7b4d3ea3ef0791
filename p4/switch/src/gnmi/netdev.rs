//! Interfaces that are kernel network devices: state and counters over rtnetlink, followed through its link group.
//!
//! A cache answers; link messages change it at once, and a periodic read brings the counters and repairs what a lost
//! message would leave wrong. The host name is the switch's own, not the kernel's: many switches may run on one host.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage, State};
use rtnetlink::packet_core::NetlinkPayload;
use rtnetlink::{Handle, LinkMessageBuilder, LinkUnspec, MulticastGroup, new_multicast_connection};
use tokio::sync::broadcast;
use tonic::Status;

use super::ethernet::{Ethernet, Fec, Settings};
use super::ethtool::{Ethtool, Wire};
use super::memory::MemoryInterfaces;
use super::tree::{Counters, Interface, Interfaces, PipelineState};

/// How often counters are read.
const REFRESH: Duration = Duration::from_secs(1);

type Builder = LinkMessageBuilder<LinkUnspec>;

/// Network devices as switch ports.
pub struct NetdevInterfaces {
    cache: MemoryInterfaces,
    handle: Handle,
    /// None if the kernel has no ethtool over netlink; speeds are then unknown.
    ethtool: Option<Arc<Mutex<Ethtool>>>,
}

impl NetdevInterfaces {
    /// Follows the devices behind these ports (number, device name). A device that does not exist is reported as down
    /// until it appears.
    ///
    /// # Errors
    /// If the kernel refuses a netlink socket.
    pub async fn start(hostname: &str, ports: impl IntoIterator<Item = (u32, String)>) -> std::io::Result<Arc<Self>> {
        // The group is joined before the first read, so that no change falls between the two.
        let (connection, handle, mut messages) = new_multicast_connection(&[MulticastGroup::Link])?;
        tokio::spawn(connection);
        let cache = MemoryInterfaces::new(
            hostname,
            ports.into_iter().map(|(id, name)| absent(id, name, String::new())),
        );
        let ethtool = Ethtool::open().map(|socket| Arc::new(Mutex::new(socket)));
        let ethtool = ethtool.map_err(|error| tracing::warn!(%error, "no ethtool: speeds of ports are unknown"));
        let ethtool = ethtool.ok();
        let this = Arc::new(Self { cache, handle, ethtool });
        this.refresh().await;
        let follower = this.clone();
        tokio::spawn(async move {
            let mut refresh = tokio::time::interval(REFRESH);
            loop {
                tokio::select! {
                    message = messages.next() => match message {
                        Some((message, _)) => follower.heard(message.payload),
                        None => {
                            tracing::error!("the kernel's link messages ended; link states are only polled now");
                            break;
                        }
                    },
                    _ = refresh.tick() => follower.refresh().await,
                }
            }
            loop {
                refresh.tick().await;
                follower.refresh().await;
            }
        });
        Ok(this)
    }

    /// The interface that a device would be as the port with this number.
    ///
    /// # Errors
    /// `NOT_FOUND` without such a device.
    pub fn find(&self, name: &str, id: u32) -> Result<Interface, Status> {
        let runtime = tokio::runtime::Handle::current();
        let link = tokio::task::block_in_place(|| runtime.block_on(self.link(name)));
        let link = link.ok_or_else(|| Status::not_found(format!("there is no network device {name:?}")))?;
        let mut port = absent(id, name.to_owned(), String::new());
        fill(&mut port, &link);
        Ok(port)
    }

    /// Follows a device as a port from now on.
    pub fn insert(&self, port: Interface) {
        self.cache.insert(port);
    }

    fn heard(&self, payload: NetlinkPayload<RouteNetlinkMessage>) {
        match payload {
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) => {
                self.apply(&link);
            }
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelLink(link)) => {
                if let Some(name) = name_of(&link) {
                    self.cache.update(name, go);
                }
            }
            _ => {}
        }
    }

    fn apply(&self, link: &LinkMessage) {
        let Some(name) = name_of(link) else { return };
        self.cache.update(name, |port| fill(port, link));
    }

    async fn refresh(&self) {
        for port in self.cache.list() {
            match self.link(&port.name).await {
                Some(link) => {
                    let wire = self.wire(&port.name).await;
                    self.cache.update(&port.name, |port| {
                        fill(port, &link);
                        fill_wire(port, wire);
                    });
                }
                None => {
                    self.cache.update(&port.name, go);
                }
            }
        }
    }

    /// What ethtool says of a device. A driver may need a while, so another thread asks.
    async fn wire(&self, name: &str) -> Wire {
        let Some(ethtool) = self.ethtool.clone() else {
            return Wire::default();
        };
        let name = name.to_owned();
        let read = move || ethtool.lock().unwrap_or_else(PoisonError::into_inner).read(&name);
        let read = tokio::task::spawn_blocking(read).await;
        read.ok().and_then(Result::ok).unwrap_or_default()
    }

    async fn link(&self, name: &str) -> Option<LinkMessage> {
        let mut found = self.handle.link().get().match_name(name.to_owned()).execute();
        found.try_next().await.ok().flatten()
    }

    fn change(&self, name: &str, set: impl FnOnce(Builder) -> Builder) -> Result<(), Status> {
        let port = self
            .cache
            .get(name)
            .ok_or_else(|| Status::not_found(format!("interface {name:?} does not exist")))?;
        if port.ifindex == 0 {
            return Err(Status::failed_precondition(format!(
                "interface {name:?} has no device at present"
            )));
        }
        let message = set(LinkUnspec::new_with_index(port.ifindex)).build();
        let request = self.handle.link().change(message).execute();
        let changed = async {
            request
                .await
                .map_err(|error| Status::failed_precondition(format!("interface {name:?}: {error}")))?;
            if let Some(link) = self.link(name).await {
                self.apply(&link);
            }
            Ok(())
        };
        tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(changed))
    }
}

/// Marks a port whose device is gone.
fn go(port: &mut Interface) {
    let (shut, config) = (port.shut, port.ethernet.config);
    *port = absent(
        port.id,
        std::mem::take(&mut port.name),
        std::mem::take(&mut port.description),
    );
    port.shut = shut;
    port.ethernet.config = config;
}

fn fill_wire(port: &mut Interface, wire: Wire) {
    port.speed_bps = wire.speed_bps;
    port.ethernet.auto_negotiate = wire.auto_negotiate;
    // The kernel has one name for all Reed-Solomon codes: it is the one that was asked for, if one was.
    let is_rs = |fec: Fec| matches!(fec, Fec::Rs528 | Fec::Rs544 | Fec::Rs544Interleaved);
    let asked = port.ethernet.config.fec.filter(|asked| is_rs(*asked));
    port.ethernet.fec = wire.fec.map(|fec| match asked {
        Some(asked) if is_rs(fec) => asked,
        _ => fec,
    });
}

fn absent(id: u32, name: String, description: String) -> Interface {
    Interface {
        name,
        description,
        id,
        ifindex: 0,
        enabled: false,
        shut: false,
        is_up: false,
        mtu: 0,
        mac: [0; 6],
        speed_bps: None,
        ethernet: Ethernet::default(),
        counters: Counters::default(),
    }
}

fn name_of(link: &LinkMessage) -> Option<&str> {
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.as_str()),
        _ => None,
    })
}

fn fill(port: &mut Interface, link: &LinkMessage) {
    port.ifindex = link.header.index;
    port.enabled = link.header.flags.contains(LinkFlags::Up);
    let mut state = State::Unknown;
    for attribute in &link.attributes {
        match attribute {
            LinkAttribute::Mtu(mtu) => port.mtu = u16::try_from(*mtu).unwrap_or(u16::MAX),
            LinkAttribute::OperState(oper) => state = *oper,
            LinkAttribute::Address(address) => {
                if let Ok(mac) = <[u8; 6]>::try_from(address.as_slice()) {
                    port.mac = mac;
                }
            }
            LinkAttribute::Stats64(stats) => {
                port.counters = Counters {
                    in_octets: stats.rx_bytes,
                    in_pkts: stats.rx_packets,
                    in_discards: stats.rx_dropped,
                    in_errors: stats.rx_errors,
                    out_octets: stats.tx_bytes,
                    out_pkts: stats.tx_packets,
                    out_discards: stats.tx_dropped,
                    out_errors: stats.tx_errors,
                };
            }
            _ => {}
        }
    }
    // Devices without a carrier of their own (tap, loopback) stay "unknown" while they run (RFC 2863 section 3.1.12).
    let running = link.header.flags.contains(LinkFlags::Up | LinkFlags::Running);
    port.is_up = state == State::Up || (state == State::Unknown && running);
}

impl Interfaces for NetdevInterfaces {
    fn list(&self) -> Vec<Interface> {
        self.cache.list()
    }

    fn get(&self, name: &str) -> Option<Interface> {
        self.cache.get(name)
    }

    fn set_enabled(&self, name: &str, enabled: bool) -> Result<(), Status> {
        self.change(name, |link| if enabled { link.up() } else { link.down() })?;
        self.cache.update(name, |port| port.shut = !enabled);
        Ok(())
    }

    fn set_mtu(&self, name: &str, mtu: u16) -> Result<(), Status> {
        self.change(name, |link| link.mtu(mtu.into()))
    }

    fn set_description(&self, name: &str, description: &str) -> Result<(), Status> {
        self.cache.set_description(name, description)
    }

    fn set_ethernet(&self, name: &str, settings: Settings) -> Result<(), Status> {
        let port = self.cache.get(name);
        let port = port.ok_or_else(|| Status::not_found(format!("interface {name:?} does not exist")))?;
        let new = settings.beside(port.ethernet.config);
        if new != Settings::default() {
            let refused = |leaf: &str, why: &dyn std::fmt::Display| {
                let path = format!("/interfaces/interface[name={name}]/ethernet/config/{leaf}");
                Status::failed_precondition(format!("{path}: port {} ({name}) cannot do it: {why}", port.id))
            };
            let ethtool = self.ethtool.as_ref();
            let ethtool = ethtool.ok_or_else(|| refused("port-speed", &"the kernel has no ethtool over netlink"))?;
            let mut ethtool = ethtool.lock().unwrap_or_else(PoisonError::into_inner);
            ethtool.set(name, new).map_err(|(leaf, error)| refused(leaf, &error))?;
            let wire = ethtool.read(name).unwrap_or_default();
            drop(ethtool);
            self.cache.update(name, |port| {
                port.ethernet.config = settings;
                fill_wire(port, wire);
            });
        } else {
            self.cache.update(name, |port| port.ethernet.config = settings);
        }
        Ok(())
    }

    fn check_new(&self, name: &str, id: u32) -> Result<(), Status> {
        self.find(name, id).map(drop)
    }

    fn add(&self, name: &str, id: u32) -> Result<Interface, Status> {
        let port = self.find(name, id)?;
        self.insert(port.clone());
        Ok(port)
    }

    fn remove(&self, name: &str) -> Result<(), Status> {
        self.cache.take(name).map(drop)
    }

    fn pipeline(&self) -> PipelineState {
        self.cache.pipeline()
    }

    fn hostname(&self) -> String {
        self.cache.hostname()
    }

    fn set_hostname(&self, hostname: &str) -> Result<(), Status> {
        self.cache.set_hostname(hostname)
    }

    fn changes(&self) -> broadcast::Receiver<Option<Arc<str>>> {
        self.cache.changes()
    }
}

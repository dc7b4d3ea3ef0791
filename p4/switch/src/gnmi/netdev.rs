//! Interfaces that are kernel network devices: state and counters over rtnetlink, followed through its link group.
//!
//! A cache answers; link messages change it at once, and a periodic read brings the counters and repairs what a lost
//! message would leave wrong. The host name is the switch's own, not the kernel's: many switches may run on one host.

use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage, State};
use rtnetlink::packet_core::NetlinkPayload;
use rtnetlink::{Handle, LinkMessageBuilder, LinkUnspec, MulticastGroup, new_multicast_connection};
use tokio::sync::broadcast;
use tonic::Status;

use super::memory::MemoryInterfaces;
use super::tree::{Counters, Interface, Interfaces, PipelineState};

/// How often counters are read.
const REFRESH: Duration = Duration::from_secs(1);

type Builder = LinkMessageBuilder<LinkUnspec>;

/// Network devices as switch ports.
pub struct NetdevInterfaces {
    cache: MemoryInterfaces,
    handle: Handle,
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
        let this = Arc::new(Self { cache, handle });
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
                    let speed_bps = tokio::fs::read_to_string(format!("/sys/class/net/{}/speed", port.name))
                        .await
                        .ok();
                    // The kernel reports Mbit/s, and -1 if it does not know.
                    let mbps = speed_bps.and_then(|text| text.trim().parse::<u64>().ok());
                    self.cache.update(&port.name, |port| {
                        fill(port, &link);
                        port.speed_bps = mbps.map(|mbps| mbps * 1_000_000);
                    });
                }
                None => {
                    self.cache.update(&port.name, go);
                }
            }
        }
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
    let shut = port.shut;
    *port = absent(
        port.id,
        std::mem::take(&mut port.name),
        std::mem::take(&mut port.description),
    );
    port.shut = shut;
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

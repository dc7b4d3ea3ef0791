//! Access ports with VLANs: attachments that exist for one attack only.
//!
//! The lab's machines send untagged frames, and the kernel needs no VLAN devices for that. For this attack each of
//! their ports gets two more attachments: one with VLAN [`OWN`] in another network of the machine's vDC, and one with
//! VLAN [`THEIRS`] in a network of another vDC. The attack builds tagged frames itself. If a frame kept its second tag,
//! it would leave a port of the first network as a frame of the other vDC.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use vfabric_api::ident::{Mac, Name};
use vfabric_api::intent::{AttachmentSpec, Place};
use vfabric_api::service::{Key, Kind, Spec};
use vfabric_api::status::{Attachment, Progress, View};

use super::cast::{Cast, Member};
use super::frame::{BROADCAST, Ip, ethernet, kind, tagged};
use super::speech::{DISCARD, Liar};
use super::volley::{Fate, Volley};
use super::watch::Port;
use crate::checks::Scene;

/// VLAN of a machine's second network.
const OWN: u16 = 100;
/// VLAN of another vDC's network on the same port.
const THEIRS: u16 = 20;
/// A VLAN that no port has.
const NOBODYS: u16 = 101;
/// Longest time until an attachment is on all devices.
const APPLIED: Duration = Duration::from_secs(30);
/// Tags other than the customer's 802.1Q tag (IEEE 802.1ad, and its predecessors).
const SERVICE_TAGS: [u16; 3] = [kind::SERVICE_VLAN, 0x9100, 0x9200];

/// A machine, and its attachment in a second network.
struct Second {
    who: Member,
    /// A workload of the second network.
    to: Member,
    /// A machine of the second network that sends untagged frames.
    untagged: Option<Mac>,
    mac: Mac,
    ip: Ip,
}

/// The attachments of one attack.
pub(super) struct Vlans {
    seconds: Vec<Second>,
    keys: Vec<Key>,
    /// Machines' ports, each with the vDC that has a VLAN there beside the machine's own.
    theirs: Vec<(Port, Name)>,
}

impl Vlans {
    /// Creates the attachments, and waits until every device has applied them.
    ///
    /// # Errors
    /// The controller refuses one, or a device does not apply it in time. Attachments that exist by then are deleted.
    pub(super) fn open(cast: &Cast<'_>) -> Result<Self> {
        let mut vlans = Self {
            seconds: Vec::new(),
            keys: Vec::new(),
            theirs: Vec::new(),
        };
        match vlans.make(cast) {
            Ok(()) => Ok(vlans),
            Err(error) => {
                vlans.close(cast.cx)?;
                Err(error)
            }
        }
    }

    fn make(&mut self, cast: &Cast<'_>) -> Result<()> {
        let machines = cast.members.iter().filter(|m| m.endpoint.host.is_none());
        for who in machines {
            let (to, stranger) = (cast.beyond(who)?, cast.stranger(who)?);
            let own = self.attach(cast.cx, who, to, OWN)?;
            self.attach(cast.cx, who, stranger, THEIRS)?;
            self.theirs.push((who.port.clone(), stranger.endpoint.vdc.clone()));
            let to_v4 = own
                .ips
                .iter()
                .find(|ip| ip.is_ipv4())
                .context("no IPv4 address was given")?;
            let std::net::IpAddr::V4(from) = *to_v4 else {
                bail!("{to_v4} is no IPv4 address")
            };
            let beside = cast.members.iter().filter(|m| m.is_beside(to));
            let (machines, workloads): (Vec<_>, Vec<_>) = beside.partition(|m| m.endpoint.host.is_none());
            let workload = *workloads.first().context("a network without a workload")?;
            self.seconds.push(Second {
                who: who.clone(),
                to: workload.clone(),
                untagged: machines.first().map(|m| m.mac),
                mac: own.mac,
                ip: Ip::new(from, workload.v4),
            });
        }
        Ok(())
    }

    /// Attaches a VLAN of the port of `who` to the network of `into`.
    fn attach(&mut self, cx: &Scene<'_>, who: &Member, into: &Member, vlan: u16) -> Result<Attachment> {
        let id = &who.endpoint.name;
        let spec = cx.lab.intent.vdcs.iter().find(|v| v.name == who.endpoint.vdc);
        let spec = spec.and_then(|v| v.attachments.iter().find(|a| a.name == *id));
        let Some(Place::Port { switch, port, .. }) = spec.map(|a| &a.place) else {
            bail!("{}: no machine of the intent", who.endpoint.id)
        };
        let name: Name = format!("{}-{id}-{vlan}", who.endpoint.vdc).parse()?;
        let vdc = &into.endpoint.vdc;
        let spec = Spec::Attachment(AttachmentSpec {
            name: name.clone(),
            network: into.endpoint.network.clone(),
            mac: None,
            ips: Vec::new(),
            place: Place::Port {
                switch: switch.clone(),
                port: *port,
                vlan: Some(vlan),
            },
            port_security: true,
            allowed_addresses: Vec::new(),
            migration: None,
            labels: Default::default(),
        });
        let view = cx.runtime.block_on(cx.client.create(vdc, &spec, Some(APPLIED)))?;
        self.keys.push(Key::new(vdc.clone(), Kind::Attachment, name));
        let View::Attachment(made) = view else {
            bail!("the controller made something that is no attachment")
        };
        let progress = made.applied.progress;
        ensure!(progress == Progress::Applied, "{}: {:?}", made.spec.name, made.applied);
        Ok(made)
    }

    /// The other vDC that has a VLAN on this port.
    pub(super) fn other_vdc_on(&self, port: &Port) -> Option<&Name> {
        self.theirs.iter().find(|(at, _)| at == port).map(|(_, vdc)| vdc)
    }

    /// Namespaces of the machines on whose ports this vDC has a VLAN although they belong to another vDC.
    pub(super) fn machines_with(&self, vdc: &Name) -> impl Iterator<Item = String> {
        let theirs = self.theirs.iter().filter(move |(_, other)| other == vdc);
        theirs.map(|(port, _)| port.namespace.clone())
    }

    /// Deletes the attachments.
    ///
    /// # Errors
    /// The controller refuses, or a device does not apply it in time.
    pub(super) fn close(self, cx: &Scene<'_>) -> Result<()> {
        for key in &self.keys {
            cx.runtime.block_on(cx.client.delete(key, Some(APPLIED)))?;
        }
        Ok(())
    }
}

/// Frames from ports with VLANs: with several tags, with VLANs of others, with unused VLANs, and with the addresses of
/// one attachment in the VLAN of the other. Correct frames arrive.
pub(super) fn tags(cast: &Cast<'_>, vlans: &Vlans, volley: &mut Volley<'_>) -> Result<()> {
    for second in &vlans.seconds {
        let liar = Liar::on_port(cast, &second.who);
        let (who, mac, ip) = (&second.who, second.mac, second.ip);
        let frame = |to: Mac, from: Mac, ip: Ip, t: &[u8]| ethernet(to, from, kind::IPV4, &ip.udp(DISCARD, DISCARD, t));
        let double = liar.fate(&["double_tag"]);
        for to in [second.to.mac, BROADCAST].into_iter().chain(second.untagged) {
            let plain = |t: &[u8]| frame(to, mac, ip, t);
            for inner in [kind::VLAN].into_iter().chain(SERVICE_TAGS) {
                for vlan in [0, THEIRS, OWN, NOBODYS] {
                    liar.fire(volley, &double, |t| {
                        tagged(kind::VLAN, OWN, &tagged(inner, vlan, &plain(t)))
                    });
                }
            }
            for outer in SERVICE_TAGS {
                liar.fire(volley, &double, |t| tagged(outer, OWN, &plain(t)));
                liar.fire(volley, &double, |t| {
                    tagged(outer, OWN, &tagged(kind::VLAN, THEIRS, &plain(t)))
                });
            }
            let three = |t: &[u8]| tagged(kind::VLAN, THEIRS, &tagged(kind::VLAN, OWN, &plain(t)));
            liar.fire(volley, &double, |t| tagged(kind::VLAN, OWN, &three(t)));
        }
        let unknown = liar.fate(&["unknown_port"]);
        for vlan in [NOBODYS, 4095] {
            liar.fire(volley, &unknown, |t| {
                tagged(kind::VLAN, vlan, &frame(second.to.mac, mac, ip, t))
            });
        }
        // Right addresses in the wrong VLAN.
        let foreign = liar.fate(&["source_mac"]);
        let plain_ip = Ip::new(who.v4, cast.neighbour(who)?.v4);
        liar.fire(volley, &foreign, |t| {
            tagged(kind::VLAN, OWN, &frame(second.to.mac, who.mac, plain_ip, t))
        });
        liar.fire(volley, &foreign, |t| {
            tagged(kind::VLAN, THEIRS, &frame(second.to.mac, mac, ip, t))
        });
        liar.fire(volley, &foreign, |t| {
            tagged(kind::VLAN, THEIRS, &frame(BROADCAST, who.mac, plain_ip, t))
        });
        liar.fire(volley, &foreign, |t| frame(BROADCAST, mac, ip, t));
        let address = liar.fate(&["source_ip"]);
        liar.fire(volley, &address, |t| {
            tagged(
                kind::VLAN,
                OWN,
                &frame(second.to.mac, mac, Ip::new(second.to.v4, second.to.v4), t),
            )
        });
        // Nobody listens on that port, so the ICMP error quotes the frame, and comes back with the right tag.
        let right = Fate::Kept([&second.to, who].map(|m| m.endpoint.namespace.clone()).into());
        liar.fire(volley, &right, |t| {
            tagged(kind::VLAN, OWN, &frame(second.to.mac, mac, ip, t))
        });
    }
    Ok(())
}

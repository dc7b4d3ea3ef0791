//! Where frames were lost on this host: refused by the filter, dropped by a link or by the queue in front of the uplink.
//!
//! | lost where | counted by |
//! | --- | --- |
//! | a workload's port: frames that it may not send, floods above the rate | the filter, by attachment and reason |
//! | a network's link for unknown stations, a port behind which there may be some: frames above the rate | the filter, by the sender's attachment where its addresses are known, else by link |
//! | the host's own namespace: forged ICMP errors about tunnels | the table `inet vfabric`, by reason |
//! | a link of a network (bridge, VXLAN device, port): no remote VTEP, no carrier, too long, no memory | the link |
//! | the uplink: no room in its ring, errors, nobody to take the frame | the link |
//! | in front of the uplink: its queue is full | the queueing discipline |

use std::collections::HashMap;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkMessage, Stats64};
use netlink_packet_route::tc::{TcAttribute, TcHandle, TcMessage, TcStats2};

use super::filter::Reason;
use super::link::Link;
use super::{Kernel, Loss, Traffic};
use crate::error::{AgentError, NetlinkError};

/// The name of the place where the host's own table drops.
const SHIELD: &str = "inet vfabric";

/// A link and what it has lost.
struct Counted {
    link: Link,
    lost: Vec<(&'static str, u64)>,
}

fn stats(message: &LinkMessage) -> Option<Stats64> {
    message.attributes.iter().find_map(|a| match a {
        LinkAttribute::Stats64(stats) => Some(*stats),
        _ => None,
    })
}

fn counted(message: LinkMessage) -> Counted {
    let stats = stats(&message);
    let lost = |s: Stats64| {
        vec![
            ("received, dropped", s.rx_dropped),
            ("received, in error", s.rx_errors),
            ("received, missed", s.rx_missed_errors),
            ("sent, dropped", s.tx_dropped),
            ("sent, in error", s.tx_errors),
        ]
    };
    Counted {
        lost: stats.map(lost).unwrap_or_default(),
        link: Link::from_message(message),
    }
}

impl Kernel {
    /// Counts everything that was lost, in one dump of the links.
    pub(super) fn count_losses(&mut self) -> Result<Vec<Loss>, AgentError> {
        let question = RouteNetlinkMessage::GetLink(LinkMessage::default());
        let answers = self.netlink.dump(question, "read links")?;
        let links = answers.into_iter().filter_map(|answer| match answer {
            RouteNetlinkMessage::NewLink(message) => Some(counted(message)),
            _ => None,
        });
        let ours: Vec<Counted> = links.filter(|c| c.link.is_ours()).collect();
        let place = |link: &Link| link.attachment_id().unwrap_or(&link.name).to_owned();
        let places: HashMap<u32, String> = ours.iter().map(|c| (c.link.index, place(&c.link))).collect();
        let mut refused = self.filter.drops()?;
        for ((index, reason), frames) in self.refused_unknown(&ours)? {
            *refused.entry((index, reason)).or_default() += frames;
        }
        let mut losses = Vec::new();
        for ((index, reason), frames) in refused {
            losses.push(Loss {
                place: places.get(&index).cloned().unwrap_or_else(|| format!("link {index}")),
                reason: reason.to_owned(),
                frames,
            });
        }
        for c in &ours {
            let some = c.lost.iter().filter(|(_, frames)| *frames > 0);
            losses.extend(some.map(|(reason, frames)| Loss {
                place: place(&c.link),
                reason: (*reason).to_owned(),
                frames: *frames,
            }));
        }
        losses.extend(self.shield.drops()?.into_iter().map(|(reason, frames)| Loss {
            place: SHIELD.to_owned(),
            reason: reason.to_owned(),
            frames,
        }));
        losses.extend(self.lost_at_uplink()?);
        Ok(losses)
    }

    /// Frames for unknown stations above the rate, by the port of the attachment that sent them; by the link that dropped them, if no
    /// attachment of the network has that MAC address to itself.
    fn refused_unknown(&mut self, ours: &[Counted]) -> Result<Vec<((u32, &'static str), u64)>, NetlinkError> {
        let refused = self.filter.refused_unknown()?;
        let bridges: HashMap<u32, u32> = ours
            .iter()
            .filter_map(|c| Some((c.link.index, c.link.master?)))
            .collect();
        let mut senders: HashMap<(u32, [u8; 6]), Vec<u32>> = HashMap::new();
        if !refused.is_empty() {
            for port in ours.iter().filter(|c| c.link.is_port()).map(|c| c.link.index) {
                for mac in self.filter.macs_of(port) {
                    let bridge = bridges.get(&port).copied().unwrap_or(0);
                    senders.entry((bridge, mac)).or_default().push(port);
                }
            }
        }
        let of_place = |(link, mac, frames): (u32, [u8; 6], u64)| {
            let sender = bridges.get(&link).and_then(|b| senders.get(&(*b, mac)));
            let index = match sender.map(Vec::as_slice) {
                Some([port]) => *port,
                _ => link,
            };
            ((index, Reason::UnknownUnicast.name()), frames)
        };
        Ok(refused.into_iter().map(of_place).collect())
    }

    /// What attachments and tunnels have carried, in one dump of the links.
    pub(super) fn count_traffic(&mut self) -> Result<Vec<Traffic>, AgentError> {
        let question = RouteNetlinkMessage::GetLink(LinkMessage::default());
        let answers = self.netlink.dump(question, "read links")?;
        let links: Vec<(Link, Stats64)> = answers
            .into_iter()
            .filter_map(|answer| match answer {
                RouteNetlinkMessage::NewLink(message) => {
                    let stats = stats(&message)?;
                    Some((Link::from_message(message), stats))
                }
                _ => None,
            })
            .filter(|(link, _)| link.is_ours())
            .collect();
        let bridges: HashMap<u32, u32> = links
            .iter()
            .filter_map(|(link, _)| Some((link.index, link.as_bridge()?.get())))
            .collect();
        let of = |(link, stats): &(Link, Stats64)| {
            // Frames that a port receives were sent by its workload.
            let to_us = ([stats.rx_packets, stats.rx_bytes], [stats.tx_packets, stats.tx_bytes]);
            let (attachment, vni, received, sent) = match (link.as_vxlan(), link.attachment_id()) {
                (Some(vni), _) => (None, vni.get(), to_us.0, to_us.1),
                (None, Some(id)) => {
                    let vni = link.master.and_then(|m| bridges.get(&m).copied())?;
                    (Some(id.to_owned()), vni, to_us.1, to_us.0)
                }
                (None, None) => return None,
            };
            let ([received_frames, received_bytes], [sent_frames, sent_bytes]) = (received, sent);
            Some(Traffic {
                attachment,
                vni,
                received_frames,
                received_bytes,
                sent_frames,
                sent_bytes,
            })
        };
        Ok(links.iter().filter_map(of).collect())
    }

    /// What the uplink and the queue in front of it have lost.
    fn lost_at_uplink(&mut self) -> Result<Vec<Loss>, AgentError> {
        let Some(name) = self.uplink.clone() else {
            return Ok(Vec::new());
        };
        let mut question = LinkMessage::default();
        question.attributes.push(LinkAttribute::IfName(name.clone()));
        let answer = self
            .underlay
            .get(RouteNetlinkMessage::GetLink(question), "read the uplink")?;
        // A link that is gone loses nothing.
        let Some(RouteNetlinkMessage::NewLink(message)) = answer else {
            return Ok(Vec::new());
        };
        let Counted { link, mut lost } = counted(message);
        let question = RouteNetlinkMessage::GetQueueDiscipline(TcMessage::default());
        let queues = self.underlay.dump(question, "read queueing disciplines")?;
        let full = queues.iter().filter_map(|answer| match answer {
            RouteNetlinkMessage::NewQueueDiscipline(queue) => lost_by_queue(queue, link.index),
            _ => None,
        });
        lost.push(("sent, queue full", full.sum()));
        let some = lost.into_iter().filter(|(_, frames)| *frames > 0);
        Ok(some
            .map(|(reason, frames)| Loss {
                place: name.clone(),
                reason: reason.to_owned(),
                frames,
            })
            .collect())
    }
}

/// Frames that a link's own queueing discipline dropped; those below it are part of its count.
fn lost_by_queue(queue: &TcMessage, link: u32) -> Option<u64> {
    let is_root = queue.header.parent == TcHandle::ROOT;
    if !is_root || u32::try_from(queue.header.index) != Ok(link) {
        return None;
    }
    let stats = queue.attributes.iter().find_map(|a| match a {
        TcAttribute::Stats2(stats) => Some(stats),
        _ => None,
    })?;
    stats.iter().find_map(|s| match s {
        TcStats2::Queue(queue) => Some(queue.drops.into()),
        _ => None,
    })
}

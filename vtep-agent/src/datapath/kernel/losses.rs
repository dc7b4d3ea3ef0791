//! Where frames were lost on this host: refused by the filter, or dropped by a link.

use std::collections::HashMap;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkMessage, Stats64};

use super::link::Link;
use super::{Kernel, Loss};
use crate::error::AgentError;

/// A link and what it has lost.
struct Counted {
    link: Link,
    lost: Vec<(&'static str, u64)>,
}

fn counted(message: LinkMessage) -> Counted {
    let stats = message.attributes.iter().find_map(|a| match a {
        LinkAttribute::Stats64(stats) => Some(*stats),
        _ => None,
    });
    let lost = |s: Stats64| {
        vec![
            ("received, dropped", s.rx_dropped),
            ("received, in error", s.rx_errors),
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
        let mut losses = Vec::new();
        for ((index, reason), frames) in self.filter.drops()? {
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
        Ok(losses)
    }
}

//! Segments: the bridge and the VXLAN device of a network, and the link for its unknown stations.
//!
//! Many are made at once, phase by phase (bridges, VXLAN devices, options),
//! each phase one batch of requests.

use std::collections::HashMap;
use std::os::fd::AsRawFd;

use netlink_packet_route::link::InfoKind;
use vtep_proto::v1::ErrorCode;

use super::Kernel;
use super::link::{self, Link};
use super::netlink::{Netlink, Request};
use crate::datapath::{Done, Outcome, Step, StepError};
use crate::error::NetlinkError;
use crate::object::{Object, Segment, bridge_name, unknown_name, vxlan_name};

/// A segment on its way.
struct Work {
    segment: Segment,
    outcome: Outcome,
}

impl Work {
    /// The names of its links.
    fn names(&self) -> [String; 3] {
        [bridge_name, vxlan_name, unknown_name].map(|name| name(self.segment.vni))
    }

    fn note(&mut self, result: Result<(), impl Into<StepError>>) {
        if let (Ok(_), Err(e)) = (&self.outcome, result) {
            self.outcome = Err(e.into());
        }
    }
}

impl Kernel {
    /// Makes segments as they must be; leaves alone what is right.
    pub(super) fn ensure_segments(&mut self, steps: &[Step]) -> Vec<Outcome> {
        let mut works: Vec<Work> = steps
            .iter()
            .filter_map(|s| match s {
                Step::Ensure(Object::Segment(s)) => Some(Work {
                    segment: s.clone(),
                    outcome: Ok(Done::InPlace),
                }),
                _ => None,
            })
            .collect();
        if let Err(e) = self.segments(&mut works) {
            works.iter_mut().for_each(|w| w.note(Err(e.clone())));
        }
        works.into_iter().map(|w| w.outcome).collect()
    }

    fn segments(&mut self, works: &mut [Work]) -> Result<(), NetlinkError> {
        let mut links = self.find(works)?;
        self.clear_names(works, &mut links)?;
        self.refuse_foreign(works, &links);
        self.discard_unfit(works, &mut links)?;
        make(&mut self.netlink, works, &links, Done::Rebuilt, |w, links| {
            (!links.contains_key(&bridge_name(w.segment.vni))).then(|| link::create_bridge(&w.segment))
        });
        links = self.find(works)?;
        self.set(works, |w, requests| {
            let bridge = links
                .get(&bridge_name(w.segment.vni))
                .filter(|b| !b.bridge_is_right(&w.segment));
            requests.extend(bridge.map(|b| link::set_bridge(b.index, &w.segment)));
        });
        let overlay = self.overlay.netns().file().as_raw_fd();
        make(&mut self.underlay, works, &links, Done::Rebuilt, |w, links| {
            let bridge = links.get(&bridge_name(w.segment.vni))?;
            let absent = !links.contains_key(&vxlan_name(w.segment.vni));
            absent.then(|| link::create_vxlan(&w.segment, bridge.index, overlay))
        });
        // Nothing else is on this link.
        make(&mut self.netlink, works, &links, Done::InPlace, |w, links| {
            let bridge = links.get(&bridge_name(w.segment.vni))?;
            let absent = !links.contains_key(&unknown_name(w.segment.vni));
            absent.then(|| link::create_unknown(&w.segment, bridge.index))
        });
        links = self.find(works)?;
        self.limit_unknown(works, &links)?;
        let home_id = self.home_id;
        self.set(works, |w, requests| {
            let bridge = links.get(&bridge_name(w.segment.vni));
            let (Some(b), Some(x)) = (bridge, links.get(&vxlan_name(w.segment.vni))) else {
                return;
            };
            if !x.vxlan_is_right(&w.segment, b.index, home_id) {
                requests.extend((x.master != Some(b.index)).then(|| link::enslave(x.index, b.index, &x.name)));
                requests.extend(link::set_vxlan(x.index, &w.segment));
            }
        });
        self.indices
            .extend(links.into_values().filter(Link::is_ours).map(|l| (l.name, l.index)));
        Ok(())
    }

    /// Makes the links for unknown stations as they must be, the chain first. The VXLAN device gets no such frames from the bridge after
    /// that, so a network that is in use loses none.
    fn limit_unknown(&mut self, works: &mut [Work], links: &HashMap<String, Link>) -> Result<(), NetlinkError> {
        let of = |w: &Work| {
            let vni = w.segment.vni;
            let [bridge, vxlan, unknown] = w.names().map(|name| links.get(&name));
            Some((vni, bridge?.index, vxlan?.index, unknown?))
        };
        let in_hand = works.iter().filter(|w| w.outcome.is_ok()).filter_map(of);
        let chains: Vec<_> = in_hand
            .map(|(vni, _, vxlan, unknown)| (vni, unknown.index, vxlan))
            .collect();
        self.filter.limit_unknown(&chains)?;
        self.set(works, |w, requests| {
            let Some((_, bridge, _, unknown)) = of(w).filter(|(_, b, _, u)| !u.unknown_is_right(&w.segment, *b)) else {
                return;
            };
            let moved = unknown.master != Some(bridge);
            requests.extend(moved.then(|| link::enslave(unknown.index, bridge, &unknown.name)));
            requests.extend(link::set_unknown(unknown.index, &w.segment));
        });
        Ok(())
    }

    /// The links of the segments, by name.
    fn find(&mut self, works: &[Work]) -> Result<HashMap<String, Link>, NetlinkError> {
        link::find(&mut self.netlink, works.iter().flat_map(Work::names))
    }

    /// Frees names and VNIs of networks that were here before and whose links wait for deletion.
    ///
    /// The kernel has no two VXLAN devices of one VNI, so such a device is deleted now, which takes little once it is down. A bridge
    /// and the link for unknown stations only get another name, because their deletion takes long.
    fn clear_names(&mut self, works: &[Work], links: &mut HashMap<String, Link>) -> Result<(), NetlinkError> {
        let (mut discard, mut rename) = (Vec::new(), Vec::new());
        for name in works.iter().flat_map(Work::names) {
            if !links.get(&name).is_some_and(Link::is_out_of_use) {
                continue;
            }
            match links.remove(&name) {
                Some(link) if link.kind == Some(InfoKind::Vxlan) => discard.push((link.index, name)),
                Some(link) => rename.push(link::give_up_name(link.index, &name)),
                None => {}
            }
        }
        self.discard(discard)?;
        super::all_or_absent(self.netlink.batch(rename))
    }

    /// Gives up segments whose names belong to links that are not ours.
    fn refuse_foreign(&self, works: &mut [Work], links: &HashMap<String, Link>) {
        for w in works {
            let vni = w.segment.vni;
            let bridge = links.get(&bridge_name(vni)).filter(|l| l.as_bridge() != Some(vni));
            let vxlan = links.get(&vxlan_name(vni)).filter(|l| l.as_vxlan() != Some(vni));
            let unknown = links.get(&unknown_name(vni)).filter(|l| l.as_unknown() != Some(vni));
            if let Some(foreign) = bridge.or(vxlan).or(unknown) {
                let message = format!("link {} exists and was not made by this agent", foreign.name);
                w.note(Err(StepError::new(ErrorCode::NameInUse, message)));
            }
        }
    }

    /// Deletes VXLAN devices with a wrong attribute that cannot be changed.
    fn discard_unfit(&mut self, works: &mut [Work], links: &mut HashMap<String, Link>) -> Result<(), NetlinkError> {
        let mut unfit = Vec::new();
        for w in works.iter_mut().filter(|w| w.outcome.is_ok()) {
            let name = vxlan_name(w.segment.vni);
            if links
                .get(&name)
                .is_some_and(|x| !x.vxlan_fits(&w.segment, self.home_id))
            {
                unfit.extend(links.remove(&name).map(|x| (x.index, name)));
            }
        }
        self.discard(unfit)
    }

    /// Sends the requests that `ask` adds for each segment.
    fn set(&mut self, works: &mut [Work], ask: impl Fn(&Work, &mut Vec<Request>)) {
        let mut requests = Vec::new();
        let mut of = Vec::new();
        for (i, w) in works.iter().enumerate().filter(|(_, w)| w.outcome.is_ok()) {
            ask(w, &mut requests);
            of.resize(requests.len(), i);
        }
        for (i, result) in of.into_iter().zip(self.netlink.batch(requests)) {
            works[i].note(result);
        }
    }
}

/// Creates the links for which `request` returns a message, and notes in the outcome of
/// their segments that they were `made`.
fn make(
    netlink: &mut Netlink,
    works: &mut [Work],
    links: &HashMap<String, Link>,
    made: Done,
    request: impl Fn(&Work, &HashMap<String, Link>) -> Option<Request>,
) {
    let open = works.iter_mut().filter(|w| w.outcome.is_ok());
    let (makers, requests): (Vec<_>, Vec<_>) = open.filter_map(|w| request(w, links).map(|r| (w, r))).unzip();
    for (w, result) in makers.into_iter().zip(netlink.batch(requests)) {
        match result {
            Ok(()) if made == Done::Rebuilt => w.outcome = Ok(made),
            Ok(()) => {}
            failed => w.note(failed),
        }
    }
}

//! The kernel's datapath, over rtnetlink.
//!
//! | object | in the kernel |
//! | --- | --- |
//! | segment | bridge `vfb<vni>` with VXLAN device `vfx<vni>` in it, and a link for unknown stations `vfu<vni>` ([`unknown`]) |
//! | flood entry | all-zero entry of the VXLAN device |
//! | station | entry of the VXLAN device, and one of the bridge that points at the device |
//! | neighbour | permanent neighbour of the bridge, which answers for it because the device has `neigh_suppress` |
//! | port | veth `vfa<hash>` in the bridge, other end in the workload's namespace, entry of the bridge |
//!
//! All of it is in a separate network namespace ([`overlay`]); VXLAN devices keep their UDP
//! socket in the host's namespace.
//!
//! Every link gets a group number in the request that creates it ([`link::OWNER_GROUP`]);
//! a link without it is not touched, whatever its name. `docs/adr` explains the choice of these objects.

mod announce;
mod entrance;
mod entry;
mod filter;
mod interface;
mod late;
mod legacy;
mod link;
mod losses;
mod monitor;
mod netlink;
mod nft;
mod overlay;
mod pace;
mod pauses;
mod place;
mod port;
mod rules;
mod segment;
mod shield;
mod snapshot;
mod trash;
mod unknown;
mod worker;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::os::fd::AsRawFd;

use vtep_proto::v1::ErrorCode;
use vtep_proto::{Attachment, Vni};

use self::filter::Filter;
use self::netlink::{Netlink, Request};
use self::place::Places;
use self::shield::Shield;
use self::snapshot::Snapshot;
use self::trash::Trash;
use self::worker::Worker;
use super::{Datapath, Done, Expected, Loss, Outcome, Scope, Step, StepError, Traffic};
use crate::error::{AgentError, NetlinkError};
use crate::netns::Netns;
use crate::object::{Object, ObjectKey, bridge_name, unknown_name, vxlan_name};
use crate::watch::Watch;

pub use self::announce::{Heard, Listeners};
pub use self::filter::FloodLimit;
pub use self::monitor::{Change, Monitor, start as monitor};
pub use self::overlay::Overlay;

/// Reads octets as a reply of rtnetlink and as the elements of a set of nf_tables, with the code that reads the kernel's messages.
/// For the fuzz target `netlink`.
#[doc(hidden)]
pub fn read_any(octets: &[u8]) {
    netlink::read_any(octets);
    nft::message::shown(octets);
}

/// The kernel: tenants' links in the overlay, tunnels in the network namespace in which
/// [`Kernel::open`] was called.
pub struct Kernel {
    overlay: Overlay,
    /// In the overlay.
    netlink: Netlink,
    /// In the host's namespace.
    underlay: Netlink,
    /// The id by which the overlay knows the host's namespace: that of the VXLAN devices.
    home_id: i32,
    worker: Worker,
    places: Places,
    filter: Filter,
    shield: Shield,
    trash: Trash,
    /// Name of the link that carries the tunnels.
    uplink: Option<String>,
    /// Indices of our links by name. A stale one makes a request fail with ENODEV, which
    /// empties the map.
    indices: HashMap<String, u32>,
}

/// Kinds of steps that can be carried out together.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Removals of entries whose network is removed as well.
    GoWithSegment,
    Segments,
    Entries,
    Port,
    Links,
}

fn kind(step: &Step) -> Kind {
    match step {
        Step::Ensure(Object::Segment(_)) => Kind::Segments,
        Step::Ensure(Object::Port(_) | Object::StrayPort { .. }) => Kind::Port,
        Step::Remove(ObjectKey::Segment(_) | ObjectKey::Port(_)) => Kind::Links,
        _ => Kind::Entries,
    }
}

/// The links that a step removes.
fn names(step: &Step) -> Vec<String> {
    match step {
        Step::Remove(ObjectKey::Segment(vni)) => [vxlan_name, unknown_name, bridge_name].map(|name| name(*vni)).into(),
        Step::Remove(ObjectKey::Port(name)) => vec![name.clone()],
        _ => vec![],
    }
}

/// Networks that these steps remove.
fn gone(steps: &[Step]) -> HashSet<Vni> {
    let removed = steps.iter().filter_map(|step| match step {
        Step::Remove(ObjectKey::Segment(vni)) => Some(*vni),
        _ => None,
    });
    removed.collect()
}

/// Whether the step removes an entry of one of these networks. The entry goes with its device and need not be removed.
fn goes_with(step: &Step, gone: &HashSet<Vni>) -> bool {
    match step {
        Step::Remove(ObjectKey::Neighbour(vni, _) | ObjectKey::Station(vni, _) | ObjectKey::Flood(vni, _)) => {
            gone.contains(vni)
        }
        _ => false,
    }
}

impl Kernel {
    /// Opens the kernel, with tunnels in the network namespace of this thread.
    ///
    /// # Errors
    /// When the kernel refuses a socket or a namespace.
    pub fn open(overlay: Overlay, limit: FloodLimit, watch: Watch) -> Result<Self, AgentError> {
        let home = Netns::current().map_err(|e| NetlinkError::io("open /proc/thread-self/ns/net", &e))?;
        let mut netlink = overlay
            .netns()
            .within(Netlink::open)
            .map_err(|e| NetlinkError::io(format!("enter network namespace {}", overlay.name()), &e))??;
        let home_id = link::namespace_id(&mut netlink, home.file().as_raw_fd())?;
        let places = Places::new(home.id(), &overlay);
        let filter = Filter::open(&overlay, limit)?;
        let trash = Trash::open(&overlay)?;
        let mut kernel = Self {
            overlay,
            netlink,
            underlay: Netlink::open()?,
            home_id,
            worker: Worker::new(watch),
            places,
            filter,
            shield: Shield::open()?,
            trash,
            uplink: None,
            indices: HashMap::new(),
        };
        let moved = kernel.move_out_of_home()?;
        if moved > 0 {
            tracing::info!(
                links = moved,
                to = kernel.overlay.name(),
                "left the host's network namespace"
            );
        }
        Ok(kernel)
    }

    /// MAC address and MTU of a link, and whether it is up.
    ///
    /// # Errors
    /// When there is no such link, or it cannot be read.
    pub fn uplink(&mut self, name: &str) -> Result<Uplink, AgentError> {
        let link = link::get(&mut self.underlay, name)?;
        let link = link.ok_or_else(|| AgentError::Config {
            what: "--uplink".into(),
            message: format!("there is no link `{name}` in this network namespace"),
        })?;
        self.uplink = Some(name.to_owned());
        Ok(Uplink {
            mac: link.mac,
            mtu: link.mtu,
            up: link.up,
            running: link.running,
        })
    }

    /// Index of a link of ours.
    fn index(&mut self, name: &str) -> Result<Option<u32>, NetlinkError> {
        if let Some(index) = self.indices.get(name) {
            return Ok(Some(*index));
        }
        let index = link::get(&mut self.netlink, name)?
            .filter(link::Link::is_ours)
            .map(|l| l.index);
        if let Some(index) = index {
            self.indices.insert(name.to_owned(), index);
        }
        Ok(index)
    }

    /// Carries out steps for forwarding and neighbour entries in one go.
    fn entries(&mut self, steps: &[Step]) -> Vec<Outcome> {
        let mut requests = Vec::with_capacity(steps.len());
        // For each step: the number of its requests, or why it has none.
        let mut plans: Vec<Result<usize, StepError>> = Vec::with_capacity(steps.len());
        for step in steps {
            let before = requests.len();
            plans.push(
                self.entry_requests(step, &mut requests)
                    .map(|()| requests.len() - before),
            );
        }
        let vteps = steps.iter().filter_map(|step| match step {
            Step::Ensure(Object::Station { vtep, .. } | Object::Flood { vtep, .. }) => Some(*vtep),
            _ => None,
        });
        if let Err(e) = self.shield.add(vteps) {
            return steps.iter().map(|_| Err(e.clone().into())).collect();
        }
        let mut results = self.netlink.batch(requests).into_iter();
        let mut stale = false;
        let outcomes = steps.iter().zip(plans).map(|(step, plan)| {
            let removal = matches!(step, Step::Remove(_));
            let mut outcome = Ok(Done::InPlace);
            for result in results.by_ref().take(plan?) {
                match result {
                    Ok(()) => {}
                    Err(e) if removal && e.is_absent() => {}
                    // A flood entry that is there already.
                    Err(e) if e.errno == libc::EEXIST => {}
                    Err(e) => {
                        stale |= e.is_absent();
                        outcome = Err(e.into());
                    }
                }
            }
            outcome
        });
        let outcomes = outcomes.collect();
        if stale {
            self.indices.clear();
        }
        outcomes
    }

    /// The requests for a step about an entry; none if the entry's device is gone.
    fn entry_requests(&mut self, step: &Step, requests: &mut Vec<Request>) -> Result<(), StepError> {
        let (vni, on_bridge) = match step {
            Step::Ensure(Object::Neighbour { vni, .. }) | Step::Remove(ObjectKey::Neighbour(vni, _)) => (*vni, true),
            Step::Ensure(Object::Flood { vni, .. } | Object::Station { vni, .. })
            | Step::Remove(ObjectKey::Flood(vni, _) | ObjectKey::Station(vni, _)) => (*vni, false),
            _ => return Ok(()),
        };
        let name = if on_bridge { bridge_name(vni) } else { vxlan_name(vni) };
        let Some(index) = self.index(&name)? else {
            return match step {
                Step::Remove(_) => Ok(()),
                Step::Ensure(_) => Err(StepError::new(
                    ErrorCode::NetworkNotFound,
                    format!("network {vni} is not on this host"),
                )),
            };
        };
        match step {
            Step::Ensure(Object::Neighbour { ip, mac, router, .. }) => {
                requests.push(entry::set_neighbour(index, vni, *ip, *mac, *router));
            }
            Step::Ensure(Object::Station { mac, vtep, .. }) => {
                requests.push(entry::set_station(index, vni, *mac, *vtep))
            }
            Step::Ensure(Object::Flood { vtep, .. }) => requests.push(entry::add_flood(index, vni, *vtep)),
            Step::Remove(ObjectKey::Neighbour(_, ip)) => requests.push(entry::remove_neighbour(index, vni, *ip)),
            Step::Remove(ObjectKey::Station(_, mac)) => requests.extend(entry::remove_station(index, vni, *mac)),
            Step::Remove(ObjectKey::Flood(_, vtep)) => requests.push(entry::remove_flood(index, vni, *vtep)),
            _ => {}
        }
        Ok(())
    }

    /// Takes links out of use. Those of a workload that cannot be found are deleted at once.
    fn remove_links(&mut self, steps: &[Step]) -> Vec<Outcome> {
        let links = match link::find(&mut self.netlink, steps.iter().flat_map(names)) {
            Ok(links) => links,
            Err(e) => return steps.iter().map(|_| Err(e.clone().into())).collect(),
        };
        let (mut discard, mut retire, mut segments, mut ports) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for name in steps.iter().flat_map(names) {
            self.indices.remove(&name);
            match links.get(&name).filter(|l| l.is_ours()) {
                Some(found) if found.is_port() => {
                    ports.push(found.index);
                    match self.retire_interface(found) {
                        true => retire.push((found.index, name.clone())),
                        false => discard.push((found.index, name.clone())),
                    }
                }
                Some(found) => {
                    ports.extend(found.as_unknown().map(|_| found.index));
                    segments.push((found.index, name.clone()));
                }
                None => {}
            }
            self.places.forget(&name);
        }
        let removed = self
            .retire(retire, link::retire)
            .and_then(|()| self.retire(segments, link::retire_segment))
            .and_then(|()| self.discard(discard));
        // The filter of a port or a network is removed after its links, so the links are
        // never open.
        match removed.and_then(|()| self.filter.remove_ports(&ports)) {
            Ok(()) => steps.iter().map(|_| Ok(Done::InPlace)).collect(),
            Err(e) => steps.iter().map(|_| Err(e.clone().into())).collect(),
        }
    }

    /// Takes links out of use, by index and name, with one such request for each, and has them deleted.
    fn retire(&mut self, links: Vec<(u32, String)>, request: fn(u32, &str) -> Request) -> Result<(), NetlinkError> {
        let requests = links.iter().map(|(index, name)| request(*index, name)).collect();
        all_or_absent(self.netlink.batch(requests))?;
        self.trash.put(links.into_iter().map(|(index, _)| index).collect());
        Ok(())
    }

    /// Deletes links, by index and name, and waits for that.
    fn discard(&mut self, links: Vec<(u32, String)>) -> Result<(), NetlinkError> {
        discard(&mut self.netlink, links)
    }

    /// How many links are out of use and wait until they are deleted.
    ///
    /// # Errors
    /// When links cannot be read.
    pub fn waiting(&mut self) -> Result<usize, AgentError> {
        let links = link::dump(&mut self.netlink, None)?;
        Ok(links.iter().filter(|l| l.is_out_of_use()).count())
    }

    /// Deletes every link of ours and the overlay itself.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn purge(mut self) -> Result<(), AgentError> {
        let links = link::dump(&mut self.netlink, None)?;
        let ours = links.iter().filter(|l| l.is_ours() || l.is_out_of_use());
        self.discard(ours.map(|l| (l.index, l.name.clone())).collect())?;
        self.shield.remove()?;
        crate::netns::remove(self.overlay.name())?;
        Ok(())
    }
}

/// Deletes links, by index and name.
fn discard(netlink: &mut Netlink, links: Vec<(u32, String)>) -> Result<(), NetlinkError> {
    if links.is_empty() {
        return Ok(());
    }
    let marks = links.iter().map(|(index, name)| link::doom(*index, name));
    all_or_absent(netlink.batch(marks.collect()))?;
    all_or_absent([netlink.request(link::delete_doomed())])
}

/// The packet filters alone, for links that somebody else has made: benchmarks compare the agent's links with
/// such ones.
pub struct Filters {
    filter: Filter,
    netlink: Netlink,
    /// No other value uses it.
    _place: Overlay,
}

impl Filters {
    /// Makes the table in the namespace of these links.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn open(place: Overlay) -> Result<Self, AgentError> {
        let netlink = place.netns().within(Netlink::open);
        let netlink =
            netlink.map_err(|e| NetlinkError::io(format!("enter network namespace {}", place.name()), &e))??;
        Ok(Self {
            filter: Filter::open(&place, FloodLimit::default())?,
            netlink,
            _place: place,
        })
    }

    /// Lets a port send what its attachment may send.
    ///
    /// # Errors
    /// When there is no link with the name of the attachment's port, or the kernel refuses.
    pub fn set(&mut self, attachment: &Attachment) -> Result<(), AgentError> {
        let name = crate::object::port_name(&attachment.id);
        let link = link::get(&mut self.netlink, &name)?.ok_or_else(|| AgentError::Config {
            what: "port".into(),
            message: format!("there is no link `{name}` in this network namespace"),
        })?;
        Ok(self.filter.set_port(link.index, attachment, None)?)
    }
}

/// The first failure. An absent link is not a failure: the other end of the pair, or its namespace, was deleted.
fn all_or_absent(results: impl IntoIterator<Item = Result<(), NetlinkError>>) -> Result<(), NetlinkError> {
    let mut failures = results.into_iter().filter_map(Result::err).filter(|e| !e.is_absent());
    failures.next().map_or(Ok(()), Err)
}

/// The link that carries the tunnels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uplink {
    /// MAC address.
    pub mac: Vec<u8>,
    /// MTU, in octets.
    pub mtu: u32,
    /// True when it is administratively up.
    pub up: bool,
    /// True when it carries frames.
    pub running: bool,
}

impl Datapath for Kernel {
    fn read_back(&mut self, scope: &Scope, expected: &Expected) -> Result<BTreeMap<ObjectKey, Object>, AgentError> {
        let snapshot = Snapshot::take(&mut self.netlink, scope, self.home_id)?;
        if *scope == Scope::All {
            self.indices = snapshot
                .links()
                .iter()
                .filter(|l| l.is_ours())
                .map(|l| (l.name.clone(), l.index))
                .collect();
            // Links that are out of use but not deleted: at the first comparison those of an earlier run, later those
            // that wait for deletion.
            let left = snapshot.links().iter().filter(|l| l.is_out_of_use());
            self.trash.put(left.map(|l| l.index).collect());
            self.learn_places(&snapshot, expected);
        }
        if *scope == Scope::All {
            let ports = snapshot
                .links()
                .iter()
                .filter(|l| l.is_port() || l.as_unknown().is_some());
            self.filter.retain(&ports.map(|l| l.index).collect())?;
            self.shield.set(snapshot.vteps())?;
        }
        Ok(snapshot.objects(scope, expected, &mut self.worker, &self.filter))
    }

    fn put_right(&mut self) -> Result<Vec<String>, AgentError> {
        let mut changed = self.overlay.put_right()?;
        if self.filter.put_right()? {
            changed.push(format!(
                "packet filter in network namespace {} was changed",
                self.overlay.name()
            ));
        }
        if self.shield.put_right()? {
            changed.push("packet filter `inet vfabric` in the host's network namespace was changed".into());
        }
        Ok(changed)
    }

    fn losses(&mut self) -> Result<Vec<Loss>, AgentError> {
        self.count_losses()
    }

    fn traffic(&mut self) -> Result<Vec<Traffic>, AgentError> {
        self.count_traffic()
    }

    fn apply(&mut self, steps: &[Step]) -> Vec<Outcome> {
        let _busy = self.trash.hold();
        let mut outcomes = Vec::with_capacity(steps.len());
        let gone = gone(steps);
        let kind = |step: &Step| match goes_with(step, &gone) {
            true => Kind::GoWithSegment,
            false => kind(step),
        };
        for run in steps.chunk_by(|a, b| kind(a) == kind(b)) {
            match kind(&run[0]) {
                Kind::GoWithSegment => outcomes.extend(run.iter().map(|_| Ok(Done::InPlace))),
                Kind::Segments => outcomes.extend(self.ensure_segments(run)),
                Kind::Entries => outcomes.extend(self.entries(run)),
                Kind::Port => outcomes.extend(run.iter().map(|s| self.ensure_port(s))),
                Kind::Links => outcomes.extend(self.remove_links(run)),
            }
        }
        outcomes
    }
}

//! The rows of tables, one function for each kind of object.

use vfabric_api::ident::Name;
use vfabric_api::intent::{AttachmentSpec, MigrationPhase, Place};
use vfabric_api::inventory::ItemState;
use vfabric_api::status::{
    Applied, DeviceEntity, DeviceState, DeviceStatus, DropCount, FabricStatus, HostStatus, LinkStatus, Progress,
    SwitchStatus, View,
};

use super::show::Table;

fn applied(a: &Applied) -> String {
    let word = match a.progress {
        Progress::Applied => "applied",
        Progress::Pending => "pending",
        Progress::Failed => "failed",
    };
    let reasons: String = a
        .waiting
        .iter()
        .map(|w| format!("\n{}: {}", w.device, w.reason))
        .collect();
    format!("{word} {}/{}{reasons}", a.applied, a.devices)
}

fn list<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|i| i.to_string()).collect::<Vec<_>>().join(" ")
}

pub(super) fn object(t: &mut Table, vdc: Option<&Name>, view: &View) {
    let vdc = vdc.map(|vdc| ("VDC", vdc.to_string()));
    match view {
        View::Vdc(v) => t.row([
            ("NAME", v.spec.name.to_string()),
            ("NETWORKS", v.networks.to_string()),
            ("ROUTERS", v.routers.to_string()),
            ("ATTACHMENTS", v.attachments.to_string()),
            ("DESCRIPTION", v.spec.description.clone()),
        ]),
        View::Network(n) => t.row_with(
            vdc,
            [
                ("NAME", n.spec.name.to_string()),
                ("VNI", n.vni.to_string()),
                ("SUBNETS", list(n.spec.subnets.iter().map(|s| s.cidr))),
                ("ROUTER", n.router.as_ref().map(ToString::to_string).unwrap_or_default()),
                ("STATE", applied(&n.applied)),
            ],
        ),
        View::Router(r) => t.row_with(
            vdc,
            [
                ("NAME", r.spec.name.to_string()),
                ("VRF", r.vrf.to_string()),
                ("NETWORKS", list(&r.spec.networks)),
                ("STATE", applied(&r.applied)),
            ],
        ),
        View::Attachment(a) => t.row_with(
            vdc,
            [
                ("NAME", a.spec.name.to_string()),
                ("NETWORK", a.spec.network.to_string()),
                ("MAC", a.mac.to_string()),
                ("ADDRESSES", list(&a.ips)),
                ("PLACE", places(&a.spec)),
                ("STATE", applied(&a.applied)),
            ],
        ),
    }
    t.wide([("REVISION", view.revision().to_string())]);
    if let View::Network(n) = view {
        t.wide([("MTU", n.spec.mtu.to_string())]);
    }
}

/// The place of an attachment and, while it migrates, its target. A star marks the place that serves.
fn places(spec: &AttachmentSpec) -> String {
    let here = place(&spec.place);
    let Some((migration, target)) = spec.migration.as_ref().and_then(|m| Some((m, m.target(&spec.place)?))) else {
        return here;
    };
    match migration.phase {
        MigrationPhase::Prepared => format!("{here}* > {}", place(&target)),
        MigrationPhase::Active => format!("{here} > {}*", place(&target)),
    }
}

fn place(place: &Place) -> String {
    match place {
        Place::Host { host, netns, interface } => format!("{host} {netns}:{interface}"),
        Place::Port {
            switch,
            port,
            vlan: None,
        } => format!("{switch}:{port}"),
        Place::Port {
            switch,
            port,
            vlan: Some(vlan),
        } => format!("{switch}:{port} vlan {vlan}"),
    }
}

/// A device's state in a word or two.
pub(super) fn word(state: DeviceState) -> &'static str {
    match state {
        DeviceState::Disconnected => "disconnected",
        DeviceState::Syncing => "syncing",
        DeviceState::InSync => "in sync",
        DeviceState::Degraded => "degraded",
    }
}

fn state(s: &DeviceStatus) -> String {
    let word = word(s.state);
    let failed: String = s.failed.iter().map(|f| format!("\n{f}")).collect();
    let error = s.last_error.as_ref().filter(|_| s.state != DeviceState::InSync);
    let warnings: String = s.warnings.iter().map(|w| format!("\n{w}")).collect();
    let error = error.map(|e| format!("\n{e}")).unwrap_or_default();
    format!("{word}{failed}{error}{warnings}")
}

pub(super) fn switch(t: &mut Table, s: &SwitchStatus) {
    t.row([
        ("NAME", s.name.to_string()),
        ("ROLE", format!("{:?}", s.role).to_lowercase()),
        ("DEVICE", s.device_id.to_string()),
        ("LOOPBACKS", format!("{} {}", s.loopback_ipv4, s.loopback_ipv6)),
        ("ENTITIES", s.status.desired.to_string()),
        ("PENDING", s.status.pending.to_string()),
        ("WRITES", s.status.writes.to_string()),
        ("REPAIRS", s.status.repairs.to_string()),
        ("EPOCH", s.status.epoch.to_string()),
        ("STATE", state(&s.status)),
    ]);
    more(t, &s.item, &s.status);
}

/// The additional columns of a device in a wide table.
fn more(t: &mut Table, item: &ItemState, s: &DeviceStatus) {
    t.wide([
        ("ITEM", item.to_string()),
        ("CONNECTS", s.connects.to_string()),
        ("RETRIES", s.retries.to_string()),
    ]);
}

pub(super) fn host(t: &mut Table, h: &HostStatus) {
    t.row([
        ("NAME", h.name.to_string()),
        ("UPLINK", format!("{}:{}", h.uplink.switch, h.uplink.port)),
        ("VTEP", format!("{} {}", h.vtep_ipv4, h.vtep_ipv6)),
        ("ENTITIES", h.status.desired.to_string()),
        ("PENDING", h.status.pending.to_string()),
        ("WRITES", h.status.writes.to_string()),
        ("REPAIRS", h.status.repairs.to_string()),
        ("EPOCH", h.status.epoch.to_string()),
        ("STATE", state(&h.status)),
    ]);
    more(t, &h.item, &h.status);
}

pub(super) fn link(t: &mut Table, l: &LinkStatus) {
    let state = match (&l.reason, l.up) {
        (Some(reason), _) => reason.clone(),
        (None, true) => "up".into(),
        (None, false) => "down".into(),
    };
    let state = match &l.mismatch {
        Some(mismatch) => format!("{state}; {mismatch}"),
        None => state,
    };
    t.row([
        ("A", format!("{}:{}", l.a.switch, l.a.port)),
        ("B", format!("{}:{}", l.b.switch, l.b.port)),
        ("STATE", state),
    ]);
}

pub(super) fn drops(t: &mut Table, d: &DropCount) {
    t.row([
        ("DEVICE", d.device.to_string()),
        ("PLACE", d.place.clone().unwrap_or_default()),
        ("REASON", d.reason.clone()),
        ("SENT BY", d.host.as_ref().map(ToString::to_string).unwrap_or_default()),
        ("PACKETS", d.packets.to_string()),
        ("BYTES", d.bytes.map(|n| n.to_string()).unwrap_or_default()),
    ]);
}

pub(super) fn entity(t: &mut Table, device: Option<&Name>, e: &DeviceEntity) {
    let device = device.map(|device| ("DEVICE", device.to_string()));
    t.row_with(
        device,
        [
            ("TABLE", e.table.clone()),
            ("KEY", e.key.clone()),
            ("ACTION", e.action.clone()),
            ("APPLIED", if e.applied { "yes".into() } else { "no".into() }),
            ("ASKED BY", e.asked_by.join(", ")),
        ],
    );
}

pub(super) fn fabric(f: &FabricStatus, links: &[LinkStatus]) -> Table {
    let mut t = Table::default();
    let of = |c: vfabric_api::status::Count| format!("{} of {}", c.ok, c.total);
    let rows = [
        ("fabric", f.name.to_string()),
        ("revision", f.revision.to_string()),
        ("switches in sync", of(f.switches)),
        ("hosts in sync", of(f.hosts)),
        ("links up", of(f.links)),
        ("vDCs", f.vdcs.to_string()),
        ("tenant networks", f.networks.to_string()),
        ("routers", f.routers.to_string()),
        ("attachments", f.attachments.to_string()),
        ("VNIs in quarantine", f.vnis_in_quarantine.to_string()),
    ];
    for (what, value) in rows {
        t.row([("WHAT", what.into()), ("VALUE", value)]);
    }
    if let Some(why) = &f.store_fault {
        t.row([("WHAT", "store".into()), ("VALUE", why.clone())]);
    }
    for aside in &f.set_aside {
        let what = format!("{} is set aside", aside.object);
        t.row([("WHAT", what), ("VALUE", aside.reason.clone())]);
    }
    for warning in &f.warnings {
        let what = warning.device.as_ref().map_or("controller", |device| device.as_str());
        t.row([("WHAT", what.to_owned()), ("VALUE", warning.reason.clone())]);
    }
    for l in links.iter().filter(|l| l.reason.is_some() || !l.up) {
        let link = format!("link {}:{} - {}:{}", l.a.switch, l.a.port, l.b.switch, l.b.port);
        let reason = l.reason.clone().unwrap_or_else(|| "down".into());
        t.row([("WHAT", link), ("VALUE", reason)]);
    }
    t
}

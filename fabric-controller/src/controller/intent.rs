//! Intent files as transactions.

use std::collections::BTreeSet;

use vfabric_api::ident::Name;
use vfabric_api::intent::{Intent, VdcIntent, VdcSpec};
use vfabric_api::service::{ApplyOptions, Change, Key, Kind, Spec, Transaction};

use crate::model::Model;

/// An intent file as changes, in the order in which objects need each other.
pub(super) fn transaction_of(model: &Model, intent: Intent, options: ApplyOptions) -> Transaction {
    let mut changes = Vec::new();
    let mut deletions = Vec::new();
    for (i, vdc) in intent.vdcs.into_iter().enumerate() {
        let name = vdc.name.clone();
        let put = |path: String, spec: Spec| (path, Change::Put(name.clone(), spec));
        let spec = VdcSpec {
            name: vdc.name.clone(),
            description: vdc.description.clone(),
            hosts: vdc.hosts.clone(),
        };
        if options.prune {
            deletions.extend(
                pruned(model, &vdc)
                    .into_iter()
                    .map(|k| (format!("vdcs[{i}]"), Change::Delete(k))),
            );
        }
        changes.push(put(format!("vdcs[{i}]"), Spec::Vdc(spec)));
        let networks = vdc.networks.into_iter().enumerate();
        changes.extend(networks.map(|(j, s)| put(format!("vdcs[{i}].networks[{j}]"), Spec::Network(s))));
        let routers = vdc.routers.into_iter().enumerate();
        changes.extend(routers.map(|(j, s)| put(format!("vdcs[{i}].routers[{j}]"), Spec::Router(s))));
        let attachments = vdc.attachments.into_iter().enumerate();
        changes.extend(attachments.map(|(j, s)| put(format!("vdcs[{i}].attachments[{j}]"), Spec::Attachment(s))));
    }
    deletions.extend(changes);
    Transaction {
        changes: deletions,
        dry_run: options.dry_run,
    }
}

/// What a vDC holds and the file does not name: users before what they use.
fn pruned(model: &Model, vdc: &VdcIntent) -> Vec<Key> {
    let Some(held) = model.vdc(&vdc.name) else {
        return Vec::new();
    };
    let key = |kind, name: &Name| Key::new(vdc.name.clone(), kind, name.clone());
    let named: [BTreeSet<&Name>; 3] = [
        vdc.attachments.iter().map(|a| &a.name).collect(),
        vdc.routers.iter().map(|r| &r.name).collect(),
        vdc.networks.iter().map(|n| &n.name).collect(),
    ];
    let [attachments, routers, networks] = &named;
    let mut gone = Vec::new();
    gone.extend(
        held.attachments
            .keys()
            .filter(|n| !attachments.contains(n))
            .map(|n| key(Kind::Attachment, n)),
    );
    gone.extend(
        held.routers
            .keys()
            .filter(|n| !routers.contains(n))
            .map(|n| key(Kind::Router, n)),
    );
    gone.extend(
        held.networks
            .keys()
            .filter(|n| !networks.contains(n))
            .map(|n| key(Kind::Network, n)),
    );
    gone
}

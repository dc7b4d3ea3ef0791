//! Switches whose machines are replaced, and switches that are retired, over devices in memory.

use vfabric_api::error::{ApiError, ErrorCode};
use vfabric_api::event::EventReason;
use vfabric_api::inventory::{Item, ItemAction, ItemState};
use vfabric_api::lifecycle::{Lifecycle, ReplaceSpec, RetireSpec};
use vfabric_api::service::Origin;

use super::inventory_tests::{busy, put};
use super::tests::*;
use crate::model::fabric::Node;

fn new_machine(serial: &str) -> ReplaceSpec {
    ReplaceSpec {
        serial: Some(serial.parse().unwrap()),
        mac: Some(vfabric_api::ident::Mac([2, 0xaa, 0, 0, 0, 9])),
        ..ReplaceSpec::default()
    }
}

impl<S: Store> World<S> {
    async fn replace(&self, switch: &str, spec: ReplaceSpec) -> Result<Lifecycle, ApiError> {
        FabricService::replace_machine(self.controller.as_ref(), &n(switch), spec, Origin::default()).await
    }

    async fn retire(&self, switch: &str, spec: RetireSpec) -> Result<Lifecycle, ApiError> {
        FabricService::retire(self.controller.as_ref(), &n(switch), spec, Origin::default()).await
    }

    fn replaced_s(&self, switch: &str) -> u64 {
        let fabric = self.controller.fabric_now();
        let Some(Node::Switch(index)) = fabric.node(&n(switch)) else {
            panic!("{switch} is a switch")
        };
        fabric.switch(index).unwrap().replaced_s
    }

    async fn item(&self, switch: &str) -> Option<vfabric_api::inventory::SwitchItem> {
        let all = self.inventory().await.switches;
        all.into_iter().find(|item| item.spec.name.as_str() == switch)
    }

    /// Waits until a switch is in a state, or not there any more.
    async fn until(&self, switch: &str, state: Option<ItemState>) {
        let so = async {
            while self.item(switch).await.map(|item| item.state) != state {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, so).await.unwrap();
    }
}

#[tokio::test]
async fn a_machine_is_replaced_in_one_call_and_comes_into_service() {
    let world = busy(topology(), MemoryStore::default()).await;
    let mut spec = world.item("spine1").await.unwrap().spec;
    spec.serial = Some("AF40".parse().unwrap());
    world.applied(vec![put(Item::Switch(spec))]).await;
    let refused = async |spec: ReplaceSpec, field: &str| {
        let error = world.replace("spine1", spec).await.unwrap_err();
        assert_eq!(error.code, ErrorCode::Invalid);
        assert!(
            error.detail.contains(field) || format!("{:?}", error.errors).contains(field),
            "{error:?}"
        );
        assert_eq!(
            world.item("spine1").await.unwrap().state,
            ItemState::InService,
            "it was not drained for nothing"
        );
    };
    refused(ReplaceSpec::default(), "serial").await;
    let same = ReplaceSpec {
        serial: Some("af40".parse().unwrap()),
        ..ReplaceSpec::default()
    };
    refused(same, "serial").await;
    // The plan changes nothing.
    let plan = ReplaceSpec {
        dry_run: true,
        ..new_machine("AF41")
    };
    let planned = world.replace("spine1", plan).await.unwrap();
    assert!(
        planned.dry_run && planned.revision.is_none() && planned.steps.len() == 5,
        "{planned:?}"
    );
    let mut fields: Vec<_> = planned.inventory[0].fields.iter().map(|f| f.field.as_str()).collect();
    fields.sort_unstable();
    assert_eq!(fields, ["mac", "serial", "state"]);
    assert_eq!(world.replaced_s("spine1"), 0);

    let before = world.held();
    let done = world.replace("spine1", new_machine("AF41")).await.unwrap();
    assert!(done.drained && done.revision.is_some(), "{done:?}");
    assert!(done.steps[1].contains("AF40"), "{:?}", done.steps);
    assert!(world.replaced_s("spine1") > 0, "certificates from before are refused");
    world.until("spine1", Some(ItemState::InService)).await;
    // Its links are used once their probes have come back.
    let is_as_before = async {
        while world.held() != before {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, is_as_before).await;
    assert!(waited.is_ok(), "the new machine has the role of the old one");
    let item = world.item("spine1").await.unwrap();
    assert_eq!(item.spec.serial.unwrap().as_str(), "AF41");
    let events = world.controller.events(None, 1000, &|_| true).items;
    assert!(events.iter().any(|event| event.reason == EventReason::MachineReplaced));
}

#[tokio::test]
async fn a_switch_is_retired_in_one_call_with_its_links() {
    let world = busy(topology(), MemoryStore::default()).await;
    // A leaf with hosts and attachments is not retired by accident, and not drained for it.
    let error = world.retire("leaf2", RetireSpec::default()).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::InUse);
    assert_eq!(world.item("leaf2").await.unwrap().state, ItemState::InService);
    let plan = RetireSpec {
        dry_run: true,
        ..RetireSpec::default()
    };
    let planned = world.retire("spine1", plan).await.unwrap();
    let removed = planned
        .inventory
        .iter()
        .filter(|c| c.action == ItemAction::Removed)
        .count();
    assert_eq!(removed, 3, "two links and the switch: {planned:?}");
    assert_eq!(world.item("spine1").await.unwrap().state, ItemState::InService);
    let done = world.retire("spine1", RetireSpec::default()).await.unwrap();
    assert!(done.drained, "{done:?}");
    world.until("spine1", None).await;
    assert_eq!(world.inventory().await.links.len(), 2);
}

#[tokio::test]
async fn a_dead_switch_is_replaced_and_retired_without_its_confirmation() {
    let world = busy(topology(), MemoryStore::default()).await;
    world.plugged.device(&n("spine2")).go_offline();
    let done = world.replace("spine2", new_machine("AF41")).await.unwrap();
    assert!(done.drained, "{done:?}");
    assert_eq!(world.item("spine2").await.unwrap().state, ItemState::Arriving);
    let dead = RetireSpec {
        dead: true,
        ..RetireSpec::default()
    };
    world.retire("spine2", dead).await.unwrap();
    world.until("spine2", None).await;
}

//! Time lines of switches over fake devices with cables.

use fabric_bootz::enrol::serve::{Roster as _, SeenStep};
use vfabric_api::event::EventReason;
use vfabric_api::provisioning::{BootStep, Provisioning};

use super::link_tests::{cabled, port};
use super::tests::*;

impl<S: Store> World<S> {
    async fn boot_of(&self, switch: &str) -> Provisioning {
        let all = self.controller.provisioning().await;
        all.into_iter().find(|line| line.switch.as_str() == switch).unwrap()
    }

    async fn until_boot(&self, switch: &str, is_so: impl Fn(&Provisioning) -> bool) -> Provisioning {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let line = self.boot_of(switch).await;
            if is_so(&line) {
                return line;
            }
            assert!(tokio::time::Instant::now() < deadline, "{line:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn steps(line: &Provisioning) -> Vec<BootStep> {
    line.steps.iter().map(|s| s.step).collect()
}

#[tokio::test]
async fn a_switch_is_in_service_when_probes_have_crossed_all_its_links() {
    let devices = cabled();
    // Nothing is plugged into leaf1's first port.
    devices[2].uncable(port(1));
    let world = World::over(topology(), MemoryStore::default(), devices).await;
    world.applied(basics()).await;
    let waiting = |line: &Provisioning| {
        let what = line.waits_for.as_deref().unwrap_or_default();
        what.contains("leaf1:1") && !what.contains("leaf1:2")
    };
    let line = world.until_boot("leaf1", waiting).await;
    assert_eq!((line.in_service, line.took_ms), (false, None));
    assert_eq!(steps(&line), [BootStep::ReadBack, BootStep::InSync]);
    // The other leaf has both.
    world.until_boot("leaf2", |line| line.in_service).await;
    FakeDevice::cable((&world.devices[2], port(1)), (&world.devices[0], port(1)));
    let line = world.until_boot("leaf1", |line| line.in_service).await;
    assert_eq!(
        steps(&line),
        [
            BootStep::ReadBack,
            BootStep::InSync,
            BootStep::CablingChecked,
            BootStep::InService
        ]
    );
    assert!(line.took_ms.is_some() && line.waits_for.is_none() && line.arrivals == 1);
}

#[tokio::test]
async fn what_the_provisioning_server_saw_is_in_the_time_line_and_strangers_are_events() {
    let world = World::over(topology(), MemoryStore::default(), cabled()).await;
    let step = |switch: &str, what: &str, detail: &str| SeenStep {
        switch: switch.into(),
        who: "02:dd:00:00:00:07".into(),
        what: what.into(),
        at_ms: 7,
        detail: detail.into(),
    };
    world.controller.note_seen(&[
        step("leaf1", "discovered", "ONIE"),
        step("leaf1", "refused", "another serial number"),
        step("leaf1", "beamed_up", "of a later version"),
        step("host1", "leased", "not a switch"),
        step("nobody", "leased", "not in the inventory"),
        step("", "refused", "not in the inventory (serial: ZZ99)"),
    ]);
    let line = world.boot_of("leaf1").await;
    assert_eq!(line.last_error.as_deref(), Some("refused: another serial number"));
    let seen: Vec<_> = line.steps.iter().filter(|s| s.at_ms == 7).map(|s| s.step).collect();
    assert_eq!(seen, [BootStep::Discovered, BootStep::Refused]);
    let events = world.controller.events(None, 100, &|_| true).items;
    let refused: Vec<_> = events
        .iter()
        .filter(|e| e.reason == EventReason::EnrolmentRefused)
        .collect();
    let about: Vec<_> = refused
        .iter()
        .map(|e| {
            (
                e.device.as_ref().map(|d| d.as_str()),
                e.object.as_deref(),
                e.detail.as_str(),
            )
        })
        .collect();
    assert_eq!(
        about,
        [
            (
                Some("leaf1"),
                Some("machine 02:dd:00:00:00:07"),
                "another serial number"
            ),
            (
                None,
                Some("machine 02:dd:00:00:00:07"),
                "not in the inventory (serial: ZZ99)"
            ),
        ]
    );
    assert!(refused.iter().all(|e| e.warning));
    assert_eq!(
        world.controller.provisioning().await.len(),
        4,
        "switches and nothing else"
    );
}

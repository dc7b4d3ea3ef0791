//! Links: what switches report of their ports, and what follows from it.

use tokio::sync::mpsc;
use tracing::info;
use vfabric_api::ident::PortId;
use vfabric_api::status::LinkStatus;

use super::Controller;
use crate::device::actor::DeviceEvent;
use crate::device::driver::Event;
use crate::model::SwitchIndex;
use crate::store::Store;
use crate::topology::LinkIndex;

impl<S: Store> Controller<S> {
    /// Acts on what devices report, until the last actor is gone.
    pub async fn follow(&self, mut events: mpsc::Receiver<DeviceEvent>) {
        while let Some((device, event)) = events.recv().await {
            if let Event::Port { port, up } = event {
                self.port_changed(SwitchIndex::from(device.0 as usize), port, up).await;
            }
        }
    }

    /// A link is up while neither end reports its port down. Only paths that used the link
    /// are rendered again.
    async fn port_changed(&self, switch: SwitchIndex, port: PortId, up: bool) {
        let mut state = self.state.lock().await;
        let state = &mut *state;
        let changed = if up {
            state.ports_down.remove(&(switch, port))
        } else {
            state.ports_down.insert((switch, port))
        };
        let Some(link) = state.model.paths.link_at(switch, port).filter(|_| changed) else {
            return;
        };
        let Some(ends) = state.model.paths.ends(link) else {
            return;
        };
        let up = !ends.iter().any(|end| state.ports_down.contains(end));
        let changes = state.model.paths.set_link(link, up);
        state.model.touch_paths(&changes);
        let touched = state.model.take_touched();
        let concerned = state.engine.update(&state.model, touched, state.revision);
        let name = self
            .topology
            .switches
            .get(switch.index())
            .map(|s| s.name.as_str())
            .unwrap_or_default();
        info!(switch = name, %port, up, paths = changes.len(), devices = concerned.len(), "link changed");
    }

    pub(super) async fn link_states(&self) -> Vec<LinkStatus> {
        let state = self.state.lock().await;
        let links = (0u32..).zip(&self.topology.links);
        links
            .map(|(i, link)| {
                let up = state.model.paths.is_up(LinkIndex(i));
                let ends = state.model.paths.ends(LinkIndex(i)).into_iter().flatten();
                let down = ends.filter(|end| state.ports_down.contains(end));
                let reason = down.filter_map(|(s, port)| {
                    let switch = self.topology.switches.get(s.index())?;
                    Some(format!("{} reports port {port} down", switch.name))
                });
                let reason = reason.collect::<Vec<_>>().join("; ");
                LinkStatus {
                    a: link.a.clone(),
                    b: link.b.clone(),
                    up,
                    reason: (!up).then_some(reason),
                }
            })
            .collect()
    }
}

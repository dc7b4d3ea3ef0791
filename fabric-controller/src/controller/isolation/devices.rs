//! Devices in memory: switches run the real pipelines behind the real P4Runtime server; hosts act as VTEPs.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use fabric_identity::Liveness;
use fabric_pipeline::{CPU_PORT, Pipeline};
use p4_engine::{DigestFields, Sink, Worker};
use p4_switch::device::{Dataplane, EngineDevice};
use p4_switch::p4runtime::server::Server;
use p4_switch::p4runtime::session::Authority;
use p4_switch::p4runtime::streams::Outgoing;
use p4runtime_client::write::Change;
use p4runtime_proto::p4::v1;
use p4runtime_proto::p4::v1::set_forwarding_pipeline_config_request::Action as Set;
use p4runtime_proto::p4::v1::stream_message_request::Update as Message;
use tokio::sync::mpsc;
use vtep_proto::{HostEntity, Mode};

use super::frames;
use crate::device::driver::{Write, WriteResult};
use crate::entity::{Entity, EntityKey};

/// Port number at which a switch drops (v1model).
const DROP_PORT: u32 = 511;

/// Time between frames: long enough that no rate limit of the pipeline (`FLOODS_PER_SECOND`, `ICMP_ERRORS_PER_SECOND`)
/// drops one, because a dropped frame cannot cross.
const FRAME_NS: u64 = 10_000_000;

/// A switch with a pipeline.
pub(super) struct Switch {
    server: Server,
    device_id: u64,
    worker: RefCell<Worker>,
    /// The time of the last frame. It is far ahead of the switch's own clock, with which its meters start.
    now_ns: Cell<u64>,
    held: BTreeMap<EntityKey, Entity>,
    /// The session ends when this is dropped.
    _messages: Outgoing,
}

#[derive(Default)]
struct Frames(Vec<(u16, Vec<u8>)>);

impl Sink for Frames {
    fn frame(&mut self, port: u32, data: &[u8]) {
        self.0.push((u16::try_from(port).unwrap(), data.to_vec()));
    }

    fn digest(&mut self, _: u32, _: DigestFields<'_>) {}
}

impl Switch {
    /// A switch that runs a pipeline and holds nothing.
    pub(super) fn new(device_id: u16, pipeline: Pipeline) -> Self {
        let (outgoing, _) = mpsc::channel(1);
        let (events, _) = mpsc::channel(1);
        let cpu = Some(u32::from(CPU_PORT));
        let ports = (1..=16).map(|p| (format!("p{p}"), p)).collect();
        let plane = Dataplane::new(ports, cpu, DROP_PORT, outgoing, Box::new(|| {}), events);
        let device_id = u64::from(device_id);
        let server = Server::new(device_id, Arc::new(EngineDevice(Arc::clone(&plane))));
        let (stream, messages) = server.streams.open(Liveness::default());
        let arbitration = v1::MasterArbitrationUpdate {
            device_id,
            election_id: Some(election()),
            ..Default::default()
        };
        let message = v1::StreamMessageRequest {
            update: Some(Message::Arbitration(arbitration)),
        };
        server.receive(stream, Authority::Controller, message).unwrap();
        server
            .set_pipeline(v1::SetForwardingPipelineConfigRequest {
                device_id,
                election_id: Some(election()),
                action: Set::VerifyAndCommit.into(),
                config: Some(v1::ForwardingPipelineConfig {
                    p4info: Some(pipeline.decode_p4info().unwrap()),
                    p4_device_config: pipeline.json.to_vec(),
                    cookie: None,
                }),
                ..Default::default()
            })
            .unwrap();
        let running = plane.running.load_full().unwrap();
        Self {
            server,
            device_id,
            worker: RefCell::new(Worker::new(&running.pipeline, "isolation")),
            now_ns: Cell::new(1 << 60),
            held: BTreeMap::new(),
            _messages: messages,
        }
    }

    fn write(&mut self, write: &Write) {
        let entity = write.entity();
        let Entity::Switch(e) = entity.as_ref() else {
            panic!("{entity} on a switch")
        };
        let change = match write {
            Write::Insert(_) => Change::Insert(e.clone()),
            Write::Modify(_) => Change::Modify(e.clone()),
            Write::Delete(_) => Change::Delete(e.key().clone()),
        };
        let request = v1::WriteRequest {
            device_id: self.device_id,
            election_id: Some(election()),
            updates: vec![change.to_proto()],
            ..Default::default()
        };
        let results = self.server.write(&request).unwrap();
        assert!(results.iter().all(Result::is_ok), "{write:?}: {results:?}");
    }

    /// The fate of a frame.
    pub(super) fn process(&self, port: u16, frame: &[u8]) -> Vec<(u16, Vec<u8>)> {
        let mut out = Frames::default();
        let now_ns = self.now_ns.get() + FRAME_NS;
        self.now_ns.set(now_ns);
        self.worker
            .borrow_mut()
            .batch()
            .process(port.into(), frame, now_ns, &mut out);
        out.0.retain(|(port, _)| *port != CPU_PORT);
        out.0
    }
}

fn election() -> v1::Uint128 {
    v1::Uint128 { high: 0, low: 1 }
}

/// A host's VTEP.
#[derive(Default)]
pub(super) struct Host {
    held: BTreeMap<EntityKey, Entity>,
}

impl Host {
    fn entities(&self) -> impl Iterator<Item = &HostEntity> {
        self.held.values().map(|e| match e {
            Entity::Host(e) => e,
            Entity::Switch(e) => panic!("{e:?} on a host"),
        })
    }

    /// Everything that it holds.
    pub(super) fn held(&self) -> &BTreeMap<EntityKey, Entity> {
        &self.held
    }

    /// VNIs of the networks that it holds.
    pub(super) fn networks(&self) -> impl Iterator<Item = u32> {
        self.entities().filter_map(|e| match e {
            HostEntity::Network(n) => Some(n.vni.get()),
            _ => None,
        })
    }

    /// Attachments whose workloads are here, each with its VNI.
    pub(super) fn attachments(&self) -> impl Iterator<Item = &vtep_proto::Attachment> {
        self.of_mode(Mode::Serving)
    }

    fn of_mode(&self, mode: Mode) -> impl Iterator<Item = &vtep_proto::Attachment> {
        self.entities().filter_map(move |e| match e {
            HostEntity::Attachment(a) if a.mode == mode => Some(a.as_ref()),
            _ => None,
        })
    }

    /// Whether a frame that came out of a tunnel is for a workload that has left, and sent on.
    pub(super) fn sends_on(&self, vni: u32, frame: &[u8]) -> bool {
        let dst = frames::destination(frame).0;
        self.of_mode(Mode::Leaving)
            .any(|a| a.vni.get() == vni && a.mac.octets() == dst)
    }

    /// Tunnels that a workload's frame leaves by: the VTEP's address for each.
    pub(super) fn tunnels(&self, vni: u32, frame: &[u8]) -> Vec<IpAddr> {
        let dst = frames::destination(frame).0;
        let known = self.entities().find_map(|e| match e {
            HostEntity::Fdb(f) if f.vni.get() == vni && f.mac.octets() == dst => Some(vec![f.vtep]),
            HostEntity::Network(n) if n.vni.get() == vni => {
                let gateway = n.gateways.iter().find(|g| g.mac.octets() == dst);
                gateway.map(|g| vec![g.vtep])
            }
            _ => None,
        });
        let flood = || {
            let network = self.entities().find_map(|e| match e {
                HostEntity::Network(n) if n.vni.get() == vni => Some(n.flood.iter().copied().collect()),
                _ => None,
            });
            network.unwrap_or_default()
        };
        known.unwrap_or_else(flood)
    }
}

/// A device of either kind.
pub(super) enum Sim {
    Switch(Box<Switch>),
    Host(Host),
}

impl Sim {
    /// Carries out one write.
    pub(super) fn write(&mut self, write: &Write) -> WriteResult {
        if let Self::Switch(switch) = self {
            switch.write(write);
        }
        let held = self.held_mut();
        match write {
            Write::Insert(e) | Write::Modify(e) => held.insert(e.key(), e.as_ref().clone()),
            Write::Delete(e) => held.remove(&e.key()),
        };
        Ok(())
    }

    fn held_mut(&mut self) -> &mut BTreeMap<EntityKey, Entity> {
        match self {
            Self::Switch(s) => &mut s.held,
            Self::Host(h) => &mut h.held,
        }
    }

    /// Everything that it holds.
    pub(super) fn held(&self) -> &BTreeMap<EntityKey, Entity> {
        match self {
            Self::Switch(s) => &s.held,
            Self::Host(h) => &h.held,
        }
    }
}

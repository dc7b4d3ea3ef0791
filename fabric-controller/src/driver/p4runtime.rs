//! A switch over P4Runtime, its ports over gNMI on the same connection.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use p4runtime_client::{
    Error,
    entity::{EntityValue, GroupValue},
    order::Order,
    packet::PacketCodec,
    pipeline::{Installed, Pipeline},
    session::{self, ElectionId, Options, PacketSender, Session, Standing, Tls},
    target::Target,
    write::{Change, Refusal},
};
use p4runtime_proto::p4::v1::PacketIn;
use tokio::sync::mpsc;
use vfabric_api::ident::PortId;

use super::gnmi::{PortState, watch_ports};
use crate::device::{
    driver::{
        Batch, CounterCell, CounterQuery, CounterValue, Driver, DriverError, EntityError, Event, Limits, Write,
        WriteResult,
    },
    entity::{Entity, EntityKey, SwitchEntity, SwitchKey},
    packets::PacketPort,
};

/// Port states that wait for the actor; a switch has fewer ports.
const PORT_EVENTS: usize = 512;
/// Other election ids to try when ours is in use: a switch may not have noticed yet that our
/// last session died.
const ELECTION_TRIES: u128 = 3;
/// Factor between election ids when nobody is primary, ours is too low, and the switch does not
/// say what it remembers: from a time in milliseconds to the greatest of 128 bits in six steps.
const ELECTION_STEP: u128 = 1 << 16;

/// How to reach a switch and what it shall run.
#[derive(Debug, Clone)]
pub struct SwitchConfig {
    /// Name, for logs.
    pub name: String,
    /// `IP:PORT` of its gRPC server.
    pub address: String,
    /// P4Runtime device id.
    pub device_id: u64,
    /// Mutual TLS; `None` is plaintext.
    pub tls: Option<Tls>,
    /// What it shall run; shared by all switches of a role.
    pub pipeline: Arc<Pipeline>,
}

/// Drives one switch.
pub struct P4RuntimeDriver {
    config: SwitchConfig,
    codec: Arc<PacketCodec>,
    packets: Option<PacketPort>,
    /// What refers to what, as the pipeline says.
    order: Order,
    election_id: u128,
    open: Option<Open>,
    /// Groups as this driver wrote them, only for targets that do not report watch ports:
    /// what is read back is completed from here.
    groups: HashMap<SwitchKey, GroupValue>,
}

/// An open session.
struct Open {
    session: Session,
    ports: mpsc::Receiver<PortState>,
}

impl P4RuntimeDriver {
    /// A driver that is not connected. The election id is the time now in milliseconds, so
    /// that a restarted controller wins over what is left of its predecessor.
    pub fn new(config: SwitchConfig) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let codec = Arc::new(PacketCodec::new(config.pipeline.p4info()));
        let order = Order::new(config.pipeline.p4info());
        Self {
            config,
            codec,
            packets: None,
            order,
            election_id: now.as_millis().max(1),
            open: None,
            groups: HashMap::new(),
        }
    }

    fn session(&self) -> Result<&Session, DriverError> {
        let closed = || DriverError::Unreachable("no session".into());
        self.open.as_ref().map(|open| &open.session).ok_or_else(closed)
    }

    async fn open_session(&mut self) -> Result<Session, DriverError> {
        let mut tries = 0;
        loop {
            let mut options = Options::new(
                self.config.address.clone(),
                self.config.device_id,
                ElectionId(self.election_id),
            );
            options.tls.clone_from(&self.config.tls);
            match Session::open(options).await {
                Err(error) if error.code() == Some(tonic::Code::InvalidArgument) && tries < ELECTION_TRIES => {
                    tries += 1;
                    self.election_id += 1;
                }
                other => return other.map_err(|e| driver_error(&e)),
            }
        }
    }

    /// Notes what a confirmed change did to a group.
    fn note_group(&mut self, change: &Change) {
        match change {
            Change::Insert(entity) | Change::Modify(entity) => {
                if let EntityValue::Group(group) = entity.value() {
                    self.groups.insert(entity.key().clone(), GroupValue::clone(group));
                }
            }
            Change::Delete(key) => {
                self.groups.remove(key);
            }
        }
    }

    /// An entity that was read, with the watch ports that were written.
    fn complete(&self, entity: SwitchEntity) -> SwitchEntity {
        if let (SwitchKey::Group { profile_id, group_id }, EntityValue::Group(read)) = (entity.key(), entity.value())
            && let Some(written) = self.groups.get(entity.key())
            && written.eq_but_watch_ports(read)
        {
            return SwitchEntity::group(*profile_id, *group_id, written.members.clone(), written.max_size);
        }
        entity
    }

    fn event(&self, event: session::Event) -> Option<Event> {
        match event {
            session::Event::Standing(Standing::Primary) => None,
            session::Event::Standing(Standing::Backup { primary }) => Some(Event::Disconnected(not_primary(primary))),
            session::Event::Standing(Standing::Vacant { .. }) => Some(Event::Disconnected(not_primary(None))),
            session::Event::Standing(Standing::Closed(why)) => Some(Event::Disconnected(DriverError::Unreachable(why))),
            session::Event::Refused(error) => {
                tracing::warn!(switch = %self.config.name, message = %error.message, "stream message refused");
                None
            }
            session::Event::PacketIn(_) | session::Event::Digest(_) | session::Event::IdleTimeout(_) => None,
        }
    }
}

/// Carries frames both ways, until the session is over or the port is opened again.
async fn carry(port: PacketPort, codec: Arc<PacketCodec>, sender: PacketSender, mut packets: mpsc::Receiver<PacketIn>) {
    let mut frames = port.open();
    loop {
        tokio::select! {
            packet = packets.recv() => {
                let Some(packet) = packet else { return };
                let ingress = codec.field(&packet, "ingress_port").and_then(|p| u16::try_from(p).ok());
                if let Some(from) = ingress.and_then(|p| PortId::try_from(p).ok()) {
                    port.received(from, packet.payload.into());
                }
            }
            frame = frames.recv() => {
                let Some((to, frame)) = frame else { return };
                match codec.packet_out(&[("egress_port", to.get().into())], frame.into()) {
                    // A frame that a busy session does not take is lost, as on a wire.
                    Ok(packet) => { let _ = sender.send(packet); }
                    Err(error) => tracing::debug!(%error, "packet-out"),
                }
            }
        }
    }
}

/// An election id above that of somebody who is gone, and whom the switch remembers.
fn outbid(ours: u128, highest: Option<ElectionId>) -> u128 {
    match highest {
        Some(ElectionId(highest)) => highest.max(ours).saturating_add(1),
        None => ours.saturating_mul(ELECTION_STEP),
    }
}

fn not_primary(primary: Option<ElectionId>) -> DriverError {
    DriverError::NotPermitted(match primary {
        Some(id) => format!("another controller is primary with election id {id}"),
        None => "the switch has no primary".to_owned(),
    })
}

fn driver_error(error: &Error) -> DriverError {
    let text = error.to_string();
    match error {
        Error::Timeout { .. } => DriverError::Timeout(text),
        Error::NotPrimary(_) => DriverError::NotPermitted(text),
        Error::Pipeline(why) => DriverError::Pipeline(why.clone()),
        Error::Malformed { .. } | Error::Unsupported(_) | Error::Schema(_) => DriverError::Protocol(text),
        _ => match error.code() {
            Some(tonic::Code::PermissionDenied | tonic::Code::Unauthenticated) => DriverError::NotPermitted(text),
            Some(tonic::Code::DeadlineExceeded) => DriverError::Timeout(text),
            Some(tonic::Code::Unavailable | tonic::Code::Cancelled) | None => DriverError::Unreachable(text),
            Some(_) => DriverError::Protocol(text),
        },
    }
}

fn entity_error(refusal: &Refusal) -> EntityError {
    EntityError {
        message: refusal.to_string(),
        retryable: refusal.is_retryable(),
        device_retries: false,
    }
}

/// The change, or `None` for what no switch holds.
fn change(write: &Write) -> Option<Change> {
    let Entity::Switch(entity) = write.entity().as_ref() else {
        return None;
    };
    Some(match write {
        Write::Insert(_) => Change::Insert(entity.clone()),
        Write::Modify(_) => Change::Modify(entity.clone()),
        Write::Delete(_) => Change::Delete(entity.key().clone()),
    })
}

impl Driver for P4RuntimeDriver {
    fn limits(&self) -> Limits {
        let target = self
            .open
            .as_ref()
            .map_or(Target::CAUTIOUS, |open| open.session.target());
        Limits {
            batch: target.max_updates,
            ordered: false,
        }
    }

    fn rank(&self, key: &EntityKey) -> u16 {
        match key {
            EntityKey::Switch(key) => u16::from(self.order.level(key)) << 8 | key.rank() as u16,
            EntityKey::Host(_) => 0,
        }
    }

    async fn connect(&mut self) -> Result<(), DriverError> {
        self.open = None;
        let mut session = self.open_session().await?;
        match session.standing() {
            Standing::Primary => {}
            Standing::Backup { primary } => return Err(not_primary(primary)),
            Standing::Vacant { highest } => {
                self.election_id = outbid(self.election_id, highest);
                return Err(not_primary(None));
            }
            Standing::Closed(why) => return Err(DriverError::Unreachable(why)),
        }
        // A session in which a pipeline failed is dropped here, with `session`.
        let installed = session
            .install(&self.config.pipeline)
            .await
            .map_err(|e| driver_error(&e))?;
        if installed != Installed::Unchanged {
            self.groups.clear();
            let cookie = format_args!("{:#018x}", self.config.pipeline.cookie()).to_string();
            tracing::info!(switch = %self.config.name, ?installed, cookie, "pipeline");
        }
        if let Some(port) = &self.packets {
            let (sender, packets) = (session.packet_sender(), session.take_packets());
            tokio::spawn(carry(port.clone(), Arc::clone(&self.codec), sender, packets));
        }
        let (sender, ports) = mpsc::channel(PORT_EVENTS);
        // Ends when `ports` is dropped.
        tokio::spawn(watch_ports(session.channel(), sender));
        self.open = Some(Open { session, ports });
        Ok(())
    }

    async fn read_back(&mut self) -> Result<Vec<Entity>, DriverError> {
        let p4info = self.config.pipeline.p4info();
        let snapshot = self.session()?.read_all(p4info).await.map_err(|e| driver_error(&e))?;
        for (entity, why) in &snapshot.foreign {
            tracing::warn!(switch = %self.config.name, ?entity, why, "the switch holds what cannot be reconciled");
        }
        Ok(snapshot
            .entities
            .into_iter()
            .map(|e| Entity::Switch(self.complete(e)))
            .collect())
    }

    async fn apply(&mut self, batch: &Batch) -> Result<Vec<WriteResult>, DriverError> {
        let changes: Vec<Option<Change>> = batch.writes.iter().map(change).collect();
        let wanted: Vec<Change> = changes.iter().flatten().cloned().collect();
        let session = self.session()?;
        let forgets_ports = !session.target().reads_watch_ports;
        let outcomes = session.write(&wanted).await.map_err(|e| driver_error(&e))?;
        if forgets_ports {
            let confirmed = wanted.iter().zip(&outcomes).filter(|(_, outcome)| outcome.is_ok());
            confirmed.for_each(|(change, _)| self.note_group(change));
        }
        let mut outcomes = outcomes.into_iter();
        let foreign = || EntityError {
            message: "not an object of a switch".into(),
            retryable: false,
            device_retries: false,
        };
        let result = |change: &Option<Change>| match change {
            None => Err(foreign()),
            Some(_) => match outcomes.next() {
                Some(outcome) => outcome.map_err(|refusal| entity_error(&refusal)),
                None => Err(EntityError {
                    message: "no outcome".into(),
                    retryable: true,
                    device_retries: false,
                }),
            },
        };
        Ok(changes.iter().map(result).collect())
    }

    async fn next_event(&mut self) -> Event {
        loop {
            let Some(open) = &mut self.open else {
                return std::future::pending().await;
            };
            // What is taken from the session is either returned or not an event at all, and
            // nothing is awaited in between: no event is lost when this call is dropped.
            let event = tokio::select! {
                event = open.session.next_event() => event,
                Some((port, up)) = open.ports.recv() => return Event::Port { port, up },
            };
            if let Some(event) = self.event(event) {
                return event;
            }
        }
    }

    fn carry_packets(&mut self, port: PacketPort) {
        self.packets = Some(port);
    }

    async fn read_counters(&mut self, queries: &[CounterQuery]) -> Result<Vec<CounterValue>, DriverError> {
        let session = self.session()?;
        let number = |n: i64| u64::try_from(n).unwrap_or(0);
        let mut values = Vec::new();
        for query in queries {
            let cells: Vec<_> = match query {
                CounterQuery::Indirect { counter_id } => {
                    let cells = session.read_counter(*counter_id).await.map_err(|e| driver_error(&e))?;
                    cells
                        .into_iter()
                        .map(|(i, value)| (CounterCell::Index(u64::from(i)), value))
                        .collect()
                }
                CounterQuery::Direct { table_id } => {
                    let counts = session
                        .read_direct_counter(*table_id)
                        .await
                        .map_err(|e| driver_error(&e))?;
                    let cell = |key| match key {
                        SwitchKey::DefaultAction { .. } => CounterCell::Default,
                        key => CounterCell::Entry(EntityKey::Switch(key)),
                    };
                    counts.into_iter().map(|c| (cell(c.key), c.value)).collect()
                }
            };
            values.extend(cells.into_iter().map(|(cell, value)| CounterValue {
                query: *query,
                cell,
                packets: number(value.packets),
                bytes: number(value.bytes),
            }));
        }
        Ok(values)
    }

    async fn disconnect(&mut self) {
        if let Some(port) = &self.packets {
            port.close();
        }
        self.open = None;
    }
}

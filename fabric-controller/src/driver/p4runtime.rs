//! A switch over P4Runtime, its ports over gNMI on the same connection.

use std::{
    sync::Arc,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use fabric_bootz::authority::BACKDATED;
use fabric_identity::{Dialer, Validity};
use p4runtime_client::{
    Error,
    entity::EntityValue,
    order::Order,
    packet::PacketCodec,
    pipeline::{self, Installed, Pipeline},
    read,
    session::{self, ElectionId, Options, PacketSender, Session, Standing},
    target::Target,
    write::{Change, Refusal},
};
use p4runtime_proto::p4::v1::PacketIn;
use tokio::sync::mpsc;
use vfabric_api::ident::PortId;
use vfabric_api::provisioning::BootStep;

use super::gnmi::{PortState, watch_ports};
use super::losses;
use super::mark::{self, Mark};
use super::ports::{Names, keep_ports};
use super::settings::keep_settings;
use crate::device::{
    driver::{
        Batch, CounterCell, CounterQuery, CounterValue, Driver, DriverError, EntityError, Event, Limits, Losses, Part,
        Write, WriteResult,
    },
    packets::PacketPort,
    ports::Ports,
    reports::Milestone,
};
use crate::entity::{Entity, EntityKey, SwitchEntity, SwitchKey};

/// Port states that wait for the actor; a switch has fewer ports.
const PORT_EVENTS: usize = 512;
/// Parts of a read-back that wait for the actor: enough for the switch and the controller to work at the same time.
const PARTS: usize = 4;
/// Other election ids to try when ours is in use: a switch may not have noticed yet that our
/// last session died.
const ELECTION_TRIES: u128 = 3;
/// Factor between election ids when nobody is primary, ours is too low, and the switch does not
/// say what it remembers: from a time in milliseconds to the greatest of 128 bits in six steps.
const ELECTION_STEP: u128 = 1 << 16;

/// How to reach a switch and which pipeline it should run.
#[derive(Debug, Clone)]
pub struct SwitchConfig {
    /// Name, for logs.
    pub name: String,
    /// `IP:PORT` of its gRPC server.
    pub address: String,
    /// P4Runtime device id.
    pub device_id: u64,
    /// Mutual TLS with this switch and no other; `None` is plaintext.
    pub tls: Option<Dialer>,
    /// The pipeline that it should run; shared by all switches of a role.
    pub pipeline: Arc<Pipeline>,
}

/// Drives one switch.
pub struct P4RuntimeDriver {
    config: SwitchConfig,
    codec: Arc<PacketCodec>,
    packets: Option<PacketPort>,
    plan: Option<Ports>,
    /// Certificates that were made before are those of an earlier machine, in seconds since 1970.
    since_s: u64,
    /// Interfaces of ports, over all sessions.
    names: Names,
    /// References between tables, from the pipeline.
    order: Order,
    election_id: u128,
    milestones: Vec<Milestone>,
    open: Option<Open>,
}

/// An open session.
struct Open {
    session: Session,
    ports: mpsc::Receiver<PortState>,
    /// Reports about the configuration of ports.
    kept: mpsc::Receiver<Event>,
    /// The store that is named by the switch's cookie.
    kept_by: Option<u32>,
    mark: Mark,
    reading: Option<Reading>,
}

/// The read-back under way.
struct Reading {
    parts: mpsc::Receiver<Result<Held, Error>>,
    mark: mark::Read,
}

/// A part of what the switch holds, and whether it is the last one.
type Held = (Vec<SwitchEntity>, bool);

/// Reads everything that a switch holds, beside all other calls. Ends early when nobody takes the parts any more.
async fn read(
    name: String,
    pipeline: Arc<Pipeline>,
    mut reading: read::Reading,
    parts: mpsc::Sender<Result<Held, Error>>,
) {
    let p4info = pipeline.p4info();
    loop {
        let part = match reading.next(p4info).await {
            Ok(Some(part)) => {
                for (entity, why) in &part.foreign {
                    tracing::warn!(switch = %name, ?entity, why, "the switch holds what cannot be reconciled");
                }
                Ok((part.entities, false))
            }
            Ok(None) => Ok((Vec::new(), true)),
            Err(error) => Err(error),
        };
        let is_end = part.as_ref().map_or(true, |(_, last)| *last);
        if parts.send(part).await.is_err() || is_end {
            return;
        }
    }
}

impl Reading {
    /// The next part. Cancel safe.
    async fn next(reading: &mut Option<Self>, mark: &mut Mark) -> Event {
        let Some(Reading { parts, mark: found }) = reading else {
            return std::future::pending().await;
        };
        let part = parts.recv().await;
        let (mut held, last) = match part {
            Some(Ok(held)) => held,
            other => {
                let broken = || DriverError::Unreachable("the read-back ended early".into());
                *reading = None;
                return Event::Disconnected(other.and_then(Result::err).as_ref().map_or_else(broken, driver_error));
            }
        };
        found.take_from(&mut held);
        if last && let Some(reading) = reading.take() {
            mark.end_read(reading.mark);
        }
        Event::Held(Part {
            entities: held.into_iter().map(Entity::Switch).collect(),
            failing: Vec::new(),
            last,
        })
    }
}

impl P4RuntimeDriver {
    /// A driver that is not connected. The election id is the current time in milliseconds, so
    /// that a restarted controller outbids the sessions of its predecessor.
    pub fn new(config: SwitchConfig) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let codec = Arc::new(PacketCodec::new(config.pipeline.p4info()));
        let order = Order::new(config.pipeline.p4info());
        Self {
            config,
            codec,
            packets: None,
            plan: None,
            since_s: 0,
            names: Names::default(),
            order,
            election_id: now.as_millis().max(1),
            milestones: Vec::new(),
            open: None,
        }
    }

    fn session(&self) -> Result<&Session, DriverError> {
        let closed = || DriverError::Unreachable("no session".into());
        self.open.as_ref().map(|open| &open.session).ok_or_else(closed)
    }

    /// Accepts certificates from this time on only, in seconds since 1970: the machine was replaced then.
    #[must_use]
    pub fn expecting_since(mut self, since_s: u64) -> Self {
        self.since_s = since_s;
        self
    }

    /// Whether the certificate that was shown is of the machine that is expected.
    fn check_machine(&self) -> Result<(), DriverError> {
        let Some(shown) = self.certificate().filter(|_| self.since_s > 0) else {
            return Ok(());
        };
        let made = u64::try_from(shown.not_before)
            .unwrap_or(0)
            .saturating_add(BACKDATED.as_secs());
        if made >= self.since_s {
            return Ok(());
        }
        Err(DriverError::NotPermitted(format!(
            "its certificate was made {} s before the machine of `{}` was replaced: is the old machine still connected?",
            self.since_s - made,
            self.config.name
        )))
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

/// Carries frames in both directions, until the session is over or the port is opened again.
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

/// Place in the order of creation: an entity comes after those that it refers to.
pub(crate) fn rank(order: &Order, key: &SwitchKey) -> u16 {
    u16::from(order.level(key)) << 8 | key.rank() as u16
}

/// An election id above that of a client that has gone and that the switch still remembers.
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

/// The change, or `None` for an entity that is not a switch's.
fn change(write: &Write, watches_ports: bool) -> Option<Change> {
    let Entity::Switch(entity) = write.entity().as_ref() else {
        return None;
    };
    let form = || match entity {
        e if watches_ports => e.clone(),
        e => without_watch_ports(e),
    };
    Some(match write {
        Write::Insert(_) => Change::Insert(form()),
        Write::Modify(_) => Change::Modify(form()),
        Write::Delete(_) => Change::Delete(entity.key().clone()),
    })
}

/// The entity in the form for a target whose group members cannot watch ports. When a port of such a target goes down,
/// the controller removes the members that use it.
fn without_watch_ports(entity: &SwitchEntity) -> SwitchEntity {
    let (SwitchKey::Group { profile_id, group_id }, EntityValue::Group(group)) = (entity.key(), entity.value()) else {
        return entity.clone();
    };
    let mut members = group.members.clone();
    members.iter_mut().for_each(|m| m.watch_port = None);
    SwitchEntity::group(*profile_id, *group_id, members, group.max_size)
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
            EntityKey::Switch(key) => rank(&self.order, key),
            EntityKey::Host(_) => 0,
        }
    }

    async fn connect(&mut self) -> Result<(), DriverError> {
        self.open = None;
        self.milestones.clear();
        let mut session = self.open_session().await?;
        self.check_machine()?;
        match session.standing() {
            Standing::Primary => {}
            Standing::Backup { primary } => return Err(not_primary(primary)),
            Standing::Vacant { highest } => {
                self.election_id = outbid(self.election_id, highest);
                return Err(not_primary(None));
            }
            Standing::Closed(why) => return Err(DriverError::Unreachable(why)),
        }
        let words = format!("primary at {}", self.config.address);
        self.milestones.push(Milestone::now(BootStep::Arbitrated, words));
        // A session in which a pipeline failed is dropped here, with `session`.
        let installed = session
            .install(&self.config.pipeline)
            .await
            .map_err(|e| driver_error(&e))?;
        if installed != Installed::Unchanged {
            let cookie = format_args!("{:#018x}", self.config.pipeline.cookie()).to_string();
            tracing::info!(switch = %self.config.name, ?installed, cookie, "pipeline");
        }
        let words = match installed {
            Installed::Unchanged => "it ran already",
            _ => "it was pushed",
        };
        self.milestones.push(Milestone::now(BootStep::PipelineLoaded, words));
        let cookie = session.running_cookie().await.map_err(|e| driver_error(&e))?;
        let kept_by = cookie.map(pipeline::keeper);
        if let Some(port) = &self.packets {
            let (sender, packets) = (session.packet_sender(), session.take_packets());
            tokio::spawn(carry(port.clone(), Arc::clone(&self.codec), sender, packets));
        }
        let (sender, ports) = mpsc::channel(PORT_EVENTS);
        // Ends when `ports` is dropped.
        tokio::spawn(watch_ports(session.channel(), sender));
        let (sender, kept) = mpsc::channel(PORT_EVENTS);
        if let Some(plan) = &self.plan {
            // Ends when `kept` is dropped.
            let names = Arc::clone(&self.names);
            tokio::spawn(keep_settings(session.channel(), plan.follow_settings(), sender.clone()));
            tokio::spawn(keep_ports(session.channel(), plan.follow(), names, sender));
        }
        self.open = Some(Open {
            session,
            ports,
            kept,
            kept_by,
            mark: Mark::default(),
            reading: None,
        });
        Ok(())
    }

    fn milestones(&mut self) -> Vec<Milestone> {
        std::mem::take(&mut self.milestones)
    }

    fn certificate(&self) -> Option<Validity> {
        self.config.tls.as_ref().and_then(Dialer::peer_validity)
    }

    fn kept_by(&self) -> Option<u32> {
        self.open.as_ref().and_then(|open| open.kept_by)
    }

    fn brought_to(&self) -> Option<u64> {
        self.open.as_ref().and_then(|open| open.mark.revision())
    }

    async fn synced(&mut self, epoch: u64) -> Result<(), DriverError> {
        let session = self.session()?;
        if !session.target().keeps_metadata {
            return Ok(());
        }
        let Some(change) = self
            .open
            .as_ref()
            .and_then(|open| open.mark.change(epoch, Instant::now()))
        else {
            return Ok(());
        };
        let outcomes = self.session()?.write(&[change]).await.map_err(|e| driver_error(&e))?;
        let refused = outcomes.into_iter().find_map(Result::err);
        if let Some(open) = &mut self.open {
            match refused {
                None => open.mark.written(epoch, Instant::now()),
                Some(refusal) => {
                    tracing::warn!(switch = %self.config.name, %refusal, "the switch does not remember a revision");
                    open.mark.refused();
                }
            }
        }
        Ok(())
    }

    async fn keep(&mut self, _: u32) -> Result<(), DriverError> {
        let session = self.session()?;
        session.keep(&self.config.pipeline).await.map_err(|e| driver_error(&e))
    }

    async fn begin_read_back(&mut self) -> Result<(), DriverError> {
        let pipeline = &self.config.pipeline;
        let reading = self.session()?.reading(pipeline.p4info());
        let (sender, parts) = mpsc::channel(PARTS);
        tokio::spawn(read(self.config.name.clone(), Arc::clone(pipeline), reading, sender));
        if let Some(open) = &mut self.open {
            let mark = open.mark.begin_read();
            open.reading = Some(Reading { parts, mark });
        }
        Ok(())
    }

    fn same(&self, wanted: &Entity, held: &Entity) -> bool {
        let (Entity::Switch(wanted), Entity::Switch(held)) = (wanted, held) else {
            return wanted == held;
        };
        let forgets = self.open.as_ref().is_some_and(|o| !o.session.target().watches_ports);
        match (wanted.value(), held.value()) {
            (EntityValue::Group(w), EntityValue::Group(h)) if forgets => {
                wanted.key() == held.key() && w.eq_but_watch_ports(h)
            }
            _ => wanted == held,
        }
    }

    async fn apply(&mut self, batch: &Batch) -> Result<Vec<WriteResult>, DriverError> {
        let session = self.session()?;
        let watches_ports = session.target().watches_ports;
        let changes: Vec<Option<Change>> = batch.writes.iter().map(|w| change(w, watches_ports)).collect();
        let wanted: Vec<Change> = changes.iter().flatten().cloned().collect();
        let outcomes = session.write(&wanted).await.map_err(|e| driver_error(&e))?;
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
            // A message that is taken from the session is either returned or is not an event; there is no await in
            // between. So no event is lost when this call is dropped.
            let event = tokio::select! {
                event = open.session.next_event() => event,
                Some((port, up)) = open.ports.recv() => return Event::Port { port, up },
                Some(event) = open.kept.recv() => return event,
                part = Reading::next(&mut open.reading, &mut open.mark) => return part,
            };
            if let Some(event) = self.event(event) {
                return event;
            }
        }
    }

    fn carry_packets(&mut self, port: PacketPort) {
        self.packets = Some(port);
    }

    async fn read_losses(&mut self) -> Result<Losses, DriverError> {
        Ok(losses::read(self.session()?.channel()).await)
    }

    fn keep_ports(&mut self, ports: Ports) {
        self.plan = Some(ports);
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

#[cfg(test)]
mod tests {
    use super::*;
    use p4runtime_client::entity::{GroupMember, Port};

    fn group(ports: [Option<Port>; 2]) -> SwitchEntity {
        let members = ports.into_iter().zip(1..).map(|(watch_port, member_id)| GroupMember {
            member_id,
            weight: 1,
            watch_port,
        });
        SwitchEntity::group(7, 9, members.collect(), 0)
    }

    #[test]
    fn a_target_that_cannot_watch_ports_is_not_asked_to() {
        let watching = group([Some(Port(1)), Some(Port(2))]);
        let write = Write::Insert(Arc::new(Entity::Switch(watching.clone())));
        assert_eq!(change(&write, true), Some(Change::Insert(watching)));
        assert_eq!(change(&write, false), Some(Change::Insert(group([None, None]))));
    }

    #[test]
    fn a_remembered_election_id_is_outbid() {
        assert_eq!(outbid(5, Some(ElectionId(9))), 10);
        assert_eq!(outbid(9, Some(ElectionId(5))), 10);
        assert_eq!(outbid(5, None), 5 * ELECTION_STEP);
        assert_eq!(outbid(u128::MAX, Some(ElectionId(1))), u128::MAX);
    }
}

//! A host's agent in memory, on its real stream to the controller.
//!
//! It confirms every Update, holds the objects, and gives them back when it is read. No kernel is touched.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use fabric_identity::{Credentials, Dialer, Subject};
use prost::Message as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Endpoint;
use vfabric_api::topology::Host as Spec;
use vtep_proto::MAX_OBJECTS_PER_MESSAGE;
use vtep_proto::v1::vtep_controller_client::VtepControllerClient;
use vtep_proto::v1::{self, agent_message, controller_message, host_object, object_key};

/// Wait between two attempts to reach the controller, so that a thousand agents do not keep a starting one busy.
const AGAIN: Duration = Duration::from_millis(500);
/// Messages that wait to be sent.
const OUTGOING: usize = 16;

/// The agent; clones are handles to the same one.
#[derive(Clone, Default)]
pub(super) struct Host(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// By encoded key; encoded.
    objects: HashMap<Vec<u8>, Vec<u8>>,
    epoch: u64,
    store: u32,
    /// Objects that were created, changed or removed.
    writes: u64,
}

fn key(object: &v1::HostObject) -> Option<v1::ObjectKey> {
    use object_key::Key;
    let key = match object.object.as_ref()? {
        host_object::Object::Network(network) => Key::Network(network.vni),
        host_object::Object::Fdb(entry) => Key::Fdb(v1::FdbKey {
            vni: entry.vni,
            mac: entry.mac.clone(),
        }),
        host_object::Object::Neighbour(entry) => Key::Neighbour(v1::NeighbourKey {
            vni: entry.vni,
            ip: entry.ip.clone(),
        }),
        host_object::Object::Attachment(attachment) => Key::Attachment(attachment.id.clone()),
    };
    Some(v1::ObjectKey { key: Some(key) })
}

impl State {
    fn update(&mut self, update: &v1::Update) {
        for object in &update.upserts {
            if let Some(key) = key(object) {
                self.objects.insert(key.encode_to_vec(), object.encode_to_vec());
            }
        }
        for key in &update.removes {
            self.objects.remove(&key.encode_to_vec());
        }
        self.epoch = update.epoch;
        self.writes += (update.upserts.len() + update.removes.len()) as u64;
    }

    fn parts(&self, id: u64) -> Vec<v1::ReadReply> {
        let objects = self
            .objects
            .values()
            .filter_map(|stored| v1::HostObject::decode(stored.as_slice()).ok());
        let held: Vec<v1::HeldObject> = objects
            .map(|object| v1::HeldObject {
                object: Some(object),
                error: None,
            })
            .collect();
        let mut parts: Vec<v1::ReadReply> = held
            .chunks(MAX_OBJECTS_PER_MESSAGE)
            .map(|part| v1::ReadReply {
                id,
                objects: part.to_vec(),
                last: false,
            })
            .collect();
        if parts.is_empty() {
            parts.push(v1::ReadReply {
                id,
                ..Default::default()
            });
        }
        if let Some(last) = parts.last_mut() {
            last.last = true;
        }
        parts
    }
}

impl Host {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Objects that it was sent or that were removed.
    pub(super) fn writes(&self) -> u64 {
        self.lock().writes
    }

    /// Objects that it holds.
    pub(super) fn held(&self) -> usize {
        self.lock().objects.len()
    }

    /// Follows the controller at `HOST:PORT` from an address of its own until the runtime ends.
    pub(super) fn follow(&self, spec: Spec, credentials: Arc<Credentials>, controller: String, from: IpAddr) {
        let host = self.clone();
        tokio::spawn(async move {
            loop {
                // A controller that restarts is dialled again; one that refuses shows in its log.
                let _ = host.session(&spec, &credentials, &controller, from).await;
                tokio::time::sleep(AGAIN).await;
            }
        });
    }

    async fn session(&self, spec: &Spec, credentials: &Arc<Credentials>, controller: &str, from: IpAddr) -> Result<()> {
        let dialer = Dialer::new(Arc::clone(credentials), Subject::Controller)?.from_address(from);
        let channel = dialer
            .channel(&Endpoint::from_static("http://controller"), controller)
            .await?;
        let (out, outgoing) = mpsc::channel(OUTGOING);
        let say = |message| {
            let (out, message) = (out.clone(), v1::AgentMessage { message: Some(message) });
            async move { out.send(message).await.context("the stream has ended") }
        };
        let hello = {
            let state = self.lock();
            v1::Hello {
                host: spec.name.to_string(),
                instance: vec![1; 16],
                vtep_ipv4: spec.vtep_ipv4.octets().to_vec(),
                vtep_ipv6: spec.vtep_ipv6.octets().to_vec(),
                uplink_mac: spec.mac.0.to_vec(),
                uplink: "eth0".into(),
                epoch: state.epoch,
                store: state.store,
                version: "in memory".into(),
                tells_losses: true,
                migrates: true,
                ..Default::default()
            }
        };
        say(agent_message::Message::Hello(hello)).await?;
        let mut controller = VtepControllerClient::new(channel);
        let mut incoming = controller.follow(ReceiverStream::new(outgoing)).await?.into_inner();
        while let Some(message) = incoming.message().await? {
            use controller_message::Message;
            match message.message {
                Some(Message::Welcome(_)) => {}
                Some(Message::ReadRequest(request)) => {
                    let parts = self.lock().parts(request.id);
                    for part in parts {
                        say(agent_message::Message::ReadReply(part)).await?;
                    }
                }
                Some(Message::Update(update)) => {
                    self.lock().update(&update);
                    let ack = v1::Ack {
                        sequence: update.sequence,
                        epoch: update.epoch,
                        errors: Vec::new(),
                    };
                    say(agent_message::Message::Ack(ack)).await?;
                }
                Some(Message::Synced(synced)) => {
                    let mut state = self.lock();
                    state.epoch = synced.epoch;
                    if synced.store != 0 {
                        state.store = synced.store;
                    }
                }
                Some(Message::LossRequest(request)) => {
                    let reply = v1::LossReply {
                        id: request.id,
                        ..Default::default()
                    };
                    say(agent_message::Message::LossReply(reply)).await?;
                }
                None => bail!("a message of an unknown kind"),
            }
        }
        Ok(())
    }
}

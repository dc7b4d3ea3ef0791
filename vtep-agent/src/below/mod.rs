//! Attachments of pods that start and end on this host.
//!
//! **Problem.** A container runtime starts the CNI plugin, which sends its request here. Host and leaf must have applied the
//! attachment before the reply is sent, and a crash at any point must leave a complete attachment or none.
//!
//! **Model.** A request is first noted in the [`journal`]. The runtime may name the pod's namespace by any path, and a
//! path like `/proc/PID/ns/net` may mean another namespace a moment later. So the agent gives the namespace a second
//! name in `/run/netns` (its *pin*), which always means the same namespace. Then the agent asks the controller, which
//! turns the request into a transaction and sends the attachment like any other. Unfinished work is undone
//! ([`Below::tidy`]): an ADD is removed, a swap goes back to its old network.
//!
//! **Invariants.** A journal entry is written before its work begins, and removed after everything is undone. Requests for one
//! container are carried out one at a time. Only root may send requests.

mod journal;
mod server;

use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use fabric_identity::Subject;
use ipnet::IpNet;
use tokio::sync::{Mutex, MutexGuard, oneshot, watch};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tonic::transport::Channel;
use tonic::{Code, Status};
use vfabric_cni::error::{self, Error};
use vfabric_cni::protocol::{Attached, Reply, Request, Slot, Wish};
use vtep_proto::v1::vtep_controller_client::VtepControllerClient;
use vtep_proto::{POD_NETNS, v1};

use crate::agent::{Command, Commands, Look};
use crate::error::AgentError;
use crate::netns::{self, Netns, NetnsId};
use journal::{Entry, Journal, State, digest};
pub use server::serve;

/// Longest wait for a controller that is away: longer than the controller takes to restart.
const CONNECT_PATIENCE: Duration = Duration::from_secs(20);
/// Longest wait for the controller's reply: longer than the controller waits for host and leaf.
const CALL_PATIENCE: Duration = Duration::from_secs(45);
/// Longest wait for the engine's status: runtimes call STATUS every few seconds.
const STATUS_PATIENCE: Duration = Duration::from_secs(2);
/// How often the removal of leaving interfaces is tried again.
const TIDY: Duration = Duration::from_secs(5);
/// Number of locks. Containers share them by the hash of their ids; this is enough for pods that start together.
const LOCKS: usize = 1024;

/// Carries out the requests of the CNI plugin.
pub struct Below {
    host: String,
    journal: Arc<Journal>,
    controller: watch::Receiver<Option<Channel>>,
    commands: Commands,
    /// Namespaces that cannot be a pod's.
    own: Vec<NetnsId>,
    locks: Vec<Mutex<()>>,
    hasher: RandomState,
}

/// The name in `/run/netns` under which a host keeps a container's namespace.
pub fn pin(host: &str, container: &str) -> String {
    format!("{POD_NETNS}{}", digest([host, container]))
}

/// Runs work that waits for the disk or the kernel, on a separate thread.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, AgentError> + Send + 'static,
) -> Result<T, Error> {
    let done = tokio::task::spawn_blocking(work).await;
    let done = done.map_err(|_| Error::io("a thread has ended"))?;
    done.map_err(|e| Error::io(crate::chain(&e)))
}

/// An error of the controller, with the code of CNI.
fn refused(status: &Status) -> Error {
    let code = match status.code() {
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Unknown | Code::Internal => {
            error::TRY_AGAIN
        }
        _ => error::REFUSED,
    };
    Error::new(code, format!("{}: {}", Subject::Controller, status.message()))
}

impl Below {
    /// Reads the journal in the state directory. Interfaces that were being added are marked for removal. So are
    /// interfaces whose namespace is gone, because the host has been restarted.
    ///
    /// # Errors
    /// When the journal cannot be used.
    pub fn open(
        host: &str,
        state_dir: &Path,
        controller: watch::Receiver<Option<Channel>>,
        commands: Commands,
    ) -> Result<Arc<Self>, AgentError> {
        let own = [Netns::current(), Netns::of_init()]
            .into_iter()
            .flatten()
            .map(|n| n.id())
            .collect();
        let below = Self {
            host: host.to_owned(),
            journal: Arc::new(Journal::open(&state_dir.join("attachments"))?),
            controller,
            commands,
            own,
            locks: (0..LOCKS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
        };
        for entry in below.journal.all() {
            let pinned = Netns::named(&below.pin(&entry.slot)).is_ok();
            if entry.state == State::Adding || (entry.state == State::Held && !pinned) {
                tracing::info!(
                    container = entry.slot.container,
                    interface = entry.slot.interface,
                    "unfinished; leaves"
                );
                let state = State::Leaving;
                below.journal.put(Entry { state, ..entry })?;
            }
        }
        Ok(Arc::new(below))
    }

    /// The name of a container's namespace.
    fn pin(&self, slot: &Slot) -> String {
        pin(&self.host, &slot.container)
    }

    /// Waits until no other request for this container is under way, and keeps others waiting until the guard is
    /// dropped.
    async fn turn(&self, slot: &Slot) -> MutexGuard<'_, ()> {
        let hash = self.hasher.hash_one(&slot.container) as usize;
        self.locks[hash % LOCKS].lock().await
    }

    /// Carries out a request.
    pub async fn handle(&self, request: Request) -> Reply {
        let done = match request {
            Request::Add { slot, netns, wish } => self.add(slot, netns, wish).await.map(Reply::Attached),
            Request::Plug { slot, wish } => self.plug(slot, wish).await.map(Reply::Attached),
            Request::Swap {
                slot,
                cni_network,
                network,
                mac,
                ips,
            } => {
                let change = |wish: &Wish, has_mac: String| Wish {
                    cni_network: cni_network.unwrap_or_else(|| wish.cni_network.clone()),
                    vdc: wish.vdc.clone(),
                    network,
                    mac: mac.or(Some(has_mac)),
                    ips,
                    workload: wish.workload.clone(),
                };
                self.swap(slot, change).await.map(Reply::Attached)
            }
            Request::List => Ok(Reply::Listed(self.list())),
            Request::Del { slot } => self.del(&slot).await.map(|()| Reply::Done),
            Request::Check { slot } => self.check(&slot).await.map(Reply::Attached),
            Request::Status => self.status().await.map(|()| Reply::Done),
            Request::Gc { cni_network, valid } => self.collect(&cni_network, &valid).await.map(|()| Reply::Done),
        };
        done.unwrap_or_else(|Error { code, message }| Reply::Failed { code, message })
    }

    /// Code 50 if ADD is not possible without a controller, 51 if running pods are cut off, too (CNI 1.1, "STATUS").
    async fn status(&self) -> Result<(), Error> {
        if self.is_connected() {
            return Ok(());
        }
        let away = "the agent has no stream to the controller";
        Err(match self.impairment().await {
            Some(why) => Error::new(error::LIMITED, format!("{away}, and {why}")),
            None => Error::new(error::NOT_AVAILABLE, away),
        })
    }

    fn is_connected(&self) -> bool {
        self.controller.borrow().is_some()
    }

    /// Why running pods may be cut off, if they may be. `None` too if the engine is busy: it is asked only once.
    async fn impairment(&self) -> Option<String> {
        let (answer, result) = oneshot::channel();
        self.commands.send(Command::Status(answer)).await.ok()?;
        let status = timeout(STATUS_PATIENCE, result).await.ok()?.ok()?;
        let broken = status
            .objects
            .iter()
            .filter(|o| o.kind == "attachment" && o.state != "applied");
        match broken.count() {
            _ if !status.uplink_up => Some(format!("the uplink {} is down", status.uplink)),
            0 => None,
            n => Some(format!("{n} attachments are not in place")),
        }
    }

    /// A client of the controller, as soon as there is a stream.
    async fn client(&self) -> Result<VtepControllerClient<Channel>, Error> {
        let away = || Error::new(error::TRY_AGAIN, "the agent has no stream to the controller");
        let mut controller = self.controller.clone();
        let connected = timeout(CONNECT_PATIENCE, controller.wait_for(Option::is_some)).await;
        let channel = connected.map_err(|_| away())?.map_err(|_| away())?.clone();
        channel.map(VtepControllerClient::new).ok_or_else(away)
    }

    fn list(&self) -> Vec<(Slot, Wish)> {
        let held = self.journal.all().into_iter().filter(|e| e.state == State::Held);
        held.map(|e| (e.slot, e.wish)).collect()
    }

    /// Adds a further interface to a running container. The container's namespace got its pin with the first interface.
    async fn plug(&self, slot: Slot, wish: Wish) -> Result<Attached, Error> {
        if !self.journal.others(&slot).iter().any(|e| e.state == State::Held) {
            let message = format!("container {} has no interface of this fabric", slot.container);
            return Err(Error::new(error::REFUSED, message));
        }
        let path = netns::path(&self.pin(&slot));
        let cni_network = String::new();
        self.add(slot, path.display().to_string(), Wish { cni_network, ..wish })
            .await
    }

    /// Gives a held interface the settings that `change` returns, such as another network. `change` gets the old
    /// settings and the MAC address. If that fails, the interface goes back to its old network: now, or as soon as
    /// there is a controller.
    async fn swap(&self, slot: Slot, change: impl FnOnce(&Wish, String) -> Wish) -> Result<Attached, Error> {
        let _turn = self.turn(&slot).await;
        let held = self.held(&slot).await?;
        let has = self.look(&self.id(&held).await?).await?;
        let wish = change(&held.wish, has.mac.clone());
        let wanted = Entry { wish, ..held.clone() };
        // Detect wrong fields before anything is changed.
        let request = self.request(&wanted)?;
        let back = Some(Wish {
            mac: Some(has.mac),
            ips: has.addresses.iter().map(IpNet::addr).collect(),
            ..held.wish.clone()
        });
        self.note(Entry { back, ..held }).await?;
        match self.call_swap(request).await {
            Ok(attached) => {
                self.note(wanted).await?;
                Ok(attached)
            }
            Err(why) => {
                if let Err(error) = self.go_back(&slot).await {
                    tracing::warn!(%error, container = slot.container, interface = slot.interface, "a swap cannot be undone yet");
                }
                Err(why)
            }
        }
    }

    async fn call_swap(&self, request: v1::AttachRequest) -> Result<Attached, Error> {
        let mut client = self.client().await?;
        let reply = called(timeout(CALL_PATIENCE, client.swap(request)).await)?;
        self.look(&reply.id).await
    }

    /// Undoes a failed swap: afterwards the interface is in its old network, with its old settings. The
    /// controller may have carried out all of the swap, or nothing. The caller holds the container's lock.
    async fn go_back(&self, slot: &Slot) -> Result<(), Error> {
        let Some(entry) = self.journal.get(slot).filter(|e| e.state == State::Held) else {
            return Ok(());
        };
        let Some(wish) = entry.back.clone() else {
            return Ok(());
        };
        let mut client = self.client().await?;
        // First go back with the old addresses, then with the original request, which may not name addresses. The
        // second step stays in the same network, so the addresses stay too.
        for wish in [wish, entry.wish.clone()] {
            let request = self.request(&Entry { wish, ..entry.clone() })?;
            called(timeout(CALL_PATIENCE, client.swap(request)).await)?;
        }
        let back = None;
        self.note(Entry { back, ..entry }).await
    }

    /// The entry of a held interface, in the given network.
    async fn held(&self, slot: &Slot) -> Result<Entry, Error> {
        self.go_back(slot).await?;
        let entry = self.journal.get(slot).filter(|e| e.state == State::Held);
        entry.ok_or_else(|| missing(slot))
    }

    /// The id of an attachment that is held.
    async fn id(&self, entry: &Entry) -> Result<String, Error> {
        let (answer, result) = oneshot::channel();
        let ended = || Error::new(error::NOT_AVAILABLE, "the agent is stopping");
        let place = (self.pin(&entry.slot), entry.slot.interface.clone());
        let asked = self.commands.send(Command::IdAt(place, answer)).await;
        asked.map_err(|_| ended())?;
        result.await.map_err(|_| ended())?.ok_or_else(|| missing(&entry.slot))
    }

    async fn add(&self, slot: Slot, path: String, wish: Wish) -> Result<Attached, Error> {
        let _turn = self.turn(&slot).await;
        self.go_back(&slot).await?;
        let mut held = self.journal.get(&slot);
        if held.as_ref().is_some_and(|e| e.state != State::Held) {
            self.undo(&slot).await?;
            held = None;
        }
        let again = held.is_some();
        if held.is_some_and(|e| e.wish != wish) {
            let message = format!(
                "interface {} of {} is attached to something else",
                slot.interface, slot.container
            );
            return Err(Error::new(error::REFUSED, message));
        }
        let entry = Entry::new(slot, wish, State::Adding);
        let namespace = self.open_pod(&path)?;
        if !again {
            self.note(entry.clone()).await?;
        }
        match self.attach(&entry, namespace).await {
            Ok(attached) => {
                if !again {
                    let state = State::Held;
                    self.note(Entry { state, ..entry }).await?;
                }
                Ok(attached)
            }
            Err(why) => {
                // An attachment from an earlier ADD is not removed.
                if !again && let Err(error) = self.undo(&entry.slot).await {
                    tracing::warn!(%error, container = entry.slot.container, "cannot be undone yet; tried again");
                }
                Err(why)
            }
        }
    }

    fn open_pod(&self, path: &str) -> Result<Netns, Error> {
        let wrong = |why: String| Error::new(error::ENVIRONMENT, format!("CNI_NETNS: {why}"));
        let namespace = Netns::at(Path::new(path)).map_err(|e| wrong(crate::chain(&e)))?;
        if self.own.contains(&namespace.id()) {
            return Err(wrong(format!("{path} is the host's own network namespace")));
        }
        Ok(namespace)
    }

    async fn attach(&self, entry: &Entry, namespace: Netns) -> Result<Attached, Error> {
        let name = self.pin(&entry.slot);
        blocking(move || namespace.keep_name(&name).map_err(Into::into)).await?;
        let request = self.request(entry)?;
        let mut client = self.client().await?;
        let reply = called(timeout(CALL_PATIENCE, client.attach(request)).await)?;
        self.look(&reply.id).await
    }

    fn request(&self, entry: &Entry) -> Result<v1::AttachRequest, Error> {
        let mac = entry.wish.mac.as_deref().map(parse_mac).transpose()?;
        let ips = entry.wish.ips.iter().map(|ip| match ip {
            std::net::IpAddr::V4(a) => a.octets().to_vec(),
            std::net::IpAddr::V6(a) => a.octets().to_vec(),
        });
        Ok(v1::AttachRequest {
            vdc: entry.wish.vdc.clone(),
            network: entry.wish.network.clone(),
            netns: self.pin(&entry.slot),
            interface: entry.slot.interface.clone(),
            mac: mac.unwrap_or_default(),
            ips: ips.collect(),
            workload: entry.wish.workload.clone().unwrap_or_default(),
        })
    }

    /// Compares an attachment with the kernel.
    async fn look(&self, id: &str) -> Result<Attached, Error> {
        let (answer, result) = oneshot::channel();
        let ended = || Error::new(error::NOT_AVAILABLE, "the agent is stopping");
        let asked = self.commands.send(Command::Look(id.to_owned(), answer)).await;
        asked.map_err(|_| ended())?;
        match result.await.map_err(|_| ended())? {
            Look::InPlace(attachment, mtu) => Ok(Attached {
                mac: attachment.mac.to_string(),
                mtu,
                addresses: attachment.addresses.iter().copied().collect(),
                routes: attachment.routes.iter().map(|r| (r.destination, r.via)).collect(),
            }),
            Look::Failed(error) => Err(Error::new(error::DIFFERS, error.to_string())),
            Look::Absent => Err(Error::new(error::DIFFERS, format!("the host holds no attachment {id}"))),
        }
    }

    async fn check(&self, slot: &Slot) -> Result<Attached, Error> {
        let _turn = self.turn(slot).await;
        self.look(&self.id(&self.held(slot).await?).await?).await
    }

    async fn del(&self, slot: &Slot) -> Result<(), Error> {
        let _turn = self.turn(slot).await;
        self.undo(slot).await?;
        let others = self.journal.others(slot);
        if others.iter().all(|e| e.wish.cni_network.is_empty()) {
            // The runtime does not know the other interfaces, so nobody else would ever remove them.
            for Entry { slot, .. } in others {
                self.undo(&slot).await?;
            }
        }
        Ok(())
    }

    async fn collect(&self, cni_network: &str, valid: &[Slot]) -> Result<(), Error> {
        let stale = self
            .journal
            .all()
            .into_iter()
            .filter(|e| e.wish.cni_network == cni_network);
        let mut failed = None;
        for entry in stale.filter(|e| !valid.contains(&e.slot)) {
            // Try all of them, then report the first failure.
            failed = failed.or(self.del(&entry.slot).await.err());
        }
        failed.map_or(Ok(()), Err)
    }

    /// Removes an interface, whatever its state. Succeeds if it does not exist.
    async fn undo(&self, slot: &Slot) -> Result<(), Error> {
        let Some(entry) = self.journal.get(slot) else {
            return Ok(());
        };
        let state = State::Leaving;
        let request = v1::DetachRequest {
            vdc: entry.wish.vdc.clone(),
            netns: self.pin(slot),
            interface: slot.interface.clone(),
            workload: entry.wish.workload.clone().unwrap_or_default(),
        };
        self.note(Entry { state, ..entry }).await?;
        let mut client = self.client().await?;
        called(timeout(CALL_PATIENCE, client.detach(request)).await)?;
        let (journal, slot, pin) = (Arc::clone(&self.journal), slot.clone(), self.pin(slot));
        blocking(move || {
            if journal.others(&slot).is_empty() {
                netns::remove(&pin)?;
            }
            journal.remove(&slot)
        })
        .await
    }

    async fn note(&self, entry: Entry) -> Result<(), Error> {
        let journal = Arc::clone(&self.journal);
        blocking(move || journal.put(entry)).await
    }

    /// Finishes or undoes unfinished work whenever there is a controller. Runs until dropped.
    pub async fn tidy(&self) {
        let mut tick = interval(TIDY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut controller = self.controller.clone();
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                // Wakes up as soon as there is a controller again. If the stream's task has ended, that never happens.
                Ok(()) = controller.changed() => {}
            }
            for Entry { slot, .. } in self.journal.all().into_iter().filter(Entry::is_unfinished) {
                if !self.is_connected() {
                    break;
                }
                let _turn = self.turn(&slot).await;
                // A request may have changed the entry in the meantime.
                let ended = match self.journal.get(&slot) {
                    Some(entry) if entry.state == State::Leaving => self.undo(&slot).await,
                    Some(entry) if entry.back.is_some() => self.go_back(&slot).await,
                    _ => Ok(()),
                };
                if let Err(error) = ended {
                    tracing::warn!(%error, container = slot.container, interface = slot.interface, "cannot be undone yet");
                }
            }
        }
    }
}

fn missing(slot: &Slot) -> Error {
    let message = format!(
        "interface {} of container {} is not attached",
        slot.interface, slot.container
    );
    Error::new(error::DIFFERS, message)
}

fn parse_mac(text: &str) -> Result<Vec<u8>, Error> {
    let wrong = |_| Error::field("mac", text, "a MAC address");
    let mac: macaddr::MacAddr6 = text.parse().map_err(wrong)?;
    Ok(mac.as_bytes().to_vec())
}

fn called<T>(result: Result<Result<tonic::Response<T>, Status>, tokio::time::error::Elapsed>) -> Result<T, Error> {
    let late = |_| Error::new(error::TRY_AGAIN, "the controller did not reply in time");
    result
        .map_err(late)?
        .map(tonic::Response::into_inner)
        .map_err(|s| refused(&s))
}

#[cfg(test)]
mod tests;

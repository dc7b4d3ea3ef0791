//! gRPC in front of the tree: Capabilities, Get, Set and Subscribe (gNMI specification, sections 3.2 to 3.5).

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use gnmi_proto::gnmi;
use gnmi_proto::gnmi::g_nmi_server::GNmi;
use gnmi_proto::gnmi::subscribe_response::Response as Sent;
use gnmi_proto::gnmi::subscription_list::Mode;
use gnmi_proto::gnmi::{Encoding, subscribe_request};
use tokio::sync::{broadcast, mpsc};
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::path::{self, Elem};
use super::set::{self, Config};
use super::subscribe::{News, Subscriptions};
use super::tree::{self, Interfaces, Leaf};

/// Version of gNMI that is served.
const GNMI_VERSION: &str = "0.10.0";

/// Most notifications that wait for one subscriber; a slower subscriber gets merged changes later.
const QUEUE: usize = 64;

/// The served models with their revisions.
const MODELS: [(&str, &str); 6] = [
    ("openconfig-interfaces", "3.7.1"),
    ("openconfig-if-ethernet", "2.13.0"),
    ("openconfig-p4rt", "0.5.0"),
    ("openconfig-platform", "0.23.0"),
    ("openconfig-platform-pipeline-counters", "0.5.0"),
    ("openconfig-system", "2.0.0"),
];

type Queue = mpsc::Sender<Result<gnmi::SubscribeResponse, Status>>;

/// The gNMI service.
#[derive(Clone)]
pub struct Service {
    source: Arc<dyn Interfaces>,
    started: Instant,
    /// Held while a `Set` is carried out.
    setting: Arc<tokio::sync::Mutex<()>>,
}

impl Service {
    /// Serves these interfaces.
    pub fn new(source: Arc<dyn Interfaces>) -> Self {
        Self {
            source,
            started: Instant::now(),
            setting: Arc::default(),
        }
    }

    fn now_ns(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

fn unix_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

fn encoding(wire: i32) -> Result<Encoding, Status> {
    match Encoding::try_from(wire) {
        Ok(encoding @ (Encoding::Json | Encoding::JsonIetf | Encoding::Proto)) => Ok(encoding),
        _ => Err(Status::unimplemented(
            "only the encodings JSON, JSON_IETF and PROTO are served",
        )),
    }
}

fn json_value(encoding: Encoding, json: &serde_json::Value) -> gnmi::TypedValue {
    use gnmi::typed_value::Value;
    let text = json.to_string().into_bytes();
    let value = if encoding == Encoding::Json {
        Value::JsonVal(text)
    } else {
        Value::JsonIetfVal(text)
    };
    gnmi::TypedValue { value: Some(value) }
}

fn leaf_update(leaf: &Leaf, encoding: Encoding) -> gnmi::Update {
    let value = match encoding {
        Encoding::Proto => leaf.value.to_proto(),
        _ => json_value(encoding, &leaf.value.to_json()),
    };
    gnmi::Update {
        path: Some(path::to_wire(&leaf.path)),
        val: Some(value),
        ..gnmi::Update::default()
    }
}

fn notification(
    updates: Vec<gnmi::Update>,
    delete: Vec<gnmi::Path>,
    prefix: Option<&gnmi::Path>,
) -> gnmi::Notification {
    // Paths are absolute; of the prefix only the target is echoed (section 2.2.2.1).
    let target = prefix
        .map(|prefix| prefix.target.clone())
        .filter(|target| !target.is_empty());
    let prefix = target.map(|target| gnmi::Path {
        target,
        ..gnmi::Path::default()
    });
    gnmi::Notification {
        timestamp: unix_ns(),
        prefix,
        update: updates,
        delete,
        ..gnmi::Notification::default()
    }
}

fn sent(news: News, encoding: Encoding, prefix: Option<&gnmi::Path>) -> Option<gnmi::SubscribeResponse> {
    if news == News::default() {
        return None;
    }
    let updates = news.updates.iter().map(|leaf| leaf_update(leaf, encoding)).collect();
    let deletes = news.deletes.iter().map(|gone| path::to_wire(gone)).collect();
    let update = notification(updates, deletes, prefix);
    Some(gnmi::SubscribeResponse {
        response: Some(Sent::Update(update)),
        ..Default::default()
    })
}

fn synced() -> gnmi::SubscribeResponse {
    gnmi::SubscribeResponse {
        response: Some(Sent::SyncResponse(true)),
        ..Default::default()
    }
}

/// Whether a pattern has wildcards, so that finding nothing is not an error.
fn is_wild(pattern: &[Elem]) -> bool {
    let wild = |elem: &Elem| elem.name.contains(['*', '.']) || elem.keys.values().any(|key| key == "*");
    pattern
        .iter()
        .any(|elem| wild(elem) || (elem.name == "interface" && elem.keys.is_empty()))
}

#[tonic::async_trait]
impl GNmi for Service {
    type SubscribeStream = ReceiverStream<Result<gnmi::SubscribeResponse, Status>>;

    async fn capabilities(
        &self,
        _: Request<gnmi::CapabilityRequest>,
    ) -> Result<Response<gnmi::CapabilityResponse>, Status> {
        let models = MODELS.map(|(name, version)| gnmi::ModelData {
            name: name.to_owned(),
            organization: "OpenConfig working group".to_owned(),
            version: version.to_owned(),
        });
        Ok(Response::new(gnmi::CapabilityResponse {
            supported_models: models.into(),
            supported_encodings: vec![Encoding::Json.into(), Encoding::JsonIetf.into(), Encoding::Proto.into()],
            g_nmi_version: GNMI_VERSION.to_owned(),
            ..Default::default()
        }))
    }

    async fn get(&self, request: Request<gnmi::GetRequest>) -> Result<Response<gnmi::GetResponse>, Status> {
        use gnmi::get_request::DataType;
        let request = request.into_inner();
        let encoding = encoding(request.encoding)?;
        let kind =
            DataType::try_from(request.r#type).map_err(|_| Status::invalid_argument("the data type is not valid"))?;
        let whole = [gnmi::Path::default()];
        let paths = if request.path.is_empty() {
            &whole[..]
        } else {
            &request.path
        };
        let mut notifications = Vec::with_capacity(paths.len());
        for wire in paths {
            let pattern = path::join(request.prefix.as_ref(), Some(wire))?;
            let mut leaves = tree::select(&*self.source, &pattern);
            if leaves.is_empty() && !(is_wild(&pattern) && tree::is_known(&pattern)) {
                return Err(Status::not_found(format!("{} does not exist", path::display(&pattern))));
            }
            leaves.retain(|leaf| match kind {
                DataType::All => true,
                DataType::Config => leaf.is_config,
                DataType::State | DataType::Operational => !leaf.is_config,
            });
            let updates = match encoding {
                Encoding::Proto => leaves.iter().map(|leaf| leaf_update(leaf, encoding)).collect(),
                // With wildcards, each leaf is sent with its own path; without, the reply is one document.
                _ if is_wild(&pattern) => leaves.iter().map(|leaf| leaf_update(leaf, encoding)).collect(),
                _ => vec![gnmi::Update {
                    path: Some(path::to_wire(&pattern)),
                    val: Some(json_value(encoding, &tree::to_json(&pattern, &leaves))),
                    ..Default::default()
                }],
            };
            notifications.push(notification(updates, Vec::new(), request.prefix.as_ref()));
        }
        Ok(Response::new(gnmi::GetResponse {
            notification: notifications,
            ..Default::default()
        }))
    }

    async fn set(&self, request: Request<gnmi::SetRequest>) -> Result<Response<gnmi::SetResponse>, Status> {
        use gnmi::update_result::Operation;
        let request = request.into_inner();
        if !request.union_replace.is_empty() {
            return Err(Status::unimplemented("union_replace is not supported"));
        }
        // Held from reading the configuration until it is changed.
        let _setting = self.setting.lock().await;
        let source = &*self.source;
        let from = Config::of(source);
        let mut to = from.clone();
        let mut results = Vec::new();
        let mut done = |operation: Operation, path: Option<&gnmi::Path>| {
            results.push(gnmi::UpdateResult {
                path: path.cloned(),
                op: operation.into(),
                ..Default::default()
            });
        };
        for wire in &request.delete {
            to.delete(&path::join(request.prefix.as_ref(), Some(wire))?)?;
            done(Operation::Delete, Some(wire));
        }
        let replaced = request.replace.iter().map(|update| (Operation::Replace, update));
        let updated = request.update.iter().map(|update| (Operation::Update, update));
        for (operation, update) in replaced.chain(updated) {
            let path = path::join(request.prefix.as_ref(), update.path.as_ref())?;
            let value = update.val.as_ref();
            let value = value.ok_or_else(|| Status::invalid_argument("a value is missing"))?;
            match operation {
                Operation::Replace => to.replace(&path, value)?,
                _ => to.update(&path, value)?,
            }
            done(operation, update.path.as_ref());
        }
        let steps = set::steps(source, &from, &to)?;
        tokio::task::block_in_place(|| set::apply(source, &steps))?;
        let response = gnmi::SetResponse {
            prefix: request.prefix,
            response: results,
            timestamp: unix_ns(),
            ..Default::default()
        };
        Ok(Response::new(response))
    }

    async fn subscribe(
        &self,
        request: Request<Streaming<gnmi::SubscribeRequest>>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let mut incoming = request.into_inner();
        let first = incoming
            .next()
            .await
            .ok_or_else(|| Status::invalid_argument("no subscription was sent"))??;
        let Some(subscribe_request::Request::Subscribe(list)) = first.request else {
            return Err(Status::invalid_argument(
                "the first message must be a subscription list",
            ));
        };
        let encoding = match encoding(list.encoding)? {
            // Zero is also what clients send that do not choose; single leaves then travel as scalars, as they expect from
            // switches in the field.
            Encoding::Json => Encoding::Proto,
            chosen => chosen,
        };
        let mode = Mode::try_from(list.mode).map_err(|_| Status::invalid_argument("the list's mode is not valid"))?;
        // Register the watcher before the first read, so that no change falls between the two.
        let changes = self.source.changes();
        let subscriptions = Subscriptions::new(&list, self.now_ns())?;
        let (queue, receiver) = mpsc::channel(QUEUE);
        let follower = Follower {
            service: self.clone(),
            list,
            encoding,
            subscriptions,
            queue,
        };
        tokio::spawn(async move {
            // The only error is that the client has gone.
            let _ = match mode {
                Mode::Once => follower.once().await,
                Mode::Poll => follower.poll(incoming).await,
                Mode::Stream => follower.stream(incoming, changes).await,
            };
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

/// One running `Subscribe`.
struct Follower {
    service: Service,
    list: gnmi::SubscriptionList,
    encoding: Encoding,
    subscriptions: Subscriptions,
    queue: Queue,
}

struct Gone;

impl Follower {
    async fn send(&self, response: Option<gnmi::SubscribeResponse>) -> Result<(), Gone> {
        match response {
            Some(response) => self.queue.send(Ok(response)).await.map_err(|_| Gone),
            None => Ok(()),
        }
    }

    async fn everything(&mut self) -> Result<(), Gone> {
        let mut news = self.subscriptions.initial(&*self.service.source);
        if self.list.updates_only {
            news = News::default();
        }
        self.send(sent(news, self.encoding, self.list.prefix.as_ref())).await?;
        self.send(Some(synced())).await
    }

    async fn once(mut self) -> Result<(), Gone> {
        self.everything().await
    }

    async fn poll(mut self, mut incoming: Streaming<gnmi::SubscribeRequest>) -> Result<(), Gone> {
        self.everything().await?;
        while let Some(Ok(message)) = incoming.next().await {
            match message.request {
                Some(subscribe_request::Request::Poll(_)) => {
                    let news = self.subscriptions.initial(&*self.service.source);
                    self.send(sent(news, self.encoding, self.list.prefix.as_ref())).await?;
                    self.send(Some(synced())).await?;
                }
                _ => {
                    let error = Status::invalid_argument("only polls may follow the subscription list");
                    return self.queue.send(Err(error)).await.map_err(|_| Gone);
                }
            }
        }
        Ok(())
    }

    async fn stream(
        mut self,
        mut incoming: Streaming<gnmi::SubscribeRequest>,
        mut changes: broadcast::Receiver<Option<Arc<str>>>,
    ) -> Result<(), Gone> {
        self.everything().await?;
        let mut half_closed = false;
        loop {
            let wait = self
                .subscriptions
                .next_due_ns()
                .map_or(Duration::from_secs(3600), |due| {
                    Duration::from_nanos(due.saturating_sub(self.service.now_ns()))
                });
            let source = self.service.source.clone();
            let news = tokio::select! {
                () = self.queue.closed() => return Err(Gone),
                message = incoming.next(), if !half_closed => match message {
                    // A client may close its side and go on listening.
                    None => { half_closed = true; continue }
                    Some(Err(_)) => return Err(Gone),
                    Some(Ok(_)) => {
                        let error = Status::invalid_argument("nothing may follow a streaming subscription list");
                        return self.queue.send(Err(error)).await.map_err(|_| Gone);
                    }
                },
                change = changes.recv() => match change {
                    Ok(interface) => self.subscriptions.changed(&*source, interface.as_deref()),
                    // Changes were missed while this client was slow: read everything.
                    Err(broadcast::error::RecvError::Lagged(_)) => self.subscriptions.changed(&*source, None),
                    Err(broadcast::error::RecvError::Closed) => return Ok(()),
                },
                () = tokio::time::sleep(wait) => self.subscriptions.due(&*source, self.service.now_ns()),
            };
            self.send(sent(news, self.encoding, self.list.prefix.as_ref())).await?;
        }
    }
}

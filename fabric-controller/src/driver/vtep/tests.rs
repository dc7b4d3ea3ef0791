use std::net::SocketAddr;

use fabric_identity::Dialer;
use fabric_identity::testing::{Authority, Issued, granted_streams};
use tonic::Code;
use tonic::transport::Endpoint;
use vtep_proto::v1::vtep_controller_client::VtepControllerClient;
use vtep_proto::{FdbEntry, MacAddress, Vni};

use super::*;

/// A server with two hosts, and the certificates to call it.
struct World {
    authority: Authority,
    server: VtepServer,
    address: SocketAddr,
}

impl World {
    async fn new() -> Self {
        let authority = Authority::new();
        let credentials = authority.credentials("controller");
        let server = VtepServer::new();
        // Both may dial in; their drivers are not needed.
        for host in ["h1", "h2"] {
            server.driver(host);
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = server.clone();
        tokio::spawn(async move { serving.serve(listener, &credentials, std::future::pending()).await });
        Self {
            authority,
            server,
            address,
        }
    }

    /// Dials in with a certificate for `subject` and claims to be `host`.
    async fn agent(&self, authority: &Authority, subject: &str, host: &str) -> Result<Agent, Status> {
        let hello = v1::Hello {
            host: host.into(),
            ..Default::default()
        };
        self.dial(authority.issue(subject), hello).await
    }

    /// Dials in with a certificate and sends this message.
    async fn dial(&self, issued: Issued, hello: v1::Hello) -> Result<Agent, Status> {
        // It trusts the server, whichever authority signed its own certificate.
        let credentials = issued.credentials(&self.authority.pem);
        let dialer = Dialer::new(credentials, Subject::Controller).unwrap();
        let channel = dialer
            .channel(&Endpoint::from_static("http://controller"), &self.address.to_string())
            .await
            .map_err(|e| Status::unavailable(e.to_string()))?;
        let (out, outgoing) = mpsc::channel(8);
        let agent = |message| v1::AgentMessage { message: Some(message) };
        out.send(agent(agent_message::Message::Hello(hello))).await.unwrap();
        let incoming = VtepControllerClient::new(channel)
            .follow(ReceiverStream::new(outgoing))
            .await?
            .into_inner();
        Ok(Agent { out, incoming })
    }

    async fn good(&self, host: &str) -> Agent {
        self.agent(&self.authority, &format!("host/{host}"), host)
            .await
            .unwrap()
    }
}

struct Agent {
    out: mpsc::Sender<v1::AgentMessage>,
    incoming: Streaming<v1::ControllerMessage>,
}

impl Agent {
    async fn send(&self, message: agent_message::Message) {
        self.out
            .send(v1::AgentMessage { message: Some(message) })
            .await
            .unwrap();
    }

    async fn next(&mut self) -> controller_message::Message {
        self.incoming.message().await.unwrap().unwrap().message.unwrap()
    }
}

fn station(last: u8) -> HostEntity {
    let mac = MacAddress::new([2, 0, 0, 0, 0, last]).unwrap();
    HostEntity::Fdb(FdbEntry {
        vni: Vni::new(1).unwrap(),
        mac,
        vtep: [10, 0, 0, last].into(),
    })
}

fn error(last: u8) -> v1::ObjectError {
    vtep_proto::object_error(&station(last).key(), v1::ErrorCode::Kernel, "no", true)
}

#[tokio::test]
async fn an_agent_must_be_the_host_it_says_it_is() {
    let world = World::new().await;
    let refused = |r: Result<Agent, Status>| r.err().map(|s| s.code());
    for subject in [
        "host/h2",
        "switch/h1",
        "controller",
        "operator/h1",
        "operator/h1/admin",
        "user/h1",
        "provision",
    ] {
        let other = world.agent(&world.authority, subject, "h1").await;
        assert_eq!(refused(other), Some(Code::PermissionDenied), "{subject}");
    }
    let unknown = world.agent(&world.authority, "host/h9", "h9").await;
    assert_eq!(refused(unknown), Some(Code::NotFound));
    let foreign = world.agent(&Authority::new(), "host/h1", "h1").await;
    assert!(foreign.is_err(), "a certificate of another authority was accepted");
    assert!(world.agent(&world.authority, "host/h1", "h1").await.is_ok());
}

#[tokio::test]
async fn the_streams_of_a_connection_are_limited() {
    let world = World::new().await;
    let dialer = Dialer::new(world.authority.credentials("switch/h1"), Subject::Controller).unwrap();
    let connection = dialer.connect(&world.address.to_string()).await.unwrap();
    let granted = timeout(Duration::from_secs(30), granted_streams(connection)).await;
    assert_eq!(granted.unwrap(), Some(512));
}

#[tokio::test]
async fn reads_writes_and_events() {
    let world = World::new().await;
    let mut driver = world.server.driver("h1");
    let mut agent = world.good("h1").await;
    driver.connect().await.unwrap();
    assert!(matches!(agent.next().await, controller_message::Message::Welcome(_)));

    let played = tokio::spawn(async move {
        let controller_message::Message::ReadRequest(request) = agent.next().await else {
            panic!("no ReadRequest")
        };
        let held = |last, error| v1::HeldObject {
            object: Some((&station(last)).into()),
            error,
        };
        let part = |objects, last| {
            agent_message::Message::ReadReply(v1::ReadReply {
                id: request.id,
                objects,
                last,
            })
        };
        agent.send(part(vec![held(1, None)], false)).await;
        agent.send(part(vec![held(2, Some(error(2)))], true)).await;
        let controller_message::Message::Update(update) = agent.next().await else {
            panic!("no Update")
        };
        let state = v1::StateChange {
            applied: vec![(&station(2).key()).into()],
            failed: vec![],
        };
        agent
            .send(agent_message::Message::Report(v1::Report {
                event: Some(report::Event::State(state)),
            }))
            .await;
        let ack = v1::Ack {
            sequence: update.sequence,
            epoch: update.epoch,
            errors: vec![error(3)],
        };
        agent.send(agent_message::Message::Ack(ack)).await;
        assert!(matches!(
            agent.next().await,
            controller_message::Message::Synced(v1::Synced { epoch: 7, store: 0 })
        ));
        update
    });

    assert_eq!(driver.next_event().await, Event::Warning(Warning::Clock, None));
    driver.begin_read_back().await.unwrap();
    let held = |event| match event {
        Event::Held(part) => (part.entities, part.failing, part.last),
        other => panic!("{other:?}"),
    };
    assert_eq!(
        held(driver.next_event().await),
        (vec![Entity::Host(station(1))], vec![], false)
    );
    // The rest comes while something is written.
    let entity = |last| Arc::new(Entity::Host(station(last)));
    let writes = vec![
        Write::Insert(entity(3)),
        Write::Modify(entity(4)),
        Write::Delete(entity(1)),
    ];
    let results = driver.apply(&Batch { epoch: 7, writes }).await.unwrap();
    assert_eq!(
        results.iter().map(Result::is_ok).collect::<Vec<_>>(),
        [false, true, true]
    );
    assert!(
        results[0]
            .as_ref()
            .is_err_and(|e| e.device_retries && e.message == "no")
    );
    driver.synced(7).await.unwrap();

    let update = played.await.unwrap();
    assert_eq!((update.epoch, update.upserts.len(), update.removes.len()), (7, 2, 1));
    let key = EntityKey::Host(station(2).key());
    let (entities, failing, last) = held(driver.next_event().await);
    assert!(entities == [Entity::Host(station(2))] && last);
    assert!(matches!(&failing[..], [(k, e)] if *k == key && e.device_retries));
    assert!(matches!(driver.next_event().await, Event::EntityState(k, Ok(())) if k == key));
    assert!(matches!(driver.next_event().await, Event::Disconnected(_)));
}

#[tokio::test]
async fn a_new_stream_replaces_the_old_one() {
    let world = World::new().await;
    let mut driver = world.server.driver("h1");
    let _old = world.good("h1").await;
    driver.connect().await.unwrap();
    let mut new = world.good("h1").await;
    assert_eq!(driver.next_event().await, Event::Warning(Warning::Clock, None));
    assert!(matches!(driver.next_event().await, Event::Disconnected(_)));
    driver.disconnect().await;
    driver.connect().await.unwrap();
    assert!(matches!(new.next().await, controller_message::Message::Welcome(_)));
}

/// Remembers who asked.
#[derive(Default)]
struct Asked(Mutex<Vec<Name>>);

#[tonic::async_trait]
impl Below for Asked {
    async fn attach(&self, host: Name, ask: Ask) -> Result<String, ApiError> {
        self.0.lock().unwrap().push(host);
        match ask.spot.vdc.as_str() {
            "blue" => Ok("blue/pod-1".into()),
            _ => Err(ApiError::new(ErrorCode::Forbidden, "not assigned")),
        }
    }

    async fn swap(&self, host: Name, ask: Ask) -> Result<String, ApiError> {
        self.attach(host, ask).await
    }

    async fn detach(&self, host: Name, _: Spot) -> Result<(), ApiError> {
        self.0.lock().unwrap().push(host);
        Ok(())
    }
}

#[tokio::test]
async fn only_hosts_of_the_inventory_ask_for_attachments_and_each_for_itself() {
    let world = World::new().await;
    let asked = Arc::new(Asked::default());
    let request = |vdc: &str| v1::AttachRequest {
        vdc: vdc.into(),
        network: "red".into(),
        netns: "vfpod-1".into(),
        interface: "eth0".into(),
        ..Default::default()
    };
    let attach = async |subject: &str, request: v1::AttachRequest| {
        let credentials = world.authority.issue(subject).credentials(&world.authority.pem);
        let dialer = Dialer::new(credentials, Subject::Controller).unwrap();
        let endpoint = Endpoint::from_static("http://controller");
        let channel = dialer.channel(&endpoint, &world.address.to_string()).await.unwrap();
        let reply = VtepControllerClient::new(channel).attach(request).await;
        reply.map(|r| r.into_inner().id).map_err(|s| s.code())
    };
    assert_eq!(attach("host/h1", request("blue")).await, Err(Code::Unavailable));
    world.server.serve_below(Arc::<Asked>::clone(&asked));
    for subject in [
        "switch/h1",
        "controller",
        "operator/h1",
        "operator/h1/admin",
        "user/h1",
        "provision",
    ] {
        assert_eq!(
            attach(subject, request("blue")).await,
            Err(Code::PermissionDenied),
            "{subject}"
        );
    }
    assert_eq!(attach("host/h9", request("blue")).await, Err(Code::NotFound));
    assert_eq!(attach("host/h2", request("blue")).await, Ok("blue/pod-1".into()));
    assert_eq!(attach("host/h2", request("green")).await, Err(Code::PermissionDenied));
    let mut bad = request("blue");
    bad.ips = vec![vec![10, 0, 0]];
    assert_eq!(attach("host/h2", bad).await, Err(Code::InvalidArgument));
    assert_eq!(
        attach("host/h2", request("Not A Name")).await,
        Err(Code::InvalidArgument)
    );
    let asked = asked.0.lock().unwrap().clone();
    assert!(
        asked.iter().all(|h| h.as_str() == "h2") && asked.len() == 2,
        "{asked:?}"
    );
}

#[tokio::test]
async fn losses_are_asked_for_by_those_who_can_tell_them() {
    let world = World::new().await;
    let mut driver = world.server.driver("h1");
    let _old = world.good("h1").await;
    driver.connect().await.unwrap();
    let said = driver.read_losses().await.unwrap().unwrap_err();
    assert!(said.contains("too old"), "{said}");

    let hello = v1::Hello {
        host: "h1".into(),
        tells_losses: true,
        migrates: true,
        ..Default::default()
    };
    let mut agent = world.dial(world.authority.issue("host/h1"), hello).await.unwrap();
    driver.disconnect().await;
    driver.connect().await.unwrap();
    let played = tokio::spawn(async move {
        assert!(matches!(agent.next().await, controller_message::Message::Welcome(_)));
        for error in ["", "no memory"] {
            let controller_message::Message::LossRequest(request) = agent.next().await else {
                panic!("no LossRequest")
            };
            let loss = v1::Loss {
                place: "blue/web1".into(),
                reason: "flood".into(),
                frames: 5,
            };
            let reply = v1::LossReply {
                id: request.id,
                losses: vec![loss],
                error: error.into(),
            };
            agent.send(agent_message::Message::LossReply(reply)).await;
        }
        agent
    });
    let flood = Loss {
        place: "blue/web1".into(),
        reason: "flood".into(),
        frames: 5,
    };
    assert_eq!(driver.read_losses().await.unwrap(), Ok(vec![flood]));
    assert_eq!(driver.read_losses().await.unwrap(), Err("no memory".into()));
    drop(played.await.unwrap());
}

#[tokio::test]
async fn a_certificate_that_ends_soon_and_a_wrong_clock_are_reported() {
    let world = World::new().await;
    let mut driver = world.server.driver("h1");
    let now = SystemTime::now();
    let uri = format!("spiffe://{}/host/h1", fabric_identity::testing::FABRIC);
    let issued = world.authority.issue_with(&[&uri], |params| {
        // An hour of a day is left.
        params.not_before = (now - Duration::from_secs(23 * 3600)).into();
        params.not_after = (now + Duration::from_secs(3600)).into();
    });
    let an_hour_ago = now.duration_since(UNIX_EPOCH).unwrap() - Duration::from_secs(3600);
    let hello = v1::Hello {
        host: "h1".into(),
        time_ms: an_hour_ago.as_millis().try_into().unwrap(),
        ..Default::default()
    };
    let _agent = world.dial(issued, hello).await.unwrap();
    driver.connect().await.unwrap();
    let ends = driver.certificate().and_then(|c| c.warning("its certificate")).unwrap();
    assert!(ends.starts_with("its certificate expires in "), "{ends}");
    let Event::Warning(Warning::Clock, Some(said)) = driver.next_event().await else {
        panic!("there is no warning about the clock")
    };
    assert!(said.contains("behind the controller's"), "{said}");
}

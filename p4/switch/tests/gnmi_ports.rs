//! Ports are added, renumbered and removed over gNMI on a running switch with real devices; their losses are counted.
//! Needs root.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use gnmi_proto::gnmi;
use gnmi_proto::gnmi::g_nmi_client::GNmiClient;
use gnmi_proto::gnmi::subscribe_response::Response as Sent;
use gnmi_proto::gnmi::typed_value::Value;
use p4_switch::port::netdev::Netdev;
use p4_switch::port::{Lane, Port as _};
use tonic::transport::Channel;
use tonic::{Code, Status};

const PROGRAM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/crossover.json");
const ADDRESS: &str = "127.0.0.1:9559";
const PATIENCE: Duration = Duration::from_secs(20);

fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status();
    assert!(status.expect("iproute2 is installed").success(), "ip {arguments}");
}

fn veth(port: u32) {
    ip(&format!("link add p{port} type veth peer name g{port}"));
    ip(&format!("link set p{port} addrgenmode none up"));
    ip(&format!("link set g{port} addrgenmode none up"));
}

/// Runs `test` on a thread that lives in a new network namespace.
fn in_namespace(test: impl Future<Output = ()> + Send + 'static) {
    let thread = std::thread::spawn(move || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("root may make namespaces");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(test);
    });
    thread.join().unwrap();
}

/// The switch's process.
struct Switch(Child);

impl Drop for Switch {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn start(arguments: &[&str]) -> (Switch, GNmiClient<Channel>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_p4-switch"));
    command
        .args(["-L", "error", "--grpc-server-addr", ADDRESS])
        .args(arguments);
    let switch = Switch(command.stdin(Stdio::null()).spawn().unwrap());
    let since = Instant::now();
    loop {
        match GNmiClient::connect(format!("http://{ADDRESS}")).await {
            Ok(client) => return (switch, client),
            Err(error) => assert!(since.elapsed() < PATIENCE, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn path(text: &str) -> gnmi::Path {
    let elem = text.trim_matches('/').split('/').filter(|e| !e.is_empty()).map(|elem| {
        let (name, key) = elem.split_once("[name=").unwrap_or((elem, ""));
        let key = (!key.is_empty()).then(|| ("name".to_owned(), key.trim_end_matches(']').to_owned()));
        gnmi::PathElem {
            name: name.to_owned(),
            key: key.into_iter().collect(),
        }
    });
    gnmi::Path {
        elem: elem.collect(),
        ..Default::default()
    }
}

fn interface(name: &str) -> String {
    format!("/interfaces/interface[name={name}]")
}

fn json(at: &str, value: &str) -> gnmi::Update {
    gnmi::Update {
        path: Some(path(at)),
        val: Some(gnmi::TypedValue {
            value: Some(Value::JsonIetfVal(value.into())),
        }),
        ..Default::default()
    }
}

/// A port of this number on this device.
fn port(name: &str, id: u32) -> gnmi::Update {
    json(
        &interface(name),
        &format!(r#"{{"config":{{"name":"{name}","id":{id}}}}}"#),
    )
}

struct Operator(GNmiClient<Channel>);

impl Operator {
    async fn set(&mut self, delete: &[&str], update: Vec<gnmi::Update>) -> Result<(), Status> {
        let request = gnmi::SetRequest {
            delete: delete.iter().map(|name| path(&interface(name))).collect(),
            update,
            ..Default::default()
        };
        self.0.set(request).await.map(drop)
    }

    async fn refuses(&mut self, update: Vec<gnmi::Update>, code: Code, word: &str) {
        let error = self.set(&[], update).await.unwrap_err();
        assert_eq!(error.code(), code, "{error}");
        assert!(error.message().contains(word), "{error}");
    }

    /// The leaves that a path covers, as text.
    async fn get(&mut self, at: &str) -> Vec<String> {
        let request = gnmi::GetRequest {
            path: vec![path(at)],
            encoding: gnmi::Encoding::Proto.into(),
            ..Default::default()
        };
        let answer = self.0.get(request).await.unwrap().into_inner();
        let updates = answer.notification.into_iter().flat_map(|n| n.update);
        let text = |value: Value| match value {
            Value::StringVal(text) => text,
            Value::UintVal(number) => number.to_string(),
            Value::BoolVal(value) => value.to_string(),
            other => panic!("{other:?}"),
        };
        updates.map(|u| text(u.val.unwrap().value.unwrap())).collect()
    }

    async fn until(&mut self, at: &str, value: u64) {
        let since = Instant::now();
        while self.get(at).await != [value.to_string()] {
            assert!(
                since.elapsed() < PATIENCE,
                "{at} is {:?}, not {value}",
                self.get(at).await
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn open(name: &str) -> Lane {
    Netdev::new(name).open(1).unwrap().remove(0)
}

fn send(lane: &mut Lane, mark: u8) {
    let mut frame = vec![2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 1, 0x88, 0xb5];
    frame.resize(60, mark);
    lane.tx.send(&frame);
    lane.tx.flush();
}

/// Waits for a frame with this mark.
async fn receive(lane: &mut Lane, mark: u8) {
    let since = Instant::now();
    loop {
        match lane.rx.as_mut().unwrap().next() {
            Some(frame) if frame.last() == Some(&mark) => return,
            Some(_) => {}
            None => tokio::time::sleep(Duration::from_millis(1)).await,
        }
        assert!(since.elapsed() < PATIENCE, "frame {mark} does not arrive");
    }
}

/// The next update or deletion of a subscription: the interface, and its number if it has one.
async fn news(stream: &mut tonic::Streaming<gnmi::SubscribeResponse>) -> Vec<(String, Option<u64>)> {
    loop {
        let message = tokio::time::timeout(PATIENCE, stream.message())
            .await
            .expect("news come");
        let Some(Sent::Update(note)) = message.unwrap().unwrap().response else {
            continue;
        };
        let name = |path: &gnmi::Path| path.elem[1].key["name"].clone();
        let number = |update: &gnmi::Update| match update.val.as_ref().unwrap().value {
            Some(Value::UintVal(number)) => Some(number),
            _ => None,
        };
        let gone = note.delete.iter().map(|path| (name(path), None));
        let there = note.update.iter().map(|u| (name(u.path.as_ref().unwrap()), number(u)));
        return gone.chain(there).collect();
    }
}

async fn follow(client: &mut GNmiClient<Channel>) -> tonic::Streaming<gnmi::SubscribeResponse> {
    let list = gnmi::SubscriptionList {
        subscription: vec![gnmi::Subscription {
            path: Some(path("/interfaces/interface[name=*]/state/id")),
            mode: gnmi::SubscriptionMode::OnChange.into(),
            ..Default::default()
        }],
        mode: gnmi::subscription_list::Mode::Stream.into(),
        encoding: gnmi::Encoding::Proto.into(),
        ..Default::default()
    };
    let request = gnmi::SubscribeRequest {
        request: Some(gnmi::subscribe_request::Request::Subscribe(list)),
        ..Default::default()
    };
    // The stream of requests stays open.
    let requests = tokio_stream::StreamExt::chain(tokio_stream::once(request), tokio_stream::pending());
    client.subscribe(requests).await.unwrap().into_inner()
}

const DROPPED: &str =
    "/components/component[name=pipeline]/integrated-circuit/pipeline-counters/drop/state/packet-processing-aggregate";

#[test]
fn ports_come_and_go_while_the_switch_runs() {
    in_namespace(async {
        ip("link set lo up");
        [1, 2].into_iter().for_each(veth);
        let (_switch, client) = start(&["-i", "1@p1", "--cpu-port", "510", PROGRAM]).await;
        let mut c = Operator(client);
        let mut changes = follow(&mut c.0.clone()).await;
        assert_eq!(news(&mut changes).await, [("p1".to_owned(), Some(1))]);
        let (mut a, mut b) = (open("g1"), open("g2"));

        // Port 2, to which the program sends it, does not exist.
        send(&mut a, 1);
        c.until(DROPPED, 1).await;

        c.refuses(vec![port("p9", 3)], Code::NotFound, "p9").await;
        c.refuses(vec![port("p2", 1)], Code::AlreadyExists, "p1").await;
        c.refuses(vec![port("p2", 510)], Code::InvalidArgument, "CPU port")
            .await;
        c.refuses(vec![port("p2", 511)], Code::InvalidArgument, "drops").await;
        c.refuses(
            vec![json(&interface("p2"), r#"{"config":{"mtu":1400}}"#)],
            Code::InvalidArgument,
            "id",
        )
        .await;
        c.refuses(vec![json("/interfaces/interfaces", "1")], Code::NotFound, "interfaces")
            .await;
        c.refuses(vec![port("p2", 2), port("p9", 3)], Code::NotFound, "p9")
            .await;
        assert_eq!(
            c.get("/interfaces/interface[name=*]/name").await,
            ["p1"],
            "all or nothing"
        );

        c.set(&[], vec![port("p2", 2)]).await.unwrap();
        assert_eq!(news(&mut changes).await, [("p2".to_owned(), Some(2))]);
        send(&mut a, 2);
        receive(&mut b, 2).await;
        send(&mut b, 3);
        receive(&mut a, 3).await;

        // Two ports change their numbers with each other.
        c.set(&[], vec![port("p1", 2), port("p2", 1)]).await.unwrap();
        assert_eq!(c.get("/interfaces/interface[name=*]/state/id").await, ["2", "1"]);
        send(&mut a, 4);
        receive(&mut b, 4).await;

        // Without its device, a port loses the frames that are sent through it.
        let lost = "/interfaces/interface[name=p2]/state/counters/out-discards";
        ip("link del p2");
        c.until("/interfaces/interface[name=p2]/state/ifindex", 0).await;
        let before: u64 = c.get(lost).await[0].parse().unwrap();
        (0..10).for_each(|_| send(&mut a, 5));
        c.until(lost, before + 10).await;
        veth(2);
        let mut b = open("g2");
        let since = Instant::now();
        while c.get("/interfaces/interface[name=p2]/state/oper-status").await != ["UP"] {
            assert!(since.elapsed() < PATIENCE, "p2 comes back");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // Its state is known before its port is open.
        let answered = async {
            loop {
                send(&mut a, 6);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::select! {
            () = receive(&mut b, 6) => {}
            () = answered => {}
        }

        let mut changes = follow(&mut c.0.clone()).await;
        assert_eq!(news(&mut changes).await.len(), 2);
        c.set(&["p2"], vec![]).await.unwrap();
        assert_eq!(news(&mut changes).await, [("p2".to_owned(), None)]);
        assert_eq!(c.get("/interfaces/interface[name=*]/name").await, ["p1"]);
        let before: u64 = c.get(DROPPED).await[0].parse().unwrap();
        send(&mut a, 7);
        c.until(DROPPED, before + 1).await;
        assert_eq!(c.get(&format!("{}/state/mtu", interface("p1"))).await, ["1500"]);
        c.set(&["p2"], vec![]).await.expect("a missing port counts as deleted");
    });
}

#[test]
fn speeds_are_set_where_a_device_can_do_it_and_a_refusal_names_path_and_port() {
    in_namespace(async {
        ip("link set lo up");
        veth(1);
        ip("tuntap add p2 mode tap");
        ip("link set p2 addrgenmode none up");
        let (_switch, client) = start(&["-i", "1@p1", "-i", "2@p2", "--cpu-port", "510", PROGRAM]).await;
        let mut c = Operator(client);
        let wire = |name: &str, leaf: &str| format!("{}/ethernet/{leaf}", interface(name));
        let text = |word: &str| format!("openconfig-if-ethernet:{word}");
        // A veth has 10 Gbit/s, and neither another speed nor error correction.
        let since = Instant::now();
        while c.get(&wire("p1", "state/port-speed")).await != [text("SPEED_10GB")] {
            assert!(since.elapsed() < PATIENCE, "the speed of p1 is known");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        for (leaf, value) in [("port-speed", "\"SPEED_25GB\""), ("fec-mode", "\"FEC_RS528\"")] {
            let path = wire("p1", &format!("config/{leaf}"));
            let words = format!("{path}: port 1 (p1) cannot do it: Operation not supported");
            c.refuses(vec![json(&path, value)], Code::FailedPrecondition, &words)
                .await;
        }
        // A tap takes any speed.
        let speed = json(&wire("p2", "config/port-speed"), "\"SPEED_25GB\"");
        let fixed = json(&wire("p2", "config/auto-negotiate"), "false");
        c.set(&[], vec![speed, fixed]).await.unwrap();
        for leaf in ["config/port-speed", "state/port-speed"] {
            assert_eq!(c.get(&wire("p2", leaf)).await, [text("SPEED_25GB")], "{leaf}");
        }
        assert_eq!(c.get(&wire("p2", "state/auto-negotiate")).await, ["false"]);
        let both = r#"{"port-speed":"SPEED_100GB","fec-mode":"FEC_RS528"}"#;
        let both = json(&wire("p2", "config"), both);
        c.refuses(vec![both], Code::FailedPrecondition, "config/fec-mode: port 2 (p2)")
            .await;
        assert_eq!(
            c.get(&wire("p2", "state/port-speed")).await,
            [text("SPEED_25GB")],
            "all or nothing"
        );
        let shown = Command::new("ethtool").arg("p2").output();
        if let Ok(shown) = shown {
            let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
            assert!(shown.contains("25000Mb/s"), "{shown}");
        }
        c.refuses(
            vec![json(&wire("p2", "config/port-speed"), "\"SPEED_26GB\"")],
            Code::InvalidArgument,
            "SPEED_25GB",
        )
        .await;
    });
}

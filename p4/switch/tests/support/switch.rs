//! A whole switch in this process: packet engine, P4Runtime over gRPC, ports in memory.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use p4_switch::commands::Commands;
use p4_switch::device::{Dataplane, EngineDevice, PACKET_OUT_QUEUE};
use p4_switch::forwarding::Engine;
use p4_switch::gnmi::memory::MemoryInterfaces;
use p4_switch::port::memory::{Wire, pair};
use p4_switch::port::{Forwarder, Ports, Waker};
use p4_switch::serve::{EVENT_QUEUE, ServeConfig, listen, serve};
use tokio::sync::mpsc;

pub(crate) const CPU_PORT: u32 = 510;

/// How long a frame may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// It ends when this is dropped.
pub(crate) struct Switch {
    pub(crate) address: SocketAddr,
    pub(crate) plane: Arc<Dataplane>,
    /// The other ends of ports 1 and 2.
    pub(crate) wires: [Wire; 2],
    /// Address for the commands of simple_switch_CLI.
    pub(crate) commands: SocketAddr,
    _ports: Ports,
}

impl Switch {
    pub(crate) async fn start() -> Self {
        let (events, receiver) = mpsc::channel(EVENT_QUEUE);
        let (outgoing, inbox) = mpsc::channel(PACKET_OUT_QUEUE);
        let waker = Arc::new(OnceLock::<Waker>::new());
        let wake = Arc::clone(&waker);
        let names = [1, 2].map(|port| (format!("p{port}"), port));
        let plane = Dataplane::new(
            names.to_vec(),
            Some(CPU_PORT),
            511,
            outgoing,
            Box::new(move || wake.get().into_iter().for_each(Waker::wake)),
            events,
        );
        let ports = Ports::start(1, |wakers| {
            waker.set(wakers[0].clone()).ok().unwrap();
            vec![Box::new(Engine::new(Arc::clone(&plane), Some(inbox))) as Box<dyn Forwarder>]
        })
        .unwrap();
        let wires = [1, 2].map(|number| {
            let (port, wire) = pair().unwrap();
            ports.attach(number, &port).unwrap();
            wire
        });
        let listener = listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let commands = listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let commands_at = commands.local_addr().unwrap();
        let config = ServeConfig {
            device_id: 1,
            tls: None,
            pipeline: None,
            gnoi: None,
            commands: Some(Commands {
                listener: commands,
                plane: Arc::clone(&plane),
            }),
        };
        let device = Arc::new(EngineDevice(Arc::clone(&plane)));
        let interfaces = Arc::new(MemoryInterfaces::new("s", []));
        let forever = std::future::pending();
        tokio::spawn(serve(config, listener, device, interfaces, receiver, forever));
        Self {
            address,
            plane,
            wires,
            commands: commands_at,
            _ports: ports,
        }
    }
}

//! Metrics of this host for a monitoring system, as OpenMetrics text.
//!
//! **Model.** Nothing is counted here: every figure is read from the engine ([`Status`]) at each request, so that
//! kernel, `vtep-agent status` and metrics agree.
//!
//! **Bounds.** There is a series for each attachment and each network of the host, up to [`MAX_ATTACHMENTS`] and
//! [`MAX_NETWORKS`]; all others are added up under the name `other`. Reasons of losses are a fixed list.
//!
//! **Access.** Mutual TLS with the agent's certificate. Operators and the controller may read (`docs/security.md`): names
//! of tenants are among the labels.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use fabric_identity::{ClientCertificates, Connection, Credentials, Limits, Listener, Subject, Taken};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::agent::{Command, Commands};
use crate::error::AgentError;
use crate::status::{Certificate, Status};

/// Attachments with a series of their own: as many as a host may request.
const MAX_ATTACHMENTS: usize = 4096;
/// Networks with a series of their own.
const MAX_NETWORKS: usize = 4096;
/// Label of all those beyond the bound.
const OTHER: &str = "other";
/// Longest wait for the engine, which may be in the middle of a large update: less than Prometheus waits (10 s).
const ENGINE_TIMEOUT: Duration = Duration::from_secs(8);
/// Longest time for a request's header.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Requests that one HTTP/2 connection may have open.
const MAX_STREAMS: u32 = 4;
/// Limits of the listener: enough for some monitoring systems, which ask every few seconds.
const LIMITS: Limits = Limits {
    connections: 32,
    per_peer: 8,
    handshake: Duration::from_secs(10),
    first_octets: Duration::from_secs(10),
    idle: Duration::from_secs(120),
};
/// Media type of the text (OpenMetrics 1.0).
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

type Labels = Vec<(&'static str, String)>;

fn gauge(registry: &mut Registry, name: &str, help: &str, value: u64) {
    let gauge = Gauge::<i64>::default();
    gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
    registry.register(name, help, gauge);
}

/// Registers a family of gauges; those of equal labels are added up.
fn gauges(registry: &mut Registry, name: &str, help: &str, values: impl IntoIterator<Item = (Labels, u64)>) {
    let family = Family::<Labels, Gauge>::default();
    for (labels, value) in values {
        let value = i64::try_from(value).unwrap_or(i64::MAX);
        family.get_or_create(&labels).inc_by(value);
    }
    registry.register(name, help, family);
}

/// Registers a family of counters.
fn counters(registry: &mut Registry, name: &str, help: &str, values: impl IntoIterator<Item = (Labels, u64)>) {
    let family = Family::<Labels, Counter>::default();
    for (labels, value) in values {
        family.get_or_create(&labels).inc_by(value);
    }
    registry.register(name, help, family);
}

/// The names that have a series of their own, as far as there is room.
struct Bounded<'a> {
    known: BTreeMap<&'a str, u32>,
    most: usize,
}

impl<'a> Bounded<'a> {
    fn new(most: usize, all: impl Iterator<Item = (&'a str, u32)>) -> Self {
        let mut known: BTreeMap<&str, u32> = all.collect();
        while known.len() > most {
            known.pop_last();
        }
        Self { known, most }
    }

    fn has_room(&self) -> bool {
        self.known.len() < self.most
    }

    /// Name and VNI; `other` for what is beyond the bound, none for what is unknown.
    fn labels(&self, name: &str) -> Option<[String; 2]> {
        match self.known.get(name) {
            Some(vni) => Some([name.to_owned(), vni.to_string()]),
            None if self.has_room() => None,
            None => Some([OTHER.to_owned(), String::new()]),
        }
    }
}

/// The status as OpenMetrics text.
pub fn text(status: &Status) -> String {
    let mut registry = Registry::with_prefix("vfabric_agent");
    let r = &mut registry;
    gauge(
        r,
        "connected",
        "Whether the stream to the controller is open",
        status.connected.into(),
    );
    gauge(
        r,
        "uplink_up",
        "Whether the uplink carries frames",
        status.uplink_up.into(),
    );
    gauge(r, "epoch", "Epoch of the last update", status.epoch);
    let help = "Whether the controller has once sent everything";
    gauge(r, "complete", help, status.complete.into());
    let certificates = status.certificates.iter().map(|c| {
        let not_after = u64::try_from(c.not_after).unwrap_or(0);
        (vec![("certificate", c.certificate.clone())], not_after)
    });
    let help = "When the certificates that the agent uses expire, in seconds since 1970";
    gauges(r, "certificate_not_after_seconds", help, certificates);
    let objects = status.objects.iter().map(|o| {
        let state = if o.state == "applied" { "applied" } else { "failed" };
        (vec![("kind", o.kind.clone()), ("state", state.to_owned())], 1)
    });
    gauges(r, "objects", "Objects that the host should hold, by state", objects);
    let of_kind = |kind: &'static str| status.objects.iter().filter(move |o| o.kind == kind);
    let attachments = of_kind("attachment").map(|o| (o.name.as_str(), o.vni));
    let attachments = Bounded::new(MAX_ATTACHMENTS, attachments);
    let labels = |[attachment, vni]: [String; 2]| vec![("attachment", attachment), ("vni", vni)];
    let in_place = of_kind("attachment").filter_map(|o| {
        let labels = labels(attachments.labels(&o.name)?);
        Some((labels, u64::from(o.state == "applied")))
    });
    gauges(r, "attachment_in_place", "Whether an attachment is in place", in_place);
    let of_network = of_kind("attachment").map(|o| (vec![("vni", o.vni.to_string())], 1));
    gauges(
        r,
        "network_attachments",
        "Attachments of a network on this host",
        of_network,
    );
    for (name, help, of) in [
        ("received", "octets that went to the workload", [0, 1]),
        ("sent", "octets that came from the workload", [2, 3]),
    ] {
        for (unit, place) in [("frames", of[0]), ("bytes", of[1])] {
            let values = status.traffic.iter().filter_map(|t| {
                let labels = labels(attachments.labels(t.attachment.as_deref()?)?);
                Some((labels, *t.counts().get(place)?))
            });
            let help = help.replace("octets", unit);
            counters(r, &format!("attachment_{name}_{unit}"), &help, values);
        }
    }
    let vnis: Vec<String> = of_kind("network").map(|o| o.vni.to_string()).collect();
    let numbers = of_kind("network").map(|o| o.vni);
    let networks = Bounded::new(MAX_NETWORKS, vnis.iter().map(String::as_str).zip(numbers));
    for (name, help, of) in [
        ("sent", "went into tunnels", [2, 3]),
        ("received", "came from tunnels", [0, 1]),
    ] {
        for (unit, place) in [("frames", of[0]), ("bytes", of[1])] {
            let values = status
                .traffic
                .iter()
                .filter(|t| t.attachment.is_none())
                .filter_map(|t| {
                    let [vni, _] = networks.labels(&t.vni.to_string())?;
                    Some((vec![("vni", vni)], *t.counts().get(place)?))
                });
            counters(
                r,
                &format!("network_{name}_{unit}"),
                &format!("{unit} that {help}"),
                values,
            );
        }
    }
    let lost = status.losses.iter().map(|l| {
        // A link of the host that belongs to no attachment appears under its own name: the uplink, or a link of a
        // network.
        let [place, _] = attachments
            .labels(&l.place)
            .unwrap_or_else(|| [l.place.clone(), String::new()]);
        (vec![("place", place), ("reason", l.reason.clone())], l.frames)
    });
    counters(r, "lost_frames", "Frames lost on this host, by place and reason", lost);
    let slow = status.running.len().try_into().unwrap_or(u64::MAX);
    gauge(
        r,
        "slow_calls",
        "Calls that have not returned for more than a second",
        slow,
    );
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = text::encode(&mut out, &registry);
    out
}

/// Serves `GET /metrics` for ever.
///
/// # Errors
/// When TLS cannot be set up.
pub async fn serve(
    listener: TcpListener,
    credentials: &Arc<Credentials>,
    commands: Commands,
) -> Result<(), AgentError> {
    let listener = Listener::tls(listener, "metrics", LIMITS, credentials, ClientCertificates::Welcome);
    let config = |e: rustls::Error| AgentError::Config {
        what: "--metrics-listen".into(),
        message: e.to_string(),
    };
    let mut incoming = listener.map_err(config)?.incoming();
    while let Some(connection) = incoming.next().await {
        tokio::spawn(talk(connection, Arc::clone(credentials), commands.clone()));
    }
    Ok(())
}

async fn talk(connection: Connection, credentials: Arc<Credentials>, commands: Commands) {
    let may = matches!(
        connection.peer().subject(),
        Some(Subject::Operator(_) | Subject::Admin(_) | Subject::Controller)
    );
    let liveness = connection.peer().liveness.clone();
    let answer = move |request: Request<hyper::body::Incoming>| {
        let (commands, credentials) = (commands.clone(), Arc::clone(&credentials));
        let liveness = liveness.clone();
        async move {
            let (method, path) = (request.method(), request.uri().path());
            let response = answer(may, method, path, &credentials, &commands).await;
            Ok::<_, Infallible>(response.map(|text| Taken::new(text, &liveness)))
        }
    };
    // Monitoring systems use HTTP/2 if it is offered (ALPN), and HTTP/1.1 otherwise.
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS);
    let serving = builder.serve_connection(TokioIo::new(connection), hyper::service::service_fn(answer));
    // Clients that go away in the middle are not worth a warning.
    if let Err(error) = serving.await {
        tracing::debug!(%error, "a connection for metrics ended");
    }
}

async fn answer(
    may: bool,
    method: &Method,
    path: &str,
    credentials: &Credentials,
    commands: &Commands,
) -> Response<String> {
    let plain = |code: StatusCode, words: &str| {
        let mut response = Response::new(format!("{words}\n"));
        *response.status_mut() = code;
        response
    };
    if !may {
        return plain(
            StatusCode::FORBIDDEN,
            "a certificate of an operator or of the controller is needed",
        );
    }
    if path != "/metrics" {
        return plain(StatusCode::NOT_FOUND, "only /metrics is served here");
    }
    if *method != Method::GET {
        return plain(StatusCode::METHOD_NOT_ALLOWED, "GET");
    }
    let (answer, result) = oneshot::channel();
    let asked = async {
        commands.send(Command::Status(answer)).await.ok()?;
        result.await.ok()
    };
    match timeout(ENGINE_TIMEOUT, asked).await {
        Ok(Some(mut status)) => {
            status.certificates = Certificate::all(&credentials.expiry());
            let mut response = Response::new(text(&status));
            let media = HeaderValue::from_static(OPEN_METRICS);
            response.headers_mut().insert(CONTENT_TYPE, media);
            response
        }
        _ => plain(StatusCode::SERVICE_UNAVAILABLE, "the engine is busy"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datapath::{Loss, Traffic};
    use crate::status::Row;

    fn row(kind: &str, vni: u32, name: &str, state: &str) -> Row {
        Row {
            kind: kind.into(),
            vni,
            name: name.into(),
            content: String::new(),
            state: state.into(),
        }
    }

    fn status(objects: Vec<Row>, traffic: Vec<Traffic>) -> Status {
        Status {
            host: "h1".into(),
            uplink: "up0".into(),
            uplink_up: true,
            connected: true,
            epoch: 7,
            complete: true,
            objects,
            overlay: "vfabric-h1".into(),
            repairs: Vec::new(),
            losses: vec![Loss {
                place: "blue/a".into(),
                reason: "source-mac".into(),
                frames: 3,
            }],
            traffic,
            certificates: vec![Certificate {
                certificate: "host".into(),
                not_after: 1_800_000_000,
                state: String::new(),
            }],
            running: Vec::new(),
        }
    }

    fn traffic(attachment: Option<&str>, vni: u32, n: u64) -> Traffic {
        Traffic {
            attachment: attachment.map(str::to_owned),
            vni,
            received_frames: n,
            received_bytes: n * 100,
            sent_frames: n + 1,
            sent_bytes: (n + 1) * 100,
        }
    }

    #[test]
    fn each_attachment_and_network_has_its_figures() {
        let objects = vec![
            row("network", 10, "vfb10", "applied"),
            row("attachment", 10, "blue/a", "applied"),
            row("attachment", 10, "blue/b", "netns x not found"),
        ];
        let shown = text(&status(
            objects,
            vec![
                traffic(Some("blue/a"), 10, 5),
                traffic(None, 10, 8),
                traffic(Some("gone/x"), 11, 1),
            ],
        ));
        for line in [
            "vfabric_agent_connected 1",
            "vfabric_agent_epoch 7",
            r#"vfabric_agent_certificate_not_after_seconds{certificate="host"} 1800000000"#,
            r#"vfabric_agent_attachment_in_place{attachment="blue/a",vni="10"} 1"#,
            r#"vfabric_agent_attachment_in_place{attachment="blue/b",vni="10"} 0"#,
            r#"vfabric_agent_objects{kind="attachment",state="failed"} 1"#,
            r#"vfabric_agent_network_attachments{vni="10"} 2"#,
            r#"vfabric_agent_attachment_received_frames_total{attachment="blue/a",vni="10"} 5"#,
            r#"vfabric_agent_attachment_sent_bytes_total{attachment="blue/a",vni="10"} 600"#,
            r#"vfabric_agent_network_received_bytes_total{vni="10"} 800"#,
            r#"vfabric_agent_lost_frames_total{place="blue/a",reason="source-mac"} 3"#,
        ] {
            assert!(shown.lines().any(|l| l == line), "{line} is missing in\n{shown}");
        }
        assert!(!shown.contains("gone/x"));
        assert!(shown.ends_with("# EOF\n"));
    }

    #[test]
    fn there_are_no_more_series_than_the_bound() {
        let names: Vec<String> = (0..MAX_ATTACHMENTS + 10).map(|i| format!("v/a{i:05}")).collect();
        let objects = names.iter().map(|n| row("attachment", 1, n, "applied")).collect();
        let all = names.iter().map(|n| traffic(Some(n), 1, 1)).collect();
        let shown = text(&status(objects, all));
        let series = |name: &str| shown.lines().filter(|l| l.starts_with(&format!("{name}{{"))).count();
        for name in ["attachment_in_place", "attachment_received_frames_total"] {
            assert_eq!(series(&format!("vfabric_agent_{name}")), MAX_ATTACHMENTS + 1, "{name}");
        }
        let other = r#"vfabric_agent_attachment_received_frames_total{attachment="other",vni=""} 10"#;
        assert!(shown.lines().any(|l| l == other));
    }

    #[tokio::test]
    async fn only_those_who_may_are_answered() {
        let own = fabric_identity::testing::Authority::new().credentials("host/h1");
        let (commands, mut queue) = tokio::sync::mpsc::channel(1);
        tokio::spawn(async move {
            while let Some(Command::Status(answer)) = queue.recv().await {
                let _ = answer.send(status(Vec::new(), Vec::new()));
            }
        });
        for (may, method, path, code) in [
            (true, Method::GET, "/metrics", 200),
            (false, Method::GET, "/metrics", 403),
            (true, Method::GET, "/", 404),
            (true, Method::POST, "/metrics", 405),
        ] {
            let response = answer(may, &method, path, &own, &commands).await;
            assert_eq!(response.status().as_u16(), code, "{method} {path}");
        }
    }
}

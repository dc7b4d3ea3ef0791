//! Metrics, as a monitoring system asks for them. Needs `curl`.

use std::process::Command;

use fabric_identity::testing::Authority;
use tokio::net::TcpListener;
use vtep_agent::agent;
use vtep_agent::datapath::{Loss, Traffic};
use vtep_agent::metrics;
use vtep_agent::status::{Row, Status};

fn status() -> Status {
    Status {
        host: "h1".into(),
        uplink: "up0".into(),
        uplink_up: true,
        connected: true,
        epoch: 9,
        complete: true,
        objects: vec![Row {
            kind: "attachment".into(),
            vni: 10_001,
            name: "blue/web".into(),
            content: String::new(),
            state: "applied".into(),
        }],
        overlay: "vfabric-h1".into(),
        repairs: Vec::new(),
        losses: vec![Loss {
            place: "blue/web".into(),
            reason: "flood".into(),
            frames: 2,
        }],
        traffic: vec![Traffic {
            attachment: Some("blue/web".into()),
            vni: 10_001,
            received_frames: 1,
            received_bytes: 60,
            sent_frames: 2,
            sent_bytes: 120,
        }],
        certificates: Vec::new(),
        running: Vec::new(),
    }
}

/// Asks with the certificate of a subject, or without one. Returns the HTTP status and the text, or curl's error.
async fn ask(authority: &Authority, subject: Option<&str>, flags: &[&str], port: u16) -> Result<(u16, String), String> {
    let folder = tempfile::tempdir().unwrap();
    let files = authority
        .issue(subject.unwrap_or("user/nobody"))
        .write(&authority.pem, folder.path());
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--write-out", "\n%{http_code}"])
        .args(flags);
    curl.arg("--cacert").arg(&files.ca);
    if subject.is_some() {
        curl.arg("--cert").arg(&files.cert).arg("--key").arg(&files.key);
    }
    curl.arg(format!("https://127.0.0.1:{port}/metrics"));
    let out = tokio::task::spawn_blocking(move || curl.output().unwrap())
        .await
        .unwrap();
    if !out.status.success() {
        return Err(String::from_utf8_lossy(&out.stderr).into_owned());
    }
    let text = String::from_utf8(out.stdout).unwrap();
    let (text, code) = text.rsplit_once('\n').unwrap();
    Ok((code.parse().unwrap(), text.to_owned()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operators_and_the_controller_read_them_and_nobody_else() {
    let authority = Authority::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (commands, mut queue) = tokio::sync::mpsc::channel(1);
    tokio::spawn(async move {
        while let Some(agent::Command::Status(answer)) = queue.recv().await {
            let _ = answer.send(status());
        }
    });
    let own = authority.credentials("host/h1");
    tokio::spawn(async move { metrics::serve(listener, &own, commands).await });
    for subject in ["operator/ops", "operator/ops/admin", "controller"] {
        for version in ["--http1.1", "--http2"] {
            let (code, text) = ask(&authority, Some(subject), &[version], port).await.unwrap();
            assert_eq!(code, 200, "{subject}: {text}");
            let line = r#"vfabric_agent_attachment_sent_bytes_total{attachment="blue/web",vni="10001"} 120"#;
            assert!(text.lines().any(|l| l == line), "{text}");
            // When the agent's own certificate and its authority expire.
            for certificate in ["host", "authority"] {
                let gauge = format!("vfabric_agent_certificate_not_after_seconds{{certificate=\"{certificate}\"}} ");
                let ends = text.lines().find_map(|l| l.strip_prefix(&gauge));
                assert!(
                    ends.is_some_and(|at| at.parse::<u64>().unwrap() > 1_700_000_000),
                    "{text}"
                );
            }
        }
    }
    for subject in [Some("host/h2"), Some("switch/leaf1"), Some("user/alice"), None] {
        let (code, text) = ask(&authority, subject, &[], port).await.unwrap();
        assert!(code == 403 && !text.contains("blue/web"), "{subject:?}: {code} {text}");
    }
    // An operator of another authority has no access.
    let foreign = Authority::new();
    let refused = ask(&foreign, Some("operator/ops"), &["--insecure"], port).await;
    assert!(refused.is_err() || refused.is_ok_and(|(code, _)| code == 403));
}

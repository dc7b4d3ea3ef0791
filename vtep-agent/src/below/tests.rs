//! Replies without a controller.

use tokio::sync::mpsc;

use super::*;

fn slot() -> Slot {
    Slot {
        container: "c1".into(),
        interface: "eth0".into(),
    }
}

fn code(reply: &Reply) -> Option<u32> {
    match reply {
        Reply::Failed { code, .. } => Some(*code),
        _ => None,
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_controller_status_says_so_and_nothing_is_forgotten() {
    let state_dir = tempfile::tempdir().unwrap();
    let (_stream, controller) = watch::channel(None);
    let open = || {
        let (commands, _) = mpsc::channel(1);
        Below::open("h", state_dir.path(), controller.clone(), commands).unwrap()
    };
    let below = open();
    assert_eq!(code(&below.handle(Request::Status).await), Some(error::NOT_AVAILABLE));
    // Deleting an attachment that does not exist succeeds, even while the controller is away.
    assert_eq!(below.handle(Request::Del { slot: slot() }).await, Reply::Done);
    let wish = Wish {
        cni_network: "n".into(),
        vdc: "v".into(),
        network: "red".into(),
        mac: None,
        ips: Vec::new(),
        workload: None,
    };
    let entry = Entry::new(slot(), wish, State::Held);
    below.note(entry.clone()).await.unwrap();
    let refused = below.handle(Request::Del { slot: slot() }).await;
    assert_eq!(code(&refused), Some(error::TRY_AGAIN), "{refused:?}");
    // It is removed as soon as there is a controller, even after a restart of the agent.
    for below in [below, open()] {
        let state = State::Leaving;
        assert_eq!(below.journal.all(), [Entry { state, ..entry.clone() }]);
    }
}

#[tokio::test]
async fn without_a_controller_status_tells_whether_pods_that_run_are_cut_off() {
    let row = |state: &str| crate::status::Row {
        kind: "attachment".into(),
        vni: 1,
        name: "a".into(),
        content: String::new(),
        state: state.into(),
    };
    for (uplink_up, state, code, said) in [
        (true, "applied", error::NOT_AVAILABLE, "no stream"),
        (
            true,
            "netns x not found",
            error::LIMITED,
            "1 attachments are not in place",
        ),
        (false, "applied", error::LIMITED, "uplink up0 is down"),
    ] {
        let state_dir = tempfile::tempdir().unwrap();
        let (_stream, controller) = watch::channel(None);
        let (commands, mut asked) = mpsc::channel(1);
        let below = Below::open("h", state_dir.path(), controller, commands).unwrap();
        let status = crate::status::Status {
            host: "h".into(),
            uplink: "up0".into(),
            uplink_up,
            connected: false,
            epoch: 1,
            complete: true,
            objects: vec![row(state)],
            overlay: String::new(),
            repairs: Vec::new(),
            losses: Vec::new(),
            traffic: Vec::new(),
            certificates: Vec::new(),
            running: Vec::new(),
        };
        tokio::spawn(async move {
            if let Some(Command::Status(answer)) = asked.recv().await {
                let _ = answer.send(status);
            }
        });
        let Reply::Failed { code: got, message } = below.handle(Request::Status).await else {
            panic!("available without a controller")
        };
        assert!(got == code && message.contains(said), "{got}: {message}");
    }
}

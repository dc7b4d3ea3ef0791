//! Steps on the board are reported to the controller, which shows them in the time line of each switch.
//!
//! The queue is bounded. Steps that do not fit while the controller is away are left out; the board has their number.

use std::sync::Arc;

use bootz_proto::request::{BootStep, TellRequest};
use fabric_bootz::client::waits;
use fabric_bootz::enrol::serve::STEPS;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::Code;

use super::owner::Owner;
use crate::board::now_ms;

/// Steps that wait for the controller: a rack of switches, each with a whole time line.
pub const QUEUE: usize = 4096;

/// Reports steps in order, each at least once, until it is stopped.
pub async fn tell(owner: Arc<dyn Owner>, mut steps: mpsc::Receiver<BootStep>, stop: CancellationToken) {
    let telling = async {
        let mut batch = Vec::with_capacity(STEPS);
        while steps.recv_many(&mut batch, STEPS).await > 0 {
            deliver(owner.as_ref(), &batch).await;
            batch.clear();
        }
    };
    stop.run_until_cancelled(telling).await;
}

async fn deliver(owner: &dyn Owner, steps: &[BootStep]) {
    let mut waits = waits();
    loop {
        let request = TellRequest {
            now_ms: now_ms(),
            steps: steps.to_vec(),
        };
        match owner.tell(request).await {
            Ok(_) => return,
            Err(status) if matches!(status.code(), Code::Unimplemented | Code::InvalidArgument) => {
                tracing::warn!(
                    steps = steps.len(),
                    why = status.message(),
                    "the controller does not take steps"
                );
                return;
            }
            Err(status) => tracing::debug!(why = status.message(), "steps wait for the controller"),
        }
        if let Some(wait) = waits.next() {
            tokio::time::sleep(wait).await;
        }
    }
}

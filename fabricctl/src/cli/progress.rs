//! Shows on a terminal what a command is waiting for.
//!
//! It redraws one line on standard error; if standard error is not a terminal, it shows nothing.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use vfabric_api::client::Client;
use vfabric_api::status::DeviceStatus;

use super::connect::Session;

/// Time between two queries of the devices.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Time between two redraws of the line.
const DRAW_EVERY: Duration = Duration::from_millis(100);

/// The line.
pub(super) struct Steps {
    bar: ProgressBar,
}

impl Drop for Steps {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

impl Steps {
    /// Begins with a step.
    pub(super) fn begin(words: &str) -> Self {
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed} {msg}") {
            bar.set_style(style);
        }
        bar.set_message(words.to_owned());
        bar.enable_steady_tick(DRAW_EVERY);
        Self { bar }
    }

    /// Shows a step until a call is done, with how many entities devices have not confirmed yet.
    pub(super) async fn follow<T>(&self, session: &Session, words: &str, call: impl Future<Output = T>) -> T {
        self.bar.set_message(words.to_owned());
        if self.bar.is_hidden() || !session.sees_devices().await.unwrap_or_default() {
            return call.await;
        }
        tokio::pin!(call);
        loop {
            let look = async {
                tokio::time::sleep(LOOK_EVERY).await;
                pending(&session.client).await
            };
            tokio::select! {
                done = &mut call => return done,
                pending = look => if let Some(pending) = pending {
                    self.bar.set_message(format!("{words}; {pending}"));
                }
            }
        }
    }
}

/// Entities that devices have not confirmed yet.
async fn pending(client: &Client) -> Option<String> {
    let switches = client.switches().await.ok()?.into_iter().map(|s| s.status);
    let all: Vec<DeviceStatus> = switches
        .chain(client.hosts().await.ok()?.into_iter().map(|h| h.status))
        .collect();
    let entities: usize = all.iter().map(|s| s.pending).sum();
    let devices = all.iter().filter(|s| s.pending > 0).count();
    (entities > 0).then(|| format!("{entities} entities to confirm on {devices} of {} devices", all.len()))
}

//! Following changes as they come.

use std::time::Duration;

use super::{Client, ClientError, refusal, unreadable};
use crate::error::ApiError;
use crate::event::{Event, Events};
use crate::history::Revision;
use crate::ident::Name;

/// Longest silence: bookmarks come more often than this.
const SILENCE: Duration = Duration::from_secs(30);
/// Longest event, in octets.
const MAX_EVENT: usize = 64 << 20;

/// An item of a watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Watched {
    /// A revision that concerns what the caller may see.
    Revision(Box<Revision>),
    /// There is nothing more up to this revision.
    Bookmark(u64),
}

/// Changes as they come.
pub struct Watch {
    response: reqwest::Response,
    /// The octets of the next event that have arrived.
    text: Vec<u8>,
}

impl Client {
    /// Follows changes after a revision (from now on, if none is given), of one vDC if one is given. When the
    /// connection ends, watch again after the last revision that arrived.
    ///
    /// # Errors
    /// As [`Client::apply`]; `Gone` if the controller no longer has the changes after `after`.
    pub async fn watch(&self, after: Option<u64>, vdc: Option<&Name>) -> Result<Watch, ClientError> {
        let after = after.map(|after| format!("after={after}"));
        let query: Vec<String> = after.into_iter().chain(vdc.map(|vdc| format!("vdc={vdc}"))).collect();
        self.stream(&format!("/v1/watch?{}", query.join("&"))).await
    }
}

/// Events as they happen.
pub struct EventWatch(Watch);

impl Client {
    /// Events after `after`, the oldest first, at most `limit`; the last ones, if none is given. Of one vDC if one is
    /// given.
    ///
    /// # Errors
    /// As [`Client::apply`].
    pub async fn events(&self, after: Option<u64>, limit: usize, vdc: Option<&Name>) -> Result<Events, ClientError> {
        let after = after.map(|after| format!("&after={after}")).unwrap_or_default();
        let vdc = vdc.map(|vdc| format!("&vdc={vdc}")).unwrap_or_default();
        self.read(&format!("/v1/events?limit={limit}{after}{vdc}")).await
    }

    /// Follows events after a number, of one vDC if one is given. When the connection ends, watch again after the last
    /// event that arrived.
    ///
    /// # Errors
    /// As [`Client::apply`].
    pub async fn watch_events(&self, after: u64, vdc: Option<&Name>) -> Result<EventWatch, ClientError> {
        let vdc = vdc.map(|vdc| format!("&vdc={vdc}")).unwrap_or_default();
        let watch = self.stream(&format!("/v1/events/watch?after={after}{vdc}")).await?;
        Ok(EventWatch(watch))
    }

    async fn stream(&self, path: &str) -> Result<Watch, ClientError> {
        let response = self.request(reqwest::Method::GET, path).send().await?;
        if !response.status().is_success() {
            return Err(refusal(response).await?);
        }
        Ok(Watch {
            response,
            text: Vec::new(),
        })
    }
}

impl EventWatch {
    /// The next event; none when the connection ended.
    ///
    /// # Errors
    /// As [`Watch::next`].
    pub async fn next(&mut self) -> Result<Option<Event>, ClientError> {
        while let Some(text) = self.0.next_text().await? {
            match field(&text, "event").as_str() {
                "event" => {
                    return serde_json::from_str(&field(&text, "data"))
                        .map_err(unreadable)
                        .map(Some);
                }
                "end" => return Err(end(&text)),
                _ => {}
            }
        }
        Ok(None)
    }
}

impl Watch {
    /// The next item; none when the connection ended.
    ///
    /// # Errors
    /// The controller ended the watch (with the reason), or nothing arrived for half a minute.
    pub async fn next(&mut self) -> Result<Option<Watched>, ClientError> {
        while let Some(text) = self.next_text().await? {
            if let Some(watched) = read(&text)? {
                return Ok(Some(watched));
            }
        }
        Ok(None)
    }

    /// The text of the next event; none when the connection ended.
    async fn next_text(&mut self) -> Result<Option<String>, ClientError> {
        loop {
            if let Some(end) = self.text.windows(2).position(|two| two == b"\n\n") {
                let event: Vec<u8> = self.text.drain(..end + 2).collect();
                return Ok(Some(String::from_utf8_lossy(&event).into_owned()));
            }
            if self.text.len() > MAX_EVENT {
                return Err(ClientError::Settings(format!(
                    "an event of more than {MAX_EVENT} octets"
                )));
            }
            let silent = |_| ClientError::Settings(format!("nothing came for {} s", SILENCE.as_secs()));
            let chunk = tokio::time::timeout(SILENCE, self.response.chunk())
                .await
                .map_err(silent)?;
            match chunk {
                Ok(Some(chunk)) => self.text.extend_from_slice(&chunk),
                // The controller ends silent connections, and a watcher sends nothing.
                Ok(None) | Err(_) => return Ok(None),
            }
        }
    }
}

/// A field of an event (WHATWG HTML, section 9.2.6).
fn field(event: &str, name: &str) -> String {
    let lines = event
        .lines()
        .filter_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let values: Vec<&str> = lines.map(|value| value.strip_prefix(' ').unwrap_or(value)).collect();
    values.join("\n")
}

/// Why the controller ended a watch.
fn end(event: &str) -> ClientError {
    serde_json::from_str::<ApiError>(&field(event, "data")).map_or_else(unreadable, ClientError::Api)
}

/// One event; none if it is only a comment.
fn read(event: &str) -> Result<Option<Watched>, ClientError> {
    let field = |name: &str| field(event, name);
    match field("event").as_str() {
        "revision" => {
            let revision = serde_json::from_str(&field("data")).map_err(unreadable)?;
            Ok(Some(Watched::Revision(revision)))
        }
        "bookmark" => Ok(field("id").parse().ok().map(Watched::Bookmark)),
        "end" => Err(end(event)),
        // Events of later versions.
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorCode;

    #[test]
    fn events_are_read_and_what_is_not_known_is_passed_over() {
        let revision = "event: revision\nid: 7\ndata: {\"revision\":7,\"time_ms\":1}\n\n";
        let Some(Watched::Revision(read_back)) = read(revision).unwrap() else {
            panic!()
        };
        assert_eq!(read_back.revision, 7);
        assert_eq!(
            read("event: bookmark\nid: 9\ndata: {}\n\n").unwrap(),
            Some(Watched::Bookmark(9))
        );
        assert_eq!(read(": comment\n\n").unwrap(), None);
        assert_eq!(read("event: news\ndata: x\n\n").unwrap(), None);
        let end = format!(
            "event: end\ndata: {}\n\n",
            serde_json::json!({"code": "gone", "detail": "too old"})
        );
        let Err(ClientError::Api(why)) = read(&end) else {
            panic!()
        };
        assert_eq!(why.code, ErrorCode::Gone);
        assert!(read("event: revision\ndata: {\n\n").is_err());
    }
}

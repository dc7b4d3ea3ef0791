//! Following changes as they come.

use std::time::Duration;

use super::{Client, ClientError, refusal, unreadable};
use crate::error::ApiError;
use crate::history::Revision;
use crate::ident::Name;

/// Longest silence: bookmarks come more often than this.
const SILENCE: Duration = Duration::from_secs(30);
/// Longest event, in octets.
const MAX_EVENT: usize = 64 << 20;

/// What a watch brings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Watched {
    /// A revision that concerns what the caller may see.
    Revision(Box<Revision>),
    /// Nothing up to this revision.
    Bookmark(u64),
}

/// Changes as they come.
pub struct Watch {
    response: reqwest::Response,
    /// The octets of the next event that have arrived.
    text: Vec<u8>,
}

impl Client {
    /// Follows changes behind a revision (from now on, when none is given), of one vDC if one is given. When the connection
    /// ends, watch again behind the last revision that came.
    ///
    /// # Errors
    /// As [`Client::apply`]; `Gone` if the controller does not know any more what came behind `after`.
    pub async fn watch(&self, after: Option<u64>, vdc: Option<&Name>) -> Result<Watch, ClientError> {
        let after = after.map(|after| format!("after={after}"));
        let query: Vec<String> = after.into_iter().chain(vdc.map(|vdc| format!("vdc={vdc}"))).collect();
        let request = self.request(reqwest::Method::GET, &format!("/v1/watch?{}", query.join("&")));
        let response = request.send().await?;
        if !response.status().is_success() {
            return Err(refusal(response).await?);
        }
        Ok(Watch {
            response,
            text: Vec::new(),
        })
    }
}

impl Watch {
    /// The next thing that comes; none when the connection ended.
    ///
    /// # Errors
    /// The controller ended the watch, and why; nothing came for half a minute.
    pub async fn next(&mut self) -> Result<Option<Watched>, ClientError> {
        loop {
            if let Some(end) = self.text.windows(2).position(|two| two == b"\n\n") {
                let event: Vec<u8> = self.text.drain(..end + 2).collect();
                match read(&String::from_utf8_lossy(&event))? {
                    Some(watched) => return Ok(Some(watched)),
                    None => continue,
                }
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
                // The controller ends connections that are silent, as a watcher is.
                Ok(None) | Err(_) => return Ok(None),
            }
        }
    }
}

/// One event (WHATWG HTML, section 9.2.6); none if it is only a comment.
fn read(event: &str) -> Result<Option<Watched>, ClientError> {
    let field = |name: &str| {
        let lines = event
            .lines()
            .filter_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let values: Vec<&str> = lines.map(|value| value.strip_prefix(' ').unwrap_or(value)).collect();
        values.join("\n")
    };
    match field("event").as_str() {
        "revision" => {
            let revision = serde_json::from_str(&field("data")).map_err(unreadable)?;
            Ok(Some(Watched::Revision(revision)))
        }
        "bookmark" => Ok(field("id").parse().ok().map(Watched::Bookmark)),
        "end" => {
            let why: ApiError = serde_json::from_str(&field("data")).map_err(unreadable)?;
            Err(ClientError::Api(why))
        }
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

//! One image as a response: whole or a range, with its course on the time line.

use std::os::fd::AsRawFd as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, BodyDataStream};
use axum::extract::Request;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use futures::Stream;
use tower::ServiceExt as _;
use tower_http::services::ServeFile;
use vfabric_api::ident::Label;

use super::{Files, Who};
use crate::board::What;
use crate::image::Image;

/// Sends an image as the request asks for it: HEAD, ranges, conditions (RFC 9110).
///
/// The file is opened again by its descriptor. So it is the file whose digest was checked, even if another file has its
/// name by now.
pub(super) async fn send(files: Arc<Files>, who: Who, name: &Label, image: Image, mut request: Request) -> Response {
    let path = format!("/proc/self/fd/{}", image.file.as_raw_fd());
    if let Some(condition) = request.headers_mut().remove(header::IF_RANGE) {
        // The client would append a range of another version to the part that it has (RFC 9110 section 13.1.5).
        if !is_current(&path, &condition).await {
            request.headers_mut().remove(header::RANGE);
        }
    }
    let is_head = request.method() == Method::HEAD;
    let Ok(response) = ServeFile::new(path).oneshot(request).await;
    let (mut parts, body) = response.into_parts();
    if let Ok(digest) = HeaderValue::from_str(&image.sha256) {
        parts.headers.insert("x-checksum-sha256", digest);
    }
    // The library guesses the type from the name, which is that of a descriptor here.
    parts.headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/octet-stream"),
    );
    let length = parts
        .headers
        .get(header::CONTENT_LENGTH)
        .and_then(|l| l.to_str().ok()?.parse::<u64>().ok());
    let is_content = matches!(parts.status, StatusCode::OK | StatusCode::PARTIAL_CONTENT);
    let (Some(length), true, false) = (length, is_content, is_head) else {
        files.board.count("http_other");
        return Response::from_parts(parts, Body::new(body));
    };
    let range = parts.headers.get(header::CONTENT_RANGE).and_then(|r| r.to_str().ok());
    let part = range.map(|r| format!(", {r}")).unwrap_or_default();
    let ends = range.is_none_or(|r| r.contains(&format!("-{}/", image.size.saturating_sub(1))));
    let counted = Counted {
        inner: Body::new(body).into_data_stream(),
        sent: 0,
        length,
        detail: format!(
            "{name}, {length} octets{part}, sha256 {}",
            &image.sha256.get(..12).unwrap_or_default()
        ),
        ends,
        files,
        who,
    };
    (parts, Body::from_stream(counted)).into_response()
}

/// Whether a condition matches the file: its entity tag, or the time of its last change.
async fn is_current(path: &str, condition: &HeaderValue) -> bool {
    let head = Request::builder().method(Method::HEAD).body(Body::empty());
    let Ok(head) = head else { return false };
    let Ok(response) = ServeFile::new(path).oneshot(head).await;
    let headers = response.headers();
    let same = |name| headers.get(name).is_some_and(|value| value == condition);
    same(header::ETAG) || same(header::LAST_MODIFIED)
}

/// A body that notes on the time line how its transfer ended.
struct Counted {
    inner: BodyDataStream,
    sent: u64,
    length: u64,
    detail: String,
    /// Whether it contains the end of the file.
    ends: bool,
    files: Arc<Files>,
    who: Who,
}

impl Stream for Counted {
    type Item = Result<axum::body::Bytes, axum::Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let polled = Pin::new(&mut self.inner).poll_next(context);
        if let Poll::Ready(Some(Ok(octets))) = &polled {
            self.sent += octets.len() as u64;
        }
        polled
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if self.sent < self.length {
            self.files.board.count("http_images_broken_off");
            let detail = format!("{} after {} octets", self.detail, self.sent);
            self.files.step(&self.who, What::ImageBroken, &detail);
        } else if self.ends {
            self.files.board.count("http_images");
            self.files.step(&self.who, What::ImageFetched, &self.detail);
        } else {
            self.files.board.count("http_parts_of_images");
        }
    }
}

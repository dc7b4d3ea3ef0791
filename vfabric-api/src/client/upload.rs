//! A file as the body of a request: read as it is sent, never held in memory.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use hyper::body::{Body, Bytes, Frame};
use tokio::fs::File;
use tokio::io::{AsyncRead as _, ReadBuf};

/// Octets that are read at once.
const PART: usize = 64 << 10;

struct Content {
    file: File,
    part: Box<[u8]>,
}

/// A body with the file from its current position to its end.
pub(super) fn body(file: File) -> reqwest::Body {
    let part = vec![0; PART].into_boxed_slice();
    reqwest::Body::wrap(Content { file, part })
}

impl Body for Content {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let Self { file, part } = &mut *self;
        let mut buffer = ReadBuf::new(part);
        ready!(Pin::new(file).poll_read(context, &mut buffer))?;
        let read = buffer.filled();
        Poll::Ready((!read.is_empty()).then(|| Ok(Frame::data(Bytes::copy_from_slice(read)))))
    }
}

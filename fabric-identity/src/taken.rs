//! Responses that a client does not take.
//!
//! **Problem.** A client of HTTP/2 can request much, give no room for the responses (RFC 9113, section 5.2), and keep
//! its connection alive with pings. The server would have to keep the responses in memory.
//!
//! **Model.** Bodies of responses are given out in parts of at most [`PART`] octets. A part counts as taken when the server asks for the
//! next one, or for the end: it does so only when the client has room. A [`crate::Connection`] ends when a part was not
//! taken for as long as its peer may be silent. With the connection, the server also drops what it holds for the client.
//!
//! While a response has nothing to send, it waits for the server, and no time counts against the client.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use hyper::body::{Body, Frame, SizeHint};
use tokio::time::Instant;
use tonic::codegen::http::{Request, Response};
use tonic::codegen::{BoxFuture, Bytes, Service};

use crate::connection::{Liveness, Peer};

/// Most octets of a part: some frames of HTTP/2.
const PART: usize = 64 << 10;

/// Parts of one connection that its client has not taken, by response.
#[derive(Debug, Default)]
pub(crate) struct Parts(Mutex<(u64, HashMap<u64, Instant>)>);

impl Parts {
    fn lock(&self) -> MutexGuard<'_, (u64, HashMap<u64, Instant>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A number for a response.
    fn response(&self) -> u64 {
        let mut all = self.lock();
        all.0 += 1;
        all.0
    }

    fn given(&self, response: u64) {
        self.lock().1.insert(response, Instant::now());
    }

    fn taken(&self, response: u64) {
        self.lock().1.remove(&response);
    }

    /// Since when the oldest of these parts waits.
    pub(crate) fn since(&self) -> Option<Instant> {
        self.lock().1.values().min().copied()
    }
}

/// The body of a response.
#[derive(Debug)]
pub struct Taken<B> {
    inner: B,
    /// What is left of a part that was too long.
    rest: Bytes,
    connection: Liveness,
    response: u64,
    /// Whether the client has not taken the last part yet.
    waits: bool,
}

impl<B> Taken<B> {
    /// A body for the client of a connection.
    pub fn new(inner: B, connection: &Liveness) -> Self {
        Self {
            inner,
            rest: Bytes::new(),
            response: connection.parts().response(),
            connection: connection.clone(),
            waits: false,
        }
    }

    fn give(&mut self, mut octets: Bytes) -> Bytes {
        self.rest = octets.split_off(octets.len().min(PART));
        self.connection.parts().given(self.response);
        self.waits = true;
        octets
    }

    fn take(&mut self) {
        if std::mem::take(&mut self.waits) {
            self.connection.parts().taken(self.response);
        }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Taken<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.get_mut();
        this.take();
        if !this.rest.is_empty() {
            let rest = std::mem::take(&mut this.rest);
            return Poll::Ready(Some(Ok(Frame::data(this.give(rest)))));
        }
        let frame = ready!(Pin::new(&mut this.inner).poll_frame(cx));
        Poll::Ready(frame.map(|frame| {
            frame.map(|frame| match frame.into_data() {
                Ok(octets) => Frame::data(this.give(octets)),
                Err(trailers) => trailers,
            })
        }))
    }

    /// No new part is given out before the last one was taken.
    fn is_end_stream(&self) -> bool {
        !self.waits && self.rest.is_empty() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (inner, rest) = (self.inner.size_hint(), self.rest.len() as u64);
        let mut all = SizeHint::new();
        if let Some(upper) = inner.upper() {
            all.set_upper(upper.saturating_add(rest));
        }
        all.set_lower(inner.lower().saturating_add(rest));
        all
    }
}

impl<B> Drop for Taken<B> {
    fn drop(&mut self) {
        self.take();
    }
}

/// Puts [`Taken`] around the responses of a gRPC server. This must be the outermost layer.
#[derive(Debug, Clone, Copy, Default)]
pub struct TakenLayer;

impl<S> tower::Layer<S> for TakenLayer {
    type Service = InTime<S>;

    fn layer(&self, inner: S) -> InTime<S> {
        InTime(inner)
    }
}

/// A service whose clients have to take their responses.
#[derive(Debug, Clone)]
pub struct InTime<S>(S);

impl<S, Q, B> Service<Request<Q>> for InTime<S>
where
    S: Service<Request<Q>, Response = Response<B>>,
    S::Future: Send + 'static,
    S::Error: 'static,
    B: 'static,
{
    type Response = Response<Taken<B>>;
    type Error = S::Error;
    type Future = BoxFuture<Self::Response, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Q>) -> Self::Future {
        let peer = request.extensions().get::<Peer>();
        let connection = peer.map(|peer| peer.liveness.clone()).unwrap_or_default();
        let response = self.0.call(request);
        Box::pin(async move { Ok(response.await?.map(|body| Taken::new(body, &connection))) })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::convert::Infallible;

    use super::*;

    /// Gives out these parts. For `None` it has nothing to send at that moment.
    struct Said(VecDeque<Option<Bytes>>);

    impl Body for Said {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            match self.0.pop_front() {
                Some(Some(octets)) => Poll::Ready(Some(Ok(Frame::data(octets)))),
                Some(None) => Poll::Pending,
                None => Poll::Ready(None),
            }
        }

        fn is_end_stream(&self) -> bool {
            self.0.is_empty()
        }
    }

    fn next(body: &mut Taken<Said>) -> Poll<Option<usize>> {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let polled = Pin::new(body).poll_frame(&mut cx);
        polled.map(|frame| frame.map(|f| f.unwrap().into_data().unwrap().len()))
    }

    #[tokio::test(start_paused = true)]
    async fn a_part_waits_from_when_it_was_given_to_when_the_next_is_asked_for() {
        let connection = Liveness::default();
        let long = Bytes::from(vec![0; PART + 1]);
        let mut body = Taken::new(Said([Some(long), None, Some(Bytes::from("end"))].into()), &connection);
        assert_eq!(connection.parts().since(), None);
        let start = Instant::now();
        assert_eq!(next(&mut body), Poll::Ready(Some(PART)));
        assert_eq!(connection.parts().since(), Some(start));
        tokio::time::advance(std::time::Duration::from_secs(3)).await;
        assert_eq!(connection.parts().since(), Some(start));
        assert_eq!(next(&mut body), Poll::Ready(Some(1)));
        assert!(connection.parts().since() > Some(start));
        // There is nothing to send: the client has taken everything.
        assert_eq!(next(&mut body), Poll::Pending);
        assert_eq!(connection.parts().since(), None);
        // The last part counts like the others.
        assert_eq!(next(&mut body), Poll::Ready(Some(3)));
        assert!(!body.is_end_stream() && connection.parts().since().is_some());
        assert_eq!(next(&mut body), Poll::Ready(None));
        assert!(body.is_end_stream() && connection.parts().since().is_none());
    }

    #[tokio::test]
    async fn a_response_that_was_given_up_waits_no_more() {
        let connection = Liveness::default();
        let mut body = Taken::new(Said([Some(Bytes::from("a"))].into()), &connection);
        assert_eq!(next(&mut body), Poll::Ready(Some(1)));
        drop(body);
        assert_eq!(connection.parts().since(), None);
    }
}

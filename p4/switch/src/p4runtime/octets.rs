//! `Write`, in front of the generated service: its requests are read directly from the octets on the wire
//! ([`super::request`]). All other calls go through the generated messages.

use std::convert::Infallible;
use std::task::{Context, Poll};

use bytes::{Buf as _, Bytes};
use p4runtime_grpc::p4_runtime_server::P4RuntimeServer;
use p4runtime_proto::p4::v1::WriteResponse;
use tonic::body::Body;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::{Body as HttpBody, BoxFuture, StdError, http};
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic::{Request, Response, Status};

use super::error::batch_status;
use super::service::Service;

/// Path of the call.
const WRITE: &str = "/p4.v1.P4Runtime/Write";

/// Messages as octets. An answer is empty, like a `WriteResponse`.
#[derive(Debug, Default)]
struct Octets;

impl Codec for Octets {
    type Encode = WriteResponse;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Decoder for Octets {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, source: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(source.copy_to_bytes(source.remaining())))
    }
}

impl Encoder for Octets {
    type Item = WriteResponse;
    type Error = Status;

    fn encode(&mut self, WriteResponse {}: WriteResponse, _: &mut EncodeBuf<'_>) -> Result<(), Status> {
        Ok(())
    }
}

/// The handler of `Write`.
struct Write(Service);

impl UnaryService<Bytes> for Write {
    type Response = WriteResponse;
    type Future = std::future::Ready<Result<Response<WriteResponse>, Status>>;

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        // A batch takes about a millisecond; moving the worker's other tasks to another thread would cost more.
        let results = self.0.0.write_octets(request.get_ref()).map_err(Status::from);
        let answer = results.and_then(|results| batch_status(&results));
        std::future::ready(answer.map(|()| Response::new(WriteResponse {})))
    }
}

/// The P4Runtime service as it is served.
#[derive(Clone)]
pub struct P4Runtime {
    write: Service,
    rest: P4RuntimeServer<Service>,
    max_message_len: usize,
}

impl P4Runtime {
    /// Serves a device. Messages in both directions may have this many octets.
    pub fn new(service: Service, max_message_len: usize) -> Self {
        Self {
            write: service.clone(),
            rest: P4RuntimeServer::new(service)
                .max_decoding_message_size(max_message_len)
                .max_encoding_message_size(max_message_len),
            max_message_len,
        }
    }
}

impl NamedService for P4Runtime {
    const NAME: &'static str = <P4RuntimeServer<Service> as NamedService>::NAME;
}

impl<B> tonic::codegen::Service<http::Request<B>> for P4Runtime
where
    B: HttpBody + Send + 'static,
    B::Error: Into<StdError> + Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        if request.uri().path() != WRITE {
            return tonic::codegen::Service::call(&mut self.rest, request);
        }
        let (write, max) = (Write(self.write.clone()), self.max_message_len);
        Box::pin(async move {
            let mut grpc = Grpc::new(Octets).max_decoding_message_size(max);
            Ok(grpc.unary(write, request).await)
        })
    }
}

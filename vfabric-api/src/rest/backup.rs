//! The handler of backups.

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use tokio::io::AsyncReadExt as _;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Service;
use crate::error::{ApiError, ErrorCode};

/// Octets that are read at a time.
const PART: usize = 64 << 10;
/// Header with the revision of the backup.
const REVISION: HeaderName = HeaderName::from_static("vfabric-revision");

/// A backup of the controller's store, made while it is in use: intent, users, history. It has only the hashes of
/// tokens. `fabric-controller --restore` restores it.
#[utoipa::path(post, path = "/v1/backup", tag = "fabric",
    responses((status = 200, description = "The backup", body = Vec<u8>, content_type = "application/octet-stream",
            headers(("vfabric-revision" = u64, description = "The revision of the backup"))),
        (status = "default", body = ApiError)))]
async fn backup(State(service): State<Service>) -> Result<Response, ApiError> {
    let backup = service.backup().await?;
    let unreadable = |error: std::io::Error| {
        tracing::error!(%error, "the backup cannot be read");
        ApiError::new(ErrorCode::Internal, "the backup cannot be read")
    };
    let length = backup.file.metadata().map_err(unreadable)?.len();
    let file = tokio::fs::File::from_std(backup.file);
    let parts = futures::stream::try_unfold(file, |mut file| async move {
        let mut part = BytesMut::with_capacity(PART);
        let octets = file.read_buf(&mut part).await?;
        let part = (octets > 0).then(|| (part.freeze(), file));
        Ok::<Option<(Bytes, tokio::fs::File)>, std::io::Error>(part)
    });
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("application/octet-stream")),
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (CONTENT_LENGTH, length.into()),
        (REVISION, backup.revision.into()),
    ];
    Ok((headers, Body::from_stream(parts)).into_response())
}

pub(super) fn router() -> OpenApiRouter<Service> {
    OpenApiRouter::new().routes(routes!(backup))
}

//! Images for switches: uploaded, listed, deleted. The content is streamed to the disk and never held in memory.

use axum::Json;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use futures::{StreamExt as _, TryStreamExt as _};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Service;
use super::extract::{Path, Query};
use crate::error::{ApiError, ErrorCode};
use crate::ident::Label;
use crate::image::{Image, NewImage, digest};

/// The media type of an image.
const OCTETS: &str = "application/octet-stream";
/// Models that one image may name.
const MODELS: usize = 64;

/// `?sha256=&software=&models=` of an upload.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Upload {
    /// SHA-256 of the content: 64 hexadecimal digits.
    #[param(min_length = 64, max_length = 64, pattern = "^[0-9A-Fa-f]{64}$")]
    sha256: String,
    /// The release that it is, as the inventory's `software` names it.
    software: Option<Label>,
    /// Models that it is for, separated by commas; without this, all models.
    #[serde(default)]
    #[param(
        max_length = 4160,
        pattern = "^([A-Za-z0-9][A-Za-z0-9._+-]{0,63}(,[A-Za-z0-9][A-Za-z0-9._+-]{0,63}){0,63})?$"
    )]
    models: String,
}

/// `?force=` of a deletion.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Deletion {
    /// Also deletes an image that is the software of a switch.
    #[serde(default)]
    force: bool,
}

/// All images, with the switches whose software each one is.
#[utoipa::path(get, path = "/v1/images", operation_id = "list_images", tag = "images",
    responses((status = 200, body = Vec<Image>), (status = "default", body = ApiError)))]
async fn list(State(service): State<Service>) -> Result<Json<Vec<Image>>, ApiError> {
    service.images().await.map(Json)
}

/// Stores an image. Either the whole image is stored, with the digest that the call names, or nothing. The same image may be
/// sent again; different content needs another name, or this image must be deleted first.
#[utoipa::path(put, path = "/v1/images/{name}", operation_id = "upload_image", tag = "images", params(("name" = Label, Path), Upload),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 201, body = Image), (status = "default", body = ApiError)))]
async fn upload(
    State(service): State<Service>,
    Path(name): Path<Label>,
    Query(said): Query<Upload>,
    request: Request,
) -> Result<(StatusCode, Json<Image>), ApiError> {
    let wrong = |field: &'static str, value: &str, expected: String| {
        let shown: String = value.chars().take(100).collect();
        ApiError::field(ErrorCode::Malformed, field, shown, expected)
    };
    // Without a type there may be no body at all, and an empty image helps nobody.
    let kind = request.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let kind = kind.unwrap_or_default();
    if !kind.eq_ignore_ascii_case(OCTETS) {
        return Err(ApiError::field(
            ErrorCode::UnsupportedMediaType,
            "Content-Type",
            kind,
            OCTETS,
        ));
    }
    let sha256 = digest(&said.sha256);
    let sha256 = sha256.ok_or_else(|| wrong("sha256", &said.sha256, "64 hexadecimal digits".to_owned()))?;
    let named = said.models.split(',').filter(|model| !model.is_empty());
    let models: Result<Vec<Label>, ApiError> = named
        .map(|model| {
            model
                .parse()
                .map_err(|error| wrong("models", model, format!("{error}")))
        })
        .collect();
    let models = models?;
    if models.len() > MODELS {
        return Err(wrong("models", &said.models, format!("at most {MODELS} models")));
    }
    let length = request.headers().get(CONTENT_LENGTH);
    let octets = length.and_then(|length| length.to_str().ok()?.parse().ok());
    let content = request.into_body().into_data_stream().map_err(std::io::Error::other);
    let new = NewImage {
        name,
        sha256,
        software: said.software,
        models,
        octets,
    };
    let image = service.put_image(new, content.boxed()).await?;
    Ok((StatusCode::CREATED, Json(image)))
}

/// Deletes an image. Unless `force` is set, this is refused while it is the software of a switch, and if nobody named its
/// software.
#[utoipa::path(delete, path = "/v1/images/{name}", operation_id = "delete_image", tag = "images", params(("name" = Label, Path), Deletion),
    responses((status = 204, description = "The image is deleted"), (status = "default", body = ApiError)))]
async fn delete(
    State(service): State<Service>,
    Path(name): Path<Label>,
    Query(said): Query<Deletion>,
) -> Result<StatusCode, ApiError> {
    service.delete_image(name, said.force).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) fn router() -> OpenApiRouter<Service> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(upload, delete))
}

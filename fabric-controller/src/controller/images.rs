//! Images for switches, and which switches need them.

use std::sync::Arc;

use futures::StreamExt as _;
use vfabric_api::error::{ApiError, ErrorCode};
use vfabric_api::ident::{Label, Name};
use vfabric_api::image::{Content, Image, NewImage};
use vfabric_api::service::no_images;

use super::Controller;
use crate::images::Shelf;
use crate::model::fabric::Fabric;
use crate::store::Store;

/// Longest wait for the next octets of an upload.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);
/// Switches that a refusal names.
const NAMED: usize = 4;

/// Switches whose software an image is.
fn users(fabric: &Fabric, image: &Image) -> Vec<Name> {
    let Some(software) = &image.software else {
        return Vec::new();
    };
    let is_one = |entry: &crate::model::fabric::SwitchEntry| {
        let fits = |model: &Label| image.models.is_empty() || image.models.contains(model);
        entry.spec.software.as_ref() == Some(software) && entry.spec.model.as_ref().is_none_or(fits) && !entry.gone
    };
    let all = fabric.switches().filter(|(_, entry)| is_one(entry));
    all.map(|(_, entry)| entry.spec.name.clone()).collect()
}

/// Runs work that waits for the disk.
async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| ApiError::new(ErrorCode::Internal, "the answer was not finished"))?
}

impl<S: Store> Controller<S> {
    /// Sets the place of images.
    pub fn set_images(&self, shelf: Arc<Shelf>) {
        // The first call counts; there is only one.
        let _ = self.images.set(shelf);
    }

    fn shelf(&self) -> Result<Arc<Shelf>, ApiError> {
        self.images.get().map(Arc::clone).ok_or_else(no_images)
    }

    /// An image with its content.
    pub(super) async fn image(&self, name: Label) -> Result<(Image, std::fs::File), ApiError> {
        let shelf = self.shelf()?;
        on_disk(move || shelf.content(&name)).await
    }

    pub(super) async fn all_images(&self) -> Result<Vec<Image>, ApiError> {
        let shelf = self.shelf()?;
        let mut images = on_disk(move || shelf.list()).await?;
        let fabric = self.fabric_now();
        for image in &mut images {
            image.switches = users(&fabric, image);
        }
        Ok(images)
    }

    pub(super) async fn store_image(&self, new: NewImage, mut content: Content) -> Result<Image, ApiError> {
        let shelf = self.shelf()?;
        let name = new.name.clone();
        // The disk is written by a thread of its own; one part waits while another is written.
        let (parts, mut coming) = tokio::sync::mpsc::channel::<Result<bytes::Bytes, ApiError>>(1);
        let writing = tokio::task::spawn_blocking(move || {
            let Some(mut upload) = shelf.begin(new.clone())? else {
                let known = shelf.list()?.into_iter().find(|image| image.name == new.name);
                return known.ok_or_else(|| ApiError::not_found(format_args!("image `{}`", new.name)));
            };
            while let Some(part) = coming.blocking_recv() {
                upload.write(&part?)?;
            }
            upload.finish()
        });
        let broken = |detail: String| ApiError::new(ErrorCode::Malformed, detail);
        loop {
            let part = match tokio::time::timeout(PATIENCE, content.next()).await {
                Ok(None) => break,
                Ok(Some(Ok(part))) => Ok(part),
                Ok(Some(Err(error))) => Err(broken(format!("the upload broke off: {error}"))),
                Err(_) => Err(broken(format!("nothing came for {} s", PATIENCE.as_secs()))),
            };
            // The writer has refused it, and says why.
            if parts.send(part).await.is_err() {
                break;
            }
        }
        drop(parts);
        let stored = writing.await;
        let stored = stored.map_err(|_| ApiError::new(ErrorCode::Internal, "the answer was not finished"))?;
        let mut image = stored?;
        tracing::info!(%name, octets = image.octets, sha256 = image.sha256, "an image is stored");
        image.switches = users(&self.fabric_now(), &image);
        Ok(image)
    }

    pub(super) async fn remove_image(&self, name: Label, force: bool) -> Result<(), ApiError> {
        let (shelf, fabric) = (self.shelf()?, self.fabric_now());
        let deleted = name.clone();
        on_disk(move || {
            shelf.delete(&name, |image| {
                if force {
                    return Ok(());
                }
                if image.software.is_none() {
                    let detail =
                        format!("the software of image `{name}` is not known, so a switch may need it: use force");
                    return Err(ApiError::new(ErrorCode::InUse, detail));
                }
                let users = users(&fabric, image);
                if users.is_empty() {
                    return Ok(());
                }
                let named: Vec<&str> = users.iter().take(NAMED).map(Name::as_str).collect();
                let more = users.len().saturating_sub(named.len());
                let more = if more > 0 {
                    format!(" and {more} more")
                } else {
                    String::new()
                };
                let detail = format!("image `{name}` is the software of {}{more}", named.join(", "));
                Err(ApiError::new(ErrorCode::InUse, detail))
            })
        })
        .await?;
        tracing::info!(name = %deleted, force, "an image is deleted");
        Ok(())
    }
}

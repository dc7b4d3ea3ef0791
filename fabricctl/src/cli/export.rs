//! `export`: the intent of vDCs as a file that `apply` takes back unchanged.
//!
//! It contains only what users wrote. Numbers and addresses that the controller chose are left out, so that the file
//! can be applied elsewhere.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Args;
use clap_complete::engine::ArgValueCandidates;
use serde_json::{Map, Value};
use vfabric_api::ident::Name;
use vfabric_api::intent::Intent;
use vfabric_api::kind::{Key, Kind};
use vfabric_api::status::View;

use super::complete;
use super::connect::Session;

#[derive(Debug, Args)]
pub(super) struct ExportArgs {
    /// The vDCs [default: all that you may see]
    #[arg(add = ArgValueCandidates::new(complete::vdcs))]
    vdcs: Vec<Name>,
}

pub(super) async fn export(session: &Session, args: ExportArgs) -> Result<ExitCode> {
    let client = &session.client;
    let mut views = Vec::new();
    if args.vdcs.is_empty() {
        views = client.list(Kind::Vdc, None).await?;
    }
    for vdc in args.vdcs {
        views.push(client.get(&Key::vdc(vdc)).await?);
    }
    let mut vdcs = Vec::new();
    for view in views {
        let mut document = spec(&view)?;
        for kind in Kind::ALL.iter().filter(|kind| **kind != Kind::Vdc) {
            let objects = client.list(*kind, Some(view.name())).await?;
            let specs: Result<Vec<Value>> = objects.iter().map(|o| spec(o).map(Value::Object)).collect();
            document.insert(kind.plural().to_owned(), Value::Array(specs?));
        }
        vdcs.push(Value::Object(document));
    }
    let intent = Map::from_iter([("vdcs".to_owned(), Value::Array(vdcs))]);
    // Check that this version would accept the file, before printing it.
    let intent: Intent =
        serde_json::from_value(Value::Object(intent)).context("the controller's answer is not an intent")?;
    fabric_lab::out::text(format_args!("{}", serde_saphyr::to_string(&intent)?));
    Ok(ExitCode::SUCCESS)
}

/// The part of an object that a user wrote.
fn spec(view: &View) -> Result<Map<String, Value>> {
    let document = serde_json::to_value(view)?;
    let spec = document.get("spec").and_then(Value::as_object);
    spec.cloned().with_context(|| format!("`{}` has no spec", view.name()))
}

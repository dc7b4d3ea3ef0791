//! `delete`: named objects, or those of a file.
//!
//! Each object is deleted in a transaction of its own. If one is refused, the others are still deleted, and the command says so. With
//! a file, objects are deleted before the objects that they need.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use clap_complete::engine::ArgValueCandidates;
use fabric_lab::say;
use vfabric_api::client::ClientError;
use vfabric_api::error::{ApiError, ErrorCode};
use vfabric_api::kind::{Key, Kind};
use vfabric_api::status::Progress;

use super::connect::{InVdc, Session};
use super::{complete, intent, report, seconds, what};

#[derive(Debug, Args)]
pub(super) struct DeleteArgs {
    /// Kind of the objects: vdc, network, router or attachment
    #[arg(value_parser = what::kind, required_unless_present = "file", conflicts_with = "file", add = ArgValueCandidates::new(complete::kinds))]
    kind: Option<Kind>,
    /// The objects: NAME or VDC/NAME
    #[arg(add = ArgValueCandidates::new(complete::names))]
    names: Vec<String>,
    #[command(flatten)]
    vdc: InVdc,
    /// Delete the objects that an intent file names, or - for standard input
    #[arg(short, long)]
    file: Option<PathBuf>,
    /// A missing object is not an error
    #[arg(long)]
    ignore_not_found: bool,
    /// Seconds to wait until every device has applied it; 0 does not wait
    #[arg(long, default_value_t = 30.0)]
    wait: f64,
}

pub(super) async fn delete(session: &Session, args: DeleteArgs) -> Result<ExitCode> {
    let keys = keys(session, &args)?;
    let until = seconds(args.wait)?.map(|wait| Instant::now() + wait);
    let (mut refused, mut late) = (0, 0);
    for key in &keys {
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        match session
            .client
            .delete(key, left.filter(|left| *left > Duration::ZERO))
            .await
        {
            Ok(outcome) => {
                say!("- {key}, revision {}", outcome.committed.revision);
                // For a single object, show the details.
                let applied = outcome.applied.as_ref().map(|applied| applied.progress);
                if keys.len() == 1 {
                    return Ok(report(&outcome));
                }
                late += usize::from(until.is_some() && applied != Some(Progress::Applied));
            }
            Err(ClientError::Api(error)) if error.code == ErrorCode::NotFound && args.ignore_not_found => {
                say!("{key} does not exist");
            }
            Err(ClientError::Api(error)) if keys.len() > 1 && is_about(&error.code) => {
                eprintln!("fabricctl: {}", about(key, &error));
                refused += 1;
            }
            Err(ClientError::Api(error)) => bail!("{}", about(key, &error)),
            Err(error) => return Err(error).with_context(|| key.to_string()),
        }
    }
    if refused > 0 {
        bail!("{refused} of {} objects were not deleted", keys.len());
    }
    if late > 0 {
        say!(
            "{late} of {} deletions are not applied on every device yet; `fabricctl status` shows the devices",
            keys.len()
        );
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

/// An error with its object, which is not named twice.
fn about(key: &Key, error: &ApiError) -> String {
    let (key, error) = (key.to_string(), error.to_string());
    if error.contains(&key) {
        error
    } else {
        format!("{key}: {error}")
    }
}

/// Whether an error concerns only this object, so that the next one may succeed.
fn is_about(code: &ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::NotFound | ErrorCode::InUse | ErrorCode::Forbidden | ErrorCode::PreconditionFailed
    )
}

fn keys(session: &Session, args: &DeleteArgs) -> Result<Vec<Key>> {
    if let Some(file) = &args.file {
        let mut keys = Vec::new();
        for vdc in intent::read(file)?.vdcs {
            let name = vdc.name.clone();
            let specs = vdc.into_specs();
            keys.extend(specs.into_iter().rev().map(|(_, spec)| match spec.kind() {
                Kind::Vdc => Key::vdc(name.clone()),
                kind => Key::new(name.clone(), kind, spec.name().clone()),
            }));
        }
        return Ok(keys);
    }
    let kind = args.kind.context("KIND is missing")?;
    if args.names.is_empty() {
        bail!("no {kind} is named: expected NAME or VDC/NAME");
    }
    args.names
        .iter()
        .map(|name| session.key(kind, name, &args.vdc))
        .collect()
}

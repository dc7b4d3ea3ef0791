//! `apply`, `plan` and `diff` of intent files.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Args;
use fabric_lab::say;
use vfabric_api::ident::OwnerName;
use vfabric_api::intent::Intent;
use vfabric_api::service::{ApplyOptions, Origin};

use super::connect::Session;
use super::progress::Steps;
use super::show::{Format, Table};
use super::{Output, plan, report, seconds};

#[derive(Debug, Args)]
pub(super) struct PlanArgs {
    #[command(flatten)]
    asked: Asked,
    #[command(flatten)]
    output: Output,
}

/// A file, with options.
#[derive(Debug, Args)]
struct Asked {
    /// The intent file (YAML), or - for standard input
    #[arg(short, long)]
    file: PathBuf,
    /// Delete objects of the named vDCs that the file does not name
    #[arg(long)]
    prune: bool,
    /// Delete attachments that use hosts or access ports which their vDC loses
    #[arg(long)]
    cascade: bool,
    #[command(flatten)]
    owned: Owned,
}

/// The owner of a file's objects.
#[derive(Debug, Default, Args)]
struct Owned {
    /// Owner of the objects, such as `file:web.yaml`: --prune deletes only objects of this owner, and changes of
    /// objects of other owners are refused
    #[arg(long)]
    owner: Option<OwnerName>,
    /// Change objects of other owners, too; they get this owner
    #[arg(long)]
    force: bool,
}

#[derive(Debug, Args)]
pub(super) struct ApplyArgs {
    #[command(flatten)]
    asked: Asked,
    /// Only show what would change (as `plan` does)
    #[arg(long)]
    dry_run: bool,
    /// Why, for the history
    #[arg(long, default_value = "")]
    reason: String,
    /// Seconds to wait until every device has applied it; 0 does not wait
    #[arg(long, default_value_t = 30.0)]
    wait: f64,
}

/// Reads an intent file.
///
/// # Errors
/// It cannot be read, is too large, or does not have the documented form (with line and column).
pub(super) fn read(path: &Path) -> Result<Intent> {
    let text = if path == Path::new("-") {
        std::io::read_to_string(std::io::stdin()).context("cannot read standard input")?
    } else {
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?
    };
    vfabric_api::yaml::read(&text).with_context(|| format!("in {}", path.display()))
}

/// How many objects a file names.
fn objects(intent: &Intent) -> usize {
    let of = |vdc: &vfabric_api::intent::VdcIntent| 1 + vdc.networks.len() + vdc.routers.len() + vdc.attachments.len();
    intent.vdcs.iter().map(of).sum()
}

pub(super) async fn apply(session: &Session, args: ApplyArgs) -> Result<ExitCode> {
    let client = &session.client;
    let steps = Steps::begin(&format!("reading {}", args.asked.file.display()));
    let intent = read(&args.asked.file)?;
    let options = ApplyOptions {
        prune: args.asked.prune,
        dry_run: args.dry_run,
        origin: Origin {
            reason: args.reason,
            owner: args.asked.owned.owner,
            force: args.asked.owned.force,
            cascade: args.asked.cascade,
            ..Origin::default()
        },
        ..ApplyOptions::default()
    };
    let call = client.apply(&intent, options, seconds(args.wait)?);
    let outcome = steps
        .follow(session, &format!("applying {} objects", objects(&intent)), call)
        .await?;
    plan::objects(&outcome.committed);
    outcome.committed.plan.iter().for_each(plan::devices);
    say!(
        "{} unchanged, revision {}",
        outcome.committed.unchanged,
        outcome.committed.revision
    );
    Ok(report(&outcome))
}

fn dry_run(prune: bool, cascade: bool, owned: Owned) -> ApplyOptions {
    ApplyOptions {
        prune,
        dry_run: true,
        origin: Origin {
            owner: owned.owner,
            force: owned.force,
            cascade,
            ..Origin::default()
        },
        ..ApplyOptions::default()
    }
}

pub(super) async fn plan(session: &Session, args: PlanArgs) -> Result<ExitCode> {
    let client = &session.client;
    let steps = Steps::begin(&format!("reading {}", args.asked.file.display()));
    let intent = read(&args.asked.file)?;
    let call = client.apply(
        &intent,
        dry_run(args.asked.prune, args.asked.cascade, args.asked.owned),
        None,
    );
    let outcome = steps
        .follow(session, &format!("planning {} objects", objects(&intent)), call)
        .await?;
    let committed = outcome.committed;
    if !matches!(args.output.output, Format::Table) {
        return args.output.output.print(&committed, Table::default);
    }
    plan::objects(&committed);
    committed.plan.iter().for_each(plan::devices);
    say!(
        "\n{} unchanged; planned on revision {}",
        committed.unchanged,
        committed.revision
    );
    Ok(ExitCode::SUCCESS)
}

/// The difference between a file and the stored intent, object by object and field by field.
pub(super) async fn diff(session: &Session, file: &Path, prune: bool, format: Format) -> Result<ExitCode> {
    let intent = read(file)?;
    let committed = session
        .client
        .apply(&intent, dry_run(prune, false, Owned::default()), None)
        .await?
        .committed;
    let differs = !(committed.created.is_empty() && committed.updated.is_empty() && committed.deleted.is_empty());
    if matches!(format, Format::Table) {
        plan::objects(&committed);
        if !differs {
            say!("no difference");
        }
    } else {
        format.print(&committed, Table::default)?;
    }
    // The exit code of diff(1).
    Ok(if differs { ExitCode::from(1) } else { ExitCode::SUCCESS })
}

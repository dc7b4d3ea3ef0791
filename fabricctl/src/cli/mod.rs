//! Commands and their flags.

mod history;
mod inventory;
mod plan;
mod show;
mod tables;
mod users;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, Parser, Subcommand, ValueEnum};
use fabric_lab as lab;
use fabric_lab::say;
use vfabric_api::client::{Client, Config};
use vfabric_api::ident::Name;
use vfabric_api::intent::Intent;
use vfabric_api::kind::{Key, Kind};
use vfabric_api::service::{ApplyOptions, Origin, Outcome};
use vfabric_api::status::{Drops, Progress};

use show::{Format, Table};

/// Command line of the fabric.
#[derive(Debug, Parser)]
#[command(version, about)]
pub struct Cli {
    /// Client settings [default: ~/.config/vfabric/client.yaml]
    #[arg(long, global = true, env = "VFABRIC_CONFIG")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Apply an intent file as one transaction
    Apply(Apply),
    /// Show what applying an intent file would change, in objects and on each device
    Plan(Plan),
    /// Show objects or the state of the fabric
    Get(Get),
    /// Delete one object
    Delete(Delete),
    /// Show what changed, when, by whom and why
    History(history::HistoryArgs),
    /// Show changes as they come
    Watch(history::WatchArgs),
    /// Show how the intent of two revisions differs
    Diff(history::DiffArgs),
    /// Restore the intent of an older revision
    Rollback(history::RollbackArgs),
    /// Show who the caller is, and its roles
    Whoami(Output),
    /// Show and change users and their roles
    #[command(subcommand)]
    User(users::UserCommand),
    /// Make, show and revoke tokens of users
    #[command(subcommand)]
    Token(users::TokenCommand),
    /// Show calls that changed something or were refused
    Audit(users::AuditArgs),
    /// Show and change what the fabric is made of
    #[command(subcommand)]
    Inventory(inventory::Command),
    /// Show the fabric at a glance
    Status(Output),
    /// Check an intent on a fabric of software switches against expectations
    Check(lab::expect::Check),
    /// Build, check and remove a whole fabric on this machine
    #[command(subcommand)]
    Lab(lab::Command),
}

#[derive(Debug, Args)]
struct Plan {
    /// The intent file (YAML), or - for standard input
    #[arg(short, long)]
    file: PathBuf,
    /// Delete what the named vDCs hold and the file does not name
    #[arg(long)]
    prune: bool,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Args)]
struct Apply {
    /// The intent file (YAML), or - for standard input
    #[arg(short, long)]
    file: PathBuf,
    /// Delete what the named vDCs hold and the file does not name
    #[arg(long)]
    prune: bool,
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

/// What can be shown.
#[derive(Debug, Clone, Copy)]
enum What {
    /// Objects of a kind.
    Objects(Kind),
    /// Something of the fabric.
    Fabric(OfFabric),
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum OfFabric {
    /// Switches
    Switches,
    /// Hosts
    Hosts,
    /// Links between switches
    Links,
    /// Packets lost anywhere, by device, place and reason
    Drops,
    /// What one device should hold
    Entities,
}

impl FromStr for What {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let kind = text.parse().map(Self::Objects);
        kind.or_else(|_| OfFabric::from_str(text, false).map(Self::Fabric))
            .map_err(|_| {
                let kinds = Kind::ALL.iter().map(|kind| kind.plural().to_owned());
                let fabric = OfFabric::value_variants()
                    .iter()
                    .filter_map(OfFabric::to_possible_value);
                let all: Vec<String> = kinds.chain(fabric.map(|value| value.get_name().to_owned())).collect();
                format!("expected one of: {}", all.join(", "))
            })
    }
}

#[derive(Debug, Args)]
struct Get {
    /// What to show: vdcs, networks, routers, attachments, switches, hosts, links, drops (packets lost anywhere, by
    /// device, place and reason) or entities (what one device should hold)
    what: What,
    /// Name of the vDC, or of the device for entities
    of: Option<Name>,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Args)]
struct Output {
    /// How to print it
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    output: Format,
}

#[derive(Debug, Args)]
struct Delete {
    /// Kind of the object
    kind: Kind,
    /// `VDC` for a vDC, `VDC/NAME` for what is inside one
    object: String,
    /// Seconds to wait until every device has applied it; 0 does not wait
    #[arg(long, default_value_t = 30.0)]
    wait: f64,
}

fn seconds(wait: f64) -> Result<Option<Duration>> {
    let duration = Duration::try_from_secs_f64(wait).context("--wait: expected a number of seconds")?;
    Ok(Some(duration).filter(|d| !d.is_zero()))
}

/// Runs one command.
///
/// # Errors
/// What went wrong, in words.
pub fn run(cli: Cli) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    if let Command::Lab(command) = cli.command {
        return lab::run(command, &runtime);
    }
    if let Command::Check(check) = cli.command {
        return Ok(lab::expect::run(&check, &runtime).unwrap_or_else(|error| {
            eprintln!("fabricctl check: {error:#}");
            lab::expect::COULD_NOT_RUN.into()
        }));
    }
    let path = cli.config.unwrap_or_else(Config::default_path);
    let client = Config::client(&path)?;
    runtime.block_on(async move {
        match cli.command {
            Command::Apply(apply) => self::apply(&client, apply).await,
            Command::Plan(plan) => self::plan(&client, plan).await,
            Command::Get(get) => self::get(&client, get).await,
            Command::Delete(delete) => self::delete(&client, delete).await,
            Command::History(args) => history::history(&client, args).await,
            Command::Watch(args) => history::watch(&client, args).await,
            Command::Diff(args) => history::diff(&client, args).await,
            Command::Rollback(args) => history::rollback(&client, args).await,
            Command::Whoami(output) => users::whoami(&client, output).await,
            Command::User(command) => users::user(&client, command).await,
            Command::Token(command) => users::token(&client, command).await,
            Command::Audit(args) => users::audit(&client, args).await,
            Command::Inventory(command) => inventory::run(&client, command).await,
            Command::Status(output) => {
                let (status, links) = (client.fabric().await?, client.links().await?);
                output.output.print(&status, || tables::fabric(&status, &links))
            }
            Command::Lab(_) | Command::Check(_) => unreachable!("handled above"),
        }
    })
}

/// Reads an intent file.
///
/// # Errors
/// It cannot be read, or is not of the documented shape (with line and column).
pub fn read_intent(path: &Path) -> Result<Intent> {
    let text = if path == Path::new("-") {
        std::io::read_to_string(std::io::stdin()).context("cannot read standard input")?
    } else {
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?
    };
    serde_saphyr::from_str(&text).with_context(|| format!("in {}", path.display()))
}

async fn apply(client: &Client, apply: Apply) -> Result<ExitCode> {
    let intent = read_intent(&apply.file)?;
    let options = ApplyOptions {
        prune: apply.prune,
        dry_run: apply.dry_run,
        origin: Origin {
            reason: apply.reason,
            ..Origin::default()
        },
        ..ApplyOptions::default()
    };
    let outcome = client.apply(&intent, options, seconds(apply.wait)?).await?;
    plan::objects(&outcome.committed);
    outcome.committed.plan.iter().for_each(plan::devices);
    say!(
        "{} unchanged, revision {}",
        outcome.committed.unchanged,
        outcome.committed.revision
    );
    Ok(report(&outcome))
}

async fn plan(client: &Client, plan: Plan) -> Result<ExitCode> {
    let intent = read_intent(&plan.file)?;
    let options = ApplyOptions {
        prune: plan.prune,
        dry_run: true,
        ..ApplyOptions::default()
    };
    let committed = client.apply(&intent, options, None).await?.committed;
    if !matches!(plan.output.output, Format::Table) {
        return plan.output.output.print(&committed, Table::default);
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

async fn delete(client: &Client, delete: Delete) -> Result<ExitCode> {
    let key = match (delete.kind, delete.object.split_once('/')) {
        (Kind::Vdc, None) => Key::vdc(delete.object.parse()?),
        (kind, Some((vdc, name))) if kind != Kind::Vdc => Key::new(vdc.parse()?, kind, name.parse()?),
        (Kind::Vdc, Some(_)) => bail!("`{}`: expected the name of a vDC", delete.object),
        (kind, _) => bail!("`{}`: expected VDC/NAME of a {kind}", delete.object),
    };
    let outcome = client.delete(&key, seconds(delete.wait)?).await?;
    say!("- {key}, revision {}", outcome.committed.revision);
    Ok(report(&outcome))
}

/// Says how far the devices are; fails when some have not applied it in time.
fn report(outcome: &Outcome) -> ExitCode {
    let Some(applied) = &outcome.applied else {
        return ExitCode::SUCCESS;
    };
    say!("applied on {} of {} devices", applied.applied, applied.devices);
    for waiting in &applied.waiting {
        say!("  {}: {}", waiting.device, waiting.reason);
    }
    if applied.progress == Progress::Applied {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

async fn get(client: &Client, get: Get) -> Result<ExitCode> {
    let format = get.output.output;
    let of = || {
        get.of
            .as_ref()
            .context("expected one more word: the name of the vDC or device")
    };
    match get.what {
        What::Objects(Kind::Vdc) => rows(client.list(Kind::Vdc, None).await?, format, tables::object),
        What::Objects(kind) => rows(client.list(kind, Some(of()?)).await?, format, tables::object),
        What::Fabric(OfFabric::Switches) => rows(client.switches().await?, format, tables::switch),
        What::Fabric(OfFabric::Hosts) => rows(client.hosts().await?, format, tables::host),
        What::Fabric(OfFabric::Links) => rows(client.links().await?, format, tables::link),
        What::Fabric(OfFabric::Drops) => drops(&client.drops().await?, format),
        What::Fabric(OfFabric::Entities) => rows(client.entities(of()?).await?, format, tables::entity),
    }
}

/// What was lost, and under a table the devices whose losses are not known.
fn drops(drops: &Drops, format: Format) -> Result<ExitCode> {
    let done = format.print(drops, || {
        let mut table = Table::default();
        drops.counts.iter().for_each(|count| tables::drops(&mut table, count));
        table
    })?;
    if matches!(format, Format::Table) {
        for missing in &drops.missing {
            say!("missing: {}: {}", missing.device, missing.reason);
        }
    }
    Ok(done)
}

fn rows<T: serde::Serialize>(items: Vec<T>, format: Format, row: fn(&mut Table, &T)) -> Result<ExitCode> {
    format.print(&items, || {
        let mut table = Table::default();
        items.iter().for_each(|item| row(&mut table, item));
        table
    })
}

//! Commands and their flags.

mod inventory;
mod show;
mod tables;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, Parser, Subcommand, ValueEnum};
use fabric_lab as lab;
use vfabric_api::client::{Client, Config};
use vfabric_api::ident::Name;
use vfabric_api::intent::Intent;
use vfabric_api::service::{ApplyOptions, Key, Kind, Outcome};
use vfabric_api::status::Progress;

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
    /// Show objects or the state of the fabric
    Get(Get),
    /// Delete one object
    Delete(Delete),
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
struct Apply {
    /// The intent file (YAML), or - for standard input
    #[arg(short, long)]
    file: PathBuf,
    /// Delete what the named vDCs hold and the file does not name
    #[arg(long)]
    prune: bool,
    /// Validate only
    #[arg(long)]
    dry_run: bool,
    /// Seconds to wait until every device has applied it; 0 does not wait
    #[arg(long, default_value_t = 30.0)]
    wait: f64,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum What {
    /// Virtual data centres
    Vdcs,
    /// Tenant networks of a vDC
    Networks,
    /// Routers of a vDC
    Routers,
    /// Attachments of a vDC
    Attachments,
    /// Switches
    Switches,
    /// Hosts
    Hosts,
    /// Links between switches
    Links,
    /// Packets refused, by switch and reason
    Drops,
    /// What one device should hold
    Entities,
}

#[derive(Debug, Args)]
struct Get {
    /// What to show
    what: What,
    /// Name of the vDC (networks, routers, attachments) or of the device (entities)
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
    #[arg(value_parser = parse_kind)]
    kind: Kind,
    /// `VDC` for a vDC, `VDC/NAME` for what is inside one
    object: String,
    /// Seconds to wait until every device has applied it; 0 does not wait
    #[arg(long, default_value_t = 30.0)]
    wait: f64,
}

fn parse_kind(text: &str) -> Result<Kind, String> {
    match text {
        "vdc" => Ok(Kind::Vdc),
        "network" => Ok(Kind::Network),
        "router" => Ok(Kind::Router),
        "attachment" => Ok(Kind::Attachment),
        _ => Err("expected vdc, network, router or attachment".into()),
    }
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
            Command::Get(get) => self::get(&client, get).await,
            Command::Delete(delete) => self::delete(&client, delete).await,
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
    };
    let outcome = client.apply(&intent, options, seconds(apply.wait)?).await?;
    for (sign, keys) in [
        ('+', &outcome.committed.created),
        ('~', &outcome.committed.updated),
        ('-', &outcome.committed.deleted),
    ] {
        for key in keys {
            println!("{sign} {key}");
        }
    }
    println!(
        "{} unchanged, revision {}",
        outcome.committed.unchanged, outcome.committed.revision
    );
    Ok(report(&outcome))
}

async fn delete(client: &Client, delete: Delete) -> Result<ExitCode> {
    let key = match (delete.kind, delete.object.split_once('/')) {
        (Kind::Vdc, None) => Key::vdc(delete.object.parse()?),
        (kind, Some((vdc, name))) if kind != Kind::Vdc => Key::new(vdc.parse()?, kind, name.parse()?),
        (Kind::Vdc, Some(_)) => bail!("`{}`: expected the name of a vDC", delete.object),
        (kind, _) => bail!("`{}`: expected VDC/NAME of a {kind}", delete.object),
    };
    let outcome = client.delete(&key, seconds(delete.wait)?).await?;
    println!("- {key}, revision {}", outcome.committed.revision);
    Ok(report(&outcome))
}

/// Says how far the devices are; fails when some have not applied it in time.
fn report(outcome: &Outcome) -> ExitCode {
    let Some(applied) = &outcome.applied else {
        return ExitCode::SUCCESS;
    };
    println!("applied on {} of {} devices", applied.applied, applied.devices);
    for waiting in &applied.waiting {
        println!("  {}: {}", waiting.device, waiting.reason);
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
        What::Vdcs => objects(client, Kind::Vdc, None, format).await,
        What::Networks => objects(client, Kind::Network, Some(of()?), format).await,
        What::Routers => objects(client, Kind::Router, Some(of()?), format).await,
        What::Attachments => objects(client, Kind::Attachment, Some(of()?), format).await,
        What::Switches => rows(client.switches().await?, format, tables::switch),
        What::Hosts => rows(client.hosts().await?, format, tables::host),
        What::Links => rows(client.links().await?, format, tables::link),
        What::Drops => rows(client.drops().await?, format, tables::drops),
        What::Entities => rows(client.entities(of()?).await?, format, tables::entity),
    }
}

async fn objects(client: &Client, kind: Kind, vdc: Option<&Name>, format: Format) -> Result<ExitCode> {
    rows(client.list(kind, vdc).await?, format, tables::object)
}

fn rows<T: serde::Serialize>(items: Vec<T>, format: Format, row: fn(&mut Table, &T)) -> Result<ExitCode> {
    format.print(&items, || {
        let mut table = Table::default();
        items.iter().for_each(|item| row(&mut table, item));
        table
    })
}

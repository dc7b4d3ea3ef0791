//! Commands and their flags.

mod attachment;
mod backup;
mod complete;
mod connect;
mod context;
mod delete;
mod describe;
mod events;
mod export;
mod get;
mod history;
mod host;
mod image;
mod intent;
mod inventory;
mod migrate;
mod plan;
mod progress;
mod show;
mod switch;
mod tables;
mod top;
mod users;
mod what;
mod ztp;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};
use fabric_lab as lab;
use fabric_lab::say;
use vfabric_api::service::Outcome;
use vfabric_api::status::{Applied, Progress};

use connect::Connect;
use show::{Format, Table};

/// Command line of the fabric.
#[derive(Debug, Parser)]
#[command(version, about)]
pub struct Cli {
    #[command(flatten)]
    connect: Connect,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Apply an intent file as one transaction
    Apply(intent::ApplyArgs),
    /// Show what applying an intent file would change, in objects and on each device
    Plan(intent::PlanArgs),
    /// Show objects or the state of the fabric
    Get(get::GetArgs),
    /// Show everything about an object or a device
    Describe(describe::DescribeArgs),
    /// Delete objects by name, or the objects in an intent file
    Delete(delete::DeleteArgs),
    /// Print vDCs as an intent file
    Export(export::ExportArgs),
    /// Attach and detach workloads, and move them into other networks or to other hosts
    #[command(subcommand)]
    Attachment(attachment::Command),
    /// Show what changed, when, by whom and why
    History(history::HistoryArgs),
    /// Show changes as they happen
    Watch(history::WatchArgs),
    /// Show how the intent of two revisions differs, or how a file differs from what is stored
    Diff(history::DiffArgs),
    /// Restore the intent of an older revision
    Rollback(history::RollbackArgs),
    /// Fetch a backup of the controller's store while it is in use
    Backup(backup::BackupArgs),
    /// Show how busy devices are, or what one device holds in each table
    Top(top::TopArgs),
    /// Show recent events: lost devices, objects that wait or are refused
    Events(events::EventsArgs),
    /// Show the caller's identity and roles
    Whoami(Output),
    /// Show and change users and their roles
    #[command(subcommand)]
    User(users::UserCommand),
    /// Create, show and revoke tokens of users
    #[command(subcommand)]
    Token(users::TokenCommand),
    /// Show calls that changed something or were refused
    Audit(users::AuditArgs),
    /// Show and change the inventory: switches, links and hosts
    #[command(subcommand)]
    Inventory(inventory::Command),
    /// Create tokens with which hosts enrol
    #[command(subcommand)]
    Host(host::Command),
    /// Restart, replace and retire switches, install their software, and create tokens with which they enrol
    #[command(subcommand)]
    Switch(switch::Command),
    /// Show how switches come into service
    #[command(subcommand)]
    Ztp(ztp::Command),
    /// Upload, list and delete images that switches install
    #[command(subcommand)]
    Image(image::Command),
    /// Show the fabric at a glance
    Status(Output),
    /// Show and change the controllers that this command line knows
    #[command(subcommand)]
    Context(context::Command),
    /// Print a script that completes words and names in a shell
    Completion(complete::CompletionArgs),
    /// Check an intent on a fabric of software switches against expectations
    Check(lab::expect::Check),
    /// Build, check and remove a whole fabric on this machine
    #[command(subcommand)]
    Lab(lab::Command),
}

#[derive(Debug, Args)]
struct Output {
    /// How to print it
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    output: Format,
}

fn seconds(wait: f64) -> Result<Option<Duration>> {
    let duration = Duration::try_from_secs_f64(wait).context("--wait: expected a number of seconds")?;
    Ok(Some(duration).filter(|d| !d.is_zero()))
}

/// Runs one command.
///
/// # Errors
/// The command failed; the error says why.
pub fn run(cli: Cli) -> Result<ExitCode> {
    if let Command::Completion(args) = &cli.command {
        return complete::script(args);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let (connect, command) = match cli.command {
        Command::Lab(command) => return lab::run(command, &runtime),
        Command::Check(check) => {
            return Ok(lab::expect::run(&check, &runtime).unwrap_or_else(|error| {
                eprintln!("fabricctl check: {error:#}");
                lab::expect::COULD_NOT_RUN.into()
            }));
        }
        Command::Context(command) => return context::run(command, &cli.connect),
        command => (cli.connect, command),
    };
    let session = connect.session()?;
    runtime.block_on(async move {
        let client = &session.client;
        match command {
            Command::Apply(args) => intent::apply(&session, args).await,
            Command::Plan(args) => intent::plan(&session, args).await,
            Command::Get(args) => get::get(&session, args).await,
            Command::Describe(args) => describe::describe(&session, args).await,
            Command::Delete(args) => delete::delete(&session, args).await,
            Command::Export(args) => export::export(&session, args).await,
            Command::Attachment(command) => attachment::run(&session, command).await,
            Command::History(args) => history::history(&session, args).await,
            Command::Watch(args) => history::watch(&session, args).await,
            Command::Diff(args) => history::diff(&session, args).await,
            Command::Rollback(args) => history::rollback(client, args).await,
            Command::Events(args) => events::events(&session, args).await,
            Command::Backup(args) => backup::backup(client, args).await,
            Command::Top(args) => top::top(&session, args).await,
            Command::Whoami(output) => users::whoami(client, output).await,
            Command::User(command) => users::user(client, command).await,
            Command::Token(command) => users::token(client, command).await,
            Command::Audit(args) => users::audit(&session, args).await,
            Command::Inventory(command) => inventory::run(client, command).await,
            Command::Host(command) => host::run(client, command).await,
            Command::Switch(command) => switch::run(client, command).await,
            Command::Ztp(command) => ztp::run(&session, command).await,
            Command::Image(command) => image::run(client, command).await,
            Command::Status(output) => {
                let (status, links) = (client.fabric().await?, client.links().await?);
                output.output.print(&status, || tables::fabric(&status, &links))
            }
            Command::Completion(_) | Command::Context(_) | Command::Lab(_) | Command::Check(_) => {
                unreachable!("handled above")
            }
        }
    })
}

/// Prints the progress of the devices; fails when some have not applied the change in time.
fn report(outcome: &Outcome) -> ExitCode {
    outcome.applied.as_ref().map_or(ExitCode::SUCCESS, applied_on)
}

/// Prints the progress of the devices; fails when some have not applied the change.
fn applied_on(applied: &Applied) -> ExitCode {
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

fn rows<T: serde::Serialize>(items: Vec<T>, format: Format, row: fn(&mut Table, &T)) -> Result<ExitCode> {
    format.print(&items, || {
        let mut table = Table::default();
        items.iter().for_each(|item| row(&mut table, item));
        table
    })
}

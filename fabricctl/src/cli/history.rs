//! The past: `history`, `diff`, `rollback`.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};
use clap::Args;
use fabric_lab::{out, say};
use vfabric_api::client::{Client, Watched};
use vfabric_api::history::{Objects, Revision};
use vfabric_api::ident::Name;
use vfabric_api::kind::Key;
use vfabric_api::service::{Origin, Rollback};

use super::connect::{OfVdc, Session};
use super::show::{Format, Table, sign};
use super::{Output, intent, plan, report, seconds};

#[derive(Debug, Args)]
pub(super) struct HistoryArgs {
    /// Show one revision with everything that it changed
    revision: Option<u64>,
    /// Most revisions to show
    #[arg(long, default_value_t = 20)]
    limit: usize,
    /// Only revisions below this one
    #[arg(long)]
    before: Option<u64>,
    #[command(flatten)]
    of: OfVdc,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Args)]
pub(super) struct WatchArgs {
    #[command(flatten)]
    of: OfVdc,
    /// Begin after this revision [default: now]
    #[arg(long)]
    after: Option<u64>,
    /// Print each change as a line of JSON
    #[arg(long)]
    json: bool,
}

/// Pause before a connection that ended is opened again.
const AGAIN: Duration = Duration::from_millis(200);

#[derive(Debug, Args)]
pub(super) struct DiffArgs {
    /// The earlier revision
    #[arg(required_unless_present = "file", conflicts_with = "file")]
    from: Option<u64>,
    /// The later one [default: the last]
    to: Option<u64>,
    /// Compare an intent file (YAML, - for standard input) with what is stored; ends with 1 if they differ
    #[arg(short, long)]
    file: Option<PathBuf>,
    /// With a file: objects of the named vDCs that the file does not name are a difference, too
    #[arg(long, requires = "file")]
    prune: bool,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Args)]
pub(super) struct RollbackArgs {
    /// The revision whose intent is to be restored
    revision: u64,
    /// Only this vDC
    #[arg(short = 'n', long)]
    vdc: Option<Name>,
    /// Only show what would change
    #[arg(long)]
    dry_run: bool,
    /// Why, for the history
    #[arg(long, default_value = "")]
    reason: String,
    /// Seconds to wait until every device has applied it; 0 does not wait
    #[arg(long, default_value_t = 30.0)]
    wait: f64,
}

pub(super) async fn history(session: &Session, args: HistoryArgs) -> Result<ExitCode> {
    let client = &session.client;
    if let Some(number) = args.revision {
        let revision = client.revision(number).await?;
        if !matches!(args.output.output, Format::Table) {
            return args.output.output.print(&revision, Table::default);
        }
        say!("revision {number}, {}", time(revision.time_ms));
        for (what, words) in [("by", &revision.origin.author), ("because", &revision.origin.reason)] {
            if !words.is_empty() {
                say!("{what} {words}");
            }
        }
        objects(&revision.objects, &revision.inventory);
        return Ok(ExitCode::SUCCESS);
    }
    let history = client
        .history(session.of_vdc(&args.of).as_ref(), args.before, args.limit)
        .await?;
    let done = args.output.output.print(&history, || {
        let mut table = Table::default();
        history.items.iter().for_each(|item| row(&mut table, item));
        table
    })?;
    if let (Format::Table, Some(next)) = (args.output.output, history.next) {
        say!("more: fabricctl history --before {next}");
    }
    Ok(done)
}

/// Follows changes until it is interrupted; a connection that ends is opened again.
pub(super) async fn watch(session: &Session, args: WatchArgs) -> Result<ExitCode> {
    let (client, vdc) = (&session.client, session.of_vdc(&args.of));
    let mut after = args.after;
    let mut printed = Table::default();
    loop {
        let mut watch = client.watch(after, vdc.as_ref()).await?;
        while let Some(watched) = watch.next().await? {
            let revision = match watched {
                Watched::Bookmark(number) => {
                    after = Some(number);
                    continue;
                }
                Watched::Revision(revision) => revision,
            };
            after = Some(revision.revision);
            if out::is_gone() {
                return Ok(ExitCode::SUCCESS);
            }
            if args.json {
                say!("{}", serde_json::to_string(&revision)?);
            } else {
                row(&mut printed, &revision);
                printed.line();
            }
        }
        if out::is_gone() {
            return Ok(ExitCode::SUCCESS);
        }
        tokio::time::sleep(AGAIN).await;
    }
}

pub(super) async fn diff(session: &Session, args: DiffArgs) -> Result<ExitCode> {
    if let Some(file) = &args.file {
        return intent::diff(session, file, args.prune, args.output.output).await;
    }
    let client = &session.client;
    let from = args.from.context("the earlier revision is missing")?;
    let to = match args.to {
        Some(to) => to,
        None => client.fabric().await?.revision,
    };
    let diff = client.diff(from, to).await?;
    if !matches!(args.output.output, Format::Table) {
        return args.output.output.print(&diff, Table::default);
    }
    objects(&diff.objects, &diff.inventory);
    if diff.objects.is_empty() && diff.inventory.is_empty() {
        say!("no difference");
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn rollback(client: &Client, args: RollbackArgs) -> Result<ExitCode> {
    let rollback = Rollback {
        to: args.revision,
        vdc: args.vdc,
        dry_run: args.dry_run,
        origin: Origin {
            reason: args.reason,
            ..Origin::default()
        },
    };
    let outcome = client.rollback(&rollback, seconds(args.wait)?).await?;
    plan::objects(&outcome.committed);
    outcome.committed.plan.iter().for_each(plan::devices);
    say!("revision {}", outcome.committed.revision);
    Ok(report(&outcome))
}

fn row(table: &mut Table, revision: &Revision) {
    let objects = &revision.objects;
    let updated: Vec<Key> = objects.updated.iter().map(|change| change.key.clone()).collect();
    let lists = [('+', &objects.created), ('~', &updated), ('-', &objects.deleted)];
    let words = lists
        .into_iter()
        .filter(|(_, keys)| !keys.is_empty())
        .map(|(sign, keys)| match keys.as_slice() {
            [key] => format!("{sign}{key}"),
            keys => format!("{sign}{}", keys.len()),
        });
    let mut what: Vec<String> = words.collect();
    what.extend(revision.inventory.iter().cloned());
    table.row([
        ("REVISION", revision.revision.to_string()),
        ("TIME", time(revision.time_ms)),
        ("AUTHOR", revision.origin.author.clone()),
        ("CHANGES", what.join(" ")),
        ("REASON", revision.origin.reason.clone()),
    ]);
}

fn objects(objects: &Objects, inventory: &[String]) {
    let colour = std::io::stdout().is_terminal();
    objects
        .created
        .iter()
        .for_each(|key| say!("{} {key}", sign('+', colour)));
    for change in &objects.updated {
        say!("{} {}", sign('~', colour), change.key);
        change
            .fields
            .iter()
            .for_each(|field| say!("    {}", plan::words(field)));
    }
    objects
        .deleted
        .iter()
        .for_each(|key| say!("{} {key}", sign('-', colour)));
    inventory.iter().for_each(|item| say!("{} {item}", sign('~', colour)));
}

/// A time by the controller's clock, in UTC (RFC 3339).
pub(super) fn time(ms: u64) -> String {
    let time = SystemTime::UNIX_EPOCH + Duration::from_millis(ms);
    humantime::format_rfc3339_seconds(time).to_string()
}

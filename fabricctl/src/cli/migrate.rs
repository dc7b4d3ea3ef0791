//! Live migration: `attachment migrate|activate|cancel`.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use fabric_lab::say;
use vfabric_api::ident::Name;
use vfabric_api::intent::{AttachmentSpec, Migration, MigrationPhase, Place};
use vfabric_api::kind::{Key, Spec};
use vfabric_api::status::Attachment;

use super::attachment::{Wait, attachment};
use super::connect::Session;
use super::{applied_on, seconds};

/// How often to look whether a workload has moved.
const LOOK: Duration = Duration::from_millis(200);

#[derive(Debug, Args)]
pub(super) struct To {
    /// The host that the workload moves to
    #[arg(long)]
    to: Name,
    /// Name of its network namespace there [default: as now]
    #[arg(long)]
    netns: Option<String>,
    /// Name of the interface in it [default: as now]
    #[arg(long)]
    interface: Option<String>,
    /// Seconds until the migration is called off if the workload does not come
    #[arg(long, default_value_t = Migration::DEFAULT_TIMEOUT_S)]
    timeout: u32,
    /// Seconds to wait afterwards until the workload has moved and the migration is over; 0 does not wait
    #[arg(long, default_value_t = 0.0)]
    moved: f64,
}

/// Prepares the target.
pub(super) async fn prepare(session: &Session, key: Key, to: To, wait: &Wait) -> Result<ExitCode> {
    let migration = Migration {
        host: to.to.clone(),
        netns: to.netns,
        interface: to.interface,
        phase: MigrationPhase::Prepared,
        timeout_s: to.timeout,
    };
    let has = attachment(session.client.get(&key).await?)?;
    let target = migration.target(&has.spec.place);
    let done = change(session, &key, has, Some(migration), wait).await?;
    say!("> {key} is prepared on {}", to.to);
    if done != ExitCode::SUCCESS {
        return Ok(done);
    }
    match (seconds(to.moved)?, target) {
        (Some(patience), Some(target)) => moved(session, &key, &target, patience).await,
        _ => Ok(done),
    }
}

/// Makes a prepared migration active.
pub(super) async fn activate(session: &Session, key: Key, wait: &Wait) -> Result<ExitCode> {
    let has = attachment(session.client.get(&key).await?)?;
    let migration = has.spec.migration.clone();
    let mut migration = migration.with_context(|| format!("{key} does not migrate: expected a prepared migration"))?;
    migration.phase = MigrationPhase::Active;
    let host = migration.host.clone();
    let done = change(session, &key, has, Some(migration), wait).await?;
    say!("> {key} is served by {host}");
    Ok(done)
}

/// Calls a migration off.
pub(super) async fn cancel(session: &Session, key: Key, wait: &Wait) -> Result<ExitCode> {
    let has = attachment(session.client.get(&key).await?)?;
    if has.spec.migration.is_none() {
        say!("= {key} does not migrate");
        return Ok(ExitCode::SUCCESS);
    }
    let done = change(session, &key, has, None, wait).await?;
    say!("< {key} stays where it was");
    Ok(done)
}

/// Changes the migration of an attachment, unless somebody else has changed the attachment meanwhile.
async fn change(
    session: &Session,
    key: &Key,
    has: Attachment,
    migration: Option<Migration>,
    wait: &Wait,
) -> Result<ExitCode> {
    let spec = AttachmentSpec { migration, ..has.spec };
    let patience = seconds(wait.wait)?;
    let changed = session
        .client
        .replace(&key.vdc, &Spec::Attachment(spec), Some(has.revision), patience)
        .await?;
    let changed = attachment(changed)?;
    Ok(match patience {
        Some(_) => applied_on(&changed.applied),
        None => ExitCode::SUCCESS,
    })
}

/// Waits until a migration is over; fails unless the attachment is at its target then.
async fn moved(session: &Session, key: &Key, target: &Place, patience: Duration) -> Result<ExitCode> {
    let end = Instant::now() + patience;
    loop {
        let spec = attachment(session.client.get(key).await?)?.spec;
        match &spec.migration {
            None if spec.place == *target => {
                say!("~ {key} has moved");
                return Ok(ExitCode::SUCCESS);
            }
            None => bail!("{key} has not moved: the migration was called off (`fabricctl events` says why)"),
            Some(_) if Instant::now() >= end => bail!("{key} has not moved yet"),
            Some(_) => tokio::time::sleep(LOOK).await,
        }
    }
}

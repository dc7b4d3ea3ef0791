//! `backup`: a copy of the controller's store in a file.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use fabric_lab::say;
use vfabric_api::client::Client;

#[derive(Debug, Args)]
pub(super) struct BackupArgs {
    /// The file to write; it must not exist yet. It contains the hashes of tokens, so only its owner can read it
    file: PathBuf,
}

/// The name of the backup until it is complete.
fn part(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".part");
    name.into()
}

pub(super) async fn backup(client: &Client, args: BackupArgs) -> Result<ExitCode> {
    let file = &args.file;
    if file.exists() {
        bail!("{} exists already: name another file", file.display());
    }
    let part = part(file);
    let wrong = || format!("cannot write {}", part.display());
    let mut options = File::options();
    let mut to = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&part)
        .with_context(wrong)?;
    let fetched = fetch(client, &mut to).await;
    let whole = fetched.and_then(|fetched| {
        to.sync_all().with_context(wrong)?;
        std::fs::rename(&part, file).with_context(wrong)?;
        Ok(fetched)
    });
    match whole {
        Ok((octets, revision)) => {
            let revision = revision
                .map(|revision| format!("revision {revision}, "))
                .unwrap_or_default();
            say!("{}: {revision}{octets} octets", file.display());
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            // An incomplete backup is useless.
            let _ = std::fs::remove_file(&part);
            Err(error)
        }
    }
}

/// Returns the number of octets and the revision.
async fn fetch(client: &Client, to: &mut File) -> Result<(usize, Option<u64>)> {
    let mut backup = client.backup().await?;
    let mut octets = 0;
    while let Some(some) = backup.next().await? {
        to.write_all(&some).context("cannot write the backup")?;
        octets += some.len();
    }
    Ok((octets, backup.revision))
}

//! `image`: images that switches fetch from the provisioning server.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use fabric_lab::say;
use ring::digest::{Context, SHA256};
use vfabric_api::client::Client;
use vfabric_api::ident::{Label, Name};
use vfabric_api::image::{Image, NewImage};

use super::Output;
use super::history::time;
use super::show::Table;

/// Octets that are hashed at a time.
const CHUNK: usize = 1 << 20;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Upload an image. It is stored whole, with the right digest, or not at all
    Push(PushArgs),
    /// List the images, with the switches that need them
    List(ListArgs),
    /// Delete an image that no switch needs
    Delete(DeleteArgs),
}

#[derive(Debug, Args)]
pub(super) struct PushArgs {
    /// The file
    file: PathBuf,
    /// Name of the image [default: that of the file]
    #[arg(long)]
    name: Option<Label>,
    /// The release in the image, as the inventory's `software` names it
    #[arg(long)]
    software: Option<Label>,
    /// A model that the image is for; repeat it for several [default: all models]
    #[arg(long = "model")]
    models: Vec<Label>,
}

#[derive(Debug, Args)]
pub(super) struct ListArgs {
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Args)]
pub(super) struct DeleteArgs {
    /// The image
    name: Label,
    /// Delete it even if it is the software of a switch
    #[arg(long)]
    force: bool,
}

pub(super) async fn run(client: &Client, command: Command) -> Result<ExitCode> {
    match command {
        Command::Push(args) => push(client, args).await,
        Command::List(args) => list(client, &args).await,
        Command::Delete(args) => {
            client.delete_image(&args.name, args.force).await?;
            say!("image {} is deleted", args.name);
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Digest and size of a file.
fn digest(path: &Path) -> std::io::Result<(String, u64)> {
    let mut file = std::fs::File::open(path)?;
    let (mut context, mut octets, mut chunk) = (Context::new(&SHA256), 0, vec![0; CHUNK]);
    loop {
        let length = file.read(&mut chunk)?;
        if length == 0 {
            break;
        }
        context.update(chunk.get(..length).unwrap_or_default());
        octets += u64::try_from(length).unwrap_or_default();
    }
    let digest = context.finish();
    Ok((digest.as_ref().iter().map(|b| format!("{b:02x}")).collect(), octets))
}

async fn push(client: &Client, args: PushArgs) -> Result<ExitCode> {
    let wrong = || format!("cannot read {}", args.file.display());
    let (sha256, octets) = digest(&args.file).with_context(wrong)?;
    let name = match args.name {
        Some(name) => name,
        None => {
            let name = args.file.file_name().unwrap_or_default().to_string_lossy();
            name.parse()
                .context("the name of the file cannot be that of an image: use --name")?
        }
    };
    let image = NewImage {
        name,
        sha256,
        software: args.software,
        models: args.models,
        octets: Some(octets),
    };
    let file = tokio::fs::File::open(&args.file).await.with_context(wrong)?;
    let stored = client.put_image(&image, file).await?;
    say!(
        "image {}: {} octets, sha256 {}",
        stored.name,
        stored.octets,
        stored.sha256
    );
    Ok(ExitCode::SUCCESS)
}

fn words(labels: &[Label]) -> String {
    labels.iter().map(Label::as_str).collect::<Vec<_>>().join(" ")
}

fn row(table: &mut Table, image: &Image) {
    let switches: Vec<&str> = image.switches.iter().map(Name::as_str).collect();
    table.row([
        ("NAME", image.name.to_string()),
        (
            "SOFTWARE",
            image.software.as_ref().map(ToString::to_string).unwrap_or_default(),
        ),
        ("MODELS", words(&image.models)),
        ("OCTETS", image.octets.to_string()),
        ("SHA256", image.sha256.get(..12).unwrap_or_default().to_owned()),
        ("UPLOADED", image.uploaded_ms.map(time).unwrap_or_default()),
        ("SWITCHES", switches.join(" ")),
    ]);
}

async fn list(client: &Client, args: &ListArgs) -> Result<ExitCode> {
    let images = client.images().await?;
    args.output.output.print(&images, || {
        let mut table = Table::default();
        images.iter().for_each(|image| row(&mut table, image));
        table
    })
}

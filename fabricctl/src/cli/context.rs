//! `context`: several controllers in one configuration file.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::Subcommand;
use clap_complete::engine::ArgValueCandidates;
use fabric_lab::say;
use vfabric_api::client::{Contexts, Settings};
use vfabric_api::ident::Name;

use super::Output;
use super::complete;
use super::connect::Connect;
use super::show::Table;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Show the contexts; the current one has a star
    List(Output),
    /// Make a context the current one
    Use {
        /// Its name
        #[arg(add = ArgValueCandidates::new(complete::contexts))]
        name: String,
    },
    /// Create a context, or change the settings given by connection flags; the first context becomes the current one
    Set {
        /// Its name
        name: String,
        /// The default vDC
        #[arg(long, value_name = "VDC")]
        default_vdc: Option<Name>,
    },
    /// Delete a context
    Delete {
        /// Its name
        #[arg(add = ArgValueCandidates::new(complete::contexts))]
        name: String,
    },
}

/// Runs one command.
pub(super) fn run(command: Command, flags: &Connect) -> Result<ExitCode> {
    let path = Contexts::default_path();
    let mut contexts = Contexts::load(&path)?;
    match command {
        Command::List(output) => return list(&contexts, &output),
        Command::Use { name } => {
            contexts.get(&name)?;
            say!("current context: {name}");
            contexts.current = Some(name);
        }
        Command::Set { name, default_vdc } => set(&mut contexts, name, default_vdc, flags)?,
        Command::Delete { name } => {
            contexts.get(&name)?;
            contexts.contexts.remove(&name);
            if contexts.current.as_deref() == Some(name.as_str()) {
                contexts.current = None;
                say!("no context is current now: `fabricctl context use NAME`");
            }
            say!("- context {name}");
        }
    }
    contexts
        .store(&path)
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(ExitCode::SUCCESS)
}

fn set(contexts: &mut Contexts, name: String, vdc: Option<Name>, flags: &Connect) -> Result<()> {
    if flags.context.is_some() || flags.config.is_some() {
        bail!("--context, --config: expected neither: `context set` changes the context that it names");
    }
    let absolute = |path: Option<PathBuf>| path.map(|path| std::path::absolute(&path)).transpose();
    let given = flags.flags();
    let given = Settings {
        ca: absolute(given.ca)?,
        token: absolute(given.token)?,
        client_cert: absolute(given.client_cert)?,
        client_key: absolute(given.client_key)?,
        vdc,
        ..given
    };
    let settings = given.or(contexts.contexts.get(&name).cloned().unwrap_or_default());
    if let Some(problem) = settings.problem() {
        bail!("context `{name}`: {problem}");
    }
    if !settings
        .server
        .as_deref()
        .is_some_and(|server| server.starts_with("https://"))
    {
        let server = settings.server.unwrap_or_default();
        bail!("context `{name}`: server: `{server}`: expected https://HOST:PORT");
    }
    let is_new = contexts.contexts.insert(name.clone(), settings).is_none();
    if contexts.current.is_none() {
        contexts.current = Some(name.clone());
    }
    say!("{} context {name}", if is_new { '+' } else { '~' });
    Ok(())
}

fn list(contexts: &Contexts, output: &Output) -> Result<ExitCode> {
    output.output.print(contexts, || {
        let mut table = Table::default();
        for (name, s) in &contexts.contexts {
            let is_current = contexts.current.as_ref() == Some(name);
            let show = |path: &Option<PathBuf>| path.as_deref().map(Path::display).map(|p| p.to_string());
            let proof = show(&s.token).map(|p| format!("token {p}"));
            let proof = proof.or_else(|| show(&s.client_cert).map(|p| format!("certificate {p}")));
            table.row([
                ("CURRENT", if is_current { "*" } else { "" }.to_owned()),
                ("NAME", name.clone()),
                ("SERVER", s.server.clone().unwrap_or_default()),
                ("VDC", s.vdc.as_ref().map(ToString::to_string).unwrap_or_default()),
                ("PROOF", proof.unwrap_or_default()),
            ]);
        }
        table
    })
}

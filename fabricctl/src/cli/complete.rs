//! Completion in shells: words of the command line, and names of the controller's objects.
//!
//! The shell asks this program for each completion (`COMPLETE=bash fabricctl -- WORDS`), so names are always current.
//! If the controller does not answer within [`PATIENCE`], no names are completed.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};
use clap_complete::engine::CompletionCandidate;
use clap_complete::env::Shells;
use vfabric_api::client::Contexts;
use vfabric_api::kind::Kind;

use super::connect::{Connect, InVdc, Session};
use super::what::What;

/// Longest time that a completion waits for the controller.
const PATIENCE: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

#[derive(Debug, Args)]
pub(super) struct CompletionArgs {
    /// The shell
    shell: Shell,
}

/// Prints the script with which a shell asks for completions.
pub(super) fn script(args: &CompletionArgs) -> Result<ExitCode> {
    let name = match args.shell {
        Shell::Bash => "bash",
        Shell::Zsh => "zsh",
        Shell::Fish => "fish",
    };
    let shells = Shells::builtins();
    let shell = shells.completer(name).with_context(|| name.to_owned())?;
    let mut text = Vec::new();
    shell.write_registration("COMPLETE", "fabricctl", "fabricctl", "fabricctl", &mut text)?;
    fabric_lab::out::text(format_args!("{}", String::from_utf8_lossy(&text)));
    Ok(ExitCode::SUCCESS)
}

/// The words of the command line that is being completed.
fn words() -> Vec<String> {
    let words = std::env::args_os().skip_while(|word| word != "--").skip(2);
    words.map(|word| word.to_string_lossy().into_owned()).collect()
}

/// The value of a flag in it.
fn flag(words: &[String], names: &[&str]) -> Option<String> {
    words.iter().enumerate().find_map(|(i, word)| {
        if names.contains(&word.as_str()) {
            return words.get(i + 1).cloned();
        }
        let (name, value) = word.split_once('=')?;
        names.contains(&name).then(|| value.to_owned())
    })
}

/// Asks the controller; none if it cannot be reached.
fn ask<F: Future<Output = Result<Vec<String>>>>(
    question: impl FnOnce(Session, Vec<String>) -> F,
) -> Vec<CompletionCandidate> {
    let words = words();
    let connect = Connect {
        context: flag(&words, &["--context"]),
        config: flag(&words, &["--config"]).map(Into::into),
        server: flag(&words, &["--server"]),
        ca: flag(&words, &["--ca"]).map(Into::into),
        token_file: flag(&words, &["--token-file"]).map(Into::into),
        client_cert: flag(&words, &["--client-cert"]).map(Into::into),
        client_key: flag(&words, &["--client-key"]).map(Into::into),
    };
    let answer = || -> Result<Vec<String>> {
        let session = connect.session()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async { tokio::time::timeout(PATIENCE, question(session, words)).await? })
    };
    let names = answer().unwrap_or_default();
    names.into_iter().map(CompletionCandidate::new).collect()
}

/// Contexts of the configuration file.
pub(super) fn contexts() -> Vec<CompletionCandidate> {
    let contexts = Contexts::load(&Contexts::default_path()).unwrap_or_default();
    contexts.contexts.into_keys().map(CompletionCandidate::new).collect()
}

/// What can be shown.
pub(super) fn things() -> Vec<CompletionCandidate> {
    What::words().map(CompletionCandidate::new).collect()
}

/// Kinds of objects.
pub(super) fn kinds() -> Vec<CompletionCandidate> {
    Kind::ALL
        .iter()
        .map(|kind| CompletionCandidate::new(kind.word()))
        .collect()
}

/// vDCs.
pub(super) fn vdcs() -> Vec<CompletionCandidate> {
    ask(|session, _| async move {
        let vdcs = session.client.list(Kind::Vdc, None).await?;
        Ok(vdcs.iter().map(|vdc| vdc.name().to_string()).collect())
    })
}

/// Names of the objects of the kind on the command line.
pub(super) fn names() -> Vec<CompletionCandidate> {
    ask(|session, words| async move {
        let client = &session.client;
        let verbs = words
            .iter()
            .position(|word| ["get", "describe", "delete", "top"].contains(&word.as_str()));
        let rest = verbs.map_or(&[][..], |at| words.get(at + 1..).unwrap_or_default());
        let what = rest
            .iter()
            .find_map(|word| word.parse::<What>().ok())
            .unwrap_or(What::Switches);
        let devices = async |switches: bool, hosts: bool| -> Result<Vec<String>> {
            let mut names = Vec::new();
            if switches {
                names.extend(client.switches().await?.into_iter().map(|s| s.name.to_string()));
            }
            if hosts {
                names.extend(client.hosts().await?.into_iter().map(|h| h.name.to_string()));
            }
            Ok(names)
        };
        match what {
            What::Objects(kind) => {
                let vdc = flag(&words, &["-n", "--vdc"]).map(|vdc| vdc.parse()).transpose()?;
                let vdc = match kind {
                    Kind::Vdc => None,
                    _ => Some(session.vdc(&InVdc { vdc })?),
                };
                let views = client.list(kind, vdc.as_ref()).await?;
                Ok(views.iter().map(|view| view.name().to_string()).collect())
            }
            What::Switches => devices(true, false).await,
            What::Hosts => devices(false, true).await,
            What::Drops | What::Entities => devices(true, true).await,
            What::Links => {
                let links = client.links().await?;
                Ok(links.iter().map(|l| format!("{}:{}", l.a.switch, l.a.port)).collect())
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_found_in_unfinished_words() {
        let words: Vec<String> = ["get", "nets", "-n", "blue", "--config=a.yaml", "-n"]
            .map(str::to_owned)
            .to_vec();
        assert_eq!(flag(&words, &["-n", "--vdc"]).as_deref(), Some("blue"));
        assert_eq!(flag(&words, &["--config"]).as_deref(), Some("a.yaml"));
        assert_eq!(flag(&words[5..], &["-n"]), None);
    }
}

//! `host`: how hosts get their certificates.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::{Args, Subcommand};
use clap_complete::engine::ArgValueCandidates;
use fabric_lab::say;
use vfabric_api::client::Client;
use vfabric_api::enrolment::EnrolmentTokenSpec;
use vfabric_api::ident::Name;

use super::complete;
use super::history::time;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Create a one-time token with which a host's agent gets its certificate, and print it with the authority's fingerprint
    Token(TokenArgs),
}

#[derive(Debug, Args)]
pub(super) struct TokenArgs {
    /// The host, as the inventory names it
    #[arg(add = ArgValueCandidates::new(complete::names))]
    host: Name,
    /// How long the token is valid, as in 30m or 2d; at most 7 days
    #[arg(long, default_value = "1h", value_parser = humantime::parse_duration)]
    lifetime: Duration,
}

pub(super) async fn run(client: &Client, command: Command) -> Result<ExitCode> {
    let Command::Token(args) = command;
    let spec = EnrolmentTokenSpec {
        lifetime_s: Some(args.lifetime.as_secs()),
    };
    let made = client.make_host_token(&args.host, spec).await?;
    // Only what belongs in the file goes to standard output.
    eprintln!(
        "for host {}, valid until {}; put this into the file of `vtep-agent --enrol`",
        made.host,
        time(made.expires_ms)
    );
    say!("{} {}", made.token, made.authority);
    Ok(ExitCode::SUCCESS)
}

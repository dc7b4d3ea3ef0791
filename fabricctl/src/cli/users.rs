//! Users and their rights: `whoami`, `user`, `token`, `audit`.

use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use fabric_lab::say;
use vfabric_api::access::{AuditRecord, Binding, Role, TokenSpec, User, UserKey, UserSpec};
use vfabric_api::client::Client;
use vfabric_api::ident::Name;

use super::connect::{OfVdc, Session};
use super::history::time;
use super::show::{Format, Table};
use super::{Output, rows};

#[derive(Debug, Args)]
pub(super) struct Of {
    /// Name of the user
    name: Name,
    /// The vDC that the user belongs to [default: the fabric]
    #[arg(short = 'n', long)]
    vdc: Option<Name>,
}

impl Of {
    fn key(self) -> UserKey {
        UserKey {
            vdc: self.vdc,
            name: self.name,
        }
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum UserCommand {
    /// Show users of the fabric or of a vDC
    List {
        /// The vDC [default: the fabric]
        #[arg(short = 'n', long)]
        vdc: Option<Name>,
        #[command(flatten)]
        output: Output,
    },
    /// Create a user, or replace its settings; its tokens stay
    Set {
        #[command(flatten)]
        of: Of,
        /// A role, as in fabric-viewer, or vdc-editor=VDC; repeat it for several
        #[arg(long = "role", value_name = "ROLE[=VDC]")]
        roles: Vec<RoleOf>,
        /// Text for people
        #[arg(long, default_value = "")]
        description: String,
        /// The user's subject at the identity provider
        #[arg(long)]
        oidc_subject: Option<String>,
    },
    /// Delete a user and its tokens
    Delete {
        #[command(flatten)]
        of: Of,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum TokenCommand {
    /// Create a token and print it; it is not shown again
    Create {
        #[command(flatten)]
        of: Of,
        /// What it is for
        #[arg(long, default_value = "")]
        description: String,
        /// How long it is valid, as in 12h or 30d
        #[arg(long, default_value = "30d", value_parser = humantime::parse_duration)]
        lifetime: Duration,
    },
    /// Show the tokens of a user, without their secrets
    List {
        #[command(flatten)]
        of: Of,
        #[command(flatten)]
        output: Output,
    },
    /// Revoke a token
    Revoke {
        #[command(flatten)]
        of: Of,
        /// Its id, as `token list` shows it
        id: String,
    },
}

#[derive(Debug, Args)]
pub(super) struct AuditArgs {
    #[command(flatten)]
    of: OfVdc,
    /// Most records to show
    #[arg(long, default_value_t = 50)]
    limit: usize,
    /// Only records before this one
    #[arg(long)]
    before: Option<u64>,
    #[command(flatten)]
    output: Output,
}

/// A role in the form of the command line.
#[derive(Debug, Clone)]
pub(super) struct RoleOf(Binding);

impl FromStr for RoleOf {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (role, vdc) = match text.split_once('=') {
            Some((role, vdc)) => (role, Some(vdc.parse::<Name>().map_err(|e| e.to_string())?)),
            None => (text, None),
        };
        let role = serde_json::from_value::<Role>(role.into());
        let expected = "expected fabric-admin, fabric-viewer, vdc-admin, vdc-editor or vdc-viewer";
        let role = role.map_err(|_| expected.to_owned())?;
        Ok(Self(Binding { role, vdc }))
    }
}

fn roles(roles: &[Binding]) -> String {
    let word = |b: &Binding| {
        b.vdc
            .as_ref()
            .map_or_else(|| b.role.to_string(), |vdc| format!("{}={vdc}", b.role))
    };
    roles.iter().map(word).collect::<Vec<_>>().join(" ")
}

fn user_row(table: &mut Table, user: &User) {
    table.row([
        ("NAME", user.spec.name.to_string()),
        ("ROLES", roles(&user.spec.roles)),
        ("TOKENS", user.tokens.len().to_string()),
        ("SUBJECT", user.spec.oidc_subject.clone().unwrap_or_default()),
        ("DESCRIPTION", user.spec.description.clone()),
    ]);
}

pub(super) async fn whoami(client: &Client, output: Output) -> Result<ExitCode> {
    let me = client.whoami().await?;
    output.output.print(&me, || {
        let mut table = Table::default();
        table.row([
            ("USER", me.user.clone()),
            ("PROOF", me.proof.clone()),
            ("ROLES", roles(&me.roles)),
            ("ENDS", me.expires_ms.map(time).unwrap_or_default()),
        ]);
        table
    })
}

pub(super) async fn user(client: &Client, command: UserCommand) -> Result<ExitCode> {
    match command {
        UserCommand::List { vdc, output } => rows(client.users(vdc.as_ref()).await?, output.output, user_row),
        UserCommand::Set {
            of,
            roles,
            description,
            oidc_subject,
        } => {
            let spec = UserSpec {
                name: of.name,
                description,
                roles: roles.into_iter().map(|RoleOf(binding)| binding).collect(),
                oidc_subject,
            };
            let user = client.put_user(of.vdc.as_ref(), &spec).await?;
            rows(vec![user], Format::Table, user_row)
        }
        UserCommand::Delete { of } => {
            let key = of.key();
            client.delete_user(&key).await?;
            say!("- user {key}");
            Ok(ExitCode::SUCCESS)
        }
    }
}

pub(super) async fn token(client: &Client, command: TokenCommand) -> Result<ExitCode> {
    match command {
        TokenCommand::Create {
            of,
            description,
            lifetime,
        } => {
            let spec = TokenSpec {
                description,
                lifetime_s: Some(lifetime.as_secs()),
            };
            let new = client.make_token(&of.key(), &spec).await?;
            // Only the token goes to standard output, so that it can be redirected into a file.
            eprintln!("token {}, valid until {}", new.token.id, time(new.token.expires_ms));
            say!("{}", new.secret);
            Ok(ExitCode::SUCCESS)
        }
        TokenCommand::List { of, output } => {
            let user = client.user(&of.key()).await.context("the tokens of the user")?;
            rows(user.tokens, output.output, |table, token| {
                table.row([
                    ("ID", token.id.clone()),
                    ("MADE", time(token.created_ms)),
                    ("ENDS", time(token.expires_ms)),
                    ("DESCRIPTION", token.description.clone()),
                ]);
            })
        }
        TokenCommand::Revoke { of, id } => {
            let key = of.key();
            client.revoke_token(&key, &id).await?;
            say!("- token {id} of user {key}");
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn record(table: &mut Table, r: &AuditRecord) {
    let caller = if r.caller.is_empty() { "nobody" } else { &r.caller };
    table.row([
        ("RECORD", r.seq.to_string()),
        ("TIME", time(r.time_ms)),
        ("CALLER", caller.to_owned()),
        ("FROM", r.peer.clone()),
        ("CALL", format!("{} {}", r.method, r.path)),
        ("STATUS", r.status.to_string()),
        ("REFUSED", r.refused.clone().unwrap_or_default()),
    ]);
}

pub(super) async fn audit(session: &Session, args: AuditArgs) -> Result<ExitCode> {
    let vdc = session.of_vdc(&args.of);
    let page = session.client.audit(vdc.as_ref(), args.before, args.limit).await?;
    let next = page.next;
    let done = rows(page.items, args.output.output, record)?;
    if let (Format::Table, Some(next)) = (args.output.output, next) {
        say!("more: fabricctl audit --before {next}");
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_read_as_they_are_shown() {
        for text in ["fabric-admin", "vdc-editor=acme"] {
            let RoleOf(binding) = text.parse().unwrap();
            assert_eq!(roles(&[binding]), text);
        }
        assert!("admin".parse::<RoleOf>().unwrap_err().contains("vdc-editor"));
        assert!("vdc-editor=No_pe".parse::<RoleOf>().is_err());
    }
}

//! Which controller a command talks to, and with which credentials.
//!
//! Each setting comes from its flag, or else from its environment variable, or else from a context or settings file.
//! The context or file in force is the first of these that exists: `--context`, `--config`, `VFABRIC_CONTEXT`,
//! `VFABRIC_CONFIG`, the current context, `~/.config/vfabric/client.yaml`.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use clap_complete::engine::ArgValueCandidates;
use vfabric_api::client::{Client, Config, Contexts, Settings};
use vfabric_api::ident::Name;
use vfabric_api::kind::{Key, Kind};

use super::complete;

/// The connection, as flags.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Connection")]
pub(super) struct Connect {
    /// Context to use (VFABRIC_CONTEXT) [default: the current one]
    #[arg(long, global = true, conflicts_with = "config", add = ArgValueCandidates::new(complete::contexts))]
    pub(super) context: Option<String>,
    /// File with the settings of one controller, instead of a context (VFABRIC_CONFIG)
    #[arg(long, global = true, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Address of the controller, https://HOST:PORT (VFABRIC_SERVER)
    #[arg(long, global = true, value_name = "URL")]
    pub(super) server: Option<String>,
    /// File with the authorities to trust, PEM (VFABRIC_CA_FILE)
    #[arg(long, global = true, value_name = "FILE")]
    pub(super) ca: Option<PathBuf>,
    /// File with the token (VFABRIC_TOKEN_FILE; VFABRIC_TOKEN holds the token itself)
    #[arg(long, global = true, value_name = "FILE")]
    pub(super) token_file: Option<PathBuf>,
    /// File with a client certificate, PEM (VFABRIC_CLIENT_CERT)
    #[arg(long, global = true, value_name = "FILE")]
    pub(super) client_cert: Option<PathBuf>,
    /// File with its key, PEM (VFABRIC_CLIENT_KEY)
    #[arg(long, global = true, value_name = "FILE")]
    pub(super) client_key: Option<PathBuf>,
}

/// The vDC of a command, as a flag.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct InVdc {
    /// The vDC (VFABRIC_VDC) [default: that of the context]
    #[arg(short = 'n', long = "vdc", value_name = "VDC", add = ArgValueCandidates::new(complete::vdcs))]
    pub(super) vdc: Option<Name>,
}

/// The vDC whose objects a command shows, or all vDCs, as flags.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct OfVdc {
    #[command(flatten)]
    vdc: InVdc,
    /// Of all vDCs that you may see, and of the fabric
    #[arg(short = 'A', long, conflicts_with = "vdc")]
    all_vdcs: bool,
}

/// A connection, and the default vDC.
pub(super) struct Session {
    pub(super) client: Client,
    vdc: Option<Name>,
}

/// An environment variable that is set and not empty.
fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

fn text(name: &str) -> Result<Option<String>> {
    let read = |value: OsString| {
        value
            .into_string()
            .ok()
            .with_context(|| format!("{name}: expected UTF-8"))
    };
    variable(name).map(read).transpose()
}

impl Connect {
    /// The settings of the flags.
    pub(super) fn flags(&self) -> Settings {
        Settings {
            server: self.server.clone(),
            ca: self.ca.clone(),
            token: self.token_file.clone(),
            client_cert: self.client_cert.clone(),
            client_key: self.client_key.clone(),
            vdc: None,
        }
    }

    /// The context or file in force.
    fn base(&self) -> Result<Settings> {
        let named = |name: &str| -> Result<Settings> {
            let path = Contexts::default_path();
            let contexts = Contexts::load(&path)?;
            Ok(contexts.get(name)?.clone())
        };
        if let Some(name) = &self.context {
            return named(name);
        }
        if let Some(path) = &self.config {
            return Ok(Config::settings(path)?);
        }
        if let Some(name) = text("VFABRIC_CONTEXT")? {
            return named(&name).context("VFABRIC_CONTEXT");
        }
        if let Some(path) = variable("VFABRIC_CONFIG") {
            return Config::settings(&PathBuf::from(path)).context("VFABRIC_CONFIG");
        }
        let contexts = Contexts::load(&Contexts::default_path())?;
        if let Some(name) = &contexts.current {
            return Ok(contexts.get(name)?.clone());
        }
        let path = Config::default_path();
        if path.exists() {
            return Ok(Config::settings(&path)?);
        }
        Ok(Settings::default())
    }

    /// Connects.
    ///
    /// # Errors
    /// Settings are missing or wrong.
    pub(super) fn session(&self) -> Result<Session> {
        let vdc = text("VFABRIC_VDC")?;
        let vdc = vdc.map(|vdc| vdc.parse::<Name>().map_err(anyhow::Error::from));
        let path = |name: &str| variable(name).map(PathBuf::from);
        let environment = Settings {
            server: text("VFABRIC_SERVER")?,
            ca: path("VFABRIC_CA_FILE"),
            token: path("VFABRIC_TOKEN_FILE"),
            client_cert: path("VFABRIC_CLIENT_CERT"),
            client_key: path("VFABRIC_CLIENT_KEY"),
            vdc: vdc.transpose().context("VFABRIC_VDC")?,
        };
        let flags = self.flags();
        let proven = flags.token.is_some() || flags.client_cert.is_some() || flags.client_key.is_some();
        let token = if proven { None } else { text("VFABRIC_TOKEN")? };
        let named = flags.or(environment);
        // If the flags give all settings, no file is needed.
        let settings = if named.problem().is_none() && self.context.is_none() && self.config.is_none() {
            named
        } else {
            named.or(self.base()?)
        };
        let settings = match token {
            // A flag's credential replaces those of the file.
            Some(_) => Settings {
                token: None,
                client_cert: None,
                client_key: None,
                ..settings
            },
            None => settings,
        };
        if settings.server.is_none() {
            bail!(
                "no controller is named: make a context (`fabricctl context set NAME --server https://HOST:PORT --ca FILE \
                 --token-file FILE`), or give --config FILE"
            );
        }
        Ok(Session {
            client: settings.client(token.as_deref())?,
            vdc: settings.vdc,
        })
    }
}

impl Session {
    /// Whether the caller may see devices. It asks the controller first, because each refused call is a line in the
    /// audit log.
    ///
    /// # Errors
    /// The controller cannot be asked.
    pub(super) async fn sees_devices(&self) -> Result<bool> {
        let me = self.client.whoami().await?;
        Ok(me.roles.iter().any(|binding| binding.vdc.is_none()))
    }

    /// The vDC of the command.
    ///
    /// # Errors
    /// No vDC is named; the error says how to name one.
    pub(super) fn vdc(&self, named: &InVdc) -> Result<Name> {
        named.vdc.as_ref().or(self.vdc.as_ref()).cloned().context(
            "no vDC is named: give -n VDC, or set one for the context (`fabricctl context set NAME --default-vdc VDC`)",
        )
    }

    /// The vDC to show: the named one, else that of the context; `None` for all.
    pub(super) fn of_vdc(&self, of: &OfVdc) -> Option<Name> {
        let named = of.vdc.vdc.as_ref().or(self.vdc.as_ref());
        named.filter(|_| !of.all_vdcs).cloned()
    }

    /// The object for `NAME` or `VDC/NAME`.
    ///
    /// # Errors
    /// It is not a name, or no vDC is named.
    pub(super) fn key(&self, kind: Kind, name: &str, named: &InVdc) -> Result<Key> {
        let part = |text: &str| text.parse::<Name>().with_context(|| format!("`{name}`"));
        Ok(match (kind, name.split_once('/')) {
            (Kind::Vdc, None) => Key::vdc(part(name)?),
            (Kind::Vdc, Some(_)) => bail!("`{name}`: expected the name of a vDC"),
            (kind, Some((vdc, name))) => Key::new(part(vdc)?, kind, part(name)?),
            (kind, None) => Key::new(self.vdc(named)?, kind, part(name)?),
        })
    }
}

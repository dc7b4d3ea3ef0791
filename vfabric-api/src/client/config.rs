//! The address of the controller, and the credentials for it.
//!
//! A small YAML file; its path comes from `--config`, `VFABRIC_CONFIG`, or is
//! `~/.config/vfabric/client.yaml`. The lab writes one and prints its path. Paths inside
//! are relative to the file.
//!
//! For several controllers, use [`super::Contexts`]; both result in [`Settings`].

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Client, ClientError, Settings};

/// The file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Address of the REST API: `https://host:port`.
    pub server: String,
    /// File with the certificate authorities to trust (PEM).
    pub ca: PathBuf,
    /// File with the bearer token.
    pub token: PathBuf,
}

impl Config {
    /// The path that is used if none is given.
    pub fn default_path() -> PathBuf {
        let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
        home.join(".config/vfabric/client.yaml")
    }

    /// The settings of the file, with absolute paths.
    ///
    /// # Errors
    /// It is missing or wrong; the error names it.
    pub fn settings(path: &Path) -> Result<Settings, ClientError> {
        let config: Self = crate::yaml::read(&read(path)?).map_err(|source| ClientError::Config {
            path: path.to_owned(),
            source,
        })?;
        let dir = path.parent().unwrap_or(Path::new("."));
        Ok(Settings {
            server: Some(config.server),
            ca: Some(dir.join(&config.ca)),
            token: Some(dir.join(&config.token)),
            ..Settings::default()
        })
    }

    /// A client with the settings of the file.
    ///
    /// # Errors
    /// A file is missing or wrong; the error names it.
    pub fn client(path: &Path) -> Result<Client, ClientError> {
        Self::settings(path)?.client(None)
    }
}

pub(super) fn read(path: &Path) -> Result<String, ClientError> {
    std::fs::read_to_string(path).map_err(|source| ClientError::Read {
        path: path.to_owned(),
        source,
    })
}

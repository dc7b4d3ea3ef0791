//! Several controllers in one file, each with its credentials.
//!
//! `~/.config/fabricctl/config.yaml` (`$XDG_CONFIG_HOME/fabricctl/config.yaml`) maps names to [`Settings`] and names
//! the current one. It contains the paths of secrets but no secrets. It is still written with mode 0600, because paths
//! may name users and sites, and atomically.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::config::read;
use super::{Client, ClientError};
use crate::ident::Name;

/// The file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contexts {
    /// Name of the current context.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<String>,
    /// The contexts by name.
    #[serde(default)]
    pub contexts: BTreeMap<String, Settings>,
}

/// A controller, and the credentials for it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Address of the REST API: `https://host:port`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// File with the certificate authorities to trust (PEM).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// File with the bearer token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<PathBuf>,
    /// File with a client certificate (PEM).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_cert: Option<PathBuf>,
    /// File with its key (PEM).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_key: Option<PathBuf>,
    /// The default vDC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vdc: Option<Name>,
}

impl Settings {
    /// These settings, with those of `other` for fields that are not set here. A token and a client certificate each
    /// identify the caller, so settings that name one of them do not take the other from `other`.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        let proven = self.token.is_some() || self.client_cert.is_some() || self.client_key.is_some();
        let other = if proven {
            Self {
                token: None,
                client_cert: None,
                client_key: None,
                ..other
            }
        } else {
            other
        };
        Self {
            server: self.server.or(other.server),
            ca: self.ca.or(other.ca),
            token: self.token.or(other.token),
            client_cert: self.client_cert.or(other.client_cert),
            client_key: self.client_key.or(other.client_key),
            vdc: self.vdc.or(other.vdc),
        }
    }

    /// What is missing or contradictory, as text; none if the settings are enough for a client.
    pub fn problem(&self) -> Option<&'static str> {
        match self {
            Self { server: None, .. } => Some("server: missing: expected https://HOST:PORT"),
            Self { ca: None, .. } => Some("ca: missing: expected a file with the authorities to trust (PEM)"),
            Self {
                client_cert: Some(_),
                client_key: None,
                ..
            } => Some("client_key: missing: expected the file with the key of the client certificate"),
            Self {
                client_cert: None,
                client_key: Some(_),
                ..
            } => Some("client_cert: missing: expected the file with the certificate of the client key"),
            Self {
                token: None,
                client_cert: None,
                ..
            } => Some("token: missing: expected a file with a token, or a client certificate with its key"),
            _ => None,
        }
    }

    /// A client with these settings; `token` is used instead of that of the file.
    ///
    /// # Errors
    /// Something is missing, or a file cannot be read or used; the error names it.
    pub fn client(&self, token: Option<&str>) -> Result<Client, ClientError> {
        let given = Self {
            token: token.map(|_| PathBuf::new()).or(self.token.clone()),
            ..self.clone()
        };
        if let Some(problem) = given.problem() {
            return Err(ClientError::Settings(problem.to_owned()));
        }
        let all = |path: &Option<PathBuf>| path.as_deref().map(read).transpose();
        let (ca, cert, key) = (all(&self.ca)?, all(&self.client_cert)?, all(&self.client_key)?);
        let file = match token {
            Some(token) => Some(token.to_owned()),
            None => all(&self.token)?,
        };
        let token = file.as_deref().unwrap_or_default().lines();
        let token = token.map(str::trim).find(|l| !l.is_empty() && !l.starts_with('#'));
        let identity = cert.zip(key).map(|(cert, key)| format!("{cert}\n{key}"));
        Client::with_proof(
            self.server.as_deref().unwrap_or_default(),
            ca.unwrap_or_default().as_bytes(),
            token.unwrap_or_default(),
            identity.as_deref().map(str::as_bytes),
        )
    }
}

impl Contexts {
    /// The default path.
    pub fn default_path() -> PathBuf {
        let home = || {
            std::env::var_os("HOME")
                .map(PathBuf::from)
                .unwrap_or_default()
                .join(".config")
        };
        let config = std::env::var_os("XDG_CONFIG_HOME").filter(|dir| !dir.is_empty());
        config.map_or_else(home, PathBuf::from).join("fabricctl/config.yaml")
    }

    /// Reads the file; a missing file has no contexts. Relative paths in it are relative to it.
    ///
    /// # Errors
    /// The file cannot be read, or is wrong.
    pub fn load(path: &Path) -> Result<Self, ClientError> {
        let text = match read(path) {
            Err(ClientError::Read { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self::default());
            }
            text => text?,
        };
        let mut contexts: Self = crate::yaml::read(&text).map_err(|source| ClientError::Config {
            path: path.to_owned(),
            source,
        })?;
        let dir = path.parent().unwrap_or(Path::new("."));
        for settings in contexts.contexts.values_mut() {
            let paths = [
                &mut settings.ca,
                &mut settings.token,
                &mut settings.client_cert,
                &mut settings.client_key,
            ];
            for path in paths.into_iter().flatten() {
                *path = dir.join(&path);
            }
        }
        Ok(contexts)
    }

    /// Writes the file, whole or not at all. Only its owner can read it.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn store(&self, path: &Path) -> std::io::Result<()> {
        let text = serde_saphyr::to_string(self).map_err(std::io::Error::other)?;
        let dir = path.parent().unwrap_or(Path::new("."));
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let new = path.with_extension(format!("new.{}", std::process::id()));
        let mut file = std::fs::OpenOptions::new();
        let mut file = file.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
        let done = written.and_then(|()| std::fs::rename(&new, path));
        if done.is_err() {
            // The returned error matters more than a failure to remove the remains.
            let _ = std::fs::remove_file(&new);
        }
        done
    }

    /// The settings of a context.
    ///
    /// # Errors
    /// There is none of that name; the error names the existing ones.
    pub fn get(&self, name: &str) -> Result<&Settings, ClientError> {
        self.contexts.get(name).ok_or_else(|| {
            let names: Vec<&str> = self.contexts.keys().map(String::as_str).collect();
            ClientError::Settings(match names.as_slice() {
                [] => {
                    format!("context `{name}` does not exist: there is none yet (`fabricctl context set {name} ...`)")
                }
                names => format!("context `{name}` does not exist: expected one of {}", names.join(", ")),
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn one_proof_is_not_mixed_with_another() {
        let token = Settings {
            token: Some("t".into()),
            server: Some("https://a".into()),
            ..Settings::default()
        };
        let certificate = Settings {
            client_cert: Some("c".into()),
            client_key: Some("k".into()),
            ca: Some("ca".into()),
            ..Settings::default()
        };
        let both = certificate.clone().or(token.clone());
        assert_eq!(
            (both.token, both.server.as_deref(), both.client_key),
            (None, Some("https://a"), Some("k".into()))
        );
        assert_eq!(token.or(certificate).client_cert, None);
    }

    #[test]
    fn the_file_is_private_and_comes_back_as_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fabricctl/config.yaml");
        assert_eq!(Contexts::load(&path).unwrap(), Contexts::default());
        let mut contexts = Contexts {
            current: Some("lab".into()),
            ..Contexts::default()
        };
        let settings = Settings {
            server: Some("https://a:1".into()),
            ca: Some("/ca.pem".into()),
            ..Settings::default()
        };
        contexts.contexts.insert("lab".into(), settings);
        contexts.store(&path).unwrap();
        contexts.store(&path).unwrap();
        assert_eq!(Contexts::load(&path).unwrap(), contexts);
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        let error = contexts.get("prod").unwrap_err().to_string();
        assert!(error.contains("expected one of lab"), "{error}");
        assert!(
            contexts
                .get("lab")
                .unwrap()
                .client(None)
                .is_err_and(|e| e.to_string().contains("token"))
        );
    }
}

//! The file of settings: where keys, certificates and vouchers are.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fabric_bootz::BootzError;
use fabric_bootz::authority::Authority;
use fabric_bootz::enrol::serve::Keys;
use fabric_bootz::owner::Owner;
use fabric_bootz::x509::Anchors;
use serde::Deserialize;

/// How long certificates of switches are valid, in days. A switch that is started again gets a new one.
const DAYS: u32 = 90;
/// Longest validity that can be configured, in days.
const MOST_DAYS: u32 = 825;

/// The file (YAML). Paths in it are relative to it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Where the Bootz server calls.
    pub listen: SocketAddr,
    /// Where devices call that prove their IDevID in the TLS handshake (unary Bootz); none if there are no such devices.
    #[serde(default)]
    pub unary: Option<SocketAddr>,
    /// Authorities of the manufacturers whose devices may enrol (PEM).
    pub manufacturers: PathBuf,
    /// Directory of ownership vouchers, `SERIAL.vcj`.
    pub vouchers: PathBuf,
    /// The owner's certificate as a signed message (RFC 5652, DER).
    pub owner_certificate: PathBuf,
    /// Its key (PEM).
    pub owner_key: PathBuf,
    /// Authority that signs switches' certificates (PEM).
    pub authority_certificate: PathBuf,
    /// Its key (PEM).
    pub authority_key: PathBuf,
    /// How long certificates of switches are valid, in days.
    #[serde(default = "days")]
    pub certificate_days: u32,
}

fn days() -> u32 {
    DAYS
}

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The settings do not have the documented form.
    #[error("in {}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// What is wrong, with line and column.
        source: vfabric_api::yaml::YamlError,
    },
    /// A validity that is out of range.
    #[error("in {}: certificate_days: expected 1 to {MOST_DAYS}", path.display())]
    Days {
        /// The file.
        path: PathBuf,
    },
    /// A key or certificate cannot be used.
    #[error("{field}")]
    Key {
        /// Which setting names it.
        field: &'static str,
        /// What is wrong with it.
        source: BootzError,
    },
}

fn read(path: &Path) -> Result<String, SettingsError> {
    std::fs::read_to_string(path).map_err(|source| SettingsError::Read {
        path: path.to_owned(),
        source,
    })
}

impl Settings {
    /// Reads the file.
    ///
    /// # Errors
    /// It cannot be read, or a field is wrong.
    pub fn load(path: &Path) -> Result<Self, SettingsError> {
        let mut settings: Self = vfabric_api::yaml::read(&read(path)?).map_err(|source| SettingsError::Parse {
            path: path.to_owned(),
            source,
        })?;
        if !(1..=MOST_DAYS).contains(&settings.certificate_days) {
            return Err(SettingsError::Days { path: path.to_owned() });
        }
        let dir = path.parent().unwrap_or(Path::new("."));
        for file in [
            &mut settings.manufacturers,
            &mut settings.vouchers,
            &mut settings.owner_certificate,
            &mut settings.owner_key,
            &mut settings.authority_certificate,
            &mut settings.authority_key,
        ] {
            *file = dir.join(&file);
        }
        Ok(settings)
    }

    /// Reads the files that the settings name.
    ///
    /// # Errors
    /// A file cannot be read or used.
    pub fn keys(&self) -> Result<Keys, SettingsError> {
        let wrong = |field| move |source| SettingsError::Key { field, source };
        let makers = read(&self.manufacturers)?;
        let authority_pem = read(&self.authority_certificate)?;
        Ok(Keys {
            manufacturers: Anchors::from_pem("the manufacturers", makers.as_bytes()).map_err(wrong("manufacturers"))?,
            owner: Owner::load(&self.vouchers, &self.owner_certificate, &self.owner_key).map_err(wrong("owner_key"))?,
            authority: Authority::from_pem(&authority_pem, &read(&self.authority_key)?)
                .map_err(wrong("authority_key"))?,
            authority_pem,
            valid: Duration::from_secs(u64::from(self.certificate_days) * 24 * 3600),
        })
    }
}

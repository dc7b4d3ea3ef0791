//! Certificates of a lab: one authority, one certificate an identity, and an API token.
//!
//! Names follow the fabric's convention: `<switch>.switch.vfabric`, `<host>.host.vfabric`,
//! `controller.vfabric`. Keys are readable by root alone.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rand::RngCore;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};

/// The files of one identity.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Certificate (PEM).
    pub cert: PathBuf,
    /// Private key (PEM).
    pub key: PathBuf,
}

/// A directory with certificates.
#[derive(Debug, Clone)]
pub struct Pki {
    dir: PathBuf,
}

impl Pki {
    /// The directory, whether or not anything is in it yet.
    pub fn at(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// Makes an authority and one certificate for each list of names (DNS names or IP
    /// addresses; the first names the files).
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn create(&self, identities: &[Vec<String>]) -> Result<()> {
        std::fs::create_dir_all(&self.dir)?;
        let mut authority = CertificateParams::default();
        authority.distinguished_name.push(DnType::CommonName, "vfabric lab CA");
        authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let authority_key = KeyPair::generate()?;
        let certificate = authority.self_signed(&authority_key)?;
        write(&self.ca(), certificate.pem().as_bytes(), 0o644)?;
        let issuer = Issuer::new(authority, authority_key);
        for names in identities {
            let first = names.first().context("an identity without a name")?;
            let mut params = CertificateParams::new(names.clone())?;
            params.distinguished_name.push(DnType::CommonName, first.as_str());
            params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
            let key = KeyPair::generate()?;
            let files = self.identity(first);
            write(&files.cert, params.signed_by(&key, &issuer)?.pem().as_bytes(), 0o644)?;
            write(&files.key, key.serialize_pem().as_bytes(), 0o600)?;
        }
        let mut token = [0u8; 32];
        rand::rng().fill_bytes(&mut token);
        let token: String = token.iter().map(|b| format!("{b:02x}")).collect();
        write(&self.token(), format!("{token}\n").as_bytes(), 0o600)
    }

    /// The authority's certificate (PEM).
    pub fn ca(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    /// The API token.
    pub fn token(&self) -> PathBuf {
        self.dir.join("token")
    }

    /// The files of an identity.
    pub fn identity(&self, name: &str) -> Identity {
        Identity {
            cert: self.dir.join(format!("{name}.pem")),
            key: self.dir.join(format!("{name}.key")),
        }
    }
}

fn write(path: &Path, content: &[u8], mode: u32) -> Result<()> {
    let shown = || format!("cannot write {}", path.display());
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(path)
        .with_context(shown)?;
    file.write_all(content).with_context(shown)
}

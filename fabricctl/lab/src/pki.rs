//! Certificates of a lab: one authority, one certificate for each identity, and an API token.
//!
//! Each certificate has the SPIFFE id of its subject, `spiffe://<fabric>/<subject>`, and the names
//! and addresses by which browsers and other targets know it. Keys are readable by root alone.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use rand::RngCore;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};

/// How long certificates are valid.
const VALID: Duration = Duration::from_secs(365 * 24 * 3600);
/// Certificates are valid from this long before they are made, because clocks of real fabrics differ a little.
const BACKDATED: Duration = Duration::from_secs(5 * 60);

/// The files of one identity.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Certificate (PEM).
    pub cert: PathBuf,
    /// Private key (PEM).
    pub key: PathBuf,
}

/// The subject of a certificate.
#[derive(Debug, Clone)]
pub struct Subject {
    /// Its SPIFFE id without the fabric, such as `switch/leaf1`.
    pub id: String,
    /// DNS names and IP addresses.
    pub names: Vec<String>,
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

    /// Makes an authority and one certificate for each subject of a fabric.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn create(&self, fabric: &str, subjects: &[Subject]) -> Result<()> {
        fabric_identity::private_directory(&self.dir)?;
        let mut authority = CertificateParams::default();
        authority.distinguished_name.push(DnType::CommonName, "vfabric lab CA");
        authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let authority_key = KeyPair::generate()?;
        let certificate = authority.self_signed(&authority_key)?;
        write(&self.ca(), certificate.pem().as_bytes(), 0o644)?;
        let issuer = Issuer::new(authority, authority_key);
        for subject in subjects {
            let mut params = CertificateParams::new(subject.names.clone())?;
            params.distinguished_name.push(DnType::CommonName, subject.id.as_str());
            let spiffe = format!("spiffe://{fabric}/{}", subject.id);
            params.subject_alt_names.push(SanType::URI(spiffe.try_into()?));
            // A year, so that warnings about expiry have something to watch.
            params.not_before = (SystemTime::now() - BACKDATED).into();
            params.not_after = (SystemTime::now() + VALID).into();
            params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
            let key = KeyPair::generate()?;
            let files = self.identity(&subject.id);
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

    /// The files of a subject, such as `switch/leaf1`.
    pub fn identity(&self, subject: &str) -> Identity {
        let name = subject.replace('/', "-");
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

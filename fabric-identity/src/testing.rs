//! An authority for tests, which lives as long as they do.

use std::path::Path;
use std::sync::Arc;

use rcgen::string::Ia5String;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::credentials::{Credentials, Files};

/// Name of the fabric that tests belong to.
pub const FABRIC: &str = "test";

/// A certificate authority.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its certificate.
    pub pem: String,
}

/// A certificate and its key, PEM.
pub struct Issued {
    /// The certificate.
    pub cert: String,
    /// The key.
    pub key: String,
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

#[allow(clippy::unwrap_used)] // For tests, which should end here.
impl Authority {
    /// A new authority, for which no other one vouches.
    pub fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Each has a name of its own, as real authorities do.
        let name = format!("authority {:?}", key.public_key_raw().get(..8));
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let pem = params.self_signed(&key).unwrap().pem();
        Self {
            issuer: Issuer::new(params, key),
            pem,
        }
    }

    /// A certificate for a subject of the fabric `test`, such as `host/h1`.
    pub fn issue(&self, subject: &str) -> Issued {
        self.issue_with(&[&format!("spiffe://{FABRIC}/{subject}")], |_| {})
    }

    /// A certificate with these URIs; `change` can change everything else.
    pub fn issue_with(&self, uris: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Issued {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        let uris = uris.iter().map(|uri| SanType::URI(Ia5String::try_from(*uri).unwrap()));
        params.subject_alt_names.extend(uris);
        change(&mut params);
        Issued {
            cert: params.signed_by(&key, &self.issuer).unwrap().pem(),
            key: key.serialize_pem(),
        }
    }

    /// Credentials of a subject, which trust this authority.
    pub fn credentials(&self, subject: &str) -> Arc<Credentials> {
        let issued = self.issue(subject);
        issued.credentials(&self.pem)
    }
}

/// How many streams a server of HTTP/2 grants a connection; none if it sets no limit (SETTINGS_MAX_CONCURRENT_STREAMS,
/// RFC 9113, section 6.5.2).
#[allow(clippy::unwrap_used)] // For tests, which should end here.
pub async fn granted_streams(mut connection: impl AsyncRead + AsyncWrite + Unpin) -> Option<u32> {
    // The preface and an empty SETTINGS frame (section 3.4). The server's own is the first that it sends.
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    connection.write_all(preface).await.unwrap();
    let mut head = [0; 9];
    connection.read_exact(&mut head).await.unwrap();
    let [high, middle, low, kind, ..] = head;
    assert_eq!(kind, 4, "the first frame is not a SETTINGS frame");
    let mut settings = vec![0; u32::from_be_bytes([0, high, middle, low]) as usize];
    connection.read_exact(&mut settings).await.unwrap();
    let of_kind = |setting: &[u8]| match *setting {
        [0, 3, a, b, c, d] => Some(u32::from_be_bytes([a, b, c, d])),
        _ => None,
    };
    settings.chunks(6).find_map(of_kind)
}

#[allow(clippy::unwrap_used)] // For tests, which should end here.
impl Issued {
    /// Credentials with this certificate, which trust the authorities in `ca`.
    pub fn credentials(&self, ca: &str) -> Arc<Credentials> {
        Credentials::from_pem(ca.as_bytes(), self.cert.as_bytes(), self.key.as_bytes()).unwrap()
    }

    /// Writes them and the authorities in `ca` below a directory.
    pub fn write(&self, ca: &str, dir: &Path) -> Files {
        let files = Files {
            ca: dir.join("ca.pem"),
            cert: dir.join("cert.pem"),
            key: dir.join("key.pem"),
        };
        std::fs::write(&files.ca, ca).unwrap();
        std::fs::write(&files.cert, &self.cert).unwrap();
        std::fs::write(&files.key, &self.key).unwrap();
        files
    }
}

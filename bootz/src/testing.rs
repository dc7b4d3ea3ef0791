//! A manufacturer, its devices and their owner, for tests. Signed messages are made by OpenSSL, as operators make them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use crate::authority::Authority;
use crate::enrol::serve::Keys;
use crate::owner::Owner;
use crate::x509::Anchors;

/// A certificate authority with its texts (PEM).
pub struct Signer {
    /// The signing key.
    pub issuer: Issuer<'static, KeyPair>,
    /// Its certificate.
    pub pem: String,
    /// Its key.
    pub key: String,
}

/// A device as it leaves its manufacturer.
#[derive(Clone)]
pub struct Made {
    /// IDevID certificate (PEM).
    pub certificate: String,
    /// Its key (PEM).
    pub key: String,
}

/// A directory with a manufacturer, `maker.pem`, and an owner, `owner.pem`, `owner.key`, `owner.cms`.
pub struct World {
    /// The directory; vouchers are in it, too.
    pub dir: PathBuf,
    /// The manufacturer.
    pub maker: Signer,
}

#[allow(clippy::unwrap_used)] // For tests, which should end here.
/// An authority that nobody else vouches for.
pub fn signer(name: &str) -> Signer {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let pem = params.self_signed(&key).unwrap().pem();
    Signer {
        key: key.serialize_pem(),
        issuer: Issuer::new(params, key),
        pem,
    }
}

#[allow(clippy::unwrap_used)] // For tests, which should end here.
impl Signer {
    /// A device of this manufacturer.
    pub fn device(&self, serial: &str) -> Made {
        self.device_with(serial, |_| {})
    }

    /// A device whose certificate differs in something.
    pub fn device_with(&self, serial: &str, change: impl FnOnce(&mut CertificateParams)) -> Made {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        change(&mut params);
        let oid = DnType::CustomDnType(vec![2, 5, 4, 5]);
        params.distinguished_name.push(oid, serial);
        Made {
            certificate: params.signed_by(&key, &self.issuer).unwrap().pem(),
            key: key.serialize_pem(),
        }
    }
}

#[allow(clippy::unwrap_used, clippy::panic)] // For tests, which should end here.
fn openssl(dir: &Path, args: &str) {
    let output = Command::new("openssl")
        .current_dir(dir)
        .args(args.split(' '))
        .output()
        .unwrap();
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "openssl {args}: {words}");
}

#[allow(clippy::unwrap_used)] // For tests, which should end here.
impl World {
    /// Creates both in a directory. The owner's key is RSA, as in the specification.
    pub fn new(dir: &Path) -> Self {
        let maker = signer("maker");
        std::fs::write(dir.join("maker.pem"), &maker.pem).unwrap();
        std::fs::write(dir.join("maker.key"), &maker.key).unwrap();
        std::fs::write(dir.join("empty"), "").unwrap();
        openssl(
            dir,
            "req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=owner -keyout owner.key -out owner.pem",
        );
        let sign = "cms -sign -binary -nodetach -outform DER -md sha256";
        openssl(
            dir,
            &format!("{sign} -signer owner.pem -inkey owner.key -in empty -out owner.cms"),
        );
        Self {
            dir: dir.to_owned(),
            maker,
        }
    }

    /// The voucher for a device as JSON, with `more` fields.
    pub fn voucher_text(&self, serial: &str, more: &str) -> String {
        let owner = std::fs::read(self.dir.join("owner.pem")).unwrap();
        let pinned = BASE64_STANDARD.encode(CertificateDer::from_pem_slice(&owner).unwrap());
        format!(
            r#"{{"ietf-voucher:voucher":{{"created-on":"2026-01-01T00:00:00Z","assertion":"verified","serial-number":"{serial}","pinned-domain-cert":"{pinned}"{more}}}}}"#
        )
    }

    /// Writes the voucher for a device, by its serial number, signed by the manufacturer.
    pub fn lay_down(&self, serial: &str, text: &str) {
        std::fs::write(self.dir.join("voucher.json"), text).unwrap();
        let sign = "cms -sign -binary -nodetach -outform DER -md sha256";
        openssl(
            &self.dir,
            &format!("{sign} -signer maker.pem -inkey maker.key -in voucher.json -out {serial}.vcj"),
        );
    }

    /// The owner.
    pub fn owner(&self) -> Owner {
        Owner::load(&self.dir, &self.dir.join("owner.cms"), &self.dir.join("owner.key")).unwrap()
    }

    /// Keys of the owner, whose certificates `authority` signs.
    pub fn keys(&self, authority: &Signer) -> Keys {
        Keys {
            manufacturers: Anchors::from_pem("makers", self.maker.pem.as_bytes()).unwrap(),
            owner: self.owner(),
            authority: Authority::from_pem(&authority.pem, &authority.key).unwrap(),
            authority_pem: authority.pem.clone(),
            valid: Duration::from_secs(3600),
        }
    }

    /// Writes the files with which a device leaves its manufacturer into a directory of their own.
    pub fn deliver(&self, made: &Made, dir: &Path) {
        std::fs::create_dir_all(dir).unwrap();
        std::fs::write(dir.join("idevid.pem"), &made.certificate).unwrap();
        std::fs::write(dir.join("idevid.key"), &made.key).unwrap();
        std::fs::write(dir.join("makers.pem"), &self.maker.pem).unwrap();
        std::fs::write(
            dir.join("device.json"),
            r#"{"manufacturer":"Acme","model":"x86_64-acme_s1-r0"}"#,
        )
        .unwrap();
    }
}

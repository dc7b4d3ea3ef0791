//! An identity key that another program keeps, such as one in a TPM.
//!
//! The program gets what is to be signed on its standard input, and writes the signature to its standard output. Which signature that is
//! follows from the key in the certificate: ECDSA with SHA-256 on P-256 or SHA-384 on P-384 (DER, RFC 3279 section 2.2.3), or RSA with
//! PKCS #1 v1.5 and SHA-256. A signature that does not fit the certificate is refused by [`crate::device::Device`] at its start.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustls::sign::{Signer, SigningKey};
use rustls::{SignatureAlgorithm, SignatureScheme};
use rustls_pki_types::CertificateDer;
use x509_parser::public_key::PublicKey;

use crate::error::BootzError;
use crate::x509::{certificates, parse};

/// Longest time that the program may take: a TPM makes an RSA signature in about a second.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often to look whether it has ended.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// Longest signature, in octets: one of RSA with 4096 bits.
const LONGEST: u64 = 512;
/// Most words of its standard error that are kept, in octets.
const WORDS: u64 = 500;

/// The key.
#[derive(Debug, Clone)]
pub struct External {
    program: PathBuf,
    scheme: SignatureScheme,
}

/// The scheme that fits the key of a certificate.
fn scheme(certificate: &CertificateDer<'_>) -> Option<SignatureScheme> {
    let parsed = parse("the IDevID certificate", certificate).ok()?;
    match parsed.public_key().parsed().ok()? {
        PublicKey::EC(point) => match point.key_size() {
            256 => Some(SignatureScheme::ECDSA_NISTP256_SHA256),
            384 => Some(SignatureScheme::ECDSA_NISTP384_SHA384),
            _ => None,
        },
        PublicKey::RSA(_) => Some(SignatureScheme::RSA_PKCS1_SHA256),
        _ => None,
    }
}

impl External {
    /// The key of this certificate (PEM, its own first), kept by a program.
    ///
    /// # Errors
    /// The certificate cannot be read, or has a key of another kind.
    pub fn new(program: &Path, certificate: &str) -> Result<Self, BootzError> {
        let chain = certificates("the IDevID certificate", certificate.as_bytes())?;
        let scheme = chain.first().and_then(scheme);
        let scheme = scheme.ok_or_else(|| BootzError::Key {
            what: "the identity key",
            problem: "expected a certificate for a key on P-256 or P-384, or of RSA".into(),
        })?;
        Ok(Self {
            program: program.to_owned(),
            scheme,
        })
    }

    fn run(&self, message: &[u8]) -> Result<Vec<u8>, String> {
        let failed = |what: &str, error: std::io::Error| format!("{}: {what}: {error}", self.program.display());
        let mut child = Command::new(&self.program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| failed("cannot be started", error))?;
        // A message is smaller than a pipe, so this does not wait. A program that does not read it may succeed all the same.
        if let Some(mut stdin) = child.stdin.take() {
            let _ = stdin.write_all(message);
        }
        let until = Instant::now() + PATIENCE;
        let status = loop {
            match child.try_wait().map_err(|error| failed("its end", error))? {
                Some(status) => break status,
                None if Instant::now() > until => {
                    // It may have ended just now.
                    let _ = child.kill();
                    let _ = child.wait();
                    return Err(format!(
                        "{}: no signature in {} s",
                        self.program.display(),
                        PATIENCE.as_secs()
                    ));
                }
                None => std::thread::sleep(LOOK_EVERY),
            }
        };
        let (mut signature, mut words) = (Vec::new(), Vec::new());
        if let Some(stdout) = child.stdout.take() {
            stdout
                .take(LONGEST + 1)
                .read_to_end(&mut signature)
                .map_err(|error| failed("its output", error))?;
        }
        if let Some(stderr) = child.stderr.take() {
            // What a program writes to standard error is only for people.
            let _ = stderr.take(WORDS).read_to_end(&mut words);
        }
        let length = u64::try_from(signature.len()).unwrap_or(u64::MAX);
        if !status.success() || length == 0 || length > LONGEST {
            let words = String::from_utf8_lossy(&words);
            return Err(format!(
                "{}: {status}, {length} octets: {}",
                self.program.display(),
                words.trim()
            ));
        }
        Ok(signature)
    }
}

impl SigningKey for External {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        offered
            .contains(&self.scheme)
            .then(|| Box::new(self.clone()) as Box<dyn Signer>)
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        match self.scheme {
            SignatureScheme::RSA_PKCS1_SHA256 => SignatureAlgorithm::RSA,
            _ => SignatureAlgorithm::ECDSA,
        }
    }
}

impl Signer for External {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        self.run(message).map_err(rustls::Error::General)
    }

    fn scheme(&self) -> SignatureScheme {
        self.scheme
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::device::Device;
    use crate::testing::signer;

    fn script(dir: &Path, text: &str) -> PathBuf {
        let path = dir.join("signer");
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    #[test]
    fn a_program_signs_with_the_key_of_the_certificate_or_is_refused_in_words() {
        let dir = tempfile::tempdir().unwrap();
        let maker = signer("maker");
        let (made, other) = (maker.device("AF40"), maker.device("AF41"));
        let key = dir.path().join("key.pem");
        std::fs::write(&key, &made.key).unwrap();
        let device = |text: &str, certificate: &str| {
            let program = script(dir.path(), text);
            let key = External::new(&program, certificate)?;
            let makers = maker.pem.as_bytes();
            Device::with_key("Acme", "m1", certificate, std::sync::Arc::new(key), makers)
        };
        let signs = format!("openssl dgst -sha256 -sign {}", key.display());
        assert_eq!(device(&signs, &made.certificate).unwrap().serial(), "AF40");
        let refused = |text: &str, certificate: &str| device(text, certificate).map(drop).unwrap_err().to_string();
        assert!(refused(&signs, &other.certificate).contains("signature"));
        let words = refused("cat > /dev/null; echo no TPM here >&2; exit 3", &made.certificate);
        assert!(words.contains("no TPM here") && words.contains('3'), "{words}");
        assert!(refused("cat > /dev/null", &made.certificate).contains("0 octets"));
        assert!(refused("head -c 5000 /dev/zero", &made.certificate).contains("octets"));
        let nowhere = External::new(Path::new("/nowhere"), &made.certificate).unwrap();
        assert!(
            nowhere
                .sign(b"x")
                .unwrap_err()
                .to_string()
                .contains("cannot be started")
        );
    }
}

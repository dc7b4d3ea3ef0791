//! The identity that a device was made with (IEEE 802.1AR).

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bootz_proto::bootz::ChassisDescriptor;
use rustls_pki_types::{CertificateDer, UnixTime};
use x509_parser::oid_registry::OID_X509_SERIALNUMBER;

use crate::error::BootzError;
use crate::x509::{Anchors, certificates, check_signature, parse};

/// Name of the certificate in errors.
const WHAT: &str = "the IDevID certificate";
/// Longest text of a certificate chain, in octets.
const LONGEST: usize = 64 * 1024;
/// Longest serial number, in octets.
const LONGEST_SERIAL: usize = 128;
/// Characters of a serial number that are shown.
const SHOWN: usize = 64;

/// A device's certificate, and those that lead to its manufacturer.
#[derive(Debug, Clone)]
pub struct Idevid {
    certificate: CertificateDer<'static>,
    intermediates: Vec<CertificateDer<'static>>,
    serial: String,
    fingerprint: String,
}

impl Idevid {
    /// Reads `idevid_cert` of a Bootz request: one DER certificate in base64, or PEM with the device's own certificate
    /// first. Reading it proves nothing: anybody can send a copy.
    ///
    /// # Errors
    /// The text has neither form, or the certificate names no serial number.
    pub fn read(text: &str) -> Result<Self, BootzError> {
        let problem = |problem: &str| BootzError::Certificate {
            what: WHAT,
            problem: problem.into(),
        };
        if text.len() > LONGEST {
            return Err(problem("it is too long"));
        }
        let chain = if text.contains("-----BEGIN") {
            certificates(WHAT, text.as_bytes())?
        } else {
            let der = BASE64_STANDARD.decode(text.trim());
            vec![CertificateDer::from(
                der.map_err(|_| problem("neither PEM nor base64"))?,
            )]
        };
        Self::of_chain(chain)
    }

    /// From a chain in TLS's order: the device's own certificate first. The caller must have checked that the device
    /// has the key.
    ///
    /// # Errors
    /// The chain is empty, the certificate cannot be read, or it names no serial number.
    pub fn of_chain(mut chain: Vec<CertificateDer<'static>>) -> Result<Self, BootzError> {
        let problem = |problem: &str| BootzError::Certificate {
            what: WHAT,
            problem: problem.into(),
        };
        if chain.is_empty() {
            return Err(problem("none"));
        }
        let certificate = chain.remove(0);
        let (serial, fingerprint) = {
            let parsed = parse(WHAT, &certificate)?;
            let mut serials = parsed.subject().iter_by_oid(&OID_X509_SERIALNUMBER);
            let (Some(serial), None) = (serials.next(), serials.next()) else {
                return Err(problem(
                    "expected one serial number in its subject (IEEE 802.1AR, section 8.6)",
                ));
            };
            let serial = serial.as_str().map_err(|_| problem("its serial number is not text"))?;
            let serial = own_part(serial);
            let is_text = serial.bytes().all(|b| b.is_ascii_graphic());
            if serial.is_empty() || serial.len() > LONGEST_SERIAL || !is_text {
                return Err(problem("its serial number is not one word of printable ASCII"));
            }
            (serial.to_owned(), fingerprint(parsed.public_key().raw))
        };
        Ok(Self {
            certificate,
            intermediates: chain,
            serial,
            fingerprint,
        })
    }

    /// Checks that a trusted manufacturer vouches for the device.
    ///
    /// # Errors
    /// No trusted manufacturer vouches for it.
    pub fn check(&self, manufacturers: &Anchors, now: UnixTime) -> Result<(), BootzError> {
        manufacturers.check(WHAT, &self.certificate, &self.intermediates, now)
    }

    /// Checks that a signature was made with the device's key.
    ///
    /// # Errors
    /// The signature was not made with that key.
    pub fn check_signature(&self, what: &'static str, octets: &[u8], signature: &[u8]) -> Result<(), BootzError> {
        check_signature(what, &self.certificate, octets, signature)
    }

    /// Checks that the serial number in a device's description of its chassis is the one of this identity. A
    /// description without a serial number is accepted.
    ///
    /// # Errors
    /// The chassis has another serial number; the text says so.
    pub fn fits(&self, chassis: Option<&ChassisDescriptor>) -> Result<(), String> {
        let said = chassis.map_or("", |c| c.serial_number.as_str());
        if said.is_empty() || said.eq_ignore_ascii_case(&self.serial) {
            return Ok(());
        }
        let said: String = said.chars().take(SHOWN).collect();
        Err(format!(
            "it says serial number {said:?}, but its certificate is for {}: a clone?",
            self.serial
        ))
    }

    /// Serial number of the device.
    pub fn serial(&self) -> &str {
        &self.serial
    }

    /// SHA-256 of its public key (SubjectPublicKeyInfo) in hexadecimal. A certificate that is issued again for the same key
    /// has the same one.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }
}

/// Some manufacturers write `PID:<product> SN:<serial>`.
fn own_part(serial: &str) -> &str {
    let named = serial
        .split_ascii_whitespace()
        .find_map(|word| word.strip_prefix("SN:"));
    named.unwrap_or(serial)
}

fn fingerprint(public_key: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, public_key);
    digest.as_ref().iter().map(|b| format!("{b:02x}")).collect()
}

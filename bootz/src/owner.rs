//! The owner's side: vouchers, the owner's key, and bootstrap data that only one device can read, and that this device
//! believes.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bootz_proto::bootz::{BootstrapDataSigned, GetBootstrapDataResponse, StreamBootstrapDataResponse};
use prost::Message as _;
use rustls::sign::SigningKey;

use crate::error::BootzError;
use crate::idevid::Idevid;
use crate::proof::Proven;
use crate::transport;
use crate::voucher::read_signed;
use crate::x509::{check_signature, sign, signing_key};

/// Ending of the files with vouchers (RFC 8366, section 8.5, media type `application/voucher-cms+json`).
const ENDING: &str = "vcj";

/// Everything that the owner needs to convince devices that they are its own.
pub struct Owner {
    vouchers: PathBuf,
    certificate: Vec<u8>,
    key: Arc<dyn SigningKey>,
}

fn read(path: &Path) -> Result<Vec<u8>, BootzError> {
    std::fs::read(path).map_err(|source| BootzError::File {
        path: path.display().to_string(),
        source,
    })
}

impl Owner {
    /// From files: the directory of vouchers (`SERIAL.vcj`), the owner's certificate as a signed message (DER), its key (PEM).
    ///
    /// # Errors
    /// A file cannot be read or used, or the key is not that of the certificate.
    pub fn load(vouchers: &Path, certificate: &Path, key: &Path) -> Result<Self, BootzError> {
        const WHAT: &str = "the owner's key";
        let certificate = read(certificate)?;
        let signer = read_signed("the ownership certificate", &certificate)?.signer;
        let key = signing_key(WHAT, &read(key)?)?;
        let probe = sign(WHAT, key.as_ref(), b"probe")?;
        check_signature(WHAT, &signer, b"probe", &probe).map_err(|_| BootzError::Key {
            what: WHAT,
            problem: "it is not the key of the ownership certificate".into(),
        })?;
        Ok(Self {
            vouchers: vouchers.to_owned(),
            certificate,
            key,
        })
    }

    /// The voucher for a device; none if its file is missing.
    ///
    /// # Errors
    /// The file cannot be read.
    fn voucher(&self, serial: &str) -> Result<Option<Vec<u8>>, BootzError> {
        // A manufacturer signed the serial number, but it still has to be checked before it becomes a file name.
        let is_name = serial
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._+-".contains(&b))
            && !serial.starts_with('.');
        if !is_name {
            return Ok(None);
        }
        match read(&self.vouchers.join(format!("{serial}.{ENDING}"))) {
            Ok(voucher) => Ok(Some(voucher)),
            Err(BootzError::File { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn voucher_for(&self, serial: &str) -> Result<Vec<u8>, BootzError> {
        let missing = || BootzError::Voucher(format!("for device `{serial}` is missing: expected {serial}.{ENDING}"));
        self.voucher(serial)?.ok_or_else(missing)
    }

    /// Signs bootstrap data for a device that has proven its identity in the TLS handshake: the connection encrypts it.
    ///
    /// # Errors
    /// There is no voucher for the device.
    pub fn sign(&self, to: &Idevid, data: &BootstrapDataSigned) -> Result<GetBootstrapDataResponse, BootzError> {
        let ownership_voucher = self.voucher_for(to.serial())?;
        let octets = data.encode_to_vec();
        let signature = sign("the owner's key", self.key.as_ref(), &octets)?;
        Ok(GetBootstrapDataResponse {
            ownership_voucher,
            ownership_certificate: self.certificate.clone(),
            response_signature: BASE64_STANDARD.encode(signature),
            serialized_bootstrap_data: octets,
            ..GetBootstrapDataResponse::default()
        })
    }

    /// Encrypts bootstrap data to a device and signs it.
    ///
    /// # Errors
    /// There is no voucher for the device, or its transport key cannot be used.
    pub fn seal(&self, to: &Proven, data: &BootstrapDataSigned) -> Result<StreamBootstrapDataResponse, BootzError> {
        let voucher = self.voucher_for(to.idevid.serial())?;
        let sealed = transport::seal(&to.key, &data.encode_to_vec())?;
        let signature = sign("the owner's key", self.key.as_ref(), &sealed.octets)?;
        Ok(StreamBootstrapDataResponse {
            ownership_voucher: voucher,
            ownership_certificate: self.certificate.clone(),
            response_signature: BASE64_STANDARD.encode(signature),
            encrypted_serialized_bootstrap_data: sealed.octets,
            encapsulated_key: sealed.encapsulated,
        })
    }
}

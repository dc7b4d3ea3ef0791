//! The device's side: it knows its identity and its manufacturer, and believes only what its owner signed for it.

use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bootz_proto::bootz::bootstrap_stream_request_v1::ChallengeResponse;
use bootz_proto::bootz::bootstrap_stream_request_v1::challenge_response::{
    ChallengeResponseTpm20iDevId, Type as Response,
};
use bootz_proto::bootz::bootstrap_stream_response_v1::ChallengeRequest;
use bootz_proto::bootz::bootstrap_stream_response_v1::challenge_request::Type as Challenge;
use bootz_proto::bootz::control_card_state::ControlCardStatus;
use bootz_proto::bootz::identity::Type as IdentityType;
use bootz_proto::bootz::report_status_request::BootstrapStatus;
use bootz_proto::bootz::{
    BootstrapDataResponse, BootstrapDataSigned, ChassisDescriptor, ControlCardState, GetBootstrapDataRequest,
    GetBootstrapDataResponse, Identity, ReportStatusRequest, StreamBootstrapDataResponse,
};
use bootz_proto::request::SigningRequest;
use prost::Message as _;
use rcgen::{CertificateParams, KeyPair};
use rustls::sign::SigningKey;
use rustls_pki_types::UnixTime;

use crate::error::{BootzError, message};
use crate::idevid::Idevid;
use crate::proof::WHAT as RESPONSE;
use crate::transport::{Sealed, Secret};
use crate::voucher;
use crate::x509::{Anchors, check_signature, sign, signing_key};

/// Name of the bootstrap data in errors.
const WHAT: &str = "the bootstrap data";

/// A device with its identity and what else its manufacturer put into it.
pub struct Device {
    manufacturer: String,
    part_number: String,
    certificate: String,
    key: Arc<dyn SigningKey>,
    serial: String,
    makers: Anchors,
}

/// A request for a certificate. The private key never leaves the device.
///
/// # Errors
/// The key cannot be used.
pub fn signing_request(key_pem: &str) -> Result<Vec<u8>, BootzError> {
    let problem = |error: rcgen::Error| BootzError::Key {
        what: "the device's own key",
        problem: error.to_string(),
    };
    let key = KeyPair::from_pem(key_pem).map_err(problem)?;
    let request = CertificateParams::default().serialize_request(&key).map_err(problem)?;
    Ok(request.der().to_vec())
}

/// A new private key (PEM).
///
/// # Errors
/// The system has no random numbers.
pub fn new_key() -> Result<String, BootzError> {
    let key = KeyPair::generate().map_err(|error| BootzError::Key {
        what: "the device's own key",
        problem: error.to_string(),
    })?;
    Ok(key.serialize_pem())
}

impl Device {
    /// A device of a manufacturer and model, with its IDevID certificate (PEM chain) and key (PEM), and with the authorities
    /// whose vouchers it believes (PEM).
    ///
    /// # Errors
    /// One of them cannot be used, or the key is not that of the certificate.
    pub fn new(
        manufacturer: &str,
        model: &str,
        certificate: &str,
        key: &[u8],
        makers: &[u8],
    ) -> Result<Self, BootzError> {
        let key = signing_key("the identity key", key)?;
        Self::with_key(manufacturer, model, certificate, key, makers)
    }

    /// As [`Device::new`], with a key that may be kept elsewhere ([`crate::signer`]).
    ///
    /// # Errors
    /// As [`Device::new`].
    pub fn with_key(
        manufacturer: &str,
        model: &str,
        certificate: &str,
        key: Arc<dyn SigningKey>,
        makers: &[u8],
    ) -> Result<Self, BootzError> {
        const KEY: &str = "the identity key";
        let idevid = Idevid::read(certificate)?;
        let probe = sign(KEY, key.as_ref(), b"probe")?;
        idevid.check_signature(KEY, b"probe", &probe)?;
        Ok(Self {
            manufacturer: manufacturer.to_owned(),
            part_number: model.to_owned(),
            certificate: certificate.to_owned(),
            key,
            serial: idevid.serial().to_owned(),
            makers: Anchors::from_pem("the manufacturer's certificate", makers)?,
        })
    }

    /// Its model, which Bootz calls its part number.
    pub fn model(&self) -> &str {
        &self.part_number
    }

    /// Its serial number.
    pub fn serial(&self) -> &str {
        &self.serial
    }

    fn identity(&self) -> Identity {
        Identity {
            r#type: Some(IdentityType::IdevidCert(self.certificate.clone())),
        }
    }

    fn state(&self, status: ControlCardStatus) -> ControlCardState {
        ControlCardState {
            serial_number: self.serial.clone(),
            status: status.into(),
        }
    }

    /// The first message of an exchange. The answer must have `nonce` in it.
    pub fn request(&self, nonce: &[u8]) -> GetBootstrapDataRequest {
        GetBootstrapDataRequest {
            chassis_descriptor: Some(ChassisDescriptor {
                manufacturer: self.manufacturer.clone(),
                part_number: self.part_number.clone(),
                serial_number: self.serial.clone(),
                control_cards: Vec::new(),
            }),
            control_card_state: Some(self.state(ControlCardStatus::NotInitialized)),
            nonce: BASE64_STANDARD.encode(nonce),
            identity: Some(self.identity()),
            aik_pub_digest: Vec::new(),
        }
    }

    /// A report.
    pub fn report(&self, status: BootstrapStatus, words: &str) -> ReportStatusRequest {
        let state = match status {
            BootstrapStatus::Success => ControlCardStatus::Initialized,
            _ => ControlCardStatus::NotInitialized,
        };
        ReportStatusRequest {
            status: status.into(),
            status_message: words.to_owned(),
            states: vec![self.state(state)],
            identity: Some(self.identity()),
            aik_pub_digest: Vec::new(),
        }
    }

    /// Proves who the device is. `request` asks for a certificate. Only `secret` can decrypt the answer.
    ///
    /// # Errors
    /// The challenge is of a kind that the device cannot answer, or signing failed.
    pub fn respond(
        &self,
        challenge: &ChallengeRequest,
        secret: &Secret,
        request: Option<Vec<u8>>,
    ) -> Result<ChallengeResponse, BootzError> {
        let Some(Challenge::Tpm20Idevid(challenge)) = &challenge.r#type else {
            return Err(message("the challenge", "not one for an IDevID"));
        };
        let mut octets = secret.public(challenge.nonce.clone()).encode_to_vec();
        if let Some(certificate_signing_request) = request {
            let request = SigningRequest {
                certificate_signing_request,
            };
            octets.extend(request.encode_to_vec());
        }
        let signature = sign(RESPONSE, self.key.as_ref(), &octets)?;
        Ok(ChallengeResponse {
            r#type: Some(Response::Tpm20Idevid(ChallengeResponseTpm20iDevId {
                serialized_transport_key: octets,
                signature,
            })),
        })
    }

    /// Checks, in this order: the voucher comes from the manufacturer and is for this device; the voucher pins the
    /// owner; the owner signed the encrypted octets; the octets belong to this exchange. Then returns what they
    /// contain.
    ///
    /// # Errors
    /// The first check that failed. In that case no part of the answer may be used.
    pub fn accept(
        &self,
        response: &StreamBootstrapDataResponse,
        secret: &Secret,
        nonce: &[u8],
        now: UnixTime,
    ) -> Result<BootstrapDataResponse, BootzError> {
        let octets = &response.encrypted_serialized_bootstrap_data;
        let (voucher, owner) = (&response.ownership_voucher, &response.ownership_certificate);
        self.is_of_owner(voucher, owner, &response.response_signature, octets, now)?;
        let opened = secret.open(&Sealed {
            encapsulated: response.encapsulated_key.clone(),
            octets: octets.clone(),
        })?;
        self.own_part(&opened, nonce)
    }

    /// As [`Self::accept`], for the answer to a unary call, which the connection has encrypted.
    ///
    /// # Errors
    /// The first check that failed. In that case no part of the answer may be used.
    pub fn accept_unary(
        &self,
        response: &GetBootstrapDataResponse,
        nonce: &[u8],
        now: UnixTime,
    ) -> Result<BootstrapDataResponse, BootzError> {
        let octets = &response.serialized_bootstrap_data;
        let (voucher, owner) = (&response.ownership_voucher, &response.ownership_certificate);
        self.is_of_owner(voucher, owner, &response.response_signature, octets, now)?;
        self.own_part(octets, nonce)
    }

    /// Checks that a voucher for this device pins the owner, and that this owner signed the octets.
    fn is_of_owner(
        &self,
        voucher: &[u8],
        owner: &[u8],
        signature: &str,
        octets: &[u8],
        now: UnixTime,
    ) -> Result<(), BootzError> {
        let pinned = voucher::pinned(voucher, &self.serial, &self.makers, now)?;
        let owner = voucher::owner(owner, &pinned, now)?;
        let signature = BASE64_STANDARD.decode(signature.trim());
        let signature = signature.map_err(|_| BootzError::Signature(WHAT))?;
        check_signature(WHAT, &owner, octets, &signature)
    }

    /// The part of signed data that is for this device, if the data belongs to this exchange.
    fn own_part(&self, octets: &[u8], nonce: &[u8]) -> Result<BootstrapDataResponse, BootzError> {
        let data = BootstrapDataSigned::decode(octets).map_err(|error| message(WHAT, error))?;
        if data.nonce != BASE64_STANDARD.encode(nonce) {
            return Err(BootzError::Nonce(WHAT));
        }
        let own = data.responses.into_iter().find(|r| r.serial_num == self.serial);
        own.ok_or_else(|| message(WHAT, format!("nothing in it is for device `{}`", self.serial)))
    }
}

//! Bootstrap data of a switch: its settings, and its TLS profile.

use bootz_proto::bootz::{BootConfig, BootstrapDataResponse, CertzProfile, CertzProfiles};
use bootz_proto::gnsi::certz::v1::certificate::{CertificateType as Raw, KeySource, PrivateKeyType};
use bootz_proto::gnsi::certz::v1::entity::Entity as Part;
use bootz_proto::gnsi::certz::v1::{
    Certificate, CertificateChain, CertificateEncoding, CertificateType, Entity, UploadRequest,
};
use serde::{Deserialize, Serialize};

use crate::error::{BootzError, message};

/// Id of the TLS profile of P4Runtime and gNMI.
pub const PROFILE: &str = "vfabric";

/// Settings of a `p4-switch`, as JSON in `BootConfig.vendor_config`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SwitchConfig {
    /// Its name.
    pub hostname: String,
    /// Its P4Runtime device id.
    pub device_id: u64,
    /// Where it serves P4Runtime and gNMI.
    pub listen: std::net::SocketAddr,
}

impl SwitchConfig {
    /// Names in its certificate, besides its SPIFFE id.
    pub fn names(&self) -> Vec<String> {
        vec![self.hostname.clone(), self.listen.ip().to_string()]
    }
}

/// A TLS profile: PEM texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// Own certificate.
    pub certificate: String,
    /// Its private key; none if the device has made it.
    pub key: Option<String>,
    /// Authorities to trust, one text each.
    pub authorities: Vec<String>,
}

fn certificate(pem: &str, key: Option<PrivateKeyType>) -> Certificate {
    Certificate {
        r#type: CertificateType::X509.into(),
        encoding: CertificateEncoding::Pem.into(),
        certificate_type: Some(Raw::RawCertificate(pem.as_bytes().to_vec())),
        private_key_type: key,
        ..Certificate::default()
    }
}

/// Makes bootstrap data from settings and profile.
///
/// # Errors
/// None for a [`SwitchConfig`]; the type is that of the JSON encoder.
pub fn write(
    serial: &str,
    server_trust_cert: String,
    config: &SwitchConfig,
    profile: &Profile,
    created_on: u64,
) -> Result<BootstrapDataResponse, BootzError> {
    let vendor_config = serde_json::to_vec(config).map_err(|error| message("the settings", error))?;
    let key = match &profile.key {
        Some(pem) => PrivateKeyType::RawPrivateKey(pem.as_bytes().to_vec()),
        None => PrivateKeyType::KeySource(KeySource::Generated.into()),
    };
    let own = CertificateChain {
        certificate: Some(certificate(&profile.certificate, Some(key))),
        parent: None,
    };
    let trusted = profile.authorities.iter().rev().fold(None, |parent, pem| {
        Some(Box::new(CertificateChain {
            certificate: Some(certificate(pem, None)),
            parent,
        }))
    });
    let entity = |part: Part| Entity {
        version: created_on.to_string(),
        created_on,
        entity: Some(part),
    };
    let mut entities = vec![entity(Part::CertificateChain(own))];
    entities.extend(trusted.map(|chain| entity(Part::TrustBundle(*chain))));
    Ok(BootstrapDataResponse {
        serial_num: serial.to_owned(),
        server_trust_cert,
        boot_config: Some(BootConfig {
            vendor_config,
            ..BootConfig::default()
        }),
        certz_profiles: Some(CertzProfiles {
            profiles: vec![CertzProfile {
                ssl_profile_id: PROFILE.into(),
                certz: Some(UploadRequest { entities }),
            }],
        }),
        ..BootstrapDataResponse::default()
    })
}

/// Reads settings and profile from bootstrap data.
///
/// # Errors
/// Something that a switch needs is missing or unreadable.
pub fn read(data: &BootstrapDataResponse) -> Result<(SwitchConfig, Profile), BootzError> {
    const WHAT: &str = "the bootstrap data";
    let config = data
        .boot_config
        .as_ref()
        .map(|c| c.vendor_config.as_slice())
        .unwrap_or_default();
    let config = serde_json::from_slice(config).map_err(|error| message(WHAT, format!("vendor_config: {error}")))?;
    let profiles = data
        .certz_profiles
        .as_ref()
        .map(|p| p.profiles.as_slice())
        .unwrap_or_default();
    let profile = profiles.iter().find(|p| p.ssl_profile_id == PROFILE);
    let entities = profile.and_then(|p| p.certz.as_ref()).map(|c| c.entities.as_slice());
    let text = |octets: &[u8]| String::from_utf8(octets.to_vec()).map_err(|error| message(WHAT, error));
    let (mut own, mut authorities) = (None, Vec::new());
    for entity in entities.unwrap_or_default() {
        match &entity.entity {
            Some(Part::CertificateChain(chain)) => own = chain.certificate.as_ref(),
            Some(Part::TrustBundle(chain)) => {
                let mut next = Some(chain);
                while let Some(chain) = next {
                    if let Some(Raw::RawCertificate(pem)) =
                        chain.certificate.as_ref().and_then(|c| c.certificate_type.as_ref())
                    {
                        authorities.push(text(pem)?);
                    }
                    next = chain.parent.as_deref();
                }
            }
            _ => {}
        }
    }
    let own = own.ok_or_else(|| message(WHAT, format!("no certificate in profile `{PROFILE}`")))?;
    let Some(Raw::RawCertificate(pem)) = &own.certificate_type else {
        return Err(message(WHAT, "the certificate is not in it"));
    };
    let key = match &own.private_key_type {
        Some(PrivateKeyType::RawPrivateKey(pem)) => Some(text(pem)?),
        _ => None,
    };
    if authorities.is_empty() {
        return Err(message(WHAT, format!("no authority in profile `{PROFILE}`")));
    }
    let profile = Profile {
        certificate: text(pem)?,
        key,
        authorities,
    };
    Ok((config, profile))
}

//! Proofs of ownership: the manufacturer's voucher, which says who owns a device (RFC 8366), and the owner's
//! certificate. Both are signed messages (RFC 5652) in DER.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use cms::cert::CertificateChoices;
use cms::content_info::ContentInfo;
use cms::signed_data::{SignedData, SignerIdentifier};
use der::asn1::{ObjectIdentifier, OctetStringRef};
use der::{Decode as _, Encode as _};
use ring::digest;
use rustls_pki_types::{CertificateDer, UnixTime};
use serde::Deserialize;

use crate::error::{BootzError, message};
use crate::x509::{Anchors, check_signature};

/// Content types and attributes (RFC 5652, sections 5.1, 11.1 and 11.2).
const SIGNED_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.2");
const CONTENT_TYPE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.3");
const MESSAGE_DIGEST: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.4");
/// Hash functions (RFC 5754, section 2).
const SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.1");
const SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.2");
const SHA512: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.3");
/// Longest message, in octets.
const LONGEST: usize = 256 * 1024;

/// A signed message with a correct signature. Whether its signer is trusted must be checked separately.
pub(crate) struct Signed {
    /// What was signed.
    pub(crate) content: Vec<u8>,
    /// Who signed.
    pub(crate) signer: CertificateDer<'static>,
    /// The other certificates in it.
    pub(crate) others: Vec<CertificateDer<'static>>,
}

/// Reads a signed message with one signer, and checks its signature.
///
/// # Errors
/// It has another form, or the signature is wrong.
pub(crate) fn read_signed(what: &'static str, octets: &[u8]) -> Result<Signed, BootzError> {
    let malformed = |error: der::Error| message(what, error);
    if octets.len() > LONGEST {
        return Err(message(what, "it is too long"));
    }
    let info = ContentInfo::from_der(octets).map_err(malformed)?;
    if info.content_type != SIGNED_DATA {
        return Err(message(what, "not a signed message (RFC 5652, section 5)"));
    }
    let signed: SignedData = info.content.decode_as().map_err(malformed)?;
    let [signer] = signed.signer_infos.0.as_slice() else {
        return Err(message(what, "expected one signer"));
    };
    let content = match &signed.encap_content_info.econtent {
        Some(any) => any
            .decode_as::<OctetStringRef<'_>>()
            .map_err(malformed)?
            .as_bytes()
            .to_vec(),
        None => Vec::new(),
    };
    let SignerIdentifier::IssuerAndSerialNumber(sid) = &signer.sid else {
        return Err(message(what, "expected a signer by issuer and serial number"));
    };
    let (mut own, mut others) = (None, Vec::new());
    for choice in signed.certificates.iter().flat_map(|set| set.0.iter()) {
        let CertificateChoices::Certificate(certificate) = choice else {
            continue;
        };
        let der = CertificateDer::from(certificate.to_der().map_err(malformed)?);
        let tbs = &certificate.tbs_certificate;
        if own.is_none() && tbs.issuer == sid.issuer && tbs.serial_number == sid.serial_number {
            own = Some(der);
        } else {
            others.push(der);
        }
    }
    let own = own.ok_or_else(|| message(what, "the signer's certificate is not in it"))?;
    let to_verify = match &signer.signed_attrs {
        None => content.clone(),
        Some(attributes) => {
            // RFC 5652, section 5.4: the digest and the type of the content must be among them, each once.
            let one = |oid: ObjectIdentifier| {
                let mut found = attributes.iter().filter(|a| a.oid == oid);
                match (found.next(), found.next()) {
                    (Some(attribute), None) if attribute.values.len() == 1 => attribute.values.get(0),
                    _ => None,
                }
            };
            let kind = one(CONTENT_TYPE).and_then(|v| v.decode_as::<ObjectIdentifier>().ok());
            if kind != Some(signed.encap_content_info.econtent_type) {
                return Err(message(what, "its type is not the one that was signed"));
            }
            let algorithm = match signer.digest_alg.oid {
                SHA256 => &digest::SHA256,
                SHA384 => &digest::SHA384,
                SHA512 => &digest::SHA512,
                other => {
                    return Err(message(
                        what,
                        format!("hash function {other}: expected SHA-256, -384 or -512"),
                    ));
                }
            };
            let signed_digest = one(MESSAGE_DIGEST).and_then(|v| v.decode_as::<OctetStringRef<'_>>().ok());
            let found = digest::digest(algorithm, &content);
            if signed_digest.is_none_or(|d| d.as_bytes() != found.as_ref()) {
                return Err(BootzError::Signature(what));
            }
            attributes.to_der().map_err(malformed)?
        }
    };
    check_signature(what, &own, &to_verify, signer.signature.as_bytes())?;
    Ok(Signed {
        content,
        signer: own,
        others,
    })
}

/// The voucher as JSON (RFC 8366, section 5.3). Other fields are ignored.
#[derive(Deserialize)]
struct Document {
    #[serde(rename = "ietf-voucher:voucher")]
    voucher: Voucher,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Voucher {
    serial_number: String,
    pinned_domain_cert: String,
    #[serde(default)]
    expires_on: Option<String>,
}

/// The certificate that a voucher pins: that of the owner, or of one of the owner's authorities.
///
/// # Errors
/// No trusted manufacturer has signed it, it is for another device, or it has expired.
pub fn pinned(voucher: &[u8], serial: &str, manufacturers: &Anchors, now: UnixTime) -> Result<Anchors, BootzError> {
    const WHAT: &str = "the ownership voucher";
    let signed = read_signed(WHAT, voucher)?;
    manufacturers.check(WHAT, &signed.signer, &signed.others, now)?;
    let document: Document = serde_json::from_slice(&signed.content).map_err(|error| message(WHAT, error))?;
    let Voucher {
        serial_number,
        pinned_domain_cert,
        expires_on,
    } = document.voucher;
    if serial_number != serial {
        let found: String = serial_number.chars().take(64).collect();
        return Err(BootzError::Voucher(format!(
            "is for device `{found}`, not for `{serial}`"
        )));
    }
    if let Some(end) = expires_on {
        let parsed = humantime::parse_rfc3339(&end).map_err(|_| message(WHAT, "`expires-on` is no time in UTC"))?;
        let end = parsed.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        if end.as_secs() < now.as_secs() {
            return Err(BootzError::Voucher(format!(
                "expired at {}",
                humantime::format_rfc3339_seconds(parsed)
            )));
        }
    }
    let pinned = BASE64_STANDARD.decode(pinned_domain_cert.trim());
    let pinned = pinned.map_err(|_| message(WHAT, "`pinned-domain-cert` is not base64"))?;
    Anchors::new("the certificate in the voucher", vec![CertificateDer::from(pinned)])
}

/// The certificate of the owner, which the pinned one vouches for.
///
/// # Errors
/// The pinned certificate does not vouch for it.
pub fn owner(certificate: &[u8], pinned: &Anchors, now: UnixTime) -> Result<CertificateDer<'static>, BootzError> {
    const WHAT: &str = "the ownership certificate";
    let signed = read_signed(WHAT, certificate)?;
    pinned.check(WHAT, &signed.signer, &signed.others, now)?;
    Ok(signed.signer)
}

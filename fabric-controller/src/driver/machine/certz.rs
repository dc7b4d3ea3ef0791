//! A switch gets a newer certificate while it runs (gNSI Certz, `Rotate`).
//!
//! | step | who | if it fails |
//! | --- | --- | --- |
//! | make a key and a request | switch | nothing has changed |
//! | sign; names come from the inventory, only the key from the request | controller | the stream ends, nothing has changed |
//! | upload | controller | the stream ends, the switch keeps the earlier certificate |
//! | test: a new connection must show the new certificate | controller | the stream ends, the switch returns to the earlier certificate |
//! | finalize | controller | a new connection shows which of the two is in use |
//!
//! The authorities that the switch trusts are left as they are.

use std::time::{Duration, SystemTime};

use fabric_bootz::authority::Issued;
use fabric_bootz::data::{PROFILE, SwitchConfig};
use fabric_identity::{Dialer, FabricName, Identity, Subject};
use gnoi_proto::gnsi::certz::v1::certificate::{CertificateType as Raw, KeySource, PrivateKeyType};
use gnoi_proto::gnsi::certz::v1::certz_client::CertzClient;
use gnoi_proto::gnsi::certz::v1::entity::Entity as Part;
use gnoi_proto::gnsi::certz::v1::rotate_certificate_request::RotateRequest as Ask;
use gnoi_proto::gnsi::certz::v1::rotate_certificate_response::RotateResponse as Reply;
use gnoi_proto::gnsi::certz::v1::{
    Certificate, CertificateChain, CertificateEncoding, CertificateSigningRequest, CertificateType, CsrParams,
    CsrSuite, Entity, FinalizeRequest, GenerateCsrRequest, RotateCertificateRequest, RotateCertificateResponse,
    UploadRequest,
};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Status, Streaming};
use vfabric_api::topology::Switch;

use super::{CERTZ, MachineError, Signer, failed};

/// Longest wait for each reply: the switch makes a key, and writes to its disk.
const PATIENCE: Duration = Duration::from_secs(20);

/// A rotation of one switch's certificate.
pub(super) struct Rotation<'a> {
    pub(super) switch: &'a Switch,
    /// Connects to the switch.
    pub(super) dialer: Dialer,
    pub(super) signer: &'a Signer,
    pub(super) fabric: FabricName,
}

/// The stream.
struct Talk {
    asks: mpsc::Sender<RotateCertificateRequest>,
    replies: Streaming<RotateCertificateResponse>,
}

fn late() -> MachineError {
    MachineError::Unreachable(format!("{CERTZ}: no reply in {} s", PATIENCE.as_secs()))
}

fn unexpected(what: &str) -> MachineError {
    MachineError::Refused(format!("{CERTZ}: expected {what}"))
}

impl Talk {
    /// Opens the stream with its first message, which some servers wait for before they reply.
    async fn begin(channel: Channel, first: Ask) -> Result<Self, MachineError> {
        let (asks, receiver) = mpsc::channel(1);
        // The queue has room for one message.
        let _ = asks.try_send(request(first));
        let mut client = CertzClient::new(channel);
        let call = timeout(PATIENCE, client.rotate(ReceiverStream::new(receiver))).await;
        let replies = call.map_err(|_| late())?.map_err(|status| failed(CERTZ, &status))?;
        Ok(Self {
            asks,
            replies: replies.into_inner(),
        })
    }

    async fn next(&mut self) -> Result<Option<Reply>, MachineError> {
        let next = timeout(PATIENCE, self.replies.message()).await.map_err(|_| late())?;
        let next = next.map_err(|status: Status| failed(CERTZ, &status))?;
        Ok(next.and_then(|reply| reply.rotate_response))
    }

    async fn ask(&mut self, ask: Ask) -> Result<Option<Reply>, MachineError> {
        let sent = self.asks.send(request(ask)).await;
        // The last message of the stream says why the switch has ended it.
        let next = self.next().await?;
        sent.map_err(|_| unexpected("a stream that stays open")).map(|()| next)
    }
}

fn request(ask: Ask) -> RotateCertificateRequest {
    RotateCertificateRequest {
        ssl_profile_id: PROFILE.into(),
        rotate_request: Some(ask),
        ..RotateCertificateRequest::default()
    }
}

/// The request in DER.
fn der(request: &CertificateSigningRequest) -> Result<Vec<u8>, MachineError> {
    let octets = &request.certificate_signing_request;
    if octets.starts_with(b"-----BEGIN") || request.encoding() == CertificateEncoding::Pem {
        let text = x509_parser::pem::parse_x509_pem(octets);
        return text
            .map(|(_, pem)| pem.contents)
            .map_err(|_| unexpected("a request in PEM"));
    }
    Ok(octets.clone())
}

fn upload(certificate: &str) -> Ask {
    let own = CertificateChain {
        certificate: Some(Certificate {
            r#type: CertificateType::X509.into(),
            encoding: CertificateEncoding::Pem.into(),
            certificate_type: Some(Raw::RawCertificate(certificate.as_bytes().to_vec())),
            private_key_type: Some(PrivateKeyType::KeySource(KeySource::Generated.into())),
            ..Certificate::default()
        }),
        parent: None,
    };
    let created_on = super::since_1970().as_secs();
    Ask::Certificates(UploadRequest {
        entities: vec![Entity {
            version: created_on.to_string(),
            created_on,
            entity: Some(Part::CertificateChain(own)),
        }],
    })
}

impl Rotation<'_> {
    /// Carries out all steps. Returns the last second of the new certificate.
    ///
    /// # Errors
    /// A step failed. The switch has its earlier certificate, unless the message says
    /// otherwise.
    pub(super) async fn run(&self, channel: Channel) -> Result<i64, MachineError> {
        let params = CsrParams {
            csr_suite: CsrSuite::CsrsuiteX509KeyTypeEcdsaPrime256v1SignatureAlgorithmSha2256.into(),
            common_name: self.switch.name.to_string(),
            ..CsrParams::default()
        };
        let mut talk = Talk::begin(channel, Ask::GenerateCsr(GenerateCsrRequest { params: Some(params) })).await?;
        let Some(Reply::GeneratedCsr(generated)) = talk.next().await? else {
            return Err(unexpected("a request for a certificate"));
        };
        let request = generated.certificate_signing_request;
        let request = der(&request.ok_or_else(|| unexpected("a request for a certificate"))?)?;
        let issued = self.issue(&request)?;
        let Some(Reply::Certificates(_)) = talk.ask(upload(&issued.certificate)).await? else {
            return Err(unexpected("the certificate to be taken"));
        };
        let expected = i64::try_from(issued.not_after).unwrap_or(i64::MAX);
        self.shows(expected).await?;
        let finalized = talk.ask(Ask::FinalizeRotation(FinalizeRequest {})).await;
        drop(talk);
        // From here on, only the certificate that the switch shows decides.
        match (finalized, self.shows(expected).await) {
            (Ok(_), Ok(())) => Ok(expected),
            (_, Err(error)) | (Err(error), Ok(())) => Err(error),
        }
    }

    fn issue(&self, request: &[u8]) -> Result<Issued, MachineError> {
        let name = self.switch.name.to_string();
        let identity = Identity {
            fabric: self.fabric.clone(),
            subject: Subject::Switch(name.clone()),
        };
        let config = SwitchConfig {
            hostname: name,
            device_id: self.switch.device_id.into(),
            listen: self.switch.p4runtime,
        };
        let Signer { authority, valid } = self.signer;
        let issued = authority.issue(&identity, config.names(), Some(request), *valid, SystemTime::now());
        issued.map_err(|error| MachineError::Refused(format!("{CERTZ}: {}", fabric_identity::explain(&error))))
    }

    /// Checks that a new connection shows the certificate that ends in this second. The dialer trusts only the fabric's authorities.
    async fn shows(&self, not_after: i64) -> Result<(), MachineError> {
        let address = self.switch.p4runtime.to_string();
        let connected = timeout(PATIENCE, self.dialer.connect(&address))
            .await
            .map_err(|_| late())?;
        let refused = |error| MachineError::Refused(format!("{CERTZ}: the new certificate does not work: {error}"));
        connected.map_err(refused)?;
        match self.dialer.peer_validity() {
            Some(shown) if shown.not_after == not_after => Ok(()),
            _ => Err(MachineError::Refused(format!(
                "{CERTZ}: a new connection shows the earlier certificate"
            ))),
        }
    }
}

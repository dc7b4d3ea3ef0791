//! gNSI Certz: the certificate of the switch is replaced while it runs, and comes back unless the client finalizes.
//!
//! **Model.** There is one profile. `Rotate` takes a certificate with its key (made here on request, sent, or the one in use) and,
//! if they are sent, authorities. They are tried: new connections use them, and the files are as before. When the client finalizes,
//! they are stored. If the stream ends before, the process ends, or [`LONGEST`] passes, what was there before is in use again.
//!
//! **Files.** What is stored is three files that belong together, so it is first written as one, `certz.json` beside the certificate.
//! [`recover`] runs before the files are read at a start: if the record is newer than the certificate, it writes the three again.
//!
//! **What it does not do.** Revocation lists, policies, PKCS #7, other profiles; keys other than ECDSA P-256 are not made here.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use fabric_bootz::data;
use fabric_bootz::device::{new_key, signing_request};
use fabric_bootz::x509::pem;
use fabric_identity::{Credentials, Files, Trial, explain, write_private};
use gnoi_proto::gnsi::certz::v1::certificate::{CertificateType as Raw, KeySource, PrivateKeyType};
use gnoi_proto::gnsi::certz::v1::certz_server::Certz;
use gnoi_proto::gnsi::certz::v1::entity::Entity as Part;
use gnoi_proto::gnsi::certz::v1::rotate_certificate_request::RotateRequest as Ask;
use gnoi_proto::gnsi::certz::v1::rotate_certificate_response::RotateResponse as Reply;
use gnoi_proto::gnsi::certz::v1::{
    CanGenerateCsrRequest, CanGenerateCsrResponse, Certificate, CertificateChain, CertificateEncoding,
    CertificateSigningRequest, CertificateType, CsrParams, CsrSuite, GenerateCsrResponse, GetProfileListRequest,
    GetProfileListResponse, RotateCertificateRequest, RotateCertificateResponse, UploadRequest, UploadResponse,
};
use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, mpsc};
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming, async_trait};

/// Id of the profile of P4Runtime, gNMI and gNOI.
pub const PROFILE: &str = data::PROFILE;
/// Longest time from the beginning of a rotation to its end.
pub const LONGEST: Duration = Duration::from_secs(120);
/// Most certificates of a chain or bundle.
const MOST: usize = 16;
/// The record of the last rotation, beside the certificate.
const RECORD: &str = "certz.json";

/// Certificate, key and authorities that belong together, PEM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    ca: String,
    cert: String,
    key: String,
}

impl Record {
    fn path(files: &Files) -> PathBuf {
        files.cert.parent().unwrap_or(Path::new(".")).join(RECORD)
    }

    fn credentials(&self) -> Option<Arc<Credentials>> {
        Credentials::from_pem(self.ca.as_bytes(), self.cert.as_bytes(), self.key.as_bytes()).ok()
    }

    fn write(&self, files: &Files) -> std::io::Result<()> {
        write_private(&files.ca, self.ca.as_bytes())?;
        write_private(&files.key, self.key.as_bytes())?;
        write_private(&files.cert, self.cert.as_bytes())
    }
}

/// Finishes a rotation that was stored, if the process ended before all its files were written.
///
/// # Errors
/// The files cannot be written.
pub fn recover(files: &Files) -> std::io::Result<()> {
    let text = match std::fs::read(Record::path(files)) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        text => text?,
    };
    let Ok(record) = serde_json::from_slice::<Record>(&text) else {
        tracing::warn!(path = %Record::path(files).display(), "this is not a record of a rotation; it is left out");
        return Ok(());
    };
    let since = |credentials: &Credentials| credentials.expiry().own.not_before;
    let Some(recorded) = record.credentials() else {
        return Ok(());
    };
    // Somebody may have put newer files there since, for another name too.
    let is_newer = Credentials::load(files.clone()).map_or(true, |held| {
        held.identity() == recorded.identity() && since(&recorded) > since(&held)
    });
    if is_newer {
        tracing::info!("finishing the rotation of the certificate");
        record.write(files)?;
    }
    Ok(())
}

/// The TLS profile.
pub struct Profile {
    credentials: Arc<Credentials>,
    files: Files,
    /// Held while it is rotated.
    rotating: Arc<Mutex<()>>,
}

impl Profile {
    /// Of credentials that were loaded from these files.
    pub fn new(credentials: Arc<Credentials>, files: Files) -> Self {
        Self {
            credentials,
            files,
            rotating: Arc::default(),
        }
    }

    fn store(&self, record: &Record) -> Result<(), Status> {
        let failed = |error: &dyn std::fmt::Display| {
            let words = format!("the certificate cannot be stored, so the earlier one is in use again: {error}");
            Status::failed_precondition(words)
        };
        let text = serde_json::to_vec(record).map_err(|error| failed(&error))?;
        write_private(&Record::path(&self.files), &text).map_err(|error| failed(&error))?;
        record.write(&self.files).map_err(|error| failed(&error))
    }
}

/// The service.
#[derive(Clone)]
pub struct CertzService(Arc<Profile>);

impl CertzService {
    /// Of a profile.
    pub fn new(profile: Arc<Profile>) -> Self {
        Self(profile)
    }
}

/// A rotation that is under way.
#[derive(Default)]
struct Rotation {
    /// Key that was made here.
    made: Option<String>,
    tried: Option<(Trial, Record)>,
}

fn invalid(words: impl Into<String>) -> Status {
    Status::invalid_argument(words)
}

fn can_generate(params: Option<&CsrParams>) -> bool {
    use CsrSuite::{
        CsrsuiteCipherUnspecified as Any, CsrsuiteX509KeyTypeEcdsaPrime256v1SignatureAlgorithmSha2256 as P256,
    };
    params.is_none_or(|params| matches!(params.csr_suite(), Any | P256))
}

/// A certificate as PEM, whichever encoding it has.
fn text(certificate: &Certificate) -> Result<String, Status> {
    #[expect(deprecated, reason = "older clients send it")]
    let octets = match &certificate.certificate_type {
        Some(Raw::RawCertificate(octets)) => octets,
        Some(Raw::CertSource(_)) => return Err(Status::unimplemented("cert_source: expected raw_certificate")),
        None => &certificate.certificate,
    };
    match certificate.encoding() {
        CertificateEncoding::Der => Ok(pem(&CertificateDer::from(octets.clone()))),
        _ => String::from_utf8(octets.clone())
            .map_err(|_| invalid("certificate: expected PEM or DER, as its encoding says")),
    }
}

/// All certificates of a chain, from the first to the root.
fn chain(chain: &CertificateChain) -> Result<(Option<&Certificate>, String), Status> {
    let (mut all, mut next, mut count) = (String::new(), Some(chain), 0);
    while let Some(link) = next {
        count += 1;
        if count > MOST {
            return Err(invalid(format!("more than {MOST} certificates in a chain")));
        }
        if let Some(certificate) = &link.certificate {
            all.push_str(&text(certificate)?);
            if !all.ends_with('\n') {
                all.push('\n');
            }
        }
        next = link.parent.as_deref();
    }
    Ok((chain.certificate.as_ref(), all))
}

impl Rotation {
    /// The key that a certificate is for.
    fn key(&self, certificate: &Certificate, in_use: &Credentials) -> Result<String, Status> {
        let utf8 = |octets: &[u8]| String::from_utf8(octets.to_vec()).map_err(|_| invalid("private_key: expected PEM"));
        #[expect(deprecated, reason = "older clients send it")]
        let older = &certificate.private_key;
        match &certificate.private_key_type {
            Some(PrivateKeyType::RawPrivateKey(octets)) => utf8(octets),
            Some(PrivateKeyType::KeySource(source)) if *source == i32::from(KeySource::Generated) => {
                let made = self.made.clone();
                made.ok_or_else(|| Status::failed_precondition("key_source: no key was made in this rotation"))
            }
            Some(PrivateKeyType::KeySource(_)) => Err(Status::unimplemented("key_source: expected GENERATED")),
            None if !older.is_empty() => utf8(older),
            // Of the key that was made just now, or else the one in use is certified again.
            None => self.made.clone().map_or_else(|| utf8(&in_use.key()), Ok),
        }
    }

    /// Takes what was uploaded into use.
    fn try_out(&mut self, profile: &Profile, upload: &UploadRequest) -> Result<(), Status> {
        // A second upload replaces the first.
        self.tried = None;
        let credentials = &profile.credentials;
        let (mut own, mut ca) = (None, None);
        for entity in &upload.entities {
            match &entity.entity {
                Some(Part::CertificateChain(parts)) => own = Some(chain(parts)?),
                Some(Part::TrustBundle(parts)) => ca = Some(chain(parts)?.1),
                _ => {
                    return Err(Status::unimplemented(
                        "entities: expected certificate_chain and trust_bundle",
                    ));
                }
            }
        }
        let (key, cert) = match own {
            Some((Some(first), cert)) => (self.key(first, credentials)?, cert),
            _ => return Err(invalid("entities: expected a certificate_chain with a certificate")),
        };
        let ca = match ca {
            Some(ca) => ca,
            None => String::from_utf8(credentials.authorities())
                .map_err(|_| Status::internal("the authorities are not text"))?,
        };
        let tried = credentials.try_out(ca.as_bytes(), cert.as_bytes(), key.as_bytes());
        let trial = tried.map_err(|error| invalid(explain(&error)))?;
        self.tried = Some((trial, Record { ca, cert, key }));
        Ok(())
    }

    /// # Errors
    /// Why the rotation ends without success; dropping it brings the earlier certificate back.
    async fn talk(
        mut self,
        profile: &Profile,
        requests: &mut Streaming<RotateCertificateRequest>,
        replies: &mpsc::Sender<Result<RotateCertificateResponse, Status>>,
    ) -> Result<(), Status> {
        let gone = |_| Status::cancelled("the client is gone");
        while let Some(message) = requests.message().await? {
            if message.ssl_profile_id != PROFILE {
                let shown: String = message.ssl_profile_id.chars().take(100).collect();
                return Err(Status::not_found(format!(
                    "ssl_profile_id: `{shown}`: expected `{PROFILE}`"
                )));
            }
            let reply = match message.rotate_request {
                Some(Ask::GenerateCsr(ask)) => {
                    if !can_generate(ask.params.as_ref()) {
                        return Err(Status::unimplemented(
                            "csr_suite: expected ECDSA_PRIME256V1 with SHA_2_256",
                        ));
                    }
                    let failed = |error| Status::internal(explain(&error));
                    let key = new_key().map_err(failed)?;
                    let request = signing_request(&key).map_err(failed)?;
                    self.made = Some(key);
                    Reply::GeneratedCsr(GenerateCsrResponse {
                        certificate_signing_request: Some(CertificateSigningRequest {
                            r#type: CertificateType::X509.into(),
                            encoding: CertificateEncoding::Der.into(),
                            certificate_signing_request: request,
                        }),
                    })
                }
                Some(Ask::Certificates(upload)) => {
                    self.try_out(profile, &upload)?;
                    tracing::info!("a new certificate is on trial");
                    Reply::Certificates(UploadResponse {})
                }
                Some(Ask::FinalizeRotation(_)) => {
                    let (trial, record) = self
                        .tried
                        .take()
                        .ok_or_else(|| Status::failed_precondition("finalize: nothing was uploaded"))?;
                    profile.store(&record)?;
                    trial.keep();
                    tracing::info!("the new certificate stays");
                    return Ok(());
                }
                None => return Err(invalid("rotate_request: missing")),
            };
            let reply = RotateCertificateResponse {
                rotate_response: Some(reply),
            };
            replies.send(Ok(reply)).await.map_err(gone)?;
        }
        Err(Status::aborted(
            "the stream ended before finalize_rotation: the earlier certificate is in use again",
        ))
    }
}

#[async_trait]
impl Certz for CertzService {
    type RotateStream = ReceiverStream<Result<RotateCertificateResponse, Status>>;

    async fn rotate(
        &self,
        request: Request<Streaming<RotateCertificateRequest>>,
    ) -> Result<Response<Self::RotateStream>, Status> {
        let held = Arc::clone(&self.0.rotating).try_lock_owned();
        let held = held.map_err(|_| Status::unavailable("another rotation is under way"))?;
        let (profile, mut requests) = (Arc::clone(&self.0), request.into_inner());
        let (out, replies) = mpsc::channel(1);
        tokio::spawn(async move {
            let _held = held;
            let done = timeout(LONGEST, Rotation::default().talk(&profile, &mut requests, &out)).await;
            let late = |_| Status::deadline_exceeded(format!("a rotation takes at most {} s", LONGEST.as_secs()));
            if let Err(status) = done.map_err(late).flatten() {
                tracing::warn!(why = status.message(), "the certificate was not rotated");
                // The client may be gone.
                let _ = out.send(Err(status)).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(replies)))
    }

    async fn get_profile_list(
        &self,
        _: Request<GetProfileListRequest>,
    ) -> Result<Response<GetProfileListResponse>, Status> {
        Ok(Response::new(GetProfileListResponse {
            ssl_profile_ids: vec![PROFILE.into()],
        }))
    }

    async fn can_generate_csr(
        &self,
        request: Request<CanGenerateCsrRequest>,
    ) -> Result<Response<CanGenerateCsrResponse>, Status> {
        Ok(Response::new(CanGenerateCsrResponse {
            can_generate: can_generate(request.get_ref().params.as_ref()),
        }))
    }
}

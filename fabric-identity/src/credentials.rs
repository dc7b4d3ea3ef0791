//! This process's certificate and key, and the authorities that it trusts. They are reloaded while it runs.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::crypto::CryptoProvider;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, TrustAnchor};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::certificate::{Validity, identity, moment, validity};
use crate::error::IdentityError;
use crate::spiffe::{FabricName, Identity, Subject};

/// How often the files are checked. New certificates are issued hours before the old ones expire.
pub const FOLLOW_EVERY: Duration = Duration::from_secs(5);
/// The warning about an expiry is repeated after this time.
const WARN_AGAIN: Duration = Duration::from_secs(3600);

/// Where credentials are kept, all PEM.
#[derive(Debug, Clone)]
pub struct Files {
    /// Certificates of the authorities to trust; several while an authority is being replaced.
    pub ca: PathBuf,
    /// Own certificate, followed by intermediate ones if there are any.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// The contents of [`Files`].
#[derive(Clone, PartialEq, Eq)]
struct Pem {
    ca: Vec<u8>,
    cert: Vec<u8>,
    key: Vec<u8>,
}

/// One set of credentials that belong together.
pub(crate) struct Keys {
    pub(crate) identity: Identity,
    pub(crate) certified: Arc<CertifiedKey>,
    pub(crate) anchors: Vec<TrustAnchor<'static>>,
    own: Validity,
    authorities: Vec<Validity>,
}

/// When credentials expire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expiry {
    /// The own certificate.
    pub own: Validity,
    /// The authority that expires first.
    pub authority: Validity,
}

impl Expiry {
    /// Warnings about credentials that expire soon or have expired.
    pub fn warnings(&self) -> Vec<String> {
        let named = [
            ("the own certificate", self.own),
            ("an authority's certificate", self.authority),
        ];
        let each = named.into_iter().filter_map(|(what, validity)| validity.warning(what));
        each.collect()
    }
}

/// The credentials of this process. Everything that uses them takes the newest ones for each new connection.
pub struct Credentials {
    files: Option<Files>,
    pem: Mutex<Pem>,
    keys: ArcSwap<Keys>,
    generation: watch::Sender<u64>,
    /// Whether the credentials in use are on trial. They may differ from those in the files.
    on_trial: AtomicBool,
    pub(crate) provider: Arc<CryptoProvider>,
}

/// Credentials on trial: they are in use until this is dropped or kept.
#[must_use = "the credentials are in use until this is dropped"]
pub struct Trial {
    credentials: Arc<Credentials>,
    before: Option<Pem>,
}

impl Trial {
    /// Keeps the tried credentials in use. If the credentials come from files, the caller must have written them there
    /// before.
    pub fn keep(mut self) {
        self.before = None;
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        if let Some(before) = self.before.take()
            && let Err(error) = self.credentials.take(before)
        {
            // These credentials were in use before, so setting them cannot fail.
            tracing::error!(
                error = crate::words::explain(&error),
                "the earlier credentials cannot be used again"
            );
        }
        self.credentials.on_trial.store(false, Ordering::Release);
    }
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials")
            .field("identity", &self.keys.load().identity)
            .finish_non_exhaustive()
    }
}

fn read(path: &Path) -> Result<Vec<u8>, IdentityError> {
    std::fs::read(path).map_err(|source| IdentityError::Read {
        path: path.to_owned(),
        source,
    })
}

impl Files {
    fn read(&self) -> Result<Pem, IdentityError> {
        Ok(Pem {
            ca: read(&self.ca)?,
            cert: read(&self.cert)?,
            key: read(&self.key)?,
        })
    }
}

/// Names of the parts in errors.
struct Names {
    ca: String,
    cert: String,
    key: String,
}

impl Names {
    fn of(files: Option<&Files>) -> Self {
        let name = |path: Option<&PathBuf>, otherwise: &str| {
            path.map_or_else(|| otherwise.to_owned(), |path| path.display().to_string())
        };
        Self {
            ca: name(files.map(|f| &f.ca), "the authorities"),
            cert: name(files.map(|f| &f.cert), "the certificate"),
            key: name(files.map(|f| &f.key), "the key"),
        }
    }
}

pub(crate) fn certificates(what: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let problem = |problem: String| IdentityError::Pem {
        what: what.to_owned(),
        problem,
    };
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(|error| problem(error.to_string()))?;
    if found.is_empty() {
        return Err(problem("no certificate in it (PEM is expected)".into()));
    }
    Ok(found)
}

impl Keys {
    fn new(pem: &Pem, names: &Names, provider: &CryptoProvider) -> Result<Self, IdentityError> {
        let chain = certificates(&names.cert, &pem.cert)?;
        let spiffe = |source| IdentityError::Spiffe {
            what: names.cert.clone(),
            source,
        };
        let own_certificate = chain.first().ok_or_else(|| spiffe(crate::SpiffeError::Missing))?;
        let identity = identity(own_certificate).map_err(spiffe)?;
        let own = validity(own_certificate).map_err(spiffe)?;
        let key = PrivateKeyDer::from_pem_slice(&pem.key).map_err(|error| IdentityError::Pem {
            what: names.key.clone(),
            problem: error.to_string(),
        })?;
        let unusable = |source| IdentityError::Key {
            what: format!("{} with {}", names.cert, names.key),
            source,
        };
        let signing = provider.key_provider.load_private_key(key).map_err(unusable)?;
        let certified = CertifiedKey::new(chain, signing);
        certified.keys_match().map_err(unusable)?;

        let (mut anchors, mut authorities) = (Vec::new(), Vec::new());
        for authority in certificates(&names.ca, &pem.ca)? {
            let problem = |problem: String| IdentityError::Pem {
                what: names.ca.clone(),
                problem,
            };
            let anchor = webpki::anchor_from_trusted_cert(&authority).map_err(|e| problem(e.to_string()))?;
            anchors.push(anchor.to_owned());
            authorities.push(validity(&authority).map_err(|e| problem(e.to_string()))?);
        }
        Ok(Self {
            identity,
            certified: Arc::new(certified),
            anchors,
            own,
            authorities,
        })
    }

    fn expiry(&self) -> Expiry {
        let first = self.authorities.iter().min_by_key(|a| a.not_after);
        Expiry {
            own: self.own,
            authority: first.copied().unwrap_or(self.own),
        }
    }
}

impl Credentials {
    /// Reads credentials from files, for [`Credentials::follow`] to read again.
    ///
    /// # Errors
    /// A file cannot be read or used, or the certificate has no SPIFFE id.
    pub fn load(files: Files) -> Result<Arc<Self>, IdentityError> {
        let pem = files.read()?;
        crate::files::warn_if_readable(&files.key);
        Self::new(pem, Some(files))
    }

    /// Credentials that are not in files.
    ///
    /// # Errors
    /// As [`Credentials::load`].
    pub fn from_pem(ca: &[u8], cert: &[u8], key: &[u8]) -> Result<Arc<Self>, IdentityError> {
        let pem = Pem {
            ca: ca.to_owned(),
            cert: cert.to_owned(),
            key: key.to_owned(),
        };
        Self::new(pem, None)
    }

    fn new(pem: Pem, files: Option<Files>) -> Result<Arc<Self>, IdentityError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let keys = Keys::new(&pem, &Names::of(files.as_ref()), &provider)?;
        Ok(Arc::new(Self {
            files,
            pem: Mutex::new(pem),
            keys: ArcSwap::from_pointee(keys),
            generation: watch::Sender::new(0),
            on_trial: AtomicBool::new(false),
            provider,
        }))
    }

    pub(crate) fn keys(&self) -> arc_swap::Guard<Arc<Keys>> {
        self.keys.load()
    }

    /// Changes when the credentials change.
    pub(crate) fn generation(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }

    /// The identity of this process.
    pub fn identity(&self) -> Identity {
        self.keys.load().identity.clone()
    }

    /// The fabric that this process belongs to.
    pub fn fabric(&self) -> FabricName {
        self.keys.load().identity.fabric.clone()
    }

    /// Fails unless the certificate is for this subject.
    ///
    /// # Errors
    /// [`IdentityError::NotOurs`].
    pub fn expect(&self, subject: &Subject) -> Result<(), IdentityError> {
        let found = self.identity();
        if found.subject == *subject {
            return Ok(());
        }
        Err(IdentityError::NotOurs {
            what: Names::of(self.files.as_ref()).cert,
            found,
            expected: subject.clone(),
        })
    }

    /// When the credentials in use expire.
    pub fn expiry(&self) -> Expiry {
        self.keys.load().expiry()
    }

    /// The authorities that this process trusts, PEM as configured.
    pub fn authorities(&self) -> Vec<u8> {
        self.pem.lock().unwrap_or_else(PoisonError::into_inner).ca.clone()
    }

    /// Whether all these certificates (PEM) are among the trusted authorities.
    ///
    /// # Errors
    /// The certificates cannot be read.
    pub fn trusts_all(&self, pem: &[u8]) -> Result<bool, IdentityError> {
        let trusted = certificates("the authorities", &self.authorities())?;
        let these = certificates("the authority", pem)?;
        Ok(these.iter().all(|one| trusted.contains(one)))
    }

    /// The certificate of the authority that vouches for this process's own certificate. None if the own certificate
    /// has expired, or if no trusted authority vouches for it.
    pub fn own_authority(&self) -> Option<CertificateDer<'static>> {
        let authorities = certificates("the authorities", &self.authorities()).ok()?;
        let keys = self.keys();
        let (own, intermediates) = keys.certified.cert.split_first()?;
        let own = webpki::EndEntityCert::try_from(own).ok()?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        authorities.into_iter().find(|authority| {
            let Ok(anchor) = webpki::anchor_from_trusted_cert(authority) else {
                return false;
            };
            let usage = webpki::KeyUsage::server_auth();
            let now = rustls_pki_types::UnixTime::now();
            own.verify_for_usage(algorithms, &[anchor], intermediates, now, usage, None, None)
                .is_ok()
        })
    }

    /// Replaces the credentials.
    ///
    /// # Errors
    /// The new ones cannot be used, or are for another subject; the ones in use stay.
    pub fn replace(&self, ca: &[u8], cert: &[u8], key: &[u8]) -> Result<(), IdentityError> {
        let pem = Pem {
            ca: ca.to_owned(),
            cert: cert.to_owned(),
            key: key.to_owned(),
        };
        self.take(pem)
    }

    fn take(&self, pem: Pem) -> Result<(), IdentityError> {
        let names = Names::of(self.files.as_ref());
        let keys = Keys::new(&pem, &names, &self.provider)?;
        let own = self.identity();
        if keys.identity != own {
            return Err(IdentityError::NotOurs {
                what: names.cert,
                found: keys.identity,
                expected: own.subject,
            });
        }
        *self.pem.lock().unwrap_or_else(PoisonError::into_inner) = pem;
        self.keys.store(Arc::new(keys));
        self.generation.send_modify(|generation| *generation += 1);
        Ok(())
    }

    /// Replaces the credentials for a trial. When the result is dropped, the earlier ones are used again, unless
    /// [`Trial::keep`] was called. During the trial the files are not read.
    ///
    /// # Errors
    /// The new ones cannot be used, or are for another subject, or there is another trial already; the ones in use
    /// stay.
    pub fn try_out(self: &Arc<Self>, ca: &[u8], cert: &[u8], key: &[u8]) -> Result<Trial, IdentityError> {
        if self.on_trial.swap(true, Ordering::AcqRel) {
            return Err(IdentityError::OnTrial);
        }
        let before = self.pem.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let trial = Trial {
            credentials: Arc::clone(self),
            before: Some(before),
        };
        self.replace(ca, cert, key)?;
        Ok(trial)
    }

    /// The own key (PEM).
    pub fn key(&self) -> Vec<u8> {
        self.pem.lock().unwrap_or_else(PoisonError::into_inner).key.clone()
    }

    /// Reads the files again; true when they hold other credentials than before, which are then in use.
    ///
    /// # Errors
    /// A file cannot be read or used; the credentials in use stay.
    pub fn reload(&self) -> Result<bool, IdentityError> {
        let Some(files) = self.files.as_ref().filter(|_| !self.on_trial.load(Ordering::Acquire)) else {
            return Ok(false);
        };
        let pem = files.read()?;
        if *self.pem.lock().unwrap_or_else(PoisonError::into_inner) == pem {
            return Ok(false);
        }
        // A new certificate with the old key fails here: the program that writes the files has not finished, or made a
        // mistake.
        self.take(pem).map(|()| true)
    }

    /// Watches the files for ever: checks them every [`FOLLOW_EVERY`] and at SIGHUP, uses new contents, and warns before
    /// an expiry. `also` runs at the same moments, for other settings in files.
    ///
    /// # Errors
    /// The process cannot listen for SIGHUP.
    pub async fn follow(self: Arc<Self>, mut also: impl FnMut()) -> std::io::Result<()> {
        let mut hangup = signal(SignalKind::hangup())?;
        let mut clock = tokio::time::interval(FOLLOW_EVERY);
        clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut warned: Option<tokio::time::Instant> = None;
        let mut said = None;
        loop {
            let asked = tokio::select! {
                _ = hangup.recv() => true,
                _ = clock.tick() => false,
            };
            let before = said.take();
            match self.reload() {
                Ok(true) => {
                    let until = moment(self.expiry().own.not_after);
                    tracing::info!(identity = %self.identity(), until, "new certificate, key or authorities are in use");
                    warned = None;
                }
                Ok(false) if asked => tracing::info!("SIGHUP: certificate, key and authorities are unchanged"),
                Ok(false) => {}
                Err(error) => {
                    let text = crate::words::explain(&error);
                    if asked || before.as_ref() != Some(&text) {
                        tracing::error!(
                            error = text,
                            "new certificate, key or authorities cannot be used; the old ones stay in use"
                        );
                    }
                    said = Some(text);
                }
            }
            also();
            if warned.is_none_or(|at| at.elapsed() >= WARN_AGAIN) && self.warn() {
                warned = Some(tokio::time::Instant::now());
            }
        }
    }

    /// Logs credentials that have expired or will expire soon; returns true if there were any.
    fn warn(&self) -> bool {
        let warnings = self.expiry().warnings();
        let identity = self.identity();
        for warning in &warnings {
            tracing::warn!(%identity, "{warning}");
        }
        !warnings.is_empty()
    }
}

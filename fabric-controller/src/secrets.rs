//! The controller's own credentials, and those of the API's users. They are reloaded while it runs.

use std::path::PathBuf;
use std::sync::Arc;

use fabric_identity::{Credentials, Files, IdentityError, Subject};

use crate::access::file::{self, Tokens};
use crate::access::oidc::{Provider, Settings};

/// Certificate, key, authorities and tokens.
pub struct Secrets {
    /// The controller's own.
    pub credentials: Arc<Credentials>,
    /// The operator's tokens for the API.
    pub tokens: Tokens,
    /// The identity provider, whose tokens users of the API may also use.
    pub provider: Option<Provider>,
    token_file: PathBuf,
}

/// Why secrets cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SecretsError {
    /// The certificate, its key or the authorities.
    #[error("{}", fabric_identity::explain(.0))]
    Identity(IdentityError),
    /// The file of tokens, or of an identity provider's keys.
    #[error("{path}: {problem}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
}

fn read(path: &std::path::Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| error.to_string())
}

impl Secrets {
    /// Reads them. If the file of tokens does not exist, it is created with one token.
    ///
    /// # Errors
    /// A file cannot be read or used, or the certificate is not the controller's.
    pub fn load(files: Files, token_file: PathBuf, provider: Option<Settings>) -> Result<Self, SecretsError> {
        let credentials = Credentials::load(files).map_err(SecretsError::Identity)?;
        credentials
            .expect(&Subject::Controller)
            .map_err(SecretsError::Identity)?;
        let at = |path: &PathBuf| {
            let path = path.clone();
            move |problem| SecretsError::File { path, problem }
        };
        let made = file::make(&token_file).map_err(|error| error.to_string());
        if made.map_err(at(&token_file))? {
            tracing::info!(target: "audit", path = %token_file.display(), "the first token of an administrator was \
                created");
        }
        let tokens = read(&token_file).and_then(|text| Tokens::parse(&text));
        let tokens = tokens.map_err(at(&token_file))?;
        let load = |settings: Settings| {
            let path = settings.jwks.clone();
            Provider::load(settings).map_err(at(&path))
        };
        Ok(Self {
            credentials,
            tokens,
            provider: provider.map(load).transpose()?,
            token_file,
        })
    }

    /// Follows the files for ever, like [`Credentials::follow`].
    ///
    /// # Errors
    /// SIGHUP cannot be handled.
    pub async fn follow(&self) -> std::io::Result<()> {
        let (mut said, mut said_of_keys) = (None, None);
        let look = || {
            self.reload_tokens(&mut said);
            self.reload_keys(&mut said_of_keys);
        };
        Arc::clone(&self.credentials).follow(look).await
    }

    /// `said` is the problem that was logged last.
    fn reload_tokens(&self, said: &mut Option<String>) {
        match read(&self.token_file).and_then(|text| self.tokens.replace(&text)) {
            Ok(news) => {
                *said = None;
                if news {
                    tracing::info!(target: "audit", path = %self.token_file.display(), "new tokens are in use");
                }
            }
            Err(problem) => {
                if said.as_ref() != Some(&problem) {
                    let path = self.token_file.display();
                    tracing::error!(%path, problem, "new tokens cannot be used; the old ones stay in use");
                }
                *said = Some(problem);
            }
        }
    }
}

impl Secrets {
    /// The keys of the identity provider; `said` is the problem that was logged last.
    fn reload_keys(&self, said: &mut Option<String>) {
        let Some(provider) = &self.provider else { return };
        match provider.reload() {
            Ok(news) => {
                *said = None;
                if news {
                    tracing::info!(target: "audit", "new keys of the identity provider are in use");
                }
            }
            Err(problem) => {
                if said.as_ref() != Some(&problem) {
                    tracing::error!(
                        problem,
                        "new keys of the identity provider cannot be used; the old ones stay in use"
                    );
                }
                *said = Some(problem);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fabric_identity::testing::Authority;

    #[test]
    fn a_controller_starts_with_its_own_certificate_only_and_takes_new_tokens() {
        let (authority, dir) = (Authority::new(), tempfile::tempdir().unwrap());
        let (old, new) = ("a".repeat(32), "b".repeat(32));
        let token_file = dir.path().join("token");
        std::fs::write(&token_file, &old).unwrap();
        let host = authority.issue("host/h1").write(&authority.pem, dir.path());
        let error = Secrets::load(host, token_file.clone(), None).err().unwrap().to_string();
        assert!(
            error.contains("is for `spiffe://test/host/h1`, but this is `controller`"),
            "{error}"
        );

        let own = authority.issue("controller").write(&authority.pem, dir.path());
        let secrets = Secrets::load(own, token_file.clone(), None).unwrap();
        let mut said = None;
        std::fs::write(&token_file, "short").unwrap();
        secrets.reload_tokens(&mut said);
        assert!(said.as_ref().is_some_and(|s| s.contains("at least 32")), "{said:?}");
        assert_eq!(secrets.tokens.replace(&old), Ok(false), "the old tokens stay valid");
        std::fs::write(&token_file, &new).unwrap();
        secrets.reload_tokens(&mut said);
        assert_eq!((said, secrets.tokens.replace(&new)), (None, Ok(false)));
    }
}

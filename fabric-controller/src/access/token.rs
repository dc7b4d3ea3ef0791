//! Bearer tokens of users: `vfabric_<id>_<secret>`, both parts random.
//!
//! The id finds the token. The secret has 256 bits, so that nobody can guess it from its stored hash.

use argon2::Argon2;
use argon2::password_hash::{PasswordHash, PasswordHasher as _, PasswordVerifier as _, SaltString};
use rand::TryRngCore as _;
use rand::rngs::OsRng;
use subtle::ConstantTimeEq as _;
use vfabric_api::error::{ApiError, ErrorCode};

/// Prefix of every token, by which scanners of repositories find leaked ones.
pub(super) const PREFIX: &str = "vfabric_";
/// Octets of the id and of the secret; twice as many characters.
const OCTETS: (usize, usize) = (8, 32);

/// A token as a user sends it. Never logged or shown.
#[derive(Clone)]
pub(super) struct Secret {
    text: String,
}

/// SHA-256 of a token.
#[derive(Debug, Clone)]
pub(super) struct Digest(Vec<u8>);

impl Digest {
    /// Whether two are the same; takes equally long if they are not.
    pub(super) fn is(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

fn random_hex(octets: usize) -> String {
    use std::fmt::Write as _;
    let mut bytes = vec![0; octets];
    // A system without random numbers cannot make secrets at all.
    OsRng.try_fill_bytes(&mut bytes).expect("the system's random numbers");
    let mut text = String::with_capacity(2 * octets);
    for b in bytes {
        // Writing to a string cannot fail.
        let _ = write!(text, "{b:02x}");
    }
    text
}

impl Secret {
    pub(super) fn random() -> Self {
        Self {
            text: format!("{PREFIX}{}_{}", random_hex(OCTETS.0), random_hex(OCTETS.1)),
        }
    }

    /// `None` if it does not have the form of a token.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (id, secret) = text.strip_prefix(PREFIX)?.split_once('_')?;
        let is_hex = |part: &str, octets| {
            part.len() == 2 * octets && part.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        };
        (is_hex(id, OCTETS.0) && is_hex(secret, OCTETS.1)).then(|| Self { text: text.to_owned() })
    }

    /// The id.
    pub(super) fn id(&self) -> &str {
        self.text
            .get(PREFIX.len()..PREFIX.len() + 2 * OCTETS.0)
            .unwrap_or_default()
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn digest(&self) -> Digest {
        Digest(
            ring::digest::digest(&ring::digest::SHA256, self.text.as_bytes())
                .as_ref()
                .to_vec(),
        )
    }
}

/// Argon2id with the parameters of its crate, which are OWASP's first choice, as a PHC string. Slow on purpose.
///
/// # Errors
/// `Internal`; the parameters are fixed, so it does not happen.
pub(super) fn hash(secret: &Secret) -> Result<String, ApiError> {
    let failed = |e: argon2::password_hash::Error| ApiError::new(ErrorCode::Internal, format!("hash of a token: {e}"));
    let mut salt = [0; 16];
    let no_salt = |_| ApiError::new(ErrorCode::Internal, "the system has no random numbers");
    OsRng.try_fill_bytes(&mut salt).map_err(no_salt)?;
    let salt = SaltString::encode_b64(&salt).map_err(failed)?;
    let hash = Argon2::default().hash_password(secret.text.as_bytes(), &salt);
    Ok(hash.map_err(failed)?.to_string())
}

/// Whether a token has this hash. Slow on purpose.
pub(super) fn verify(secret: &Secret, hash: &str) -> bool {
    let parsed = PasswordHash::new(hash);
    parsed.is_ok_and(|hash| Argon2::default().verify_password(secret.text.as_bytes(), &hash).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_as_it_was_made_and_nothing_else_is_one() {
        let secret = Secret::random();
        let read = Secret::parse(secret.text()).unwrap();
        assert_eq!((read.id().len(), read.id()), (16, secret.id()));
        assert!(read.digest().is(&secret.digest()));
        assert!(!Secret::random().digest().is(&secret.digest()));
        let text = secret.text();
        for wrong in [
            "",
            "vfabric_",
            &text[1..],
            &text[..text.len() - 1],
            &text.to_uppercase(),
            &format!("{text}0"),
        ] {
            assert!(Secret::parse(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn a_hash_fits_its_token_only_and_does_not_show_it() {
        let (secret, other) = (Secret::random(), Secret::random());
        let hash = hash(&secret).unwrap();
        assert!(hash.starts_with("$argon2id$"));
        assert!(!hash.contains(&secret.text()[PREFIX.len() + 17..]));
        assert!(verify(&secret, &hash) && !verify(&other, &hash) && !verify(&secret, "not a hash"));
    }
}

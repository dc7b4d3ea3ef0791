//! The key that bootstrap data is encrypted to, and the encryption: HPKE in base mode with DHKEM(X25519, HKDF-SHA256),
//! HKDF-SHA256 and AES-256-GCM, without additional data (RFC 9180; bootz.proto, `TransportKey`).

use bootz_proto::bootz::{HpkeCipherSuite, TransportKey};
use hpke::aead::AesGcm256;
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::{Deserializable as _, Kem, OpModeR, OpModeS, Serializable as _};

use crate::error::{BootzError, message};

type Private = <X25519HkdfSha256 as Kem>::PrivateKey;
type Public = <X25519HkdfSha256 as Kem>::PublicKey;
type Encapsulated = <X25519HkdfSha256 as Kem>::EncappedKey;

/// Name of the key in errors.
const WHAT: &str = "the transport key";
/// The only suite that encrypts.
const SUITE: HpkeCipherSuite = HpkeCipherSuite::X25519HkdfSha256HkdfSha256Aes256Gcm;

/// Encrypted octets, and what the holder of the private key needs besides it.
pub struct Sealed {
    /// The encapsulated key.
    pub encapsulated: Vec<u8>,
    /// The octets, with the tag at their end.
    pub octets: Vec<u8>,
}

/// The private key of one exchange. It is never written anywhere.
pub struct Secret {
    private: Private,
    public: Public,
}

impl Secret {
    /// A new one.
    pub fn generate() -> Self {
        let (private, public) = X25519HkdfSha256::gen_keypair();
        Self { private, public }
    }

    /// The public part as Bootz sends it.
    pub fn public(&self, nonce: Vec<u8>) -> TransportKey {
        TransportKey {
            cipher_suite: SUITE.into(),
            public_key: self.public.to_bytes().to_vec(),
            nonce,
        }
    }

    /// Decrypts.
    ///
    /// # Errors
    /// The data was encrypted to another key, or was changed.
    pub fn open(&self, sealed: &Sealed) -> Result<Vec<u8>, BootzError> {
        let failed = || BootzError::Seal("decrypted");
        let encapsulated = Encapsulated::from_bytes(&sealed.encapsulated).map_err(|_| failed())?;
        hpke::setup_receiver::<AesGcm256, HkdfSha256, X25519HkdfSha256>(
            &OpModeR::Base,
            &self.private,
            &encapsulated,
            &[],
        )
        .and_then(|mut context| context.open(&sealed.octets, &[]))
        .map_err(|_| failed())
    }
}

/// Encrypts to a transport key.
///
/// # Errors
/// The key asks for another suite, or is not a key.
pub fn seal(key: &TransportKey, octets: &[u8]) -> Result<Sealed, BootzError> {
    if key.cipher_suite() != SUITE {
        let problem = format!(
            "cipher suite {:?}: expected {}",
            key.cipher_suite(),
            SUITE.as_str_name()
        );
        return Err(message(WHAT, problem));
    }
    let public = Public::from_bytes(&key.public_key).map_err(|_| message(WHAT, "expected 32 octets of X25519"))?;
    let failed = |_| BootzError::Seal("encrypted");
    let (encapsulated, mut context) =
        hpke::setup_sender::<AesGcm256, HkdfSha256, X25519HkdfSha256>(&OpModeS::Base, &public, &[]).map_err(failed)?;
    Ok(Sealed {
        encapsulated: encapsulated.to_bytes().to_vec(),
        octets: context.seal(octets, &[]).map_err(failed)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_holder_of_the_key_reads_and_any_change_is_noticed() {
        let secret = Secret::generate();
        let sealed = seal(&secret.public(vec![1]), b"data").unwrap();
        assert_eq!(secret.open(&sealed).unwrap(), b"data");
        assert!(Secret::generate().open(&sealed).is_err());
        for i in 0..sealed.octets.len() {
            let mut octets = sealed.octets.clone();
            octets[i] ^= 1;
            let encapsulated = sealed.encapsulated.clone();
            assert!(secret.open(&Sealed { encapsulated, octets }).is_err(), "octet {i}");
        }
    }

    #[test]
    fn data_is_never_sent_without_encryption() {
        for suite in [HpkeCipherSuite::Unspecified, HpkeCipherSuite::None] {
            let mut key = Secret::generate().public(vec![]);
            key.cipher_suite = suite.into();
            assert!(seal(&key, b"data").is_err(), "{suite:?}");
        }
        let mut key = Secret::generate().public(vec![]);
        key.public_key.pop();
        assert!(seal(&key, b"data").is_err());
        // With a point of small order, the shared secret is known to everybody (RFC 9180, section 7.1.4).
        key.public_key = vec![0; 32];
        assert!(seal(&key, b"data").is_err());
    }
}

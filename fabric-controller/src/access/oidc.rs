//! Tokens of an identity provider (OpenID Connect): JWTs (RFC 7519) signed with a key of its JWK set (RFC 7517).
//!
//! The set is a file that the operator keeps up to date; the controller itself asks nobody. A token proves the subject
//! (`sub`) if its signature is right, its issuer and audience are the configured ones, and it is valid now. Only
//! signatures with key pairs count: with a shared secret, anybody who can check a token could also make one.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use jsonwebtoken::jwk::{Jwk, JwkSet};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;

/// Seconds that the clocks of provider and controller may differ.
const LEEWAY_S: u64 = 60;
/// Longest token, in octets.
const MAX_TOKEN: usize = 16 << 10;
/// Most keys of a set.
const MAX_KEYS: usize = 64;

/// Where tokens come from.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The provider, as `iss` names it.
    pub issuer: String,
    /// This API, as `aud` names it.
    pub audience: String,
    /// File with the provider's JWK set.
    pub jwks: PathBuf,
}

/// A key and its algorithm.
struct Key {
    key: DecodingKey,
    algorithms: Vec<Algorithm>,
}

/// The keys of a provider, by key id.
type Keys = HashMap<String, Key>;

/// An identity provider; clones share its keys.
#[derive(Clone)]
pub struct Provider {
    settings: Settings,
    keys: Arc<ArcSwap<Keys>>,
    text: Arc<ArcSwap<String>>,
}

/// Whether the required ones are present is checked together with the signature.
#[derive(Deserialize)]
struct Claims {
    #[serde(default)]
    sub: String,
    #[serde(default)]
    exp: u64,
}

/// The algorithm of a key; none if it is a shared secret or of an unknown kind.
fn algorithms(jwk: &Jwk) -> Vec<Algorithm> {
    use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve};
    let of_kind = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => vec![
            Algorithm::RS256,
            Algorithm::RS384,
            Algorithm::RS512,
            Algorithm::PS256,
            Algorithm::PS384,
            Algorithm::PS512,
        ],
        AlgorithmParameters::EllipticCurve(curve) => match curve.curve {
            EllipticCurve::P256 => vec![Algorithm::ES256],
            EllipticCurve::P384 => vec![Algorithm::ES384],
            _ => Vec::new(),
        },
        AlgorithmParameters::OctetKeyPair(_) => vec![Algorithm::EdDSA],
        AlgorithmParameters::OctetKey(_) => Vec::new(),
    };
    match jwk.common.key_algorithm {
        Some(named) => {
            let named = named.to_string();
            of_kind.into_iter().filter(|a| format!("{a:?}") == named).collect()
        }
        None => of_kind,
    }
}

fn read(text: &str) -> Result<Keys, String> {
    let set: JwkSet = serde_json::from_str(text).map_err(|e| format!("not a JWK set: {e}"))?;
    if set.keys.len() > MAX_KEYS {
        return Err(format!("{} keys, more than {MAX_KEYS}", set.keys.len()));
    }
    let mut keys = Keys::new();
    for (i, jwk) in set.keys.iter().enumerate() {
        let algorithms = algorithms(jwk);
        if algorithms.is_empty() {
            continue;
        }
        let id = jwk
            .common
            .key_id
            .clone()
            .ok_or_else(|| format!("keys[{i}]: `kid` is missing"))?;
        let key = DecodingKey::from_jwk(jwk).map_err(|e| format!("keys[{i}]: {e}"))?;
        keys.insert(id, Key { key, algorithms });
    }
    if keys.is_empty() {
        return Err("no key that can be used: RSA, P-256, P-384 or Ed25519".into());
    }
    Ok(keys)
}

impl Provider {
    /// With the keys in the file.
    ///
    /// # Errors
    /// The file cannot be read, or has no key that can be used.
    pub fn load(settings: Settings) -> Result<Self, String> {
        let text = std::fs::read_to_string(&settings.jwks).map_err(|e| e.to_string())?;
        let keys = read(&text)?;
        Ok(Self {
            settings,
            keys: Arc::new(ArcSwap::from_pointee(keys)),
            text: Arc::new(ArcSwap::from_pointee(text)),
        })
    }

    /// Reads the file again; returns false if it is unchanged.
    ///
    /// # Errors
    /// As [`Provider::load`]; the old keys stay in use.
    pub fn reload(&self) -> Result<bool, String> {
        let text = std::fs::read_to_string(&self.settings.jwks).map_err(|e| e.to_string())?;
        if **self.text.load() == text {
            return Ok(false);
        }
        self.keys.store(Arc::new(read(&text)?));
        self.text.store(Arc::new(text));
        Ok(true)
    }

    /// The subject that a token proves, and when the token ends (milliseconds since 1970).
    ///
    /// # Errors
    /// Why it proves nobody.
    pub fn subject(&self, token: &str) -> Result<(String, u64), String> {
        if token.len() > MAX_TOKEN {
            return Err("a token of the identity provider that is too long".into());
        }
        let broken = "no valid bearer token";
        let header = jsonwebtoken::decode_header(token).map_err(|_| broken)?;
        let keys = self.keys.load();
        let key = header.kid.as_deref().and_then(|id| keys.get(id));
        let key = key.filter(|key| key.algorithms.contains(&header.alg));
        let key = key.ok_or("a token that is signed with an unknown key")?;
        let mut rules = Validation::new(header.alg);
        rules.leeway = LEEWAY_S;
        rules.validate_nbf = true;
        rules.set_issuer(&[&self.settings.issuer]);
        rules.set_audience(&[&self.settings.audience]);
        rules.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        let decoded = jsonwebtoken::decode::<Claims>(token, &key.key, &rules);
        let claims = decoded
            .map_err(|e| format!("a token of the identity provider: {}", reason(e.kind())))?
            .claims;
        Ok((claims.sub, claims.exp.saturating_mul(1000)))
    }
}

/// Use fixed texts only, because outsiders choose the content of a token.
fn reason(kind: &jsonwebtoken::errors::ErrorKind) -> &'static str {
    use jsonwebtoken::errors::ErrorKind;
    match kind {
        ErrorKind::ExpiredSignature => "it has ended",
        ErrorKind::ImmatureSignature => "it is not valid yet",
        ErrorKind::InvalidIssuer => "another issuer",
        ErrorKind::InvalidAudience => "another audience",
        ErrorKind::InvalidSignature => "a wrong signature",
        ErrorKind::MissingRequiredClaim(_) => "a claim is missing",
        _ => "it is malformed",
    }
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{EncodingKey, Header, encode};
    use serde_json::json;

    use super::super::now_ms;
    use super::*;

    /// A provider with one Ed25519 key, and what signs with it.
    fn provider(dir: &std::path::Path, kid: &str) -> (Provider, EncodingKey) {
        use rcgen::{KeyPair, PKCS_ED25519, PublicKeyData as _};
        let pair = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let x = base64(pair.der_bytes());
        let set = json!({"keys": [
            {"kty": "oct", "k": "c2VjcmV0", "kid": "shared"},
            {"kty": "OKP", "crv": "Ed25519", "x": x, "kid": kid, "use": "sig", "alg": "EdDSA"},
        ]});
        let jwks = dir.join("jwks.json");
        std::fs::write(&jwks, set.to_string()).unwrap();
        let settings = Settings {
            issuer: "https://id.example".into(),
            audience: "vfabric".into(),
            jwks,
        };
        (
            Provider::load(settings).unwrap(),
            EncodingKey::from_ed_der(&pair.serialize_der()),
        )
    }

    /// Without padding, for URLs (RFC 4648, section 5).
    fn base64(octets: &[u8]) -> String {
        const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let mut text = String::new();
        for chunk in octets.chunks(3) {
            let bits = chunk.iter().fold(0u32, |n, b| n << 8 | u32::from(*b)) << (8 * (3 - chunk.len()));
            for i in 0..=chunk.len() {
                text.push(char::from(ALPHABET[(bits >> (18 - 6 * i)) as usize & 63]));
            }
        }
        text
    }

    #[test]
    fn a_token_proves_its_subject_and_every_wrong_one_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let (provider, key) = provider(dir.path(), "k1");
        let now = now_ms() / 1000;
        let sign = |kid: &str, claims: serde_json::Value| {
            let header = Header {
                kid: Some(kid.into()),
                ..Header::new(Algorithm::EdDSA)
            };
            encode(&header, &claims, &key).unwrap()
        };
        let good = json!({"iss": "https://id.example", "aud": "vfabric", "sub": "ada", "exp": now + 300});
        assert_eq!(
            provider.subject(&sign("k1", good.clone())).unwrap(),
            ("ada".into(), (now + 300) * 1000)
        );
        let changed = |name: &str, value: serde_json::Value| {
            let mut claims = good.clone();
            claims[name] = value;
            sign("k1", claims)
        };
        for (token, why) in [
            (changed("iss", "https://evil.example".into()), "another issuer"),
            (changed("aud", "other".into()), "another audience"),
            (changed("exp", (now - 3600).into()), "has ended"),
            (changed("nbf", (now + 3600).into()), "not valid yet"),
            (sign("k2", good.clone()), "unknown key"),
            (sign("shared", good.clone()), "unknown key"),
            ("a.b.c".into(), "no valid"),
            (sign("k1", json!({"sub": "ada"})), "a claim is missing"),
        ] {
            let error = provider.subject(&token).unwrap_err();
            assert!(error.contains(why), "{error} instead of {why}");
        }
        let mut forged = sign("k1", good.clone());
        let last = forged.pop().unwrap();
        forged.insert(forged.len() - 5, if last == 'A' { 'B' } else { 'A' });
        assert!(provider.subject(&forged).is_err());
        let header = Header {
            kid: Some("shared".into()),
            ..Header::new(Algorithm::HS256)
        };
        let shared = encode(&header, &good, &EncodingKey::from_secret(b"secret")).unwrap();
        assert!(
            provider.subject(&shared).unwrap_err().contains("unknown key"),
            "a shared secret counts for nothing"
        );
    }

    #[test]
    fn keys_are_replaced_or_stay() {
        let dir = tempfile::tempdir().unwrap();
        let (provider, _) = provider(dir.path(), "k1");
        assert_eq!(provider.reload(), Ok(false));
        let jwks = &provider.settings.jwks;
        let text = std::fs::read_to_string(jwks).unwrap();
        std::fs::write(jwks, "{}").unwrap();
        assert!(provider.reload().is_err());
        std::fs::write(jwks, text.replace("k1", "k2")).unwrap();
        assert_eq!(provider.reload(), Ok(true));
        assert!(provider.keys.load().contains_key("k2"));
    }
}

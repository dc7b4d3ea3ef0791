//! A whole exchange with vouchers that OpenSSL signed, and manipulations of it, which are refused.

use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bootz_proto::bootz::bootstrap_stream_request_v1::challenge_response::Type as Response;
use bootz_proto::bootz::bootstrap_stream_response_v1::ChallengeRequest;
use bootz_proto::bootz::bootstrap_stream_response_v1::challenge_request::{
    ChallengeRequestTpm20iDevId, Type as Challenge,
};
use bootz_proto::bootz::{BootstrapDataSigned, StreamBootstrapDataResponse};
use bootz_proto::request::Proof;
use fabric_bootz::authority::Authority;
use fabric_bootz::data::{self, Profile, SwitchConfig};
use fabric_bootz::device::{Device, new_key, signing_request};
use fabric_bootz::testing::{Made, signer};
use fabric_bootz::transport::Secret;
use fabric_bootz::x509::Anchors;
use fabric_bootz::{BootzError, proof};
use rustls_pki_types::UnixTime;

const SERIAL: &str = "AF40";

/// A manufacturer, an owner, and one device.
struct World {
    dir: tempfile::TempDir,
    inner: fabric_bootz::testing::World,
    made: Made,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let inner = fabric_bootz::testing::World::new(dir.path());
        let made = inner.maker.device(SERIAL);
        inner.lay_down(SERIAL, &inner.voucher_text(SERIAL, ""));
        Self { dir, inner, made }
    }

    fn device(&self) -> Device {
        let (key, makers) = (self.made.key.as_bytes(), self.inner.maker.pem.as_bytes());
        Device::new("Acme", "s1", &self.made.certificate, key, makers).unwrap()
    }

    fn makers(&self) -> Anchors {
        Anchors::from_pem("makers", self.inner.maker.pem.as_bytes()).unwrap()
    }

    fn proof(&self, secret: &Secret, request: Option<Vec<u8>>) -> Proof {
        let nonce = proof::nonce().unwrap();
        let challenge = ChallengeRequest {
            r#type: Some(Challenge::Tpm20Idevid(ChallengeRequestTpm20iDevId {
                nonce: nonce.clone(),
            })),
        };
        let response = self.device().respond(&challenge, secret, request).unwrap();
        let Some(Response::Tpm20Idevid(response)) = response.r#type else {
            panic!("{response:?}");
        };
        Proof {
            idevid_cert: self.made.certificate.clone(),
            serialized_transport_key: response.serialized_transport_key,
            signature: response.signature,
            nonce,
        }
    }

    /// What the owner sends for a proof.
    fn sealed(&self, proof: &Proof, nonce: &[u8]) -> Result<StreamBootstrapDataResponse, BootzError> {
        let proven = proof::check(proof, &self.makers(), UnixTime::now())?;
        let fabric = signer("fabric");
        let authority = Authority::from_pem(&fabric.pem, &fabric.key)?;
        let identity = "spiffe://test/switch/leaf1".parse().unwrap();
        let valid = Duration::from_secs(3600);
        let issued = authority.issue(&identity, vec![], proven.request.as_deref(), valid, SystemTime::now())?;
        let config = config();
        let profile = Profile {
            certificate: issued.certificate,
            key: issued.key,
            authorities: vec![fabric.pem, self.inner.maker.pem.clone()],
        };
        let data = BootstrapDataSigned {
            responses: vec![data::write(SERIAL, String::new(), &config, &profile, 1)?],
            nonce: BASE64_STANDARD.encode(nonce),
        };
        self.inner.owner().seal(&proven, &data)
    }
}

fn config() -> SwitchConfig {
    SwitchConfig {
        hostname: "leaf1".into(),
        device_id: 2,
        listen: "192.0.2.12:9559".parse().unwrap(),
    }
}

#[test]
fn a_device_and_its_owner_come_to_trust_each_other() {
    let world = World::new();
    let (secret, key) = (Secret::generate(), new_key().unwrap());
    let proof = world.proof(&secret, Some(signing_request(&key).unwrap()));
    let sealed = world.sealed(&proof, b"A").unwrap();
    let data = world.device().accept(&sealed, &secret, b"A", UnixTime::now()).unwrap();
    let (found, profile) = data::read(&data).unwrap();
    assert_eq!(found, config());
    assert_eq!((profile.key, profile.authorities.len()), (None, 2));
    // The certificate is for the key that the device kept.
    let chain = fabric_bootz::x509::certificates("own", profile.certificate.as_bytes()).unwrap();
    let signing = fabric_bootz::x509::signing_key("own", key.as_bytes()).unwrap();
    let signature = fabric_bootz::x509::sign("own", signing.as_ref(), b"x").unwrap();
    fabric_bootz::x509::check_signature("own", &chain[0], b"x", &signature).unwrap();

    // A device that has no request gets a key with its certificate.
    let sealed = world.sealed(&world.proof(&secret, None), b"A").unwrap();
    let data = world.device().accept(&sealed, &secret, b"A", UnixTime::now()).unwrap();
    assert!(data::read(&data).unwrap().1.key.is_some());
}

#[test]
fn the_owner_refuses_what_is_not_proven() {
    let world = World::new();
    let secret = Secret::generate();
    let good = world.proof(&secret, None);
    let check = |proof: &Proof| {
        proof::check(proof, &world.makers(), UnixTime::now())
            .map(drop)
            .unwrap_err()
    };

    // One octet of the signed data was changed.
    for i in 0..good.serialized_transport_key.len() {
        let mut proof = good.clone();
        proof.serialized_transport_key[i] ^= 1;
        assert!(matches!(check(&proof), BootzError::Signature(_)), "octet {i}");
    }
    // A recorded proof, replayed for a new challenge.
    let replayed = Proof {
        nonce: proof::nonce().unwrap(),
        ..good.clone()
    };
    assert!(matches!(check(&replayed), BootzError::Nonce(_)));
    // A copied certificate without its key: another device of the same manufacturer signs.
    let other = world.inner.maker.device("AF41").certificate;
    let stolen = Proof {
        idevid_cert: other,
        ..good.clone()
    };
    assert!(matches!(check(&stolen), BootzError::Signature(_)));
    // A manufacturer that nobody knows makes a clone with the same serial number.
    let clone = signer("stranger").device(SERIAL).certificate;
    let cloned = Proof {
        idevid_cert: clone,
        ..good.clone()
    };
    assert!(matches!(check(&cloned), BootzError::Untrusted { .. }));
    // No certificate at all.
    for junk in [
        "",
        "junk!",
        "AAAA",
        "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n",
    ] {
        let proof = Proof {
            idevid_cert: junk.into(),
            ..good.clone()
        };
        assert!(matches!(check(&proof), BootzError::Certificate { .. }), "{junk}");
    }
}

#[test]
fn the_device_refuses_what_its_owner_did_not_sign_for_it() {
    let world = World::new();
    let secret = Secret::generate();
    let good = world.sealed(&world.proof(&secret, None), b"A").unwrap();
    let device = world.device();
    let refused = |response: &StreamBootstrapDataResponse, nonce: &[u8]| {
        device
            .accept(response, &secret, nonce, UnixTime::now())
            .map(drop)
            .unwrap_err()
    };
    // The answer to an earlier request.
    assert!(matches!(refused(&good, b"B"), BootzError::Nonce(_)));
    // An answer for another transport key.
    let other = world.sealed(&world.proof(&Secret::generate(), None), b"A").unwrap();
    assert!(matches!(refused(&other, b"A"), BootzError::Seal(_)));
    // Changed data, and none at all.
    let mut changed = good.clone();
    changed.encrypted_serialized_bootstrap_data[0] ^= 1;
    assert!(matches!(refused(&changed, b"A"), BootzError::Signature(_)));
    assert!(matches!(
        refused(&StreamBootstrapDataResponse::default(), b"A"),
        BootzError::Message { .. }
    ));
    // Another owner, who has no voucher: its own certificate and signature, our voucher.
    let thief = World::new();
    let stolen = thief.sealed(&thief.proof(&secret, None), b"A").unwrap();
    let stolen = StreamBootstrapDataResponse {
        ownership_voucher: good.ownership_voucher.clone(),
        ..stolen
    };
    assert!(matches!(refused(&stolen, b"A"), BootzError::Untrusted { .. }));
    // An answer with a voucher that the thief signed.
    let forged = thief.sealed(&thief.proof(&secret, None), b"A").unwrap();
    assert!(matches!(refused(&forged, b"A"), BootzError::Untrusted { .. }));
}

#[test]
fn a_voucher_is_for_one_device_and_for_its_time() {
    let world = World::new();
    let secret = Secret::generate();
    let try_with = |text: &str| {
        world.inner.lay_down(SERIAL, text);
        let sealed = world.sealed(&world.proof(&secret, None), b"A").unwrap();
        world.device().accept(&sealed, &secret, b"A", UnixTime::now()).map(drop)
    };
    let good = |more: &str| world.inner.voucher_text(SERIAL, more);
    try_with(&good(r#","expires-on":"2999-01-01T00:00:00Z""#)).unwrap();
    let expired = try_with(&good(r#","expires-on":"2020-01-01T00:00:00Z""#)).unwrap_err();
    assert!(expired.to_string().contains("expired at 2020-01-01"), "{expired}");
    let other = try_with(&world.inner.voucher_text("AF41", "")).unwrap_err();
    assert!(
        other.to_string().contains("is for device `AF41`, not for `AF40`"),
        "{other}"
    );
    assert!(try_with("{}").is_err());
    // Without a voucher the owner does not answer, and says which file is missing.
    std::fs::remove_file(world.dir.path().join("AF40.vcj")).unwrap();
    let missing = world.sealed(&world.proof(&secret, None), b"A").unwrap_err();
    assert!(missing.to_string().contains("expected AF40.vcj"), "{missing}");
}

mod junk {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_octets_make_a_signed_message(octets in proptest::collection::vec(any::<u8>(), 0..512)) {
            let makers = Anchors::from_pem("makers", signer("maker").pem.as_bytes()).unwrap();
            prop_assert!(fabric_bootz::voucher::pinned(&octets, SERIAL, &makers, UnixTime::now()).is_err());
        }

        #[test]
        fn no_text_makes_an_identity(text in ".{0,200}") {
            prop_assert!(fabric_bootz::idevid::Idevid::read(&text).is_err());
        }
    }
}

//! Tokens of switches. What switches and hosts have in common is tested with hosts (`vtep-agent/tests/enrol.rs`).

use std::sync::Mutex;

use fabric_bootz::device::{new_key, signing_request};
use fabric_identity::testing::Authority as Fabric;

use super::*;

/// Two switches and a host; leaf2 has no serial number.
#[derive(Default)]
struct Small(Mutex<Option<u64>>);

impl Inventory for Small {
    fn find(&self, member: &Member) -> Option<Found> {
        let uid = match member.name().as_str() {
            "leaf1" => self.0.lock().unwrap().unwrap_or(1),
            "leaf2" => 2,
            "h1" => 3,
            _ => return None,
        };
        let place = match member {
            Member::Host(_) => Place::Host([192, 0, 2, 1].into(), "fd00::1".parse().unwrap()),
            Member::Switch(name) => Place::Switch {
                config: SwitchConfig {
                    hostname: name.to_string(),
                    device_id: uid,
                    listen: "192.0.2.11:9559".parse().unwrap(),
                },
                serial: (name.as_str() == "leaf1").then(|| "AF40".to_owned()),
                model: Some("vs32".into()),
            },
        };
        Some(Found {
            uid,
            is_retired: false,
            place,
        })
    }

    fn note(&self, _: News) {}
}

struct World {
    desk: Desk,
    inventory: Arc<Small>,
    _dir: tempfile::TempDir,
}

fn member(text: &str) -> Member {
    Member::of(text).unwrap()
}

fn machine(serial: &str, model: &str) -> Machine {
    Machine {
        serial: serial.into(),
        model: model.into(),
    }
}

fn request() -> Vec<u8> {
    signing_request(&new_key().unwrap()).unwrap()
}

impl World {
    fn new(signs_for_switches: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (fabric, enrolling) = (Fabric::new(), fabric_bootz::testing::signer("enrolment"));
        let both = format!("{}{}", fabric.pem, enrolling.pem);
        let signer = || Signer {
            authority: Authority::from_pem(&enrolling.pem, &enrolling.key).unwrap(),
            valid: Duration::from_secs(3600),
        };
        let signers = Signers {
            hosts: Some(signer()),
            switches: signs_for_switches.then(signer),
        };
        let inventory = Arc::new(Small::default());
        let tokens = Tokens::open(&dir.path().join("tokens.redb")).unwrap();
        let credentials = fabric.issue("controller").credentials(&both);
        Self {
            desk: Desk::new(Arc::clone(&inventory) as _, tokens, signers, credentials),
            inventory,
            _dir: dir,
        }
    }

    fn token(&self, of: &str) -> String {
        let made = self.desk.make_token(&member(of), EnrolmentTokenSpec::default());
        made.unwrap().token
    }

    fn refused(&self, token: &str, machine: Option<&Machine>, request: &[u8]) -> Refusal {
        self.desk.enrol(token, machine, request, SystemTime::now()).unwrap_err()
    }
}

#[test]
fn a_switchs_token_is_bound_to_its_serial_number_and_to_one_key() {
    let world = World::new(true);
    let token = world.token("switch/leaf1");
    let (own, right) = (request(), machine("af40", "vs32"));
    // Another machine, with another serial number or model: the token is not used up, and the refusal does not name the
    // right one.
    for (other, what) in [
        (machine("AF41", "vs32"), "serial number"),
        (machine("", "vs32"), "serial number"),
        (machine("AF40", "vs64"), "model"),
    ] {
        let refusal = world.refused(&token, Some(&other), &own);
        let words = refusal.to_string();
        assert!(words.contains("for another machine") && words.contains(what), "{words}");
        assert!(!words.contains("AF40") && !words.contains("vs32"), "{words}");
        assert_eq!(refusal.member(), Some(member("switch/leaf1")));
    }
    let now = SystemTime::now();
    let granted = world.desk.enrol(&token, Some(&right), &own, now).unwrap();
    assert_eq!(granted.member, member("switch/leaf1"));
    let (_, pem) = x509_parser::pem::parse_x509_pem(granted.certificate.as_bytes()).unwrap();
    let text = format!("{:?}", pem.parse_x509().unwrap().subject_alternative_name().unwrap());
    assert!(text.contains("spiffe://test/switch/leaf1"), "{text}");
    // The same key asks again, because its reply was lost. Another key is refused and named.
    world.desk.enrol(&token, Some(&right), &own, now).unwrap();
    let replayed = world.refused(&token, Some(&right), &request());
    assert!(replayed.to_string().contains("used by another key"), "{replayed}");
    assert_eq!(replayed.member(), Some(member("switch/leaf1")));
    assert!(!replayed.is_ours());
}

#[test]
fn a_token_is_for_one_kind_one_entry_and_its_time() {
    let world = World::new(true);
    let right = machine("AF40", "vs32");
    let of_host = world.token("host/h1");
    let refusal = world.refused(&of_host, Some(&right), &request());
    assert!(refusal.to_string().contains("for host `h1`"), "{refusal}");
    let of_switch = world.token("switch/leaf1");
    let refusal = world.refused(&of_switch, None, &request());
    assert!(refusal.to_string().contains("for switch `leaf1`"), "{refusal}");
    let late = SystemTime::now() + Duration::from_secs(3601);
    let expired = world
        .desk
        .enrol(&of_switch, Some(&right), &request(), late)
        .unwrap_err();
    assert!(expired.to_string().contains("expired"), "{expired}");
    // The entry was removed, and another one has its name.
    *world.inventory.0.lock().unwrap() = Some(7);
    let refusal = world.refused(&of_switch, Some(&right), &request());
    assert!(
        refusal.to_string().contains("another one than the token was made for"),
        "{refusal}"
    );
}

#[test]
fn a_token_is_made_only_where_it_can_be_bound_and_used() {
    let world = World::new(true);
    let make = |world: &World, of: &str| {
        let made = world.desk.make_token(&member(of), EnrolmentTokenSpec::default());
        made.map(drop).unwrap_err()
    };
    let error = make(&world, "switch/leaf2");
    assert_eq!(error.code, ErrorCode::PreconditionFailed);
    assert!(error.detail.contains("no serial number"), "{}", error.detail);
    assert_eq!(make(&world, "switch/leaf9").code, ErrorCode::NotFound);
    let error = make(&World::new(false), "switch/leaf1");
    assert_eq!(error.code, ErrorCode::PreconditionFailed);
    assert!(error.detail.contains("authority for switches"), "{}", error.detail);
}

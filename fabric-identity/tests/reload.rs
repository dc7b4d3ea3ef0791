//! Credentials in files: what is taken over, what is refused, and that SIGHUP is listened to.

use std::error::Error as _;

use fabric_identity::testing::{Authority, Issued};
use fabric_identity::{Credentials, IdentityError, Subject};

#[test]
fn new_files_are_taken_and_bad_ones_are_not() {
    let (authority, dir) = (Authority::new(), tempfile::tempdir().unwrap());
    let files = authority.issue("host/h1").write(&authority.pem, dir.path());
    let credentials = Credentials::load(files.clone()).unwrap();
    assert_eq!(credentials.identity().to_string(), "spiffe://test/host/h1");
    assert!(!credentials.reload().unwrap(), "nothing changed");

    // The new certificate is written, but its key is not yet.
    let next = authority.issue_with(&["spiffe://test/host/h1"], |params| {
        params.not_after = rcgen::date_time_ymd(2093, 1, 1);
    });
    std::fs::write(&files.cert, &next.cert).unwrap();
    let before = credentials.expiry();
    assert!(matches!(credentials.reload(), Err(IdentityError::Key { .. })));
    assert_eq!(credentials.expiry(), before, "the old ones stay in use");
    std::fs::write(&files.key, &next.key).unwrap();
    assert!(credentials.reload().unwrap());
    assert_ne!(credentials.expiry(), before);

    // Somebody else's certificate is not taken over.
    authority.issue("host/h2").write(&authority.pem, dir.path());
    let error = credentials.reload().unwrap_err().to_string();
    assert!(
        error.contains("is for `spiffe://test/host/h2`, but this is `host/h1`"),
        "{error}"
    );
    assert_eq!(credentials.identity().to_string(), "spiffe://test/host/h1");

    std::fs::remove_file(&files.ca).unwrap();
    let error = credentials.reload().unwrap_err();
    assert!(error.to_string().contains("ca.pem"), "{error}");
    assert!(error.source().is_some());
}

#[test]
fn credentials_that_cannot_be_used_name_the_file_and_the_reason() {
    let (authority, dir) = (Authority::new(), tempfile::tempdir().unwrap());
    let good = authority.issue("controller");
    let files = good.write(&authority.pem, dir.path());
    let fails = |part: &std::path::Path, content: &str, words: &[&str]| {
        good.write(&authority.pem, dir.path());
        std::fs::write(part, content).unwrap();
        let error = Credentials::load(files.clone()).unwrap_err();
        let text = fabric_identity::explain(&error);
        for word in words {
            assert!(text.contains(word), "{word}: {text}");
        }
    };
    fails(&files.ca, "", &["ca.pem", "no certificate"]);
    fails(&files.ca, &good.key, &["ca.pem", "no certificate"]);
    fails(&files.cert, "junk", &["cert.pem", "no certificate"]);
    fails(&files.key, &good.cert, &["key.pem"]);
    fails(
        &files.key,
        &authority.issue("controller").key,
        &["cert.pem", "key.pem", "does not belong"],
    );
    let nobody = authority.issue_with(&[], |_| {});
    fails(&files.cert, &nobody.cert, &["cert.pem", "no SPIFFE id"]);
}

#[test]
fn a_process_starts_only_with_its_own_certificate() {
    let credentials = Authority::new().credentials("host/h1");
    credentials.expect(&Subject::Host("h1".into())).unwrap();
    let error = credentials.expect(&Subject::Host("h2".into())).unwrap_err().to_string();
    assert_eq!(
        error,
        "the certificate is for `spiffe://test/host/h1`, but this is `host/h2`"
    );
}

/// Without a handler the signal would end this process.
#[tokio::test]
async fn sighup_reloads() {
    let (authority, dir) = (Authority::new(), tempfile::tempdir().unwrap());
    let files = authority.issue("host/h1").write(&authority.pem, dir.path());
    let credentials = Credentials::load(files).unwrap();
    let before = credentials.expiry();
    let (looked, mut looks) = tokio::sync::mpsc::unbounded_channel();
    let following = tokio::spawn(credentials.clone().follow(move || {
        let _ = looked.send(());
    }));
    looks.recv().await.unwrap();
    let next = authority.issue_with(&["spiffe://test/host/h1"], |params| {
        params.not_after = rcgen::date_time_ymd(2093, 1, 1);
    });
    next.write(&authority.pem, dir.path());
    nix::sys::signal::kill(nix::unistd::Pid::this(), nix::sys::signal::Signal::SIGHUP).unwrap();
    looks.recv().await.unwrap();
    assert_ne!(credentials.expiry(), before);
    following.abort();
}

#[tokio::test]
async fn credentials_on_trial_are_in_use_until_they_are_kept_or_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let (first, second) = (authority.issue("switch/s1"), authority.issue("switch/s1"));
    let credentials = Credentials::load(first.write(&authority.pem, dir.path())).unwrap();
    let try_out =
        |issued: &Issued| credentials.try_out(authority.pem.as_bytes(), issued.cert.as_bytes(), issued.key.as_bytes());
    let in_use = |issued: &Issued| credentials.key() == issued.key.as_bytes();
    let trial = try_out(&second).unwrap();
    // The files have the earlier ones.
    assert!(in_use(&second) && !credentials.reload().unwrap() && in_use(&second));
    assert!(try_out(&first).is_err(), "one at a time");
    drop(trial);
    assert!(in_use(&first));
    assert!(try_out(&authority.issue("switch/s2")).is_err(), "another subject");
    let trial = try_out(&second).unwrap();
    second.write(&authority.pem, dir.path());
    trial.keep();
    assert!(in_use(&second) && !credentials.reload().unwrap() && in_use(&second));
}

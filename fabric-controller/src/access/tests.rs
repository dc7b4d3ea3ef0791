//! Users and tokens.

use super::*;
use vfabric_api::access::{Binding, Level, Role};

fn key(vdc: Option<&str>, name: &str) -> UserKey {
    UserKey {
        vdc: vdc.map(|v| v.parse().unwrap()),
        name: name.parse().unwrap(),
    }
}

fn spec(name: &str, roles: &[(Role, Option<&str>)]) -> UserSpec {
    let binding = |(role, vdc): &(Role, Option<&str>)| Binding {
        role: *role,
        vdc: vdc.map(|v| v.parse().unwrap()),
    };
    UserSpec {
        name: name.parse().unwrap(),
        description: String::new(),
        roles: roles.iter().map(binding).collect(),
        oidc_subject: None,
    }
}

/// A new token of a user, and the user with it.
async fn make(directory: &Directory, key: &UserKey, spec: TokenSpec) -> Result<(NewToken, StoredUser), ApiError> {
    let (new, stored) = directory.new_token(spec).await?;
    Ok((new, directory.with_token(key, stored)?))
}

fn with(users: &[(UserKey, UserSpec)]) -> Directory {
    let stored = |(key, spec): &(UserKey, UserSpec)| {
        let spec = spec.clone();
        (
            key.clone(),
            StoredUser {
                spec,
                tokens: Vec::new(),
            },
        )
    };
    Directory::new(users.iter().map(stored))
}

#[tokio::test]
async fn a_token_proves_its_user_until_it_ends_or_is_revoked() {
    let (alice, acme) = (key(Some("acme"), "alice"), "acme".parse().unwrap());
    let directory = with(&[(alice.clone(), spec("alice", &[(Role::VdcEditor, Some("acme"))]))]);
    let (new, stored) = make(&directory, &alice, TokenSpec::default()).await.unwrap();
    assert!(
        directory.by_token(&new.secret).await.is_err(),
        "it counts once it is durable"
    );
    directory.set(alice.clone(), Some(stored.clone()));
    let caller = directory.by_token(&new.secret).await.unwrap();
    assert_eq!(
        (caller.name.as_str(), caller.grants.vdc(&acme)),
        ("acme/alice", Some(Level::Edit))
    );
    assert_eq!(caller.expires_ms, Some(new.token.expires_ms));

    let mut wrong = new.secret.clone();
    wrong.pop();
    for (token, why) in [
        (wrong.clone() + "g", "no valid"),
        (flipped(&new.secret), "no valid"),
        (wrong, "no valid"),
    ] {
        assert!(directory.by_token(&token).await.unwrap_err().contains(why));
    }
    // After a start nothing is known of it but the slow hash.
    let again = Directory::new([(alice.clone(), stored.clone())]);
    assert!(again.by_token(&flipped(&new.secret)).await.is_err());
    assert!(again.by_token(&new.secret).await.is_ok());
    assert!(again.by_token(&flipped(&new.secret)).await.is_err());
    // What the user may do is what its roles say now.
    let mut viewer = stored.clone();
    viewer.spec = spec("alice", &[(Role::VdcViewer, Some("acme"))]);
    again.set(alice.clone(), Some(viewer));
    assert_eq!(
        again.by_token(&new.secret).await.unwrap().grants.vdc(&acme),
        Some(Level::View)
    );

    let mut ended = stored.clone();
    ended.tokens[0].token.expires_ms = now_ms() - 1;
    let ended = Directory::new([(alice.clone(), ended)]);
    assert!(ended.by_token(&new.secret).await.unwrap_err().contains("has ended"));
    let without = again.without_token(&alice, &new.token.id).unwrap();
    again.set(alice.clone(), Some(without));
    assert!(again.by_token(&new.secret).await.is_err());
    directory.set(alice, None);
    assert!(directory.by_token(&new.secret).await.is_err());
}

/// The same token with another last digit.
fn flipped(secret: &str) -> String {
    let (rest, last) = secret.split_at(secret.len() - 1);
    format!("{rest}{}", if last == "0" { "1" } else { "0" })
}

#[tokio::test]
async fn tokens_are_bounded_in_time_and_number() {
    let alice = key(None, "alice");
    let directory = with(&[(alice.clone(), spec("alice", &[]))]);
    for lifetime_s in [0, 59, 367 * 86_400, u64::MAX] {
        let spec = TokenSpec {
            lifetime_s: Some(lifetime_s),
            ..TokenSpec::default()
        };
        let error = make(&directory, &alice, spec).await.unwrap_err();
        assert_eq!(error.errors[0].field, "lifetime_s");
    }
    let mut full = directory.stored(&alice).unwrap();
    let (_, with_one) = make(&directory, &alice, TokenSpec::default()).await.unwrap();
    full.tokens = vec![with_one.tokens[0].clone(); MAX_TOKENS];
    directory.set(alice.clone(), Some(full.clone()));
    let error = make(&directory, &alice, TokenSpec::default()).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::Exhausted);
    full.tokens.iter_mut().for_each(|t| t.token.expires_ms = 1);
    directory.set(alice.clone(), Some(full));
    let (_, left) = make(&directory, &alice, TokenSpec::default()).await.unwrap();
    assert_eq!(left.tokens.len(), 1, "tokens that have ended make room");
    let nobody = key(None, "nobody");
    assert_eq!(
        make(&directory, &nobody, TokenSpec::default()).await.unwrap_err().code,
        ErrorCode::NotFound
    );
}

#[test]
fn wrong_users_are_refused_by_field() {
    let exists = |vdc: &Name| vdc.as_str() == "acme";
    let (fabric, inside) = (key(None, "bob"), key(Some("acme"), "bob"));
    let subject = |subject: &str| UserSpec {
        oidc_subject: Some(subject.into()),
        ..spec("bob", &[])
    };
    for (key, spec, field) in [
        (
            &fabric,
            spec("bob", &[(Role::FabricAdmin, Some("acme"))]),
            "roles[0].vdc",
        ),
        (
            &fabric,
            spec("bob", &[(Role::FabricViewer, None), (Role::VdcAdmin, None)]),
            "roles[1].vdc",
        ),
        (&fabric, spec("bob", &[(Role::VdcAdmin, Some("other"))]), "roles[0].vdc"),
        (&inside, subject("bob@example"), "oidc_subject"),
        (&fabric, subject(""), "oidc_subject"),
        (
            &fabric,
            UserSpec {
                description: "d".repeat(501),
                ..spec("bob", &[])
            },
            "description",
        ),
        (&fabric, spec("bob", &[(Role::FabricViewer, None); 65]), "roles"),
    ] {
        assert_eq!(check(key, &spec, exists).unwrap_err().errors[0].field, field);
    }
    check(&fabric, &subject("bob@example"), exists).unwrap();
    check(&inside, &spec("bob", &[(Role::VdcAdmin, Some("acme"))]), exists).unwrap();
}

#[test]
fn a_subject_belongs_to_one_user_and_a_vdc_knows_its_users() {
    let (bob, eve) = (key(None, "bob"), key(None, "eve"));
    let of_bob = UserSpec {
        oidc_subject: Some("sub-1".into()),
        ..spec("bob", &[(Role::VdcViewer, Some("acme"))])
    };
    let directory = with(&[(bob.clone(), of_bob.clone())]);
    let theft = UserSpec {
        name: "eve".parse().unwrap(),
        ..of_bob.clone()
    };
    assert_eq!(
        directory.put(&eve, theft, true).unwrap_err().errors[0].field,
        "oidc_subject"
    );
    assert_eq!(directory.by_subject("sub-1", 9).unwrap().name, "bob");
    assert!(directory.by_subject("sub-2", 9).is_err());
    assert_eq!(directory.by_certificate("bob").unwrap().proof, "certificate");
    assert!(directory.by_certificate("eve").is_err());
    assert_eq!(directory.user_of(&"acme".parse().unwrap()), Some(bob.clone()));
    assert_eq!(directory.user_of(&"other".parse().unwrap()), None);
    assert_eq!(
        directory.put(&bob, of_bob.clone(), true).unwrap().spec,
        of_bob,
        "the same again is not an error"
    );
    assert_eq!(
        directory.put(&bob, spec("bob", &[]), true).unwrap_err().code,
        ErrorCode::AlreadyExists
    );
    assert_eq!(
        directory.put(&eve, spec("eve", &[]), false).unwrap_err().code,
        ErrorCode::NotFound
    );
    directory.set(
        bob,
        Some(StoredUser {
            spec: spec("bob", &[]),
            tokens: Vec::new(),
        }),
    );
    assert!(
        directory.by_subject("sub-1", 9).is_err(),
        "a subject that was taken away proves nobody"
    );
}

#[test]
fn rows_name_their_user() {
    for user in [key(None, "alice"), key(Some("acme"), "alice")] {
        assert_eq!(parse_row_key(&row_key(&user)), Some(user));
    }
    for row in ["user/", "user/alice", "user/a/b/c", "user/A/b", "uid"] {
        assert_eq!(parse_row_key(row.as_bytes()), None, "{row}");
    }
}

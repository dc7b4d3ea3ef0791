//! Stolen tokens and certificates of users: what a thief can do with them, what not, and that revoking them
//! works while everything runs.

use anyhow::{Context, Result, bail, ensure};
use p4runtime_grpc::p4_runtime_client::P4RuntimeClient;
use p4runtime_proto::p4::v1::ReadRequest;
use tonic::Code;
use tonic::metadata::MetadataValue;
use vfabric_api::access::{Binding, Role, TokenSpec, UserKey, UserSpec};
use vfabric_api::client::{Client, ClientError};
use vfabric_api::error::ErrorCode;
use vfabric_api::kind::{Key, Kind};

use super::cast::Cast;
use crate::{REST_PORT, Target, intruder};

/// The user whose certificate every lab has; it has no rights before a check gives it some.
pub(crate) const USER: &str = "lab-user";

/// Counts calls, each of which must end as it should.
#[derive(Default)]
struct Calls(usize);

impl Calls {
    fn refused<T>(&mut self, what: &str, code: ErrorCode, done: Result<T, ClientError>) -> Result<()> {
        match done {
            Err(ClientError::Api(error)) if error.code == code => {
                self.0 += 1;
                Ok(())
            }
            Err(error) => bail!("{what}: {error} instead of {code:?}"),
            Ok(_) => bail!("{what}: allowed"),
        }
    }

    fn allowed<T>(&mut self, what: &str, done: Result<T, ClientError>) -> Result<T> {
        self.0 += 1;
        done.with_context(|| what.to_owned())
    }
}

/// A user of the fabric with one role.
async fn give(client: &Client, role: Role) -> Result<UserKey> {
    let spec = UserSpec {
        name: USER.parse()?,
        description: "of the lab's attacks".into(),
        roles: vec![Binding { role, vdc: None }],
        oidc_subject: None,
    };
    client.put_user(None, &spec).await?;
    Ok(UserKey {
        vdc: None,
        name: spec.name,
    })
}

/// Steals a certificate and a token of a user who may only read, then a token of an
/// administrator.
pub(super) fn users(cast: &Cast<'_>) -> Result<String> {
    cast.cx.runtime.block_on(async {
        let client = &cast.cx.client;
        let mut calls = Calls::default();
        let key = give(client, Role::FabricViewer).await?;
        let tried = try_all(cast, &key, &mut calls).await;
        // It may be gone already: that is the last attempt.
        match client.delete_user(&key).await {
            Err(ClientError::Api(e)) if e.code == ErrorCode::NotFound => {}
            other => other?,
        }
        tried?;
        Ok(format!(
            "{} calls with stolen tokens and certificates: what their users may, until they were revoked",
            calls.0
        ))
    })
}

async fn try_all(cast: &Cast<'_>, key: &UserKey, calls: &mut Calls) -> Result<()> {
    let client = &cast.cx.client;
    let files = cast.cx.lab.pki.identity(&format!("user/{USER}"));
    let pem = [std::fs::read(files.cert)?, std::fs::read(files.key)?].concat();
    let ca = std::fs::read(cast.cx.lab.pki.ca())?;
    let server = format!("https://127.0.0.1:{REST_PORT}");
    let with_certificate = Client::with_proof(&server, &ca, "", Some(&pem))?;
    let token = client.make_token(key, &TokenSpec::default()).await?;
    let with_token = client.with_token(&token.secret);
    for (what, thief) in [
        ("a viewer's certificate", &with_certificate),
        ("a viewer's token", &with_token),
    ] {
        calls.allowed(what, thief.fabric().await)?;
        calls.allowed(what, thief.list(Kind::Vdc, None).await)?;
        only_reads(cast, what, thief, key, calls).await?;
    }
    devices(cast, &token.secret, calls).await?;
    client.revoke_token(key, &token.token.id).await?;
    let revoked = with_token.fabric().await;
    calls.refused("a revoked token", ErrorCode::Unauthenticated, revoked)?;

    // An administrator: everything over REST, nothing on a device.
    give(client, Role::FabricAdmin).await?;
    let token = client.make_token(key, &TokenSpec::default()).await?;
    let thief = client.with_token(&token.secret);
    calls.allowed("an administrator's token", thief.users(None).await)?;
    devices(cast, &token.secret, calls).await?;
    // The role is withdrawn first. Then the user is deleted, and with it its token and
    // its certificate's rights.
    give(client, Role::FabricViewer).await?;
    only_reads(cast, "a token whose role was withdrawn", &thief, key, calls).await?;
    client.delete_user(key).await?;
    for (what, thief) in [
        ("a deleted user's token", &thief),
        ("a deleted user's certificate", &with_certificate),
    ] {
        calls.refused(what, ErrorCode::Unauthenticated, thief.fabric().await)?;
    }
    Ok(())
}

/// Attempts to change something, and to gain rights.
async fn only_reads(cast: &Cast<'_>, what: &str, thief: &Client, key: &UserKey, calls: &mut Calls) -> Result<()> {
    let vdc = cast
        .members
        .first()
        .context("a lab without members")?
        .endpoint
        .vdc
        .clone();
    let no = ErrorCode::Forbidden;
    calls.refused(what, no, thief.delete(&Key::vdc(vdc), None).await)?;
    calls.refused(what, no, thief.make_token(key, &TokenSpec::default()).await)?;
    let more = UserSpec {
        name: key.name.clone(),
        description: String::new(),
        roles: vec![Binding {
            role: Role::FabricAdmin,
            vdc: None,
        }],
        oidc_subject: None,
    };
    calls.refused(what, no, thief.put_user(None, &more).await)?;
    calls.refused(what, no, thief.backup().await)
}

/// A token is worth nothing on a device, even beside the certificate of a member of the fabric.
async fn devices(cast: &Cast<'_>, token: &str, calls: &mut Calls) -> Result<()> {
    let lab = cast.cx.lab;
    if lab.options.target == Target::Bmv2 {
        return Ok(());
    }
    let host = lab.topology.hosts.first().context("a lab without hosts")?;
    let bearer: MetadataValue<_> = format!("Bearer {token}").parse()?;
    for switch in &lab.topology.switches {
        for who in [format!("host/{}", host.name), format!("user/{USER}")] {
            let channel = intruder::channel(lab, &who, switch).await?;
            let mut request = tonic::Request::new(ReadRequest {
                device_id: u64::from(switch.device_id),
                ..Default::default()
            });
            request.metadata_mut().insert("authorization", bearer.clone());
            let refused = P4RuntimeClient::new(channel).read(request).await.err();
            let code = refused.map(|status| status.code());
            ensure!(
                code == Some(Code::PermissionDenied),
                "{}: a token with the certificate of {who}: got {code:?}, expected PermissionDenied",
                switch.name
            );
            calls.0 += 1;
        }
    }
    Ok(())
}

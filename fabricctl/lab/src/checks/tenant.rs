//! Does a user of a vDC see and reach that vDC, and nothing else?

use anyhow::{Context, Result, bail, ensure};
use vfabric_api::access::{Binding, Role, TokenSpec, UserKey, UserSpec};
use vfabric_api::client::{Client, ClientError};
use vfabric_api::error::ErrorCode;
use vfabric_api::ident::Name;
use vfabric_api::intent::{Intent, Place, VdcIntent};
use vfabric_api::kind::{Key, Kind, Spec};
use vfabric_api::service::ApplyOptions;
use vfabric_api::status::View;

use super::Scene;

/// Counts refusals; anything else is a failure.
#[derive(Default)]
struct Refused(usize);

impl Refused {
    fn expect<T>(&mut self, what: &str, code: ErrorCode, done: Result<T, ClientError>) -> Result<String> {
        match done {
            Err(ClientError::Api(error)) if error.code == code => {
                self.0 += 1;
                Ok(error.detail)
            }
            Err(error) => bail!("{what}: {error} instead of {code:?}"),
            Ok(_) => bail!("{what}: allowed"),
        }
    }
}

/// A user of the first vDC tries to use everything that is not its own.
pub(super) fn alone(cx: &Scene<'_>) -> Result<String> {
    let mut vdcs = cx.lab.intent.vdcs.iter().map(|v| v.name.clone());
    let own = vdcs.next().context("a lab without vDCs")?;
    let others: Vec<Name> = vdcs.collect();
    ensure!(!others.is_empty(), "a lab with one vDC shows nothing");
    let name: Name = "lab-tenant".parse()?;
    let (role, vdc) = (Role::VdcEditor, None);
    let spec = UserSpec {
        name: name.clone(),
        description: "of the lab's checks".into(),
        roles: vec![Binding { role, vdc }],
        oidc_subject: None,
    };
    let key = UserKey {
        vdc: Some(own.clone()),
        name,
    };
    cx.runtime.block_on(async {
        cx.client.put_user(Some(&own), &spec).await?;
        let token = cx.client.make_token(&key, &TokenSpec::default()).await?;
        let tenant = cx.client.with_token(&token.secret);
        let mut refused = Refused::default();
        let tried = tries(cx, &tenant, &own, &others, &mut refused).await;
        cx.client.revoke_token(&key, &token.token.id).await?;
        let after = refused.expect("a revoked token", ErrorCode::Unauthenticated, tenant.whoami().await);
        let page = cx.client.audit(Some(&own), None, 1000).await?;
        cx.client.delete_user(&key).await?;
        tried.and(after)?;
        let caller = key.to_string();
        let recorded = page.items.iter().any(|r| r.caller == caller && r.refused.is_some());
        ensure!(recorded, "the audit log of `{own}` shows no refusal of {caller}");
        Ok(format!("{} calls refused, its own vDC seen", refused.0))
    })
}

async fn tries(cx: &Scene<'_>, tenant: &Client, own: &Name, others: &[Name], refused: &mut Refused) -> Result<()> {
    let seen = tenant.list(Kind::Vdc, None).await?;
    let names: Vec<&Name> = seen.iter().map(View::name).collect();
    ensure!(names == [own], "it sees the vDCs {names:?}");
    ensure!(
        !tenant.list(Kind::Attachment, Some(own)).await?.is_empty(),
        "it does not see its own attachments"
    );

    // An object of another vDC must look exactly like one that does not exist.
    let nowhere: Name = "nowhere".parse()?;
    for kind in Kind::ALL.iter().copied().filter(|kind| *kind != Kind::Vdc) {
        let words = refused.expect(
            "a vDC that does not exist",
            ErrorCode::NotFound,
            tenant.list(kind, Some(&nowhere)).await,
        )?;
        for other in others {
            let listed = refused.expect("another vDC", ErrorCode::NotFound, tenant.list(kind, Some(other)).await)?;
            ensure!(
                listed == words.replace("nowhere", other.as_str()),
                "`{listed}` reveals that it exists"
            );
            for view in cx.client.list(kind, Some(other)).await? {
                let key = Key::new(other.clone(), kind, view.name().clone());
                refused.expect("another's object", ErrorCode::NotFound, tenant.get(&key).await)?;
                refused.expect(
                    "deleting another's object",
                    ErrorCode::NotFound,
                    tenant.delete(&key, None).await,
                )?;
            }
        }
    }
    for other in others {
        let file = Intent {
            vdcs: vec![VdcIntent::new(other.clone())],
        };
        let done = tenant.apply(&file, ApplyOptions::default(), None).await;
        refused.expect("a file with another vDC", ErrorCode::NotFound, done)?;
        refused.expect("another's users", ErrorCode::NotFound, tenant.users(Some(other)).await)?;
        refused.expect(
            "another's audit log",
            ErrorCode::NotFound,
            tenant.audit(Some(other), None, 10).await,
        )?;
    }
    refused.expect("the fabric", ErrorCode::Forbidden, tenant.fabric().await)?;
    refused.expect("switches", ErrorCode::Forbidden, tenant.switches().await)?;
    refused.expect("hosts", ErrorCode::Forbidden, tenant.hosts().await)?;
    refused.expect("drops", ErrorCode::Forbidden, tenant.drops().await)?;
    refused.expect("users of the fabric", ErrorCode::Forbidden, tenant.users(None).await)?;
    refused.expect("users of its vDC", ErrorCode::Forbidden, tenant.users(Some(own)).await)?;
    refused.expect(
        "its vDC deleted",
        ErrorCode::Forbidden,
        tenant.delete(&Key::vdc(own.clone()), None).await,
    )?;
    for switch in &cx.lab.topology.switches {
        refused.expect("entities", ErrorCode::Forbidden, tenant.entities(&switch.name).await)?;
    }
    // A place that was not assigned to its vDC: one with a workload of another vDC, and an empty one.
    for endpoint in cx.endpoints.iter().filter(|e| others.contains(&e.vdc)) {
        let intent = cx.lab.intent.vdcs.iter().find(|v| v.name == endpoint.vdc);
        let spec = intent.and_then(|v| v.attachments.iter().find(|a| a.name == endpoint.name));
        let mut spec = spec.context("an attachment of the intent")?.clone();
        spec.network = cx
            .endpoints
            .iter()
            .find(|e| e.vdc == *own)
            .context("an own network")?
            .network
            .clone();
        spec.name = "stolen".parse()?;
        (spec.mac, spec.ips) = (None, Vec::new());
        let taken = tenant.create(own, &Spec::Attachment(spec.clone()), None).await;
        let taken = refused.expect("another's place", ErrorCode::Forbidden, taken)?;
        if let Place::Host { netns, .. } = &mut spec.place {
            "free".clone_into(netns);
            let free = tenant.create(own, &Spec::Attachment(spec), None).await;
            ensure!(
                taken == refused.expect("a free place", ErrorCode::Forbidden, free)?,
                "the error reveals what is taken"
            );
        }
    }
    let history = tenant.history(None, None, 1000).await?;
    let foreign = |r: &vfabric_api::history::Revision| {
        let keys = r.objects.created.iter().chain(&r.objects.deleted);
        let all = keys.chain(r.objects.updated.iter().map(|u| &u.key));
        !r.inventory.is_empty() || all.into_iter().any(|key| key.vdc != *own)
    };
    ensure!(!history.items.is_empty(), "it does not see its own history");
    ensure!(!history.items.iter().any(foreign), "its history shows other vDCs");
    Ok(())
}

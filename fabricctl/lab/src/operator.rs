//! An operator with the right to change switches, who sets ports over gNMI behind the controller's back.
//!
//! Speaks gNMI directly, so that it shares no code with what it tests.

use anyhow::{Context, Result, bail};
use gnmi_proto::gnmi::{
    Encoding, GetRequest, Path, PathElem, SetRequest, TypedValue, Update, g_nmi_client::GNmiClient, typed_value::Value,
};
use vfabric_api::topology::Switch;

use super::Lab;
use super::intruder::channel;

/// The identity of an operator with the role `admin` (`docs/security.md`).
const ADMIN: &str = "operator/lab/admin";

/// The configuration of a port (openconfig-interfaces).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Setting {
    /// Whether it is enabled.
    pub(super) enabled: bool,
    /// Its largest frame without Ethernet headers, in octets.
    pub(super) mtu: u16,
}

fn path(port: &str, leaf: &str) -> Path {
    let elem = |name: &str| PathElem {
        name: name.to_owned(),
        ..Default::default()
    };
    let mut interface = elem("interface");
    interface.key.insert("name".to_owned(), port.to_owned());
    Path {
        elem: vec![elem("interfaces"), interface, elem("config"), elem(leaf)],
        ..Default::default()
    }
}

/// Sets a port.
///
/// # Errors
/// The switch refuses.
pub(super) async fn set(lab: &Lab, switch: &Switch, port: &str, setting: Setting) -> Result<()> {
    let update = |leaf: &str, value: Value| Update {
        path: Some(path(port, leaf)),
        val: Some(TypedValue { value: Some(value) }),
        ..Default::default()
    };
    let request = SetRequest {
        update: vec![
            update("enabled", Value::BoolVal(setting.enabled)),
            update("mtu", Value::UintVal(setting.mtu.into())),
        ],
        ..Default::default()
    };
    let mut client = GNmiClient::new(channel(lab, ADMIN, switch).await?);
    client
        .set(request)
        .await
        .with_context(|| format!("setting {port} of {}", switch.name))?;
    Ok(())
}

/// Reads the configuration of a port.
///
/// # Errors
/// The switch cannot be read.
pub(super) async fn setting(lab: &Lab, switch: &Switch, port: &str) -> Result<Setting> {
    let request = GetRequest {
        path: vec![path(port, "enabled"), path(port, "mtu")],
        encoding: Encoding::Proto.into(),
        ..Default::default()
    };
    let mut client = GNmiClient::new(channel(lab, ADMIN, switch).await?);
    let answer = client
        .get(request)
        .await
        .with_context(|| format!("reading {port} of {}", switch.name))?;
    let (mut enabled, mut mtu) = (None, None);
    for update in answer.into_inner().notification.into_iter().flat_map(|n| n.update) {
        match update.val.and_then(|v| v.value) {
            Some(Value::BoolVal(value)) => enabled = Some(value),
            Some(Value::UintVal(value)) => mtu = Some(u16::try_from(value)?),
            other => bail!("{port} of {}: {other:?} is neither state nor MTU", switch.name),
        }
    }
    Ok(Setting {
        enabled: enabled.context("the switch does not say whether the port is enabled")?,
        mtu: mtu.context("the switch does not say the port's MTU")?,
    })
}

//! Roles and the rights that they give.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::ident::Name;

/// A role in the fabric or in one vDC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
#[schema(as = UserRole)]
pub enum Role {
    /// May do everything.
    FabricAdmin,
    /// May read everything but tokens.
    FabricViewer,
    /// May do everything in its vDC, and manage the users there.
    VdcAdmin,
    /// May change what is in its vDC.
    VdcEditor,
    /// May read what is in its vDC.
    VdcViewer,
}

impl Role {
    /// Whether it is a role of the fabric; otherwise it is one of a vDC.
    pub fn is_of_fabric(self) -> bool {
        matches!(self, Self::FabricAdmin | Self::FabricViewer)
    }

    /// The level that it gives.
    pub fn level(self) -> Level {
        match self {
            Self::FabricAdmin | Self::VdcAdmin => Level::Admin,
            Self::VdcEditor => Level::Edit,
            Self::FabricViewer | Self::VdcViewer => Level::View,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::FabricAdmin => "fabric-admin",
            Self::FabricViewer => "fabric-viewer",
            Self::VdcAdmin => "vdc-admin",
            Self::VdcEditor => "vdc-editor",
            Self::VdcViewer => "vdc-viewer",
        })
    }
}

/// A role, and its vDC.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Binding {
    /// The role.
    pub role: Role,
    /// The vDC, for a role of a vDC; absent for a role of the fabric. A user of a vDC may leave it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vdc: Option<Name>,
}

/// A caller's rights in one place; each level includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Read.
    View,
    /// Change.
    Edit,
    /// Change, and manage users.
    Admin,
}

/// The rights that an operation needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Any caller may call it, and gets what it may see.
    Known,
    /// A role of the vDC that the path names, or of the fabric.
    Vdc(Level),
    /// A role of the fabric.
    Fabric(Level),
}

impl Needs {
    /// The lowest role that is enough; none if any caller may call it.
    pub fn role(self) -> Option<Role> {
        match self {
            Self::Known => None,
            Self::Vdc(Level::View) => Some(Role::VdcViewer),
            Self::Vdc(Level::Edit) => Some(Role::VdcEditor),
            Self::Vdc(Level::Admin) => Some(Role::VdcAdmin),
            Self::Fabric(Level::View) => Some(Role::FabricViewer),
            Self::Fabric(Level::Edit | Level::Admin) => Some(Role::FabricAdmin),
        }
    }
}

/// A caller's rights, by place.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grants {
    fabric: Option<Level>,
    vdcs: BTreeMap<Name, Level>,
}

impl Grants {
    /// The rights from these roles. A role of a vDC without a vDC gives none.
    pub fn of(roles: &[Binding]) -> Self {
        let mut grants = Self::default();
        for Binding { role, vdc } in roles {
            let level = role.level();
            match vdc {
                _ if role.is_of_fabric() => grants.fabric = grants.fabric.max(Some(level)),
                Some(vdc) => {
                    let held = grants.vdcs.entry(vdc.clone()).or_insert(level);
                    *held = level.max(*held);
                }
                None => {}
            }
        }
        grants
    }

    /// Everything.
    pub fn all() -> Self {
        let (role, vdc) = (Role::FabricAdmin, None);
        Self::of(&[Binding { role, vdc }])
    }

    /// How much it allows in the whole fabric.
    pub fn fabric(&self) -> Option<Level> {
        self.fabric
    }

    /// How much it allows in a vDC; none: the vDC is not even seen.
    pub fn vdc(&self, vdc: &Name) -> Option<Level> {
        self.fabric.max(self.vdcs.get(vdc).copied())
    }

    /// The vDCs in which it gives rights, in order.
    pub fn vdcs(&self) -> impl Iterator<Item = &Name> {
        self.vdcs.keys()
    }
}

/// The proven identity of a caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The user, as history and audit log name it: `alice`, `acme/alice`, or `token 1a2b3c4d` for a token from a file.
    pub name: String,
    /// How it proved itself: `token 1a2b3c4d`, `certificate`, `oidc`.
    pub proof: String,
    /// Its roles.
    pub roles: Vec<Binding>,
    /// Its rights.
    pub grants: Grants,
    /// When its proof expires, in milliseconds since 1970 (UTC); none if it does not expire.
    pub expires_ms: Option<u64>,
}

impl Caller {
    /// Whether its changes are limited to what its vDC was assigned.
    pub fn is_tenant(&self) -> bool {
        self.grants.fabric() != Some(Level::Admin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binding(role: Role, vdc: Option<&str>) -> Binding {
        let vdc = vdc.map(|v| v.parse().unwrap());
        Binding { role, vdc }
    }

    #[test]
    fn roles_of_a_vdc_end_at_its_border_and_those_of_the_fabric_do_not() {
        let [acme, other] = ["acme", "other"].map(|v| v.parse::<Name>().unwrap());
        let editor = Grants::of(&[
            binding(Role::VdcEditor, Some("acme")),
            binding(Role::VdcViewer, Some("acme")),
        ]);
        assert_eq!(
            (editor.fabric(), editor.vdc(&acme), editor.vdc(&other)),
            (None, Some(Level::Edit), None)
        );
        let viewer = Grants::of(&[binding(Role::FabricViewer, None), binding(Role::VdcAdmin, Some("acme"))]);
        assert_eq!(viewer.fabric(), Some(Level::View));
        assert_eq!(
            (viewer.vdc(&acme), viewer.vdc(&other)),
            (Some(Level::Admin), Some(Level::View))
        );
        assert_eq!(Grants::all().vdc(&other), Some(Level::Admin));
        assert_eq!(Grants::of(&[binding(Role::VdcAdmin, None)]), Grants::default());
    }

    #[test]
    fn roles_are_written_as_they_are_read() {
        for role in [
            Role::FabricAdmin,
            Role::FabricViewer,
            Role::VdcAdmin,
            Role::VdcEditor,
            Role::VdcViewer,
        ] {
            assert_eq!(serde_json::to_value(role).unwrap(), role.to_string());
        }
    }
}

//! The rights that each operation needs, in one table. The guard and the OpenAPI document use it; an operation that is
//! not in it is refused.

use std::collections::HashMap;

use axum::http::Method;

use crate::access::{Level, Needs};
use crate::kind::Kind;

/// Operations by path template and method.
pub(super) struct Operations(HashMap<String, Vec<(Method, Needs)>>);

const READ: Needs = Needs::Fabric(Level::View);
const ADMIN: Needs = Needs::Fabric(Level::Admin);

/// Operations that do not concern one kind of object in a vDC.
const OPERATIONS: &[(Method, &str, Needs)] = &[
    // Callers see the vDCs in which they have a role.
    (Method::GET, "/v1/vdcs", Needs::Known),
    (Method::POST, "/v1/vdcs", ADMIN),
    (Method::GET, "/v1/vdcs/{vdc}", Needs::Vdc(Level::View)),
    (Method::PUT, "/v1/vdcs/{vdc}", ADMIN),
    (Method::PATCH, "/v1/vdcs/{vdc}", ADMIN),
    (Method::DELETE, "/v1/vdcs/{vdc}", ADMIN),
    // Each vDC of the body is checked.
    (Method::POST, "/v1/apply", Needs::Known),
    (Method::GET, "/v1/fabric", READ),
    (Method::GET, "/v1/switches", READ),
    (Method::GET, "/v1/hosts", READ),
    (Method::GET, "/v1/links", READ),
    (Method::GET, "/v1/drops", READ),
    (Method::GET, "/v1/tables", READ),
    (Method::POST, "/v1/backup", ADMIN),
    (Method::GET, "/v1/images", READ),
    (Method::PUT, "/v1/images/{name}", ADMIN),
    (Method::DELETE, "/v1/images/{name}", ADMIN),
    (Method::GET, "/v1/entities", READ),
    (Method::GET, "/v1/devices/{name}/entities", READ),
    (Method::GET, "/metrics", READ),
    (Method::GET, "/v1/inventory", READ),
    (Method::PUT, "/v1/inventory", ADMIN),
    (Method::GET, "/v1/inventory/provisioning", READ),
    (Method::GET, "/v1/inventory/switches/{name}/provisioning", READ),
    (Method::POST, "/v1/inventory/hosts/{name}/enrolment-token", ADMIN),
    (Method::POST, "/v1/inventory/switches/{name}/enrolment-token", ADMIN),
    (Method::POST, "/v1/inventory/switches/{name}/reboot", ADMIN),
    (Method::POST, "/v1/inventory/switches/{name}/install", ADMIN),
    (Method::POST, "/v1/inventory/switches/{name}/replace", ADMIN),
    (Method::POST, "/v1/inventory/switches/{name}/retire", ADMIN),
    (Method::PUT, "/v1/inventory/fabric", ADMIN),
    (Method::POST, "/v1/inventory/links", ADMIN),
    (Method::DELETE, "/v1/inventory/links/{switch}/{port}", ADMIN),
    // Callers see changes of vDCs in which they have a role. They can roll back a vDC that they may edit.
    (Method::GET, "/v1/history", Needs::Known),
    (Method::GET, "/v1/history/{revision}", Needs::Known),
    (Method::POST, "/v1/history/{revision}/rollback", Needs::Known),
    (Method::GET, "/v1/diff", Needs::Known),
    (Method::GET, "/v1/watch", Needs::Known),
    (Method::GET, "/v1/events", Needs::Known),
    (Method::GET, "/v1/events/watch", Needs::Known),
    (Method::GET, "/v1/whoami", Needs::Known),
    (Method::GET, "/v1/audit", READ),
    (Method::GET, "/v1/vdcs/{vdc}/audit", Needs::Vdc(Level::Admin)),
];

impl Operations {
    pub(super) fn new() -> Self {
        let mut all = Self(HashMap::new());
        for (method, path, needs) in OPERATIONS {
            all.add(method.clone(), path, *needs);
        }
        for kind in ["switches", "hosts"] {
            let object = format!("/v1/inventory/{kind}/{{name}}");
            all.add(Method::GET, &object, READ);
            all.add(Method::PUT, &object, ADMIN);
            all.add(Method::DELETE, &object, ADMIN);
            for verb in ["drain", "undrain", "gone"] {
                all.add(Method::POST, &format!("{object}/{verb}"), ADMIN);
            }
        }
        for kind in Kind::ALL.iter().filter(|kind| **kind != Kind::Vdc) {
            let collection = format!("/v1/vdcs/{{vdc}}/{}", kind.plural());
            let object = format!("{collection}/{{name}}");
            let (view, edit) = (Needs::Vdc(Level::View), Needs::Vdc(Level::Edit));
            all.add(Method::GET, &collection, view);
            all.add(Method::POST, &collection, edit);
            all.add(Method::GET, &object, view);
            for method in [Method::PUT, Method::PATCH, Method::DELETE] {
                all.add(method, &object, edit);
            }
        }
        let vdc_admin = Needs::Vdc(Level::Admin);
        for (users, read, change) in [
            ("/v1/users", READ, ADMIN),
            ("/v1/vdcs/{vdc}/users", vdc_admin, vdc_admin),
        ] {
            let user = format!("{users}/{{name}}");
            all.add(Method::GET, users, read);
            all.add(Method::POST, users, change);
            all.add(Method::GET, &user, read);
            all.add(Method::PUT, &user, change);
            all.add(Method::DELETE, &user, change);
            all.add(Method::POST, &format!("{user}/tokens"), change);
            all.add(Method::DELETE, &format!("{user}/tokens/{{id}}"), change);
        }
        all
    }

    fn add(&mut self, method: Method, path: &str, needs: Needs) {
        self.0.entry(path.to_owned()).or_default().push((method, needs));
    }

    /// The rights that a request needs. `HEAD` is `GET` without a body (RFC 9110, section 9.3.2).
    pub(super) fn needs(&self, method: &Method, path: &str) -> Option<Needs> {
        let method = if method == Method::HEAD { &Method::GET } else { method };
        let of_path = self.0.get(path)?;
        of_path.iter().find(|(m, _)| m == method).map(|(_, needs)| *needs)
    }

    #[cfg(test)]
    pub(super) fn all(&self) -> impl Iterator<Item = (&str, &Method, Needs)> {
        self.0
            .iter()
            .flat_map(|(path, of_path)| of_path.iter().map(move |(m, needs)| (path.as_str(), m, *needs)))
    }
}

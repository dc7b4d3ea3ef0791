//! Who may do what: users, roles, tokens, and the record of what they did.
//!
//! **Model.** A *user* has roles: of the whole fabric, or of one vDC each. It proves itself with a token, a client
//! certificate or a token of an identity provider; what it may do comes from its roles alone ([`Grants`]). A user belongs
//! to the fabric, or to one vDC; there it can only have roles of that vDC, so that the vDC's administrators can manage
//! it themselves.
//!
//! | role | may |
//! | --- | --- |
//! | `fabric-admin` | everything |
//! | `fabric-viewer` | read everything but tokens |
//! | `vdc-admin` | everything that an editor may; manage users of the vDC; read its audit log |
//! | `vdc-editor` | change networks, routers and attachments of the vDC, within what the vDC was assigned |
//! | `vdc-viewer` | read the vDC |
//!
//! **Invariants.** An object that a caller may not see gets exactly the response of one that does not exist.

mod audit;
mod grants;
mod user;

pub use audit::{AuditPage, AuditRecord};
pub use grants::{Binding, Caller, Grants, Level, Needs, Role};
pub use user::{NewToken, Token, TokenSpec, User, UserKey, UserSpec, WhoAmI};

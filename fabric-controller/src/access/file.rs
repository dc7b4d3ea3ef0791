//! Tokens from the operator's file: for access before there are users, and when nothing else works. Each is a
//! `fabric-admin`.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use subtle::{Choice, ConstantTimeEq as _};
use vfabric_api::access::{Binding, Caller, Grants, Role};

use super::token::Secret;

/// Fewest characters of a token: 128 bits in hexadecimal.
const MIN_TOKEN_CHARS: usize = 32;
/// Octets of a token's SHA-256 that name it in the log: enough to tell tokens apart, too few to help guessing one.
const NAME_OCTETS: usize = 4;

/// The tokens; clones share them. They are never logged or shown.
#[derive(Clone)]
pub struct Tokens(Arc<ArcSwap<Vec<String>>>);

/// Creates the file with a new token if it does not exist; only its owner can read it. Returns whether it did.
///
/// # Errors
/// The file cannot be made.
pub fn make(path: &Path) -> std::io::Result<bool> {
    let file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    let mut file = match file {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => return Ok(false),
        file => file?,
    };
    let secret = Secret::random();
    writeln!(
        file,
        "# A holder of this token may do everything. Make users and their own tokens with it: fabricctl user --help"
    )?;
    writeln!(file, "{}", secret.text())?;
    file.sync_all()?;
    Ok(true)
}

impl Tokens {
    /// Reads tokens, one a line; empty lines and lines that start with `#` are passed over.
    ///
    /// # Errors
    /// Names the line of a token that is too short to be safe, or says that there is none.
    pub fn parse(text: &str) -> Result<Self, String> {
        Ok(Self(Arc::new(ArcSwap::from_pointee(lines(text)?))))
    }

    /// Replaces the tokens, from the next request on. Returns false if they are the same.
    ///
    /// # Errors
    /// As [`Tokens::parse`]; the old ones stay valid.
    pub fn replace(&self, text: &str) -> Result<bool, String> {
        let tokens = lines(text)?;
        let news = **self.0.load() != tokens;
        if news {
            self.0.store(Arc::new(tokens));
        }
        Ok(news)
    }

    /// Whether the token is one of these; takes as long for a wrong token as for a right one.
    fn allow(&self, given: &str) -> bool {
        let tokens = self.0.load();
        let found = tokens
            .iter()
            .fold(Choice::from(0), |hit, t| hit | t.as_bytes().ct_eq(given.as_bytes()));
        found.into()
    }

    /// The caller that a token proves; none if it is not one of these.
    pub fn caller(&self, given: &str) -> Option<Caller> {
        self.allow(given).then(|| {
            let name = format!("token {}", name(given));
            let (role, vdc) = (Role::FabricAdmin, None);
            Caller {
                proof: name.clone(),
                name,
                roles: vec![Binding { role, vdc }],
                grants: Grants::all(),
                expires_ms: None,
            }
        })
    }
}

fn lines(text: &str) -> Result<Vec<String>, String> {
    let mut tokens = Vec::new();
    for (i, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if line.len() < MIN_TOKEN_CHARS {
            return Err(format!(
                "line {}: a token needs at least {MIN_TOKEN_CHARS} characters",
                i + 1
            ));
        }
        tokens.push(line.to_owned());
    }
    if tokens.is_empty() {
        Err("no token found".into())
    } else {
        Ok(tokens)
    }
}

/// The name of a token in the log.
fn name(token: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, token.as_bytes());
    let first = digest.as_ref().iter().take(NAME_OCTETS);
    first.map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const TOKEN: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn only_whole_tokens_are_allowed() {
        let tokens = Tokens::parse(&format!("# admin\n{TOKEN}\n")).unwrap();
        assert!(tokens.caller(TOKEN).is_some_and(|caller| !caller.is_tenant()));
        assert!(tokens.caller(&TOKEN[1..]).is_none());
        assert!(tokens.caller("").is_none());
        assert!(Tokens::parse("short").is_err());
        assert!(Tokens::parse("# none\n").is_err());
    }

    #[test]
    fn tokens_are_replaced_everywhere_or_not_at_all() {
        let tokens = Tokens::parse(TOKEN).unwrap();
        let shared = tokens.clone();
        assert!(tokens.replace("short").is_err());
        assert!(shared.allow(TOKEN));
        assert_eq!(tokens.replace(TOKEN), Ok(false));
        assert_eq!(tokens.replace(&TOKEN.to_uppercase()), Ok(true));
        assert!(!shared.allow(TOKEN));
    }

    #[test]
    fn the_name_of_a_token_does_not_show_it() {
        assert_eq!(name(TOKEN).len(), 2 * NAME_OCTETS);
        assert!(!TOKEN.contains(&name(TOKEN)));
    }

    #[test]
    fn the_first_token_is_made_once_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("admin.token");
        assert!(make(&path).unwrap());
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!make(&path).unwrap());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        let token = text.lines().find(|l| !l.starts_with('#')).unwrap();
        assert!(Tokens::parse(&text).unwrap().caller(token).is_some());
    }
}

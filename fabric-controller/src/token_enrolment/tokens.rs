//! One-time tokens with which a machine without a certificate enrols.
//!
//! **Model.** A token is `vfenrol_<id>_<secret>`, both parts random. It belongs to one subject (such as `host/h1` or `switch/leaf1`) with one identity of
//! the inventory, which is never reused: the token of a removed host is not valid for the next host of that name. The
//! first key that comes with the token takes it. The same key may come again until the token expires, so a reply that
//! was lost costs nothing; another key is refused. A subject has one token: a new token ends the earlier one. The key
//! that took the last token is the *holder* of the subject: it may renew its certificate.
//!
//! **Invariants.** Only a hash of the secret is stored. When [`Tokens::take`] returns, it is on the disk which key took
//! the token. So it is there before a certificate is sent. The file is beside the store: a store that is restored from
//! a backup brings no used token back.
//!
//! **Cost.** A look-up is one read. Making a token walks all tokens, to delete old ones. There is at most one valid
//! token for a subject; expired ones are kept for a week.

use std::path::Path;

use fabric_bootz::enrol::kept::Kept;
use rand::TryRngCore as _;
use rand::rngs::OsRng;
use redb::{Database, ReadableDatabase as _, ReadableTable as _, Table, TableDefinition};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;

/// Id to token, as JSON.
const TOKENS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("tokens");
/// Subject to the id of its token.
const OF_SUBJECTS: TableDefinition<'_, &str, &str> = TableDefinition::new("of_subjects");
/// Subject to the key that took its last token, as JSON.
const HOLDERS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("holders");
/// What every token begins with. Scanners of repositories can find a lost token by it.
const PREFIX: &str = "vfenrol_";
/// Octets of the id and of the secret; twice as many characters.
const OCTETS: (usize, usize) = (8, 32);
/// How long a token is remembered after it expired, in milliseconds: until then a refusal says that it expired.
const REMEMBERED_MS: u64 = 7 * 86_400_000;

/// A token as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Row {
    subject: String,
    uid: u64,
    /// SHA-256 of the whole token, in hexadecimal. A slow hash would add nothing: the secret has 256 bits.
    hash: String,
    expires_ms: u64,
    /// When it was taken, and by which key.
    #[serde(default)]
    taken: Option<(u64, String)>,
}

/// The key that a subject enrolled with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Holder {
    uid: u64,
    key: String,
}

/// The subject of a valid token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The subject, as its SPIFFE id names it.
    pub subject: String,
    /// Its identity in the inventory.
    pub uid: u64,
}

/// A token that was just made. This is the only time that its text is known.
pub struct Made {
    /// The token.
    pub text: String,
    /// When it expires, in milliseconds since 1970.
    pub expires_ms: u64,
}

/// Why a token is refused.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The text does not have the form of a token, or the token is not known, or its secret is wrong.
    #[error("this is not an enrolment token of this fabric, or a newer one has replaced it")]
    Unknown,
    /// The token has expired.
    #[error("the enrolment token of `{subject}` expired at {}", written(*.expired_ms))]
    Expired {
        /// Whose token.
        subject: String,
        /// Since when, in milliseconds since 1970.
        expired_ms: u64,
    },
    /// Another key has taken it.
    #[error("the enrolment token of `{subject}` was used by another key at {}: a copy?", written(*.taken_ms))]
    Taken {
        /// Whose token.
        subject: String,
        /// When, in milliseconds since 1970.
        taken_ms: u64,
    },
    /// The file failed.
    #[error("the enrolment tokens cannot be stored: {0}")]
    Disk(String),
    /// The system has no random numbers.
    #[error("the system has no random numbers")]
    NoRandom,
}

impl TokenError {
    /// The subject whose token was refused, as far as the token proves it.
    pub fn subject(&self) -> Option<&str> {
        match self {
            Self::Expired { subject, .. } | Self::Taken { subject, .. } => Some(subject),
            Self::Unknown | Self::Disk(_) | Self::NoRandom => None,
        }
    }
}

/// A moment in words, in UTC.
fn written(ms: u64) -> String {
    let time = std::time::UNIX_EPOCH.checked_add(std::time::Duration::from_millis(ms));
    time.map(|t| humantime::format_rfc3339_seconds(t).to_string())
        .unwrap_or_default()
}

fn disk(error: impl Into<redb::Error>) -> TokenError {
    TokenError::Disk(error.into().to_string())
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|b| format!("{b:02x}")).collect()
}

fn random_hex(octets: usize) -> Result<String, TokenError> {
    let mut bytes = vec![0; octets];
    OsRng.try_fill_bytes(&mut bytes).map_err(|_| TokenError::NoRandom)?;
    Ok(hex(&bytes))
}

fn hash(text: &str) -> String {
    hex(ring::digest::digest(&ring::digest::SHA256, text.as_bytes()).as_ref())
}

/// The id in a text that has the form of a token.
fn id_of(text: &str) -> Option<&str> {
    let (id, secret) = text.strip_prefix(PREFIX)?.split_once('_')?;
    let is_hex = |part: &str, octets: usize| {
        part.len() == 2 * octets && part.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    (is_hex(id, OCTETS.0) && is_hex(secret, OCTETS.1)).then_some(id)
}

fn parse(row: &[u8]) -> Result<Row, TokenError> {
    serde_json::from_slice(row).map_err(|error| TokenError::Disk(error.to_string()))
}

fn put(table: &mut Table<'_, &str, &[u8]>, id: &str, row: &Row) -> Result<(), TokenError> {
    let text = serde_json::to_vec(row).map_err(|error| TokenError::Disk(error.to_string()))?;
    table.insert(id, text.as_slice()).map(drop).map_err(disk)
}

impl Row {
    /// Whether this text is the token, and a key may have what it is for.
    fn check(&self, text: &str, key: Option<&str>, now_ms: u64) -> Result<(), TokenError> {
        if !bool::from(self.hash.as_bytes().ct_eq(hash(text).as_bytes())) {
            return Err(TokenError::Unknown);
        }
        if self.expires_ms <= now_ms {
            return Err(TokenError::Expired {
                subject: self.subject.clone(),
                expired_ms: self.expires_ms,
            });
        }
        match (&self.taken, key) {
            (Some((taken_ms, by)), Some(key)) if by != key => Err(TokenError::Taken {
                subject: self.subject.clone(),
                taken_ms: *taken_ms,
            }),
            _ => Ok(()),
        }
    }

    fn claim(self) -> Claim {
        Claim {
            subject: self.subject,
            uid: self.uid,
        }
    }
}

/// The file of tokens.
pub struct Tokens(Kept);

impl Tokens {
    /// Opens the file, or makes it.
    ///
    /// # Errors
    /// [`TokenError::Disk`].
    pub fn open(path: &Path) -> Result<Self, TokenError> {
        let kept = Kept::open(path, |database| {
            let write = database.begin_write()?;
            write.open_table(TOKENS)?;
            write.open_table(OF_SUBJECTS)?;
            write.open_table(HOLDERS)?;
            Ok(write.commit()?)
        });
        kept.map(Self).map_err(disk)
    }

    fn with<T>(&self, work: impl FnOnce(&Database) -> Result<T, TokenError>) -> Result<T, TokenError> {
        let is_disk = |error: &TokenError| matches!(error, TokenError::Disk(_));
        self.0.with(disk, is_disk, work)
    }

    /// Makes a token for a subject, and ends the one that it had.
    ///
    /// # Errors
    /// [`TokenError::Disk`] or [`TokenError::NoRandom`].
    pub fn make(&self, claim: &Claim, lifetime_ms: u64, now_ms: u64) -> Result<Made, TokenError> {
        let (id, secret) = (random_hex(OCTETS.0)?, random_hex(OCTETS.1)?);
        let text = format!("{PREFIX}{id}_{secret}");
        let row = Row {
            subject: claim.subject.clone(),
            uid: claim.uid,
            hash: hash(&text),
            expires_ms: now_ms.saturating_add(lifetime_ms),
            taken: None,
        };
        self.with(|database| {
            let write = database.begin_write().map_err(disk)?;
            {
                let mut tokens = write.open_table(TOKENS).map_err(disk)?;
                let mut of_subjects = write.open_table(OF_SUBJECTS).map_err(disk)?;
                let before = of_subjects.insert(claim.subject.as_str(), id.as_str()).map_err(disk)?;
                let before = before.map(|id| id.value().to_owned());
                if let Some(before) = before {
                    tokens.remove(before.as_str()).map_err(disk)?;
                }
                let is_kept =
                    |row: &[u8]| parse(row).is_ok_and(|row| row.expires_ms.saturating_add(REMEMBERED_MS) > now_ms);
                tokens.retain(|_, row| is_kept(row)).map_err(disk)?;
                put(&mut tokens, &id, &row)?;
                of_subjects
                    .retain(|_, id| tokens.get(id).is_ok_and(|row| row.is_some()))
                    .map_err(disk)?;
            }
            write.commit().map_err(disk)?;
            Ok(Made {
                text,
                expires_ms: row.expires_ms,
            })
        })
    }

    /// The subject of a token. Changes nothing.
    ///
    /// # Errors
    /// Why the token is refused.
    pub fn find(&self, text: &str, now_ms: u64) -> Result<Claim, TokenError> {
        let id = id_of(text).ok_or(TokenError::Unknown)?;
        self.with(|database| {
            let read = database.begin_read().map_err(disk)?;
            let tokens = read.open_table(TOKENS).map_err(disk)?;
            let row = tokens.get(id).map_err(disk)?.ok_or(TokenError::Unknown)?;
            let row = parse(row.value())?;
            row.check(text, None, now_ms)?;
            Ok(row.claim())
        })
    }

    /// Marks a token as taken by a key (its SHA-256 in hexadecimal), which is on the disk when this returns. A token
    /// that this key has taken before stays as it is.
    ///
    /// # Errors
    /// Why the token is refused. In that case nothing has changed.
    pub fn take(&self, text: &str, key: &str, now_ms: u64) -> Result<Claim, TokenError> {
        let id = id_of(text).ok_or(TokenError::Unknown)?;
        self.with(|database| {
            let write = database.begin_write().map_err(disk)?;
            let row = {
                let mut tokens = write.open_table(TOKENS).map_err(disk)?;
                let row = tokens.get(id).map_err(disk)?.map(|row| parse(row.value()));
                let mut row = row.ok_or(TokenError::Unknown)??;
                row.check(text, Some(key), now_ms)?;
                if row.taken.is_some() {
                    return Ok(row.claim());
                }
                row.taken = Some((now_ms, key.to_owned()));
                put(&mut tokens, id, &row)?;
                let holder = Holder {
                    uid: row.uid,
                    key: key.to_owned(),
                };
                let holder = serde_json::to_vec(&holder).map_err(|error| TokenError::Disk(error.to_string()))?;
                let mut holders = write.open_table(HOLDERS).map_err(disk)?;
                holders.insert(row.subject.as_str(), holder.as_slice()).map_err(disk)?;
                row
            };
            write.commit().map_err(disk)?;
            Ok(row.claim())
        })
    }
}

impl Tokens {
    /// Whether this key was the last that enrolled as a subject with this identity.
    ///
    /// # Errors
    /// [`TokenError::Disk`].
    pub fn is_holder(&self, claim: &Claim, key: &str) -> Result<bool, TokenError> {
        self.with(|database| {
            let read = database.begin_read().map_err(disk)?;
            let holders = read.open_table(HOLDERS).map_err(disk)?;
            let Some(row) = holders.get(claim.subject.as_str()).map_err(disk)? else {
                return Ok(false);
            };
            let holder: Holder =
                serde_json::from_slice(row.value()).map_err(|error| TokenError::Disk(error.to_string()))?;
            Ok(holder.uid == claim.uid && holder.key == key)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000;

    fn claim(name: &str) -> Claim {
        Claim {
            subject: format!("host/{name}"),
            uid: 7,
        }
    }

    fn is_unknown(found: Result<Claim, TokenError>) -> bool {
        matches!(found, Err(TokenError::Unknown))
    }

    #[test]
    fn a_token_is_taken_by_one_key_which_may_come_again_also_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens.redb");
        let text = {
            let tokens = Tokens::open(&path).unwrap();
            let made = tokens.make(&claim("h1"), HOUR, 1000).unwrap();
            assert_eq!(made.expires_ms, 1000 + HOUR);
            assert_eq!(tokens.find(&made.text, 1000).unwrap(), claim("h1"));
            assert_eq!(tokens.take(&made.text, "key", 1000).unwrap(), claim("h1"));
            made.text
        };
        assert!(
            !std::fs::read(&path)
                .unwrap()
                .windows(64)
                .any(|w| text.as_bytes().ends_with(w)),
            "no secret on the disk"
        );
        let tokens = Tokens::open(&path).unwrap();
        assert_eq!(tokens.take(&text, "key", 2000).unwrap(), claim("h1"));
        let copied = tokens.take(&text, "other", 3000).unwrap_err();
        assert!(
            copied
                .to_string()
                .contains("used by another key at 1970-01-01T00:00:01Z")
                && copied.subject() == Some("host/h1"),
            "{copied}"
        );
        let late = tokens.take(&text, "key", 1000 + HOUR).unwrap_err();
        assert!(late.to_string().contains("expired at 1970-01-01T01:00:01Z"), "{late}");
    }

    #[test]
    fn what_is_no_token_and_a_token_that_was_replaced_open_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let tokens = Tokens::open(&dir.path().join("tokens.redb")).unwrap();
        let first = tokens.make(&claim("h1"), HOUR, 0).unwrap().text;
        let other = tokens.make(&claim("h2"), HOUR, 0).unwrap().text;
        let second = tokens.make(&claim("h1"), HOUR, 0).unwrap().text;
        assert!(is_unknown(tokens.find(&first, 0)) && is_unknown(tokens.take(&first, "key", 0)));
        assert_eq!(tokens.find(&second, 0).unwrap(), claim("h1"));
        // The id of one token with the secret of another.
        let mixed = format!("{}{}", &second[..25], &other[25..]);
        for wrong in [
            "",
            "vfenrol_",
            &second[1..],
            &second[..88],
            &second.to_uppercase(),
            &mixed,
        ] {
            assert!(
                is_unknown(tokens.find(wrong, 0)) && is_unknown(tokens.take(wrong, "key", 0)),
                "{wrong}"
            );
        }
        assert_eq!(tokens.take(&second, "key", 0).unwrap(), claim("h1"));
    }

    #[test]
    fn the_last_key_that_took_a_token_holds_the_name_for_this_identity() {
        let dir = tempfile::tempdir().unwrap();
        let tokens = Tokens::open(&dir.path().join("tokens.redb")).unwrap();
        let holds = |claim: &Claim, key: &str| tokens.is_holder(claim, key).unwrap();
        let h1 = claim("h1");
        let first = tokens.make(&h1, HOUR, 0).unwrap().text;
        assert!(!holds(&h1, "a"));
        tokens.take(&first, "a", 0).unwrap();
        // A new token alone does not end what the old key may do.
        let second = tokens.make(&h1, HOUR, 0).unwrap().text;
        assert!(holds(&h1, "a") && !holds(&h1, "b"));
        tokens.take(&second, "b", 0).unwrap();
        assert!(!holds(&h1, "a") && holds(&h1, "b"));
        // A later host of this name.
        assert!(!holds(&Claim { uid: 8, ..h1 }, "b"));
    }

    #[test]
    fn old_tokens_are_forgotten_when_a_new_one_is_made() {
        let dir = tempfile::tempdir().unwrap();
        let tokens = Tokens::open(&dir.path().join("tokens.redb")).unwrap();
        let old = tokens.make(&claim("h1"), HOUR, 0).unwrap().text;
        tokens.make(&claim("h2"), HOUR, HOUR + 1).unwrap();
        assert!(matches!(tokens.find(&old, HOUR + 1), Err(TokenError::Expired { .. })));
        tokens.make(&claim("h2"), HOUR, HOUR + REMEMBERED_MS).unwrap();
        assert!(is_unknown(tokens.find(&old, HOUR + REMEMBERED_MS)));
        // A subject whose token was forgotten gets another one.
        let new = tokens.make(&claim("h1"), HOUR, HOUR + REMEMBERED_MS).unwrap().text;
        assert_eq!(tokens.find(&new, HOUR + REMEMBERED_MS).unwrap(), claim("h1"));
    }
}

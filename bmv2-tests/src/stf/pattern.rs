//! The pattern that a frame must match when it leaves.

use std::fmt;

/// Hexadecimal digits, some of which do not matter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    /// A digit, or `None` where any will do.
    digits: Vec<Option<u8>>,
    /// No octet may follow the digits.
    exact: bool,
}

impl Pattern {
    /// Reads digits, `*` for any digit, and `$` at the end if nothing may follow; white space does not count.
    /// `Err` is the character that does not belong.
    pub fn parse(text: &str) -> Result<Self, char> {
        let mut pattern = Self {
            digits: Vec::new(),
            exact: false,
        };
        for c in text.chars().filter(|c| !c.is_whitespace()) {
            if pattern.exact {
                return Err(c);
            }
            match (c, c.to_digit(16)) {
                ('$', _) => pattern.exact = true,
                ('*', _) => pattern.digits.push(None),
                (_, Some(digit)) => pattern.digits.push(Some(digit as u8)),
                (other, None) => return Err(other),
            }
        }
        Ok(pattern)
    }

    /// Whether a frame matches.
    ///
    /// # Errors
    /// What differs, for people.
    pub fn check(&self, frame: &[u8]) -> Result<(), String> {
        let found: Vec<u8> = frame.iter().flat_map(|b| [b >> 4, b & 15]).collect();
        let shown = || format!("\n    expected {self}\n    received {}", hex(frame));
        for (at, wanted) in self.digits.iter().enumerate() {
            match (wanted, found.get(at)) {
                (_, None) => return Err(format!("it ends after {} octets{}", frame.len(), shown())),
                (Some(w), Some(f)) if w != f => {
                    return Err(format!("octet {} differs{}", at / 2, shown()));
                }
                _ => {}
            }
        }
        if self.exact && found.len() > self.digits.len() {
            return Err(format!("it has {} octets{}", frame.len(), shown()));
        }
        Ok(())
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for digit in &self.digits {
            match digit {
                Some(d) => write!(f, "{d:x}")?,
                None => f.write_str("*")?,
            }
        }
        if self.exact { f.write_str("$") } else { Ok(()) }
    }
}

/// Octets as digits.
pub(super) fn hex(data: &[u8]) -> String {
    data.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_wildcards_and_ends() {
        let fits = |p: &str, f: &[u8]| Pattern::parse(p).unwrap().check(f).is_ok();
        assert!(fits("0a *F", &[0x0a, 0x3f]));
        assert!(fits("0a *F", &[0x0a, 0x3f, 0x00]), "octets may follow");
        assert!(!fits("0a *F", &[0x0a]), "too short");
        assert!(!fits("0a *F", &[0x0b, 0x3f]));
        assert!(fits("0a$", &[0x0a]));
        assert!(!fits("0a$", &[0x0a, 0x00]), "nothing may follow");
        assert_eq!(Pattern::parse("0a x"), Err('x'));
        assert_eq!(Pattern::parse("0a$0"), Err('0'));
    }
}

//! Words of one line.

use num_bigint::BigUint;

use super::command::Digits;

/// A word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    /// A name or key word; a quoted one without its quotes.
    Name(String),
    /// A number and its text.
    Number(Digits, String),
    /// Punctuation.
    Mark(&'static str),
}

/// Longer ones first.
const MARKS: [&str; 18] = [
    "&&&", "->", "==", "!=", "<=", ">=", "<", ">", "=", ":", ",", ".", "[", "]", "(", ")", "/", "@",
];

/// The line without its comment.
pub(super) fn without_comment(line: &str) -> &str {
    let mut quoted = false;
    let end = line.find(|c| {
        quoted ^= c == '"';
        c == '#' && !quoted
    });
    end.map_or(line, |end| line.get(..end).unwrap_or(line))
}

/// Splits a line into words; `Err` has the text that is not a word.
pub(super) fn words(line: &str) -> Result<Vec<Token>, String> {
    let mut rest = line.trim_start();
    let mut out = Vec::new();
    while let Some(first) = rest.chars().next() {
        let (token, length) = if first == '"' {
            let inner = rest.get(1..).unwrap_or_default();
            let end = inner.find('"').ok_or("a quote is not closed")?;
            (Token::Name(inner.get(..end).unwrap_or_default().to_owned()), end + 2)
        } else if first.is_ascii_digit() {
            let part_of = |c: char| c.is_ascii_alphanumeric() || c == '*';
            let text = rest.split(|c| !part_of(c)).next().unwrap_or_default();
            let digits = digits(text).ok_or_else(|| format!("`{text}` is not a number"))?;
            (Token::Number(digits, text.to_owned()), text.len())
        } else if first.is_ascii_alphabetic() || first == '_' || first == '$' {
            let part_of = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '$';
            let text = rest.split(|c| !part_of(c)).next().unwrap_or_default();
            (Token::Name(text.to_owned()), text.len())
        } else {
            let mark = MARKS.iter().find(|m| rest.starts_with(**m));
            let mark = mark.ok_or_else(|| format!("`{first}` is out of place"))?;
            (Token::Mark(mark), mark.len())
        };
        out.push(token);
        rest = rest.get(length..).unwrap_or_default().trim_start();
    }
    Ok(out)
}

/// A number in decimal, `0x` or `0b`, the latter two with `*` for digits that do not matter.
pub(super) fn digits(text: &str) -> Option<Digits> {
    let lower = text.to_ascii_lowercase();
    let (body, bits) = if let Some(body) = lower.strip_prefix("0x") {
        (body, 4)
    } else if let Some(body) = lower.strip_prefix("0b") {
        (body, 1)
    } else {
        let value = BigUint::parse_bytes(lower.as_bytes(), 10)?;
        return Some(Digits {
            value,
            care: None,
            bits: 0,
        });
    };
    if body.is_empty() {
        return None;
    }
    let radix = 1 << bits;
    let full = radix - 1;
    let (mut value, mut care, mut cared) = (Vec::new(), Vec::new(), 0);
    for c in body.chars() {
        let digit = if c == '*' { None } else { Some(c.to_digit(radix)? as u8) };
        value.push(digit.unwrap_or(0));
        care.push(digit.map_or(0, |_| full as u8));
        cared += digit.map_or(0, |_| bits);
    }
    Some(Digits {
        value: BigUint::from_radix_be(&value, radix)?,
        care: Some(BigUint::from_radix_be(&care, radix)?),
        bits: cared,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_with_digits_that_do_not_matter() {
        let number = |t: &str| digits(t).map(|d| (d.value.to_string(), d.care.map(|c| c.to_string()), d.bits));
        assert_eq!(number("17"), Some(("17".into(), None, 0)));
        assert_eq!(number("0x0a*"), Some(("160".into(), Some("4080".into()), 8)));
        assert_eq!(number("0b1*0"), Some(("4".into(), Some("5".into()), 2)));
        assert_eq!(number("0x"), None);
        assert_eq!(number("0b12"), None);
        assert_eq!(number("1f"), None);
    }

    #[test]
    fn words_of_a_line() {
        let line = without_comment(r#"add "a#b" 0x1&&&0x3 x$0.y->2 # no more"#);
        let words = words(line).unwrap();
        assert_eq!(words.len(), 10);
        assert_eq!(words.get(1), Some(&Token::Name("a#b".into())));
        assert_eq!(words.get(3), Some(&Token::Mark("&&&")));
        assert_eq!(words.get(8), Some(&Token::Mark("->")));
    }
}

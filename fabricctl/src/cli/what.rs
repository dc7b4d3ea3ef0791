//! The words for kinds of objects and for parts of the fabric.

use std::str::FromStr;

use vfabric_api::kind::Kind;

/// What can be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    /// Objects of a kind.
    Objects(Kind),
    /// Switches.
    Switches,
    /// Hosts.
    Hosts,
    /// Links between switches.
    Links,
    /// Packets that were lost anywhere, by device, place and reason.
    Drops,
    /// What devices should hold.
    Entities,
}

/// Parts of the fabric: the plural, then synonyms.
const OF_FABRIC: [(What, &[&str]); 5] = [
    (What::Switches, &["switches", "switch", "sw"]),
    (What::Hosts, &["hosts", "host"]),
    (What::Links, &["links", "link"]),
    (What::Drops, &["drops", "drop"]),
    (What::Entities, &["entities", "entity"]),
];

/// Short words for kinds of objects.
const SHORT: [(&str, Kind); 4] = [
    ("net", Kind::Network),
    ("nets", Kind::Network),
    ("rt", Kind::Router),
    ("att", Kind::Attachment),
];

/// A kind by its singular, its plural or its short form.
pub(super) fn kind(text: &str) -> Result<Kind, String> {
    let text = text.to_ascii_lowercase();
    let short = SHORT.iter().find(|(word, _)| *word == text);
    short.map_or_else(|| text.parse(), |(_, kind)| Ok(*kind))
}

impl What {
    /// Each thing that can be shown, by its plural.
    pub(super) fn words() -> impl Iterator<Item = &'static str> {
        let kinds = Kind::ALL.iter().map(|kind| kind.plural());
        kinds.chain(OF_FABRIC.iter().filter_map(|(_, words)| words.first().copied()))
    }
}

impl FromStr for What {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(kind) = kind(text) {
            return Ok(Self::Objects(kind));
        }
        let text = text.to_ascii_lowercase();
        let found = OF_FABRIC.iter().find(|(_, words)| words.contains(&text.as_str()));
        found.map(|(what, _)| *what).ok_or_else(|| {
            let words: Vec<&str> = Self::words().collect();
            format!("expected one of: {}", words.join(", "))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_thing_has_a_word_for_one_and_for_many() {
        for (text, what) in [
            ("network", What::Objects(Kind::Network)),
            ("networks", What::Objects(Kind::Network)),
            ("net", What::Objects(Kind::Network)),
            ("att", What::Objects(Kind::Attachment)),
            ("VDC", What::Objects(Kind::Vdc)),
            ("switch", What::Switches),
            ("sw", What::Switches),
            ("links", What::Links),
        ] {
            assert_eq!(text.parse(), Ok(what), "{text}");
        }
        let error = "pods".parse::<What>().unwrap_err();
        assert!(error.contains("attachments") && error.contains("switches"), "{error}");
        // No short form is the word for another thing.
        for (short, _) in SHORT {
            assert!(short.parse::<Kind>().is_err() && OF_FABRIC.iter().all(|(_, words)| !words.contains(&short)));
        }
    }
}

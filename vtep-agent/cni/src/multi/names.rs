//! Names of interfaces that the annotation leaves open.

use std::collections::BTreeSet;

use serde::Deserialize;

/// How such names are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    /// `net1`, `net2`: the place in the annotation.
    #[default]
    Net,
    /// As Kactus: `net` and the first 12 hexadecimal digits of the MD5 digest of the network's name.
    Kactus,
    /// As KubeVirt: `pod` and the first 11 hexadecimal digits of the SHA-256 digest of the network's name.
    Kubevirt,
}

/// True for a name that Linux accepts for an interface: 1 to 15 characters without white space, `/`, `:` and `%`.
pub fn is_valid(name: &str) -> bool {
    let good = |b: u8| b.is_ascii_graphic() && !matches!(b, b'/' | b':' | b'%');
    (1..=15).contains(&name.len()) && !name.starts_with('.') && name.bytes().all(good)
}

fn hexadecimal(octets: &[u8], digits: usize) -> String {
    let text: String = octets.iter().map(|b| format!("{b:02x}")).collect();
    text[..digits.min(text.len())].to_owned()
}

impl Scheme {
    /// The name for a network at a place in the annotation, counted from 1. `taken` are names that it cannot have. The
    /// hashed schemes have only one name for each network and return it even if it is taken, so the caller must refuse
    /// the collision.
    pub fn name(self, network: &str, place: usize, taken: &BTreeSet<String>) -> String {
        match self {
            Self::Net => {
                let free = |n: &usize| !taken.contains(&format!("net{n}"));
                let number = std::iter::once(place).chain(1..).find(free);
                format!("net{}", number.unwrap_or(place))
            }
            Self::Kactus => format!("net{}", hexadecimal(&md5(network.as_bytes()), 12)),
            Self::Kubevirt => {
                let digest = ring::digest::digest(&ring::digest::SHA256, network.as_bytes());
                format!("pod{}", hexadecimal(digest.as_ref(), 11))
            }
        }
    }
}

/// Rotations of the four rounds (RFC 1321 section 3.4).
const ROTATIONS: [[u32; 4]; 4] = [[7, 12, 17, 22], [5, 9, 14, 20], [4, 11, 16, 23], [6, 10, 15, 21]];

/// The MD5 digest (RFC 1321). It names interfaces and protects nothing.
fn md5(message: &[u8]) -> [u8; 16] {
    let mut padded = message.to_vec();
    padded.push(0x80);
    while padded.len() % 64 != 56 {
        padded.push(0);
    }
    padded.extend((message.len() as u64 * 8).to_le_bytes());
    let mut state = [0x6745_2301u32, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];
    for block in padded.chunks_exact(64) {
        let mut words = [0u32; 16];
        for (word, octets) in words.iter_mut().zip(block.chunks_exact(4)) {
            *word = octets.iter().rev().fold(0, |w, o| w << 8 | u32::from(*o));
        }
        let [mut a, mut b, mut c, mut d] = state;
        for step in 0..64 {
            let (mix, word) = match step / 16 {
                0 => ((b & c) | (!b & d), step),
                1 => ((b & d) | (c & !d), (5 * step + 1) % 16),
                2 => (b ^ c ^ d, (3 * step + 5) % 16),
                _ => (c ^ (b | !d), (7 * step) % 16),
            };
            // The table of the RFC: the integer part of 4294967296 times abs(sin(i)).
            let sine = (f64::from(step as u32 + 1).sin().abs() * 4_294_967_296.0) as u32;
            let sum = a.wrapping_add(mix).wrapping_add(sine).wrapping_add(words[word]);
            let rotated = sum.rotate_left(ROTATIONS[step / 16][step % 4]);
            (a, d, c, b) = (d, c, b, b.wrapping_add(rotated));
        }
        for (held, new) in state.iter_mut().zip([a, b, c, d]) {
            *held = held.wrapping_add(new);
        }
    }
    let mut digest = [0; 16];
    for (octets, word) in digest.chunks_exact_mut(4).zip(state) {
        octets.copy_from_slice(&word.to_le_bytes());
    }
    digest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn md5_is_that_of_the_rfc() {
        // RFC 1321 appendix A.5.
        for (message, digest) in [
            ("", "d41d8cd98f00b204e9800998ecf8427e"),
            ("abc", "900150983cd24fb0d6963f7d28e17f72"),
            (
                "12345678901234567890123456789012345678901234567890123456789012345678901234567890",
                "57edf4a22be3c955ac49da2e2107b67a",
            ),
        ] {
            assert_eq!(hexadecimal(&md5(message.as_bytes()), 32), digest);
        }
    }

    #[test]
    fn each_scheme_has_its_names() {
        let none = BTreeSet::new();
        assert_eq!(Scheme::Net.name("a", 2, &none), "net2");
        let taken: BTreeSet<String> = ["net1".to_owned(), "net2".to_owned()].into();
        assert_eq!(Scheme::Net.name("a", 2, &taken), "net3");
        // The example in KubeVirt's sources.
        assert_eq!(Scheme::Kubevirt.name("iface1", 1, &none), "pod7e0055a6880");
        let kactus = Scheme::Kactus.name("abc", 1, &none);
        assert_eq!(kactus, "net900150983cd2");
        assert!(is_valid(&kactus));
        for wrong in ["", ".", "..", "a b", "a/b", "a:b", "a%d", "sixteen-letters-"] {
            assert!(!is_valid(wrong), "{wrong}");
        }
    }
}

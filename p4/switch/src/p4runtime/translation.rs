//! Values of types with `@p4runtime_translation` (specification, sections 8.5.6 and 19.1).
//!
//! A client sees the SDN value, tables and packets hold the data plane value; both meet only here. Numbers keep their
//! value (they are only written in another width), except the reserved SDN ports for CPU. Strings are numbered as
//! they appear and stay numbered while the pipeline is loaded; strings of port types are port numbers or port names.

use std::sync::Arc;

use foldhash::HashMap;
use p4runtime_proto::p4::config::v1 as config;
use rustc_hash::FxHashMap;
use thiserror::Error;

use super::bytestring::{self, BytestringError};
use super::info::{InfoError, MAX_BITWIDTH, ValueType};
use super::ports::PortNames;

/// Reserved SDN port number of the CPU port (`SDN_PORT_CPU`).
const SDN_PORT_CPU: u64 = 0xffff_fffd;

/// Strings remembered per translated type: far above the number of ports, VRFs or tunnels of one switch, and a bound on
/// the server's memory.
const MAX_STRINGS_PER_TYPE: usize = 1 << 20;

/// Longest SDN string, in bytes.
const MAX_STRING_LEN: usize = 256;

/// How values of a translated type look to clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SdnType {
    /// `sdn_bitwidth`.
    Bits,
    /// `sdn_string`.
    Text,
}

/// One translated type.
#[derive(Debug, Clone)]
pub struct Translation {
    /// Name of the P4 type.
    pub type_name: Arc<str>,
    /// How clients write it.
    pub sdn: SdnType,
    /// Whether it names a switch port, judged by the URI.
    pub is_port: bool,
}

/// Finds the translation of named types.
pub(super) struct Translations<'a>(FxHashMap<&'a str, (Translation, usize)>);

impl<'a> Translations<'a> {
    pub(super) fn new(types: &'a config::P4TypeInfo) -> Self {
        use config::p4_new_type_spec::Representation;
        use config::p4_new_type_translation::SdnType as Wire;
        let translated = types.new_types.iter().filter_map(|(name, spec)| {
            let Some(Representation::TranslatedType(wire)) = &spec.representation else {
                return None;
            };
            let (sdn, width) = match &wire.sdn_type {
                Some(Wire::SdnBitwidth(width)) => (SdnType::Bits, usize::try_from(*width).unwrap_or(0)),
                Some(Wire::SdnString(_)) => (SdnType::Text, 0),
                None => return None,
            };
            let is_port = wire.uri.to_ascii_lowercase().contains("port");
            let translation = Translation {
                type_name: name.as_str().into(),
                sdn,
                is_port,
            };
            Some((name.as_str(), (translation, width)))
        });
        Self(translated.collect())
    }

    /// The translation of a named type, if it has one.
    pub(super) fn of(&self, named: &Option<config::P4NamedType>) -> Option<Translation> {
        self.0
            .get(named.as_ref()?.name.as_str())
            .map(|(translation, _)| translation.clone())
    }

    /// The form in which clients write an action parameter of this type and width. `bit<0>` is valid; its only value is
    /// 0.
    pub(super) fn parameter(
        &self,
        owner: &str,
        named: &Option<config::P4NamedType>,
        bitwidth: i32,
    ) -> Result<ValueType, InfoError> {
        let is_translated = named
            .as_ref()
            .is_some_and(|named| self.0.contains_key(named.name.as_str()));
        if bitwidth == 0 && !is_translated {
            return Ok(ValueType {
                width: 0,
                data_width: 0,
                translation: None,
            });
        }
        self.value(owner, named, bitwidth)
    }

    /// The form in which clients write a field of this type and width.
    pub(super) fn value(
        &self,
        owner: &str,
        named: &Option<config::P4NamedType>,
        bitwidth: i32,
    ) -> Result<ValueType, InfoError> {
        let translated = named.as_ref().and_then(|named| self.0.get(named.name.as_str()));
        if !(0..=MAX_BITWIDTH).contains(&bitwidth) {
            let what = format!("a width of {bitwidth} bits is not supported");
            return Err(InfoError::Unsupported {
                name: owner.to_owned(),
                what,
            });
        }
        let width = match translated {
            Some((Translation { sdn: SdnType::Text, .. }, _)) => 0,
            Some((_, sdn_width)) if bitwidth == 0 => *sdn_width,
            _ => bitwidth as usize,
        };
        if width == 0 && !matches!(translated, Some((Translation { sdn: SdnType::Text, .. }, _))) {
            let what = "a field or parameter has no width".to_owned();
            return Err(InfoError::Unsupported {
                name: owner.to_owned(),
                what,
            });
        }
        let translation = translated.map(|(translation, _)| translation.clone());
        Ok(ValueType {
            width,
            data_width: width,
            translation,
        })
    }
}

/// Why a client's value has no data plane value.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TranslationError {
    /// The value is not a bytestring of the type.
    #[error(transparent)]
    Bytestring(#[from] BytestringError),
    /// The SDN value does not fit the data plane type.
    #[error("the value {value} has no data plane equivalent in {data_width} bits")]
    NoEquivalent {
        /// What the client wrote.
        value: String,
        /// Bits of the data plane type.
        data_width: usize,
    },
    /// Not UTF-8, or too long.
    #[error("the value is not a string of at most {MAX_STRING_LEN} bytes of UTF-8")]
    NotText,
    /// Too many distinct strings.
    #[error("more than {MAX_STRINGS_PER_TYPE} distinct strings for one translated type")]
    TooManyStrings,
}

#[derive(Debug, Default, Clone)]
struct Strings {
    numbers: HashMap<Arc<str>, u64>,
    names: Vec<Arc<str>>,
}

/// The translations in force on one pipeline.
#[derive(Debug, Default, Clone)]
pub struct Translator {
    cpu_port: Option<u64>,
    ports: Arc<PortNames>,
    strings: FxHashMap<Arc<str>, Strings>,
}

impl Translator {
    /// A translator of a switch with this CPU port and these named ports.
    pub fn new(cpu_port: Option<u64>, ports: Arc<PortNames>) -> Self {
        Self {
            cpu_port,
            ports,
            strings: FxHashMap::default(),
        }
    }

    /// Appends the data plane value of a client's value, padded.
    pub fn inward(&mut self, of: &ValueType, value: &[u8], out: &mut Vec<u8>) -> Result<(), TranslationError> {
        let Some(translation) = &of.translation else {
            return Ok(bytestring::push_padded(out, value, of.width)?);
        };
        let number = match translation.sdn {
            SdnType::Text => self.number_of(translation, value)?,
            SdnType::Bits => {
                let value = bytestring::checked(value, of.width)?;
                match (bytestring::to_u64(value), self.cpu_port) {
                    (Some(SDN_PORT_CPU), Some(cpu)) if translation.is_port && of.width == 32 => cpu,
                    _ => {
                        return bytestring::push_padded(out, value, of.data_width).map_err(|_| {
                            TranslationError::NoEquivalent {
                                value: format!("{value:02x?}"),
                                data_width: of.data_width,
                            }
                        });
                    }
                }
            }
        };
        let bytes = number.to_be_bytes();
        bytestring::push_padded(out, &bytes, of.data_width).map_err(|_| TranslationError::NoEquivalent {
            value: number.to_string(),
            data_width: of.data_width,
        })
    }

    fn number_of(&mut self, translation: &Translation, value: &[u8]) -> Result<u64, TranslationError> {
        let text = std::str::from_utf8(value).map_err(|_| TranslationError::NotText)?;
        if text.is_empty() || text.len() > MAX_STRING_LEN {
            return Err(TranslationError::NotText);
        }
        if translation.is_port {
            let port = self.ports.number_of(text).map(u64::from).or_else(|| text.parse().ok());
            return port.ok_or_else(|| TranslationError::NoEquivalent {
                value: text.to_owned(),
                data_width: 0,
            });
        }
        let strings = self.strings.entry(translation.type_name.clone()).or_default();
        if let Some(number) = strings.numbers.get(text) {
            return Ok(*number);
        }
        if strings.names.len() >= MAX_STRINGS_PER_TYPE {
            return Err(TranslationError::TooManyStrings);
        }
        // Zero stays free: programs use it for "none".
        let number = strings.names.len() as u64 + 1;
        let name: Arc<str> = text.into();
        strings.numbers.insert(name.clone(), number);
        strings.names.push(name);
        Ok(number)
    }

    /// The client's canonical value of a padded data plane value.
    pub fn outward(&self, of: &ValueType, value: &[u8]) -> Vec<u8> {
        let Some(translation) = &of.translation else {
            return bytestring::canonical_vec(value);
        };
        let number = bytestring::to_u64(value);
        match (translation.sdn, number) {
            (SdnType::Text, Some(number)) => self.text_of(translation, number).into_bytes(),
            (SdnType::Bits, Some(number)) if translation.is_port && of.width == 32 && Some(number) == self.cpu_port => {
                bytestring::from_u64(SDN_PORT_CPU)
            }
            _ => bytestring::canonical_vec(value),
        }
    }

    fn text_of(&self, translation: &Translation, number: u64) -> String {
        if translation.is_port {
            let named = u32::try_from(number).ok().and_then(|n| self.ports.name_of(n));
            return named.map_or_else(|| number.to_string(), |name| name.to_string());
        }
        let index = usize::try_from(number).unwrap_or(0).wrapping_sub(1);
        let strings = self.strings.get(&translation.type_name);
        let name = strings.and_then(|strings| strings.names.get(index));
        name.map_or_else(|| number.to_string(), ToString::to_string)
    }

    /// A port as written in `watch_port`, replicas and packet metadata: 16-bit or wider data plane numbers pass as they
    /// are, `SDN_PORT_CPU` becomes the CPU port.
    pub fn port_inward(&self, value: &[u8]) -> Option<u64> {
        let number = bytestring::to_u64(bytestring::checked(value, 32).ok()?)?;
        match self.cpu_port {
            Some(cpu) if number == SDN_PORT_CPU => Some(cpu),
            _ => Some(number),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(sdn: SdnType, is_port: bool, width: usize, data_width: usize) -> ValueType {
        let translation = Some(Translation {
            type_name: "t".into(),
            sdn,
            is_port,
        });
        ValueType {
            width,
            data_width,
            translation,
        }
    }

    fn inward(t: &mut Translator, of: &ValueType, value: &[u8]) -> Result<Vec<u8>, TranslationError> {
        let mut out = Vec::new();
        t.inward(of, value, &mut out).map(|()| out)
    }

    #[test]
    fn ports_are_written_in_32_bits_and_the_cpu_port_is_reserved() {
        let mut t = Translator::new(Some(510), Arc::default());
        let port = value(SdnType::Bits, true, 32, 9);
        assert_eq!(inward(&mut t, &port, &[5]), Ok(vec![0, 5]));
        assert_eq!(inward(&mut t, &port, &[0xff, 0xff, 0xff, 0xfd]), Ok(vec![1, 0xfe]));
        assert_eq!(t.outward(&port, &[1, 0xfe]), [0xff, 0xff, 0xff, 0xfd]);
        assert_eq!(t.outward(&port, &[0, 5]), [5]);
        assert!(matches!(
            inward(&mut t, &port, &[2, 0]),
            Err(TranslationError::NoEquivalent { .. })
        ));
    }

    #[test]
    fn strings_are_numbered_and_read_back() {
        let mut t = Translator::default();
        let vrf = value(SdnType::Text, false, 0, 10);
        let red = inward(&mut t, &vrf, b"red").unwrap();
        let blue = inward(&mut t, &vrf, b"blue").unwrap();
        assert_ne!(red, blue);
        assert_eq!(inward(&mut t, &vrf, b"red").unwrap(), red);
        assert_eq!(t.outward(&vrf, &blue), b"blue");
        assert_eq!(inward(&mut t, &vrf, &[0xff]), Err(TranslationError::NotText));
        assert_eq!(inward(&mut t, &vrf, b""), Err(TranslationError::NotText));
    }

    #[test]
    fn port_names_are_the_switchs_own() {
        let mut t = Translator::new(None, Arc::new(PortNames::new([("eth0".to_owned(), 3)])));
        let port = value(SdnType::Text, true, 0, 9);
        assert_eq!(inward(&mut t, &port, b"eth0"), Ok(vec![0, 3]));
        assert_eq!(inward(&mut t, &port, b"7"), Ok(vec![0, 7]));
        assert_eq!(t.outward(&port, &[0, 3]), b"eth0");
        assert!(inward(&mut t, &port, b"eth9").is_err());
    }
}

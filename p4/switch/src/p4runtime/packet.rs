//! Packet-in and packet-out: controller headers to and from metadata (specification, section 16.1).

use p4runtime_proto::p4::v1;

use super::error::EntityError;
use super::info::Param;
use super::translation::Translator;

/// Longest frame that is accepted from a controller: the largest that any port carries, plus headers.
pub const MAX_FRAME_LEN: usize = 65_535;

/// The header of a packet-out, followed by its payload; only the payload if the program has no such header.
///
/// # Errors
/// `INVALID_ARGUMENT` naming the metadata that is unknown, missing, repeated or too wide.
pub fn to_frame(
    header: Option<&[Param]>,
    packet: &v1::PacketOut,
    translator: &mut Translator,
) -> Result<Vec<u8>, EntityError> {
    if packet.payload.len() > MAX_FRAME_LEN {
        return Err(EntityError::invalid(format!(
            "the payload is longer than {MAX_FRAME_LEN} bytes"
        )));
    }
    let header = header.unwrap_or_default();
    if let Some(unknown) = packet
        .metadata
        .iter()
        .find(|given| header.iter().all(|param| param.id != given.metadata_id))
    {
        return Err(EntityError::invalid(format!(
            "metadata id {} does not exist",
            unknown.metadata_id
        )));
    }
    if packet.metadata.len() > header.len() {
        return Err(EntityError::invalid("a metadata id is given twice"));
    }
    let bits: usize = header.iter().map(|param| param.value.data_width).sum();
    let mut frame = BitWriter {
        bytes: Vec::with_capacity(bits.div_ceil(8) + packet.payload.len()),
        used: 0,
    };
    let mut value = Vec::new();
    for param in header {
        let place = || format!("metadata {:?}", param.name);
        let given = packet.metadata.iter().find(|given| given.metadata_id == param.id);
        let given = given.ok_or_else(|| EntityError::invalid("the value is missing").at(&place()))?;
        value.clear();
        translator
            .inward(&param.value, &given.value, &mut value)
            .map_err(|error| {
                EntityError {
                    code: tonic::Code::InvalidArgument,
                    ..EntityError::from(error)
                }
                .at(&place())
            })?;
        frame.push(&value, param.value.data_width);
    }
    let mut frame = frame.bytes;
    frame.extend_from_slice(&packet.payload);
    Ok(frame)
}

/// Splits a frame that left through the CPU port; `None` if it is shorter than the header.
pub fn from_frame(header: Option<&[Param]>, frame: &[u8], translator: &Translator) -> Option<v1::PacketIn> {
    let header = header.unwrap_or_default();
    let bits: usize = header.iter().map(|param| param.value.data_width).sum();
    let payload = frame.get(bits.div_ceil(8)..)?.to_vec();
    let mut at = 0;
    let metadata = header.iter().map(|param| {
        let value = read_bits(frame, at, param.value.data_width);
        at += param.value.data_width;
        v1::PacketMetadata {
            metadata_id: param.id,
            value: translator.outward(&param.value, &value),
        }
    });
    Some(v1::PacketIn {
        metadata: metadata.collect(),
        payload,
    })
}

struct BitWriter {
    bytes: Vec<u8>,
    used: usize,
}

impl BitWriter {
    /// Appends the low `width` bits of a padded value.
    fn push(&mut self, padded: &[u8], width: usize) {
        let unused = padded.len() * 8 - width;
        for bit in unused..padded.len() * 8 {
            let set = padded[bit / 8] & (0x80 >> (bit % 8)) != 0;
            if self.used.is_multiple_of(8) {
                self.bytes.push(0);
            }
            if let (true, Some(last)) = (set, self.bytes.last_mut()) {
                *last |= 0x80 >> (self.used % 8);
            }
            self.used += 1;
        }
    }
}

/// `width` bits from bit `at` on, padded; bits beyond the end read as zero.
fn read_bits(bytes: &[u8], at: usize, width: usize) -> Vec<u8> {
    let mut out = vec![0; width.div_ceil(8)];
    let unused = out.len() * 8 - width;
    for bit in 0..width {
        let from = at + bit;
        if bytes.get(from / 8).is_some_and(|byte| byte & (0x80 >> (from % 8)) != 0) {
            let to = unused + bit;
            out[to / 8] |= 0x80 >> (to % 8);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::info::ValueType;
    use super::*;

    fn header() -> Vec<Param> {
        let param = |id, width| Param {
            id,
            name: format!("m{id}"),
            value: ValueType {
                width,
                data_width: width,
                translation: None,
            },
        };
        vec![param(1, 9), param(2, 7), param(3, 16)]
    }

    fn metadata(values: [(u32, &[u8]); 3]) -> Vec<v1::PacketMetadata> {
        values
            .map(|(metadata_id, value)| v1::PacketMetadata {
                metadata_id,
                value: value.into(),
            })
            .into()
    }

    #[test]
    fn headers_are_packed_bit_by_bit() {
        let metadata = metadata([(1, &[1, 0xfe]), (2, &[3]), (3, &[0xab, 0xcd])]);
        let packet = v1::PacketOut {
            payload: vec![9, 9],
            metadata: metadata.clone(),
        };
        let frame = to_frame(Some(&header()), &packet, &mut Translator::default()).unwrap();
        assert_eq!(frame, [0xff, 0x03, 0xab, 0xcd, 9, 9]);
        let back = from_frame(Some(&header()), &frame, &Translator::default()).unwrap();
        assert_eq!(back.payload, [9, 9]);
        assert_eq!(back.metadata, metadata);
    }

    #[test]
    fn wrong_metadata_is_named() {
        let good = [(1, &[1][..]), (2, &[3]), (3, &[1])];
        let out = |values| v1::PacketOut {
            payload: vec![],
            metadata: metadata(values),
        };
        let to = |packet| to_frame(Some(&header()), &packet, &mut Translator::default());
        assert!(to(out(good)).is_ok());
        assert!(to(out([good[0], good[1], (9, &[1])])).is_err());
        assert!(to(out([good[0], good[1], good[1]])).is_err());
        assert!(to(out([(1, &[2, 0]), good[1], good[2]])).is_err());
        assert!(
            to(v1::PacketOut {
                payload: vec![],
                metadata: vec![]
            })
            .is_err()
        );
    }

    #[test]
    fn short_frames_and_programs_without_headers() {
        assert_eq!(from_frame(Some(&header()), &[1, 2, 3], &Translator::default()), None);
        let whole = from_frame(None, &[1, 2, 3], &Translator::default()).unwrap();
        assert_eq!(whole.payload, [1, 2, 3]);
    }
}

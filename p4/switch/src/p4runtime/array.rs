//! Indirect counters, meters and registers: arrays addressed by index (specification, sections 9.3.2, 9.4.2, 9.7).

use p4_engine::tables::meter::Rate;
use p4runtime_proto::p4::config::v1 as config;
use p4runtime_proto::p4::v1;
use p4runtime_proto::p4::v1::entity::Entity;
use p4runtime_proto::p4::v1::p4_data::Data;
use p4runtime_proto::p4::v1::update::Type;

use super::bytestring;
use super::error::EntityError;
use super::info::{Array, Info, MeterKind, Object, Register};
use super::state::MeterConfig;
use super::target::{Cells, ColourCounts, CounterValue, Op};
use super::write::{Origin, Transaction, Undo};

/// Reads `CounterData` of a request.
pub(super) fn to_counter(wire: &v1::CounterData) -> Result<CounterValue, EntityError> {
    match (u64::try_from(wire.byte_count), u64::try_from(wire.packet_count)) {
        (Ok(bytes), Ok(packets)) => Ok(CounterValue { bytes, packets }),
        _ => Err(EntityError::invalid("a counter cannot be negative")),
    }
}

/// A counter value as a message.
pub fn to_wire(value: CounterValue) -> v1::CounterData {
    let signed = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    v1::CounterData {
        byte_count: signed(value.bytes),
        packet_count: signed(value.packets),
    }
}

/// Reads `MeterCounterData` of a request; an unset part is 0. Clients can only reset these counters (sections 9.1.7 and
/// 9.4.1). Only counters that are taken over from the previous pipeline have values.
pub(super) fn to_colours(wire: &v1::MeterCounterData, origin: Origin) -> Result<ColourCounts, EntityError> {
    let mut counts = ColourCounts::default();
    for (count, data) in counts.iter_mut().zip([&wire.green, &wire.yellow, &wire.red]) {
        *count = data.as_ref().map(to_counter).transpose()?.unwrap_or_default();
    }
    if origin != Origin::Predecessor && counts != ColourCounts::default() {
        return Err(EntityError::invalid("a meter's counters can only be set to 0"));
    }
    Ok(counts)
}

/// Counters by colour as a message.
pub fn colours_to_wire([green, yellow, red]: ColourCounts) -> v1::MeterCounterData {
    v1::MeterCounterData {
        green: Some(to_wire(green)),
        yellow: Some(to_wire(yellow)),
        red: Some(to_wire(red)),
    }
}

/// Reads and checks a `MeterConfig`; `kind` restricts its fields (section 9.4). Rates from clients are whole units a
/// second; rates from all other sources are in the form of [`fine_rate`].
pub(super) fn meter_config(
    wire: &v1::MeterConfig,
    kind: Option<MeterKind>,
    origin: Origin,
) -> Result<MeterConfig, EntityError> {
    let number = |name: &str, value: i64| {
        u64::try_from(value).map_err(|_| EntityError::invalid(format!("meter: {name} is negative")))
    };
    let rate = |name: &str, value: i64| match origin {
        Origin::Client => number(name, value).map(Rate::whole),
        Origin::Host | Origin::Predecessor => Ok(rate_of_fine(value)),
    };
    let config = MeterConfig {
        cir: rate("cir", wire.cir)?,
        cburst: number("cburst", wire.cburst)?,
        pir: rate("pir", wire.pir)?,
        pburst: number("pburst", wire.pburst)?,
        eburst: number("eburst", wire.eburst)?,
    };
    let one_rate = config.pir == config.cir && config.pburst == config.cburst;
    let problem = match kind {
        Some(MeterKind::TwoRateThreeColor) if config.eburst != 0 => "a two-rate meter has no eburst",
        Some(MeterKind::SingleRateTwoColor) if config.eburst != 0 => "a two-colour meter has no eburst",
        Some(MeterKind::SingleRateTwoColor | MeterKind::SingleRateThreeColor) if !one_rate => {
            "a single-rate meter has pir = cir and pburst = cburst"
        }
        Some(MeterKind::TwoRateThreeColor) if config.pir < config.cir => "pir is below cir",
        _ => return Ok(config),
    };
    Err(EntityError::invalid(format!("meter: {problem}")))
}

/// A rate for a message that does not leave this process. P4Runtime's `cir` and `pir` are whole units a second. Here
/// they are millionths of a unit a second. If that number is too large for the field, the field holds the whole units a
/// second as a negative number.
pub fn fine_rate(rate: Rate) -> i64 {
    let whole = i64::try_from(rate.per_second).unwrap_or(i64::MAX);
    let fine = whole
        .checked_mul(MILLION)
        .and_then(|n| n.checked_add(rate.millionths.into()));
    fine.unwrap_or(-whole)
}

/// The rate for a number that [`fine_rate`] made.
pub fn rate_of_fine(fine: i64) -> Rate {
    match u64::try_from(fine) {
        Ok(fine) => Rate {
            per_second: fine / MILLION as u64,
            millionths: (fine % MILLION as u64) as u32,
        },
        Err(_) => Rate::whole(fine.unsigned_abs()),
    }
}

/// Millionths in a unit.
const MILLION: i64 = 1_000_000;

/// Rounds the rates of an entity down to whole units a second, for clients.
pub(super) fn round_rates(entity: &mut Entity) {
    let config = match entity {
        Entity::TableEntry(entry) => entry.meter_config.as_mut(),
        Entity::MeterEntry(entry) => entry.config.as_mut(),
        Entity::DirectMeterEntry(entry) => entry.config.as_mut(),
        _ => None,
    };
    if let Some(config) = config {
        for rate in [&mut config.cir, &mut config.pir] {
            *rate = i64::try_from(rate_of_fine(*rate).per_second).unwrap_or(i64::MAX);
        }
    }
}

/// A meter's configuration as a message, with rates in the form of [`fine_rate`].
pub fn meter_to_wire(config: MeterConfig) -> v1::MeterConfig {
    let signed = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    v1::MeterConfig {
        cir: fine_rate(config.cir),
        cburst: signed(config.cburst),
        pir: fine_rate(config.pir),
        pburst: signed(config.pburst),
        eburst: signed(config.eburst),
    }
}

/// The cells that a request names.
///
/// # Errors
/// `INVALID_ARGUMENT` for a negative index, `OUT_OF_RANGE` for one past the array's end.
pub(super) fn cells(array: &Array, index: Option<&v1::Index>) -> Result<Cells, EntityError> {
    let Some(index) = index else { return Ok(Cells::All) };
    let index = usize::try_from(index.index)
        .map_err(|_| EntityError::invalid(format!("{:?}: index {} is negative", array.name, index.index)))?;
    if index >= array.size {
        return Err(EntityError::range(format!(
            "{:?} has {} cells, index {index} does not exist",
            array.name, array.size
        )));
    }
    Ok(Cells::One(index))
}

fn modify_only(kind: Type) -> Result<(), EntityError> {
    match kind {
        Type::Modify => Ok(()),
        _ => Err(EntityError::invalid("this entity can only be modified")),
    }
}

/// The counter with this id.
pub(super) fn counter_index(info: &Info, id: u32) -> Result<usize, EntityError> {
    match info.object(id) {
        Some(Object::Counter(index)) => Ok(index),
        _ => Err(EntityError::invalid(format!("counter {id:#x} does not exist"))),
    }
}

/// The meter with this id.
pub(super) fn meter_index(info: &Info, id: u32) -> Result<usize, EntityError> {
    match info.object(id) {
        Some(Object::Meter(index)) => Ok(index),
        _ => Err(EntityError::invalid(format!("meter {id:#x} does not exist"))),
    }
}

/// The register with this id.
pub(super) fn register_index(info: &Info, id: u32) -> Result<usize, EntityError> {
    match info.object(id) {
        Some(Object::Register(index)) => Ok(index),
        _ => Err(EntityError::invalid(format!("register {id:#x} does not exist"))),
    }
}

/// `CounterEntry`. Without data nothing changes.
pub(super) fn write_counter(
    transaction: &mut Transaction<'_>,
    kind: Type,
    wire: &v1::CounterEntry,
) -> Result<(), EntityError> {
    modify_only(kind)?;
    let info = &transaction.state.info;
    let counter = counter_index(info, wire.counter_id)?;
    let cells = cells(&info.counters[counter], wire.index.as_ref())?;
    if let Some(data) = &wire.data {
        let value = to_counter(data)?;
        transaction.ops.push(Op::Counter { counter, cells, value });
    }
    Ok(())
}

/// `MeterEntry`. Without `config` the meter returns to green; without counters in the message the counters stay as they
/// are.
pub(super) fn write_meter(
    transaction: &mut Transaction<'_>,
    kind: Type,
    wire: &v1::MeterEntry,
) -> Result<(), EntityError> {
    modify_only(kind)?;
    let info = &transaction.state.info;
    let meter = meter_index(info, wire.meter_id)?;
    let (array, meter_kind) = &info.meters[meter];
    let cells = cells(array, wire.index.as_ref())?;
    let colours = wire.counter_data.as_ref();
    let colours = colours.map(|c| to_colours(c, transaction.origin)).transpose()?;
    let config = wire
        .config
        .as_ref()
        .map(|config| meter_config(config, Some(*meter_kind), transaction.origin))
        .transpose()?;
    transaction.remember(|state| Undo::Meter {
        meter,
        old: Box::new(state.meters[meter].clone()),
    });
    let stored = &mut transaction.state.meters[meter];
    match cells {
        Cells::One(cell) if config == stored.all => {
            stored.cells.remove(&cell);
        }
        Cells::One(cell) => {
            stored.cells.insert(cell, config);
        }
        Cells::All => {
            stored.cells.clear();
            stored.all = config;
        }
    }
    transaction.ops.push(Op::Meter { meter, cells, config });
    if let Some(value) = colours {
        transaction.ops.push(Op::MeterColours { meter, cells, value });
    }
    Ok(())
}

/// The type of a register's cells.
enum CellType {
    Unsigned(usize),
    Signed(usize),
    Bool,
}

fn cell_type(register: &Register) -> Result<CellType, EntityError> {
    use config::p4_bitstring_like_type_spec::TypeSpec as Bits;
    use config::p4_data_type_spec::TypeSpec;
    let width = |width: i32| usize::try_from(width).unwrap_or(0);
    match &register.spec.type_spec {
        Some(TypeSpec::Bitstring(bits)) => match &bits.type_spec {
            Some(Bits::Bit(bit)) => Ok(CellType::Unsigned(width(bit.bitwidth))),
            Some(Bits::Int(int)) => Ok(CellType::Signed(width(int.bitwidth))),
            _ => Err(unsupported_cell(register)),
        },
        Some(TypeSpec::Bool(_)) => Ok(CellType::Bool),
        _ => Err(unsupported_cell(register)),
    }
}

fn unsupported_cell(register: &Register) -> EntityError {
    EntityError::unimplemented(format!(
        "register {:?}: only bit, int and bool cells are supported",
        register.array.name
    ))
}

/// `RegisterEntry`.
pub(super) fn write_register(
    transaction: &mut Transaction<'_>,
    kind: Type,
    wire: &v1::RegisterEntry,
) -> Result<(), EntityError> {
    modify_only(kind)?;
    let info = &transaction.state.info;
    let index = register_index(info, wire.register_id)?;
    let register = &info.registers[index];
    let cells = cells(&register.array, wire.index.as_ref())?;
    let data = wire.data.as_ref().and_then(|data| data.data.as_ref());
    let data = data.ok_or_else(|| EntityError::invalid("the register's data is missing"))?;
    let value = match (cell_type(register)?, data) {
        (CellType::Unsigned(width), Data::Bitstring(value)) => bytestring::padded(value, width)?,
        (CellType::Signed(width), Data::Bitstring(value)) => bytestring::padded_signed(value, width)?,
        (CellType::Bool, Data::Bool(value)) => vec![u8::from(*value)],
        _ => return Err(EntityError::invalid("the data does not have the register's type")),
    };
    transaction.ops.push(Op::Register {
        register: index,
        cells,
        value,
    });
    Ok(())
}

/// A register cell as a message.
pub(super) fn register_to_wire(register: &Register, padded: &[u8]) -> Result<v1::P4Data, EntityError> {
    let data = match cell_type(register)? {
        CellType::Unsigned(_) => Data::Bitstring(bytestring::canonical_vec(padded)),
        CellType::Signed(width) => Data::Bitstring(signed_to_wire(padded, width)),
        CellType::Bool => Data::Bool(padded.iter().any(|byte| *byte != 0)),
    };
    Ok(v1::P4Data { data: Some(data) })
}

/// A padded `int<width>`, whose unused upper bits may be clear, as the shortest two's complement string.
pub(super) fn signed_to_wire(padded: &[u8], width: usize) -> Vec<u8> {
    let mut value = padded.to_vec();
    let unused = (value.len() * 8).saturating_sub(width);
    if let Some(first) = value.first_mut()
        && (1..8).contains(&unused)
        && *first & (0x80 >> unused) != 0
    {
        *first |= !(0xff >> unused);
    }
    bytestring::canonical_signed(&value).map_or_else(|_| vec![0], <[u8]>::to_vec)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_keep_their_fractions_inside_and_lose_them_outside() {
        let rate = |per_second, millionths| Rate { per_second, millionths };
        for all in [
            rate(0, 1),
            rate(0, 999_999),
            rate(5, 0),
            rate(9_000_000_000_000, 7),
            rate(i64::MAX as u64, 0),
        ] {
            assert_eq!(rate_of_fine(fine_rate(all)), all);
        }
        let config = MeterConfig {
            cir: rate(0, 500_000),
            cburst: 1,
            pir: rate(i64::MAX as u64, 0),
            pburst: 2,
            eburst: 0,
        };
        let mut entity = Entity::MeterEntry(v1::MeterEntry {
            config: Some(meter_to_wire(config)),
            ..v1::MeterEntry::default()
        });
        round_rates(&mut entity);
        let Entity::MeterEntry(entry) = entity else { panic!() };
        let read = entry.config.unwrap();
        assert_eq!((read.cir, read.pir, read.cburst, read.pburst), (0, i64::MAX, 1, 2));
    }

    #[test]
    fn meter_configs_by_kind() {
        let config = |cir, pir, eburst| v1::MeterConfig {
            cir,
            cburst: 1,
            pir,
            pburst: 1,
            eburst,
        };
        let two_rate = Some(MeterKind::TwoRateThreeColor);
        let one_rate = Some(MeterKind::SingleRateThreeColor);
        let two_colour = Some(MeterKind::SingleRateTwoColor);
        assert!(meter_config(&config(1, 2, 0), two_rate, Origin::Client).is_ok());
        assert!(meter_config(&config(1, 2, 1), two_rate, Origin::Client).is_err());
        assert!(meter_config(&config(1, 2, 0), one_rate, Origin::Client).is_err());
        assert!(meter_config(&config(1, 1, 5), one_rate, Origin::Client).is_ok());
        assert!(meter_config(&config(1, 1, 5), two_colour, Origin::Client).is_err());
        assert!(meter_config(&config(-1, 1, 0), None, Origin::Client).is_err());
    }

    #[test]
    fn clients_only_set_colour_counters_back() {
        let zero = |byte_count| v1::MeterCounterData {
            green: Some(v1::CounterData::default()),
            yellow: None,
            red: Some(v1::CounterData {
                byte_count,
                packet_count: 0,
            }),
        };
        assert_eq!(to_colours(&zero(0), Origin::Client).unwrap(), ColourCounts::default());
        assert_eq!(
            to_colours(&zero(1), Origin::Client).unwrap_err().code,
            tonic::Code::InvalidArgument
        );
        assert_eq!(
            to_colours(&zero(-1), Origin::Predecessor).unwrap_err().code,
            tonic::Code::InvalidArgument
        );
        let kept = to_colours(&zero(7), Origin::Predecessor).unwrap();
        assert_eq!(colours_to_wire(kept).red, zero(7).red);
    }

    #[test]
    fn signed_cells_keep_their_sign() {
        assert_eq!(signed_to_wire(&[0x0d, 0x1d], 12), [0xfd, 0x1d]);
        assert_eq!(signed_to_wire(&[0xff, 0xfe], 16), [0xfe]);
        assert_eq!(signed_to_wire(&[0x00, 0x05], 12), [5]);
    }
}

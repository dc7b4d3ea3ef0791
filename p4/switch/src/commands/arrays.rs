//! Commands of counters, meters and registers. Direct ones belong to the entries of a table: their index is an entry's handle.

use p4_engine::tables::meter::Rate;
use p4runtime_proto::p4::v1;
use p4runtime_proto::p4::v1::entity::Entity as Kind;
use p4runtime_proto::p4::v1::p4_data::Data;
use p4runtime_proto::p4::v1::update::Type;

use crate::p4runtime::array::{fine_rate, rate_of_fine};

use super::run::{Reply, Session, by_name, number};
use super::value::value;

impl Session {
    pub(super) fn counter(&self, command: &str, name: &str, words: &[&str]) -> Reply {
        let info = self.info()?;
        let direct = by_name("counter", name, &info.direct_counters, |c| c.preamble.as_ref());
        match (direct, command, words) {
            (Ok((_, of)), "counter_reset", []) => {
                for entry in self.entries_in(of.direct_table_id)? {
                    let zero = Some(v1::CounterData::default());
                    self.write(Type::Modify, direct_counter(entry, zero))?;
                }
                Ok(format!("{name} is reset"))
            }
            (Ok((_, of)), _, [handle, ..]) => {
                let (_, entry) = self.entry(of.direct_table_id, handle)?;
                self.cell(command, name, words, |data| direct_counter(entry.clone(), data))
            }
            (Err(_), "counter_reset", []) => {
                let (id, _) = by_name("counter", name, &info.counters, |c| c.preamble.as_ref())?;
                let zero = Some(v1::CounterData::default());
                self.write(Type::Modify, indirect_counter(id, None, zero))?;
                Ok(format!("{name} is reset"))
            }
            (Err(_), _, [cell, ..]) => {
                let (id, _) = by_name("counter", name, &info.counters, |c| c.preamble.as_ref())?;
                let cell = number("index", cell)?;
                self.cell(command, name, words, |data| indirect_counter(id, Some(cell), data))
            }
            _ => Err("an index, and to write packets and octets, are expected".to_owned()),
        }
    }

    /// Reads or writes one counter; `entity` makes its message.
    fn cell(
        &self,
        command: &str,
        name: &str,
        words: &[&str],
        entity: impl Fn(Option<v1::CounterData>) -> Kind,
    ) -> Reply {
        match (command, words) {
            ("counter_read", [cell]) => {
                let found = self.read(entity(None))?;
                let data = match found.as_slice() {
                    [Kind::CounterEntry(found)] => found.data,
                    [Kind::DirectCounterEntry(found)] => found.data,
                    _ => return Err(format!("{cell} is not an index of {name}")),
                };
                let data = data.unwrap_or_default();
                let (packets, octets) = (data.packet_count, data.byte_count);
                Ok(format!(
                    "{name}[{cell}]=  BmCounterValue(packets={packets}, bytes={octets})"
                ))
            }
            ("counter_write", [cell, packets, octets]) => {
                let data = v1::CounterData {
                    packet_count: number("number of packets", packets)?,
                    byte_count: number("number of octets", octets)?,
                };
                self.write(Type::Modify, entity(Some(data)))?;
                Ok(format!("{name}[{cell}] has been updated"))
            }
            _ => Err("an index, and to write packets and octets, are expected".to_owned()),
        }
    }

    pub(super) fn register(&self, command: &str, name: &str, words: &[&str]) -> Reply {
        let info = self.info()?;
        let (register_id, of) = by_name("register", name, &info.registers, |r| r.preamble.as_ref())?;
        let entry = |cell, data: Option<Vec<u8>>| {
            Kind::RegisterEntry(v1::RegisterEntry {
                register_id,
                index: index(cell),
                data: data.map(|value| v1::P4Data {
                    data: Some(Data::Bitstring(value)),
                }),
            })
        };
        match (command, words) {
            ("register_write", [cell, to]) => {
                let to = value(to, bits(of.type_spec.as_ref()))?;
                self.write(Type::Modify, entry(Some(number("index", cell)?), Some(to)))?;
                Ok(String::new())
            }
            ("register_reset", []) => {
                self.write(Type::Modify, entry(None, Some(vec![0])))?;
                Ok(format!("{name} is reset"))
            }
            ("register_read", [] | [_]) => {
                let cell = words.first().map(|cell| number("index", cell)).transpose()?;
                let found = self.read(entry(cell, None))?;
                let values = found.iter().filter_map(|entity| match entity {
                    Kind::RegisterEntry(found) => match found.data.as_ref()?.data.as_ref()? {
                        Data::Bitstring(octets) => Some(num_bigint::BigUint::from_bytes_be(octets).to_string()),
                        _ => None,
                    },
                    _ => None,
                });
                let values = values.collect::<Vec<_>>().join(", ");
                Ok(match cell {
                    Some(cell) => format!("{name}[{cell}]= {values}"),
                    None => format!("{name}= {values}"),
                })
            }
            _ => Err("an index, and to write a value, are expected".to_owned()),
        }
    }

    /// Sets the rates of one meter, or of all meters of an array. A direct meter's index is the handle of its entry. If
    /// the rates of all direct meters of a table are set, later entries get them too, as in bmv2.
    pub(super) fn set_rates(&mut self, name: &str, cell: Option<&str>, words: &[&str]) -> Reply {
        let info = self.info()?;
        let config = meter_config(words)?;
        let direct = by_name("meter", name, &info.direct_meters, |m| m.preamble.as_ref());
        let Ok((_, of)) = direct else {
            let (meter_id, _) = by_name("meter", name, &info.meters, |m| m.preamble.as_ref())?;
            let entry = v1::MeterEntry {
                meter_id,
                index: index(cell.map(|cell| number("index", cell)).transpose()?),
                config: Some(config),
                counter_data: None,
            };
            self.write(Type::Modify, Kind::MeterEntry(entry))?;
            return Ok(String::new());
        };
        let table = of.direct_table_id;
        if let Some(handle) = cell {
            let (handle, entry) = self.entry(table, handle)?;
            self.write(Type::Modify, direct_meter(entry, Some(config)))?;
            if let Some(known) = self.entries.get_mut(&(table, handle)) {
                known.meter_config = Some(config);
            }
            return Ok(String::new());
        }
        for entry in self.entries_in(table)? {
            self.write(Type::Modify, direct_meter(entry, Some(config)))?;
        }
        let known = self.entries.range_mut((table, 0)..=(table, u32::MAX));
        known.for_each(|(_, entry)| entry.meter_config = Some(config));
        self.table_rates.insert(table, config);
        Ok(String::new())
    }

    /// Rates of one meter, as bmv2 prints them.
    pub(super) fn get_rates(&self, name: &str, cell: &str) -> Reply {
        let info = self.info()?;
        let direct = by_name("meter", name, &info.direct_meters, |m| m.preamble.as_ref());
        let wanted = match direct {
            Ok((_, of)) => direct_meter(self.entry(of.direct_table_id, cell)?.1, None),
            Err(_) => {
                let (meter_id, _) = by_name("meter", name, &info.meters, |m| m.preamble.as_ref())?;
                Kind::MeterEntry(v1::MeterEntry {
                    meter_id,
                    index: index(Some(number("index", cell)?)),
                    config: None,
                    counter_data: None,
                })
            }
        };
        let found = self.read(wanted)?;
        let config = match found.as_slice() {
            [Kind::MeterEntry(found)] => found.config,
            [Kind::DirectMeterEntry(found)] => found.config,
            _ => return Err(format!("{cell} is not an index of {name}")),
        };
        let Some(config) = config else {
            return Err(format!("{name}[{cell}] has no rates"));
        };
        let line = |i, fine: i64, burst| {
            let rate = rate_of_fine(fine);
            let per_us = (rate.per_second as f64 + f64::from(rate.millionths) / 1e6) / 1e6;
            format!("{i}: info rate = {per_us}, burst size = {burst}\n")
        };
        Ok(line(0, config.cir, config.cburst) + &line(1, config.pir, config.pburst))
    }
}

/// The key of an entry, by which its direct resources are found.
fn key(entry: v1::TableEntry) -> Option<v1::TableEntry> {
    Some(v1::TableEntry {
        table_id: entry.table_id,
        r#match: entry.r#match,
        priority: entry.priority,
        ..v1::TableEntry::default()
    })
}

fn direct_counter(entry: v1::TableEntry, data: Option<v1::CounterData>) -> Kind {
    Kind::DirectCounterEntry(v1::DirectCounterEntry {
        table_entry: key(entry),
        data,
    })
}

fn direct_meter(entry: v1::TableEntry, config: Option<v1::MeterConfig>) -> Kind {
    Kind::DirectMeterEntry(v1::DirectMeterEntry {
        table_entry: key(entry),
        config,
        counter_data: None,
    })
}

fn indirect_counter(counter_id: u32, cell: Option<i64>, data: Option<v1::CounterData>) -> Kind {
    Kind::CounterEntry(v1::CounterEntry {
        counter_id,
        index: index(cell),
        data,
    })
}

/// Reads `RATE:BURST`, with the rate in units per microsecond, as in bmv2. The rate is kept in millionths of a unit a
/// second. A rate above 0 becomes at least one millionth.
fn rate(text: &str) -> Result<(i64, i64), String> {
    let expected = || format!("{text:?}: a rate per microsecond and a burst joined by `:` are expected, as in 0.5:100");
    let (rate, burst) = text.split_once(':').ok_or_else(expected)?;
    let per_us: f64 = rate.parse().map_err(|_| expected())?;
    if !(0.0..9e12).contains(&per_us) {
        return Err(expected());
    }
    let millionths = (per_us * 1e12).round() as u128;
    let millionths = if per_us > 0.0 { millionths.max(1) } else { 0 };
    let rate = Rate {
        per_second: (millionths / 1_000_000) as u64,
        millionths: (millionths % 1_000_000) as u32,
    };
    Ok((fine_rate(rate), burst.parse().map_err(|_| expected())?))
}

fn meter_config(words: &[&str]) -> Result<v1::MeterConfig, String> {
    let [committed, peak] = words else {
        return Err("two rates with bursts are expected".to_owned());
    };
    let ((cir, cburst), (pir, pburst)) = (rate(committed)?, rate(peak)?);
    Ok(v1::MeterConfig {
        cir,
        cburst,
        pir,
        pburst,
        ..v1::MeterConfig::default()
    })
}

fn index(cell: Option<i64>) -> Option<v1::Index> {
    cell.map(|index| v1::Index { index })
}

/// Bits of a register's cell; 0 if it is not a plain number.
fn bits(spec: Option<&p4runtime_proto::p4::config::v1::P4DataTypeSpec>) -> i32 {
    use p4runtime_proto::p4::config::v1::p4_bitstring_like_type_spec::TypeSpec as Bits;
    use p4runtime_proto::p4::config::v1::p4_data_type_spec::TypeSpec;
    match spec.and_then(|spec| spec.type_spec.as_ref()) {
        Some(TypeSpec::Bitstring(of)) => match &of.type_spec {
            Some(Bits::Bit(bit)) => bit.bitwidth,
            Some(Bits::Int(int)) => int.bitwidth,
            _ => 0,
        },
        _ => 0,
    }
}

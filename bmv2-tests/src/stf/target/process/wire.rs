//! From names and padded octets to P4Runtime (specification 1.4, section 9), by way of P4Info.

use p4runtime_client::canonical::canonical;
use p4runtime_proto::google::rpc;
use p4runtime_proto::p4::config::v1::match_field::{Match, MatchType};
use p4runtime_proto::p4::config::v1::{self as config, P4Info, Preamble};
use p4runtime_proto::p4::v1 as p4;
use p4runtime_proto::p4::v1::entity::Entity;
use p4runtime_proto::p4::v1::field_match::{self, FieldMatchType};
use prost::Message as _;

use super::super::{Action, Call, Count, Entry, Failed, Key, Rates, Replica, known};

/// A program's objects.
pub(super) struct Wire {
    info: P4Info,
}

fn named<'a, T>(
    all: &'a [T],
    preamble: impl Fn(&T) -> Option<&Preamble>,
    kind: &str,
    name: &str,
) -> Result<&'a T, Failed> {
    let found = all.iter().find(|o| preamble(o).is_some_and(|p| p.name == name));
    known(found, kind, name)
}

fn id(preamble: &Option<Preamble>) -> u32 {
    preamble.as_ref().map_or(0, |p| p.id)
}

impl Wire {
    pub(super) fn new(info: &P4Info) -> Self {
        Self { info: info.clone() }
    }

    pub(super) fn table(&self, name: &str) -> Result<u32, Failed> {
        Ok(id(&self.table_info(name)?.preamble))
    }

    fn table_info(&self, name: &str) -> Result<&config::Table, Failed> {
        named(&self.info.tables, |t| t.preamble.as_ref(), "table", name)
    }

    pub(super) fn profile(&self, name: &str) -> Result<u32, Failed> {
        let profile = named(&self.info.action_profiles, |p| p.preamble.as_ref(), "profile", name)?;
        Ok(id(&profile.preamble))
    }

    pub(super) fn entry(&self, entry: &Entry) -> Result<p4::TableEntry, Failed> {
        let table = self.table_info(&entry.table)?;
        let fields = table.match_fields.iter().zip(&entry.key);
        let mut key = Vec::new();
        for (field, part) in fields {
            key.extend(field_match(field, part)?);
        }
        // In scripts priorities begin with 0, but in P4Runtime with 1 (section 9.1).
        let priority = if table.match_fields.iter().any(has_priority) {
            entry.priority + 1
        } else {
            0
        };
        Ok(p4::TableEntry {
            table_id: id(&table.preamble),
            r#match: key,
            action: Some(self.action(&entry.action)?),
            priority,
            ..Default::default()
        })
    }

    pub(super) fn action(&self, action: &Action) -> Result<p4::TableAction, Failed> {
        use p4::table_action::Type;
        let kind = match action {
            Action::Call(call) => Type::Action(self.call(call)?),
            Action::Member(id) => Type::ActionProfileMemberId(*id),
            Action::Group(id) => Type::ActionProfileGroupId(*id),
        };
        Ok(p4::TableAction { r#type: Some(kind) })
    }

    pub(super) fn call(&self, call: &Call) -> Result<p4::Action, Failed> {
        let action = named(&self.info.actions, |a| a.preamble.as_ref(), "action", &call.action)?;
        let params = action.params.iter().zip(&call.args);
        Ok(p4::Action {
            action_id: id(&action.preamble),
            params: params
                .map(|(param, value)| p4::action::Param {
                    param_id: param.id,
                    value: shortest(value),
                })
                .collect(),
        })
    }

    pub(super) fn group(&self, profile: u32, group: u32, members: &[(u32, Option<u32>)]) -> p4::ActionProfileGroup {
        use p4::action_profile_group::Member;
        use p4::action_profile_group::member::WatchKind;
        let member = |(id, watch): &(u32, Option<u32>)| Member {
            member_id: *id,
            weight: 1,
            watch_kind: watch.map(|port| WatchKind::WatchPort(shortest(&port.to_be_bytes()))),
        };
        p4::ActionProfileGroup {
            action_profile_id: profile,
            group_id: group,
            members: members.iter().map(member).collect(),
            max_size: 0,
        }
    }

    pub(super) fn value_set(&self, name: &str, members: &[Vec<Vec<u8>>]) -> Result<p4::ValueSetEntry, Failed> {
        let set = named(&self.info.value_sets, |s| s.preamble.as_ref(), "value set", name)?;
        let mut all = Vec::new();
        for member in members {
            let mut key = Vec::new();
            for (field, value) in set.r#match.iter().zip(member) {
                key.extend(field_match(field, &Key::Exact(value.clone()))?);
            }
            all.push(p4::ValueSetMember { r#match: key });
        }
        Ok(p4::ValueSetEntry {
            value_set_id: id(&set.preamble),
            members: all,
        })
    }

    pub(super) fn counter(&self, name: &str, cell: u64, count: Option<Count>) -> Result<p4::CounterEntry, Failed> {
        let counter = named(&self.info.counters, |c| c.preamble.as_ref(), "counter", name)?;
        Ok(p4::CounterEntry {
            counter_id: id(&counter.preamble),
            index: Some(index(cell)?),
            data: count.map(|c| p4::CounterData {
                byte_count: signed(c.bytes),
                packet_count: signed(c.packets),
            }),
        })
    }

    pub(super) fn meter(&self, name: &str, cell: Option<u64>, of: Rates) -> Result<Vec<p4::MeterEntry>, Failed> {
        let meter = named(&self.info.meters, |m| m.preamble.as_ref(), "meter", name)?;
        let cells = match cell {
            Some(cell) => cell..cell + 1,
            None => 0..u64::try_from(meter.size).unwrap_or(0),
        };
        let entry = |cell| {
            Ok(p4::MeterEntry {
                meter_id: id(&meter.preamble),
                index: Some(index(cell)?),
                config: Some(rates(of)?),
                counter_data: None,
            })
        };
        cells.map(entry).collect()
    }

    pub(super) fn register(&self, name: &str, cell: u64, value: Option<&[u8]>) -> Result<p4::RegisterEntry, Failed> {
        let register = named(&self.info.registers, |r| r.preamble.as_ref(), "register", name)?;
        Ok(p4::RegisterEntry {
            register_id: id(&register.preamble),
            index: Some(index(cell)?),
            data: value.map(|v| p4::P4Data {
                data: Some(p4::p4_data::Data::Bitstring(shortest(v))),
            }),
        })
    }

    /// Asks for each digest in a list of its own, without delay; some switches never send a list whose size is unlimited.
    pub(super) fn digests(&self) -> Vec<Entity> {
        let entry = |digest: &config::Digest| {
            Entity::DigestEntry(p4::DigestEntry {
                digest_id: id(&digest.preamble),
                config: Some(p4::digest_entry::Config {
                    max_timeout_ns: 0,
                    max_list_size: 1,
                    ack_timeout_ns: 0,
                }),
            })
        };
        self.info.digests.iter().map(entry).collect()
    }

    pub(super) fn digest_name(&self, of: u32) -> Result<String, Failed> {
        let found = self.info.digests.iter().find(|d| id(&d.preamble) == of);
        let preamble = found.and_then(|d| d.preamble.as_ref());
        Ok(known(preamble, "digest with id", &of.to_string())?.name.clone())
    }
}

/// Whether entries of a table with this field can overlap.
fn has_priority(field: &config::MatchField) -> bool {
    let Some(Match::MatchType(kind)) = field.r#match else {
        return false;
    };
    matches!(
        MatchType::try_from(kind),
        Ok(MatchType::Ternary | MatchType::Range | MatchType::Optional)
    )
}

/// One element of a key; none if it matches everything (section 9.1.1).
fn field_match(field: &config::MatchField, key: &Key) -> Result<Option<p4::FieldMatch>, Failed> {
    let Some(Match::MatchType(kind)) = &field.r#match else {
        return Err(format!("field {} has no standard match type", field.name));
    };
    let ones = |octets: &[u8]| octets.iter().map(|o| o.count_ones()).sum::<u32>();
    let zeros = |octets: &[u8]| octets.iter().all(|o| *o == 0);
    let kind = match (MatchType::try_from(*kind), key) {
        (Ok(MatchType::Exact), Key::Exact(value)) => {
            FieldMatchType::Exact(field_match::Exact { value: shortest(value) })
        }
        (Ok(MatchType::Lpm), Key::Lpm(_, 0)) => return Ok(None),
        (Ok(MatchType::Lpm), Key::Lpm(value, length)) => FieldMatchType::Lpm(field_match::Lpm {
            value: shortest(value),
            prefix_len: i32::try_from(*length).unwrap_or(i32::MAX),
        }),
        (Ok(MatchType::Ternary | MatchType::Optional), Key::Ternary(_, mask)) if zeros(mask) => return Ok(None),
        (Ok(MatchType::Ternary), Key::Ternary(value, mask)) => FieldMatchType::Ternary(field_match::Ternary {
            value: shortest(&value.iter().zip(mask).map(|(v, m)| v & m).collect::<Vec<u8>>()),
            mask: shortest(mask),
        }),
        (Ok(MatchType::Optional), Key::Exact(value) | Key::Ternary(value, _)) => {
            FieldMatchType::Optional(field_match::Optional { value: shortest(value) })
        }
        (Ok(MatchType::Range), Key::Range(low, high))
            if zeros(low) && ones(high) == u32::try_from(field.bitwidth).unwrap_or(0) =>
        {
            return Ok(None);
        }
        (Ok(MatchType::Range), Key::Range(low, high)) => FieldMatchType::Range(field_match::Range {
            low: shortest(low),
            high: shortest(high),
        }),
        (kind, key) => return Err(format!("field {}: {key:?} does not fit {kind:?}", field.name)),
    };
    Ok(Some(p4::FieldMatch {
        field_id: field.id,
        field_match_type: Some(kind),
    }))
}

/// The canonical form of a number (section 8.4).
fn shortest(value: &[u8]) -> Vec<u8> {
    canonical(value).to_vec()
}

fn index(cell: u64) -> Result<p4::Index, Failed> {
    let index = i64::try_from(cell).map_err(|_| format!("{cell} is not an index"))?;
    Ok(p4::Index { index })
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// # Errors
/// P4Runtime has whole units a second.
pub(super) fn rates(r: Rates) -> Result<p4::MeterConfig, Failed> {
    let whole = |millionths: u64| match millionths % 1_000_000 {
        0 => Ok(signed(millionths / 1_000_000)),
        _ => Err(format!("P4Runtime has no rate of {millionths} millionths a second")),
    };
    Ok(p4::MeterConfig {
        cir: whole(r.cir)?,
        cburst: signed(r.cbs),
        pir: whole(r.pir)?,
        pburst: signed(r.pbs),
        eburst: 0,
    })
}

pub(super) fn count(data: Option<&p4::CounterData>) -> Count {
    let number = |n: i64| u64::try_from(n).unwrap_or(0);
    data.map_or_else(Count::default, |d| Count {
        packets: number(d.packet_count),
        bytes: number(d.byte_count),
    })
}

pub(super) fn replicas(copies: &[Replica]) -> Vec<p4::Replica> {
    #[expect(deprecated, reason = "the only form that simple_switch_grpc 1.15 knows")]
    let port = p4::replica::PortKind::EgressPort;
    let copy = |r: &Replica| p4::Replica {
        port_kind: Some(port(r.port)),
        instance: r.rid,
        ..Default::default()
    };
    copies.iter().map(copy).collect()
}

pub(super) fn replication(kind: p4::packet_replication_engine_entry::Type) -> Entity {
    Entity::PacketReplicationEngineEntry(p4::PacketReplicationEngineEntry { r#type: Some(kind) })
}

/// A value that is a number.
pub(super) fn number(data: Option<&p4::P4Data>) -> Result<Vec<u8>, Failed> {
    use p4::p4_data::Data;
    match data.and_then(|d| d.data.as_ref()) {
        Some(Data::Bitstring(value)) => Ok(value.clone()),
        Some(Data::Bool(value)) => Ok(vec![u8::from(*value)]),
        other => Err(format!("{other:?} is not a number")),
    }
}

/// The fields of a digest, in order.
pub(super) fn fields(data: &p4::P4Data) -> Result<Vec<Vec<u8>>, Failed> {
    use p4::p4_data::Data;
    match &data.data {
        Some(Data::Struct(s)) => s.members.iter().map(|m| number(Some(m))).collect(),
        Some(Data::Tuple(t)) => t.members.iter().map(|m| number(Some(m))).collect(),
        _ => Ok(vec![number(Some(data))?]),
    }
}

/// The switch's message about a refused update: the one for the update if there is one (section 10), otherwise the one
/// for the call.
pub(super) fn refusal(status: &tonic::Status) -> Failed {
    let details = rpc::Status::decode(status.details()).unwrap_or_default();
    let errors = details
        .details
        .iter()
        .filter_map(|any| p4::Error::decode(&*any.value).ok());
    let said: Vec<String> = errors
        .map(|e| format!("{:?}: {}", tonic::Code::from(e.canonical_code), e.message))
        .collect();
    match said.first() {
        Some(first) => first.clone(),
        None => format!("{:?}: {}", status.code(), status.message()),
    }
}

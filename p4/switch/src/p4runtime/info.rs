//! The P4Info of a pipeline in a form for look-ups: ids are resolved and widths checked once per pipeline.
//!
//! Every name and id of a request is looked up here in constant time. A P4Info that contradicts itself is refused when it
//! is loaded, so later code can rely on its contents.

use p4runtime_proto::p4::config::v1 as config;
use rustc_hash::{FxHashMap, FxHashSet};
use thiserror::Error;

use super::translation::{Translation, Translations};

/// Widest `bit<W>` of a match field, parameter or packet header field; P4 programs use at most some hundred bits, and
/// a limit keeps a hostile P4Info from asking for gigabytes.
pub const MAX_BITWIDTH: i32 = 8192;

/// Why a P4Info was refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum InfoError {
    /// An object has no preamble or an id of zero.
    #[error("{kind} {name:?} has no id")]
    NoId {
        /// What kind of object.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// Two objects share an id.
    #[error("id {id:#x} of {name:?} is used twice")]
    DuplicateId {
        /// The id.
        id: u32,
        /// Name of the second holder.
        name: String,
    },
    /// A reference leads nowhere.
    #[error("{name:?} refers to {what} {id:#x}, which does not exist")]
    Dangling {
        /// The object that refers.
        name: String,
        /// What it refers to.
        what: &'static str,
        /// The id that is missing.
        id: u32,
    },
    /// An object needs something that this target cannot execute.
    #[error("{name:?}: {what}")]
    Unsupported {
        /// The object.
        name: String,
        /// What is wrong.
        what: String,
    },
}

/// How a match field matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MatchKind {
    /// Equality.
    Exact,
    /// Longest prefix.
    Lpm,
    /// Value under a mask.
    Ternary,
    /// Closed interval.
    Range,
    /// Equality or anything.
    Optional,
}

/// A value that clients write: its width on the data plane and, if its P4 type is translated, the translation.
#[derive(Debug, Clone)]
pub struct ValueType {
    /// Width that clients see, in bits; 0 for an SDN string.
    pub width: usize,
    /// Width on the data plane, in bits; differs from `width` for translated types only, and is then filled in from
    /// the device config.
    pub data_width: usize,
    /// Present for types with `@p4runtime_translation`.
    pub translation: Option<Translation>,
}

/// One match field of a table or value set.
#[derive(Debug, Clone)]
pub struct Field {
    /// P4Info id.
    pub id: u32,
    /// Name in the P4 program.
    pub name: String,
    /// How it matches.
    pub kind: MatchKind,
    /// Its values.
    pub value: ValueType,
}

/// One action parameter or controller header field.
#[derive(Debug, Clone)]
pub struct Param {
    /// P4Info id.
    pub id: u32,
    /// Name in the P4 program.
    pub name: String,
    /// Its values.
    pub value: ValueType,
}

/// An action.
#[derive(Debug, Clone)]
pub struct Action {
    /// P4Info id.
    pub id: u32,
    /// Fully qualified name.
    pub name: String,
    /// Parameters in P4Info order.
    pub params: Vec<Param>,
}

/// Where an action may be used in a table (section 7.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// No annotation.
    TableAndDefault,
    /// `@tableonly`.
    TableOnly,
    /// `@defaultonly`.
    DefaultOnly,
    /// `@groupaction`.
    GroupAction,
}

/// A match-action table.
#[derive(Debug, Clone)]
pub struct Table {
    /// P4Info id.
    pub id: u32,
    /// Fully qualified name, as in the device config.
    pub name: String,
    /// Match fields in P4Info order.
    pub fields: Vec<Field>,
    /// Whether entries need a priority: some field is ternary, range or optional.
    pub needs_priority: bool,
    /// Actions that may be used, and where.
    pub actions: Vec<(u32, Scope)>,
    /// Action profile or selector that implements the table.
    pub implementation: Option<u32>,
    /// Attached direct counter.
    pub direct_counter: Option<u32>,
    /// Attached direct meter.
    pub direct_meter: Option<u32>,
    /// Size that the program requests; 0 if it requests none.
    pub size: usize,
    /// Whether entries may age.
    pub idle_timeout: bool,
    /// `const entries`.
    pub is_const: bool,
    /// The default action cannot be changed.
    pub const_default: bool,
}

impl Table {
    /// Where `action` may be used in this table; `None` if nowhere.
    pub fn scope(&self, action: u32) -> Option<Scope> {
        self.actions
            .iter()
            .find(|(id, _)| *id == action)
            .map(|(_, scope)| *scope)
    }

    /// The field with this id and its position.
    pub fn field(&self, id: u32) -> Option<(usize, &Field)> {
        position(&self.fields, id)
    }
}

/// Position of the match field with this id. Ids are nearly always 1, 2, 3 ..., so that place is tried first.
pub fn position(fields: &[Field], id: u32) -> Option<(usize, &Field)> {
    let guess = (id as usize).wrapping_sub(1);
    match fields.get(guess) {
        Some(field) if field.id == id => Some((guess, field)),
        _ => fields.iter().enumerate().find(|(_, field)| field.id == id),
    }
}

/// How a selector's sizes are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SizeSemantics {
    /// By weight (the default).
    SumOfWeights,
    /// By member; the largest weight of one member, 0 for any.
    SumOfMembers {
        /// Largest weight of one member; 0 means no limit.
        max_member_weight: i32,
    },
}

/// An action profile or action selector.
#[derive(Debug, Clone)]
pub struct Profile {
    /// P4Info id.
    pub id: u32,
    /// Fully qualified name.
    pub name: String,
    /// Whether it has groups.
    pub with_selector: bool,
    /// Tables that it implements.
    pub tables: Vec<u32>,
    /// Size limit; 0 means that the program did not say.
    pub size: i64,
    /// Size limit of one group; 0 means that the program did not say.
    pub max_group_size: i32,
    /// How the limits count.
    pub semantics: SizeSemantics,
    /// Members take no weights.
    pub weights_disallowed: bool,
}

/// What an array of counters, meters or registers is indexed by.
#[derive(Debug, Clone)]
pub struct Array {
    /// P4Info id.
    pub id: u32,
    /// Fully qualified name.
    pub name: String,
    /// Cells.
    pub size: usize,
    /// Index translation.
    pub index: Option<Translation>,
}

/// Meter behaviour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MeterKind {
    /// RFC 2698.
    TwoRateThreeColor,
    /// RFC 2697.
    SingleRateThreeColor,
    /// RFC 2697 without excess burst.
    SingleRateTwoColor,
}

/// A direct counter or meter.
#[derive(Debug, Clone)]
pub struct Direct {
    /// P4Info id.
    pub id: u32,
    /// Fully qualified name.
    pub name: String,
    /// The table that it belongs to.
    pub table: u32,
}

/// A register array.
#[derive(Debug, Clone)]
pub struct Register {
    /// Id, name, size, index.
    pub array: Array,
    /// Type of a cell.
    pub spec: config::P4DataTypeSpec,
}

/// A digest.
#[derive(Debug, Clone)]
pub struct Digest {
    /// P4Info id.
    pub id: u32,
    /// Fully qualified name.
    pub name: String,
    /// Type of one message.
    pub spec: config::P4DataTypeSpec,
}

/// A parser value set.
#[derive(Debug, Clone)]
pub struct ValueSet {
    /// P4Info id.
    pub id: u32,
    /// Fully qualified name.
    pub name: String,
    /// Match fields in P4Info order.
    pub fields: Vec<Field>,
    /// Members that it may hold; 0 means that the program did not say.
    pub size: usize,
}

/// What an id names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Object {
    /// Index into [`Info::tables`].
    Table(usize),
    /// Index into [`Info::actions`].
    Action(usize),
    /// Index into [`Info::profiles`].
    Profile(usize),
    /// Index into [`Info::counters`].
    Counter(usize),
    /// Index into [`Info::direct_counters`].
    DirectCounter(usize),
    /// Index into [`Info::meters`].
    Meter(usize),
    /// Index into [`Info::direct_meters`].
    DirectMeter(usize),
    /// Index into [`Info::registers`].
    Register(usize),
    /// Index into [`Info::digests`].
    Digest(usize),
    /// Index into [`Info::value_sets`].
    ValueSet(usize),
    /// A controller header or extern: not addressable.
    Other,
}

/// A pipeline's P4Info, resolved.
#[derive(Debug, Clone, Default)]
pub struct Info {
    /// Tables.
    pub tables: Vec<Table>,
    /// Actions.
    pub actions: Vec<Action>,
    /// Action profiles and selectors.
    pub profiles: Vec<Profile>,
    /// Indirect counters.
    pub counters: Vec<Array>,
    /// Direct counters.
    pub direct_counters: Vec<Direct>,
    /// Indirect meters.
    pub meters: Vec<(Array, MeterKind)>,
    /// Direct meters.
    pub direct_meters: Vec<(Direct, MeterKind)>,
    /// Registers.
    pub registers: Vec<Register>,
    /// Digests.
    pub digests: Vec<Digest>,
    /// Parser value sets.
    pub value_sets: Vec<ValueSet>,
    /// Fields of the packet-in header, if the program has one.
    pub packet_in: Option<Vec<Param>>,
    /// Fields of the packet-out header, if the program has one.
    pub packet_out: Option<Vec<Param>>,
    /// Named types.
    pub types: config::P4TypeInfo,
    ids: FxHashMap<u32, Object>,
}

impl Info {
    /// Resolves a P4Info.
    ///
    /// # Errors
    /// Names the first object that contradicts another or that this target cannot execute.
    pub fn new(p4info: &config::P4Info) -> Result<Self, InfoError> {
        let types = p4info.type_info.clone().unwrap_or_default();
        let translations = Translations::new(&types);
        let mut info = Self {
            types: types.clone(),
            ..Self::default()
        };
        for action in &p4info.actions {
            let index = info.actions.len();
            let (id, name) = info.register(&action.preamble, "action", Object::Action(index))?;
            let params = action.params.iter().map(|param| {
                let value = translations.parameter(&name, &param.type_name, param.bitwidth)?;
                Ok(Param {
                    id: param.id,
                    name: param.name.clone(),
                    value,
                })
            });
            let params = params.collect::<Result<Vec<_>, _>>()?;
            unique_ids(&name, params.iter().map(|param| param.id))?;
            info.actions.push(Action { id, name, params });
        }
        info.add_profiles(p4info)?;
        info.add_direct(p4info)?;
        info.add_arrays(p4info, &translations)?;
        for set in &p4info.value_sets {
            let index = info.value_sets.len();
            let (id, name) = info.register(&set.preamble, "value set", Object::ValueSet(index))?;
            let fields = fields(&name, &set.r#match, &translations)?;
            info.value_sets.push(ValueSet {
                id,
                name,
                fields,
                size: usize::try_from(set.size).unwrap_or(0),
            });
        }
        for digest in &p4info.digests {
            let index = info.digests.len();
            let (id, name) = info.register(&digest.preamble, "digest", Object::Digest(index))?;
            info.digests.push(Digest {
                id,
                name,
                spec: digest.type_spec.clone().unwrap_or_default(),
            });
        }
        for header in &p4info.controller_packet_metadata {
            let (_, name) = info.register(&header.preamble, "controller header", Object::Other)?;
            let params = header.metadata.iter().map(|field| {
                let value = translations.value(&name, &field.type_name, field.bitwidth)?;
                Ok(Param {
                    id: field.id,
                    name: field.name.clone(),
                    value,
                })
            });
            let params = params.collect::<Result<Vec<_>, _>>()?;
            unique_ids(&name, params.iter().map(|param| param.id))?;
            match name.as_str() {
                "packet_in" => info.packet_in = Some(params),
                "packet_out" => info.packet_out = Some(params),
                _ => {}
            }
        }
        for table in &p4info.tables {
            let index = info.tables.len();
            let (id, name) = info.register(&table.preamble, "table", Object::Table(index))?;
            let table = info.table_from(table, id, name, &translations)?;
            info.tables.push(table);
        }
        info.check_references()?;
        Ok(info)
    }

    fn register(
        &mut self,
        preamble: &Option<config::Preamble>,
        kind: &'static str,
        object: Object,
    ) -> Result<(u32, String), InfoError> {
        let preamble = preamble.clone().unwrap_or_default();
        if preamble.id == 0 {
            return Err(InfoError::NoId {
                kind,
                name: preamble.name,
            });
        }
        if self.ids.insert(preamble.id, object).is_some() {
            return Err(InfoError::DuplicateId {
                id: preamble.id,
                name: preamble.name,
            });
        }
        Ok((preamble.id, preamble.name))
    }

    fn add_profiles(&mut self, p4info: &config::P4Info) -> Result<(), InfoError> {
        use config::action_profile::SelectorSizeSemantics as Wire;
        for profile in &p4info.action_profiles {
            let index = self.profiles.len();
            let (id, name) = self.register(&profile.preamble, "action profile", Object::Profile(index))?;
            let semantics = match &profile.selector_size_semantics {
                Some(Wire::SumOfMembers(limits)) => SizeSemantics::SumOfMembers {
                    max_member_weight: limits.max_member_weight,
                },
                Some(Wire::SumOfWeights(_)) | None => SizeSemantics::SumOfWeights,
            };
            self.profiles.push(Profile {
                id,
                name,
                with_selector: profile.with_selector,
                tables: profile.table_ids.clone(),
                size: profile.size,
                max_group_size: profile.max_group_size,
                semantics,
                weights_disallowed: profile.weights_disallowed,
            });
        }
        Ok(())
    }

    fn add_direct(&mut self, p4info: &config::P4Info) -> Result<(), InfoError> {
        for counter in &p4info.direct_counters {
            let index = self.direct_counters.len();
            let object = Object::DirectCounter(index);
            let (id, name) = self.register(&counter.preamble, "direct counter", object)?;
            self.direct_counters.push(Direct {
                id,
                name,
                table: counter.direct_table_id,
            });
        }
        for meter in &p4info.direct_meters {
            let index = self.direct_meters.len();
            let (id, name) = self.register(&meter.preamble, "direct meter", Object::DirectMeter(index))?;
            let kind = meter_kind(meter.spec.as_ref());
            self.direct_meters.push((
                Direct {
                    id,
                    name,
                    table: meter.direct_table_id,
                },
                kind,
            ));
        }
        Ok(())
    }

    fn add_arrays(&mut self, p4info: &config::P4Info, translations: &Translations<'_>) -> Result<(), InfoError> {
        let size = |size: i64| usize::try_from(size).unwrap_or(0);
        for counter in &p4info.counters {
            let index = self.counters.len();
            let (id, name) = self.register(&counter.preamble, "counter", Object::Counter(index))?;
            let translation = translations.of(&counter.index_type_name);
            self.counters.push(Array {
                id,
                name,
                size: size(counter.size),
                index: translation,
            });
        }
        for meter in &p4info.meters {
            let index = self.meters.len();
            let (id, name) = self.register(&meter.preamble, "meter", Object::Meter(index))?;
            let translation = translations.of(&meter.index_type_name);
            let array = Array {
                id,
                name,
                size: size(meter.size),
                index: translation,
            };
            self.meters.push((array, meter_kind(meter.spec.as_ref())));
        }
        for register in &p4info.registers {
            let index = self.registers.len();
            let (id, name) = self.register(&register.preamble, "register", Object::Register(index))?;
            let translation = translations.of(&register.index_type_name);
            let array = Array {
                id,
                name,
                size: size(register.size.into()),
                index: translation,
            };
            self.registers.push(Register {
                array,
                spec: register.type_spec.clone().unwrap_or_default(),
            });
        }
        Ok(())
    }

    fn table_from(
        &self,
        table: &config::Table,
        id: u32,
        name: String,
        translations: &Translations<'_>,
    ) -> Result<Table, InfoError> {
        use config::action_ref::Scope as Wire;
        use config::table::IdleTimeoutBehavior;
        let fields = fields(&name, &table.match_fields, translations)?;
        let needs_priority = fields
            .iter()
            .any(|field| matches!(field.kind, MatchKind::Ternary | MatchKind::Range | MatchKind::Optional));
        let actions = table.action_refs.iter().map(|reference| {
            let scope = match reference.scope() {
                Wire::TableAndDefault => Scope::TableAndDefault,
                Wire::TableOnly => Scope::TableOnly,
                Wire::DefaultOnly => Scope::DefaultOnly,
                Wire::GroupAction => Scope::GroupAction,
            };
            (reference.id, scope)
        });
        let actions = actions.collect();
        let mut direct_counter = None;
        let mut direct_meter = None;
        for resource in &table.direct_resource_ids {
            match self.ids.get(resource) {
                Some(Object::DirectCounter(_)) => direct_counter = Some(*resource),
                Some(Object::DirectMeter(_)) => direct_meter = Some(*resource),
                _ => {
                    return Err(InfoError::Dangling {
                        name,
                        what: "direct resource",
                        id: *resource,
                    });
                }
            }
        }
        Ok(Table {
            id,
            name,
            fields,
            needs_priority,
            actions,
            implementation: (table.implementation_id != 0).then_some(table.implementation_id),
            direct_counter,
            direct_meter,
            size: usize::try_from(table.size).unwrap_or(0),
            idle_timeout: table.idle_timeout_behavior() == IdleTimeoutBehavior::NotifyControl,
            is_const: table.is_const_table,
            const_default: table.const_default_action_id != 0,
        })
    }

    fn check_references(&mut self) -> Result<(), InfoError> {
        // Compilers leave out `@hidden` actions and tables, but not the references to them.
        let (actions, tables): (FxHashSet<u32>, FxHashSet<u32>) = (
            self.actions.iter().map(|action| action.id).collect(),
            self.tables.iter().map(|table| table.id).collect(),
        );
        for table in &mut self.tables {
            table.actions.retain(|(action, _)| actions.contains(action));
        }
        for profile in &mut self.profiles {
            profile.tables.retain(|table| tables.contains(table));
        }
        for table in &self.tables {
            if let Some(id) = table.implementation.filter(|id| self.profile(*id).is_none()) {
                return Err(InfoError::Dangling {
                    name: table.name.clone(),
                    what: "action profile",
                    id,
                });
            }
        }
        Ok(())
    }

    /// What an id names.
    pub fn object(&self, id: u32) -> Option<Object> {
        self.ids.get(&id).copied()
    }

    /// Table by id, with its index.
    pub fn table_index(&self, id: u32) -> Option<usize> {
        match self.object(id) {
            Some(Object::Table(index)) => Some(index),
            _ => None,
        }
    }

    /// Table by id.
    pub fn table(&self, id: u32) -> Option<&Table> {
        self.tables.get(self.table_index(id)?)
    }

    /// Action by id, with its index.
    pub fn action_index(&self, id: u32) -> Option<usize> {
        match self.object(id) {
            Some(Object::Action(index)) => Some(index),
            _ => None,
        }
    }

    /// Action by id.
    pub fn action(&self, id: u32) -> Option<&Action> {
        self.actions.get(self.action_index(id)?)
    }

    /// Action profile or selector by id, with its index.
    pub fn profile_index(&self, id: u32) -> Option<usize> {
        match self.object(id) {
            Some(Object::Profile(index)) => Some(index),
            _ => None,
        }
    }

    /// Action profile or selector by id.
    pub fn profile(&self, id: u32) -> Option<&Profile> {
        self.profiles.get(self.profile_index(id)?)
    }

    /// Name of an addressable object.
    pub fn object_name(&self, id: u32) -> Option<&str> {
        Some(match self.object(id)? {
            Object::Table(index) => &self.tables[index].name,
            Object::Action(index) => &self.actions[index].name,
            Object::Profile(index) => &self.profiles[index].name,
            Object::Counter(index) => &self.counters[index].name,
            Object::DirectCounter(index) => &self.direct_counters[index].name,
            Object::Meter(index) => &self.meters[index].0.name,
            Object::DirectMeter(index) => &self.direct_meters[index].0.name,
            Object::Register(index) => &self.registers[index].array.name,
            Object::Digest(index) => &self.digests[index].name,
            Object::ValueSet(index) => &self.value_sets[index].name,
            Object::Other => return None,
        })
    }

    /// Whether an array object has this cell.
    pub fn has_cell(&self, id: u32, index: Option<p4runtime_proto::p4::v1::Index>) -> bool {
        let array = match self.object(id) {
            Some(Object::Counter(index)) => &self.counters[index],
            Some(Object::Meter(index)) => &self.meters[index].0,
            Some(Object::Register(index)) => &self.registers[index].array,
            _ => return false,
        };
        index
            .and_then(|index| usize::try_from(index.index).ok())
            .is_some_and(|cell| cell < array.size)
    }

    /// The kind of a table's direct meter.
    pub fn direct_meter_kind(&self, table: &Table) -> Option<MeterKind> {
        match self.object(table.direct_meter?) {
            Some(Object::DirectMeter(index)) => self.direct_meters.get(index).map(|(_, kind)| *kind),
            _ => None,
        }
    }
}

fn meter_kind(spec: Option<&config::MeterSpec>) -> MeterKind {
    use config::meter_spec::Type;
    match spec.map(config::MeterSpec::r#type) {
        Some(Type::SingleRateThreeColor) => MeterKind::SingleRateThreeColor,
        Some(Type::SingleRateTwoColor) => MeterKind::SingleRateTwoColor,
        Some(Type::TwoRateThreeColor) | None => MeterKind::TwoRateThreeColor,
    }
}

fn unique_ids(owner: &str, ids: impl Iterator<Item = u32>) -> Result<(), InfoError> {
    let mut seen = Vec::new();
    for id in ids {
        if id == 0 || seen.contains(&id) {
            let what = format!("the id {id} of a field or parameter is zero or used twice");
            return Err(InfoError::Unsupported {
                name: owner.to_owned(),
                what,
            });
        }
        seen.push(id);
    }
    Ok(())
}

fn fields(owner: &str, wire: &[config::MatchField], translations: &Translations<'_>) -> Result<Vec<Field>, InfoError> {
    use config::match_field::{Match, MatchType};
    let fields = wire.iter().map(|field| {
        let unsupported = || InfoError::Unsupported {
            name: owner.to_owned(),
            what: format!("match kind of field {:?} is not supported", field.name),
        };
        let kind = match &field.r#match {
            Some(Match::MatchType(kind)) => match MatchType::try_from(*kind) {
                Ok(MatchType::Exact) => MatchKind::Exact,
                Ok(MatchType::Lpm) => MatchKind::Lpm,
                Ok(MatchType::Ternary) => MatchKind::Ternary,
                Ok(MatchType::Range) => MatchKind::Range,
                Ok(MatchType::Optional) => MatchKind::Optional,
                Ok(MatchType::Unspecified) | Err(_) => return Err(unsupported()),
            },
            _ => return Err(unsupported()),
        };
        let value = translations.value(owner, &field.type_name, field.bitwidth)?;
        Ok(Field {
            id: field.id,
            name: field.name.clone(),
            kind,
            value,
        })
    });
    let fields = fields.collect::<Result<Vec<_>, _>>()?;
    unique_ids(owner, fields.iter().map(|field| field.id))?;
    Ok(fields)
}

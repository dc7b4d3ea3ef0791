//! Parser value sets (specification, section 9.6): written as a whole.

use std::collections::BTreeSet;

use p4runtime_proto::p4::v1;
use p4runtime_proto::p4::v1::update::Type;

use super::error::EntityError;
use super::info::{Info, Object};
use super::key;
use super::request::FieldMatch;
use super::state::State;
use super::target::Op;
use super::write::{Transaction, Undo};

/// The value set with this id.
pub(super) fn set_index(info: &Info, id: u32) -> Result<usize, EntityError> {
    match info.object(id) {
        Some(Object::ValueSet(index)) => Ok(index),
        _ => Err(EntityError::invalid(format!("value set {id:#x} does not exist"))),
    }
}

/// Replaces the members of a value set.
pub(super) fn write(
    transaction: &mut Transaction<'_>,
    kind: Type,
    wire: &v1::ValueSetEntry,
) -> Result<(), EntityError> {
    if kind != Type::Modify {
        return Err(EntityError::invalid("a value set can only be modified"));
    }
    let info = transaction.state.info.clone();
    let index = set_index(&info, wire.value_set_id)?;
    let set = &info.value_sets[index];
    let place = format!("value set {:?}", set.name);
    if set.size > 0 && wire.members.len() > set.size {
        return Err(EntityError::exhausted(format!("it holds at most {} members", set.size)).at(&place));
    }
    let mut seen = BTreeSet::new();
    let mut members = Vec::with_capacity(wire.members.len());
    for member in &wire.members {
        let mut packed = Vec::new();
        key::pack(
            &set.fields,
            &member.r#match.iter().map(FieldMatch::of).collect::<Vec<_>>(),
            &mut transaction.state.translator,
            &mut packed,
        )
        .map_err(|error| error.at(&place))?;
        if !seen.insert(packed.clone()) {
            return Err(EntityError::exists("a member is listed twice").at(&place));
        }
        members.push(packed.into_boxed_slice());
    }
    let old = std::mem::replace(&mut transaction.state.value_sets[index], members.clone());
    transaction.remember(|_| Undo::ValueSet { set: index, old });
    transaction.ops.push(Op::ValueSet { set: index, members });
    Ok(())
}

/// A value set as a message.
pub(super) fn to_wire(state: &State, index: usize) -> v1::ValueSetEntry {
    let set = &state.info.value_sets[index];
    let members = state.value_sets[index].iter().map(|packed| v1::ValueSetMember {
        r#match: key::unpack(&set.fields, packed, &state.translator),
    });
    v1::ValueSetEntry {
        value_set_id: set.id,
        members: members.collect(),
    }
}

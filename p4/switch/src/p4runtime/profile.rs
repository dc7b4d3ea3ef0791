//! Members, groups and one-shots of action profiles and selectors (specification, section 9.2).

// Deprecated fields are still read and echoed, for older clients.
#![allow(deprecated)]

use std::collections::BTreeSet;

use p4runtime_proto::p4::v1;
use p4runtime_proto::p4::v1::action_profile_action::WatchKind as ActionWatch;
use p4runtime_proto::p4::v1::action_profile_action_set::{ActionSelectionMode, SizeSemantics as WireSemantics};
use p4runtime_proto::p4::v1::action_profile_group::member::WatchKind as MemberWatch;
use p4runtime_proto::p4::v1::update::Type;

use super::action::{self, Watch};
use super::bytestring;
use super::error::EntityError;
use super::info::{Info, Profile, SizeSemantics, Table};
use super::state::{OneShot, OneShotAction, Selected, State};
use super::target::{Device, Op};
use super::write::{Transaction, Undo};

/// The profile with this id.
pub(super) fn profile_index(info: &Info, id: u32) -> Result<usize, EntityError> {
    info.profile_index(id)
        .ok_or_else(|| EntityError::invalid(format!("action profile {id:#x} does not exist")))
}

/// `ActionProfileMember`.
pub(super) fn write_member(
    transaction: &mut Transaction<'_>,
    kind: Type,
    wire: &v1::ActionProfileMember,
) -> Result<(), EntityError> {
    let info = transaction.state.info.clone();
    let index = profile_index(&info, wire.action_profile_id)?;
    let profile = &info.profiles[index];
    let id = wire.member_id;
    let place = format!("profile {:?}, member {id}", profile.name);
    let result = match kind {
        _ if id == 0 => Err(EntityError::invalid("the member id is 0")),
        Type::Delete => delete_member(transaction, index, id),
        _ => put_member(transaction, kind, index, wire),
    };
    result.map_err(|error| error.at(&place))
}

fn put_member(
    transaction: &mut Transaction<'_>,
    kind: Type,
    index: usize,
    wire: &v1::ActionProfileMember,
) -> Result<(), EntityError> {
    let info = transaction.state.info.clone();
    let profile = &info.profiles[index];
    let state = &transaction.state.profiles[index];
    let id = wire.member_id;
    match (kind, state.members.contains_key(&id)) {
        (Type::Insert, true) => return Err(EntityError::exists("the member exists already")),
        (Type::Modify, false) => return Err(EntityError::not_found("the member does not exist")),
        _ => {}
    }
    if kind == Type::Insert {
        if state.one_shots > 0 {
            return Err(EntityError::invalid(
                "one-shots and members cannot be mixed in one selector",
            ));
        }
        if profile.size > 0 && state.members.len() as i64 >= profile.size {
            return Err(EntityError::exhausted(format!(
                "the profile is full: {} members",
                profile.size
            )));
        }
    }
    let wire = wire
        .action
        .as_ref()
        .ok_or_else(|| EntityError::invalid("the member needs an action"))?;
    // Tables that share a profile have the same actions, so the first table decides.
    let table = profile.tables.first().and_then(|id| info.table(*id));
    let translator = &mut transaction.state.translator;
    let call = match table {
        Some(table) => action::pack_message(&info, table, wire, translator)?,
        None => action::pack_any(&info, wire, translator)?,
    };
    let old = transaction.state.put_member(index, id, Some(call.clone()));
    transaction.remember(|_| Undo::Member {
        profile: index,
        id,
        old,
    });
    transaction.ops.push(Op::Member {
        profile: index,
        id,
        call: Some(call),
    });
    Ok(())
}

fn delete_member(transaction: &mut Transaction<'_>, index: usize, id: u32) -> Result<(), EntityError> {
    let member = transaction.state.profiles[index].members.get(&id);
    let member = member.ok_or_else(|| EntityError::not_found("the member does not exist"))?;
    if member.users > 0 {
        return Err(EntityError::precondition(format!(
            "{} groups or entries use the member",
            member.users
        )));
    }
    let old = transaction.state.put_member(index, id, None);
    transaction.remember(|_| Undo::Member {
        profile: index,
        id,
        old,
    });
    transaction.ops.push(Op::Member {
        profile: index,
        id,
        call: None,
    });
    Ok(())
}

/// `ActionProfileGroup`.
pub(super) fn write_group(
    transaction: &mut Transaction<'_>,
    kind: Type,
    wire: &v1::ActionProfileGroup,
) -> Result<(), EntityError> {
    let info = transaction.state.info.clone();
    let index = profile_index(&info, wire.action_profile_id)?;
    let profile = &info.profiles[index];
    let id = wire.group_id;
    let place = format!("selector {:?}, group {id}", profile.name);
    let result = match kind {
        _ if !profile.with_selector => Err(EntityError::invalid("the profile has no groups")),
        _ if id == 0 => Err(EntityError::invalid("the group id is 0")),
        Type::Delete => delete_group(transaction, index, id),
        _ => put_group(transaction, kind, index, wire),
    };
    result.map_err(|error| error.at(&place))
}

fn put_group(
    transaction: &mut Transaction<'_>,
    kind: Type,
    index: usize,
    wire: &v1::ActionProfileGroup,
) -> Result<(), EntityError> {
    let info = transaction.state.info.clone();
    let profile = &info.profiles[index];
    let state = &transaction.state.profiles[index];
    let id = wire.group_id;
    let old = state.groups.get(&id);
    match (kind, old) {
        (Type::Insert, Some(_)) => return Err(EntityError::exists("the group exists already")),
        (Type::Insert, None) if state.one_shots > 0 => {
            return Err(EntityError::invalid(
                "one-shots and groups cannot be mixed in one selector",
            ));
        }
        (Type::Modify, None) => return Err(EntityError::not_found("the group does not exist")),
        (Type::Modify, Some(old)) if old.max_size != wire.max_size => {
            return Err(EntityError::invalid("max_size cannot be changed"));
        }
        _ => {}
    }
    check_max_size(profile, wire.max_size)?;
    let members = selected(transaction, index, &wire.members)?;
    let weights = wire.members.iter().map(|member| member.weight);
    let size = action::group_size(profile, weights, profile.semantics)?;
    let limit = if wire.max_size > 0 {
        wire.max_size
    } else {
        profile.max_group_size
    };
    if limit > 0 && size > i64::from(limit) {
        return Err(EntityError::exhausted(format!(
            "the group's size {size} is above its limit of {limit}"
        )));
    }
    let state = &transaction.state.profiles[index];
    let by_weight = transaction.state.by_weight(index);
    let freed = old_size(state, id, by_weight);
    check_total(profile, state.total_size - freed + size)?;

    let old = transaction
        .state
        .put_group(index, id, Some((members.clone(), wire.max_size)));
    transaction.remember(|_| Undo::Group {
        profile: index,
        id,
        old,
    });
    transaction.ops.push(Op::Group {
        profile: index,
        id,
        members: Some(members),
    });
    Ok(())
}

fn old_size(state: &super::state::Profile, id: u32, by_weight: bool) -> i64 {
    state.groups.get(&id).map_or(0, |group| group.size(by_weight))
}

fn check_max_size(profile: &Profile, max_size: i32) -> Result<(), EntityError> {
    let limit = profile.max_group_size;
    let valid = if limit > 0 {
        (1..=limit).contains(&max_size)
    } else {
        max_size >= 0
    };
    match valid {
        true => Ok(()),
        false if limit > 0 => Err(EntityError::invalid(format!(
            "max_size {max_size} is not in 1..={limit}"
        ))),
        false => Err(EntityError::invalid("max_size is negative")),
    }
}

fn check_total(profile: &Profile, total: i64) -> Result<(), EntityError> {
    if profile.size > 0 && total > profile.size {
        return Err(EntityError::exhausted(format!(
            "the selector's size {total} would be above its limit of {}",
            profile.size
        )));
    }
    Ok(())
}

fn selected(
    transaction: &Transaction<'_>,
    index: usize,
    wire: &[v1::action_profile_group::Member],
) -> Result<Vec<Selected>, EntityError> {
    let state = &transaction.state.profiles[index];
    let mut seen = BTreeSet::new();
    let members = wire.iter().map(|member| {
        let id = member.member_id;
        if !seen.insert(id) {
            return Err(EntityError::invalid(format!("member {id} is listed twice")));
        }
        if !state.members.contains_key(&id) {
            return Err(EntityError::not_found(format!("member {id} does not exist")));
        }
        let (bytes, number) = match &member.watch_kind {
            Some(MemberWatch::WatchPort(port)) => (Some(port.as_slice()), None),
            Some(MemberWatch::Watch(port)) => (None, Some(*port)),
            None => (None, None),
        };
        let watch = action::watch(bytes, number, &transaction.state.translator)?;
        check_watch(transaction.device, watch.as_ref())?;
        Ok(Selected {
            member: id,
            weight: member.weight,
            watch,
        })
    });
    members.collect()
}

fn check_watch(device: &dyn Device, watch: Option<&Watch>) -> Result<(), EntityError> {
    match watch {
        Some(watch) if !device.ports().has(watch.port) => Err(EntityError::invalid(format!(
            "watch port {} does not exist",
            watch.port
        ))),
        _ => Ok(()),
    }
}

fn delete_group(transaction: &mut Transaction<'_>, index: usize, id: u32) -> Result<(), EntityError> {
    let group = transaction.state.profiles[index].groups.get(&id);
    let group = group.ok_or_else(|| EntityError::not_found("the group does not exist"))?;
    if group.users > 0 {
        return Err(EntityError::precondition(format!(
            "{} entries use the group",
            group.users
        )));
    }
    let old = transaction.state.put_group(index, id, None);
    transaction.remember(|_| Undo::Group {
        profile: index,
        id,
        old,
    });
    transaction.ops.push(Op::Group {
        profile: index,
        id,
        members: None,
    });
    Ok(())
}

/// Checks a one-shot; `freed` is the size of the one that it replaces.
pub(super) fn pack_one_shot(
    transaction: &mut Transaction<'_>,
    table: &Table,
    index: usize,
    wire: &v1::ActionProfileActionSet,
    freed: i64,
) -> Result<OneShot, EntityError> {
    let info = transaction.state.info.clone();
    let profile = &info.profiles[index];
    if wire.group_action.is_some() {
        return Err(EntityError::unimplemented("group actions are not supported"));
    }
    check_modes(profile, wire)?;
    let weights = wire.action_profile_actions.iter().map(|action| action.weight);
    let size = action::group_size(profile, weights, profile.semantics)?;
    if profile.max_group_size > 0 && size > i64::from(profile.max_group_size) {
        let limit = profile.max_group_size;
        return Err(EntityError::invalid(format!(
            "the action set's size {size} is above the limit of {limit}"
        )));
    }
    check_total(profile, transaction.state.profiles[index].total_size - freed + size)?;
    let mut actions = Vec::with_capacity(wire.action_profile_actions.len());
    for one in &wire.action_profile_actions {
        let action = one
            .action
            .as_ref()
            .ok_or_else(|| EntityError::invalid("an action of the set is missing"))?;
        let call = action::pack_message(&info, table, action, &mut transaction.state.translator)?;
        let (bytes, number) = match &one.watch_kind {
            Some(ActionWatch::WatchPort(port)) => (Some(port.as_slice()), None),
            Some(ActionWatch::Watch(port)) => (None, Some(*port)),
            None => (None, None),
        };
        let watch = action::watch(bytes, number, &transaction.state.translator)?;
        check_watch(transaction.device, watch.as_ref())?;
        actions.push(OneShotAction {
            call,
            weight: one.weight,
            watch,
        });
    }
    Ok(OneShot {
        actions,
        selection_mode: wire.action_selection_mode,
        size_semantics: wire.size_semantics,
    })
}

/// Per-group settings: only those that equal the selector's behaviour are accepted.
fn check_modes(profile: &Profile, wire: &v1::ActionProfileActionSet) -> Result<(), EntityError> {
    match ActionSelectionMode::try_from(wire.action_selection_mode) {
        Ok(ActionSelectionMode::DefaultModeDeterminedByActionSelector | ActionSelectionMode::Hash) => {}
        Ok(ActionSelectionMode::Random) => {
            return Err(EntityError::unimplemented("random selection is not supported"));
        }
        Err(_) => return Err(EntityError::invalid("action_selection_mode is not valid")),
    }
    let own = match profile.semantics {
        SizeSemantics::SumOfWeights => WireSemantics::SumOfWeights,
        SizeSemantics::SumOfMembers { .. } => WireSemantics::SumOfMembers,
    };
    match WireSemantics::try_from(wire.size_semantics) {
        Ok(WireSemantics::DefaultSizeDeterminedByActionSelector) => Ok(()),
        Ok(given) if given == own => Ok(()),
        Ok(_) => Err(EntityError::unimplemented(
            "size semantics cannot differ from the selector's",
        )),
        Err(_) => Err(EntityError::invalid("size_semantics is not valid")),
    }
}

fn port_bytes(watch: &Watch) -> Vec<u8> {
    bytestring::from_u64(watch.port.into())
}

/// A one-shot as it was written.
pub(super) fn one_shot_to_wire(state: &State, set: &OneShot) -> v1::ActionProfileActionSet {
    let actions = set.actions.iter().map(|one| v1::ActionProfileAction {
        action: Some(action::unpack(&state.info, one.call.borrowed(), &state.translator)),
        weight: one.weight,
        watch_kind: one.watch.as_ref().map(|watch| match watch.deprecated {
            true => ActionWatch::Watch(watch.port as i32),
            false => ActionWatch::WatchPort(port_bytes(watch)),
        }),
    });
    v1::ActionProfileActionSet {
        action_profile_actions: actions.collect(),
        action_selection_mode: set.selection_mode,
        size_semantics: set.size_semantics,
        ..v1::ActionProfileActionSet::default()
    }
}

/// A member as a message.
pub(super) fn member_to_wire(state: &State, index: usize, id: u32) -> Option<v1::ActionProfileMember> {
    let member = state.profiles[index].members.get(&id)?;
    Some(v1::ActionProfileMember {
        action_profile_id: state.info.profiles[index].id,
        member_id: id,
        action: Some(action::unpack(&state.info, member.call.borrowed(), &state.translator)),
    })
}

/// A group as a message.
pub(super) fn group_to_wire(state: &State, index: usize, id: u32) -> Option<v1::ActionProfileGroup> {
    let group = state.profiles[index].groups.get(&id)?;
    let members = group.members.iter().map(|selected| v1::action_profile_group::Member {
        member_id: selected.member,
        weight: selected.weight,
        watch_kind: selected.watch.as_ref().map(|watch| match watch.deprecated {
            true => MemberWatch::Watch(watch.port as i32),
            false => MemberWatch::WatchPort(port_bytes(watch)),
        }),
    });
    Some(v1::ActionProfileGroup {
        action_profile_id: state.info.profiles[index].id,
        group_id: id,
        members: members.collect(),
        max_size: group.max_size,
    })
}

//! Actions with arguments: `Action` messages to and from an index and one packed string (section 9.1.2).

use p4runtime_proto::p4::v1;

use super::bytestring;
use super::error::EntityError;
use super::info::{Action, Info, Param as ParamInfo, Profile, Scope, SizeSemantics, Table};
use super::request::Param;
use super::translation::Translator;

/// An action with its arguments, padded and joined in P4Info order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// P4Info id of the action.
    pub action: u32,
    /// Arguments.
    pub args: Box<[u8]>,
}

impl Call {
    /// This call, borrowed.
    pub fn borrowed(&self) -> CallRef<'_> {
        CallRef {
            action: self.action,
            args: &self.args,
        }
    }
}

/// A borrowed [`Call`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallRef<'a> {
    /// P4Info id of the action.
    pub action: u32,
    /// Arguments; octets after the last one mean nothing.
    pub args: &'a [u8],
}

/// Splits joined arguments.
pub fn args<'a>(params: &'a [ParamInfo], packed: &'a [u8]) -> impl Iterator<Item = (&'a ParamInfo, &'a [u8])> {
    let mut rest = packed;
    params.iter().map_while(move |param| {
        let (this, after) = rest.split_at_checked(bytestring::bytes(param.value.data_width))?;
        rest = after;
        Some((param, this))
    })
}

/// The place for which an action is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// A table entry, a member or a one-shot's action.
    Entry,
    /// A table's default action.
    Default,
}

/// Checks an action message against the table that it is for.
///
/// # Errors
/// `INVALID_ARGUMENT` for an action that the table does not have and for wrong arguments, `PERMISSION_DENIED` for one
/// that its scope forbids here.
pub fn pack(
    info: &Info,
    table: &Table,
    id: u32,
    params: &[Param<'_>],
    usage: Use,
    translator: &mut Translator,
) -> Result<Call, EntityError> {
    check_scope(table, id, usage)?;
    pack_call(info, id, params, translator)
}

/// Checks the action of an entry, and appends its arguments to `out`.
///
/// # Errors
/// As [`pack`].
pub fn pack_entry(
    info: &Info,
    table: &Table,
    id: u32,
    params: &[Param<'_>],
    translator: &mut Translator,
    out: &mut Vec<u8>,
) -> Result<(), EntityError> {
    check_scope(table, id, Use::Entry)?;
    pack_args(known(info, id)?, params, translator, out)
}

/// Checks that an action's scope in a table allows this place.
fn check_scope(table: &Table, id: u32, usage: Use) -> Result<(), EntityError> {
    let scope = table
        .scope(id)
        .ok_or_else(|| EntityError::invalid(format!("table {:?} has no action {id:#x}", table.name)))?;
    let denied = match (scope, usage) {
        (Scope::TableOnly, Use::Default) => Some("@tableonly"),
        (Scope::DefaultOnly, Use::Entry) => Some("@defaultonly"),
        (Scope::GroupAction, _) => Some("@groupaction"),
        _ => None,
    };
    match denied {
        None => Ok(()),
        Some(annotation) => Err(EntityError::denied(format!(
            "action {id:#x} is {annotation} in table {:?}",
            table.name
        ))),
    }
}

fn known(info: &Info, id: u32) -> Result<&Action, EntityError> {
    let action = info.action(id);
    action.ok_or_else(|| EntityError::invalid(format!("action {id:#x} does not exist")))
}

/// Checks the action of a member or of a one-shot.
///
/// # Errors
/// As [`pack`].
pub fn pack_message(
    info: &Info,
    table: &Table,
    wire: &v1::Action,
    translator: &mut Translator,
) -> Result<Call, EntityError> {
    check_scope(table, wire.action_id, Use::Entry)?;
    pack_any(info, wire, translator)
}

/// Checks an action message without a table.
pub fn pack_any(info: &Info, wire: &v1::Action, translator: &mut Translator) -> Result<Call, EntityError> {
    let params: Vec<_> = wire.params.iter().map(Param::of).collect();
    pack_call(info, wire.action_id, &params, translator)
}

fn pack_call(info: &Info, id: u32, params: &[Param<'_>], translator: &mut Translator) -> Result<Call, EntityError> {
    let action = known(info, id)?;
    let len = action.params.iter().map(|p| bytestring::bytes(p.value.data_width));
    let mut args = Vec::with_capacity(len.sum());
    pack_args(action, params, translator, &mut args)?;
    Ok(Call {
        action: id,
        args: args.into_boxed_slice(),
    })
}

fn pack_args(
    action: &Action,
    params: &[Param<'_>],
    translator: &mut Translator,
    out: &mut Vec<u8>,
) -> Result<(), EntityError> {
    for (index, param) in action.params.iter().enumerate() {
        // Arguments nearly always come in order.
        let given = params.get(index).filter(|given| given.param_id == param.id);
        let given = given.or_else(|| params.iter().find(|given| given.param_id == param.id));
        let place = || format!("action {:?}, parameter {:?}", action.name, param.name);
        let given = given.ok_or_else(|| EntityError::invalid("the argument is missing").at(&place()))?;
        translator.inward(&param.value, given.value, out).map_err(|error| {
            EntityError {
                code: tonic::Code::InvalidArgument,
                ..EntityError::from(error)
            }
            .at(&place())
        })?;
    }
    if params.len() != action.params.len() {
        return Err(EntityError::invalid(format!(
            "action {:?} takes {} arguments, {} given",
            action.name,
            action.params.len(),
            params.len()
        )));
    }
    Ok(())
}

/// The canonical message of a call.
pub fn unpack(info: &Info, call: CallRef<'_>, translator: &Translator) -> v1::Action {
    let Some(action) = info.action(call.action) else {
        return v1::Action::default();
    };
    let params = args(&action.params, call.args).map(|(param, value)| v1::action::Param {
        param_id: param.id,
        value: translator.outward(&param.value, value),
    });
    v1::Action {
        action_id: call.action,
        params: params.collect(),
    }
}

/// The port that keeps a member in the selection while it is up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watch {
    /// Data plane port number.
    pub port: u32,
    /// Whether the client used the deprecated 32-bit field.
    pub deprecated: bool,
}

/// Reads the `watch_kind` of a group's member or of a one-shot's action.
///
/// # Errors
/// `INVALID_ARGUMENT` for a value that cannot be a port.
pub fn watch(
    bytes: Option<&[u8]>,
    deprecated: Option<i32>,
    translator: &Translator,
) -> Result<Option<Watch>, EntityError> {
    match (bytes, deprecated) {
        (Some([]), _) | (None, None) => Ok(None),
        (Some(value), _) => {
            let port = translator.port_inward(value).and_then(|port| u32::try_from(port).ok());
            let port = port.ok_or_else(|| EntityError::invalid("watch_port is not a port of this device"))?;
            Ok(Some(Watch {
                port,
                deprecated: false,
            }))
        }
        (None, Some(port)) => {
            let port = u32::try_from(port).map_err(|_| EntityError::invalid("watch is not a port"))?;
            Ok(Some(Watch { port, deprecated: true }))
        }
    }
}

/// Largest sum of weights of one group or one-shot. Targets may hold one slot per unit, and a weight must not exhaust
/// memory.
const MAX_GROUP_WEIGHT: i64 = 65_536;

/// Checks weights and sizes of a group or one-shot (sections 9.2.2 and 9.2.4) and returns its size.
///
/// # Errors
/// `INVALID_ARGUMENT` for a weight that the selector does not accept, `RESOURCE_EXHAUSTED` above the largest possible
/// size.
pub fn group_size(
    profile: &Profile,
    weights: impl Iterator<Item = i32>,
    semantics: SizeSemantics,
) -> Result<i64, EntityError> {
    let mut size = 0i64;
    let mut total_weight = 0i64;
    for weight in weights {
        total_weight += i64::from(weight.max(1));
        if total_weight > MAX_GROUP_WEIGHT {
            return Err(EntityError::exhausted(format!(
                "the weights' sum is above {MAX_GROUP_WEIGHT}"
            )));
        }
        let valid = if profile.weights_disallowed {
            weight == 0
        } else {
            weight > 0
        };
        if !valid {
            return Err(EntityError::invalid(format!(
                "selector {:?} takes no weight {weight}",
                profile.name
            )));
        }
        size += match semantics {
            SizeSemantics::SumOfWeights => i64::from(weight.max(1)),
            SizeSemantics::SumOfMembers { max_member_weight } => {
                if max_member_weight > 0 && weight > max_member_weight {
                    return Err(EntityError::invalid(format!(
                        "weight {weight} is above the selector's limit of {max_member_weight} per member"
                    )));
                }
                1
            }
        };
    }
    Ok(size)
}

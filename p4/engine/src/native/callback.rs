//! Functions of the interpreter that machine code calls: look-ups, and everything that is rare.
//!
//! Each takes the environment of the run and words. Addresses among the words point into the program from which the
//! code was made; it lives as long as the code and never changes.

use super::parser::FINE;
use super::{Env, Run};
use crate::expr::Expr;
use crate::program::{Op, ParserOp, State};
use crate::tables::Leads;

/// Means "no action" in the result of [`look_up`].
pub(super) const NO_ACTION: u64 = u32::MAX as u64;

/// The run that an environment belongs to.
///
/// # Safety
/// `env` is the environment that machine code was called with, and the callback drops the result before it returns to
/// machine code. Until then nothing else uses the run, which `Native::run` keeps on its stack.
unsafe fn run<'e>(env: *mut Env) -> &'e mut Run<'e, 'e> {
    // SAFETY: as above; `Native::run` sets the pointer from a run that outlives the call.
    unsafe { &mut *(*env).run.cast() }
}

/// An action's arguments.
///
/// # Safety
/// `base` and `count` came from machine code, which has them from [`look_up`]: the words of a record of tables that do
/// not change during the run. Or `count` is 0.
unsafe fn arguments<'e>(base: *const u64, count: u64) -> &'e [u64] {
    if count == 0 {
        return &[];
    }
    // SAFETY: as above.
    unsafe { std::slice::from_raw_parts(base, count as usize) }
}

/// Looks a key up. Returns the action and whether an entry was hit, as `action << 1 | hit`, and leaves the arguments
/// in the environment.
///
/// # Safety
/// Called from machine code with its environment, and a key of `count` words.
pub(super) unsafe extern "C" fn look_up(env: *mut Env, table: u64, key: *const u64, count: u64) -> u64 {
    // SAFETY: see `run`; the key lies on the stack of the code that calls.
    let (run, key) = unsafe { (run(env), std::slice::from_raw_parts(key, count as usize)) };
    let (hit, record) = run.core.look_up(table as u32, key, run.packet);
    let mut action = NO_ACTION;
    if let Some(record) = record
        && let Leads::Action(of) = record.leads()
    {
        action = of.into();
        let args = record.args();
        // SAFETY: see `run`; the reference to the run is not used any more.
        unsafe { ((*env).args, (*env).args_count) = (args.as_ptr(), args.len() as u64) };
    }
    action << 1 | u64::from(hit)
}

/// Runs an action with these arguments. Returns 1 if the control ends, else 0.
///
/// # Safety
/// Called from machine code with its environment.
pub(super) unsafe extern "C" fn run_action(env: *mut Env, action: u64, args: *const u64, count: u64) -> u64 {
    // SAFETY: see `run` and `arguments`.
    let (run, args) = unsafe { (run(env), arguments(args, count)) };
    run.core.action(action as u32, run.packet, args);
    run.core.scratch.wishes.exit.into()
}

/// Runs the action that the last look-up found. Returns 1 if the control ends, else 0.
///
/// # Safety
/// Called from machine code with its environment, after a look-up that found an action.
pub(super) unsafe extern "C" fn run_other(env: *mut Env, action: u64) -> u64 {
    // SAFETY: the environment holds what the look-up left there.
    unsafe { run_action(env, action, (*env).args, (*env).args_count) }
}

/// Runs an operation. Returns 1 if the control ends, else 0.
///
/// # Safety
/// Called from machine code with its environment and an operation of its program.
pub(super) unsafe extern "C" fn run_op(env: *mut Env, op: *const Op, args: *const u64, count: u64) -> u64 {
    // SAFETY: see `run` and `arguments`; operations are parts of the program.
    let (run, op, args) = unsafe { (run(env), &*op, arguments(args, count)) };
    run.core.op(op, run.packet, args);
    run.core.scratch.wishes.exit.into()
}

/// Computes an expression.
///
/// # Safety
/// Called from machine code with its environment and an expression of its program.
pub(super) unsafe extern "C" fn eval(env: *mut Env, e: *const Expr<u64>, args: *const u64, count: u64) -> u64 {
    // SAFETY: see `run` and `arguments`; expressions are parts of the program.
    let (run, e, args) = unsafe { (run(env), &*e, arguments(args, count)) };
    e.eval(&run.core.parts(args).context(&run.packet.words))
}

/// Evaluates an expression of two words: returns the low one, and leaves the high one in the environment.
///
/// # Safety
/// Called from machine code with its environment and an expression of its program.
pub(super) unsafe extern "C" fn eval_wide(env: *mut Env, e: *const Expr<u128>, args: *const u64, count: u64) -> u64 {
    // SAFETY: see `run` and `arguments`; expressions are parts of the program.
    let (run, e, args) = unsafe { (run(env), &*e, arguments(args, count)) };
    let value = e.eval(&run.core.parts(args).context(&run.packet.words));
    // SAFETY: see `run`; the reference to the run is not used any more.
    unsafe { (*env).high = (value >> 64) as u64 };
    value as u64
}

/// Computes a hash or checksum.
///
/// # Safety
/// Called from machine code with its environment.
pub(super) unsafe extern "C" fn calculate(env: *mut Env, calculation: u64, args: *const u64, count: u64) -> u64 {
    // SAFETY: see `run` and `arguments`.
    let (run, args) = unsafe { (run(env), arguments(args, count)) };
    run.core.calculate(calculation as u32, run.packet, args)
}

/// Runs a parser's operation at an octet of the frame. Returns the error, and leaves the position of the next octet in the
/// environment.
///
/// # Safety
/// Called from machine code with its environment and an operation of its program.
pub(super) unsafe extern "C" fn parser_op(env: *mut Env, op: *const ParserOp, at: u64) -> u64 {
    // SAFETY: see `run`; operations are parts of the program.
    let (run, op) = unsafe { (run(env), &*op) };
    let mut bit = at as usize * 8;
    let done = run.core.parser_op(op, run.packet, &mut bit);
    // SAFETY: see `run`; the reference to the run is not used any more.
    unsafe { (*env).at = bit as u64 / 8 };
    done.err().unwrap_or(FINE)
}

/// Returns where a state leads. A number above all states and the end means that it leads nowhere; then the error is in
/// the environment.
///
/// # Safety
/// Called from machine code with its environment and a state of its program.
pub(super) unsafe extern "C" fn transition(env: *mut Env, state: *const State, at: u64) -> u64 {
    // SAFETY: see `run`; states are parts of the program.
    let (run, state) = unsafe { (run(env), &*state) };
    match run.core.transition(state, run.packet, at as usize * 8) {
        Ok(next) => next.into(),
        Err(error) => {
            // SAFETY: see `run`; the reference to the run is not used any more.
            unsafe { (*env).error = error };
            u64::MAX
        }
    }
}

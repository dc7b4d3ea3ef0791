//! Expressions as machine code. What is rare, or needs more than words, is left to the interpreter.

use cranelift_codegen::ir::{InstBuilder as _, Type, Value, condcodes::IntCC, types};

use super::code::{Args, Code};
use super::{Env, Refused, callback};
use crate::expr::Expr;
use crate::word::Word;

/// A word that machine code computes in.
pub(super) trait Lane: Word {
    const TYPE: Type;

    fn constant(self, code: &mut Code<'_, '_>) -> Value;
    /// The words at a slot.
    fn load_at(code: &mut Code<'_, '_>, slot: u32) -> Result<Value, Refused>;
    /// The words of an argument.
    fn argument(code: &mut Code<'_, '_>, args: Args, at: u32) -> Value;
    /// An expression of the other width, in this one.
    fn cast(code: &mut Code<'_, '_>, e: &Expr<Self::Other>, signed: bool, args: Args) -> Result<Value, Refused>;
    /// Asks the interpreter.
    fn interpreted(code: &mut Code<'_, '_>, e: &Expr<Self>, args: Args) -> Value;
}

impl Lane for u64 {
    const TYPE: Type = types::I64;

    fn constant(self, code: &mut Code<'_, '_>) -> Value {
        code.constant(self)
    }

    fn load_at(code: &mut Code<'_, '_>, slot: u32) -> Result<Value, Refused> {
        code.load(slot)
    }

    fn argument(code: &mut Code<'_, '_>, args: Args, at: u32) -> Value {
        code.argument(args, at)
    }

    fn cast(code: &mut Code<'_, '_>, e: &Expr<u128>, _: bool, args: Args) -> Result<Value, Refused> {
        let value = code.expr(e, args)?;
        Ok(code.b.ins().ireduce(types::I64, value))
    }

    fn interpreted(code: &mut Code<'_, '_>, e: &Expr<Self>, args: Args) -> Value {
        code.call_with(callback::eval as *const (), std::ptr::from_ref(e) as usize, args)
    }
}

impl Lane for u128 {
    const TYPE: Type = types::I128;

    fn constant(self, code: &mut Code<'_, '_>) -> Value {
        let (low, high) = (code.constant(self as u64), code.constant((self >> 64) as u64));
        code.b.ins().iconcat(low, high)
    }

    fn load_at(code: &mut Code<'_, '_>, slot: u32) -> Result<Value, Refused> {
        let (high, low) = (code.load(slot)?, code.load(slot.saturating_add(1))?);
        Ok(code.b.ins().iconcat(low, high))
    }

    fn argument(code: &mut Code<'_, '_>, args: Args, at: u32) -> Value {
        let (high, low) = (code.argument(args, at), code.argument(args, at.saturating_add(1)));
        code.b.ins().iconcat(low, high)
    }

    fn cast(code: &mut Code<'_, '_>, e: &Expr<u64>, signed: bool, args: Args) -> Result<Value, Refused> {
        let value = code.expr(e, args)?;
        Ok(if signed {
            code.b.ins().sextend(types::I128, value)
        } else {
            code.b.ins().uextend(types::I128, value)
        })
    }

    fn interpreted(code: &mut Code<'_, '_>, e: &Expr<Self>, args: Args) -> Value {
        let low = code.call_with(callback::eval_wide as *const (), std::ptr::from_ref(e) as usize, args);
        let high = code.load_env(std::mem::offset_of!(Env, high));
        code.b.ins().iconcat(low, high)
    }
}

impl Code<'_, '_> {
    /// Calls a function that takes a part of the program and the arguments of an action.
    pub(super) fn call_with(&mut self, function: *const (), what: usize, args: Args) -> Value {
        let what = self.constant(what as u64);
        let (base, count) = match args.0 {
            Some((base, count)) => (base, self.constant(count.into())),
            None => (self.constant(0), self.constant(0)),
        };
        let env = self.env;
        self.call(function, &[env, what, base, count])
    }

    /// Whether an expression is not 0: a value that is 0 if it is.
    pub(super) fn holds(&mut self, e: &Expr<u64>, args: Args) -> Result<Value, Refused> {
        self.expr(e, args)
    }

    /// Computes an expression.
    pub(super) fn expr<W: Lane>(&mut self, e: &Expr<W>, args: Args) -> Result<Value, Refused> {
        let ty = W::TYPE;
        Ok(match e {
            Expr::Constant(w) => w.constant(self),
            Expr::Field(slot) => W::load_at(self, *slot)?,
            Expr::Signed(slot, short) => {
                let value = W::load_at(self, *slot)?;
                self.sign_extend(value, *short)
            }
            Expr::SignExtend(a, short) => {
                let value = self.expr(a, args)?;
                self.sign_extend(value, *short)
            }
            Expr::Argument(at) => W::argument(self, args, *at),
            Expr::Cast(a, signed) => W::cast(self, a, *signed, args)?,
            Expr::Not(a) => {
                let value = self.expr(a, args)?;
                let zero = W::default().constant(self);
                self.compared(IntCC::Equal, value, zero, ty)
            }
            Expr::Complement(a) => {
                let value = self.expr(a, args)?;
                self.b.ins().bnot(value)
            }
            Expr::Negate(a) => {
                let value = self.expr(a, args)?;
                self.b.ins().ineg(value)
            }
            Expr::Add(a, b) => {
                let (a, b) = self.both(a, b, args)?;
                self.b.ins().iadd(a, b)
            }
            Expr::Sub(a, b) => {
                let (a, b) = self.both(a, b, args)?;
                self.b.ins().isub(a, b)
            }
            Expr::Mul(a, b) => {
                let (a, b) = self.both(a, b, args)?;
                self.b.ins().imul(a, b)
            }
            Expr::BitAnd(a, b) => {
                let (a, b) = self.both(a, b, args)?;
                self.b.ins().band(a, b)
            }
            Expr::BitOr(a, b) => {
                let (a, b) = self.both(a, b, args)?;
                self.b.ins().bor(a, b)
            }
            Expr::BitXor(a, b) => {
                let (a, b) = self.both(a, b, args)?;
                self.b.ins().bxor(a, b)
            }
            Expr::BitAndWith(a, mask) => {
                let value = self.expr(a, args)?;
                let mask = mask.constant(self);
                self.b.ins().band(value, mask)
            }
            Expr::ShlBy(a, by) => {
                let value = self.expr(a, args)?;
                let by = self.constant((*by).into());
                self.b.ins().ishl(value, by)
            }
            Expr::ShrBy(a, by) => {
                let value = self.expr(a, args)?;
                let by = self.constant((*by).into());
                self.b.ins().ushr(value, by)
            }
            Expr::Shl(a, by) => {
                let (value, by) = (self.expr(a, args)?, self.expr(by, args)?);
                let shifted = self.b.ins().ishl(value, by);
                self.unless_beyond::<W>(by, shifted)
            }
            Expr::Shr(a, by, false) => {
                let (value, by) = (self.expr(a, args)?, self.expr(by, args)?);
                let shifted = self.b.ins().ushr(value, by);
                self.unless_beyond::<W>(by, shifted)
            }
            Expr::Shr(a, by, true) => {
                let (value, by) = (self.expr(a, args)?, self.expr(by, args)?);
                let most = self.constant((W::BITS - 1).into());
                let by = self.b.ins().umin(by, most);
                self.b.ins().sshr(value, by)
            }
            Expr::Eq(a, b) => {
                let (a, b) = self.both(a, b, args)?;
                self.compared(IntCC::Equal, a, b, ty)
            }
            Expr::Less(a, b, signed) => {
                let (a, b) = self.both(a, b, args)?;
                let how = if *signed {
                    IntCC::SignedLessThan
                } else {
                    IntCC::UnsignedLessThan
                };
                self.compared(how, a, b, ty)
            }
            Expr::FieldIs(slot, w) => {
                let (a, b) = (W::load_at(self, *slot)?, w.constant(self));
                self.compared(IntCC::Equal, a, b, ty)
            }
            Expr::FieldIsNot(slot, w) => {
                let (a, b) = (W::load_at(self, *slot)?, w.constant(self));
                self.compared(IntCC::NotEqual, a, b, ty)
            }
            // Nothing has side effects, so both sides may be computed.
            Expr::And(a, b) => {
                let (a, b) = (self.truth_of(a, args)?, self.truth_of(b, args)?);
                let both = self.b.ins().band(a, b);
                self.truth(both, ty)
            }
            Expr::Or(a, b) => {
                let (a, b) = (self.truth_of(a, args)?, self.truth_of(b, args)?);
                let either = self.b.ins().bor(a, b);
                self.truth(either, ty)
            }
            Expr::Choice(of) => {
                let holds = self.truth_of(&of.0, args)?;
                let (a, b) = self.both(&of.1, &of.2, args)?;
                self.b.ins().select(holds, a, b)
            }
            Expr::Any(slots) => {
                let mut any = self.constant(0);
                for slot in slots {
                    let word = self.load(*slot)?;
                    any = self.b.ins().bor(any, word);
                }
                let zero = self.constant(0);
                self.compared(IntCC::NotEqual, any, zero, ty)
            }
            Expr::Picked(..)
            | Expr::Register(..)
            | Expr::Div(..)
            | Expr::Mod(..)
            | Expr::Saturate(..)
            | Expr::HeadersEqual(..)
            | Expr::VariablesEqual(..)
            | Expr::Big(..) => W::interpreted(self, e, args),
        })
    }

    fn both<W: Lane>(&mut self, a: &Expr<W>, b: &Expr<W>, args: Args) -> Result<(Value, Value), Refused> {
        Ok((self.expr(a, args)?, self.expr(b, args)?))
    }

    fn truth_of<W: Lane>(&mut self, e: &Expr<W>, args: Args) -> Result<Value, Refused> {
        let value = self.expr(e, args)?;
        let zero = W::default().constant(self);
        Ok(self.compare(IntCC::NotEqual, value, zero))
    }

    /// 1 if the comparison holds, else 0; a constant if both sides are.
    fn compared(&mut self, how: IntCC, a: Value, b: Value, ty: Type) -> Value {
        if ty == types::I64
            && let (Some(x), Some(y)) = (self.as_constant(a), self.as_constant(b))
        {
            let holds = match how {
                IntCC::Equal => Some(x == y),
                IntCC::NotEqual => Some(x != y),
                IntCC::UnsignedLessThan => Some(x < y),
                _ => None,
            };
            if let Some(holds) = holds {
                return self.constant(holds.into());
            }
        }
        let holds = self.compare(how, a, b);
        self.truth(holds, ty)
    }

    fn sign_extend(&mut self, value: Value, short: u32) -> Value {
        let by = self.constant(short.into());
        let high = self.b.ins().ishl(value, by);
        self.b.ins().sshr(high, by)
    }

    /// A shifted value, or 0 if it was shifted by all its bits or more.
    fn unless_beyond<W: Lane>(&mut self, by: Value, shifted: Value) -> Value {
        let bits = self.constant(W::BITS.into());
        let inside = self.compare(IntCC::UnsignedLessThan, by, bits);
        let zero = W::default().constant(self);
        self.b.ins().select(inside, shifted, zero)
    }
}

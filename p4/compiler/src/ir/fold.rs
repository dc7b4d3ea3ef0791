//! Compile-time arithmetic (section "Operations on ..."): exact for `int`, wrapping or saturating for widths.

use super::ty::Type;
use crate::ast::{BinOp, UnOp};
use num_bigint::{BigInt, Sign};
use num_traits::{One, Signed, ToPrimitive, Zero};

/// Largest number of bits a folded `int` may have; beyond it, folding is refused.
pub const MAX_BITS: u64 = 65_536;

/// A constant that is an integer or a boolean.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Int(BigInt),
    Bool(bool),
}

/// `2^bits`.
pub fn power(bits: u32) -> BigInt {
    BigInt::one() << bits
}

/// Wraps a value into a type's range: modulo 2^w, two's complement for `int<w>`.
pub fn wrap(value: &BigInt, ty: &Type) -> BigInt {
    match ty {
        Type::Bit(w) => modulo(value, *w),
        Type::Int(0) => BigInt::zero(),
        Type::Int(w) => {
            let m = modulo(value, *w);
            if m >= power(*w - 1) { m - power(*w) } else { m }
        }
        _ => value.clone(),
    }
}

fn modulo(value: &BigInt, bits: u32) -> BigInt {
    let m = power(bits);
    let r = value % &m;
    if r.sign() == Sign::Minus { r + m } else { r }
}

/// Whether the value is in the type's range.
pub fn fits(value: &BigInt, ty: &Type) -> bool {
    wrap(value, ty) == *value
}

fn saturate(value: BigInt, ty: &Type) -> BigInt {
    let (lo, hi) = match ty {
        Type::Bit(w) => (BigInt::zero(), power(*w) - 1),
        Type::Int(w) if *w > 0 => (-power(*w - 1), power(*w - 1) - 1),
        _ => return value,
    };
    value.clamp(lo, hi)
}

/// Applies a binary operator to integers of type `ty` (the left operand's, for shifts).
pub fn binary(op: BinOp, a: &BigInt, b: &BigInt, ty: &Type) -> Result<Value, String> {
    let int = |v: BigInt| -> Result<Value, String> {
        if v.bits() > MAX_BITS {
            return Err("the value is too large".into());
        }
        Ok(Value::Int(wrap(&v, ty)))
    };
    match op {
        BinOp::Add => int(a + b),
        BinOp::Sub => int(a - b),
        BinOp::Mul if a.bits() + b.bits() > MAX_BITS => Err("the value is too large".into()),
        BinOp::Mul => int(a * b),
        BinOp::Div | BinOp::Mod if b.is_zero() => Err("division by zero".into()),
        BinOp::Div | BinOp::Mod if a.is_negative() || b.is_negative() => {
            Err("division of negative numbers is not defined".into())
        }
        BinOp::Div => int(a / b),
        BinOp::Mod => int(a % b),
        BinOp::SatAdd => Ok(Value::Int(saturate(a + b, ty))),
        BinOp::SatSub => Ok(Value::Int(saturate(a - b, ty))),
        BinOp::Shl | BinOp::Shr if b.is_negative() => Err("the shift amount is negative".into()),
        BinOp::Shl => {
            let n = b.to_u64().unwrap_or(u64::MAX);
            match ty {
                Type::Bit(w) | Type::Int(w) if n >= u64::from(*w) => Ok(Value::Int(BigInt::zero())),
                _ if a.is_zero() => Ok(Value::Int(BigInt::zero())),
                _ if n > MAX_BITS => Err("the shift amount is too large".into()),
                _ => int(a << n),
            }
        }
        BinOp::Shr => {
            let n = b.to_u64().unwrap_or(u64::MAX).min(MAX_BITS * 2);
            int(a >> n)
        }
        BinOp::And => int(a & b),
        BinOp::Or => int(a | b),
        BinOp::Xor => int(a ^ b),
        BinOp::Eq => Ok(Value::Bool(a == b)),
        BinOp::Ne => Ok(Value::Bool(a != b)),
        BinOp::Lt => Ok(Value::Bool(a < b)),
        BinOp::Le => Ok(Value::Bool(a <= b)),
        BinOp::Gt => Ok(Value::Bool(a > b)),
        BinOp::Ge => Ok(Value::Bool(a >= b)),
        BinOp::LogAnd | BinOp::LogOr | BinOp::Concat => Err("not an operation on numbers".into()),
    }
}

/// Applies a unary operator.
pub fn unary(op: UnOp, a: &BigInt, ty: &Type) -> BigInt {
    match op {
        UnOp::Neg => wrap(&-a, ty),
        UnOp::Complement => wrap(&!a, ty),
        UnOp::Plus | UnOp::Not => a.clone(),
    }
}

/// Bits `hi..=lo`.
pub fn slice(a: &BigInt, hi: u32, lo: u32) -> BigInt {
    modulo(&(a >> lo), hi.saturating_sub(lo) + 1)
}

/// `a ++ b`, where b has `width` bits; both are taken as bit patterns.
pub fn concat(a: &BigInt, b: &BigInt, width: u32) -> BigInt {
    (a << width) + modulo(b, width)
}

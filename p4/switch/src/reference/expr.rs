//! Expressions, compiled once to a tree of slots.
//!
//! BMv2 computes with numbers of any size and cuts when it assigns. Here numbers are 128
//! bits in two's complement, which gives the same low bits; what is signed is known when
//! the program is loaded, so that comparisons, right shifts and saturation see the sign.

use super::bits::mask;
use super::phv::Phv;

/// A number and whether its top bit is a sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Number {
    /// Two's complement.
    pub(crate) bits: u128,
    /// Whether to read it as signed.
    pub(crate) signed: bool,
}

impl Number {
    pub(crate) fn new(bits: u128) -> Self {
        Self { bits, signed: false }
    }

    fn is_negative(self) -> bool {
        self.signed && (self.bits as i128) < 0
    }

    fn cmp(self, other: Self) -> std::cmp::Ordering {
        match (self.is_negative(), other.is_negative()) {
            (false, false) => self.bits.cmp(&other.bits),
            (true, true) => (self.bits as i128).cmp(&(other.bits as i128)),
            (true, false) => std::cmp::Ordering::Less,
            (false, true) => std::cmp::Ordering::Greater,
        }
    }
}

/// An operator with two operands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Binary {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Shl,
    Shr,
    BitAnd,
    BitOr,
    BitXor,
    Eq,
    Ne,
    Lt,
    Gt,
    Le,
    Ge,
    And,
    Or,
    /// Cut to a width, read as two's complement of it.
    TwosComplement,
    /// Held inside the bounds of an unsigned width.
    SaturateUnsigned,
    /// Held inside the bounds of a signed width.
    SaturateSigned,
}

/// An expression.
#[derive(Debug, Clone)]
pub(crate) enum Expr {
    Constant(Number),
    Field(usize),
    /// A field in two's complement of that width.
    Signed(usize, u32),
    Valid(usize),
    /// A field of the last valid element of a stack: the slots of that field, by element.
    StackLast(usize, Vec<usize>),
    /// Elements in a stack.
    StackSize(usize),
    Argument(usize),
    /// A cell of a register array.
    Register(usize, Box<Expr>),
    Not(Box<Expr>),
    Complement(Box<Expr>),
    Negate(Box<Expr>),
    Binary(Binary, Box<Expr>, Box<Expr>),
    Choice(Box<Expr>, Box<Expr>, Box<Expr>),
    /// Whether two headers are equal: both invalid, or both valid with equal slots.
    HeadersEqual(usize, usize, Vec<(usize, usize)>),
    AnyValid(Vec<usize>),
}

/// Cells that expressions can read.
pub(crate) trait Registers {
    /// Value of a cell; 0 beyond the end.
    fn read(&self, register: usize, cell: u128) -> u128;
}

impl Expr {
    /// A constant.
    pub(crate) fn constant(bits: u128) -> Self {
        Self::Constant(Number::new(bits))
    }

    /// Computes it as a truth value.
    pub(crate) fn holds(&self, phv: &Phv, registers: &dyn Registers) -> bool {
        self.eval(phv, registers).bits != 0
    }

    /// Computes it.
    pub(crate) fn eval(&self, phv: &Phv, registers: &dyn Registers) -> Number {
        let truth = |b: bool| Number::new(b.into());
        match self {
            Self::Constant(n) => *n,
            Self::Field(slot) => Number::new(phv.get(*slot)),
            Self::Signed(slot, width) => sign(phv.get(*slot), *width),
            Self::Valid(header) => truth(phv.is_valid(*header)),
            Self::StackLast(stack, slots) => {
                let next = phv.stack_next.get(*stack).copied().unwrap_or(0);
                Number::new(
                    next.checked_sub(1)
                        .and_then(|i| slots.get(i))
                        .map_or(0, |s| phv.get(*s)),
                )
            }
            Self::StackSize(stack) => Number::new(phv.stack_next.get(*stack).copied().unwrap_or(0) as u128),
            Self::Argument(i) => Number::new(phv.args.get(*i).copied().unwrap_or(0)),
            Self::Register(r, cell) => Number::new(registers.read(*r, cell.eval(phv, registers).bits)),
            Self::Not(e) => truth(!e.holds(phv, registers)),
            Self::Complement(e) => Number {
                bits: !e.eval(phv, registers).bits,
                signed: true,
            },
            Self::Negate(e) => Number {
                bits: e.eval(phv, registers).bits.wrapping_neg(),
                signed: true,
            },
            Self::Binary(Binary::And, a, b) => truth(a.holds(phv, registers) && b.holds(phv, registers)),
            Self::Binary(Binary::Or, a, b) => truth(a.holds(phv, registers) || b.holds(phv, registers)),
            Self::Binary(op, a, b) => op.apply(a.eval(phv, registers), b.eval(phv, registers)),
            Self::Choice(c, a, b) => if c.holds(phv, registers) { a } else { b }.eval(phv, registers),
            Self::HeadersEqual(a, b, fields) => {
                let (va, vb) = (phv.is_valid(*a), phv.is_valid(*b));
                truth(va == vb && (!va || fields.iter().all(|(x, y)| phv.get(*x) == phv.get(*y))))
            }
            Self::AnyValid(headers) => truth(headers.iter().any(|h| phv.is_valid(*h))),
        }
    }
}

/// Reads the low `width` bits as two's complement.
pub(crate) fn sign(bits: u128, width: u32) -> Number {
    let bits = bits & mask(width);
    let negative = (1..128).contains(&width) && bits >> (width - 1) & 1 == 1;
    Number {
        bits: if negative { bits | !mask(width) } else { bits },
        signed: true,
    }
}

impl Binary {
    fn apply(self, a: Number, b: Number) -> Number {
        let truth = |b: bool| Number::new(b.into());
        let signed = a.signed || b.signed;
        let number = |bits| Number { bits, signed };
        let shift = u32::try_from(b.bits).unwrap_or(u32::MAX);
        match self {
            Self::Add => number(a.bits.wrapping_add(b.bits)),
            // The difference of numbers below 2^127 is right in two's complement.
            Self::Sub => {
                let small = signed || (a.bits | b.bits) >> 127 == 0;
                Number {
                    bits: a.bits.wrapping_sub(b.bits),
                    signed: small,
                }
            }
            Self::Mul => number(a.bits.wrapping_mul(b.bits)),
            Self::Div => number(a.bits.checked_div(b.bits).unwrap_or(0)),
            Self::Mod => number(a.bits.checked_rem(b.bits).unwrap_or(0)),
            Self::Shl => number(a.bits.checked_shl(shift).unwrap_or(0)),
            Self::Shr if a.is_negative() => number((a.bits as i128 >> shift.min(127)) as u128),
            Self::Shr => number(a.bits.checked_shr(shift).unwrap_or(0)),
            // Masking a negative number with a positive one gives a positive one.
            Self::BitAnd => Number {
                bits: a.bits & b.bits,
                signed: a.signed && b.signed,
            },
            Self::BitOr => number(a.bits | b.bits),
            Self::BitXor => number(a.bits ^ b.bits),
            Self::Eq => truth(a.cmp(b).is_eq()),
            Self::Ne => truth(a.cmp(b).is_ne()),
            Self::Lt => truth(a.cmp(b).is_lt()),
            Self::Gt => truth(a.cmp(b).is_gt()),
            Self::Le => truth(a.cmp(b).is_le()),
            Self::Ge => truth(a.cmp(b).is_ge()),
            Self::And => truth(a.bits != 0 && b.bits != 0),
            Self::Or => truth(a.bits != 0 || b.bits != 0),
            Self::TwosComplement => sign(a.bits, shift),
            Self::SaturateUnsigned if a.is_negative() => Number::new(0),
            Self::SaturateUnsigned => Number::new(a.bits.min(mask(shift))),
            Self::SaturateSigned => {
                let most = (mask(shift) >> 1) as i128;
                let value = if a.is_negative() || a.bits >> 127 == 0 {
                    a.bits as i128
                } else {
                    i128::MAX
                };
                Number {
                    bits: value.clamp(-most - 1, most) as u128,
                    signed: true,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_are_seen() {
        let (one, two) = (Number::new(1), Number::new(2));
        let minus_one = Binary::Sub.apply(one, two);
        assert_eq!(Binary::Lt.apply(minus_one, one).bits, 1);
        assert_eq!(Binary::SaturateUnsigned.apply(minus_one, Number::new(8)).bits, 0);
        assert_eq!(
            Binary::SaturateUnsigned.apply(Number::new(300), Number::new(8)).bits,
            255
        );
        assert_eq!(
            Binary::SaturateSigned.apply(sign(0x80, 8), Number::new(4)).bits as i128,
            -8
        );
        assert_eq!(Binary::Shr.apply(sign(0x80, 8), one).bits as i128, -64);
        assert_eq!(Binary::BitAnd.apply(minus_one, Number::new(0xff)), Number::new(0xff));
        let big = Number::new(u128::MAX);
        assert_eq!(
            Binary::Gt.apply(big, one).bits,
            1,
            "a full 128-bit number is not negative"
        );
    }
}

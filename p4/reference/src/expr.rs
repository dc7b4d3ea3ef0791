//! Expressions as trees. Numbers have any size, as in bmv2: results are cut to a width only when they are assigned, and
//! where the document says so.

use num_bigint::{BigInt, BigUint, Sign};
use num_traits::{ToPrimitive, Zero};

use crate::bits::{cut, ones};
use crate::phv::{Field, Header, Phv};

/// Largest shift, in bits: a larger one leaves nothing of any field.
const MAX_SHIFT: u32 = 1 << 17;

/// What expressions can read besides the packet.
pub(crate) trait World {
    /// The program's headers.
    fn headers(&self) -> &[Header];
    /// Value of a register cell; 0 beyond the end.
    fn register(&self, array: usize, cell: &BigInt) -> BigUint;
}

/// A header; its index in a stack may be computed.
#[derive(Debug, Clone)]
pub(crate) enum HeaderRef {
    One(usize),
    /// An element of a stack: the elements, and which.
    At(Vec<usize>, Box<Expr>),
}

/// A field of a header.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    Field(Field),
    /// A header and the number of a field in it.
    Of(HeaderRef, usize),
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
    /// Cut to a width and then read as a two's complement number of that width.
    TwosComplement,
    /// Saturated to the range of an unsigned number of a width.
    SaturateUnsigned,
    /// Saturated to the range of a signed number of a width.
    SaturateSigned,
}

/// An expression.
#[derive(Debug, Clone)]
pub(crate) enum Expr {
    Constant(BigInt),
    Load(Place),
    Valid(HeaderRef),
    /// Number of elements of a stack that are in use.
    StackSize(usize),
    Argument(usize),
    /// A cell of a register array.
    Register(usize, Box<Expr>),
    Not(Box<Expr>),
    Complement(Box<Expr>),
    Negate(Box<Expr>),
    Binary(Binary, Box<Expr>, Box<Expr>),
    Choice(Box<Expr>, Box<Expr>, Box<Expr>),
    /// Whether headers are equal, pair by pair: both invalid, or both valid with equal fields.
    HeadersEqual(Vec<(HeaderRef, HeaderRef)>),
    AnyValid(Vec<HeaderRef>),
    /// Whether two variable-length fields hold the same octets.
    OctetsEqual(Place, Place),
}

impl HeaderRef {
    /// The header at the current index; none if the index is beyond the stack.
    pub(crate) fn find(&self, phv: &Phv, world: &dyn World) -> Option<usize> {
        match self {
            Self::One(header) => Some(*header),
            Self::At(elements, index) => elements.get(index.eval(phv, world).to_usize()?).copied(),
        }
    }

    fn is_valid(&self, phv: &Phv, world: &dyn World) -> bool {
        self.find(phv, world).is_some_and(|h| phv.is_valid(h))
    }
}

impl Place {
    /// The field at the current index; none if the index is beyond the stack.
    pub(crate) fn find<'a>(&'a self, phv: &Phv, world: &'a dyn World) -> Option<&'a Field> {
        match self {
            Self::Field(field) => Some(field),
            Self::Of(header, offset) => world.headers().get(header.find(phv, world)?)?.fields.get(*offset),
        }
    }
}

/// A field's number, with its sign.
fn load(field: &Field, phv: &Phv) -> BigInt {
    let bits = phv.get(field.slot).into();
    if field.signed { sign(&bits, field.width) } else { bits }
}

impl Expr {
    /// A constant.
    pub(crate) fn constant(value: impl Into<BigInt>) -> Self {
        Self::Constant(value.into())
    }

    /// Computes the expression as a truth value.
    pub(crate) fn holds(&self, phv: &Phv, world: &dyn World) -> bool {
        match self {
            Self::Valid(header) => header.is_valid(phv, world),
            Self::AnyValid(headers) => headers.iter().any(|h| h.is_valid(phv, world)),
            Self::Not(e) => !e.holds(phv, world),
            Self::Binary(Binary::And, a, b) => a.holds(phv, world) && b.holds(phv, world),
            Self::Binary(Binary::Or, a, b) => a.holds(phv, world) || b.holds(phv, world),
            Self::Binary(op, a, b) if op.compares() => op.holds(&a.eval(phv, world), &b.eval(phv, world)),
            Self::OctetsEqual(a, b) => {
                let octets = |p: &Place| p.find(phv, world).and_then(|f| f.variable).map(|v| phv.octets(v));
                octets(a) == octets(b)
            }
            Self::HeadersEqual(pairs) => pairs.iter().all(|(a, b)| equal(a, b, phv, world)),
            other => !other.eval(phv, world).is_zero(),
        }
    }

    /// Computes the expression.
    pub(crate) fn eval(&self, phv: &Phv, world: &dyn World) -> BigInt {
        match self {
            Self::Constant(n) => n.clone(),
            Self::Load(place) => place.find(phv, world).map_or(BigInt::ZERO, |f| load(f, phv)),
            Self::StackSize(stack) => phv.stack_next.get(*stack).copied().unwrap_or(0).into(),
            Self::Argument(i) => phv.args.get(*i).cloned().unwrap_or_default().into(),
            Self::Register(array, cell) => world.register(*array, &cell.eval(phv, world)).into(),
            Self::Complement(e) => !e.eval(phv, world),
            Self::Negate(e) => -e.eval(phv, world),
            Self::Choice(c, a, b) => if c.holds(phv, world) { a } else { b }.eval(phv, world),
            Self::Binary(op, a, b) if !op.is_truth() => op.apply(a.eval(phv, world), b.eval(phv, world)),
            truth => u8::from(truth.holds(phv, world)).into(),
        }
    }

    /// Computes the low `width` bits of the expression.
    pub(crate) fn bits(&self, width: u32, phv: &Phv, world: &dyn World) -> BigUint {
        cut(&self.eval(phv, world), width)
    }
}

/// Whether two headers are equal: both invalid, or both valid with equal fields.
fn equal(a: &HeaderRef, b: &HeaderRef, phv: &Phv, world: &dyn World) -> bool {
    let valid = a.is_valid(phv, world);
    if valid != b.is_valid(phv, world) || !valid {
        return !valid && !b.is_valid(phv, world);
    }
    let fields = |h: &HeaderRef| {
        h.find(phv, world)
            .and_then(|h| world.headers().get(h))
            .map(|h| h.fields.as_slice())
    };
    let (Some(a), Some(b)) = (fields(a), fields(b)) else {
        return false;
    };
    a.iter().zip(b).all(|(x, y)| match (x.variable, y.variable) {
        (Some(x), Some(y)) => phv.octets(x) == phv.octets(y),
        _ => phv.get(x.slot) == phv.get(y.slot),
    })
}

/// Reads the low `width` bits as two's complement.
pub(crate) fn sign(value: &BigInt, width: u32) -> BigInt {
    let bits = BigInt::from(cut(value, width));
    match width.checked_sub(1) {
        Some(top) if bits.bit(top.into()) => bits - (BigInt::from(1) << width),
        _ => bits,
    }
}

impl Binary {
    fn compares(self) -> bool {
        matches!(self, Self::Eq | Self::Ne | Self::Lt | Self::Gt | Self::Le | Self::Ge)
    }

    fn is_truth(self) -> bool {
        self.compares() || matches!(self, Self::And | Self::Or)
    }

    fn holds(self, a: &BigInt, b: &BigInt) -> bool {
        match self {
            Self::Eq => a == b,
            Self::Ne => a != b,
            Self::Lt => a < b,
            Self::Gt => a > b,
            Self::Le => a <= b,
            _ => a >= b,
        }
    }

    fn apply(self, a: BigInt, b: BigInt) -> BigInt {
        // The right operand as a number of bits, for shifts and widths. A negative or too large number shifts
        // everything out.
        let bits = b.to_u32().filter(|n| *n <= MAX_SHIFT);
        match self {
            Self::Add => a + b,
            Self::Sub => a - b,
            Self::Mul => a * b,
            Self::Div => a.checked_div(&b).unwrap_or_default(),
            Self::Mod if b.is_zero() => BigInt::ZERO,
            Self::Mod => a % b,
            Self::Shl => bits.map_or(BigInt::ZERO, |n| a << n),
            Self::Shr => match bits {
                Some(n) => a >> n,
                None if a.sign() == Sign::Minus => BigInt::from(-1),
                None => BigInt::ZERO,
            },
            Self::BitAnd => a & b,
            Self::BitOr => a | b,
            Self::BitXor => a ^ b,
            Self::TwosComplement => sign(&a, bits.unwrap_or(0)),
            Self::SaturateUnsigned => a.clamp(BigInt::ZERO, ones(bits.unwrap_or(0)).into()),
            Self::SaturateSigned => {
                let half = BigInt::from(1) << bits.unwrap_or(1).saturating_sub(1);
                a.clamp(-half.clone(), half - 1)
            }
            truth => u8::from(match truth {
                Self::And => !a.is_zero() && !b.is_zero(),
                Self::Or => !a.is_zero() || !b.is_zero(),
                other => other.holds(&a, &b),
            })
            .into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apply(op: Binary, a: i64, b: i64) -> i64 {
        op.apply(a.into(), b.into()).to_i64().unwrap()
    }

    #[test]
    fn signs_are_seen() {
        assert_eq!(apply(Binary::Lt, -1, 1), 1);
        assert_eq!(apply(Binary::SaturateUnsigned, -1, 8), 0);
        assert_eq!(apply(Binary::SaturateUnsigned, 300, 8), 255);
        assert_eq!(apply(Binary::SaturateSigned, -128, 4), -8);
        assert_eq!(apply(Binary::SaturateSigned, 100, 4), 7);
        assert_eq!(apply(Binary::Shr, -128, 1), -64);
        assert_eq!(apply(Binary::BitAnd, -1, 0xff), 0xff);
        assert_eq!(apply(Binary::TwosComplement, 0x180, 8), -128);
    }

    #[test]
    fn what_has_no_result_is_zero() {
        assert_eq!(apply(Binary::Div, 1, 0), 0);
        assert_eq!(apply(Binary::Mod, 1, 0), 0);
        assert_eq!(apply(Binary::Shl, 1, i64::MAX), 0);
        assert_eq!(apply(Binary::Shr, -1, i64::MAX), -1);
    }
}

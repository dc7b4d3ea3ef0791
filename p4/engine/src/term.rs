//! Expressions as the program writes them, in numbers of any size. Lowering works on them, and values that do not fit
//! machine words are computed with them, slowly.

use num_bigint::{BigInt, Sign};

use crate::expr::Context;
use crate::pick::Pick;
use crate::word::{top_bits, words_of};

/// A field in the arena.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// Its first word, which is the most significant.
    pub(crate) slot: u32,
    /// Its bits.
    pub(crate) width: u32,
    /// Whether it is in two's complement.
    pub(crate) signed: bool,
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
    Le,
    And,
    Or,
}

/// An expression.
#[derive(Debug, Clone)]
pub(crate) enum Term {
    Constant(BigInt),
    Field(Place),
    /// A field of one of a stack's elements: its bits, whether it is in two's complement.
    Picked(Pick, u32, bool),
    /// An argument of the action: its first word, its bits.
    Argument(u32, u32),
    /// A register's cell: array, bits, index.
    Register(u32, u32, Box<Term>),
    Not(Box<Term>),
    Complement(Box<Term>),
    Negate(Box<Term>),
    Binary(Binary, Box<Term>, Box<Term>),
    Choice(Box<Term>, Box<Term>, Box<Term>),
    /// Cut to this many bits, read in two's complement.
    TwosComplement(Box<Term>, u32),
    /// Saturated to this many bits, signed or not.
    Saturate(Box<Term>, u32, bool),
    /// Whether headers are equal pair by pair: their first slots, their words.
    HeadersEqual(Box<[(Pick, Pick, u32)]>),
    /// Whether two variable-length fields are equal: their first slots, their words.
    VariablesEqual(Box<(Pick, Pick, u32)>),
    /// Whether one of these words is not 0.
    Any(Box<[u32]>),
}

/// What values an expression can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Range {
    /// Bits, the sign included.
    pub(crate) bits: u32,
    /// Whether it can be negative.
    pub(crate) signed: bool,
}

impl Range {
    const TRUTH: Self = Self::unsigned(1);

    pub(crate) const fn unsigned(bits: u32) -> Self {
        Self { bits, signed: false }
    }

    const fn signed(bits: u32) -> Self {
        Self { bits, signed: true }
    }

    /// Bits that it takes in two's complement.
    pub(crate) fn signed_bits(self) -> u32 {
        self.bits.saturating_add((!self.signed).into())
    }

    fn join(self, other: Self) -> Self {
        if self.signed || other.signed {
            Self::signed(self.signed_bits().max(other.signed_bits()))
        } else {
            Self::unsigned(self.bits.max(other.bits))
        }
    }
}

impl Term {
    /// A constant.
    pub(crate) fn constant(value: impl Into<BigInt>) -> Self {
        Self::Constant(value.into())
    }

    /// The value, where it is known.
    pub(crate) fn known(&self) -> Option<&BigInt> {
        match self {
            Self::Constant(value) => Some(value),
            _ => None,
        }
    }

    /// The value, where it is known and small.
    pub(crate) fn known_u32(&self) -> Option<u32> {
        u32::try_from(self.known()?).ok()
    }

    /// What values it can have.
    pub(crate) fn range(&self) -> Range {
        match self {
            Self::Constant(c) if c.sign() == Sign::Minus => Range::signed(c.bits() as u32 + 1),
            Self::Constant(c) => Range::unsigned(c.bits() as u32),
            Self::Field(p) if p.signed => Range::signed(p.width),
            Self::Picked(_, width, signed) => Range {
                bits: *width,
                signed: *signed,
            },
            Self::Field(Place { width, .. }) | Self::Argument(_, width) | Self::Register(_, width, _) => {
                Range::unsigned(*width)
            }
            Self::Not(_) | Self::HeadersEqual(..) | Self::VariablesEqual(..) | Self::Any(_) => Range::TRUTH,
            Self::Complement(a) => Range::signed(a.range().signed_bits()),
            Self::Negate(a) => Range::signed(a.range().signed_bits().saturating_add(1)),
            Self::Choice(_, a, b) => a.range().join(b.range()),
            Self::TwosComplement(_, width) => Range::signed(*width),
            Self::Saturate(_, width, signed) => Range {
                bits: *width,
                signed: *signed,
            },
            Self::Binary(op, a, b) => op.range(a, b),
        }
    }

    /// A binary operator, computed now where both operands are known.
    pub(crate) fn binary(op: Binary, a: Term, b: Term) -> Self {
        if let (Some(x), Some(y)) = (a.known(), b.known())
            && let Some(value) = op.apply(x, y)
        {
            return Self::Constant(value);
        }
        if op == Binary::BitAnd {
            for (x, m) in [(&a, &b), (&b, &a)] {
                let (Some(mask), range) = (m.known(), x.range()) else {
                    continue;
                };
                let bits = mask.bits() as u32;
                let full = mask.sign() == Sign::Plus && mask.magnitude().count_ones() == u64::from(bits);
                // The mask clears nothing that the value can have.
                if full && !range.signed && range.bits <= bits {
                    return x.clone();
                }
            }
        }
        Self::Binary(op, Box::new(a), Box::new(b))
    }

    /// Computes it in numbers of any size.
    pub(crate) fn eval(&self, c: &Context<'_>) -> BigInt {
        let truth = |b: bool| BigInt::from(u8::from(b));
        let holds = |t: &Term| t.eval(c).sign() != Sign::NoSign;
        match self {
            Self::Constant(value) => value.clone(),
            Self::Field(p) => {
                let value = load(c.words, p.slot, p.width);
                if p.signed {
                    twos_complement(value, p.width)
                } else {
                    value
                }
            }
            Self::Picked(at, width, signed) => {
                let value = at.find(c).map_or(BigInt::ZERO, |slot| load(c.words, slot, *width));
                if *signed { twos_complement(value, *width) } else { value }
            }
            Self::Argument(at, width) => load(c.args, *at, *width),
            Self::Register(array, _, index) => {
                let index = usize::try_from(index.eval(c)).unwrap_or(usize::MAX);
                c.registers.read(*array, index)
            }
            Self::Not(a) => truth(!holds(a)),
            Self::Complement(a) => !a.eval(c),
            Self::Negate(a) => -a.eval(c),
            Self::Binary(Binary::And, a, b) => truth(holds(a) && holds(b)),
            Self::Binary(Binary::Or, a, b) => truth(holds(a) || holds(b)),
            Self::Binary(op, a, b) => op.apply(&a.eval(c), &b.eval(c)).unwrap_or_default(),
            Self::Choice(condition, a, b) => if holds(condition) { a } else { b }.eval(c),
            Self::TwosComplement(a, width) => twos_complement(a.eval(c), *width),
            Self::Saturate(a, width, signed) => {
                let one = BigInt::from(1);
                let (low, high) = if *signed {
                    let half = &one << width.saturating_sub(1);
                    (-&half, half - one)
                } else {
                    (BigInt::ZERO, (&one << *width) - one)
                };
                a.eval(c).clamp(low, high)
            }
            Self::HeadersEqual(pairs) => truth(headers_equal(c, pairs)),
            Self::VariablesEqual(of) => truth(variables_equal(c, of)),
            Self::Any(slots) => truth(slots.iter().any(|s| c.words[*s as usize] != 0)),
        }
    }
}

/// Whether headers of a type are both not valid, or equal, pair by pair.
pub(crate) fn headers_equal(c: &Context<'_>, pairs: &[(Pick, Pick, u32)]) -> bool {
    pairs.iter().all(|(a, b, count)| {
        let valid = |of: &Pick| of.words(c, *count).filter(|words| words.first() != Some(&0));
        valid(a) == valid(b)
    })
}

/// Whether two variable-length fields have the same length and octets.
pub(crate) fn variables_equal(c: &Context<'_>, (a, b, count): &(Pick, Pick, u32)) -> bool {
    a.words(c, *count) == b.words(c, *count)
}

/// Largest shift that is carried out. A larger one moves all bits beyond every field.
const MAX_SHIFT: u32 = 1 << 16;

impl Binary {
    /// The result; none if it would be too large to build.
    fn apply(self, a: &BigInt, b: &BigInt) -> Option<BigInt> {
        let truth = |b: bool| BigInt::from(u8::from(b));
        let zero = |x: &BigInt| x.sign() == Sign::NoSign;
        let shift = || u32::try_from(b).ok().filter(|s| *s <= MAX_SHIFT);
        Some(match self {
            Self::Add => a + b,
            Self::Sub => a - b,
            Self::Mul => a * b,
            Self::Div | Self::Mod if zero(b) => BigInt::ZERO,
            Self::Div => a / b,
            Self::Mod => a % b,
            Self::Shl => a << shift()?,
            Self::Shr => match shift() {
                Some(by) => a >> by,
                None if a.sign() == Sign::Minus => BigInt::from(-1),
                None => BigInt::ZERO,
            },
            Self::BitAnd => a & b,
            Self::BitOr => a | b,
            Self::BitXor => a ^ b,
            Self::Eq => truth(a == b),
            Self::Ne => truth(a != b),
            Self::Lt => truth(a < b),
            Self::Le => truth(a <= b),
            Self::And => truth(!zero(a) && !zero(b)),
            Self::Or => truth(!zero(a) || !zero(b)),
        })
    }

    fn range(self, a: &Term, b: &Term) -> Range {
        let (x, y) = (a.range(), b.range());
        let signed = x.signed || y.signed;
        let wider = |n: u32| {
            if signed {
                Range::signed(x.signed_bits().max(y.signed_bits()).saturating_add(n))
            } else {
                Range::unsigned(x.bits.max(y.bits).saturating_add(n))
            }
        };
        match self {
            Self::Add => wider(1),
            Self::Sub => Range::signed(x.signed_bits().max(y.signed_bits()).saturating_add(1)),
            Self::Mul if signed => Range::signed(x.signed_bits().saturating_add(y.signed_bits())),
            Self::Mul => Range::unsigned(x.bits.saturating_add(y.bits)),
            Self::Div if signed => Range::signed(x.signed_bits().saturating_add(1)),
            Self::Div | Self::Mod => x,
            Self::Shl => {
                let most = match b.known_u32() {
                    Some(by) => by,
                    None if y.signed || y.bits > 16 => u32::MAX,
                    None => (1 << y.bits) - 1,
                };
                Range {
                    bits: x.bits.saturating_add(most),
                    ..x
                }
            }
            Self::Shr => match b.known_u32() {
                Some(by) => Range {
                    bits: x.bits.saturating_sub(by).max(x.signed.into()),
                    ..x
                },
                None => x,
            },
            Self::BitAnd => match (x.signed, y.signed) {
                (false, false) => Range::unsigned(x.bits.min(y.bits)),
                (false, true) => x,
                (true, false) => y,
                (true, true) => wider(0),
            },
            Self::BitOr | Self::BitXor => wider(0),
            Self::Eq | Self::Ne | Self::Lt | Self::Le | Self::And | Self::Or => Range::TRUTH,
        }
    }
}

fn twos_complement(value: BigInt, width: u32) -> BigInt {
    let modulus = BigInt::from(1) << width;
    let low = ((value % &modulus) + &modulus) % &modulus;
    if width > 0 && low.bit(u64::from(width - 1)) {
        low - modulus
    } else {
        low
    }
}

/// The number that a field holds.
pub(crate) fn load(words: &[u64], slot: u32, width: u32) -> BigInt {
    let of = words.get(slot as usize..(slot + words_of(width)) as usize);
    of.unwrap_or_default()
        .iter()
        .fold(BigInt::ZERO, |v, w| (v << 64u32) | BigInt::from(*w))
}

/// Writes a number to a field, cut to its width.
pub(crate) fn store(words: &mut [u64], slot: u32, width: u32, value: &BigInt) {
    let n = words_of(width) as usize;
    let Some(out) = words.get_mut(slot as usize..slot as usize + n) else {
        return;
    };
    // In two's complement, -x is the complement of x - 1.
    let negative = value.sign() == Sign::Minus;
    let magnitude = if negative { -value - 1 } else { value.clone() };
    let mut digits = magnitude.iter_u64_digits();
    for word in out.iter_mut().rev() {
        let digit = digits.next().unwrap_or(0);
        *word = if negative { !digit } else { digit };
    }
    if let Some(top) = out.first_mut() {
        *top &= super::word::mask64(top_bits(width));
    }
}

//! Expressions as packets run them: trees over machine words, made once from [`Term`]s.
//!
//! BMv2 computes with numbers of any size and cuts them when it assigns. Additions, multiplications, left shifts and
//! masks are right modulo the width of the word in which they are computed. Comparisons, divisions and right shifts
//! need exact operands: they are computed in 64 bits if the values fit, else in 128, else in numbers of any size (the
//! only case that allocates).

use num_bigint::{BigInt, Sign};

use crate::pick::Pick;
use crate::term::{Binary, Place, Range, Term, headers_equal, variables_equal};
use crate::word::{Word, words_of};

/// Registers, as expressions read them.
pub(crate) trait Registers {
    /// A cell's value; 0 beyond the end.
    fn read(&self, array: u32, index: usize) -> BigInt;
    /// The low 64 bits of it.
    fn read_low(&self, array: u32, index: usize) -> u64;
}

/// The data that an expression can read.
#[derive(Clone, Copy)]
pub(crate) struct Context<'a> {
    /// The packet's arena.
    pub(crate) words: &'a [u64],
    /// Arguments of the action that runs.
    pub(crate) args: &'a [u64],
    /// Registers.
    pub(crate) registers: &'a dyn Registers,
}

/// An expression over words of one size.
#[derive(Debug, Clone)]
pub(crate) enum Expr<W: Word> {
    Constant(W),
    /// As many words as `W` has.
    Field(u32),
    /// A field, sign-extended: it is this many bits shorter than the word.
    Signed(u32, u32),
    Argument(u32),
    /// A field of one of a stack's elements, and its bits.
    Picked(Pick, u32),
    Register(u32, Box<Expr<u64>>),
    /// From the other word size, with sign or without.
    Cast(Box<Expr<W::Other>>, bool),
    Not(Box<Self>),
    Complement(Box<Self>),
    Negate(Box<Self>),
    Add(Box<Self>, Box<Self>),
    Sub(Box<Self>, Box<Self>),
    Mul(Box<Self>, Box<Self>),
    Div(Box<Self>, Box<Self>, bool),
    Mod(Box<Self>, Box<Self>, bool),
    Shl(Box<Self>, Box<Expr<u64>>),
    Shr(Box<Self>, Box<Expr<u64>>, bool),
    BitAnd(Box<Self>, Box<Self>),
    BitOr(Box<Self>, Box<Self>),
    BitXor(Box<Self>, Box<Self>),
    ShlBy(Box<Self>, u8),
    ShrBy(Box<Self>, u8),
    BitAndWith(Box<Self>, W),
    Eq(Box<Self>, Box<Self>),
    Less(Box<Self>, Box<Self>, bool),
    And(Box<Self>, Box<Self>),
    Or(Box<Self>, Box<Self>),
    /// A field against a constant.
    FieldIs(u32, W),
    FieldIsNot(u32, W),
    Choice(Box<(Self, Self, Self)>),
    SignExtend(Box<Self>, u32),
    /// Operand, bits, whether the operand and the result are signed.
    Saturate(Box<Self>, u32, bool, bool),
    HeadersEqual(Box<[(Pick, Pick, u32)]>),
    VariablesEqual(Box<(Pick, Pick, u32)>),
    Any(Box<[u32]>),
    Big(Box<Term>),
}

impl<W: Word> Expr<W> {
    /// Whether it is not 0.
    #[inline]
    pub(crate) fn holds(&self, c: &Context<'_>) -> bool {
        self.eval(c) != W::default()
    }

    /// Computes it.
    pub(crate) fn eval(&self, c: &Context<'_>) -> W {
        let truth = |b: bool| W::from_u64(b.into());
        match self {
            Self::Constant(w) => *w,
            Self::Field(slot) => W::load(c.words, *slot),
            Self::Signed(slot, short) => W::load(c.words, *slot).shl((*short).into()).sar((*short).into()),
            Self::Argument(at) => W::load(c.args, *at),
            Self::Picked(at, width) => match at.find(c) {
                Some(slot) => low_words::<W>(c.words, slot, *width),
                None => W::default(),
            },
            Self::Register(array, index) => {
                let index = usize::try_from(index.eval(c)).unwrap_or(usize::MAX);
                W::from_u64(c.registers.read_low(*array, index))
            }
            Self::Cast(e, signed) => W::convert(e.eval(c), *signed),
            Self::Not(e) => truth(!e.holds(c)),
            Self::Complement(e) => e.eval(c).not(),
            Self::Negate(e) => W::default().sub(e.eval(c)),
            Self::Add(a, b) => a.eval(c).add(b.eval(c)),
            Self::Sub(a, b) => a.eval(c).sub(b.eval(c)),
            Self::Mul(a, b) => a.eval(c).mul(b.eval(c)),
            Self::Div(a, b, false) => a.eval(c).div(b.eval(c)),
            Self::Div(a, b, true) => a.eval(c).div_signed(b.eval(c)),
            Self::Mod(a, b, false) => a.eval(c).rem(b.eval(c)),
            Self::Mod(a, b, true) => a.eval(c).rem_signed(b.eval(c)),
            Self::Shl(a, by) => a.eval(c).shl(by.eval(c)),
            Self::Shr(a, by, false) => a.eval(c).shr(by.eval(c)),
            Self::Shr(a, by, true) => a.eval(c).sar(by.eval(c)),
            Self::BitAnd(a, b) => a.eval(c).and(b.eval(c)),
            Self::BitOr(a, b) => a.eval(c).or(b.eval(c)),
            Self::BitXor(a, b) => a.eval(c).xor(b.eval(c)),
            Self::ShlBy(a, by) => a.eval(c).shl((*by).into()),
            Self::ShrBy(a, by) => a.eval(c).shr((*by).into()),
            Self::BitAndWith(a, mask) => a.eval(c).and(*mask),
            Self::Eq(a, b) => truth(a.eval(c) == b.eval(c)),
            Self::Less(a, b, false) => truth(a.eval(c) < b.eval(c)),
            Self::Less(a, b, true) => truth(a.eval(c).less_signed(b.eval(c))),
            Self::And(a, b) => truth(a.holds(c) && b.holds(c)),
            Self::Or(a, b) => truth(a.holds(c) || b.holds(c)),
            Self::FieldIs(slot, w) => truth(W::load(c.words, *slot) == *w),
            Self::FieldIsNot(slot, w) => truth(W::load(c.words, *slot) != *w),
            Self::Choice(of) => if of.0.holds(c) { &of.1 } else { &of.2 }.eval(c),
            Self::SignExtend(e, short) => e.eval(c).shl((*short).into()).sar((*short).into()),
            Self::Saturate(e, bits, from_signed, to_signed) => saturate(e.eval(c), *bits, *from_signed, *to_signed),
            Self::HeadersEqual(pairs) => truth(headers_equal(c, pairs)),
            Self::VariablesEqual(of) => truth(variables_equal(c, of)),
            Self::Any(slots) => truth(slots.iter().any(|s| c.words[*s as usize] != 0)),
            Self::Big(term) => from_big(&term.eval(c)),
        }
    }
}

fn saturate<W: Word>(value: W, bits: u32, from_signed: bool, to_signed: bool) -> W {
    let high = W::mask(if to_signed { bits.saturating_sub(1) } else { bits });
    let low = if to_signed { high.not() } else { W::default() };
    if from_signed && value.less_signed(W::default()) {
        if value.less_signed(low) {
            low
        } else if to_signed {
            value
        } else {
            low
        }
    } else {
        value.min(high)
    }
}

/// The low bits of a number.
fn from_big<W: Word>(value: &BigInt) -> W {
    W::from_digits(value.iter_u64_digits(), value.sign() == Sign::Minus)
}

/// The low words of a field of any width.
fn low_words<W: Word>(words: &[u64], slot: u32, width: u32) -> W {
    let n = words_of(width);
    if n >= W::BITS / 64 {
        W::load(words, slot + n - W::BITS / 64)
    } else {
        W::from_u64(words.get(slot as usize).copied().unwrap_or(0))
    }
}

/// Lowers an expression. The result is right modulo the word's width, and exact if the values fit.
pub(crate) fn lower<W: Lowering>(term: &Term) -> Expr<W> {
    let constant = |c: &BigInt| Expr::Constant(from_big(c));
    let boxed = |t: &Term| Box::new(lower::<W>(t));
    let fits = |r: Range| r.bits <= W::BITS;
    match term {
        Term::Constant(c) => constant(c),
        Term::Field(place) => field(*place),
        Term::Picked(at, width, true) if (1..W::BITS).contains(width) => {
            let picked = Expr::Picked(at.clone(), *width);
            Expr::SignExtend(Box::new(picked), W::BITS - width)
        }
        Term::Picked(at, width, _) => Expr::Picked(at.clone(), *width),
        Term::Argument(at, width) => argument(*at, *width),
        Term::Register(array, width, index) if *width <= 64 => Expr::Register(*array, Box::new(lower(index))),
        Term::Register(..) => Expr::Big(Box::new(term.clone())),
        Term::Not(a) => match lower::<W>(a) {
            Expr::FieldIs(slot, w) => Expr::FieldIsNot(slot, w),
            Expr::FieldIsNot(slot, w) => Expr::FieldIs(slot, w),
            e if exact::<W>(a) => Expr::Not(Box::new(e)),
            _ => W::wider(term),
        },
        Term::Complement(a) => Expr::Complement(boxed(a)),
        Term::Negate(a) => Expr::Negate(boxed(a)),
        Term::Choice(condition, a, b) if exact::<W>(condition) => {
            Expr::Choice(Box::new((lower(condition), lower(a), lower(b))))
        }
        Term::TwosComplement(a, width) if *width <= W::BITS => Expr::SignExtend(boxed(a), W::BITS - width),
        Term::Saturate(a, width, signed) if exact::<W>(a) && *width <= W::BITS => {
            Expr::Saturate(boxed(a), *width, a.range().signed, *signed)
        }
        Term::Choice(..) | Term::TwosComplement(..) | Term::Saturate(..) => W::wider(term),
        Term::HeadersEqual(pairs) => Expr::HeadersEqual(pairs.clone()),
        Term::VariablesEqual(of) => Expr::VariablesEqual(of.clone()),
        Term::Any(slots) => Expr::Any(slots.clone()),
        Term::Binary(op, a, b) => match op {
            Binary::Add => Expr::Add(boxed(a), boxed(b)),
            Binary::Sub => Expr::Sub(boxed(a), boxed(b)),
            Binary::Mul => Expr::Mul(boxed(a), boxed(b)),
            Binary::BitOr => Expr::BitOr(boxed(a), boxed(b)),
            Binary::BitXor => Expr::BitXor(boxed(a), boxed(b)),
            Binary::BitAnd => match (a.known(), b.known()) {
                (None, Some(m)) => masked(a, m),
                (Some(m), None) => masked(b, m),
                _ => Expr::BitAnd(boxed(a), boxed(b)),
            },
            Binary::Shl => match b.known_u32() {
                Some(by) if by < W::BITS => Expr::ShlBy(boxed(a), by as u8),
                Some(_) => Expr::Constant(W::default()),
                None if b.range().bits <= 64 && !b.range().signed => Expr::Shl(boxed(a), Box::new(lower(b))),
                None => Expr::Big(Box::new(term.clone())),
            },
            Binary::Shr if !fits(a.range()) => W::wider(term),
            Binary::Shr => match b.known_u32() {
                Some(by) if by < W::BITS && !a.range().signed => Expr::ShrBy(boxed(a), by as u8),
                _ if b.range().bits <= 64 && !b.range().signed => {
                    Expr::Shr(boxed(a), Box::new(lower(b)), a.range().signed)
                }
                _ => Expr::Big(Box::new(term.clone())),
            },
            Binary::And if exact::<W>(a) && exact::<W>(b) => Expr::And(boxed(a), boxed(b)),
            Binary::Or if exact::<W>(a) && exact::<W>(b) => Expr::Or(boxed(a), boxed(b)),
            Binary::And | Binary::Or => W::wider(term),
            Binary::Div | Binary::Mod | Binary::Eq | Binary::Ne | Binary::Lt | Binary::Le => compared(term, *op, a, b),
        },
    }
}

/// Whether an operand's values fit, so that it is exact.
fn exact<W: Word>(term: &Term) -> bool {
    term.range().bits <= W::BITS
}

fn masked<W: Lowering>(term: &Term, mask: &BigInt) -> Expr<W> {
    Expr::BitAndWith(Box::new(lower(term)), from_big(mask))
}

/// Operators that need both operands exact and with the same signedness.
fn compared<W: Lowering>(term: &Term, op: Binary, a: &Term, b: &Term) -> Expr<W> {
    let (x, y) = (a.range(), b.range());
    let signed = x.signed || y.signed;
    let bits = |r: Range| if signed { r.signed_bits() } else { r.bits };
    if bits(x).max(bits(y)) > W::BITS {
        return W::wider(term);
    }
    let (left, right) = (lower::<W>(a), lower::<W>(b));
    match (op, left, right) {
        (Binary::Eq, Expr::Field(slot), Expr::Constant(w)) | (Binary::Eq, Expr::Constant(w), Expr::Field(slot)) => {
            Expr::FieldIs(slot, w)
        }
        (Binary::Ne, Expr::Field(slot), Expr::Constant(w)) | (Binary::Ne, Expr::Constant(w), Expr::Field(slot)) => {
            Expr::FieldIsNot(slot, w)
        }
        (op, left, right) => {
            let (left, right) = (Box::new(left), Box::new(right));
            match op {
                Binary::Div => Expr::Div(left, right, signed),
                Binary::Mod => Expr::Mod(left, right, signed),
                Binary::Eq => Expr::Eq(left, right),
                Binary::Ne => Expr::Not(Box::new(Expr::Eq(left, right))),
                Binary::Lt => Expr::Less(left, right, signed),
                _ => Expr::Not(Box::new(Expr::Less(right, left, signed))),
            }
        }
    }
}

fn field<W: Lowering>(place: Place) -> Expr<W> {
    let n = words_of(place.width);
    let own = W::BITS / 64;
    if n > own {
        // Modulo the word: its low words.
        Expr::Field(place.slot + n - own)
    } else if n < own {
        W::narrower(&Term::Field(place), place.signed)
    } else if place.signed && place.width < W::BITS {
        Expr::Signed(place.slot, W::BITS - place.width)
    } else {
        Expr::Field(place.slot)
    }
}

fn argument<W: Lowering>(at: u32, width: u32) -> Expr<W> {
    let n = words_of(width);
    let own = W::BITS / 64;
    if n >= own && n > 0 {
        Expr::Argument(at + n - own)
    } else if width == 0 {
        Expr::Constant(W::default())
    } else {
        W::narrower(&Term::Argument(at, width), false)
    }
}

/// How one word size uses the other.
pub(crate) trait Lowering: Word {
    /// Computes in a wider word what does not fit this one.
    fn wider(term: &Term) -> Expr<Self>;
    /// Computes in the narrower word what fits it.
    fn narrower(term: &Term, signed: bool) -> Expr<Self>;
}

impl Lowering for u64 {
    fn wider(term: &Term) -> Expr<Self> {
        match lower::<u128>(term) {
            Expr::Big(term) => Expr::Big(term),
            wide => Expr::Cast(Box::new(wide), false),
        }
    }

    fn narrower(_: &Term, _: bool) -> Expr<Self> {
        // A field without bits.
        Expr::Constant(0)
    }
}

impl Lowering for u128 {
    fn wider(term: &Term) -> Expr<Self> {
        Expr::Big(Box::new(term.clone()))
    }

    fn narrower(term: &Term, signed: bool) -> Expr<Self> {
        Expr::Cast(Box::new(lower::<u64>(term)), signed)
    }
}

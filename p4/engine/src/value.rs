//! Values of any width: computed, written to where they go.

use crate::expr::{Context, Expr, Lowering as _, Registers, lower};
use crate::layout::Header;
use crate::program::{Dest, Op, Value};
use crate::term::{Range, Term, store};
use crate::wire::BitWriter;
use crate::word::{Word, mask64, top_bits, words_of};

/// Words of the widest value that is computed without allocating.
const QUICK_WORDS: usize = 2;

impl Value {
    /// Lowers a value of which `width` bits are wanted.
    pub(crate) fn new(term: &Term, width: u32) -> Self {
        match words_of(width) {
            0 | 1 => Self::Word(lower(term)),
            2 => Self::Wide(lower(term)),
            _ => Self::Big(Box::new(term.clone())),
        }
    }

    /// Its low 64 bits.
    #[inline]
    pub(crate) fn low(&self, c: &Context<'_>) -> u64 {
        match self {
            Self::Word(e) => e.eval(c),
            Self::Wide(e) => e.eval(c).low(),
            Self::Big(term) => <u64 as Word>::convert(u128::wider(term).eval(c), false),
        }
    }

    /// Computes `width` bits of it into words, most significant first.
    pub(crate) fn words(&self, width: u32, c: &Context<'_>, out: &mut [u64]) {
        match (self, out) {
            (Self::Word(e), [word]) => *word = e.eval(c) & mask64(width),
            (Self::Wide(e), [high, low]) => {
                let value = e.eval(c);
                (*high, *low) = ((value >> 64) as u64 & mask64(width - 64), value as u64);
            }
            (Self::Big(term), out) => store(out, 0, width, &term.eval(c)),
            // This cannot happen: a value is only used with the width for which it was lowered.
            (_, out) => out.fill(0),
        }
    }

    /// Appends `width` bits of it.
    pub(crate) fn write(&self, width: u32, c: &Context<'_>, out: &mut BitWriter<'_>) {
        let n = words_of(width) as usize;
        let mut quick = [0; QUICK_WORDS];
        match quick.get_mut(..n) {
            Some(words) => {
                self.words(width, c, words);
                out.write_words(words, width);
            }
            None => {
                let mut words = vec![0; n];
                self.words(width, c, &mut words);
                out.write_words(&words, width);
            }
        }
    }
}

impl Dest {
    /// Its bits.
    pub(crate) fn width(&self) -> u32 {
        match self {
            Self::Field(_, width) => *width,
            Self::Valid(_) => 1,
            Self::Picked(_, width) => *width,
        }
    }

    /// The slot that is meant now, where it is a field.
    fn slot(&self, c: &Context<'_>) -> Option<u32> {
        match self {
            Self::Field(slot, _) => Some(*slot),
            Self::Valid(_) => None,
            Self::Picked(at, _) => at.find(c),
        }
    }

    /// Assigns a number of up to 64 bits.
    #[inline]
    pub(crate) fn set(&self, headers: &[Header], words: &mut [u64], value: u64, c: Parts<'_>) {
        if let Self::Valid(header) = self {
            set_valid(headers, words, *header, value != 0);
            return;
        }
        let Some(slot) = self.slot(&c.context(words)) else {
            return;
        };
        let width = self.width();
        let n = words_of(width);
        if n == 0 {
            return;
        }
        let last = (slot + n - 1) as usize;
        words[slot as usize..last].fill(0);
        words[last] = if n == 1 { value & mask64(width) } else { value };
    }

    /// Assigns a value.
    pub(crate) fn assign(&self, headers: &[Header], words: &mut [u64], value: &Value, c: Parts<'_>) {
        let width = self.width();
        if width <= 64 {
            let value = value.low(&c.context(words));
            self.set(headers, words, value, c);
            return;
        }
        let Some(slot) = self.slot(&c.context(words)) else {
            return;
        };
        let n = words_of(width) as usize;
        let mut quick = [0; QUICK_WORDS];
        let to = slot as usize..slot as usize + n;
        if let Some(out) = quick.get_mut(..n) {
            value.words(width, &c.context(words), out);
            words[to].copy_from_slice(out);
        } else {
            let mut out = vec![0; n];
            value.words(width, &c.context(words), &mut out);
            words[to].copy_from_slice(&out);
        }
    }
}

/// The parts of a [`Context`] other than the arena.
#[derive(Clone, Copy)]
pub(crate) struct Parts<'a> {
    pub(crate) args: &'a [u64],
    pub(crate) registers: &'a dyn Registers,
}

impl<'a> Parts<'a> {
    #[inline(always)]
    pub(crate) fn context(self, words: &'a [u64]) -> Context<'a> {
        Context {
            words,
            args: self.args,
            registers: self.registers,
        }
    }
}

/// Makes a header valid or not; in a union the others then are not. One that becomes valid
/// starts with zeros, so that it never shows what was there before.
pub(crate) fn set_valid(headers: &[Header], words: &mut [u64], header: u32, valid: bool) {
    let Some(h) = headers.get(header as usize) else { return };
    let at = h.slot as usize;
    if !valid {
        words[at] = 0;
    } else if words[at] == 0 {
        words[at + 1..at + h.words as usize].fill(0);
        words[at] = 1;
    }
    if valid {
        h.rivals.iter().for_each(|slot| words[*slot as usize] = 0);
    }
}

/// Copies a header with its validity; a copy of an invalid one is invalid.
pub(crate) fn copy_header(headers: &[Header], words: &mut [u64], from: u32, to: u32) {
    let (Some(a), Some(b)) = (headers.get(from as usize), headers.get(to as usize)) else {
        return;
    };
    let at = a.slot as usize;
    if words[at] == 0 {
        words[b.slot as usize] = 0;
        return;
    }
    let count = a.words.min(b.words) as usize;
    words.copy_within(at..at + count, b.slot as usize);
    b.rivals.iter().for_each(|slot| words[*slot as usize] = 0);
}

/// The cheapest operation that assigns a term to a field.
pub(crate) fn assignment(slot: u32, width: u32, term: &Term) -> Vec<Op> {
    let mask = mask64(width);
    let n = words_of(width);
    if width == 0 {
        return Vec::new();
    }
    // Masks that the field's own width repeats.
    let term = uncut(term, width);
    let range = term.range();
    let same = |w: u32| words_of(w) == n && w <= width;
    match term {
        Term::Constant(c) => {
            let mut words = vec![0; n as usize];
            store(&mut words, 0, width, c);
            let each = words.iter().enumerate();
            each.map(|(i, value)| Op::Constant {
                slot: slot + i as u32,
                value: *value,
            })
            .collect()
        }
        Term::Field(p) if n == 1 && !p.signed && p.width > 0 => vec![Op::Copy {
            slot,
            from: p.slot + words_of(p.width) - 1,
            mask,
        }],
        Term::Field(p) if !p.signed && same(p.width) => vec![Op::CopyWords {
            slot,
            from: p.slot,
            count: n,
        }],
        Term::Argument(at, bits) if n == 1 && *bits > 0 => vec![Op::Argument {
            slot,
            at: at + words_of(*bits) - 1,
            mask,
        }],
        Term::Argument(at, bits) if same(*bits) => vec![Op::ArgumentWords {
            slot,
            at: *at,
            count: n,
        }],
        Term::Binary(super::term::Binary::Add, a, b) if n == 1 => match (&**a, &**b) {
            (Term::Field(p), Term::Constant(k)) | (Term::Constant(k), Term::Field(p))
                if words_of(p.width) == 1 && !p.signed =>
            {
                vec![Op::Add {
                    slot,
                    from: p.slot,
                    plus: match lower::<u64>(&Term::Constant(k.clone())) {
                        super::expr::Expr::Constant(plus) => plus,
                        _ => 0,
                    },
                    mask,
                }]
            }
            _ => vec![set(slot, mask, lower(term))],
        },
        _ if n == 1 => vec![set(slot, mask, lower(term))],
        _ if n == 2 && range == Range::unsigned(range.bits.min(64)) => vec![
            // Only the low word can be set; it may be computed from the high one.
            set(slot + 1, u64::MAX, lower(term)),
            Op::Constant { slot, value: 0 },
        ],
        _ if n == 2 => vec![Op::SetWide {
            slot,
            mask: mask64(top_bits(width)),
            value: Box::new(lower(term)),
        }],
        _ => vec![Op::Assign(Box::new((
            Dest::Field(slot, width),
            Value::Big(Box::new(term.clone())),
        )))],
    }
}

/// The cheapest operation that sets a word to an expression, cut.
fn set(slot: u32, mask: u64, value: Expr<u64>) -> Op {
    let general = |value| Op::Set {
        slot,
        mask,
        value: Box::new(value),
    };
    match &value {
        Expr::Constant(value) => Op::Constant {
            slot,
            value: value & mask,
        },
        Expr::Field(from) => Op::Copy {
            slot,
            from: *from,
            mask,
        },
        Expr::Argument(at) => Op::Argument { slot, at: *at, mask },
        Expr::ShrBy(a, by) => match **a {
            Expr::Field(from) => Op::Shift {
                slot,
                from,
                by: (*by).into(),
                mask,
            },
            _ => general(value),
        },
        Expr::BitAndWith(a, with) => match &**a {
            Expr::Field(from) => Op::Copy {
                slot,
                from: *from,
                mask: mask & with,
            },
            Expr::ShrBy(a, by) => match **a {
                Expr::Field(from) => Op::Shift {
                    slot,
                    from,
                    by: (*by).into(),
                    mask: mask & with,
                },
                _ => general(value),
            },
            _ => general(value),
        },
        Expr::BitOr(a, b) => match (&**a, &**b) {
            (Expr::Constant(with), Expr::Field(from)) | (Expr::Field(from), Expr::Constant(with)) => Op::Or {
                slot,
                from: *from,
                with: *with,
                mask,
            },
            (Expr::Constant(with), Expr::Argument(at)) | (Expr::Argument(at), Expr::Constant(with)) => Op::OrArgument {
                slot,
                at: *at,
                with: *with,
                mask,
            },
            _ => general(value),
        },
        _ => general(value),
    }
}

/// Without a mask of at least `width` low bits.
pub(crate) fn uncut(mut term: &Term, width: u32) -> &Term {
    while let Term::Binary(super::term::Binary::BitAnd, a, b) = term {
        let full = |t: &Term| {
            t.known().is_some_and(|m| {
                let n = m.magnitude();
                m.sign() == num_bigint::Sign::Plus && n.bits() >= u64::from(width) && n.count_ones() == n.bits()
            })
        };
        term = match (full(a), full(b)) {
            (_, true) => a,
            (true, _) => b,
            _ => return term,
        };
    }
    term
}

impl Dest {
    /// Assigns a number of more than 64 bits held in words, most significant first.
    pub(crate) fn set_words(&self, words: &mut [u64], value: &[u64], c: Parts<'_>) {
        let Some(slot) = self.slot(&c.context(words)) else {
            return;
        };
        let (slot, n) = (slot as usize, words_of(self.width()) as usize);
        for i in 0..n {
            let from = value.len().checked_sub(n - i);
            words[slot + i] = from.and_then(|at| value.get(at)).copied().unwrap_or(0);
        }
        if n > 0 {
            words[slot] &= mask64(top_bits(self.width()));
        }
    }
}

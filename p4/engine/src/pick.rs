//! Elements of header stacks that are chosen when a packet runs.
//!
//! Beyond the end of a stack, a read returns 0 (not valid) and a write is lost. P4_16 leaves the value undefined and
//! forbids any other effect ("Operations on header stacks"). BMv2 ends its process instead.

use crate::expr::{Context, Expr};

/// Which element is meant.
#[derive(Debug, Clone)]
pub(crate) enum Index {
    /// The last one that is valid: the slot that holds how many are.
    Last(u32),
    /// The one of that number.
    At(Expr<u64>),
}

/// A slot or a header: this one, or one of several by an index.
#[derive(Debug, Clone)]
pub(crate) enum Pick {
    One(u32),
    Of(Box<(Index, Box<[u32]>)>),
}

impl Pick {
    /// The one that is meant now; none beyond the stack.
    pub(crate) fn find(&self, c: &Context<'_>) -> Option<u32> {
        match self {
            Self::One(one) => Some(*one),
            Self::Of(of) => {
                let (index, all) = &**of;
                let at = match index {
                    Index::Last(next) => c.words.get(*next as usize)?.checked_sub(1)?,
                    Index::At(index) => index.eval(c),
                };
                all.get(usize::try_from(at).ok()?).copied()
            }
        }
    }

    /// Its words; none beyond the stack.
    pub(crate) fn words<'a>(&self, c: &Context<'a>, count: u32) -> Option<&'a [u64]> {
        let slot = self.find(c)? as usize;
        c.words.get(slot..slot + count as usize)
    }

    /// The same choice, with each element mapped; none if one of them maps to none.
    pub(crate) fn map(&self, of: impl Fn(u32) -> Option<u32>) -> Option<Self> {
        Some(match self {
            Self::One(one) => Self::One(of(*one)?),
            Self::Of(choice) => {
                let all = choice.1.iter().map(|one| of(*one)).collect::<Option<_>>()?;
                Self::Of(Box::new((choice.0.clone(), all)))
            }
        })
    }

    /// One of the possible elements; all have the same type.
    pub(crate) fn sample(&self) -> Option<u32> {
        match self {
            Self::One(one) => Some(*one),
            Self::Of(choice) => choice.1.first().copied(),
        }
    }
}

//! The contributions that ask for one entity.
//!
//! Most entities have one; some (a route of a VRF, a host's tunnel) have as many as there are attachments. Adding and
//! removing one takes constant time in both cases.

use rustc_hash::FxHashSet;

use crate::ident::Source;

/// A set of contributions that is never empty.
#[derive(Debug, Clone)]
pub(super) enum Askers {
    /// The only one.
    One(Source),
    /// Two or more. Boxed, because most entities have only one.
    Many(Box<FxHashSet<Source>>),
}

impl Askers {
    /// Adds a contribution; one that is in the set already counts once.
    pub(super) fn insert(&mut self, source: Source) {
        match self {
            Self::One(first) if *first == source => {}
            Self::One(first) => *self = Self::Many(Box::new([*first, source].into_iter().collect())),
            Self::Many(all) => {
                all.insert(source);
            }
        }
    }

    /// Removes a contribution. True if it was the last one.
    pub(super) fn remove(&mut self, source: Source) -> bool {
        match self {
            Self::One(first) => *first == source,
            Self::Many(all) => {
                all.remove(&source);
                if let (1, Some(last)) = (all.len(), all.iter().next().copied()) {
                    *self = Self::One(last);
                }
                false
            }
        }
    }

    /// The contributions, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = Source> {
        let (one, many) = match self {
            Self::One(source) => (Some(*source), None),
            Self::Many(all) => (None, Some(all)),
        };
        one.into_iter()
            .chain(many.into_iter().flat_map(|all| all.iter()).copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_one_to_leave_is_noticed_whatever_the_order() {
        let source = |i: usize| Source::Switch(i.into());
        let mut askers = Askers::One(source(1));
        [2, 1, 3, 3].into_iter().for_each(|i| askers.insert(source(i)));
        assert_eq!(
            askers.iter().collect::<FxHashSet<_>>(),
            [1, 2, 3].map(source).into_iter().collect()
        );
        assert!(!askers.remove(source(9)) && !askers.remove(source(1)) && !askers.remove(source(3)));
        assert!(!askers.remove(source(9)), "somebody who never asked is not the last");
        assert!(askers.remove(source(2)));
    }
}

//! Objects by small handles that are reused.

use std::marker::PhantomData;

/// A table of objects.
#[derive(Debug)]
pub(super) struct Slab<I, T> {
    slots: Vec<Option<T>>,
    free: Vec<usize>,
    index: PhantomData<I>,
}

impl<I, T> Default for Slab<I, T> {
    fn default() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            index: PhantomData,
        }
    }
}

impl<I: From<usize> + Into<usize> + Copy, T> Slab<I, T> {
    /// Adds an object.
    pub(super) fn insert(&mut self, object: T) -> I {
        let at = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        if let Some(slot) = self.slots.get_mut(at) {
            *slot = Some(object);
        }
        at.into()
    }

    /// Takes an object out.
    pub(super) fn remove(&mut self, id: I) -> Option<T> {
        let object = self.slots.get_mut(id.into())?.take()?;
        self.free.push(id.into());
        Some(object)
    }

    /// The object, if it (still) exists.
    pub(super) fn get(&self, id: I) -> Option<&T> {
        self.slots.get(id.into())?.as_ref()
    }

    /// The object, mutable.
    pub(super) fn get_mut(&mut self, id: I) -> Option<&mut T> {
        self.slots.get_mut(id.into())?.as_mut()
    }

    /// Every object.
    pub(super) fn values(&self) -> impl Iterator<Item = &T> {
        self.slots.iter().flatten()
    }

    /// How many objects there are.
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }
}

//! Records of entries, by slot, in one flat array.
//!
//! A record is `stride` words: a header word that says what the entry leads to, the arguments of its action, then
//! whatever the table's structure keeps with an entry (`extra` words: its key, its priority). All records of a table
//! are of one size, that of the action with most arguments, so that a slot is an index and nothing else.

/// What an entry leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leads {
    /// Nothing: the slot is not in use.
    Vacant,
    /// The action of this index, with the record's arguments.
    Action(u32),
    /// The member in this slot of the table's profile.
    Member(u32),
    /// The group in this slot of the table's selector.
    Group(u32),
}

impl Leads {
    fn pack(self) -> u64 {
        let (tag, value) = match self {
            Self::Vacant => (0, 0),
            Self::Action(n) => (1, n),
            Self::Member(n) => (2, n),
            Self::Group(n) => (3, n),
        };
        u64::from(value) << 32 | tag
    }

    #[inline]
    fn unpack(word: u64) -> Self {
        let value = (word >> 32) as u32;
        match word & 3 {
            1 => Self::Action(value),
            2 => Self::Member(value),
            3 => Self::Group(value),
            _ => Self::Vacant,
        }
    }
}

/// One record, as packets read it.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a>(&'a [u64]);

impl<'a> Record<'a> {
    /// What it leads to.
    #[inline]
    pub fn leads(&self) -> Leads {
        self.0.first().map_or(Leads::Vacant, |w| Leads::unpack(*w))
    }

    /// The action's arguments: each takes `ceil(width / 64)` words, most significant first. There may be more words
    /// than the action has arguments for; they mean nothing.
    #[inline]
    pub fn args(&self) -> &'a [u64] {
        self.0.get(1..).unwrap_or_default()
    }
}

/// The records of one table.
#[derive(Debug, Clone)]
pub struct Records {
    words: Vec<u64>,
    stride: usize,
    args: usize,
}

impl Records {
    /// Records with room for `args` words of arguments and `extra` words besides.
    pub fn new(args: usize, extra: usize) -> Self {
        Self {
            words: Vec::new(),
            stride: 1 + args + extra,
            args,
        }
    }

    /// Words of arguments that a record has room for.
    pub fn args(&self) -> usize {
        self.args
    }

    /// Bytes it takes.
    pub fn bytes(&self) -> usize {
        self.words.capacity() * size_of::<u64>()
    }

    /// The record in a slot; vacant if there never was one.
    #[inline]
    pub fn get(&self, slot: u32) -> Record<'_> {
        let start = slot as usize * self.stride;
        Record(self.words.get(start..start + 1 + self.args).unwrap_or_default())
    }

    /// The words that the table's structure keeps in a slot; none if there never was a record.
    #[inline]
    pub fn extra(&self, slot: u32) -> &[u64] {
        let start = slot as usize * self.stride;
        self.words
            .get(start + 1 + self.args..start + self.stride)
            .unwrap_or_default()
    }

    /// The same, to change.
    pub fn extra_mut(&mut self, slot: u32) -> &mut [u64] {
        let start = slot as usize * self.stride;
        self.words
            .get_mut(start + 1 + self.args..start + self.stride)
            .unwrap_or_default()
    }

    /// Sets what a slot leads to, and its arguments.
    pub fn set(&mut self, slot: u32, leads: Leads, args: &[u64]) {
        let start = slot as usize * self.stride;
        if self.words.len() < start + self.stride {
            self.words.resize(start + self.stride, 0);
        }
        let Some(record) = self.words.get_mut(start..start + 1 + self.args) else {
            return;
        };
        let mut args = args.iter();
        for (i, word) in record.iter_mut().enumerate() {
            *word = match i {
                0 => leads.pack(),
                _ => args.next().copied().unwrap_or(0),
            };
        }
    }

    /// Empties a slot.
    pub fn clear(&mut self, slot: u32) {
        let start = slot as usize * self.stride;
        if let Some(header) = self.words.get_mut(start) {
            *header = Leads::Vacant.pack();
        }
    }
}
